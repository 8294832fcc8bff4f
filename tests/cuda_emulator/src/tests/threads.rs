//! Instructions that several threads execute together, and control flow.

use super::{kernel, lanes, words};

fn expect(body: &str, f: impl Fn(u64) -> u64) {
    let expected: Vec<u64> = (0..32).map(f).collect();
    assert_eq!(lanes(32, body), expected, "{body}");
}

#[test]
fn shuffles() {
    for (form, f) in [
        ("bfly.b32 %r0, %r8, 5, 31", (|l| l ^ 5) as fn(u64) -> u64),
        ("up.b32 %r0, %r8, 3, 0", |l| if l >= 3 { l - 3 } else { l }),
        ("down.b32 %r0, %r8, 3, 31", |l| if l + 3 < 32 { l + 3 } else { l }),
        ("idx.b32 %r0, %r8, 9, 31", |_| 9),
        // Segments of eight lanes.
        ("idx.b32 %r0, %r8, 2, 0x181f", |l| l / 8 * 8 + 2),
        ("down.b32 %r0, %r8, 3, 0x181f", |l| if l % 8 + 3 < 8 { l + 3 } else { l }),
        ("up.b32 %r0, %r8, 1, 0x1800", |l| if l % 8 > 0 { l - 1 } else { l }),
    ] {
        expect(&format!("shfl.sync.{form}, -1; cvt.u64.u32 %d0, %r0;"), f);
    }
    expect("shfl.sync.up.b32 %r0|%p1, %r8, 3, 0, -1; selp.b64 %d0, 1, 0, %p1;", |l| u64::from(l >= 3));
    // Two halves with separate masks.
    let halves = "setp.lt.u32 %p1, %r8, 16; selp.u32 %r1, 0xffff, 0xffff0000, %p1;
        shfl.sync.idx.b32 %r0, %r8, %r8, 31, %r1; cvt.u64.u32 %d0, %r0;";
    expect(halves, |l| l);
}

#[test]
fn votes() {
    const ODD: &str = "and.b32 %r1, %r8, 1; setp.ne.u32 %p1, %r1, 0;";
    let after = "selp.b64 %d0, 1, 0, %p2;";
    expect(&format!("{ODD} vote.sync.ballot.b32 %r0, %p1, -1; cvt.u64.u32 %d0, %r0;"), |_| 0xaaaa_aaaa);
    expect(&format!("{ODD} vote.sync.ballot.b32 %r0, !%p1, -1; cvt.u64.u32 %d0, %r0;"), |_| 0x5555_5555);
    expect(&format!("{ODD} vote.sync.any.pred %p2, %p1, -1; {after}"), |_| 1);
    expect(&format!("{ODD} vote.sync.all.pred %p2, %p1, -1; {after}"), |_| 0);
    expect(&format!("{ODD} vote.sync.uni.pred %p2, %p1, -1; {after}"), |_| 0);
    expect("setp.lt.u32 %p1, %r8, 99; vote.sync.all.pred %p2, %p1, -1; selp.b64 %d0, 1, 0, %p2;", |_| 1);
}

#[test]
fn equal_values_and_reductions() {
    expect("and.b32 %r1, %r8, 3; match.any.sync.b32 %r0, %r1, -1; cvt.u64.u32 %d0, %r0;", |l| 0x1111_1111 << (l % 4));
    expect("mov.u64 %d1, 7; match.all.sync.b64 %r0|%p1, %d1, -1; cvt.u64.u32 %d0, %r0;", |_| 0xffff_ffff);
    expect("match.all.sync.b32 %r0|%p1, %r8, -1; selp.b64 %d0, 1, 0, %p1;", |_| 0);
    expect("redux.sync.add.u32 %r0, %r8, -1; cvt.u64.u32 %d0, %r0;", |_| 496);
    expect("redux.sync.max.s32 %r0, %r8, -1; cvt.u64.u32 %d0, %r0;", |_| 31);
    expect("xor.b32 %r1, %r8, -1; redux.sync.max.u32 %r0, %r1, -1; cvt.u64.u32 %d0, %r0;", |_| 0xffff_ffff);
    expect("redux.sync.add.u32 %r0, 3, -1; cvt.u64.u32 %d0, %r0;", |_| 96);
    expect("redux.sync.or.b32 %r0, %r8, -1; cvt.u64.u32 %d0, %r0;", |_| 31);
}

#[test]
fn masks_of_lanes() {
    for (name, f) in [
        ("%laneid", (|l| l) as fn(u64) -> u64),
        ("%lanemask_eq", |l| 1 << l),
        ("%lanemask_lt", |l| (1 << l) - 1),
        ("%lanemask_le", |l| (2 << l) - 1),
        ("%lanemask_gt", |l| 0xffff_ffff - ((2 << l) - 1)),
        ("%lanemask_ge", |l| 0xffff_ffff - ((1 << l) - 1)),
    ] {
        expect(&format!("mov.u32 %r0, {name}; cvt.u64.u32 %d0, %r0;"), f);
    }
    let body = "mov.u64 %d0, 0; setp.lt.u32 %p1, %r8, 5; @!%p1 bra OUT;
        activemask.b32 %r0; cvt.u64.u32 %d0, %r0;\nOUT:";
    expect(body, |l| if l < 5 { 31 } else { 0 });
}

#[test]
fn lanes_diverge_and_meet_again() {
    // Each lane loops as often as its number; all of them take part in the ballot.
    let body = "mov.u32 %r1, 0; mov.u32 %r2, 0;
        LOOP: setp.ge.u32 %p1, %r1, %r8; @%p1 bra DONE;
        add.u32 %r2, %r2, %r1; add.u32 %r1, %r1, 1; bra.uni LOOP;
        DONE: setp.eq.u32 %p2, %r8, %r1; vote.sync.ballot.b32 %r3, %p2, -1;
        popc.b32 %r3, %r3; add.u32 %r2, %r2, %r3; cvt.u64.u32 %d0, %r2;";
    expect(body, |l| l * l.saturating_sub(1) / 2 + 32);
}

#[test]
fn jumps_through_tables() {
    let body = "and.b32 %r1, %r8, 3; T: .branchtargets A, B, C, B;
        brx.idx %r1, T;
        A: mov.u64 %d0, 10; bra E;
        B: mov.u64 %d0, 20; bra E;
        C: mov.u64 %d0, 30;
        E:";
    expect(body, |l| [10, 20, 30, 20][l as usize % 4]);
}

#[test]
fn calls_by_some_of_the_lanes() {
    let text = ".func (.param .b64 back) twice(.param .b64 x) {
            .reg .b64 %d<3>; .reg .pred %p<2>;
            ld.param.u64 %d1, [x]; setp.gt.u64 %p1, %d1, 9; mov.u64 %d2, 99; @%p1 bra STORE;
            add.u64 %d2, %d1, %d1;
            STORE: st.param.b64 [back], %d2; ret;
        }\n"
    .to_owned()
        + &kernel(
            "mov.u32 %r8, %tid.x; cvt.u64.u32 %d1, %r8; mov.u64 %d0, 0; setp.lt.u32 %p1, %r8, 20;
            { .param .b64 arg; .param .b64 result; st.param.b64 [arg], %d1; @%p1 call (result), twice, (arg);
              @%p1 ld.param.b64 %d0, [result]; }
            shl.b64 %d8, %d1, 3; add.u64 %d8, %d8, %out; st.global.u64 [%d8], %d0;",
        );
    let expected: Vec<u64> = (0..32).map(|l| if l < 20 { if l > 9 { 99 } else { 2 * l } } else { 0 }).collect();
    assert_eq!(words(&text, 32, 32).expect("no fault"), expected);
}

#[test]
fn barriers_of_some_of_the_threads() {
    // Warps 0 and 1 meet at barrier 1 without warp 2; all meet at barrier 0.
    let body = ".shared .align 4 .b8 cells[8]; mov.u32 %r8, %tid.x;
        setp.eq.u32 %p1, %r8, 0; @%p1 st.shared.u32 [cells], 5;
        setp.ge.u32 %p2, %r8, 64; @%p2 bra ALL;
        barrier.sync 1, 64; ld.shared.u32 %r1, [cells];
        ALL: barrier.sync.aligned 0; ld.shared.u32 %r1, [cells];
        setp.ge.u32 %p3, %r8, 7;
        barrier.red.popc.u32 %r2, 0, %p3; bar.red.and.pred %p4, 0, %p3; bar.red.or.pred %p5, 0, !%p3;
        selp.u32 %r3, 1000, 0, %p4; selp.u32 %r4, 2000, 0, %p5;
        add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; add.u32 %r1, %r1, %r4;
        cvt.u64.u32 %d0, %r1; mul.wide.u32 %d8, %r8, 8; add.u64 %d8, %d8, %out; st.global.u64 [%d8], %d0;";
    assert_eq!(words(&kernel(body), 96, 96).expect("no fault"), [5 + 89 + 2000; 96]);
}

#[test]
fn threads_that_never_arrive_are_faults() {
    for (body, word) in [
        (
            "mov.u32 %r8, %tid.x; setp.lt.u32 %p1, %r8, 5; @%p1 bra A; shfl.sync.idx.b32 %r0, %r8, 0, 31, -1; ret; A: vote.sync.ballot.b32 %r0, %p1, -1;",
            "never arrive",
        ),
        ("vote.sync.ballot.b32 %r0, 1, 2;", "member mask"),
        ("bar.sync 0, 64;", "waits for threads"),
        ("trap;", "trap"),
    ] {
        let fault = words(&kernel(body), 32, 1).expect_err("there is a fault");
        assert!(fault.what.contains(word), "{}", fault.what);
    }
}
