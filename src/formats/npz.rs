//! NumPy's `.npz` files: zip archives of [`npy`](super::npy) arrays.
//!
//! Read is the array of the name that is asked for, else the only one, else `x_train`, `X` or `data`, the first of them that is
//! there. Its labels, where they are asked for, are `y_train`, `y`, `labels` or `target`. With feature `npz`; a build without it
//! says so.

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
mod archive {
    use super::{Reading, Result, Table};
    use crate::{
        error::shown,
        formats::{LabelSource, npy},
        storage::{format_error, stream_error},
    };
    use std::io::{Cursor, Read};
    use zip::ZipArchive;

    /// Arrays of data, and of labels, by the names that they go by.
    const DATA: [&str; 3] = ["x_train", "X", "data"];
    const LABELS: [&str; 4] = ["y_train", "y", "labels", "target"];

    type Archive = ZipArchive<Cursor<Vec<u8>>>;

    pub fn read_table(reader: &mut dyn Read, source_name: &str, how: &Reading) -> Result<Table> {
        // The list of its files stands at an archive's end.
        let mut bytes = Vec::new();
        let most = how.max_bytes.min(isize::MAX as u64);
        reader.take(most).read_to_end(&mut bytes).map_err(|problem| stream_error(source_name, problem))?;
        if bytes.len() as u64 == most {
            let expected = format!("an archive of less than {most} bytes of memory");
            return Err(format_error(source_name, expected, "a longer one"));
        }
        let left = how.max_bytes - bytes.len() as u64;
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|problem| no_archive(source_name, &problem))?;
        let names: Vec<String> = archive
            .file_names()
            .filter_map(|name| name.ok().and_then(|name| name.strip_suffix(".npy").map(str::to_string)))
            .collect();
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
        let labels = first_of(&LABELS).filter(|_| [LabelSource::Own, LabelSource::IfOwn].contains(&how.labels));
        if how.labels == LabelSource::Own && labels.is_none() {
            return fail(format!("an array of labels, {}", LABELS.join(" or ")));
        }
        if let Some(labels) = labels {
            let within = Reading { is_labels: true, ..within };
            let mut column = read_array(&mut archive, labels, source_name, &within)?;
            if column.columns != 1 || column.len() != table.len() {
                let expected = format!("{labels} to be {} labels, as many as {name} has rows", table.len());
                let found = format!("{} × {}", column.len(), column.columns);
                return Err(format_error(source_name, expected, found));
            }
            column.take_labels(&crate::formats::Column::Number(0), source_name)?;
            table.labels = column.labels;
        }
        if names.len() > 1 {
            table.told = Some(format!("array {} of {}", shown(name), shown(&names.join(", "))));
        }
        Ok(table)
    }

    fn read_array(archive: &mut Archive, name: &str, source_name: &str, how: &Reading) -> Result<Table> {
        let mut file = archive.by_name(&format!("{name}.npy")).map_err(|problem| no_archive(source_name, &problem))?;
        npy::read_table(&mut file, source_name, how)
    }

    fn no_archive(source_name: &str, problem: &zip::result::ZipError) -> crate::Error {
        format_error(source_name, "a zip archive of npy arrays", shown(&problem.to_string()))
    }
}
