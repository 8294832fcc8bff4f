//! NumPy's `.npz` files: zip archives of [`npy`](super::npy) arrays.
//!
//! [`Reading::array`](super::Reading::array) names the array to read. Without a name, the only array is read, or else the first of
//! `x_train`, `X` and `data` that exists.
//!
//! Labels, if they are asked for, come from the array with the matching name: `y` in place of `x`, or `labels` in place of `data` or
//! `images` (`y_test` for `x_test`, `train_labels` for `train_data`). If the data array is the only one or has one of the three usual
//! names, `y_train`, `y`, `labels` and `target` are tried next. A build without feature `npz` refuses the file and names the feature.
//!
//! An [`Archive`] gives any array by its name, for example the parameters of other programs' models. [`save`] writes an archive.

use super::{Reading, table::Table};
use crate::error::Result;

/// The first bytes of an `.npz` file.
pub const START: [u8; 4] = *b"PK\x03\x04";

#[cfg(not(feature = "npz"))]
pub(super) fn read_table(_: &mut dyn std::io::Read, source_name: &str, _: &Reading) -> Result<Table> {
    use crate::storage::format_error;
    Err(format_error(source_name, "another file than npz, or harmonium with its feature `npz`", "an npz file"))
}

#[cfg(feature = "npz")]
pub(super) use archive::read_table;
#[cfg(feature = "npz")]
pub use archive::{Archive, Array, save};

#[cfg(feature = "npz")]
mod archive {
    use super::{Reading, Result, Table};
    use crate::{
        error::shown,
        formats::{LabelSource, npy},
        storage::{check_ends, file_error, format_error, stream_error, write_atomically},
    };
    use std::{
        fs::File,
        io::{self, Cursor, Read, Write},
        path::Path,
    };
    use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter, write::SimpleFileOptions};

    /// The usual names of arrays of data and of labels.
    const DATA: [&str; 3] = ["x_train", "X", "data"];
    const LABELS: [&str; 4] = ["y_train", "y", "labels", "target"];

    /// An array of numbers.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Array {
        /// The sizes of the dimensions, one to four.
        pub shape: Vec<usize>,
        /// The values, the last index varying fastest. Types other than `f4` are rounded to it.
        pub values: Vec<f32>,
    }

    /// An open archive of arrays. Each array is read when it is asked for.
    ///
    /// ```
    /// use harmonium::formats::npz::{self, Archive, Array};
    ///
    /// let path = std::env::temp_dir().join(format!("harmonium-{}.npz", std::process::id()));
    /// let matrix = Array { shape: vec![2, 1], values: vec![0.5, 2.0] };
    /// npz::save(&[("a", matrix.clone())], &path)?;
    /// let mut archive = Archive::open(&path, u64::MAX)?;
    /// assert_eq!(archive.names(), ["a"]);
    /// assert_eq!(archive.array("a")?, matrix);
    /// # let _ = std::fs::remove_file(path);
    /// # Ok::<(), harmonium::Error>(())
    /// ```
    pub struct Archive {
        zip: Zip,
        names: Vec<String>,
        source_name: String,
        /// Memory in bytes that one array may take.
        left: u64,
    }

    impl Archive {
        /// Opens the file `path`. The archive and one of its arrays together may take at most `max_bytes` of memory.
        ///
        /// # Errors
        /// [`Error::File`](crate::Error::File) if the file cannot be read, [`Error::Format`](crate::Error::Format) if it is not a zip
        /// archive or is too large.
        pub fn open(path: &Path, max_bytes: u64) -> Result<Self> {
            check_ends(path)?;
            let mut file = File::open(path).map_err(|problem| file_error(path, problem))?;
            Self::read(&mut file, &path.display().to_string(), max_bytes)
        }

        fn read(reader: &mut dyn Read, source_name: &str, max_bytes: u64) -> Result<Self> {
            // A zip archive has its list of files at the end, so all of it must be read.
            let mut bytes = Vec::new();
            let most = max_bytes.min(isize::MAX as u64);
            reader.take(most).read_to_end(&mut bytes).map_err(|problem| stream_error(source_name, problem))?;
            if bytes.len() as u64 == most {
                let expected = format!("an archive of less than {most} bytes of memory");
                return Err(format_error(source_name, expected, "a longer one"));
            }
            let left = max_bytes - bytes.len() as u64;
            let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|problem| no_archive(source_name, &problem))?;
            let names = zip
                .file_names()
                .filter_map(|name| name.ok().and_then(|name| name.strip_suffix(".npy").map(str::to_string)))
                .collect();
            Ok(Self { zip, names, source_name: source_name.into(), left })
        }

        /// The names of the arrays, in the archive's order.
        pub fn names(&self) -> &[String] {
            &self.names
        }

        /// Reads the array `name`.
        ///
        /// # Errors
        /// [`Error::Format`](crate::Error::Format) if there is no such array, if [`npy`] does not support it (one dimension is
        /// allowed here), or if it exceeds the limit of memory.
        pub fn array(&mut self, name: &str) -> Result<Array> {
            let how = Reading { max_bytes: self.left, is_labels: true, ..Reading::default() };
            let source_name = format!("{}: {}", self.source_name, shown(name));
            let mut file = by_name(&mut self.zip, name, &source_name)?;
            let (numbers, shape) = npy::read_numbers(&mut file, &source_name, &how)?;
            Ok(Array { shape, values: numbers.into_f32() })
        }
    }

    /// Writes named arrays as `numpy.savez` does. The file appears whole or not at all; equal arrays give equal files.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) with the operating system's message, or if an array's shape does not fit its values.
    pub fn save(arrays: &[(&str, Array)], path: &Path) -> Result<()> {
        let bytes = packed(arrays).map_err(|problem| file_error(path, problem))?;
        write_atomically(path, |file| file.write_all(&bytes))
    }

    fn packed(arrays: &[(&str, Array)]) -> io::Result<Vec<u8>> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, Array { shape, values }) in arrays {
            if shape.iter().product::<usize>() != values.len() {
                return Err(io::Error::other(format!(
                    "expected {name} of shape {shape:?}, found {} values",
                    values.len()
                )));
            }
            // The writer must know in advance of sizes that exceed 32 bits.
            let is_large = values.len() >= 1 << 29;
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            // A time stamp would make files of equal arrays differ.
            let options = options.last_modified_time(DateTime::default()).large_file(is_large);
            zip.start_file(format!("{name}.npy"), options)?;
            zip.write_all(&npy::start(shape))?;
            for part in values.chunks(1 << 14) {
                zip.write_all(&part.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
            }
        }
        Ok(zip.finish()?.into_inner())
    }

    pub fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
        let Archive { zip: mut archive, names, left, .. } = Archive::read(reader, source_name, how.max_bytes)?;
        let fail = |expected: String| {
            let found = if names.is_empty() { "none".into() } else { names.join(", ") };
            Err(format_error(source_name, expected, shown(&found)))
        };
        let usual = if how.is_labels { &LABELS[..] } else { &DATA[..] };
        let first_of = |usual: &[&str]| usual.iter().find_map(|name| names.iter().find(|other| other == name));
        let name = match (&how.array, &names[..]) {
            (Some(array), _) if names.contains(array) => array,
            (Some(array), _) => return fail(format!("an array {array}")),
            (None, [only]) => only,
            (None, _) => match first_of(usual) {
                Some(name) => name,
                None => return fail(format!("one array, one named {}, or the name of one", usual.join(" or "))),
            },
        };
        let within = Reading { max_bytes: left, ..how.clone() };
        let mut table = read_array(&mut archive, name, source_name, &within)?;
        if names.len() > 1 {
            table.note = Some(format!("array {} of {}", shown(name), shown(&names.join(", "))));
        }
        if ![LabelSource::Own, LabelSource::IfOwn].contains(&how.labels) {
            return Ok(table);
        }
        let candidates = names_of_labels(name, &names);
        match candidates.iter().find(|labels| names.contains(labels)).cloned() {
            None if how.labels == LabelSource::Own => fail(format!("an array of labels, {}", candidates.join(" or "))),
            None => Ok(table),
            Some(labels) => {
                let within = Reading { is_labels: true, ..within };
                let mut column = read_array(&mut archive, &labels, source_name, &within)?;
                if column.columns == 1 && column.len() == table.len() {
                    column.take_labels(&crate::formats::Column::Number(0), source_name)?;
                    table.labels = column.labels;
                } else if how.labels == LabelSource::Own {
                    let expected = format!("{labels} to be {} labels, as many as {name} has rows", table.len());
                    let found = format!("{} × {}", column.len(), column.columns);
                    return Err(format_error(source_name, expected, found));
                }
                Ok(table)
            }
        }
    }

    /// The possible names of an array's labels: y_test for x_test, train_labels for train_data or train_images. The usual names count
    /// only for the usual arrays or an only one: with other arrays present, they may belong to other rows.
    fn names_of_labels(name: &str, names: &[String]) -> Vec<String> {
        let is_label = |name: &str| LABELS.contains(&name);
        let is_only = names.iter().all(|other| other == name || is_label(other));
        let usual = if is_only || DATA.contains(&name) { &LABELS[..] } else { &[] };
        let of_letter = name.strip_prefix(['x', 'X']).map(|rest| format!("y{rest}"));
        let of_word =
            ["data", "images"].iter().filter(|word| name.contains(*word)).map(|word| name.replace(word, "labels"));
        let of_name: Vec<String> = of_letter.into_iter().chain(of_word).collect();
        let others = usual.iter().map(|&usual| usual.to_string()).filter(|usual| !of_name.contains(usual));
        let all: Vec<String> = of_name.iter().cloned().chain(others).collect();
        // The list is never empty, because the error message prints it.
        if all.is_empty() { vec![format!("{name}_labels")] } else { all }
    }

    type Zip = ZipArchive<Cursor<Vec<u8>>>;

    fn read_array(archive: &mut Zip, name: &str, source_name: &str, how: &Reading) -> Result<Table> {
        npy::read_table(&mut by_name(archive, name, source_name)?, source_name, how)
    }

    fn by_name<'a>(archive: &'a mut Zip, name: &str, source_name: &str) -> Result<impl Read + use<'a>> {
        archive.by_name(&format!("{name}.npy")).map_err(|problem| no_archive(source_name, &problem))
    }

    fn no_archive(source_name: &str, problem: &zip::result::ZipError) -> crate::Error {
        format_error(source_name, "a zip archive of npy arrays", shown(&problem.to_string()))
    }
}
