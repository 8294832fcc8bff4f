//! Data from files: arrays of any type and order, archives, tables of text, sparse text, labels, missing values and scales.

use harmonium::{
    Dataset, Scale, Segments,
    formats::{
        Column, Images, LabelSource, Labels, Reading, labels::with_labels, labels::without_labels, open, read_within,
    },
    scale::as_numbers,
};
use std::path::PathBuf;

fn digits(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/digits").join(name)
}

fn numbers() -> Reading {
    Reading { as_numbers: true, ..Reading::default() }
}

fn column(text: &str) -> LabelSource {
    LabelSource::Column(text.parse().expect("a column"))
}

#[track_caller]
fn read(text: &str, name: &str, how: &Reading) -> Images {
    how.read(text.as_bytes(), name).expect("a table")
}

#[track_caller]
fn fails(text: &str, name: &str, how: &Reading, message: &str) {
    let found = how.read(text.as_bytes(), name).err().map_or("no error".into(), |problem| problem.to_string());
    assert_eq!(found, format!("{name}: {message}"), "{text}");
}

fn npy(descr: &str, order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

fn values(images: Images) -> Vec<f32> {
    images.rows.rows().to_vec()
}

/// The files of the same digits by NumPy and scikit-learn have the same rows.
#[test]
fn digits_are_the_same_in_every_format() {
    let expected = numbers().open(digits("f8.npy")).expect("digits");
    assert_eq!((expected.rows.len(), expected.rows.units(), expected.img_shape), (40, 64, None));
    assert_eq!(expected.rows.segments().to_string(), "gaussian:64");
    // The first line of the first digit, a 0.
    let expected = values(expected);
    assert_eq!(expected[..8], [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0]);
    for (name, shape) in [
        ("big-endian-fortran.npy", None),
        ("pictures.npy", Some((8, 8))),
        ("channel-first.npy", Some((8, 8))),
        ("channels.npy", None),
        ("digits.npz", None),
        ("digits.svm", None),
    ] {
        let images = numbers().open(digits(name)).expect(name);
        assert_eq!(images.img_shape, shape, "{name}");
        assert!(values(images) == expected, "{name}");
    }
    let labels = [
        ("f8.npy", LabelSource::File(digits("labels.npy"))),
        ("digits.npz", LabelSource::Own),
        ("digits.svm", LabelSource::Own),
        ("digits.csv", column("-1")),
        ("digits.csv", column("64")),
    ];
    for (name, labels) in labels {
        let images = Reading { labels, ..numbers() }.open(digits(name)).expect(name);
        let found = images.labels.clone().expect("labels");
        assert_eq!(found.names(), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "{name}");
        assert_eq!(found.states()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1].map(Some), "{name}");
        assert!(values(images) == expected, "{name}");
    }
}

#[test]
fn every_type_of_an_array_is_read() {
    let signed = |width: usize, big: bool| {
        let bytes = |x: i64| match big {
            true => x.to_be_bytes()[8 - width..].to_vec(),
            false => x.to_le_bytes()[..width].to_vec(),
        };
        [-3, 0, 1, 100].iter().flat_map(|&x| bytes(x)).collect::<Vec<u8>>()
    };
    for (width, descr) in [(1, "|i1"), (2, "<i2"), (4, "<i4"), (8, "<i8"), (2, ">i2"), (4, ">i4"), (8, ">i8")] {
        let bytes = npy(descr, "False", "(2, 2)", &signed(width, descr.starts_with('>')));
        let found = numbers().read(&bytes[..], "x").expect(descr);
        assert_eq!(values(found), [-3.0, 0.0, 1.0, 100.0], "{descr}");
    }
    for (descr, bytes, number) in [
        ("<u2", u16::MAX.to_le_bytes().to_vec(), 65535.0),
        (">u4", u32::MAX.to_be_bytes().to_vec(), u32::MAX as f32),
        ("<u8", u64::MAX.to_le_bytes().to_vec(), u64::MAX as f32),
        (">f4", (-1.5f32).to_be_bytes().to_vec(), -1.5),
        (">f8", 1e10f64.to_be_bytes().to_vec(), 1e10),
        // IEEE 754: -2, the greatest finite number, the least normal and the least of all.
        ("<f2", vec![0x00, 0xc0], -2.0),
        (">f2", vec![0x7b, 0xff], 65504.0),
        ("<f2", vec![0x00, 0x04], 2f32.powi(-14)),
        ("<f2", vec![0x01, 0x00], 2f32.powi(-24)),
    ] {
        let bytes = npy(descr, "False", "(1, 1)", &bytes);
        assert_eq!(values(numbers().read(&bytes[..], "x").expect(descr)), [number], "{descr}");
    }
    // Integers 0 and 1 are bits and need no notice. Eight-bit values of at most 1 are taken as bits.
    let bits = npy("<i4", "True", "(2, 2)", &[1i32, 0, 0, 1].map(i32::to_le_bytes).concat());
    let images = read_within(&bits[..], "x", 1 << 20).expect("bits");
    assert_eq!((images.assumed.clone(), values(images)), (None, vec![1.0, 0.0, 0.0, 1.0]));
    let images = read_within(&npy("|u1", "True", "(2, 3)", &[1, 2, 3, 4, 5, 6])[..], "x", 1 << 20).expect("bytes");
    assert_eq!(values(images), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0].map(|x: f32| x / 255.0));
}

#[test]
fn pictures_keep_their_shape() {
    let shape = |shape: &str, n: usize| {
        let images = read_within(&npy("|u1", "False", shape, &vec![200; n])[..], "x", 1 << 20).expect(shape);
        (images.rows.len(), images.rows.units(), images.img_shape)
    };
    assert_eq!(shape("(5, 2, 3)", 30), (5, 6, Some((2, 3))));
    assert_eq!(shape("(5, 2, 3, 1)", 30), (5, 6, Some((2, 3))));
    assert_eq!(shape("(5, 1, 2, 3)", 30), (5, 6, Some((2, 3))));
    assert_eq!(shape("(5, 2, 1, 3)", 30), (5, 6, None));
    assert_eq!(shape("(2, 3, 2, 2)", 24), (2, 12, None));
}

#[test]
fn tables_of_text_are_told_apart() {
    for (text, name, assumed) in [
        ("0,0.5\n1,0.25\n", "a.csv", "2 × 2, commas between fields, no header"),
        (
            "\u{feff}x, y\r\n0, 0.5\r\n1, 0.25\r\n",
            "a.CSV",
            "2 × 2, commas between fields, the first line names the columns",
        ),
        ("# by hand\n0;.5\n\n1;2.5e-1", "a.txt", "2 × 2, semicolons between fields, no header"),
        ("0\t0.5\n1\t0.25\n", "a.tsv", "2 × 2, tabs between fields, no header"),
        ("  0   0.5\n# between\n\n 1  0.25  \n", "a.data", "2 × 2, blanks between fields, no header"),
        (
            "\"x, or so\",y\n\"0\",0.5\n1,\"0.25\"\n",
            "a.csv",
            "2 × 2, commas between fields, the first line names the columns",
        ),
    ] {
        let images = read(text, name, &Reading::default());
        assert_eq!(images.assumed.as_deref(), Some(assumed), "{text}");
        assert_eq!(values(images), [0.0, 0.5, 1.0, 0.25], "{text}");
    }
    let states = Reading { visible: Some("potts:2x3".parse::<Segments>().expect("laws")), ..Reading::default() };
    assert_eq!(values(read("0,2\n1,0\n", "a.csv", &states))[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn labels_may_be_words() {
    let text = "size,species,colour\n1,versicolor,0\n0,setosa,1\n1,,1\n0,versicolor,0\n";
    for label in ["species", "1", "-2"] {
        // With columns by number, the other columns show that the first line is a header of words.
        let images = read(text, "iris.csv", &Reading { labels: column(label), ..Reading::default() });
        let labels = images.labels.expect("labels");
        assert_eq!(labels.names(), ["setosa", "versicolor"], "{label}");
        assert_eq!(labels.states(), [Some(1), Some(0), None, Some(1)], "{label}");
        assert_eq!(images.rows.rows().to_vec(), [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0], "{label}");
    }
    // Whole numbers are sorted by value, for any spelling.
    let images = read("0,10\n1,9.0\n0,+9\n1,1e1\n", "a.csv", &Reading { labels: column("1"), ..Reading::default() });
    let labels = images.labels.expect("labels");
    assert_eq!((labels.names(), labels.states()), (&["9".into(), "10".into()][..], &[1, 0, 0, 1].map(Some)[..]));
    let by = labels.by(&["10", "9", "8"].map(String::from), "x").expect("the same names");
    assert_eq!(by.states(), [0, 1, 1, 0].map(Some));
    let problem = labels.by(&["9".into(), "8".into()], "x").expect_err("no 10");
    assert_eq!(problem.to_string(), "x: expected labels of 9, 8, found 10 in row 0");
}

#[test]
fn labels_stand_behind_the_rows() {
    let labels = read("0,b\n1,a\n", "a.csv", &Reading { labels: column("1"), ..Reading::default() }).labels;
    let labels: Labels = labels.expect("labels");
    let bytes = Dataset::from_u8(vec![0, 51, 255, 0], 2).expect("rows");
    let joined = labels.beside(&bytes).expect("rows");
    assert_eq!(joined.segments().to_string(), "binary:2,potts:1x2");
    assert_eq!(joined.rows().to_vec(), [0.0, 0.2, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
    assert!(matches!(joined.rows().values(), harmonium::Values::U8(_)), "eight bits stay eight bits");
    let visible: Segments = "binary:2,potts:1x2".parse().expect("laws");
    assert_eq!(without_labels(visible, 2), Some("binary:2".parse().expect("laws")));
    assert_eq!((without_labels(visible, 3), without_labels("potts:1x2".parse().expect("laws"), 2)), (None, None));
    // A site joined to others leaves those unchanged.
    let sites: Segments = "potts:3x2".parse().expect("laws");
    let more = with_labels(sites, 2).expect("laws");
    assert_eq!((more.to_string(), without_labels(more, 2)), ("potts:4x2".into(), Some(sites)));
    assert!(labels.beside(&Dataset::from_u8(vec![0; 3], 1).expect("rows")).is_err());
}

#[test]
fn sparse_text_becomes_dense() {
    let images = read("1 1:0.5 3:1\n# all\n-1 qid:7 2:0.25 # end\n+1\n", "a.svm", &numbers());
    assert_eq!(images.rows.rows().to_vec(), [0.5, 0.0, 1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(images.assumed.as_deref(), Some("columns are counted from 1"));
    let how = Reading { labels: LabelSource::Own, ..numbers() };
    let images = read("1 3:1 0:0.5\n-1 2:0.25", "a.libsvm", &how);
    assert_eq!(images.rows.rows().to_vec(), [0.5, 0.0, 0.0, 1.0, 0.0, 0.0, 0.25, 0.0]);
    let labels = images.labels.expect("labels");
    assert_eq!((labels.names(), labels.states()), (&["-1".into(), "1".into()][..], &[Some(1), Some(0)][..]));
    // As many columns as there are units.
    let how = Reading { visible: Some("gaussian:4".parse().expect("laws")), ..Reading::default() };
    assert_eq!(read("1 1:2", "a.svm", &how).rows.rows().to_vec(), [2.0, 0.0, 0.0, 0.0]);
}

#[test]
#[rustfmt::skip]
fn what_is_wrong_with_text_has_a_place() {
    let (any, named) = (Reading::default(), |label| Reading { labels: column(label), ..Reading::default() });
    let number = "expected a finite number, or nothing, NA or ?, found ";
    fails("", "a.csv", &any, "expected at least one row, found none");
    fails("a,b\n", "a.csv", &any, "expected at least one row, found none");
    fails("a,b\n1,0\n\n1\n", "a.csv", &any, "expected 2 fields in each line as in line 1, found 1 in line 4");
    fails("1 0\n0 1 1\n", "a.txt", &any, "expected 2 fields in each line as in line 1, found 3 in line 2");
    fails("a,b\n1,0\n# c\n0,x\n", "a.csv", &any, &format!("{number}x in line 4, column 1 (b); a column of words can be the labels"));
    fails("1,0\n0,inf\n", "a.csv", &any, &format!("{number}inf in line 2, column 1; a column of words can be the labels"));
    fails("1,0\n1e39,1\n", "a.csv", &named("1"), &format!("{number}1e39 in line 2, column 0"));
    fails("1,0\n0.5,7\n", "a.csv", &any, "expected values within [0, 1], found 7 in row 1, column 1");
    fails("1,0\n0,1.5\n", "a.csv", &named("1"), "expected labels that are words or whole numbers, found 1.5 in line 2, column 1");
    fails("a,b\n1,0\n", "a.csv", &named("c"), "expected labels in one of the columns a, b, found c");
    fails("1,0\n", "a.csv", &named("2"), "expected labels in one of 2 columns, 0 to 1, found 2");
    fails("1,0\n", "a.csv", &named("-3"), "expected labels in one of 2 columns, 0 to 1, found -3");
    fails("1\n0\n", "a.csv", &named("0"), "expected at least one column besides the labels, found none");
    fails("1,0\0\n", "a.csv", &any, "expected a table of text, found a byte 0");
    fails("1,0\n", "a.csv", &Reading { labels: LabelSource::Own, ..Reading::default() },
        "expected a file with labels of its own: MNIST's folder, an svmlight file or an npz file with y_train, y, labels or target, found none");
    fails("1,0\n", "a.csv", &Reading { array: Some("x".into()), ..Reading::default() },
        "expected an npz file with an array x, found text named *.csv, *.tsv, *.txt or *.data");
    fails("0,1\n0.5,1\n", "a.csv", &Reading { max_bytes: 24, ..Reading::default() }, "expected rows that take at most 24 bytes of memory, found 32 bytes by line 2");
    fails("x 1:2\n", "a.svm", &any, "expected a number as label, found x in line 1");
    fails("1.5 1:2\n", "a.svm", &Reading { labels: LabelSource::Own, ..Reading::default() }, "expected a whole number as label, found 1.5 in line 1");
    for word in ["1", "a:1", "1:x", "-1:1", "1:inf", "4294967295:1", "1:2:3"] {
        fails(&format!("1 2:0\n1 {word}\n"), "a.svm", &any, &format!("expected COLUMN:VALUE, a whole number and a finite one, found {word} in line 2"));
    }
    fails("1 3:1 2:1 3:0\n", "a.svm", &any, "expected each column once, found 3 twice in line 1");
    fails("1 4294967294:1\n1 1:1\n", "a.svm", &Reading { max_bytes: 1 << 20, ..Reading::default() },
        "expected rows that take at most 1048576 bytes of memory, found 2 × 4294967294 values, 34359738352 bytes");
    fails("PK\x03\x04 and more", "a.npz", &any, "expected a zip archive of npy arrays, found invalid Zip archive: Could not find EOCD");
}

#[test]
fn what_is_missing_is_told() {
    let missing = "1,?\nNA,0.5\n,nan\n";
    let images = read(missing, "a.csv", &numbers());
    let assumed = "3 × 2, commas between fields, no header; 4 of 6 values are missing";
    assert_eq!(images.assumed.as_deref(), Some(assumed));
    assert_eq!(
        images.rows.rows().to_vec().iter().map(|x| x.is_nan()).collect::<Vec<_>>(),
        [false, true, true, false, true, true]
    );
    let states = Reading { visible: Some("binary:1,potts:1x2".parse().expect("laws")), ..Reading::default() };
    let found = read("0.5,1\n?,?\n", "a.csv", &states).rows.rows().to_vec();
    assert_eq!(found[..3], [0.5, 0.0, 1.0]);
    assert!(found[3..].iter().all(|x| x.is_nan()));
}

#[test]
fn columns_come_to_the_unit_interval_and_back() {
    let rows = numbers().open(digits("f8.npy")).expect("digits").rows;
    let visible: Segments = "binary:64".parse().expect("laws");
    let max = Scale::max(rows.rows(), visible).expect("a scale");
    assert_eq!((max.mean(), max.deviation()), (&[0.0; 64][..], &[16.0; 64][..]));
    let (scaled, outside) = max.apply_for(&rows, visible).expect("rows");
    assert_eq!((scaled.segments(), outside), (visible, 0));
    let mut back = scaled.rows().to_vec();
    assert!(back.iter().zip(rows.rows().to_vec()).all(|(&x, y)| x == y / 16.0));
    max.undo(&mut back);
    assert_eq!(back, rows.rows().to_vec());
    let each = Scale::min_max(rows.rows(), visible);
    let (scaled, outside) = each.apply_for(&rows, visible).expect("rows");
    assert_eq!(outside, 0);
    for column in 0..64 {
        let values: Vec<f32> = (0..40).map(|row| scaled.rows().value(row, column)).collect();
        let ends = (values.iter().copied().fold(1.0, f32::min), values.iter().copied().fold(0.0, f32::max));
        // A constant column stays at 0.
        assert!(ends == (0.0, 1.0) || ends == (0.0, 0.0), "column {column}: {ends:?}");
    }
    assert_eq!((max.unscaled(visible), each.unscaled(visible)), (as_numbers(visible), as_numbers(visible)));
    // Values of other rows are clipped to the interval, and counted.
    let others =
        Dataset::of_numbers([vec![-1.0, 17.0, 16.0], vec![0.0; 61]].concat(), as_numbers(visible)).expect("rows");
    let (moved, outside) = max.apply_for(&others, visible).expect("rows");
    assert_eq!((&moved.rows().to_vec()[..3], outside), (&[0.0, 1.0, 1.0][..], 2));
    let problem = Scale::max(others.rows(), visible).expect_err("below 0").to_string();
    assert_eq!(problem, "rows: row 0, column 0, binary: expected values of at least 0 for the scale max, found -1");
    // Each segment has a scale of its own, and states have none.
    let mixed: Segments = "binary:1,potts:1x2,gaussian:1".parse().expect("laws");
    let rows = vec![4.0, 0.0, 1.0, -8.0, 2.0, 1.0, 0.0, 6.0];
    let rows = Dataset::of_numbers(rows, as_numbers(mixed)).expect("rows");
    let scale = Scale::max(rows.rows(), mixed).expect("a scale");
    assert_eq!(scale.deviation(), [4.0, 1.0, 1.0, 8.0]);
    let each = Scale::min_max(rows.rows(), mixed);
    assert_eq!((each.mean(), each.deviation()), (&[2.0, 0.0, 0.0, -8.0][..], &[2.0, 1.0, 1.0, 14.0][..]));
    assert_eq!(each.apply_for(&rows, mixed).expect("rows").0.rows().to_vec(), [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn columns_are_named_or_numbered() {
    assert_eq!("-1".parse::<Column>().expect("a column"), Column::Number(-1));
    assert_eq!("class".parse::<Column>().expect("a column"), Column::Name("class".into()));
    assert!("".parse::<Column>().is_err());
    let how = Reading { labels: column("class"), ..Reading::default() };
    let problem = how.open(digits("f8.npy")).expect_err("no names").to_string();
    assert!(problem.ends_with("expected the number of a column, as the file names none, found class"), "{problem}");
    let how = Reading { labels: LabelSource::File(digits("f8.npy")), ..Reading::default() };
    let problem = how.open(digits("channel-first.npy")).expect_err("no labels").to_string();
    assert!(problem.ends_with("f8.npy: expected one column of labels, found 64"), "{problem}");
    assert!(open(digits("digits.csv")).expect_err("beyond 1").to_string().contains("within [0, 1]"));
}
