//! Files: written data are read back, and a file is written completely or not at all. (Refused files are in `tests/hostile`.)

use harmonium::{
    Dataset, Rbm, Result, Shape, Values,
    formats::{
        self, LabelSource, Reading,
        fasta::{Alphabet, read_fasta},
        idx::read_idx,
        mnist::{self, Split},
        npy::read_npy,
    },
    model, storage,
};
use std::{fs, io::Read, path::PathBuf};

/// Asserts that the error names the source and contains all of these texts.
fn fails<T: std::fmt::Debug>(result: Result<T>, says: &[&str]) {
    let text = result.expect_err("must be refused").to_string();
    for part in ["file.x"].iter().chain(says) {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
    assert!(!text.contains('\n'), "{text:?} is more than one line");
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("files").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn u8_values(values: Values<'_>) -> &[u8] {
    match values {
        Values::U8(x) => x,
        _ => panic!("eight-bit data must stay eight-bit"),
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

    pub fn gzip(bytes: impl Read) -> Vec<u8> {
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
        // 64 MiB of zeros after six values.
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

// FASTA

/// The active units of a row.
fn on(data: &Dataset, row: usize) -> Vec<usize> {
    (0..data.units()).filter(|&unit| data.rows().bit(row, unit)).collect()
}

#[test]
fn sequences_have_one_unit_of_each_site_on() {
    let text = b">first one\r\n-AC\r\ng u\r\n\n>second\n.tCNA";
    let family = read_fasta(&text[..], "file.x").unwrap();
    assert_eq!((family.alphabet(), family.sites(), family.n_unknown()), (Alphabet::Rna, 5, 1));
    assert_eq!(family.names(), ["first one", "second"]);
    assert_eq!((family.sequence(0), family.sequence(1)), ("-ACGU", "-TCNA"));
    let data = family.into_dataset().unwrap();
    assert_eq!((on(&data, 0), on(&data, 1)), (vec![0, 6, 12, 18, 24], vec![0, 9, 12, 15, 21]));
    let images = formats::read_within(&text[..], "file.x", 200).unwrap();
    assert_eq!((images.rows, images.img_shape), (data, None));
    #[cfg(feature = "gzip")]
    assert_eq!(read_fasta(&gzip::gzip(&text[..])[..], "file.x").unwrap().sequence(0), "-ACGU");
}

#[test]
fn the_alphabet_is_that_of_the_letters() {
    for (sequences, alphabet, letters) in [
        ("ACGT", Alphabet::Dna, 5),
        ("ACG-", Alphabet::Dna, 5),
        ("acgun", Alphabet::Rna, 5),
        ("NNNAC", Alphabet::Protein, 21),
        ("ACGTL", Alphabet::Protein, 21),
        ("MKVX*", Alphabet::Protein, 21),
        ("-----", Alphabet::Dna, 5),
    ] {
        let family = read_fasta(format!(">\n{sequences}\n").as_bytes(), "file.x").unwrap();
        assert_eq!((family.alphabet(), family.sites()), (alphabet, sequences.len()), "{sequences}");
        assert_eq!(family.into_dataset().unwrap().units(), sequences.len() * letters, "{sequences}");
    }
}

#[test]
fn what_is_no_alignment_is_refused() {
    for (text, says) in [
        (">a\nAC\n>b\nA\n", "aligned sequences, 2 letters in each as in the first one, found 1 in sequence 2"),
        (">a\n>b\nA\n", "at least one letter in each sequence, found none in sequence 1"),
        (">a\nA\n>b\n", "at least one letter in each sequence, found none in sequence 2"),
        (">a", "at least one letter in each sequence, found none in sequence 1"),
        (">a\nAC7\n", "letters, -, . or * in sequences, found 7 as letter 3 of sequence 1"),
        (">a\nA>C\n", "letters, -, . or * in sequences, found > as letter 2 of sequence 1"),
        ("ACGT\n", "a FASTA file, which begins with >, found a file that begins with [41]"),
        ("", "a FASTA file, which begins with >, found nothing"),
    ] {
        fails(read_fasta(text.as_bytes(), "file.x"), &[says]);
    }
    let text = format!(">name\n{}\n", "MKVL".repeat(100));
    assert!(formats::read_within(text.as_bytes(), "file.x", 8828).is_ok());
    fails(
        formats::read_within(text.as_bytes(), "file.x", 8827),
        &["at most 8827 bytes", "1 sequences of 400 letters, 8828"],
    );
    fails(formats::read_within(text.as_bytes(), "file.x", 100), &["at most 100 bytes", "400 letters and more"]);
}

// Recognised by the first bytes

#[test]
fn data_opens_in_every_format() {
    let folder = folder("open");
    let values: Vec<u8> = (0..30).collect();
    let files = [
        ("idx", idx_bytes(&[5, 2, 3], &values), Some((2, 3))),
        ("flat", idx_bytes(&[5, 6], &values), None),
        ("npy", npy("|u1", "(5, 6)", &values), None),
        #[cfg(feature = "gzip")]
        ("gz", gzip::gzip(&idx_bytes(&[5, 2, 3], &values)[..]), Some((2, 3))),
    ];
    for (name, bytes, img_shape) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        let images = formats::open(&path).unwrap();
        assert_eq!((images.rows.units(), images.img_shape), (6, img_shape), "{name}");
        assert_eq!(u8_values(images.rows.rows().values()), values, "{name}");
        assert_eq!(Dataset::open(&path).unwrap(), images.rows);
        assert_eq!(formats::open_within(&path, 30).unwrap(), images);
        let text = formats::open_within(&path, 29).unwrap_err().to_string();
        assert!(text.starts_with(&path.display().to_string()) && text.contains("at most 29"), "{text}");
    }
}

#[test]
fn eight_bit_values_up_to_1_are_bits() {
    let bits = [0, 1, 1, 0, 0, 1];
    let said = Some("2 × 3, eight-bit, values 0 to 1: bits".to_owned());
    for (bytes, assumed) in [
        (npy("|u1", "(2, 3)", &bits), said.clone()),
        (idx_bytes(&[2, 3], &bits), said),
        (npy("|b1", "(2, 3)", &bits), None),
    ] {
        let images = formats::read_within(&bytes[..], "file.x", 100).unwrap();
        assert_eq!(u8_values(images.rows.rows().values()), bits.map(|bit| 255 * bit));
        assert_eq!(images.assumed, assumed);
    }
    // Zeros alone are states. With a 2 among them the file is an image that is almost black.
    for values in [[0, 0, 0, 0, 0, 0], [0, 1, 2, 0, 1, 0]] {
        let images = formats::read_within(&npy("|u1", "(2, 3)", &values)[..], "file.x", 100).unwrap();
        assert_eq!((u8_values(images.rows.rows().values()), images.assumed), (&values[..], None));
    }
    let images = formats::read_within(&b">a\nACX\n>b\nMK-\n"[..], "file.x", 1000).unwrap();
    let letters = "-ACDEFGHIKLMNPQRSTVWY";
    let said = format!("2 sequences of 3 sites, protein, each site one of {letters}; 1 unknown letters count as gaps");
    assert_eq!(images.assumed, Some(said));
}

#[test]
fn what_has_no_format_is_refused() {
    for (bytes, found) in [
        (&b""[..], "a file that begins with []"),
        (b"\x93NUM", "a file that begins with [93, 4e, 55, 4d]"),
        (b"\x89PNG\r\n\x1a\n", "a file that begins with [89, 50, 4e, 47, 0d, 0a]"),
    ] {
        let expected = "file.x: expected an IDX file, or an npy file, or an npz file, or a Parquet file, or a FASTA file, or text named \
                        *.csv, *.tsv, *.txt or *.data, or *.svm, *.svmlight or *.libsvm, gzipped or not, found ";
        let text = formats::read_within(bytes, "file.x", 100).unwrap_err().to_string();
        assert_eq!(text, format!("{expected}{found}"));
    }
    fails(formats::read_within(&idx_bytes(&[0, 4], &[])[..], "file.x", 100), &["at least one row, found none"]);
    fails(formats::read_within(&idx_bytes(&[4, 0], &[])[..], "file.x", 100), &["at least one value in a row"]);
    let path = folder("no-format").join("nowhere");
    for problem in [formats::open(&path).map(|_| ()), Dataset::open(&path).map(|_| ())] {
        let text = problem.unwrap_err().to_string();
        assert_eq!(text, format!("{}: No such file or directory (os error 2)", path.display()));
    }
}

#[test]
fn a_folder_of_mnists_files_has_three_splits() {
    let folder = folder("mnist");
    let opened = |split| mnist::open(&folder, split).map(|images| (images.rows, images.img_shape));
    let refused = |split| opened(split).unwrap_err().to_string();
    assert!(refused(Split::Train).ends_with("found no training images"), "{}", refused(Split::Train));
    assert_eq!(mnist::has_test(&folder), Ok(false));

    let values: Vec<u8> = (0..50_003).map(|row| (row % 251) as u8).collect();
    fs::write(folder.join("train-images.idx3-ubyte"), idx_bytes(&[50_003, 1, 1], &values)).unwrap();
    let part = |rows: &[u8]| (Dataset::from_u8(rows.to_vec(), 1).unwrap(), Some((1, 1)));
    assert_eq!(opened(Split::Train).unwrap(), part(&values[..50_000]));
    assert_eq!(opened(Split::Validation).unwrap(), part(&values[50_000..]));
    assert_eq!(Dataset::open(&folder).unwrap(), part(&values[..50_000]).0);
    assert!(refused(Split::Test).ends_with("found no test images"), "{}", refused(Split::Test));
    let text = mnist::open_within(&folder, Split::Train, 50_002).unwrap_err().to_string();
    assert!(text.contains("train-images.idx3-ubyte: expected at most 50002 values"), "{text}");

    // Labels, the folder's own and those of a file, are those of the part's rows.
    let classes: Vec<u8> = (0..50_003).map(|row| u8::from(row >= 50_001)).collect();
    fs::write(folder.join("train-labels.idx1-ubyte"), idx_bytes(&[50_003], &classes)).unwrap();
    let file = folder.join("classes");
    fs::write(&file, idx_bytes(&[50_003, 1], &classes)).unwrap();
    for source in [LabelSource::Own, LabelSource::File(file)] {
        let how = Reading { labels: source.clone(), ..Reading::default() };
        let labels = |split| {
            let labels = mnist::open_with(&folder, split, &how).unwrap().labels.unwrap();
            let name = |state: &Option<u32>| state.map_or("", |state| &labels.names()[state as usize]).to_string();
            labels.states().iter().map(name).collect::<Vec<_>>()
        };
        assert_eq!(labels(Split::Validation), ["0", "1", "1"], "{source:?}");
        assert_eq!(labels(Split::Train), vec!["0"; 50_000], "{source:?}");
    }
    // Rows that a part skips must be there too.
    let whole = idx_bytes(&[50_003, 1, 1], &values);
    for (split, len) in [(Split::Validation, 40_000), (Split::Validation, 50_002), (Split::Train, 50_001)] {
        fs::write(folder.join("train-images.idx3-ubyte"), &whole[..16 + len]).unwrap();
        let said = format!("expected 50003 bytes of IDX values, found {len}");
        assert!(refused(split).contains(&said), "{}", refused(split));
    }
    fs::remove_file(folder.join("train-labels.idx1-ubyte")).unwrap();

    fs::write(folder.join("t10k-images-idx3-ubyte"), idx_bytes(&[2, 1, 1], &[7, 8])).unwrap();
    assert_eq!(mnist::has_test(&folder), Ok(true));
    assert_eq!(opened(Split::Test).unwrap(), part(&[7, 8]));
    fs::write(folder.join("t10k-labels-idx1-ubyte"), idx_bytes(&[3], &[0; 3])).unwrap();
    assert!(refused(Split::Test).contains("t10k-labels-idx1-ubyte: expected 2 labels"), "{}", refused(Split::Test));

    fs::write(folder.join("train-images.idx3-ubyte"), idx_bytes(&[3, 1, 1], &[1, 2, 3])).unwrap();
    assert_eq!(opened(Split::Train).unwrap(), part(&[1, 2, 3]));
    assert!(refused(Split::Validation).contains("more than 50000 training rows"), "{}", refused(Split::Validation));
    assert!(mnist::open(folder.join("t10k-images-idx3-ubyte"), Split::Test).is_err(), "a file has no splits");

    for (split, name) in Split::ALL.iter().zip(["train", "validation", "test"]) {
        assert_eq!((split.to_string(), name.parse()), (name.to_string(), Ok(*split)));
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
    // One changed byte gives an error, or a model with other numbers.
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
