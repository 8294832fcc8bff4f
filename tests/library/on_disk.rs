//! Rows on disk: the same as in memory, to the bit, for every type and law; and the errors if the file has changed or is not
//! readable.

use crate::oracle::{in_pool, places, random_bytes, random_values};
use harmonium::{
    Binarise, Columns, Dataset, Epochs, Purpose, Segments, Source, Uniforms,
    checkpoint::{Fingerprint, fingerprint},
    formats::{Reading, npy::OnDisk},
};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = places::scratch().join("on_disk").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The header of an array file.
fn header(descr: &str, shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    text += &" ".repeat((64 - (10 + text.len() + 1) % 64) % 64);
    text.push('\n');
    [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

fn write(path: &Path, descr: &str, shape: &str, values: &[u8]) {
    fs::write(path, [header(descr, shape), values.to_vec()].concat()).expect("an array");
}

/// Rows in random order, some of them twice, adjacent and apart.
fn some(rows: usize) -> Vec<usize> {
    let order = Uniforms::new(7, Purpose::Shuffling).permutation(rows);
    [&order[..], &[order[0]], &(0..rows).collect::<Vec<_>>()].concat()
}

#[test]
fn rows_are_those_of_the_whole_file() {
    let folder = folder("types");
    let (rows, units) = (23, 6);
    let n = rows * units;
    let grey = random_bytes(n, 0.6, 1);
    let bits: Vec<u8> = grey.iter().map(|&x| u8::from(x > 99)).collect();
    let real = random_values(n, 0.8, 2);
    let states: Vec<u8> = grey.iter().map(|x| x % 3).collect();
    let numbers: Vec<f32> = real.iter().map(|x| 40.0 * x - 10.0).collect();
    let le4 = |x: &[f32]| x.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>();
    let ints = |width: usize, big: bool| {
        let of = |&x: &u8| (0..width).map(move |i| if i == if big { width - 1 } else { 0 } { x } else { 0 });
        bits.iter().flat_map(of).collect::<Vec<u8>>()
    };
    let half: Vec<u8> = bits.iter().flat_map(|&x| (if x == 1 { 0x3555u16 } else { 0x0003 }).to_le_bytes()).collect();
    // One Potts site of three states in the first columns of every row; three more columns of grey values.
    let mixed: Vec<u8> =
        grey.iter().enumerate().map(|(at, &x)| if at % 6 < 3 { u8::from(at / 6 % 3 == at % 6) } else { x }).collect();
    let cases: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        ("|u1", grey.clone(), None),
        ("|u1", bits.clone(), None),
        ("|u1", vec![0; n], None),
        ("|b1", bits.clone(), None),
        ("|i1", bits.clone(), None),
        ("<i4", ints(4, false), None),
        (">u8", ints(8, true), None),
        ("<f2", half, None),
        ("<f4", le4(&real), None),
        (">f4", real.iter().flat_map(|x| x.to_be_bytes()).collect(), None),
        ("<f8", real.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect(), None),
        (">f8", real.iter().flat_map(|&x| (0.3 * f64::from(x)).to_be_bytes()).collect(), None),
        ("|u1", grey.clone(), Some("binary:6")),
        ("|u1", bits.clone(), Some("binary:2,binary:4")),
        ("|u1", states.clone(), Some("potts:6x3")),
        ("|u1", mixed, Some("potts:1x3,binary:3")),
        ("|b1", bits.clone(), Some("binary:3,gaussian:3")),
        ("|u1", grey.clone(), Some("gaussian:6")),
        ("<i4", ints(4, false), Some("gaussian:2,binary:4")),
        ("<f4", le4(&numbers), Some("gaussian:6")),
        (">f8", states.iter().flat_map(|&x| f64::from(x).to_be_bytes()).collect(), Some("potts:6x3")),
    ];
    for (descr, values, visible) in cases {
        for shape in ["(23, 6)", "(23, 2, 3)", "(23, 1, 3, 2)"] {
            let what = format!("{descr} {shape} {visible:?}");
            let path = folder.join("x.npy");
            write(&path, descr, shape, &values);
            let visible = visible.map(|text| text.parse::<Segments>().expect("laws"));
            let whole = Reading { visible, ..Reading::default() }.open(&path).expect("rows");
            let file = OnDisk::open(&path, visible).expect(&what);
            assert_eq!((file.len(), file.bytes()), (rows, values.len() as u64), "{what}");
            assert_eq!(file.segments(), whole.rows.segments(), "{what}");
            assert_eq!((file.img_shape(), file.assumed()), (whole.img_shape, whole.assumed), "{what}");
            let (order, mut found) = (some(rows), whole.rows.select(&[0]).expect("a row"));
            for threads in [1, 2, 5] {
                in_pool(threads, || file.read(&order, &mut found)).expect("read");
                assert_eq!(found, whole.rows.select(&order).expect("rows"), "{what}, {threads} threads");
            }
            file.read(&[], &mut found).expect("nothing to read");
            assert_eq!(found.len(), 0);
        }
    }
}

/// Every part of every epoch has the bits of the whole, and so have sums and fingerprints of rows that arrive in parts.
#[test]
fn parts_are_parts_of_the_whole() {
    let folder = folder("parts");
    let (rows, units) = (41, 7);
    let (bytes, real) = (random_bytes(rows * units, 0.6, 3), random_values(rows * units, 0.6, 4));
    write(&folder.join("u1.npy"), "|u1", "(41, 7)", &bytes);
    write(&folder.join("f4.npy"), "<f4", "(41, 7)", &real.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    let mut holes = real.clone();
    holes.iter_mut().step_by(11).for_each(|x| *x = f32::NAN);
    let mixed = "binary:4,gaussian:3".parse().expect("laws");
    let in_memory = [
        Dataset::from_u8(bytes, units).expect("rows"),
        Dataset::from_f32(real.clone(), units).expect("rows"),
        Dataset::with_missing(holes, "binary:7".parse().expect("laws")).expect("rows"),
        Dataset::of_numbers(real, mixed).expect("rows"),
    ];
    let on_disk = [
        OnDisk::open(folder.join("u1.npy"), None).expect("rows"),
        OnDisk::open(folder.join("f4.npy"), None).expect("rows"),
        OnDisk::open(folder.join("f4.npy"), Some(mixed)).expect("rows"),
    ];
    let sources: [(&Dataset, &(dyn Source + Sync)); 7] = [
        (&in_memory[0], &in_memory[0]),
        (&in_memory[1], &in_memory[1]),
        (&in_memory[2], &in_memory[2]),
        (&in_memory[3], &in_memory[3]),
        (&in_memory[0], &on_disk[0]),
        (&in_memory[1], &on_disk[1]),
        (&in_memory[3], &on_disk[2]),
    ];
    let levels = Binarise::Levels { low: 16, high: 240 };
    for (n, (data, source)) in sources.into_iter().enumerate() {
        for (shuffle, binarise) in [false, true]
            .into_iter()
            .flat_map(|on| [Binarise::None, Binarise::Threshold, levels, Binarise::Sample].map(|how| (on, how)))
        {
            let epochs = || Epochs::new(shuffle, binarise, 123).expect("levels");
            let (mut whole, mut parts) = (epochs(), epochs());
            for (epoch, threads) in [(0, 1), (3, 2), (u64::MAX, 3)] {
                let whole = whole.show(data, epoch).expect("an epoch");
                let (mut columns, mut digits) = (Columns::new(data.segments()), Fingerprint::new(rows));
                for size in [1, 5, 41, 100] {
                    for first in (0..rows).step_by(size) {
                        let part = first..rows.min(first + size);
                        let numbers: Vec<usize> = part.clone().collect();
                        let shown = in_pool(threads, || parts.show_part(source, epoch, part.clone()).cloned());
                        let shown = shown.expect("a part");
                        let what = format!("source {n}, {shuffle}, {binarise}, epoch {epoch}, rows {part:?}");
                        assert_eq!(shown, whole.select(&numbers).expect("rows"), "{what}");
                        if size == 5 {
                            columns.add(shown.rows());
                            digits.add(shown.rows());
                        }
                    }
                }
                assert_eq!(columns.clipped_means(), whole.rows().clipped_means());
                assert_eq!(digits.finish(), fingerprint(whole.rows()));
            }
        }
        let mut epochs = Epochs::new(true, Binarise::None, 1).expect("no levels");
        let wrong = epochs.show_part(source, 0, 40..42).expect_err("too many rows");
        assert_eq!(wrong.to_string(), "rows: expected a range within 0..41, found 40..42");
        let wrong = source.select(&[3, 41]).expect_err("no such row");
        assert_eq!(wrong.to_string(), "rows: expected numbers below 41, found 41");
    }
}

/// The beginning of a permutation equals that of the whole one, for both algorithms.
#[test]
fn beginnings_of_permutations() {
    for n in [0, 1, 2, 15, 16, 17, 100, 4099] {
        for len in [0, 1, 2, n / 100, n / 16, n / 16 + 1, n / 2, n, n + 5] {
            let (mut whole, mut start) = (Uniforms::new(5, Purpose::Shuffling), Uniforms::new(5, Purpose::Shuffling));
            whole.seek(1 << 63);
            start.seek(1 << 63);
            let (order, found) = (whole.permutation(n), start.permutation_start(n, len));
            assert_eq!(found, order[..len.min(n)], "{len} of {n}");
            assert_eq!(start.position(), (1 << 63) + 2 * len.min(n.saturating_sub(1)) as u64);
        }
    }
}

/// A sparse file with rows beyond the range of 32 bits.
#[test]
fn rows_beyond_four_gibibytes() {
    let path = folder("far").join("far.npy");
    let (rows, units) = (7_000_001, 784);
    let header = header("|u1", &format!("({rows}, {units})"));
    fs::write(&path, &header).expect("a header");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    file.set_len((header.len() + rows * units) as u64).expect("a file with holes");
    let at = |row: usize| (header.len() + row * units) as u64;
    let of = |row: usize| (0..units).map(|i| ((row + i) % 251) as u8).collect::<Vec<u8>>();
    // The first row shows that they are not bits.
    for row in [1, 5_478_275, 5_478_276, 7_000_000] {
        file.write_all_at(&of(row), at(row)).expect("a row");
    }
    let data = OnDisk::open(&path, None).expect("rows");
    let found = data.select(&[7_000_000, 0, 5_478_275, 5_478_276, 1]).expect("rows");
    let expected = [of(7_000_000), vec![0; units], of(5_478_275), of(5_478_276), of(1)].concat();
    assert_eq!(found, Dataset::from_u8(expected, units).expect("rows"));
    fs::remove_file(&path).expect("removed");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: harmonium::Result<T>, message: &str) {
    assert_eq!(result.expect_err("must be refused").to_string(), message);
}

#[test]
fn what_cannot_be_read() {
    let folder = folder("refused");
    let path = folder.join("x.npy");
    let name = path.display().to_string();
    let open = |bytes: &[u8], visible: Option<&str>| {
        fs::write(&path, bytes).expect("a file");
        OnDisk::open(&path, visible.map(|text| text.parse().expect("laws")))
    };
    let of = |descr: &str, shape: &str, values: &[u8]| [header(descr, shape), values.to_vec()].concat();
    let mut fortran = of("|u1", "(2, 3)", &[9; 6]);
    let at = fortran.windows(5).position(|x| x == b"False").expect("an order");
    fortran[at..at + 5].copy_from_slice(b"True ");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "8 bytes of npy header, found 0"),
        (
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0],
            "an npy file, which begins with 93 4e 55 4d 50 59, found [1f, 8b, 08, 00, 00, 00]",
        ),
        (of("|u1", "(2, 3)", &[9; 5]), "6 bytes of npy values, found 5"),
        (of("|u1", "(2, 3)", &[9; 7]), "the end after the values that the header announces, found more bytes"),
        (of("|u1", "(0, 3)", &[]), "at least one row, found none"),
        (
            of("|u1", "(6,)", &[9; 6]),
            "an array of two to four dimensions, found 1 ([6]); numpy.reshape(x, (1, -1)) makes it one row, (-1, 1) one column",
        ),
        (
            of("<c8", "(1, 1)", &[0; 8]),
            "an array of type b1, i1 to i8, u1 to u8, or f2, f4 or f8, in either byte order, found <c8",
        ),
        (fortran, "an array in C order, as its rows stay on disk, found one in Fortran order"),
    ];
    for (bytes, message) in cases {
        refused(open(&bytes, None), &format!("{name}: expected {message}"));
    }
    refused(
        open(&of("|u1", "(2, 3)", &[9; 6]), Some("gaussian:4")),
        &format!("{name}: expected rows of 4 values, the visible units gaussian:4, found rows of 3"),
    );
    refused(
        OnDisk::open(folder.join("none.npy"), None),
        &format!("{}: No such file or directory (os error 2)", folder.join("none.npy").display()),
    );
    refused(OnDisk::open("/dev/zero", None), "/dev/zero: expected a regular file, found a device or a pipe");

    // An invalid value is reported when its row is read, with its position in the file.
    let numbers = |x: f32| {
        [[0.5f32; 20], [0.5; 20].map(|_| x)].concat().iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()
    };
    for (x, visible, message) in [
        (1.5, None, "values within [0, 1], found 1.5 in row 4, column 0"),
        (-0.25, None, "values within [0, 1], found -0.25 in row 4, column 0"),
        (f32::INFINITY, None, "values within [0, 1], found inf in row 4, column 0"),
        (f32::NAN, None, "no missing value, as rows stay on disk, found NaN in row 4, column 0"),
        (f32::NAN, Some("gaussian:5"), "no missing value, as rows stay on disk, found NaN in row 4, column 0"),
        (f32::INFINITY, Some("gaussian:5"), "a finite number in column 0 (gaussian), found inf in row 4"),
        (1.5, Some("binary:3,gaussian:2"), "a value within [0, 1] in column 0 (binary), found 1.5 in row 4"),
    ] {
        let data = open(&of("<f4", "(8, 5)", &numbers(x)), visible).expect("a file");
        data.select(&[3, 0]).expect("right rows");
        refused(data.select(&[3, 4, 0]), &format!("{name}: expected {message}"));
    }
    let data = open(&of("|u1", "(3, 2)", &[0, 1, 2, 1, 5, 1]), Some("potts:2x3")).expect("a file");
    refused(
        data.select(&[1, 2]),
        &format!("{name}: expected a state of potts:2x3, a whole number from 0 to 2, found 5 in row 2, column 0"),
    );
    let data = open(&of("|b1", "(2, 2)", &[0, 1, 1, 7]), None).expect("a file");
    refused(
        data.select(&[0, 1]),
        &format!("{name}: expected bytes 0 or 1 for False and True, found 7 in row 1, column 1"),
    );
    let data = open(&of("<i2", "(2, 1)", &[1, 0, 2, 0]), None).expect("a file");
    refused(data.select(&[1]), &format!("{name}: expected values within [0, 1], found 2 in row 1, column 0"));
}

/// Another program writes to an open file.
#[test]
fn files_that_change() {
    let path = folder("change").join("x.npy");
    let name = path.display().to_string();
    write(&path, "|u1", "(6, 4)", &[0, 1].repeat(12));
    let data = OnDisk::open(&path, None).expect("bits");
    let file = OpenOptions::new().write(true).open(&path).expect("a file");
    let at = file.metadata().expect("a size").len();
    file.write_all_at(&[2], at - 3).expect("written");
    let message = "bits, 0 or 1, as all values were when the file was opened, found 2 in row 5, column 1";
    refused(data.select(&[0, 5]), &format!("{name}: expected {message}"));
    file.set_len(at - 9).expect("cut off");
    let rows = |rows: &[usize], threads| in_pool(threads, || data.select(rows));
    rows(&[2, 0, 1], 2).expect("they are still there");
    for threads in [1, 2, 3] {
        let message = "6 rows, as when it was opened, found 3: the file has become shorter";
        refused(rows(&[0, 3, 2], threads), &format!("{name}: expected {message}"));
        refused(rows(&[2, 3, 4], threads), &format!("{name}: expected {message}"));
    }
    let mut epochs = Epochs::new(true, Binarise::Sample, 1).expect("no levels");
    epochs.show_part(&data, 0, 0..6).expect_err("rows are gone");
}
