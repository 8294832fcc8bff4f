//! Kernels from a real compiler, run by an unchanged client.

mod common;

use common::{Device, emulated, grid};
use cudarc::driver::PushKernelArg;

/// Orders in which correct kernels must give the same results, and a run without the race detector.
const ORDERS: [&[(&str, &str)]; 4] = [&[], &[("SEED", "1")], &[("SEED", "77")], &[("RACES", "0")]];

fn in_every_order(test: &str, body: impl Fn()) {
    for settings in ORDERS {
        emulated(test, settings, &body);
    }
}

/// Pseudo-random arguments, with the extremes among them.
fn words(n: u32) -> Vec<u32> {
    let word = |i: u32| match i {
        0 => 0,
        1 => u32::MAX,
        2 => 1 << 31,
        _ => i.wrapping_mul(0x9e37_79b9).rotate_left(i),
    };
    (0..n).map(word).collect()
}

#[test]
fn integer() {
    in_every_order("integer", || {
        let device = Device::with_fixture("integer");
        let (n, stream) = (203u32, &device.stream);
        let input = words(n);
        let x = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<u32>(16 * n as usize).unwrap();
        let kernel = device.kernel("integer");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&x).arg(&n).launch(grid(4, 64, 0)) }.unwrap();
        let out = stream.clone_dtoh(&out).unwrap();
        for (&x, o) in input.iter().zip(out.chunks_exact(16)) {
            let s = (0x853c_49e6_748f_ea9b_u64.wrapping_add(x.into()))
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let signed = x as i32;
            let (a, b) = (x.to_le_bytes(), (!x).to_le_bytes());
            let table = [2, 3, 5, 7, 11, 13, 17, 19];
            let expected = [
                ((((s >> 18) ^ s) >> 27) as u32).rotate_right((s >> 59) as u32),
                ((u64::from(x) * 0x9e37_79b9) >> 32) as u32,
                ((u128::from(s) * u128::from(s)) >> 96) as u32,
                x.count_ones(),
                if x == 0 { 0 } else { x.trailing_zeros() + 1 },
                x.leading_zeros(),
                x.reverse_bits(),
                x / 7 + x % 7,
                (signed / -3) as u32,
                (s / u64::from(x | 1)) as u32,
                u32::from_le_bytes([a[0], b[0], a[1], b[1]]),
                (s << (x & 63) >> 32) as u32,
                ((u64::from(!x) << 32 | u64::from(x)) << (x & 31) >> 32) as u32,
                table[x as usize & 7],
                (i64::from(signed) >> (x & 31)) as u32,
                (signed.min(-5) as u32).wrapping_add(x.max(100)).wrapping_add(signed.wrapping_abs() as u32),
            ];
            assert_eq!(o, expected, "{x:#x}");
        }
    });
}

fn exp_by_bits(x: f32) -> f32 {
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let factors = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0f32];
    let p = factors.iter().fold(1.0f32 / 720.0, |p, &c| p.mul_add(r, c));
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[test]
fn floating() {
    in_every_order("floating", || {
        let device = Device::with_fixture("floating");
        let (n, stream) = (201u32, &device.stream);
        let input: Vec<f32> = (0..n).map(|i| (i as f32 - 100.0) * 0.37).collect();
        let x = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<f32>(8 * n as usize).unwrap();
        let kernel = device.kernel("floating");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&x).arg(&n).launch(grid(2, 128, 0)) }.unwrap();
        let out = stream.clone_dtoh(&out).unwrap();
        let towards = |exact: f64, ok: fn(f64, f64) -> bool| {
            let near = exact as f32;
            let candidates = [near.next_down(), near, near.next_up()];
            let valid = candidates.into_iter().filter(|&c| ok(f64::from(c), exact));
            valid.min_by(|a, b| (f64::from(*a) - exact).abs().total_cmp(&(f64::from(*b) - exact).abs()))
        };
        for (&x, o) in input.iter().zip(out.chunks_exact(8)) {
            let d = f64::from(x);
            let zero = towards(d + f64::from(1e-9f32), |c, e| c.abs() <= e.abs()).unwrap();
            let down = towards(d * f64::from(1.1f32), |c, e| c <= e).unwrap();
            let expected = [
                exp_by_bits(x),
                1.0 / (1.0 + exp_by_bits(-x)),
                x.abs().sqrt(),
                x.min(0.5) + x.max(-0.5),
                (d * d + 1.0 / (d * d + 1.0)) as f32,
                x as i32 as f32 + f32::from(x.abs() as i32 as u8),
                x.floor() + x.trunc() + x.ceil(),
                zero + down,
            ];
            assert_eq!(o.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected.map(f32::to_bits), "{x}");
        }
    });
}

#[test]
fn rows_are_summed() {
    in_every_order("rows_are_summed", || {
        let device = Device::with_fixture("block");
        let (rows, length, stream) = (5usize, 257u32, &device.stream);
        let bytes: Vec<u8> = (0..rows * length as usize).map(|i| (i * 7 % 5) as u8 * 50).collect();
        let data = stream.clone_htod(&bytes).unwrap();
        let mut sums = stream.alloc_zeros::<f32>(rows).unwrap();
        let mut nonzero = stream.alloc_zeros::<u32>(rows).unwrap();
        let kernel = device.kernel("row_sums");
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut sums).arg(&mut nonzero).arg(&data).arg(&length);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(rows as u32, 128, 0)) }.unwrap();
        let expected: Vec<f32> = bytes.chunks(257).map(|r| r.iter().map(|&b| f32::from(b)).sum()).collect();
        assert_eq!(stream.clone_dtoh(&sums).unwrap(), expected);
        let expected: Vec<u32> = bytes.chunks(257).map(|r| r.iter().filter(|&&b| b > 0).count() as u32).collect();
        assert_eq!(stream.clone_dtoh(&nonzero).unwrap(), expected);
    });
}

#[test]
fn prefix_sums_in_dynamic_shared_memory() {
    in_every_order("prefix_sums_in_dynamic_shared_memory", || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        let input = words(100);
        let mut data = stream.clone_htod(&input).unwrap();
        let kernel = device.kernel("prefix");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut data).launch(grid(1, 100, 400)) }.unwrap();
        let sums = input.iter().scan(0u32, |sum, &x| {
            *sum = sum.wrapping_add(x);
            Some(*sum)
        });
        assert_eq!(stream.clone_dtoh(&data).unwrap(), sums.collect::<Vec<_>>());
    });
}

#[test]
fn atomics() {
    in_every_order("atomics", || {
        let device = Device::with_fixture("block");
        let (n, stream) = (300u32, &device.stream);
        let mut sum = stream.alloc_zeros::<f32>(1).unwrap();
        let mut highest = stream.alloc_zeros::<u32>(1).unwrap();
        let mut total = stream.alloc_zeros::<u64>(1).unwrap();
        let kernel = device.kernel("atomics");
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut sum).arg(&mut highest).arg(&mut total).arg(&n);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(5, 96, 0)) }.unwrap();
        assert_eq!(stream.clone_dtoh(&sum).unwrap(), [150.0]);
        assert_eq!(stream.clone_dtoh(&highest).unwrap(), [299]);
        assert_eq!(stream.clone_dtoh(&total).unwrap(), [299 * 300 / 2]);
    });
}

#[test]
fn votes_of_a_block() {
    in_every_order("votes_of_a_block", || {
        let device = Device::with_fixture("block");
        let stream = &device.stream;
        let bits: Vec<i32> = (0..70).map(|i| i32::from(i % 3 == 0)).collect();
        let input = stream.clone_htod(&bits).unwrap();
        let mut out = stream.alloc_zeros::<i32>(3).unwrap();
        let kernel = device.kernel("block_votes");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&input).launch(grid(1, 70, 0)) }.unwrap();
        let out = stream.clone_dtoh(&out).unwrap();
        assert_eq!((out[0], out[1] != 0, out[2] != 0), (24, false, true));
    });
}

#[test]
fn vectors_and_structures_by_value() {
    #[repr(C)]
    struct Scale {
        factor: [f32; 4],
        shift: i32,
    }
    // SAFETY: plain numbers without padding.
    unsafe impl cudarc::driver::DeviceRepr for Scale {}
    in_every_order("vectors_and_structures_by_value", || {
        let device = Device::with_fixture("memory");
        let (n, stream) = (37u32, &device.stream);
        let input: Vec<f32> = (0..4 * n).map(|i| i as f32).collect();
        let x = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<f32>(4 * n as usize).unwrap();
        let scale = Scale { factor: [1.0, 2.0, -3.0, 9.0], shift: 5 };
        let kernel = device.kernel("vectors");
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&x).arg(&scale).arg(&n);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(2, 32, 0)) }.unwrap();
        let scaled = input.chunks(4).flat_map(|v| [v[0], v[1] * 2.0, v[2] * -3.0, v[3] + 5.0]);
        assert_eq!(stream.clone_dtoh(&out).unwrap(), scaled.collect::<Vec<_>>());
    });
}

#[test]
fn local_arrays() {
    in_every_order("local_arrays", || {
        let device = Device::with_fixture("memory");
        let stream = &device.stream;
        let input: Vec<u32> = (0..50).map(|i| i * i % 13).collect();
        let x = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<u32>(40).unwrap();
        let kernel = device.kernel("locals");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&x).arg(&50u32).launch(grid(1, 40, 0)) }.unwrap();
        let expected = (0..40u32).map(|i| {
            let mut digits = [0u32; 16];
            input.iter().for_each(|j| digits[((j + i) & 15) as usize] += 1);
            digits.iter().fold(0u32, |hash, d| hash.wrapping_mul(31).wrapping_add(*d))
        });
        assert_eq!(stream.clone_dtoh(&out).unwrap(), expected.collect::<Vec<_>>());
    });
}

#[test]
fn calls_and_switches() {
    in_every_order("calls_and_switches", || {
        let device = Device::with_fixture("memory");
        let (n, stream) = (45u32, &device.stream);
        let input: Vec<f32> = (0..n).map(|i| i as f32 / 8.0).collect();
        let x = stream.clone_htod(&input).unwrap();
        let mut out = stream.alloc_zeros::<f32>(n as usize).unwrap();
        let kernel = device.kernel("calls");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&x).arg(&n).launch(grid(1, 64, 0)) }.unwrap();
        let polynomial = |x: f32, degree: i32| (1..=degree).fold(0.0, |sum, i| sum * x + i as f32);
        let expected = (0..n as usize).map(|i| {
            let odd = if i % 2 == 1 { polynomial(input[i], 5) } else { 0.0 };
            polynomial(input[i], 3) + odd
        });
        assert_eq!(stream.clone_dtoh(&out).unwrap(), expected.collect::<Vec<_>>());

        let mut out = stream.alloc_zeros::<i32>(64).unwrap();
        let kernel = device.kernel("choices");
        let mut launch = stream.launch_builder(&kernel);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.arg(&mut out).arg(&9i32).launch(grid(1, 64, 0)) }.unwrap();
        let expected = (0..64).map(|i| match i % 9 {
            0 => 10,
            1 => i * i,
            2 => -i,
            3 => i << 3,
            4 => i ^ 77,
            5 => 5,
            6 => i / 3,
            _ => -1,
        });
        assert_eq!(stream.clone_dtoh(&out).unwrap(), expected.collect::<Vec<_>>());
    });
}

#[test]
fn elementary_functions() {
    for settings in [&[][..], &[("APPROX_SEED", "9")]] {
        emulated("elementary_functions", settings, || {
            let device = Device::with_fixture("math");
            let (n, stream) = (100u32, &device.stream);
            let input: Vec<f32> = (1..=n).map(|i| i as f32 * 0.13).collect();
            let x = stream.clone_htod(&input).unwrap();
            let mut out = stream.alloc_zeros::<f64>(8 * n as usize).unwrap();
            let kernel = device.kernel("math");
            let mut launch = stream.launch_builder(&kernel);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.arg(&mut out).arg(&x).arg(&n).launch(grid(1, 128, 0)) }.unwrap();
            let out = stream.clone_dtoh(&out).unwrap();
            for (&x, found) in input.iter().zip(out.chunks_exact(8)) {
                let d = f64::from(x);
                let single = |v: f64| (v, 3e-7 * v.abs().max(1e-2));
                let expected = [
                    single(d.exp()),
                    single(d.ln_1p()),
                    single(d.tanh()),
                    single(f64::from(1000.0 * x).sin()),
                    (d.exp(), 4e-16 * d.exp()),
                    (d.ln(), 4e-16),
                    single(d.powf(1.5)),
                    (d.exp() + d.ln(), 3e-6 * d.exp()),
                ];
                for (i, (&found, (exact, bound))) in found.iter().zip(expected).enumerate() {
                    assert!((found - exact).abs() <= bound, "function {i} of {x}: {found}, not {exact}");
                }
            }
            let mut sum = stream.alloc_zeros::<f64>(1).unwrap();
            let kernel = device.kernel("double_sum");
            let mut launch = stream.launch_builder(&kernel);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.arg(&mut sum).launch(grid(3, 33, 0)) }.unwrap();
            assert_eq!(stream.clone_dtoh(&sum).unwrap(), [24.75]);
        });
    }
}
