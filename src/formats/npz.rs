//! NumPy's `.npz` files: zip archives of [`npy`](super::npy) arrays.
//!
//! Read is the array of the name that is asked for, else the only one, else `x_train`, `X` or `data`, the first of them that is
//! there. Its labels, where they are asked for, are the array that is called as it is with `y` for `x`, or `labels` for `data` or
//! `images`: `y_test` for `x_test`, `train_labels` for `train_data`; else, of a usual or only array, `y_train`, `y`, `labels` or `target`.
//! With feature `npz`; a build without it says so.
//!
//! An [`Archive`] has its arrays as they are, by their names, for what is no data: the parameters of other programs' models.
//! [`save`] writes one.

use super::{Reading, table::Table};
use crate::error::Result;

/// What an `.npz` file begins with.
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

    /// Arrays of data, and of labels, by the names that they go by.
    const DATA: [&str; 3] = ["x_train", "X", "data"];
    const LABELS: [&str; 4] = ["y_train", "y", "labels", "target"];

    /// Numbers with a shape.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Array {
        /// The sizes of its dimensions: one to four.
        pub shape: Vec<usize>,
        /// The last index runs fastest; other types than `f4` are rounded to it.
        pub values: Vec<f32>,
    }

    /// An open archive of arrays, which are read when they are asked for.
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
        /// How much memory an array may take.
        left: u64,
    }

    impl Archive {
        /// Opens the file `path`, which takes at most `max_bytes` of memory with one of its arrays.
        ///
        /// # Errors
        /// [`Error::File`](crate::Error::File) where it cannot be read, [`Error::Format`](crate::Error::Format) where it is no zip
        /// archive or longer.
        pub fn open(path: &Path, max_bytes: u64) -> Result<Self> {
            check_ends(path)?;
            let mut file = File::open(path).map_err(|problem| file_error(path, problem))?;
            Self::read(&mut file, &path.display().to_string(), max_bytes)
        }

        fn read(reader: &mut dyn Read, source_name: &str, max_bytes: u64) -> Result<Self> {
            // The list of its files stands at an archive's end.
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

        /// The names of its arrays, as the archive lists them.
        pub fn names(&self) -> &[String] {
            &self.names
        }

        /// The array of a name.
        ///
        /// # Errors
        /// [`Error::Format`](crate::Error::Format) where there is none, or it is none that [`npy`] reads, one dimension allowed, or
        /// needs more memory than there may be.
        pub fn array(&mut self, name: &str) -> Result<Array> {
            let how = Reading { max_bytes: self.left, is_labels: true, ..Reading::default() };
            let source_name = format!("{}: {}", self.source_name, shown(name));
            let mut file = by_name(&mut self.zip, name, &source_name)?;
            let (numbers, shape) = npy::read_numbers(&mut file, &source_name, &how)?;
            Ok(Array { shape, values: numbers.into_f32() })
        }
    }

    /// Writes arrays under their names, whole or not at all, as `numpy.savez` does; equal arrays make equal files.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) with what the operating system says, or where an array's shape is not that of its values.
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
            // Sizes beyond 32 bits must be told before.
            let is_large = values.len() >= 1 << 29;
            let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
            // No time of day, or equal arrays would make different files.
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
            table.told = Some(format!("array {} of {}", shown(name), shown(&names.join(", "))));
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

    /// What the labels of an array may be called: y_test for x_test, train_labels for train_data or train_images. The usual names are
    /// those of the usual arrays and of an only one: beside others they would be taken for labels of other rows.
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
        // There is always something to ask for.
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
