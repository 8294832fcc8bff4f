//! Owned rows: parts of them, their order, batches; and the shape of a model as text.

use crate::oracle::{random_values, statistics::assert_distribution};
use harmonium::{Dataset, Purpose, Rows, Shape, Uniforms, Values};

/// Rows of two values, the first of which is the index of the row.
fn numbered(n: usize) -> Dataset {
    Dataset::from_u8((0..n).flat_map(|row| [row as u8, 255 - row as u8]).collect(), 2).expect("rows")
}

/// The indices of rows of [`numbered`]; every row must be complete.
fn numbers(data: &Dataset) -> Vec<usize> {
    let Values::U8(values) = data.rows().values() else { panic!("eight-bit data must stay eight-bit") };
    let (rows, rest) = values.as_chunks::<2>();
    assert!(rest.is_empty() && rows.iter().all(|[row, other]| *other == 255 - row), "{values:?}");
    rows.iter().map(|[row, _]| usize::from(*row)).collect()
}

#[test]
fn some_of_the_rows() {
    let data = numbered(7);
    assert_eq!(numbers(&data.select(&[6, 0, 6, 3]).expect("rows")), [6, 0, 6, 3]);
    assert_eq!(data.select(&[]).expect("no rows").len(), 0);
    assert_eq!(numbers(&data.permuted(&[6, 5, 4, 3, 2, 1, 0]).expect("rows")), [6, 5, 4, 3, 2, 1, 0]);
    for (range, kept) in [(0..7, vec![0, 1, 2, 3, 4, 5, 6]), (2..5, vec![2, 3, 4]), (7..7, vec![])] {
        let mut data = data.clone();
        data.keep(range).expect("rows that are there");
        assert_eq!(numbers(&data), kept);
    }
    let values = random_values(5 * 3, 0.5, 1);
    let real = Dataset::from_f32(values.clone(), 3).expect("rows").select(&[4, 1]).expect("rows");
    assert_eq!(real, Dataset::from_f32([&values[12..], &values[3..6]].concat(), 3).expect("rows"));
    let batches = |size| data.batches(size).collect::<Vec<_>>();
    assert_eq!((batches(3), batches(6)), (vec![0..3, 3..6, 6..7], vec![0..6, 6..7]));
    for whole in [7, 8, usize::MAX] {
        assert!(matches!(&batches(whole)[..], [all] if *all == (0..7)), "batches of {whole}");
    }
    assert!(batches(0).is_empty());
    assert_eq!(numbered(0).batches(3).count(), 0);
}

/// Pearson's test over the 24 orders of four rows, for as many seeds: a correct shuffle fails once in a million runs.
#[test]
fn every_order_is_as_likely() {
    let data = numbered(4);
    let place = |order: &[usize]| {
        let smaller = |at: usize| order[at + 1..].iter().filter(|&&row| row < order[at]).count();
        6 * smaller(0) + 2 * smaller(1) + smaller(2)
    };
    let mut counts = [0; 24];
    (0..48_000).for_each(|seed| counts[place(&numbers(&data.shuffled(seed)))] += 1);
    assert_distribution(&counts, &[1.0 / 24.0; 24], "orders of four rows, a seed each");

    let mut counts = [0; 24];
    let mut draws = Uniforms::new(1, Purpose::Shuffling);
    (0..48_000).for_each(|_| counts[place(&draws.permutation(4))] += 1);
    assert_distribution(&counts, &[1.0 / 24.0; 24], "orders of four rows, one sequence");
    assert_eq!(draws.position(), 48_000 * 6);
}

/// Ten rows with seed 123; another program computed them from the documentation of `Uniforms::permutation`.
const GOLDEN: [usize; 10] = [9, 2, 5, 6, 0, 3, 4, 7, 8, 1];

#[test]
fn the_same_seed_gives_the_same_order() {
    let data = numbered(10);
    assert_eq!(numbers(&data.shuffled(123)), GOLDEN);
    assert_eq!(Uniforms::new(123, Purpose::Shuffling).permutation(10), GOLDEN);
    assert_ne!(numbers(&data.shuffled(124)), GOLDEN);
    for n in 0..2 {
        let mut draws = Uniforms::new(123, Purpose::Shuffling);
        assert_eq!((draws.permutation(n), draws.position()), ((0..n).collect(), 0));
    }
}

#[test]
fn binarised_data_is_rounded() {
    let data = Dataset::from_f32(vec![0.0, 0.49, 0.5, 1.0], 2).expect("rows").binarised();
    assert_eq!(data.rows().values(), Values::U8(&[0, 0, 255, 255]));
    let data = Dataset::from_u8(vec![0, 127, 128, 255], 4).expect("rows").binarised();
    assert_eq!(Rows::new(data.rows().values(), 4).expect("rows").len(), 1);
    assert_eq!(data.rows().values(), Values::U8(&[0, 0, 255, 255]));
}

#[test]
fn a_shape_as_text() {
    let shape = Shape::new(784, 500).expect("a shape");
    assert_eq!(shape.to_string(), "784 × 500");
    for text in ["784 × 500", "784×500", "784x500", " 784 x 500\n"] {
        assert_eq!(text.parse(), Ok(shape), "{text}");
    }
    assert_eq!(std::collections::HashSet::from([shape, "784 × 500".parse().expect("a shape")]).len(), 1);
}
