//! Everything that a user can get wrong, or somebody can put into a file: each is told by one exact message, and none costs
//! memory.

mod oracle;

use flate2::{Compression, write::GzEncoder};
use harmonium::{
    Activations, Algorithm, ChainState, Chains, Checkpoint, Cpu, Dataset, Error, Gemm, Gradient, Isa, Monitor, Purpose,
    Rbm, RbmRef, Result, Rows, Settings, Shape, Trainer, Uniforms, Values,
    checkpoint::{Place, fingerprint},
    idx::read_idx,
    log_partition, model, monitor,
    npy::read_npy,
    raster::{self, Raster, Tiling},
    storage,
};
use oracle::shape;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, repeat},
    path::{Path, PathBuf},
    process::Command,
};

/// How much memory this test's process, and each command that it starts, may take.
const MOST_KIB: u64 = 64 << 10;

fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("hostile").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Collects all that is wrong with the messages, so that one run tells everything.
#[derive(Default)]
struct Table {
    cases: usize,
    wrong: Vec<String>,
}

impl Table {
    fn case<T>(&mut self, what: &str, result: Result<T>, message: &str) {
        let found = result.err().map_or("no error".into(), |error| error.to_string());
        self.message(what, &found, message);
    }

    fn message(&mut self, what: &str, found: &str, message: &str) {
        self.cases += 1;
        if found != message {
            self.wrong.push(format!("{what}:\n  expected {message}\n  found    {found}"));
        }
    }

    #[track_caller]
    fn judge(self, least: usize) {
        assert!(self.wrong.is_empty(), "{} of {}:\n{}", self.wrong.len(), self.cases, self.wrong.join("\n"));
        assert!(self.cases >= least, "only {} cases", self.cases);
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
            assert!(kib < MOST_KIB, "{kib} KiB were taken at the peak");
        }
    }
}

// IDX

fn idx(magic: [u8; 4], sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let sizes = sizes.iter().flat_map(|size| size.to_be_bytes());
    magic.into_iter().chain(sizes).chain(values.iter().copied()).collect()
}

fn gzip(bytes: impl Read) -> Vec<u8> {
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
        ("nothing", vec![], "x: expected 2 bytes of IDX header, found 0".into()),
        ("half a magic number", vec![0, 0, 8], "x: expected 4 bytes of IDX header, found 3".into()),
        ("another magic number", magic([0, 1, 8, 3]), "x: expected an IDX file, which begins with two bytes 0, found [00, 01]".into()),
        ("a picture", b"\x89PNG\r\n\x1a\n".to_vec(), "x: expected an IDX file, which begins with two bytes 0, found [89, 50]".into()),
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
        "rows: expected IDX dimensions that leave at least one value a row, and no more than can be counted, found [3, 0]");
    table.case("no rows of 2^64 values", read_idx(&sizes(&[0, 1 << 31, 1 << 31, 4], 0)[..], "x").and_then(|idx| idx.into_dataset()),
        "rows: expected IDX dimensions that leave at least one value a row, and no more than can be counted, found [0, 2147483648, 2147483648, 4]");
    table.case("images as labels", read_idx(&good[..], "x").and_then(|idx| idx.into_labels()), "labels: expected one dimension, found 3");
    table.judge(27);
}

// npy

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
    let of_type = "x: expected an array of type |u1, |b1, <f4 or <f8 (little-endian), found ";
    let fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2), }";
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], "x: expected 8 bytes of npy header, found 0".into()),
        ("another file", b"GIF89a..".to_vec(), "x: expected an npy file, which begins with 93 4e 55 4d 50 59, found [47, 49, 46, 38, 39, 61]".into()),
        ("version 4.0", npy([4, 0], "", &[]), "x: expected npy format 1.0, 2.0 or 3.0, found 4.0".into()),
        ("version 1.1", npy([1, 1], "", &[]), "x: expected npy format 1.0, 2.0 or 3.0, found 1.1".into()),
        ("no length", b"\x93NUMPY\x02\x00\x50".to_vec(), "x: expected 4 bytes of npy header, found 1".into()),
        ("a huge header", b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "x: expected an npy header of at most 65536 bytes, found 4294967295".into()),
        ("a header cut off", b"\x93NUMPY\x01\x00\x50\x00{".to_vec(), "x: expected 80 bytes of npy header, found 1".into()),
        ("an empty header", npy([1, 0], "", &[]), header.into()),
        ("no dictionary", npy([1, 0], "[1, 2]", &[]), format!("{header}[1, 2]")),
        ("code", npy([1, 0], "{'descr': __import__('os')}", &[]), format!("{header}{{\\'descr\\': __import__(\\'os\\')}}")),
        ("a key twice", npy([1, 0], "{'descr': '|u1', 'descr': '|u1'}", &[]), format!("{header}{{\\'descr\\': \\'|u1\\', \\'descr\\': \\'|u1\\'}}")),
        ("big-endian", array(">f4", "(1, 1)", &[0; 4]), format!("{of_type}>f4")),
        ("integers", array("<i8", "(1, 1)", &[0; 8]), format!("{of_type}<i8")),
        ("objects", array("|O", "(1, 1)", &[0; 8]), format!("{of_type}|O")),
        ("Fortran order", npy([1, 0], fortran, &[0, 0]), "x: expected an array in C order, found Fortran order; save numpy.ascontiguousarray of it".into()),
        ("one dimension", array("|u1", "(4,)", &[0; 4]), "x: expected an array of two dimensions, found 1 ([4])".into()),
        ("three dimensions", array("|u1", "(1, 2, 2)", &[0; 4]), "x: expected an array of two dimensions, found 3 ([1, 2, 2])".into()),
        ("no columns", array("|u1", "(4, 0)", &[]), "x: expected at least one value a row, found [4, 0]".into()),
        ("a product beyond 64 bits", array("<f8", "(4294967296, 4294967296)", &[]), "x: expected an array that fits in memory, found [4294967296, 4294967296]".into()),
        ("4 EiB that do not come", array("|u1", "(4611686018427387904, 1)", &[0; 9]), "x: expected 4611686018427387904 bytes of npy values, found 9".into()),
        ("one value short", array("|u1", "(2, 2)", &[0; 3]), "x: expected 4 bytes of npy values, found 3".into()),
        ("one value more", array("|u1", "(2, 2)", &[0; 5]), "x: expected the end after the values that the header announces, found more bytes".into()),
        ("no truth value", array("|b1", "(1, 2)", &[1, 2]), "x: expected bytes 0 or 1 for False and True, found 2 in row 0, column 1".into()),
        ("NaN", array("<f4", "(2, 2)", &f32s(&[0.0, 1.0, f32::NAN, 0.5])), "x: expected values within [0, 1], found NaN in row 1, column 0".into()),
        ("infinity", array("<f4", "(1, 1)", &f32s(&[f32::INFINITY])), "x: expected values within [0, 1], found inf in row 0, column 0".into()),
        ("below 0", array("<f4", "(1, 1)", &f32s(&[-1.0e-45])), "x: expected values within [0, 1], found -0.000000000000000000000000000000000000000000001401298464324817 in row 0, column 0".into()),
        ("above 1", array("<f8", "(1, 1)", &1.000_000_001f64.to_le_bytes()), "x: expected values within [0, 1], found 1.000000001 in row 0, column 0".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, read_npy(&bytes[..], "x"), message);
    }
    table.judge(27);
}

// Models

fn safetensors(header: &str, data: &[f32]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[test]
#[rustfmt::skip]
fn model_files() {
    let mut table = Table::default();
    let data = [0.5, -0.5, 1.0, 2.0, 3.0];
    let good = r#"{"weights":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"visible_bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"hidden_bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}}"#;
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        safetensors(&good.replacen(from, to, 1), &data)
    };
    let value = |at: usize, x: f32| {
        let mut data = data;
        data[at] = x;
        safetensors(good, &data)
    };
    model::from_bytes(&safetensors(good, &data), "x").expect("a model");
    let file = "x: expected a safetensors file, found ";
    let beyond = format!("{file}a header that goes beyond the end");
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], beyond.clone()),
        ("text", b"hello world".to_vec(), beyond.clone()),
        ("a header of 2^64 - 1 bytes", vec![0xff; 8], beyond.clone()),
        ("a header of 2^63 bytes", [&[0, 0, 0, 0, 0, 0, 0, 0x80][..], b"{}"].concat(), beyond),
        ("no JSON", safetensors("{", &data), format!("{file}EOF while parsing an object at line 1 column 1")),
        ("no tensors", safetensors("{}", &[]), "x: expected a tensor weights, found none".into()),
        ("other tensors", safetensors(r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#, &[]), "x: expected a tensor weights, found a".into()),
        ("no visible bias", with("visible_bias", "visible-bias"), "x: expected a tensor visible_bias, found weights, visible-bias, hidden_bias".into()),
        ("another type", with("F32", "I32"), "x: expected weights of type F32, found I32".into()),
        ("a type that is none", with("F32", "F31"), format!("{file}{}", serde_message(&good.replacen("F32", "F31", 1)))),
        ("flat weights", with("[2,1]", "[2]"), "x: expected weights with 2 dimensions, found [2]".into()),
        ("a bias too deep", with(r#""shape":[1]"#, r#""shape":[1,1]"#), "x: expected hidden_bias with 1 dimensions, found [1, 1]".into()),
        ("transposed weights", with("[2,1]", "[1,2]"), "x: expected visible_bias of shape [1], as weights have it, found [2]".into()),
        ("a shape that does not fit", with("[2,1]", "[2,2]"), format!("{file}{}", serde_message(&good.replacen("[2,1]", "[2,2]", 1)))),
        ("overlapping tensors", with("[8,16]", "[4,12]"), format!("{file}{}", serde_message(&good.replacen("[8,16]", "[4,12]", 1)))),
        ("offsets backwards", with("[16,20]", "[20,16]"), format!("{file}{}", serde_message(&good.replacen("[16,20]", "[20,16]", 1)))),
        ("data cut off", safetensors(good, &data[..4]), "x: expected 20 bytes of tensors, found 16".into()),
        ("data too long", safetensors(good, &[0.0; 6]), "x: expected 20 bytes of tensors, found 24".into()),
        ("NaN", value(1, f32::NAN), "x: expected weights[1] to be a finite number, found NaN".into()),
        ("infinity", value(3, f32::INFINITY), "x: expected visible_bias[1] to be a finite number, found inf".into()),
        ("minus infinity", value(4, f32::NEG_INFINITY), "x: expected hidden_bias[0] to be a finite number, found -inf".into()),
        ("no units", safetensors(r#"{"weights":{"dtype":"F32","shape":[0,1],"data_offsets":[0,0]},"visible_bias":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"hidden_bias":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &[1.0]),
            "x: expected weights: at least one visible and one hidden unit, and at most 2147483647 weights, found 0 × 1".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, model::from_bytes(bytes, "x"), message);
    }
    table.judge(22);
}

/// What the safetensors crate says of a header: its words are not ours to promise, only that they are handed on.
fn serde_message(header: &str) -> String {
    let parsed: std::result::Result<safetensors::tensor::Metadata, _> = serde_json::from_str(header);
    parsed.err().map_or("no error".into(), |error| error.to_string())
}

// Checkpoints

fn checkpoint() -> Checkpoint {
    let cpu = Cpu::detect().expect("a CPU");
    let settings = Settings { algorithm: Algorithm::Pcd { n_chains: 2 }, k: 1, ..Settings::default() };
    Checkpoint {
        rbm: Rbm::new(shape(3, 2), 1),
        settings,
        trainer: Trainer::new(&cpu, shape(3, 2), settings).expect("a trainer").state().expect("a state"),
        place: Place::default(),
        log: Vec::new(),
        data: fingerprint(Rows::new(Values::U8(&[1, 2, 3]), 3).expect("rows")),
        options: BTreeMap::new(),
        version: "0".into(),
    }
}

/// Makes the checksum right.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.windows(7).position(|part| part == b"sha256:").expect("a checksum") + 7;
    bytes[at..at + 64].fill(b'0');
    let digits: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    bytes[at..at + 64].copy_from_slice(digits.as_bytes());
    bytes
}

#[test]
#[rustfmt::skip]
fn checkpoint_files() {
    let mut table = Table::default();
    let good = checkpoint().to_bytes().expect("bytes");
    let text = String::from_utf8_lossy(&good[..good.len() - 100]).into_owned();
    // As long as what it replaces, so that the header's length stays right.
    let with = |from: &str, to: &str| {
        let (from, to) = (from.replace('\'', "\\\""), to.replace('\'', "\\\""));
        assert!(text.contains(&from), "{from} in {text}");
        let at = good.windows(from.len()).position(|part| part == from.as_bytes()).expect("the place");
        let mut bytes = good.clone();
        bytes.splice(at..at + from.len(), format!("{to:<width$}", width = from.len()).into_bytes());
        assert_eq!(bytes.len(), good.len());
        sealed(bytes)
    };
    assert!(sealed(good.clone()) == good);
    let model = model::to_bytes(Rbm::new(shape(3, 2), 1).view()).expect("bytes");
    let mut unsealed = good.clone();
    let last = unsealed.len() - 1;
    unsealed[last] ^= 1;
    let (before, now) = (digits(&good), digits(&sealed(unsealed.clone())));
    let other = "x: expected a checkpoint of harmonium, found another file, or the beginning of one";
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("nothing", vec![], other.into()),
        ("a model", model, other.into()),
        ("the beginning", good[..100].to_vec(), other.into()),
        ("one bit", unsealed, format!("x: expected checksum {before}, found {now}: the file is damaged or cut off")),
        ("another format", with("'format':1", "'format':2"), "x: expected a checkpoint of format 1, found 2".into()),
        ("no format", with("'format'", "'fOrmat'"), "x: expected format to be a whole number, found null".into()),
        ("no JSON", with("{'algorithm'", "['algorithm'"), "x: expected a JSON object after the checksum, found expected `,` or `]` at line 1 column 13".into()),
        ("another algorithm", with("'pcd'", "'abc'"), "x: expected algorithm to be cd or pcd, found abc".into()),
        ("another monitor", with("'pl'", "'xx'"), "x: expected monitor to be none, pl, pl-exact or reconstruction, found xx".into()),
        ("k that is a list", with("'k':1", "'k':["), "x: expected a JSON object after the checksum, found expected value at line 1 column 138".into()),
        ("k below 0", with("'epoch':0,'format':1,'k':1", "'epoch':0,'format':1,'k':-"), "x: expected a JSON object after the checksum, found invalid number at line 1 column 138".into()),
        ("no seed", with("'seed':123", "'sEed':123"), "x: expected seed to be a whole number, found null".into()),
        ("a fraction of an epoch", with("'epoch':0", "'epoch':."), "x: expected a JSON object after the checksum, found expected value at line 1 column 120".into()),
        ("not a finite sum", with("'watched':'0.0'", "'watched':'NaN'"), "x: expected watched to be a finite number, found \\\"NaN\\\"".into()),
        ("no finite time", with("'seconds':'0.0'", "'seconds':'inf'"), "x: expected seconds to be a finite number, found \\\"inf\\\"".into()),
        ("a log that is none", with("'log':[]", "'log':{}"), "x: expected log to be rows of updates, monitor and seconds, found others".into()),
        ("a row of it", with("'log':[]", "'log':[0"), "x: expected a JSON object after the checksum, found expected `,` or `]` at line 1 column 157".into()),
        ("options that are none", with("'options':{}", "'options':[]"), "x: expected options to be names and texts, found others".into()),
        ("no chains", with("\"chains\"", "\"chain5\""), "x: expected a tensor chains, found chain5, betas, hidden_bias, visible_bias, weights".into()),
        ("chains for another layer", with("\"shape\":[2,1]", "\"shape\":[1,2]"), "x: expected chains of shape [2, 1], as betas and weights have it, and at least one, found [1, 2]".into()),
        ("betas of another type", with("\"betas\":{\"dtype\":\"F32\"", "\"betas\":{\"dtype\":\"I32\""), "x: expected betas of type F32, found I32".into()),
    ];
    for (what, bytes, message) in &cases {
        table.case(what, Checkpoint::from_bytes(bytes, "x"), message);
    }
    table.judge(21);
}

fn digits(bytes: &[u8]) -> String {
    let at = bytes.windows(7).position(|part| part == b"sha256:").expect("a checksum") + 7;
    String::from_utf8(bytes[at..at + 64].to_vec()).expect("digits")
}

// Arguments of the library

#[test]
#[rustfmt::skip]
fn arguments() {
    let mut table = Table::default();
    let cpu = Cpu::detect().expect("a CPU");
    let gemm = Gemm::detect().expect("a CPU");
    let of = "shape: expected at least one visible and one hidden unit, and at most 2147483647 weights, found ";
    table.case("no visible units", Shape::new(0, 5), &format!("{of}0 × 5"));
    table.case("no hidden units", Shape::new(5, 0), &format!("{of}5 × 0"));
    table.case("2^31 weights", Shape::new(1 << 16, 1 << 15), &format!("{of}65536 × 32768"));
    table.case("2^64 weights", Shape::new(1 << 32, 1 << 32), &format!("{of}4294967296 × 4294967296"));
    table.case("2^128 weights", Shape::new(usize::MAX, usize::MAX), &format!("{of}{0} × {0}", usize::MAX));

    table.case("half a row", Dataset::from_u8(vec![0; 7], 2), "rows: expected 8 values, found 7");
    table.case("rows of nothing", Dataset::from_u8(vec![0; 7], 0), "rows: expected 0 values, found 7");
    for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (-0.25, "-0.25"), (1.5, "1.5")] {
        let message = format!("rows[1]: expected a value within [0, 1], found {found}");
        table.case(found, Dataset::from_f32(vec![0.0, value], 2), &message);
    }

    let small = shape(2, 1);
    let parts = |w: &[f32], b: &[f32], c: &[f32]| Rbm::from_parts(small, w.to_vec(), b.to_vec(), c.to_vec());
    table.case("short weights", parts(&[0.0], &[0.0; 2], &[0.0]), "weights: expected 2 values, found 1");
    table.case("long visible bias", parts(&[0.0; 2], &[0.0; 3], &[0.0]), "visible_bias: expected 2 values, found 3");
    table.case("no hidden bias", parts(&[0.0; 2], &[0.0; 2], &[]), "hidden_bias: expected 1 values, found 0");
    table.case("NaN", parts(&[0.0, f32::NAN], &[0.0; 2], &[0.0]), "weights[1]: expected a finite number, found NaN");
    table.case("infinity", RbmRef::from_parts(small, &[0.0; 2], &[0.0; 2], &[f32::INFINITY]), "hidden_bias[0]: expected a finite number, found inf");

    let draws = || Uniforms::new(1, Purpose::Sampling);
    let chains = "n_chains: expected at least 1, and as many as fit in memory, found ";
    for n in [0, 1 << 40, 1 << 61, usize::MAX] {
        table.case("chains", Chains::new(&cpu, small, n, draws()), &format!("{chains}{n}"));
        table.case("chains", Chains::new(&gemm, small, n, draws()), &format!("{chains}{n}"));
        let settings = Settings { algorithm: Algorithm::Pcd { n_chains: n }, ..Settings::default() };
        table.case("chains", Trainer::new(&cpu, small, settings), &format!("{chains}{n}"));
    }
    let state = |hidden: Vec<u64>, betas: Vec<f32>| ChainState { hidden, betas, uniforms: draws() };
    table.case("no chains", Chains::from_state(&cpu, small, &state(vec![], vec![])), &format!("{chains}0"));
    table.case("bits", Chains::from_state(&cpu, small, &state(vec![0; 2], vec![1.0])), "chains: expected 1 values, found 2");
    table.case("beta", Chains::from_state(&cpu, small, &state(vec![0], vec![f32::NAN])), "betas[0]: expected a finite number, found NaN");
    table.case("a bit", Chains::from_state(&cpu, small, &state(vec![2], vec![1.0])), "chains: expected no bit beyond the last hidden unit, found one");
    table.case("k of 0", Trainer::new(&cpu, small, Settings { k: 0, ..Settings::default() }), "k: expected at least 1, found 0");

    let mut rbm = Rbm::new(small, 1);
    let resident = rbm.on(&cpu).expect("resident");
    let row = Rows::new(Values::U8(&[1, 2]), 2).expect("rows");
    let wide = Rows::new(Values::U8(&[1, 2, 3]), 3).expect("rows");
    let none = Rows::new(Values::U8(&[]), 2).expect("rows");
    let mut out = Activations::default();
    table.case("wide rows", resident.propup(wide, &mut out), "batch: expected rows of 2 values, found rows of 3");
    table.case("no rows", resident.free_energy(none), "batch: expected at least one row, found none");
    table.case("visible for hidden", resident.propdown(row, &mut out), "batch: expected rows of 1 values, found rows of 2");
    table.case("a bit too far", resident.pseudo_log_likelihood_of_bit(row, 2), "bit: expected less than 2, found 2");
    table.case("pairs", rbm.view().energy(row, row), "v and h: expected as many rows of 2 and of 1 values, found 1 rows of 2 and 1 rows of 2");
    let mut gradient = Gradient::zero(shape(3, 1));
    table.case("another gradient", resident.free_energy_gradient(row, &[1.0], &mut gradient), "gradient.weights: expected 2 values, found 3");
    table.case("weights of rows", resident.free_energy_gradient(row, &[], &mut gradient), "weights: expected 1 values, found 0");
    table.case("cross-entropy", monitor::reconstruction_cross_entropy(row, &[0.0]), "pre_activation: expected 2 values, found 1");
    let mut still = Chains::new(&cpu, small, 1, draws()).expect("chains");
    table.case("no sweep yet", still.visible(&mut out), "chains: expected a sweep before, found none");
    table.case("no steps", still.sweep(&resident, 0), "k: expected at least 1, found 0");
    let other = Rbm::new(shape(5, 4), 1).on(&cpu).expect("resident");
    table.case("another model", still.sweep(&other, 1), "rbm: expected shape 2 × 1, found 5 × 4");

    let mut trainer = Trainer::new(&cpu, small, Settings { monitor: Monitor::None, ..Settings::default() }).expect("a trainer");
    let mut lent = rbm.lend(&cpu).expect("lent");
    for (lr, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        table.case("a rate", trainer.step(&mut lent, row, lr), &format!("lr: expected a finite number, found {found}"));
    }
    table.case("wide rows", trainer.step(&mut lent, wide, 0.1), "batch: expected rows of 2 values, found rows of 3");
    table.case("no rows", trainer.step(&mut lent, none, 0.1), "batch: expected at least one row, found none");
    lent.finish().expect("finished");

    let great = Rbm::new(shape(40, 40), 1);
    let error = log_partition::exact(great.view());
    table.case("2^40 states", error, "exact log Z: expected at most 28 units in the smaller layer, found 40: 2^40 states");
    table.case("an instruction set", Isa::named("mmx"), "HARMONIUM_ISA: expected scalar, avx2 or avx512, as far as this machine has them, found mmx");
    table.case("images", raster::filters(great.view(), (5, 5), (1, 1)), "img_shape: expected height × width of 40 pixels, found 5 × 5");
    let picture: Result<Raster<u8>> = raster::tile_raster_images(&[], &Tiling::new((1 << 20, 1 << 20), (1 << 20, 1 << 20)));
    let found = picture.as_ref().err().map(|error| error.to_string()).unwrap_or_default();
    assert!(matches!(picture, Err(Error::Argument { what: "picture", .. })), "{found}");
    table.case("a folder", model::load(Path::new("/")), "/: Is a directory (os error 21)");
    table.case("no file", model::load(Path::new("no/such")), "no/such: No such file or directory (os error 2)");
    let message = "/dev/null: expected a regular file or nothing, found a folder or a device";
    table.case("a device", storage::write_atomically(Path::new("/dev/null"), |_| Ok(())), message);
    table.judge(55);
}

// The command

fn write_idx(path: &Path, sizes: &[u32]) {
    let values = vec![1; sizes.iter().product::<u32>() as usize];
    fs::write(path, idx([0, 0, 8, sizes.len() as u8], sizes, &values)).expect("data");
}

/// Runs the command in no more memory than there may be; gives exit status and standard error.
fn run(folder: &Path, arguments: &str) -> (i32, String) {
    let script = format!("ulimit -v {MOST_KIB}; exec \"$H\" {arguments}");
    let mut command = Command::new("sh");
    // One thread and one arena, or the address space would be used up by what nobody touches.
    let command = command.current_dir(folder).env("H", env!("CARGO_BIN_EXE_harmonium")).env("RAYON_NUM_THREADS", "1");
    let output = command.args(["-c", &script]).output().expect("a shell");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stderr).expect("text"))
}

#[cfg(target_os = "linux")]
#[test]
#[rustfmt::skip]
fn command_lines() {
    let folder = folder("command");
    write_idx(&folder.join("data"), &[20, 16]);
    write_idx(&folder.join("none"), &[0, 16]);
    fs::write(folder.join("text"), "hello").expect("a file");
    fs::write(folder.join("4GiB"), idx([0, 0, 8, 2], &[1 << 16, 1 << 16], &[1; 9])).expect("a file");
    let bomb = gzip(idx([0, 0, 8, 2], &[1 << 31, 1 << 10], &[]).chain(repeat(0).take(1 << 20)));
    fs::write(folder.join("bomb"), bomb).expect("a file");
    fs::create_dir(folder.join("empty")).expect("a folder");
    assert_eq!(run(&folder, "train --quiet --data data --hidden 4 --epochs 1 --threads 1 --out run"), (0, String::new()));

    let one = "expected a whole number of at least 1";
    let cases: Vec<(&str, i32, String)> = vec![
        ("", 2, "expected a command, train, sample, evaluate, diagnose, filters or info, found none (see --help)".into()),
        ("grow", 2, "unrecognized subcommand 'grow'".into()),
        ("train --frobnicate", 2, "unexpected argument '--frobnicate' found".into()),
        ("train --hidden 0", 2, format!("invalid value '0' for '--hidden <N>': {one}")),
        ("train --hidden 1e3", 2, format!("invalid value '1e3' for '--hidden <N>': {one}")),
        ("train --hidden 18446744073709551616", 2, format!("invalid value '18446744073709551616' for '--hidden <N>': {one}")),
        ("train --epochs 0", 2, format!("invalid value '0' for '--epochs <N>': {one}")),
        ("train --batch-size 0", 2, format!("invalid value '0' for '--batch-size <N>': {one}")),
        ("train --k 0", 2, format!("invalid value '0' for '--k <N>': {one}")),
        ("train --chains 0", 2, format!("invalid value '0' for '--chains <N>': {one}")),
        ("train --stop-after 0", 2, format!("invalid value '0' for '--stop-after <N>': {one}")),
        ("train --threads 0", 2, format!("invalid value '0' for '--threads <N>': {one}")),
        ("train --limit 0", 2, format!("invalid value '0' for '--limit <ROWS>': {one}")),
        ("train --lr NaN", 2, "invalid value 'NaN' for '--lr <RATE>': expected a finite number of at least 0".into()),
        ("train --lr inf", 2, "invalid value 'inf' for '--lr <RATE>': expected a finite number of at least 0".into()),
        ("train --lr -0.1", 2, "invalid value '-0.1' for '--lr <RATE>': expected a finite number of at least 0".into()),
        ("train --checkpoint-every 5hours", 2, "invalid value '5hours' for '--checkpoint-every <N[updates|epochs|minutes]>': expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()),
        ("train --checkpoint-every 0", 2, "invalid value '0' for '--checkpoint-every <N[updates|epochs|minutes]>': expected a whole number of at least 1 and updates, epochs or minutes, such as 500updates".into()),
        ("train --algorithm sgd", 2, "invalid value 'sgd' for '--algorithm <NAME>': expected one of pcd, cd".into()),
        ("train --algorithm cd --chains 4", 2, "--chains: expected only with --algorithm pcd (cd has a chain for each row of a batch), found 4".into()),
        ("train --data none", 1, "none: expected at least one row, found none".into()),
        ("train --data text", 1, "text: expected an IDX file, gzipped or not, or an npy file, found a file that begins with [68, 65, 6c, 6c, 6f]".into()),
        ("train --data 4GiB", 1, "4GiB: expected 4294967296 bytes of IDX values, found 9".into()),
        ("train --data bomb", 1, "bomb: expected at most 4294967296 values, found 2147483648 × 1024".into()),
        ("train --data data --batch-size 21", 1, "--batch-size: expected at most 20, the training rows taken from data, found 21".into()),
        ("train --data data --limit 21", 1, "--limit: expected at most 20, the training rows of data, found 21".into()),
        ("train --data data --hidden 134217728", 1, "--hidden: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 16 × 134217728".into()),
        ("train --data data --hidden 18446744073709551615", 1, "--hidden: expected at least one visible and one hidden unit, and at most 2147483647 weights, found 16 × 18446744073709551615".into()),
        ("train --data data --chains 4161791", 1, "--chains: expected at most 4161790, as many as have 2^31 units with the rows of data, found 4161791".into()),
        ("train --data data --image 3x5", 1, "--image: expected height x width of 16 pixels, found 3x5".into()),
        ("train --data data --out text", 1, "text: expected a folder to write to: File exists (os error 17)".into()),
        ("train --resume empty", 1, "empty/checkpoint.safetensors: No such file or directory (os error 2)".into()),
        ("sample text", 1, "text: expected a safetensors file, found a header that goes beyond the end".into()),
        ("sample run/model.safetensors --data data --chains 21", 1, "--chains: expected at most 20, the rows of data to start from, found 21".into()),
        ("filters run/model.safetensors --tile 99999x99999", 1, "--tile: expected between 1 and 268435456 values, found 499994 × 499994 pixels".into()),
        ("info run/log.csv", 1, "run/log.csv: expected a safetensors file, found a header that goes beyond the end".into()),
    ];
    let mut table = Table::default();
    for (arguments, status, message) in &cases {
        let found = run(&folder, arguments);
        table.message(arguments, &format!("{} {}", found.0, found.1.trim_end()), &format!("{status} error: {message}"));
    }
    // What this machine has free is not ours to know, but that it is less than what 2^31 weights need.
    let (status, stderr) = run(&folder, "train --data data --hidden 134217727 --chains 1 --batch-size 1 --out none-made");
    let begins = "error: --hidden, --chains and --batch-size: expected sizes that fit into the ";
    let ends = " MiB of memory that are free, found 16 × 134217727 weights, 1 chains and 1 rows: 75265 MiB\n";
    assert!(status == 1 && stderr.starts_with(begins) && stderr.ends_with(ends), "{stderr}");
    assert!(!folder.join("none-made").exists());
    table.judge(36);
}
