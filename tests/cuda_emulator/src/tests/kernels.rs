//! The forms that harmonium's kernels use and no other test has, and a check that there are no more of them.

use super::{check, kernel, lanes, words};
use std::collections::BTreeSet;

#[test]
fn integers() {
    check(&[
        ("sub.s32 %r0, 3, 5", 0xffff_fffe),
        ("sub.s64 %d0, 3, 5", (-2i64) as u64),
        ("min.u64 %d0, -1, 5", 5),
        ("max.u64 %d0, -1, 5", u64::MAX),
        ("not.b64 %d0, 0xff", !0xff),
        ("and.b16 %h0, 0xff0f, 0x0ff0", 0x0f00),
        ("max.s32 %r0, -1, 1", 1),
        ("mul.lo.s32 %r0, -3, 5", 0xffff_fff1),
        ("mul.lo.s64 %d0, -3, 5", (-15i64) as u64),
        ("and.b64 %d0, 0xff00ff00ff00, 0xffff00000000", 0xff00_0000_0000),
        ("shr.u16 %h0, 0x8000, 15", 1),
        ("shr.u16 %h0, 0x8000, 16", 0),
        ("add.s16 %h0, -1, 3", 2),
        ("div.u64 %d0, -1, 2", u64::MAX / 2),
        ("rem.u32 %r0, -1, 16", 15),
    ]);
}

#[test]
fn comparisons() {
    check(&[
        ("setp.eq.b32 %p0, -1, 0xffffffff", 1),
        ("setp.eq.b64 %p0, 0x100000000, 0", 0),
        ("setp.eq.s16 %p0, -1, 0xffff", 1),
        ("setp.eq.s32 %p0, -1, 0xffffffff", 1),
        ("setp.eq.s64 %p0, -1, 0xffffffff", 0),
        ("setp.ne.s16 %p0, -1, 0xffff", 0),
        ("setp.ne.s32 %p0, -1, 1", 1),
        ("setp.ne.s64 %p0, -1, 0xffffffff", 1),
        ("setp.lt.s16 %p0, -1, 0", 1),
        ("setp.lt.u64 %p0, -1, 0", 0),
        ("setp.le.u32 %p0, 5, 5", 1),
        ("setp.le.u32 %p0, -1, 5", 0),
        ("setp.gt.s32 %p0, -1, 0", 0),
        ("setp.gt.u32 %p0, -1, 0", 1),
        ("setp.ge.u64 %p0, -1, 1", 1),
        ("setp.ge.u64 %p0, 0, 1", 0),
        ("setp.ge.f32 %p0, 0f80000000, 0f00000000", 1),
        ("setp.ge.f32 %p0, 0f7FC00000, 0f00000000", 0),
        ("setp.gt.f32 %p0, 0f00000000, 0f80000000", 0),
        ("setp.gt.f32 %p0, 0f3F800000, 0fBF800000", 1),
        ("setp.eq.u32 %p1, 1, 1; selp.f32 %r0, 0f3F800000, 0f40000000, %p1", 0x3f80_0000),
        ("setp.eq.u32 %p1, 1, 2; selp.u16 %h0, 7, 8, %p1", 8),
    ]);
}

#[test]
fn numbers() {
    check(&[
        ("mov.f32 %r0, 0f3F800000", 0x3f80_0000),
        ("mov.f64 %d0, 0d3FF0000000000000", 1f64.to_bits()),
        ("add.rn.f64 %d0, 0d3FF0000000000000, 0d3CA0000000000000", 1f64.to_bits()),
        ("cvt.rmi.f32.f32 %r0, 0fBF000000", 0xbf80_0000),
        ("cvt.rmi.f32.f32 %r0, 0f40200000", 0x4000_0000),
        ("mov.u16 %h1, 0xffff; cvt.rn.f32.u16 %r0, %h1", 65535f32.to_bits().into()),
        ("cvt.rn.f64.u32 %d0, 0xffffffff", 4_294_967_295f64.to_bits()),
    ]);
}

#[test]
fn memory() {
    const EIGHT: &str = "st.global.u64 [%out], 0x8182838485868788";
    check(&[
        (&format!("{EIGHT}; ld.f32 %r0, [%out]"), 0x8586_8788),
        (&format!("{EIGHT}; ld.global.f32 %r0, [%out+4]"), 0x8182_8384),
        (&format!("{EIGHT}; ld.global.f64 %d0, [%out]"), 0x8182_8384_8586_8788),
        (&format!("{EIGHT}; ld.s8 %r0, [%out]"), 0xffff_ff88),
        (&format!("{EIGHT}; st.global.u32 [%out+4], 5; ld.u64 %d0, [%out]"), 0x5_8586_8788),
        ("st.global.f32 [%out], 0f3F800000; ld.global.b32 %r0, [%out]", 0x3f80_0000),
        ("st.global.f64 [%out], 0d3FF0000000000000; ld.u64 %d0, [%out]", 1f64.to_bits()),
        (&format!("{EIGHT}; ld.global.nc.u64 %d0, [%out]"), 0x8182_8384_8586_8788),
        ("st.global.v2.f32 [%out], {0f3F800000, 0f40000000}; ld.global.v2.f32 {%r1, %r0}, [%out]", 0x4000_0000),
        ("cvta.to.global.u64 %d1, %out; st.global.u32 [%d1], 6; ld.global.b32 %r0, [%out]", 6),
    ]);
    let shared = ".shared .align 8 .b8 cells[16]; mov.u32 %r1, cells;
        st.shared.u64 [%r1], 0x700000008; ld.shared.u64 %d1, [cells];
        st.shared.f32 [%r1+8], 0f3F800000; ld.shared.f32 %r2, [cells+8];
        cvt.u64.u32 %d2, %r2; add.u64 %d0, %d1, %d2;";
    assert_eq!(lanes(1, shared), [0x7_0000_0008 + 0x3f80_0000]);
    let vectors = ".shared .align 16 .b8 cells[16]; .local .align 16 .b8 depot[16];
        st.shared.v2.f32 [cells], {0f3F800000, 0f40000000}; ld.shared.v2.f32 {%r1, %r2}, [cells];
        st.shared.v2.f32 [cells+8], {0f00000000, %r2}; mov.u16 %h1, 0x5566; st.shared.u16 [cells+8], %h1;
        ld.shared.v2.u32 {%r5, %r6}, [cells+8]; st.shared.v2.u32 [cells+8], {%r5, %r6};
        ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [cells]; add.u32 %r5, %r5, %r6; sub.u32 %r4, %r4, %r3;
        st.local.v4.f32 [depot], {%r1, %r2, %r4, %r5}; st.local.v2.f32 [depot], {%r5, %r1};
        ld.local.v2.f32 {%r1, %r2}, [depot]; ld.local.f32 %r3, [depot+8];
        xor.b32 %r1, %r1, %r3; cvt.u64.u32 %d1, %r1; cvt.u64.u32 %d2, %r2; shl.b64 %d2, %d2, 32; or.b64 %d0, %d1, %d2;";
    assert_eq!(lanes(1, vectors), [0x3f80_0000_0000_0000 | (0x4000_5566 ^ 0x0080_0000)]);
}

#[test]
fn parameters() {
    let text = kernel(
        "ld.param.u32 %r1, [out]; ld.param.f32 %r2, [out+4]; ld.param.v2.u32 {%r3, %r4}, [out];
         sub.u32 %r1, %r1, %r3; sub.u32 %r2, %r2, %r4; or.b32 %r1, %r1, %r2; st.global.u32 [%out], %r1;
         st.global.u32 [%out+4], %r4;",
    );
    // The address is above 2^56: see machine::BASE.
    assert_eq!(words(&text, 1, 1).expect("no fault"), [crate::machine::BASE >> 32 << 32]);
    let text = kernel(
        "ld.param.v2.f32 {%r1, %r2}, [out]; ld.param.u32 %r3, [out]; sub.u32 %r1, %r1, %r3; st.global.u32 [%out], %r1;
         st.global.u32 [%out+4], %r2;",
    );
    assert_eq!(words(&text, 1, 1).expect("no fault"), [crate::machine::BASE >> 32 << 32]);
}

#[test]
fn lanes_below() {
    let body = "shfl.sync.down.b32 %r0, %r8, 2, 0x1c1f, -1; cvt.u64.u32 %d0, %r0;";
    let expected: Vec<u64> = (0..32).map(|lane| if lane % 4 < 2 { lane + 2 } else { lane }).collect();
    assert_eq!(lanes(32, body), expected);
}

/// The opcodes with their modifiers in a text: words where an instruction may begin that have operands or an end.
fn forms(text: &str) -> BTreeSet<&str> {
    let statements =
        text.split(['\n', ';', '{', '"']).map(|part| part.rsplit(": ").next().unwrap_or(part).trim_start());
    let opcodes = statements.filter_map(|statement| {
        let guarded = statement.strip_prefix('@').and_then(|rest| rest.split_once(' ')).map(|(_, rest)| rest);
        guarded.unwrap_or(statement).split([' ', '\t', '\\']).next()
    });
    let is_one = |form: &&str| form.contains('.') && form.starts_with(|c: char| c.is_ascii_lowercase());
    opcodes.filter(is_one).collect()
}

#[test]
fn every_form_of_the_kernels_has_a_test() {
    let kernels = [
        include_str!("../../../../kernels/ptx/compute_70.ptx"),
        include_str!("../../../../kernels/ptx/compute_80.ptx"),
        include_str!("../../../../kernels/ptx/compute_90.ptx"),
    ]
    .join("\n");
    let tests = [
        include_str!("arithmetic.rs"),
        include_str!("kernels.rs"),
        include_str!("matrices.rs"),
        include_str!("memory.rs"),
        include_str!("mod.rs"),
        include_str!("threads.rs"),
    ]
    .join("\n");
    let (used, tested) = (forms(&kernels), forms(&tests));
    assert!(used.len() > 90, "{used:?}");
    // Forms whose tests are assembled from parts.
    let composed = [
        "shfl.sync.bfly.b32",
        "shfl.sync.up.b32",
        "shfl.sync.idx.b32",
        "shfl.sync.down.b32",
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32",
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32",
    ];
    let missing: Vec<_> = used.difference(&tested).filter(|form| !composed.contains(form)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
