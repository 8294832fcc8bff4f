//! Products of matrices against sums over their elements, which are in the lanes' registers as in PTX's manual.

use super::{kernel, lanes, words};

/// Pseudo-random numbers, for element `i` of a lane's vector number `vector`.
fn word(lane: u32, vector: u32, register: u32) -> u32 {
    (lane * 16 + vector * 4 + register).wrapping_mul(0x9e37_79b9) ^ 0x5a5a_5a5a
}

/// Fills vectors of registers with [`word`].
fn fill() -> String {
    let mut text = ".reg .b32 %a<4>; .reg .b32 %b<4>; .reg .b32 %c<4>; .reg .b32 %t<4>;".to_owned();
    for (vector, name) in ["a", "b", "c"].into_iter().enumerate() {
        for register in 0..4 {
            text += &format!(
                "mad.lo.u32 %t0, %r8, 16, {}; mul.lo.u32 %t0, %t0, 0x9e3779b9; xor.b32 %{name}{register}, %t0, 0x5a5a5a5a;",
                vector * 4 + register
            );
        }
    }
    text
}

fn byte(word: u32, at: u32, signed: bool) -> i32 {
    let byte = (word >> (8 * at)) as u8;
    if signed { i32::from(byte as i8) } else { i32::from(byte) }
}

/// Sums over the elements of both factors, plus each lane's element of c: the contents of the lanes' registers.
fn expected(signed: [bool; 2]) -> Vec<[u32; 4]> {
    let (mut a, mut b) = ([[0; 32]; 16], [[0; 8]; 32]);
    for lane in 0..32 {
        let (group, thread) = (lane / 4, lane % 4);
        for i in 0..16 {
            let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
            let column = thread * 4 + (i & 3) + if i < 8 { 0 } else { 16 };
            a[row as usize][column as usize] = byte(word(lane, 0, i / 4), i % 4, signed[0]);
        }
        for i in 0..8 {
            let row = thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 };
            b[row as usize][group as usize] = byte(word(lane, 1, i / 4), i % 4, signed[1]);
        }
    }
    let of_lane = |lane: u32| {
        std::array::from_fn(|i| {
            let row = lane / 4 + if i < 2 { 0 } else { 8 };
            let column = lane % 4 * 2 + (i as u32 & 1);
            let sum: i32 = (0..32).map(|k| a[row as usize][k] * b[k][column as usize]).sum();
            word(lane, 2, i as u32).wrapping_add(sum as u32)
        })
    };
    (0..32).map(of_lane).collect()
}

fn product(types: &str, from: &str) -> String {
    format!(
        "mma.sync.aligned.m16n8k32.row.col.s32.{types}.s32 {{%c0, %c1, %c2, %c3}}, {{%a0, %a1, %a2, %a3}}, {{%b0, %b1}}, {from};"
    )
}

#[test]
fn bytes_with_and_without_signs() {
    for (types, signed) in
        [("u8.u8", [false, false]), ("u8.s8", [false, true]), ("s8.u8", [true, false]), ("s8.s8", [true, true])]
    {
        let expected = expected(signed);
        for half in 0..2 {
            let body = format!(
                "{} {} mov.b64 %d0, {{%c{}, %c{}}};",
                fill(),
                product(types, "{%c0, %c1, %c2, %c3}"),
                2 * half,
                2 * half + 1
            );
            let found = lanes(32, &body);
            for (lane, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let expected = u64::from(expected[2 * half + 1]) << 32 | u64::from(expected[2 * half]);
                assert_eq!(*found, expected, "{types}, lane {lane}, half {half}");
            }
        }
    }
}

/// Lanes that do not exist, or never arrive, are reported.
#[test]
fn a_product_needs_the_whole_warp() {
    let all = product("u8.s8", "{%c0, %c1, %c2, %c3}");
    let body = format!("{} {all} cvt.u64.u32 %d0, %c0;", fill());
    assert_eq!(lanes(31, &body), vec![u64::from(u32::MAX); 31]);
    let body = format!("mov.u32 %r8, %tid.x; {} setp.lt.u32 %p1, %r8, 16; @%p1 {all} bar.sync 0;", fill());
    let fault = words(&kernel(&body), 32, 1).expect_err("half of a warp cannot compute a product");
    assert!(!fault.what.is_empty());
}
