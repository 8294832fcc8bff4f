//! The rows of an epoch against a sequential program written from the documentation: their order, and bits.

use crate::oracle::{
    in_pool, random_bytes, random_values,
    statistics::{assert_distribution, chi_square_limit},
};
use harmonium::{Binarise, Dataset, Epochs, Isa, Purpose, Uniforms, Values};
use rand_core::Rng;
use rand_pcg::Pcg32;
use sha2::{Digest, Sha256};

const SEED: u64 = 123;
const LEVELS: Binarise = Binarise::Levels { low: 16, high: 240 };
const ALL: [Binarise; 4] = [Binarise::None, Binarise::Threshold, LEVELS, Binarise::Sample];

fn bytes(values: Vec<u8>, units: usize) -> Dataset {
    Dataset::from_u8(values, units).expect("rows")
}

fn numbers(values: Vec<f32>, units: usize) -> Dataset {
    Dataset::from_f32(values, units).expect("rows")
}

fn epochs(shuffle: bool, binarise: Binarise) -> Epochs {
    Epochs::new(shuffle, binarise, SEED).expect("levels")
}

/// The bytes of a dataset, which must be eight-bit.
fn shown(data: &Dataset) -> &[u8] {
    let Values::U8(values) = data.rows().values() else { panic!("bits must be bytes") };
    values
}

/// The generator after `n` numbers, one by one.
fn after(purpose: Purpose, n: usize) -> Pcg32 {
    let mut generator = Uniforms::new(SEED, purpose).generator();
    for _ in 0..n {
        generator.next_u32();
    }
    generator
}

fn naive_order(n: usize, shuffle: bool, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    if !shuffle {
        return order;
    }
    let mut generator = after(Purpose::Shuffling, 2 * n.saturating_sub(1) * epoch);
    for i in 0..n.saturating_sub(1) {
        let (x, y) = (u128::from(generator.next_u32()), u128::from(generator.next_u32()));
        order.swap(i, i + ((((x << 32) + y) * (n - i) as u128) >> 64) as usize);
    }
    order
}

/// n < 2^32·x in integers: x is m·2^e.
fn is_below(n: u32, x: f32) -> bool {
    let (bits, exponent) = (x.to_bits() & 0x7f_ffff, (x.to_bits() >> 23) as i32);
    let (m, e) = if exponent == 0 { (bits, -149) } else { (bits | 0x80_0000, exponent - 150) };
    // 2^32·x < 2^-90 is below every n but 0, and above 0 unless m is 0.
    if e + 32 < -90 { n == 0 && m > 0 } else { u128::from(n) << -(e + 32).min(0) < u128::from(m) << (e + 32).max(0) }
}

/// The bits of an epoch, value by value, each with its number from one generator.
fn naive(data: &Dataset, shuffle: bool, binarise: Binarise, epoch: usize) -> Vec<u8> {
    let (rows, units) = (data.rows(), data.units());
    let numbers = match binarise {
        Binarise::Sample => units,
        Binarise::Levels { .. } => 1,
        _ => 0,
    };
    let mut generator = after(Purpose::Binarising, epoch * rows.len() * numbers);
    let mut out = Vec::new();
    for row in naive_order(rows.len(), shuffle, epoch) {
        let level = match binarise {
            Binarise::Levels { low, high } => {
                let levels = u64::from(high) - u64::from(low) + 1;
                u64::from(low) + ((u64::from(generator.next_u32()) * levels) >> 32)
            }
            _ => 0,
        };
        for i in 0..units {
            let on = match (binarise, rows.values()) {
                (Binarise::Levels { .. }, Values::U8(x)) => u64::from(x[row * units + i]) >= level,
                (Binarise::Levels { .. }, Values::F32(x)) => x[row * units + i] * 255.0 >= level as f32,
                (Binarise::Sample, Values::U8(x)) => {
                    u64::from(generator.next_u32()) * 255 < u64::from(x[row * units + i]) << 32
                }
                (Binarise::Sample, Values::F32(x)) => is_below(generator.next_u32(), x[row * units + i]),
                _ => rows.value(row, i) >= 0.5,
            };
            out.push(if on { 255 } else { 0 });
        }
    }
    out
}

/// Data of both types. The numbers include both ends, the least numbers and those next to 1.
fn data_of(rows: usize, units: usize) -> [Dataset; 2] {
    let mut values = random_values(rows * units, 0.7, 1);
    let ends = [0.0, 1.0, f32::from_bits(1), f32::MIN_POSITIVE, 2f32.powi(-32), 1.0 - f32::EPSILON / 2.0, 0.5];
    values.iter_mut().step_by(3).zip(ends.into_iter().cycle()).for_each(|(x, end)| *x = end);
    [bytes(random_bytes(rows * units, 0.7, 2), units), numbers(values, units)]
}

#[test]
fn as_the_documentation_says() {
    for (rows, units) in [(1, 1), (2, 16), (7, 5), (33, 17), (20, 64), (5, 100), (1001, 3)] {
        for (data, shuffle, binarise) in data_of(rows, units)
            .iter()
            .flat_map(|data| [false, true].map(|shuffle| (data, shuffle)))
            .flat_map(|(data, shuffle)| ALL.map(|binarise| (data, shuffle, binarise)))
        {
            for (threads, isa) in
                [1, 2, 3, 8].into_iter().flat_map(|n| Isa::available().into_iter().map(move |isa| (n, isa)))
            {
                let mut found = epochs(shuffle, binarise);
                for epoch in [0, 1, 4] {
                    let what =
                        format!("{rows} × {units}, {shuffle}, {binarise}, {threads} threads, {isa}, epoch {epoch}");
                    let order = naive_order(rows, shuffle, epoch);
                    assert_eq!(found.order(rows, epoch as u64), order, "{what}");
                    let found = in_pool(threads, || found.show_on(isa, data, epoch as u64));
                    if binarise == Binarise::None {
                        assert_eq!(found, &data.select(&order).expect("rows"), "{what}");
                    } else {
                        assert!(
                            found.units() == units && shown(found) == naive(data, shuffle, binarise, epoch),
                            "{what}"
                        );
                    }
                }
            }
        }
    }
}

/// One `Epochs` for data of any size and type, in any order of epochs; nothing depends on earlier epochs.
#[test]
fn an_epoch_comes_from_its_number_alone() {
    for binarise in ALL {
        let mut kept = epochs(true, binarise);
        for (rows, units, epoch) in [(20, 64, 3), (33, 17, 0), (0, 5, 1), (7, 5, 2), (20, 64, u64::MAX)] {
            for data in data_of(rows, units) {
                let fresh = epochs(true, binarise).show(&data, epoch).expect("an epoch").clone();
                assert_eq!(kept.show(&data, epoch).expect("an epoch"), &fresh, "{binarise}, {rows} × {units}, {epoch}");
            }
        }
    }
    // Positions are modulo 2^64.
    let data = bytes(vec![128; 3 * 16], 16);
    let mut draws = Uniforms::new(SEED, Purpose::Binarising);
    draws.seek(0u64.wrapping_sub(3 * 16));
    let mut generator = draws.generator();
    let expected: Vec<u8> =
        (0..48).map(|_| 255 * u8::from(u64::from(generator.next_u32()) * 255 < 128 << 32)).collect();
    assert_eq!(shown(epochs(false, Binarise::Sample).show(&data, u64::MAX).expect("an epoch")), expected);
}

/// A number is on iff its draw is below 2^32·x: it is off at the draw itself, and on at the next number above it.
#[test]
fn samples_are_exact_where_draw_and_value_meet() {
    let mut generator = Uniforms::new(SEED, Purpose::Binarising).generator();
    let draws: Vec<u32> = (0..20_000).map(|_| generator.next_u32()).collect();
    // `f32` has the integers whose bits, from the first to the last 1, are at most 24.
    let meets = |n: u32| n as f32 as u64 == u64::from(n);
    let met = draws.iter().filter(|&&n| meets(n)).count();
    assert!(met > 50, "{met} draws that a number can meet");
    let at: Vec<f32> = draws.iter().map(|&n| if meets(n) { n as f32 / 2f32.powi(32) } else { 0.0 }).collect();
    let above: Vec<f32> = at.iter().map(|&x| if x > 0.0 { x.next_up() } else { 0.0 }).collect();
    for isa in Isa::available() {
        let on = |values: &[f32]| {
            let data = numbers(values.to_vec(), values.len());
            shown(epochs(false, Binarise::Sample).show_on(isa, &data, 0)).iter().filter(|&&x| x == 255).count()
        };
        assert_eq!((on(&at), on(&above)), (0, above.iter().filter(|&&x| x > 0.0).count()), "{isa}");
    }
}

#[test]
fn what_is_there_already() {
    for data in data_of(33, 17) {
        // Nothing to do: returns the data, not a copy.
        assert!(std::ptr::eq(epochs(false, Binarise::None).show(&data, 5).expect("an epoch"), &data));
        assert_eq!(epochs(true, Binarise::None).show(&data, 0).expect("an epoch"), &data.shuffled(SEED));
        assert_eq!(epochs(false, Binarise::Threshold).show(&data, 9).expect("an epoch"), &data.binarised());
    }
}

/// x/255 as a number is the eight-bit x for a level.
#[test]
fn a_level_takes_either_width_alike() {
    let ramp = || (0..=255u8).cycle().take(300 * 256);
    let (eight, real) = (bytes(ramp().collect(), 256), numbers(ramp().map(|x| f32::from(x) / 255.0).collect(), 256));
    let all = Binarise::Levels { low: 0, high: 255 };
    let (mut a, mut b) = (epochs(true, all), epochs(true, all));
    let mut seen = [false; 256];
    for epoch in 0..20 {
        let (a, b) = (a.show(&eight, epoch).expect("an epoch"), b.show(&real, epoch).expect("an epoch"));
        assert_eq!(a, b);
        shown(a).chunks(256).for_each(|row| seen[row.iter().filter(|&&x| x == 0).count()] = true);
    }
    // Each of 256 levels in 6000 rows: one is missed with a probability below 256·e^(-6000/256) = 2e-8.
    assert_eq!(seen, [true; 256]);
}

/// Value x is on with probability x/255: a chi-square test over all 254 that are neither 0 nor 1, false-alarm rate 1e-6.
#[test]
fn samples_are_on_as_often_as_they_should_be() {
    let ramp = || (0..=255u8).cycle().take(1000 * 256);
    for data in [bytes(ramp().collect(), 256), numbers(ramp().map(|x| f32::from(x) / 255.0).collect(), 256)] {
        let mut epochs = epochs(true, Binarise::Sample);
        let (mut on, n) = ([0u32; 256], 10.0 * 1000.0);
        // Value 128 in an epoch and in the next: fresh bits are independent.
        let (mut before, mut pairs) = (Vec::new(), [0; 4]);
        for epoch in 0..10 {
            let order = epochs.order(1000, epoch);
            let found = shown(epochs.show(&data, epoch).expect("an epoch"));
            let mut middle = vec![0; 1000];
            for (row, values) in order.iter().zip(found.chunks(256)) {
                values.iter().zip(&mut on).for_each(|(&x, on)| *on += u32::from(x == 255));
                middle[*row] = usize::from(values[128] == 255);
            }
            before.iter().zip(&middle).for_each(|(a, b)| pairs[2 * a + b] += 1);
            before = middle;
        }
        assert_eq!((on[0], f64::from(on[255])), (0, n));
        let term = |x: usize| {
            let p = x as f64 / 255.0;
            (f64::from(on[x]) - n * p).powi(2) / (n * p * (1.0 - p))
        };
        let statistic: f64 = (1..255).map(term).sum();
        assert!(statistic < chi_square_limit(254), "{statistic}");
        let p = 128.0 / 255.0;
        assert_distribution(
            &pairs,
            &[(1.0 - p) * (1.0 - p), (1.0 - p) * p, p * (1.0 - p), p * p],
            "neighbouring epochs",
        );
    }
}

/// Pearson's test over the levels of rows in several epochs, false-alarm rate 1e-6; a row has one level.
#[test]
fn levels_are_uniform() {
    let data = bytes((0..=255u8).cycle().take(1000 * 256).collect(), 256);
    let mut epochs = epochs(false, LEVELS);
    let mut counts = [0; 225];
    for epoch in 0..20 {
        for row in shown(epochs.show(&data, epoch).expect("an epoch")).chunks(256) {
            let level = row.iter().take_while(|&&x| x == 0).count();
            assert!(row[level..].iter().all(|&x| x == 255), "a row with two levels");
            counts[level - 16] += 1;
        }
    }
    assert_distribution(&counts, &[1.0 / 225.0; 225], "levels 16 to 240");
    for level in [0, 255] {
        let only = Binarise::Levels { low: level, high: level };
        let mut epochs = Epochs::new(false, only, SEED).expect("levels");
        let row: Vec<u8> = (0..=255).map(|x| if x >= level { 255 } else { 0 }).collect();
        assert!(shown(epochs.show(&data, 7).expect("an epoch")).chunks(256).all(|found| found == row));
    }
}

/// Bits, order and levels of one seed, for all releases; another program computed them from the documentation.
#[test]
fn the_same_epoch_for_ever() {
    let data = bytes(random_bytes(40 * 50, 0.5, 1), 50);
    let mut hash = Sha256::new();
    for binarise in [Binarise::Sample, LEVELS] {
        hash.update(shown(epochs(true, binarise).show(&data, 3).expect("an epoch")));
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, "20b413cbf68901bf74149d4583810963664f17a4d2efd2562619b0d1323d56ae");
}

#[test]
fn as_text() {
    for (binarise, text) in ALL.into_iter().zip(["none", "threshold", "threshold:16-240", "sample"]) {
        assert_eq!((binarise.to_string().as_str(), text.parse()), (text, Ok(binarise)));
    }
    assert_eq!("threshold:0-255".parse(), Ok(Binarise::Levels { low: 0, high: 255 }));
    assert_eq!("threshold:7-7".parse(), Ok(Binarise::Levels { low: 7, high: 7 }));
    assert_eq!(Binarise::default(), Binarise::None);
    for text in ["", "Sample", "threshold:", "threshold:5", "threshold:6-5", "threshold:0-256", "threshold:+1-5"] {
        let message =
            "binarise: expected one of none, threshold, threshold:LOW-HIGH with 0 <= LOW <= HIGH <= 255, sample";
        let found = text.parse::<Binarise>().expect_err(text).to_string();
        assert_eq!(found, format!("{message}, found {text}"));
    }
    let wrong = Epochs::new(false, Binarise::Levels { low: 2, high: 1 }, SEED).expect_err("no level");
    assert_eq!(wrong.to_string(), "levels: expected the least not above the greatest, found 2-1");
}

/// Binary units of a mixture have the same draws as the same columns of binary units; values of other laws only change their rows.
#[test]
fn values_of_other_laws_stay() {
    let (n, laws) = (9, "binary:3,potts:2x3,gaussian:2,binary:4".parse::<harmonium::Segments>().expect("laws"));
    let grey = random_values(n * 15, 0.8, 4);
    let mixed: Vec<f32> = grey
        .iter()
        .enumerate()
        .map(|(at, &x)| match at % 15 {
            i @ 3..9 => f32::from(i % 3 == at / 15 % 3),
            9..11 => 30.0 * x - 20.0,
            _ => x,
        })
        .collect();
    let is_bit = |at: usize| !(3..11).contains(&(at % 15));
    let as_bytes: Vec<u8> = mixed.iter().map(|x| (255.0 * x.clamp(0.0, 1.0)) as u8).collect();
    let discrete = "binary:3,potts:2x3,binary:6".parse::<harmonium::Segments>().expect("laws");
    let binary = [numbers(grey, 15), bytes(as_bytes.clone(), 15)];
    let several = [
        Dataset::of_numbers(mixed.clone(), laws).expect("rows"),
        bytes(as_bytes, 15).with_segments(discrete).expect("rows"),
    ];
    for (binary, several) in binary.into_iter().zip(several) {
        for (binarise, epoch) in ALL.into_iter().flat_map(|binarise| [0, 3].map(|epoch| (binarise, epoch))) {
            let (mut of_binary, mut of_several) = (epochs(true, binarise), epochs(true, binarise));
            let expected = of_binary.show(&binary, epoch).expect("shown").rows().to_vec();
            let order = of_binary.order(n, epoch);
            let found = of_several.show(&several, epoch).expect("shown");
            assert_eq!(found.segments(), several.segments());
            let found = found.rows().to_vec();
            let (all, bits) = (several.rows().to_vec(), several.segments() == discrete);
            for (at, &x) in found.iter().enumerate() {
                let is_bit = is_bit(at) || bits && (9..11).contains(&(at % 15));
                let stays = all[order[at / 15] * 15 + at % 15];
                assert_eq!(x, if is_bit { expected[at] } else { stays }, "{binarise}, epoch {epoch}, value {at}");
            }
        }
        let rounded = several.binarised();
        assert_eq!(rounded.segments(), several.segments());
        let all = several.rows().to_vec();
        for (at, &x) in rounded.rows().to_vec().iter().enumerate() {
            let is_bit = is_bit(at) || several.segments() == discrete && (9..11).contains(&(at % 15));
            assert_eq!(x, if is_bit { f32::from(all[at] >= 0.5) } else { all[at] }, "value {at}");
        }
    }
}
