//! Loads, stores, atomics and state spaces.

use super::{check, kernel, lanes, words};
use crate::machine::Fault;

#[test]
fn every_width_is_loaded_and_stored() {
    check(&[
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.u8 %r0, [%out]", 0x88),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.s8 %r0, [%out+1]", 0xffff_ff87),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.u16 %h0, [%out+2]", 0x8586),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.s16 %r0, [%out+6]", 0xffff_8182),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.b32 %r0, [%out+4]", 0x8182_8384),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.s32 %d0, [%out+4]", 0xffff_ffff_8182_8384),
        ("st.global.u64 [%out], 0x8182838485868788; ld.global.u32 %d0, [%out+4]", 0x8182_8384),
        ("st.global.u64 [%out], 0; st.global.u8 [%out+1], 0x1ff; ld.u64 %d0, [%out]", 0xff00),
        ("st.global.u64 [%out], 0; st.global.u16 [%out+2], 0x12345; ld.u64 %d0, [%out]", 0x2345_0000),
        ("st.global.v2.u32 [%out], {1, 2}; ld.global.u64 %d0, [%out]", 0x2_0000_0001),
        ("st.global.u64 [%out], 0x300000004; ld.global.v2.u32 {%r1, %r0}, [%out]", 3),
        ("st.global.v4.u32 [%out], {5, 6, 7, 8}; ld.global.u64 %d0, [%out+8]", 0x8_0000_0007),
        (
            ".shared .align 16 .b8 copied[16]; st.global.u64 [%out+8], 9; cp.async.cg.shared.global [copied], [%out], 16;
            cp.async.wait_all; ld.shared.u64 %d0, [copied+8]",
            9,
        ),
        ("st.global.u64 [%out], 0x300000004; ld.global.nc.v2.u32 {%r0, _}, [%out]", 4),
        ("st.volatile.global.u32 [%out], 9; ld.volatile.global.u32 %r0, [%out]", 9),
        ("st.release.gpu.global.u32 [%out], 9; ld.acquire.gpu.global.u32 %r0, [%out]", 9),
        ("st.relaxed.sys.u32 [%out], 8; fence.acq_rel.gpu; membar.gl; ld.global.ca.u32 %r0, [%out]", 8),
        ("prefetch.global.L2 [%out]; mov.u32 %r0, 1", 1),
        ("st.global.u32 [%out], 9; ld.global.nc.L1::evict_first.u32 %r0, [%out]", 9),
        ("st.global.L1::no_allocate.u32 [%out], 9; ld.global.L1::evict_last.L2::128B.u32 %r0, [%out]", 9),
        ("fence.acq_rel.cluster; griddepcontrol.wait; griddepcontrol.launch_dependents; mov.u32 %r0, 1", 1),
    ]);
}

#[test]
fn atomics_return_the_old_value() {
    const CASES: [(&str, &str, u64, u64, u64); 18] = [
        ("add.u32", "3", 5, 5, 8),
        ("add.s32", "-3", 5, 5, 2),
        ("add.u64", "3", 5, 5, 8),
        ("add.f32", "0f3F800000", 0x3f80_0000, 0x3f80_0000, 0x4000_0000),
        ("add.f64", "0d3FF0000000000000", 0, 0, 0x3ff0_0000_0000_0000),
        ("min.s32", "-1", 5, 5, 0xffff_ffff),
        ("min.u32", "-1", 5, 5, 5),
        ("max.u32", "-1", 5, 5, 0xffff_ffff),
        ("max.s64", "-1", 5, 5, 5),
        ("and.b32", "6", 12, 12, 4),
        ("or.b32", "6", 12, 12, 14),
        ("xor.b64", "6", 12, 12, 10),
        ("exch.b32", "6", 12, 12, 6),
        ("cas.b32", "12, 7", 12, 12, 7),
        ("cas.b64", "11, 7", 12, 12, 12),
        ("inc.u32", "4", 4, 4, 0),
        ("inc.u32", "4", 3, 3, 4),
        ("dec.u32", "4", 0, 0, 4),
    ];
    for (form, operand, start, old, new) in CASES {
        let (result, other) = if form.ends_with("64") { ("%d0", "%d1") } else { ("%r0", "%r1") };
        let before = format!("st.global.u64 [%out], {start}");
        let gives = format!("{before}; atom.global.{form} {result}, [%out], {operand}");
        let leaves = format!("{before}; atom.{form} {other}, [%out], {operand}; ld.global.u64 %d0, [%out]");
        check(&[(&gives, old), (&leaves, new)]);
        if !form.starts_with("cas") && !form.starts_with("exch") {
            let reduces = format!("{before}; red.global.{form} [%out], {operand}; ld.global.u64 %d0, [%out]");
            check(&[(&reduces, new)]);
        }
    }
}

#[test]
fn shared_memory_has_its_own_addresses() {
    let body = ".shared .align 8 .b8 cells[64];
        mov.u64 %d1, cells; cvta.shared.u64 %d2, %d1;
        mov.u32 %r1, cells;
        st.shared.u32 [%r1+4], 21; st.shared.u32 [cells], 1;
        ld.u64 %d0, [%d2];
        cvta.to.shared.u64 %d3, %d2; ld.shared.u32 %r2, [%d3+4];
        atom.shared.add.u32 %r3, [cells], %r2;
        ld.shared.u32 %r4, [cells];
        isspacep.shared %p1, %d2; selp.b64 %d4, 1000, 0, %p1;
        isspacep.global %p1, %out; selp.b64 %d5, 5000, 0, %p1;
        cvt.u64.u32 %d6, %r4; add.u64 %d0, %d0, %d6; add.u64 %d0, %d0, %d4; add.u64 %d0, %d0, %d5;";
    assert_eq!(lanes(1, body), [0x15_0000_0001 + 22 + 6000]);
}

#[test]
fn a_block_without_clusters_is_a_cluster() {
    const CELLS: &str = ".shared .align 8 .b8 cells[16]; st.shared.u64 [cells], 0x700000008; mov.u32 %r1, cells;";
    for (text, expected) in [
        ("mapa.shared::cluster.u32 %r2, %r1, 0; ld.shared::cluster.u32 %r0, [%r2+4];", 7),
        ("mapa.shared::cluster.u32 %r2, cells, 0; st.shared::cluster.u32 [%r2], 3; ld.shared.u32 %r0, [cells];", 3),
        ("ld.shared::cluster.u32 %r0, [%r1];", 8),
        ("mov.u64 %d1, cells; cvta.shared.u64 %d1, %d1; mapa.u64 %d2, %d1, 0; ld.u32 %r0, [%d2+4];", 7),
        ("mov.u64 %d1, cells; mapa.shared::cluster.u64 %d2, %d1, 0; ld.shared::cluster.u32 %r0, [%d2+4];", 7),
        ("mapa.shared::cluster.u32 %r2, %r1, 0; atom.shared::cluster.add.u32 %r0, [%r2], 1;", 8),
        ("mapa.shared::cluster.u32 %r2, %r1, 3; getctarank.shared::cluster.u32 %r0, %r2;", 3),
        ("getctarank.shared::cluster.u32 %r0, %r1;", 0),
        ("mov.u64 %d1, cells; cvta.shared.u64 %d1, %d1; mapa.u64 %d2, %d1, 5; getctarank.u64 %r0, %d2;", 5),
        ("mov.u32 %r0, %cluster_nctarank;", 1),
        ("mov.u32 %r0, %nclusterid.x;", 1),
        ("mov.u32 %r0, %clusterid.x;", 0),
        (
            "mov.u64 %d1, cells; cvta.shared.u64 %d1, %d1; mapa.u64 %d2, %d1, 0; isspacep.shared %p1, %d1;
             isspacep.shared::cta %p2, %d2; isspacep.shared::cluster %p3, %d2; selp.u32 %r2, 1, 0, %p1;
             selp.u32 %r3, 2, 0, %p2; selp.u32 %r4, 4, 0, %p3; add.u32 %r0, %r2, %r3; add.u32 %r0, %r0, %r4;",
            5,
        ),
        (
            "barrier.cluster.arrive; barrier.cluster.wait; barrier.cluster.arrive.relaxed; barrier.cluster.wait.acquire; mov.u32 %r0, 1;",
            1,
        ),
        ("barrier.cluster.arrive.release.aligned; mov.u32 %r0, 6; barrier.cluster.wait.acquire.aligned;", 6),
    ] {
        assert_eq!(lanes(1, &format!("{CELLS} {text} cvt.u64.u32 %d0, %r0;")), [expected], "{text}");
    }
}

#[test]
fn copies_arrive_when_they_are_waited_for() {
    const CELLS: &str = ".shared .align 16 .b8 cells[32]; st.shared.u64 [cells], 1; st.shared.u64 [cells+16], 2;
        st.global.u64 [%out], 77; fence.acq_rel.cta;";
    for (text, expected) in [
        ("cp.async.ca.shared.global [cells], [%out], 8;", [1, 2]),
        ("cp.async.ca.shared.global [cells], [%out], 8; cp.async.wait_all;", [77, 2]),
        ("cp.async.ca.shared.global [cells], [%out], 4; cp.async.commit_group; cp.async.wait_group 0;", [77, 2]),
        ("cp.async.ca.shared.global [cells], [%out], 4; cp.async.commit_group; cp.async.wait_group 1;", [1, 2]),
        ("cp.async.ca.shared.global [cells], [%out], 8; cp.async.wait_group 0;", [1, 2]),
        (
            "cp.async.ca.shared.global [cells], [%out], 8; cp.async.commit_group;
             cp.async.cg.shared.global.L2::128B [cells+16], [%out], 8; cp.async.commit_group; cp.async.wait_group 1;",
            [77, 2],
        ),
    ] {
        let words = format!("{CELLS} {text} ld.shared.u64 %d1, [cells]; ld.shared.u64 %d2, [cells+16];");
        let body = format!("{words} shl.b64 %d2, %d2, 8; add.u64 %d0, %d1, %d2;");
        assert_eq!(lanes(1, &body), [expected[0] + (expected[1] << 8)], "{text}");
    }
}

#[test]
fn mbarriers_count_arrivals_and_bytes() {
    // One phase after another; a word of 8 has a bit for each query that was answered with yes.
    const CELLS: &str =
        ".shared .align 16 .b8 cells[32]; .shared .align 8 .b8 counter[8]; .reg .pred p; mov.u32 %r1, counter;
        mov.u32 %r2, cells; mov.u32 %r0, 0;";
    const OLD: &str =
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%r1], 1; selp.u32 %r3, 1, 0, p; shl.b32 %r0, %r0, 1;
        or.b32 %r0, %r0, %r3;";
    const NEW: &str = "mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 p, [%r1], 0; selp.u32 %r3, 1, 0, p;
        shl.b32 %r0, %r0, 1; or.b32 %r0, %r0, %r3;";
    const ONE: &str = "mbarrier.init.shared::cta.b64 [%r1], 1; fence.mbarrier_init.release.cluster;";
    const TWO: &str = "mbarrier.init.shared.b64 [%r1], 2;";
    const EXPECT: &str = "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 4;";
    const ARRIVE: &str = "mbarrier.arrive.shared::cta.b64 %d1, [%r1];";
    const ANNOUNCE: &str = "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 4;";
    const POST: &str = "st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%r2], 7, [%r1];";
    const STATE: &str = "mbarrier.try_wait.shared::cta.b64 p, [%r1], %d1; selp.u32 %r3, 1, 0, p; shl.b32 %r0, %r0, 1;
        or.b32 %r0, %r0, %r3;";
    for (parts, expected) in [
        // The phase before the first one is over, and the first one is not.
        (&[ONE, OLD, NEW][..], 0b10),
        (&[ONE, ARRIVE, OLD, NEW, STATE], 0b011),
        (&[TWO, ARRIVE, OLD, NEW, STATE], 0b100),
        (&[TWO, ARRIVE, ARRIVE, OLD, NEW, STATE], 0b011),
        (&[TWO, "mbarrier.arrive.shared::cta.b64 %d1, [%r1], 2;", OLD, NEW, STATE], 0b011),
        // After the second phase the parities are as in the beginning.
        (&[ONE, ARRIVE, "mbarrier.arrive.b64 _, [counter];", OLD, NEW, STATE], 0b101),
        // Bytes, before and after their announcement.
        (&[ONE, ANNOUNCE, OLD, NEW], 0b10),
        (&[ONE, EXPECT, ARRIVE, NEW, STATE], 0b00),
        (&[ONE, EXPECT, POST, NEW, ARRIVE, NEW], 0b01),
        (&[ONE, POST, NEW, ANNOUNCE, NEW], 0b01),
        (&[ONE, POST, ARRIVE, NEW, EXPECT, NEW], 0b01),
        (&[ONE, ANNOUNCE, POST, NEW, "ld.shared.u32 %r0, [cells];"], 7),
        (
            &[
                "mbarrier.init.shared.b64 [%r1], 1;",
                "mbarrier.arrive.expect_tx.release.cta.shared.b64 %d1, [%r1], 24;",
                "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%r2], {1, 2, 3, 4}, [%r1];",
                NEW,
                "st.async.shared::cluster.mbarrier::complete_tx::bytes.u64 [%r2+16], 0x500000006, [%r1];",
                STATE,
                "ld.shared.u32 %r3, [cells+12]; mad.lo.u32 %r0, %r0, 10, %r3; ld.shared.u32 %r3, [cells+20];",
                "mad.lo.u32 %r0, %r0, 10, %r3;",
            ],
            145,
        ),
        // One after another at the same address.
        (&[ONE, ARRIVE, "mbarrier.inval.shared::cta.b64 [%r1];", ONE, NEW, ARRIVE, NEW], 0b01),
    ] {
        let body = format!("{CELLS} {} cvt.u64.u32 %d0, %r0;", parts.join(" "));
        assert_eq!(lanes(1, &body), [expected], "{}", parts.join(" "));
    }
}

#[test]
fn local_memory_belongs_to_a_thread() {
    let body = ".local .align 8 .b8 depot[16];
        mov.u64 %d1, depot; cvta.local.u64 %d1, %d1;
        cvt.u64.u32 %d2, %r8; st.u64 [%d1], %d2; bar.warp.sync -1; ld.local.u64 %d0, [depot];";
    assert_eq!(lanes(32, body), (0..32).collect::<Vec<_>>());
}

#[test]
fn carries_belong_to_a_thread() {
    let body = "setp.lt.u32 %p1, %r8, 16; selp.u32 %r1, -1, 0, %p1;
        add.cc.u32 %r2, %r1, 1; addc.u32 %r3, 0, 0; cvt.u64.u32 %d0, %r3;";
    let expected: Vec<u64> = (0..32).map(|lane| u64::from(lane < 16)).collect();
    assert_eq!(lanes(32, body), expected);
}

fn fault(body: &str) -> Fault {
    words(&kernel(body), 32, 4).expect_err("there is a fault")
}

#[test]
fn bad_addresses_are_faults() {
    use crate::machine::Cause::{IllegalAddress, MisalignedAddress};
    for (body, cause) in [
        ("ld.global.u32 %r0, [%out+32];", IllegalAddress),
        ("ld.global.u32 %r0, [%out+-4];", IllegalAddress),
        ("ld.global.u64 %d0, [%out+4];", MisalignedAddress),
        ("ld.global.v4.f32 {%r0,%r1,%r2,%r3}, [%out+8];", MisalignedAddress),
        ("ld.global.u32 %r0, [0];", IllegalAddress),
        ("ld.shared.u32 %r0, [0];", IllegalAddress),
        ("mov.u64 %d1, 1; ld.u8 %r0, [%d1];", IllegalAddress),
        (".local .align 4 .b8 depot[16]; ld.local.u32 %r0, [depot+16];", IllegalAddress),
        ("st.param.u32 [out], 1;", IllegalAddress),
        (
            ".shared .align 4 .b8 cells[4]; mapa.shared::cluster.u32 %r1, cells, 1; ld.shared::cluster.u32 %r0, [%r1];",
            IllegalAddress,
        ),
        (
            ".shared .align 4 .b8 cells[4]; mapa.shared::cluster.u32 %r1, cells, 0; ld.shared::cta.u32 %r0, [%r1];",
            IllegalAddress,
        ),
        ("mapa.u64 %d1, %out, 0; ld.u32 %r0, [%d1];", IllegalAddress),
        (".shared .align 4 .b8 cells[4]; cp.async.ca.shared.global [cells], [%out+32], 4;", IllegalAddress),
        (
            ".shared .align 4 .b8 cells[4]; cp.async.ca.shared.global [cells+16], [%out], 4; cp.async.wait_all;",
            IllegalAddress,
        ),
    ] {
        assert_eq!(fault(body).cause, cause, "{body}");
    }
}
