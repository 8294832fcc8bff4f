//! Files: what is written comes back, and a file is written whole or not at all. (What is refused stands in `tests/hostile`.)

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

#[cfg(unix)]
#[test]
fn files_get_the_usual_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder("permissions");
    fs::write(folder.join("usual"), b"x").unwrap();
    storage::write_atomically(&folder.join("ours"), |file| file.write_all(b"x")).unwrap();
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode();
    assert_eq!(mode("ours"), mode("usual"));
}

#[test]
fn one_process_holds_a_folder() {
    let folder = folder("held");
    let held = storage::hold_folder(&folder).unwrap();
    if held.is_some() {
        let text = storage::hold_folder(&folder).unwrap_err().to_string();
        assert!(text.ends_with("held: expected a folder that no other run writes to, found one that does"), "{text}");
    }
    drop(held);
    storage::hold_folder(&folder).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
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
