//! Files: what is written comes back, and hostile bytes give an error that names the file, never a panic.

use harmonium::{Rbm, Result, Shape, Values, idx::read_idx, model, npy::read_npy, storage};
use std::{fs, io::Read, path::PathBuf};

/// The error must name the source and say all of this.
fn fails<T: std::fmt::Debug>(result: Result<T>, says: &[&str]) {
    let text = result.expect_err("must be refused").to_string();
    for part in ["file.x"].iter().chain(says) {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert!(!text.contains('\n'), "{text:?} is more than one line");
}

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("files").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn u8_values(values: Values<'_>) -> &[u8] {
    match values {
        Values::U8(x) => x,
        Values::F32(_) => panic!("eight-bit data must stay eight-bit"),
    }
}

// IDX

fn idx_bytes(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[test]
fn idx_images_and_labels() {
    let values: Vec<u8> = (0..30).collect();
    let images = read_idx(&idx_bytes(&[5, 2, 3], &values)[..], "file.x").unwrap();
    assert_eq!(images.dimensions(), [5, 2, 3]);
    assert_eq!(images.image(), Some((2, 3)));
    let rows = images.into_dataset().unwrap();
    assert_eq!((rows.len(), rows.units()), (5, 6));
    assert_eq!(u8_values(rows.rows().values()), values);

    let labels = read_idx(&idx_bytes(&[3], &[7, 0, 255])[..], "file.x").unwrap();
    assert_eq!(labels.image(), None);
    assert_eq!(labels.clone().into_labels().unwrap(), [7, 0, 255]);
    assert_eq!(labels.into_dataset().unwrap().units(), 1);

    let none = read_idx(&idx_bytes(&[0, 4], &[])[..], "file.x").unwrap().into_dataset().unwrap();
    assert_eq!((none.len(), none.units()), (0, 4));
}

#[test]
fn idx_refuses() {
    let read = |bytes: &[u8]| read_idx(bytes, "file.x");
    fails(read(&[]), &["2 bytes of IDX header", "found 0"]);
    fails(read(&[0, 0, 8]), &["4 bytes of IDX header", "found 3"]);
    fails(read(&[0, 0, 8, 2, 0, 0, 0, 1, 0]), &["8 bytes of IDX header", "found 5"]);
    fails(read(b"PK\x03\x04...."), &["two bytes 0", "50, 4b"]);
    fails(read(&[0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0]), &["0x08", "0x0d, 32-bit floating-point"]);
    fails(read(&[0, 0, 0x42, 1, 0, 0, 0, 1, 0]), &["0x42, no type"]);
    fails(read(&[0, 0, 8, 0, 1]), &["at least one dimension"]);
    fails(read(&idx_bytes(&[2, 3], &[0; 5])), &["6 bytes of IDX values", "found 5"]);
    fails(read(&idx_bytes(&[2, 3], &[0; 7])), &["the end", "more bytes"]);
    fails(read(&idx_bytes(&[u32::MAX, 2], &[])), &["at most 4294967296 values", "4294967295 × 2"]);
    fails(read(&idx_bytes(&[u32::MAX; 255], &[])), &["at most 4294967296 values"]);
    // A product that would be 0 in 64 bits.
    fails(read(&idx_bytes(&[1 << 31, 1 << 31, 4], &[])), &["at most 4294967296 values"]);
    // Nearly 4 GiB are announced and nothing comes: the memory must not have been asked for.
    fails(read(&idx_bytes(&[1 << 16, 65_535], &[0; 100])), &["4294901760 bytes of IDX values", "found 100"]);
    assert!(read(&idx_bytes(&[3, 0], &[])).unwrap().into_dataset().is_err());
    assert!(read(&idx_bytes(&[1, 2], &[1, 2])).unwrap().into_labels().is_err());
}

#[test]
fn a_failing_reader_is_reported() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is on fire"))
        }
    }
    fails(read_idx(Broken, "file.x"), &["the disk is on fire"]);
    fails(read_npy(Broken, "file.x"), &["the disk is on fire"]);
}

#[cfg(feature = "gzip")]
mod gzip {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::{Write, repeat};

    fn gzip(bytes: impl Read) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut { bytes }, &mut encoder).unwrap();
        encoder.flush().unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn unpacks() {
        let plain = idx_bytes(&[5, 2, 3], &(0..30).collect::<Vec<u8>>());
        let packed = gzip(&plain[..]);
        assert_eq!(read_idx(&packed[..], "file.x").unwrap(), read_idx(&plain[..], "file.x").unwrap());
    }

    #[test]
    fn refuses_what_is_cut_or_damaged() {
        let packed = gzip(&idx_bytes(&[5, 2, 3], &(0..30).collect::<Vec<u8>>())[..]);
        for len in 2..packed.len() {
            fails(read_idx(&packed[..len], "file.x"), &[]);
        }
        let mut damaged = packed.clone();
        let checksum = packed.len() - 8;
        damaged[checksum] ^= 1;
        fails(read_idx(&damaged[..], "file.x"), &[]);
    }

    #[test]
    fn stops_at_what_the_header_announces() {
        // 64 MiB of zeros behind six values.
        let packed = gzip(idx_bytes(&[2, 3], &[0; 6]).chain(repeat(0).take(1 << 26)));
        let mut rest = &packed[..];
        fails(read_idx(&mut rest, "file.x"), &["the end", "more bytes"]);
        assert!(rest.len() > packed.len() / 2, "unpacked on, {} of {} bytes are left", rest.len(), packed.len());
    }
}

#[cfg(not(feature = "gzip"))]
#[test]
fn gzip_names_the_feature() {
    fails(read_idx(&[0x1f, 0x8b, 8, 0][..], "file.x"), &["feature `gzip`"]);
}

// npy

fn npy_bytes(version: u8, header: &str, values: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

fn npy(descr: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    npy_bytes(1, &format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}          \n"), values)
}

#[test]
fn npy_types() {
    let bytes = read_npy(&npy("|u1", "(2, 3)", &[0, 1, 2, 3, 4, 255])[..], "file.x").unwrap();
    assert_eq!((bytes.len(), bytes.units()), (2, 3));
    assert_eq!(u8_values(bytes.rows().values()), [0, 1, 2, 3, 4, 255]);

    let bits = read_npy(&npy("|b1", "(3, 1)", &[1, 0, 1])[..], "file.x").unwrap();
    assert_eq!(u8_values(bits.rows().values()), [255, 0, 255]);

    let numbers = [0.0f32, 1.0, 0.25, f32::MIN_POSITIVE];
    let values: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    let floats = read_npy(&npy("<f4", "(2, 2)", &values)[..], "file.x").unwrap();
    assert_eq!(floats.rows().values(), Values::F32(&numbers));

    let values: Vec<u8> = [0.1f64, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let doubles = read_npy(&npy("<f8", "(1, 2)", &values)[..], "file.x").unwrap();
    assert_eq!(doubles.rows().values(), Values::F32(&[0.1, 1.0]));

    let none = read_npy(&npy("<f8", "(0, 2)", &[])[..], "file.x").unwrap();
    assert_eq!((none.len(), none.units()), (0, 2));
}

#[test]
fn npy_versions_and_spellings() {
    for (version, header) in [
        (1, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2), }"),
        (2, "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)}\n"),
        (3, "{\"shape\":(1,2,),\"descr\":\"|u1\",\"fortran_order\":False}"),
        (1, " { 'fortran_order' : False , 'shape' : ( 1 , 2 ) , 'descr' : '|u1' , } "),
    ] {
        let read = read_npy(&npy_bytes(version, header, &[8, 9])[..], "file.x").unwrap();
        assert_eq!(u8_values(read.rows().values()), [8, 9], "{header}");
    }
}

#[test]
fn npy_refuses() {
    let read = |bytes: &[u8]| read_npy(bytes, "file.x");
    fails(read(b""), &["8 bytes of npy header", "found 0"]);
    fails(read(b"GIF89a.."), &["begins with 93"]);
    fails(read(b"\x93NUMPY\x04\x00"), &["1.0, 2.0 or 3.0", "4.0"]);
    fails(read(b"\x93NUMPY\x01\x01"), &["1.1"]);
    fails(read(b"\x93NUMPY\x01\x00\x50"), &["2 bytes of npy header", "found 1"]);
    fails(read(b"\x93NUMPY\x01\x00\x50\x00{}"), &["80 bytes of npy header", "found 2"]);
    fails(read(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), &["at most 65536 bytes", "4294967295"]);

    fails(read(&npy(">f4", "(1, 1)", &[0; 4])), &["little-endian", ">f4"]);
    fails(read(&npy("<i8", "(1, 1)", &[0; 8])), &["found <i8"]);
    fails(read(&npy("|O", "(1, 1)", &[0; 8])), &["found |O"]);
    fails(read(&npy("|u1", "(4,)", &[0; 4])), &["two dimensions", "1 ([4])"]);
    fails(read(&npy("|u1", "()", &[0; 1])), &["two dimensions", "0 ([])"]);
    fails(read(&npy("|u1", "(1, 2, 2)", &[0; 4])), &["two dimensions", "3 ([1, 2, 2])"]);
    fails(read(&npy("|u1", "(4, 0)", &[])), &["at least one value a row"]);
    fails(read(&npy("|u1", "(2, 2)", &[0; 3])), &["4 bytes of npy values", "found 3"]);
    fails(read(&npy("|u1", "(2, 2)", &[0; 5])), &["the end", "more bytes"]);
    fails(read(&npy("<f8", "(4294967296, 4294967296)", &[])), &["fits in memory"]);
    fails(read(&npy("|u1", "(4611686018427387904, 1)", &[0; 9])), &["4611686018427387904 bytes", "found 9"]);
    fails(read(&npy("|u1", "(99999999999999999999, 1)", &[])), &["npy header"]);
    fails(read(&npy("|b1", "(1, 2)", &[1, 2])), &["0 or 1", "2 in row 0, column 1"]);

    for wrong in [f32::NAN, f32::INFINITY, -0.5, 1.0000001] {
        let values: Vec<u8> = [0.5, 0.5, wrong, 0.5].iter().flat_map(|x: &f32| x.to_le_bytes()).collect();
        fails(read(&npy("<f4", "(2, 2)", &values)), &["within [0, 1]", "in row 1, column 0"]);
    }
    // Would round to 1 in f32, and is outside all the same.
    fails(read(&npy("<f8", "(1, 1)", &1.000_000_001f64.to_le_bytes())), &["within [0, 1]"]);

    for header in [
        "",
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
        "{'descr': '\\x7cu1', 'fortran_order': False, 'shape': (1, 2)}",
    ] {
        fails(read(&npy_bytes(1, header, &[0, 0])), &["npy header {'descr'"]);
    }
    let fortran = "{'descr': '|u1', 'fortran_order': True, 'shape': (1, 2), }";
    fails(read(&npy_bytes(1, fortran, &[0, 0])), &["C order", "Fortran"]);
}

// Models

fn some_rbm() -> Rbm {
    let shape = Shape::new(3, 2).unwrap();
    let weights = vec![0.5, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, -1.5e-7, 3.0];
    Rbm::from_parts(shape, weights, vec![1.0, 2.0, 3.0], vec![-1.0, 0.25]).unwrap()
}

fn bits(rbm: Rbm) -> Vec<Vec<u32>> {
    let (weights, visible_bias, hidden_bias) = rbm.into_parts();
    [weights, visible_bias, hidden_bias].map(|values| values.into_iter().map(f32::to_bits).collect()).to_vec()
}

#[test]
fn a_model_comes_back_to_the_bit() {
    let path = folder("model").join("a.safetensors");
    model::save(some_rbm().view(), &path).unwrap();
    assert_eq!(bits(model::load(&path).unwrap()), bits(some_rbm()));
    assert_eq!(fs::read(&path).unwrap(), model::to_bytes(some_rbm().view()).unwrap());
}

#[test]
fn a_model_is_an_ordinary_safetensors_file() {
    let bytes = model::to_bytes(some_rbm().view()).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("weights").unwrap().shape(), [3, 2]);
    assert_eq!(file.tensor("visible_bias").unwrap().shape(), [3]);
    assert_eq!(file.tensor("hidden_bias").unwrap().shape(), [2]);
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().clone().unwrap();
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata["harmonium"], concat!("rbm ", env!("CARGO_PKG_VERSION")));
}

fn safetensors_bytes(header: &str, data: &[f32]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

const WEIGHTS: &str = r#""weights":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}"#;
const VISIBLE: &str = r#""visible_bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}"#;
const HIDDEN: &str = r#""hidden_bias":{"dtype":"F32","shape":[1],"data_offsets":[16,20]}"#;

#[test]
fn a_file_from_elsewhere_opens() {
    let data = [0.5, -0.5, 1.0, 2.0, 3.0, 9.0];
    let expected = Rbm::from_parts(Shape::new(2, 1).unwrap(), vec![0.5, -0.5], vec![1.0, 2.0], vec![3.0]).unwrap();
    let bare = safetensors_bytes(&format!("{{{HIDDEN},{WEIGHTS},{VISIBLE}}}"), &data[..5]);
    assert_eq!(model::from_bytes(&bare, "file.x").unwrap(), expected);
    let more = r#""epochs":{"dtype":"F32","shape":[],"data_offsets":[20,24]},"__metadata__":{"a":"b","c":"d"}"#;
    let more = safetensors_bytes(&format!("{{{HIDDEN},{WEIGHTS},{VISIBLE},{more}}}  "), &data);
    assert_eq!(model::from_bytes(&more, "file.x").unwrap(), expected);
}

#[test]
fn models_that_are_refused() {
    let data = [0.5, -0.5, 1.0, 2.0, 3.0];
    let read = |header: String, data: &[f32]| model::from_bytes(&safetensors_bytes(&header, data), "file.x");
    fails(model::from_bytes(b"", "file.x"), &["a safetensors file", "beyond the end"]);
    fails(model::from_bytes(&u64::MAX.to_le_bytes(), "file.x"), &["beyond the end"]);
    fails(read("{".into(), &data), &["a safetensors file"]);
    fails(read("{}".into(), &[]), &["a tensor weights", "none"]);
    fails(read(format!("{{{WEIGHTS}}}"), &data[..2]), &["a tensor visible_bias", "found weights"]);
    fails(read(format!("{{{WEIGHTS},{VISIBLE},{HIDDEN}}}"), &data[..4]), &["20 bytes of tensors", "found 16"]);
    fails(read(format!("{{{WEIGHTS},{VISIBLE},{HIDDEN}}}"), &[0.0; 6]), &["20 bytes of tensors", "found 24"]);

    let with = |from: &str, to: &str| {
        let header = format!("{{{WEIGHTS},{VISIBLE},{HIDDEN}}}");
        assert!(header.contains(from));
        read(header.replace(from, to), &data)
    };
    fails(with(r#""F32","shape":[2,1]"#, r#""I32","shape":[2,1]"#), &["weights of type F32", "I32"]);
    fails(with(r#""F32","shape":[1]"#, r#""BF16","shape":[2]"#), &["hidden_bias of type F32", "BF16"]);
    fails(with("[2,1]", "[1,2]"), &["visible_bias of shape [1]", "[2]"]);
    fails(with("[2,1]", "[2]"), &["weights with 2 dimensions", "[2]"]);
    fails(with(r#""shape":[1]"#, r#""shape":[1,1]"#), &["hidden_bias with 1 dimensions", "[1, 1]"]);
    fails(with("[2,1]", "[2,2]"), &["a safetensors file"]);
    fails(with("[8,16]", "[4,12]"), &["a safetensors file", "visible_bias"]);
    fails(with("[16,20]", "[20,16]"), &["a safetensors file"]);
    // Sizes whose sum is beyond 64 bits.
    let big = 1u64 << 61;
    let pieces: Vec<_> = (0..8u64)
        .map(|n| {
            let end = (n + 1).checked_mul(big - 1).unwrap();
            format!(r#""t{n}":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{end}]}}"#, big - 1, n * (big - 1))
        })
        .collect();
    fails(read(format!("{{{}}}", pieces.join(",")), &data), &["bytes of tensors"]);

    for (wrong, name) in [(0, "weights[0]"), (3, "visible_bias[1]"), (4, "hidden_bias[0]")] {
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let mut data = data;
            data[wrong] = value;
            fails(read(format!("{{{WEIGHTS},{VISIBLE},{HIDDEN}}}"), &data), &[name, "finite"]);
        }
    }
    let empty = format!(
        "{{{},{},{HIDDEN}}}",
        WEIGHTS.replace("[2,1]", "[0,1]").replace("[0,8]", "[0,0]"),
        VISIBLE.replace("[2]", "[0]").replace("[8,16]", "[0,0]")
    );
    fails(read(empty.replace("[16,20]", "[0,4]"), &[1.0]), &["at least one visible", "0 × 1"]);
}

#[test]
fn damaged_models_never_panic() {
    let whole = model::to_bytes(some_rbm().view()).unwrap();
    for len in 0..whole.len() {
        fails(model::from_bytes(&whole[..len], "file.x"), &[]);
    }
    // One byte changed: an error, or a model of other numbers.
    for place in 0..whole.len() {
        for flip in [1, 0x20, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[place] ^= flip;
            let _ = model::from_bytes(&damaged, "file.x");
        }
    }
}

// Writing

#[test]
fn a_failed_write_leaves_what_was_there() {
    let folder = folder("atomic");
    let path = folder.join("a");
    storage::write_atomically(&path, |file| file.write_all(b"old")).unwrap();
    let error = storage::write_atomically(&path, |file| {
        file.write_all(b"new")?;
        Err(std::io::Error::other("no more"))
    });
    let text = error.unwrap_err().to_string();
    assert!(text.contains("atomic") && text.contains("no more"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    storage::write_atomically(&path, |file| file.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing temporary is left");
}

#[test]
fn only_regular_files_are_replaced() {
    let folder = folder("irregular");
    assert!(storage::write_atomically(&folder, |file| file.write_all(b"x")).is_err());
    assert!(storage::write_atomically(&folder.join("no/such"), |file| file.write_all(b"x")).is_err());
    #[cfg(unix)]
    assert!(storage::write_atomically("/dev/null".as_ref(), |file| file.write_all(b"x")).is_err());
    storage::check_writable(&folder).unwrap();
    assert!(storage::check_writable(&folder.join("no")).is_err());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing temporary is left");
}
