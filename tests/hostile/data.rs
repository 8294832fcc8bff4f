//! IDX and npy files.

use super::Table;
use flate2::{Compression, write::GzEncoder};
use harmonium::formats::read_within;
use harmonium::{
    idx::{read_idx, read_idx_within},
    npy::{read_npy, read_npy_within},
};
use std::io::{Read, repeat};

pub fn idx(magic: [u8; 4], sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

pub fn gzip(bytes: impl Read) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::copy(&mut { bytes }, &mut encoder).expect("packed");
    encoder.finish().expect("packed")
}

#[test]
#[rustfmt::skip]
fn idx_files() {
    let mut table = Table::default();
    let good = idx([0, 0, 8, 3], &[2, 2, 3], &[1; 12]);
    let magic = |magic| idx(magic, &[2, 2, 3], &[1; 12]);
    let type_of = "x: expected IDX values of type 0x08, eight bits unsigned, found ";
    let sizes = |sizes: &[u32], values: usize| idx([0, 0, 8, sizes.len() as u8], sizes, &vec![1; values]);
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], "x: expected 4 bytes of IDX header, found 0".into()),
        ("half a magic number", vec![0, 0, 8], "x: expected 4 bytes of IDX header, found 3".into()),
        ("another magic number", magic([0, 1, 8, 3]), "x: expected an IDX file, which begins with two bytes 0, found [00, 01]".into()),
        ("a picture", b"\x89PNG\r\n\x1a\n".to_vec(), "x: expected an IDX file, which begins with two bytes 0, found [89, 50]".into()),
        ("a zip archive", b"PK\x03\x04....".to_vec(), "x: expected an IDX file, which begins with two bytes 0, found [50, 4b]".into()),
        ("signed bytes", magic([0, 0, 9, 3]), format!("{type_of}0x09, signed eight-bit values")),
        ("shorts", magic([0, 0, 0x0b, 3]), format!("{type_of}0x0b, 16-bit integers")),
        ("integers", magic([0, 0, 0x0c, 3]), format!("{type_of}0x0c, 32-bit integers")),
        ("floats", magic([0, 0, 0x0d, 3]), format!("{type_of}0x0d, 32-bit floating-point numbers")),
        ("doubles", magic([0, 0, 0x0e, 3]), format!("{type_of}0x0e, 64-bit floating-point numbers")),
        ("no type", magic([0, 0, 0xff, 3]), format!("{type_of}0xff, no type of the IDX format")),
        ("no dimensions", sizes(&[], 1), "x: expected at least one dimension, found none".into()),
        ("sizes cut off", idx([0, 0, 8, 3], &[2, 2], &[1]), "x: expected 12 bytes of IDX header, found 9".into()),
        ("one value short", sizes(&[2, 2, 3], 11), "x: expected 12 bytes of IDX values, found 11".into()),
        ("one value more", sizes(&[2, 2, 3], 13), "x: expected the end after the values that the header announces, found more bytes".into()),
        ("more than 4 GiB", sizes(&[1 << 16, 1 << 16, 2], 1), "x: expected at most 4294967296 values, found 65536 × 65536 × 2".into()),
        ("a product of 2^64", sizes(&[1 << 31, 1 << 31, 4], 1), "x: expected at most 4294967296 values, found 2147483648 × 2147483648 × 4".into()),
        ("4 GiB that do not come", sizes(&[1 << 16, 1 << 16], 1), "x: expected 4294967296 bytes of IDX values, found 1".into()),
        ("nearly as much", sizes(&[1 << 16, 65_535], 100), "x: expected 4294901760 bytes of IDX values, found 100".into()),
        ("255 dimensions", sizes(&[u32::MAX; 255], 0), format!("x: expected at most 4294967296 values, found {}", ["4294967295"; 255].join(" × "))),
        ("gzip cut off", gzip(&good[..])[..20].to_vec(), "x: incomplete deflate stream".into()),
        ("gzip and nothing", vec![0x1f, 0x8b], "x: unexpected end of file".into()),
        ("gzip of another kind", vec![0x1f, 0x8b, 9, 0, 0, 0, 0, 0, 0, 0, 0], "x: invalid gzip header".into()),
        ("gzip with a wrong checksum", { let mut bytes = gzip(&good[..]); let at = bytes.len() - 8; bytes[at] ^= 1; bytes },
            "x: corrupt gzip stream does not have a matching checksum".into()),
        ("gzip of a picture", gzip(&b"\x89PNG\r\n"[..]), "x: expected an IDX file, which begins with two bytes 0, found [89, 50]".into()),
        ("a gzip bomb behind the values", gzip(idx([0, 0, 8, 1], &[6], &[1; 6]).chain(repeat(0).take(1 << 28))),
            "x: expected the end after the values that the header announces, found more bytes".into()),
        ("a gzip bomb beyond the limit", gzip(idx([0, 0, 8, 3], &[u32::MAX, u32::MAX, 1], &[]).chain(repeat(0).take(1 << 20))),
            "x: expected at most 4294967296 values, found 4294967295 × 4294967295 × 1".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, read_idx(&bytes[..], "x"), message);
    }
    table.case("a row of nothing", read_idx(&sizes(&[3, 0], 0)[..], "x").and_then(|idx| idx.into_dataset()),
        "rows: expected IDX dimensions with at least one value in a row, and rows that fit in memory, found [3, 0]");
    table.case("no rows of 2^64 values", read_idx(&sizes(&[0, 1 << 31, 1 << 31, 4], 0)[..], "x").and_then(|idx| idx.into_dataset()),
        "rows: expected IDX dimensions with at least one value in a row, and rows that fit in memory, found [0, 2147483648, 2147483648, 4]");
    table.case("images as labels", read_idx(&good[..], "x").and_then(|idx| idx.into_labels()), "labels: expected one dimension, found 3");
    table.case("pairs as labels", read_idx(&sizes(&[1, 2], 2)[..], "x").and_then(|idx| idx.into_labels()), "labels: expected one dimension, found 2");
    // The header alone shows that the caller's limit is exceeded, for a stream of any length.
    let bomb = gzip(idx([0, 0, 8, 2], &[1 << 16, 1 << 12], &[]).chain(repeat(0).take(1 << 28)));
    table.case("a gzip bomb against the caller's limit", read_idx_within(&bomb[..], "x", 1 << 20), "x: expected at most 1048576 values, found 65536 × 4096");
    table.case("one byte too many", read_idx_within(&good[..], "x", 11), "x: expected at most 11 values, found 2 × 2 × 3");
    read_idx_within(&good[..], "x", 12).expect("as many as allowed");
    table.judge(33);
}

fn npy(version: [u8; 2], header: &str, values: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend(version);
    match version[0] {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

#[test]
#[rustfmt::skip]
fn npy_files() {
    let mut table = Table::default();
    let array = |descr: &str, shape: &str, values: &[u8]| {
        npy([1, 0], &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"), values)
    };
    let f32s = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let header = "x: expected an npy header {'descr': '…', 'fortran_order': False, 'shape': (rows, units), }, found ";
    let of_type = "x: expected an array of type b1, i1 to i8, u1 to u8, or f2, f4 or f8, in either byte order, found ";
    let fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2), }";
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], "x: expected 8 bytes of npy header, found 0".into()),
        ("another file", b"GIF89a..".to_vec(), "x: expected an npy file, which begins with 93 4e 55 4d 50 59, found [47, 49, 46, 38, 39, 61]".into()),
        ("version 4.0", npy([4, 0], "", &[]), "x: expected npy format 1.0, 2.0 or 3.0, found 4.0".into()),
        ("version 1.1", npy([1, 1], "", &[]), "x: expected npy format 1.0, 2.0 or 3.0, found 1.1".into()),
        ("no length", b"\x93NUMPY\x02\x00\x50".to_vec(), "x: expected 4 bytes of npy header, found 1".into()),
        ("half a length", b"\x93NUMPY\x01\x00\x50".to_vec(), "x: expected 2 bytes of npy header, found 1".into()),
        ("a huge header", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "x: expected an npy header of at most 65536 bytes, found 4294967295".into()),
        ("a header cut off", b"\x93NUMPY\x01\x00\x50\x00{".to_vec(), "x: expected 80 bytes of npy header, found 1".into()),
        ("an empty header", npy([1, 0], "", &[]), header.into()),
        ("no dictionary", npy([1, 0], "[1, 2]", &[]), format!("{header}[1, 2]")),
        ("code", npy([1, 0], "{'descr': __import__('os')}", &[]), format!("{header}{{\\'descr\\': __import__(\\'os\\')}}")),
        ("a key twice", npy([1, 0], "{'descr': '|u1', 'descr': '|u1'}", &[]), format!("{header}{{\\'descr\\': \\'|u1\\', \\'descr\\': \\'|u1\\'}}")),
        ("complex numbers", array("<c8", "(1, 1)", &[0; 8]), format!("{of_type}<c8")),
        ("128 bits", array("<f16", "(1, 1)", &[0; 16]), format!("{of_type}<f16")),
        ("no byte order", array("|i8", "(1, 1)", &[0; 8]), format!("{of_type}|i8")),
        ("three bytes", array("<i3", "(1, 1)", &[0; 3]), format!("{of_type}<i3")),
        ("a type that is none", array("", "(1, 1)", &[0; 3]), of_type.into()),
        ("integers beyond bits", array(">i2", "(1, 2)", &[0, 1, 255, 254]), "x: expected values within [0, 1], found -2 in row 0, column 1".into()),
        ("sixteen bits of infinity", array("<f2", "(1, 1)", &[0, 0x7c]), "x: expected values within [0, 1], found inf in row 0, column 0".into()),
        ("objects", array("|O", "(1, 1)", &[0; 8]), format!("{of_type}|O")),
        ("a type of two lines", array("<f\n4", "(1, 1)", &[0; 8]), format!("{of_type}<f\\n4")),
        ("Fortran order cut off", npy([1, 0], fortran, &[0]), "x: expected 2 bytes of npy values, found 1".into()),
        ("no dimension", array("|u1", "()", &[0; 1]), "x: expected an array of two to four dimensions, found 0 ([])".into()),
        ("one dimension", array("|u1", "(4,)", &[0; 4]), "x: expected an array of two to four dimensions, found 1 ([4]); numpy.reshape(x, (1, -1)) makes it one row, (-1, 1) one column".into()),
        ("five dimensions", array("|u1", "(1, 2, 2, 1, 1)", &[0; 4]), "x: expected an array of two to four dimensions, found 5 ([1, 2, 2, 1, 1])".into()),
        ("no rows of 2^64 values", array("|u1", "(0, 4294967296, 4294967296)", &[]), "x: expected an array that fits in memory, found [0, 4294967296, 4294967296]".into()),
        ("pictures of nothing", array("|u1", "(4, 0, 2)", &[]), "x: expected at least one value a row, found [4, 0, 2]".into()),
        ("no columns", array("|u1", "(4, 0)", &[]), "x: expected at least one value a row, found [4, 0]".into()),
        ("a product beyond 64 bits", array("<f8", "(4294967296, 4294967296)", &[]), "x: expected an array that fits in memory, found [4294967296, 4294967296]".into()),
        ("4 EiB that do not come", array("|u1", "(4611686018427387904, 1)", &[0; 9]), "x: expected 4611686018427387904 bytes of npy values, found 9".into()),
        ("one value short", array("|u1", "(2, 2)", &[0; 3]), "x: expected 4 bytes of npy values, found 3".into()),
        ("one value more", array("|u1", "(2, 2)", &[0; 5]), "x: expected the end after the values that the header announces, found more bytes".into()),
        ("no truth value", array("|b1", "(1, 2)", &[1, 2]), "x: expected bytes 0 or 1 for False and True, found 2 in row 0, column 1".into()),
        ("beside NaN", array("<f4", "(2, 2)", &f32s(&[0.0, f32::NAN, -1.0, 0.5])), "x: expected values within [0, 1], found -1 in row 1, column 0".into()),
        ("infinity", array("<f4", "(1, 1)", &f32s(&[f32::INFINITY])), "x: expected values within [0, 1], found inf in row 0, column 0".into()),
        ("below 0", array("<f4", "(1, 1)", &f32s(&[-1.0e-45])), "x: expected values within [0, 1], found -0.000000000000000000000000000000000000000000001401298464324817 in row 0, column 0".into()),
        ("above 1", array("<f8", "(1, 1)", &1.000_000_001f64.to_le_bytes()), "x: expected values within [0, 1], found 1.000000001 in row 0, column 0".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, read_npy(&bytes[..], "x"), message);
    }
    for text in [
        "{",
        "{}",
        "[]",
        "{'descr': '|u1', 'fortran_order': False}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)} 'more'",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), 'extra': 1}",
        "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)}",
        "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 2)}",
        "{'descr': '|u1', 'fortran_order': 0, 'shape': (1, 2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, -2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2.0)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1L, 2L)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,, 2)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999, 1)}",
        "{'descr': '\\x7cu1', 'fortran_order': False, 'shape': (1, 2)}",
    ] {
        let message = format!("{header}{}", text.escape_default());
        table.case(text, read_npy(&npy([1, 0], text, &[0, 0])[..], "x"), &message);
    }
    // Real numbers are in memory twice for a while: as bytes and as numbers.
    let numbers = array("<f4", "(2, 2)", &f32s(&[0.0, 1.0, 0.25, 0.5]));
    let message = "x: expected an array that takes at most 31 bytes of memory, found [2, 2] of type <f4, 32 bytes";
    table.case("one byte too many", read_npy_within(&numbers[..], "x", 31), message);
    read_npy_within(&numbers[..], "x", 32).expect("as many as allowed");
    table.judge(53);
}

/// Streams that are longer than their headers say: each is refused before it uses more than a megabyte.
#[test]
fn text_without_end() {
    let mut table = Table::default();
    let zip = |compressed: &[u8], len: u32| {
        // One deflated file: its header, its bytes, the central directory and its end. The checksum is checked after the values.
        let sizes = [[0; 4], (compressed.len() as u32).to_le_bytes(), len.to_le_bytes()].concat();
        let common = [&[20, 0, 0, 0, 8, 0, 0, 0, 0, 0][..], &sizes, &[5, 0, 0, 0]].concat();
        let local = [&b"PK\x03\x04"[..], &common, b"x.npy", compressed].concat();
        let central = [&b"PK\x01\x02\x14\0"[..], &common, &[0; 14], b"x.npy"].concat();
        let places = [(central.len() as u32).to_le_bytes(), (local.len() as u32).to_le_bytes()].concat();
        let end = [&b"PK\x05\x06\0\0\0\0\x01\0\x01\0"[..], &places, &[0, 0]].concat();
        [local, central, end].concat()
    };
    let deflated = |bytes: &[u8]| {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut &*bytes, &mut encoder).expect("packed");
        encoder.finish().expect("packed")
    };
    let rows = || [b'0', b',', b'1', b'\n'].into_iter().cycle().take(1 << 22).collect::<Vec<u8>>();
    let array = npy([1, 0], "{'descr': '|u1', 'fortran_order': False, 'shape': (16777216, 1), }\n", &vec![0; 1 << 24]);
    let cases: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        (
            "a line",
            "x.txt.gz",
            gzip(repeat(b'1').take(1 << 24)),
            "lines of at most 1048576 bytes, found a longer one, line 1",
        ),
        (
            "a line of sparse text",
            "x.svm",
            gzip(repeat(b'1').take(1 << 24)),
            "lines of at most 1048576 bytes, found a longer one, line 1",
        ),
        (
            "rows",
            "x.csv",
            gzip(&rows()[..]),
            "rows that take at most 1048576 bytes of memory, found 1048592 bytes by line 65537",
        ),
        ("an array in an archive", "x.npz", zip(&deflated(&array), array.len() as u32), ""),
    ];
    for (what, name, bytes, message) in &cases {
        let found = read_within(&bytes[..], name, 1 << 20).err().map_or("no error".into(), |error| error.to_string());
        match message.is_empty() {
            false => table.message(what, &found, &format!("{name}: expected {message}")),
            // The length of the packed bytes depends on the packer.
            true => {
                let begins = "x.npz: expected an array that takes at most ";
                let ends = " bytes of memory, found [16777216, 1] of type |u1, 16777216 bytes";
                assert!(found.starts_with(begins) && found.ends_with(ends), "{found}");
            }
        }
    }
    let field = gzip((&b"\""[..]).chain(repeat(b',').take(1 << 24)));
    table.case(
        "a field",
        read_within(&field[..], "x.csv", 1 << 20),
        "x.csv: expected lines of at most 1048576 bytes, found a longer one, line 1",
    );
    let longer = gzip((&b"PK\x03\x04"[..]).chain(repeat(0).take(1 << 24)));
    table.case(
        "an archive",
        read_within(&longer[..], "x.npz", 1 << 20),
        "x.npz: expected an archive of less than 1048576 bytes of memory, found a longer one",
    );
    table.judge(5);
}
