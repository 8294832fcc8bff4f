//! Files: atomic writes, and reads that do not trust the sizes that a file claims.

use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter, Read, Write},
    ops::Range,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The beginning and the end of a temporary file's name.
const TEMPORARY_START: &str = ".harmonium-";
const TEMPORARY_END: &str = ".tmp";
/// The greatest allocation before the first byte of a stream has arrived.
const FIRST_ALLOCATION: usize = 1 << 20;

/// Whether this process writes nothing.
static IS_READ_ONLY: AtomicBool = AtomicBool::new(false);

/// Makes every function of this module that writes succeed without writing, for the rest of the process: one process of several
/// that compute the same run writes, the others call this. [`write_atomically`] still calls its `write`.
pub fn write_nothing() {
    IS_READ_ONLY.store(true, Ordering::Relaxed);
}

fn is_read_only() -> bool {
    IS_READ_ONLY.load(Ordering::Relaxed)
}

/// The operating system's functions that [`write_atomically`] uses. A test replaces them by a disk that loses all data that were not
/// synced.
trait Disk {
    type File: Write;

    /// Creates a file; fails if there is one of that name.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Writes the contents of a file to the disk durably.
    fn sync(&self, file: Self::File) -> io::Result<()>;
    /// Renames a file atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Writes the names in a folder to the disk durably.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// The operating system.
struct System;

impl Disk for System {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn sync(&self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// On systems other than Unix, a folder cannot be opened as a file.
    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if !cfg!(unix) {
            return Ok(());
        }
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(problem) if is_unsupported(&problem) => Ok(()),
            synced => synced,
        }
    }
}

/// Returns true if a folder cannot be synced on this system, as opposed to a failure of the disk: it may be unreadable, or the file
/// system may lack the operation, which different file systems report differently. (The PostgreSQL Group, `fsync_fname` in
/// PostgreSQL's fd.c, ignores the same errors.)
fn is_unsupported(problem: &io::Error) -> bool {
    /// EBADF on every Unix; std has no kind for it.
    const EBADF: i32 = 9;
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    matches!(problem.kind(), InvalidInput | IsADirectory | PermissionDenied | Unsupported)
        || problem.raw_os_error() == Some(EBADF)
}

/// Writes a file atomically: `path` holds either its old contents or all of what `write` produces, even after a power failure. When
/// this function returns, `path` holds the new contents.
///
/// ```
/// use harmonium::storage::write_atomically;
///
/// let path = std::env::temp_dir().join(format!("harmonium-{}.txt", std::process::id()));
/// write_atomically(&path, |file| file.write_all(b"whole"))?;
/// // If the second write fails, the first contents remain.
/// let failed = write_atomically(&path, |file| file.write_all(b"half").and(Err(std::io::Error::other("no more"))));
/// assert!(failed.is_err());
/// assert_eq!(std::fs::read(&path).expect("it is there"), b"whole");
/// # let _ = std::fs::remove_file(path);
/// # Ok::<(), harmonium::Error>(())
/// ```
///
/// The bytes go to a temporary file in the same folder, are synced, and take the name `path` by an atomic rename; then the
/// folder is synced. A symbolic link at `path` is replaced, not followed.
///
/// If folders cannot be synced, the last step is skipped without an error: on Windows, on file systems without this operation
/// (some of those over a network or in user space), and in a folder that may be written but not read. The file is still whole, but
/// after a power failure soon after the return it may have its old contents. The atomic rename is a promise of the file system:
/// local file systems of Unix keep it; on Windows NTFS does in practice. On Windows, a file that another program has open may not be
/// replaceable, which is an error. No test runs on Windows.
///
/// # Errors
/// [`Error::File`] if the operating system refuses, or if `path` exists and is not a regular file (a folder or a device would be
/// removed by the rename). The temporary file is removed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    if is_read_only() {
        return write(&mut io::sink()).map_err(|problem| file_error(path, problem));
    }
    check_replaceable(path)?;
    write_to(&System, path, write).map_err(|problem| file_error(path, problem))
}

/// Checks that `path` is a regular file or does not exist, as [`write_atomically`] requires.
///
/// # Errors
/// [`Error::File`] if it is something else.
pub fn check_replaceable(path: &Path) -> Result<()> {
    if !is_read_only() && fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(file_error(path, "expected a regular file or nothing, found a folder or a device"));
    }
    Ok(())
}

fn write_to<D: Disk>(disk: &D, path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let (temporary, file) = create_beside(disk, path)?;
    let written = fill(disk, file, write).and_then(|()| disk.rename(&temporary, path));
    if written.is_err() {
        // The first error is reported; an error of the removal is not.
        let _ = disk.remove(&temporary);
        return written;
    }
    disk.sync_folder(folder_of(path))
}

fn fill<D: Disk>(disk: &D, file: D::File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut writer = BufWriter::new(file);
    write(&mut writer)?;
    disk.sync(writer.into_inner().map_err(io::IntoInnerError::into_error)?)
}

/// Creates a file with a unique name in the folder of `path`.
fn create_beside<D: Disk>(disk: &D, path: &Path) -> io::Result<(PathBuf, D::File)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    loop {
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = folder_of(path).join(format!("{TEMPORARY_START}{}-{n}{TEMPORARY_END}", process::id()));
        match disk.create(&temporary) {
            Err(problem) if problem.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (temporary, file)),
        }
    }
}

/// Creates a folder and its missing parents durably, as a file is not safe before its folder's name is. If folders cannot be synced,
/// see [`write_atomically`].
///
/// # Errors
/// [`Error::File`] with the operating system's message.
pub fn create_folder(path: &Path) -> Result<()> {
    let fail = |problem: io::Error| file_error(path, format!("expected a folder to write to: {problem}"));
    if is_read_only() {
        return Ok(());
    }
    let missing = path.ancestors().take_while(|folder| *folder != Path::new("") && !folder.exists()).count();
    fs::create_dir_all(path).map_err(fail)?;
    path.ancestors().take(missing).try_for_each(|folder| System.sync_folder(folder_of(folder))).map_err(fail)
}

/// Locks the folder `path` against other processes that call this function, until the returned handle is dropped. The system releases
/// the lock when the process ends in any way. Returns `None`, without a lock, if the system or the file system has no such locks or the
/// folder cannot be opened, as on Windows.
///
/// # Errors
/// [`Error::File`] if another process holds the lock.
pub fn hold_folder(path: &Path) -> Result<Option<File>> {
    if is_read_only() {
        return Ok(None);
    }
    // On systems other than Unix, a folder cannot be opened as a file.
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(file_error(path, "expected a folder that no other run writes to, found one that does"))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the temporary files in the folder `path` that remain if a process is killed during [`write_atomically`]; returns their
/// number. No other process may write to the folder meanwhile: use [`hold_folder`].
///
/// # Errors
/// [`Error::File`] if the folder cannot be read or a file cannot be removed.
pub fn remove_temporaries(path: &Path) -> Result<usize> {
    let fail = |problem: io::Error| file_error(path, problem);
    let mut removed = 0;
    if is_read_only() {
        return Ok(removed);
    }
    for entry in fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let is_temporary = entry.file_name().to_str().is_some_and(is_temporary);
        if is_temporary && entry.file_type().map_err(fail)?.is_file() {
            fs::remove_file(entry.path()).map_err(fail)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Returns true if [`create_beside`] could have chosen this name: two numbers between the start and the end.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let between = name.strip_prefix(TEMPORARY_START).and_then(|name| name.strip_suffix(TEMPORARY_END));
    between.and_then(|between| between.split_once('-')).is_some_and(|(id, n)| number(id) && number(n))
}

/// Checks that a file can be written to the folder `path`.
///
/// # Errors
/// [`Error::File`] with the operating system's message.
pub fn check_writable(path: &Path) -> Result<()> {
    if is_read_only() {
        return Ok(());
    }
    let probe = create_beside(&System, &path.join("probe")).and_then(|(temporary, _)| fs::remove_file(temporary));
    probe.map_err(|problem| file_error(path, problem))
}

/// The [`Error::File`] of a path.
pub(crate) fn file_error(path: &Path, problem: impl ToString) -> Error {
    Error::File { path: path.display().to_string(), problem: problem.to_string() }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Reads a whole file.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    check_ends(path)?;
    fs::read(path).map_err(|problem| file_error(path, problem))
}

/// Checks that a path is not a device or a pipe, which may have no end.
pub(crate) fn check_ends(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).map_err(|problem| file_error(path, problem))?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(file_error(path, "expected a regular file, found a device or a pipe"));
    }
    Ok(())
}

/// Reads exactly `len` bytes of `what`. Memory at most doubles in each step, so that a header that claims too large a size costs no
/// memory.
pub(crate) fn read_exactly(reader: &mut dyn Read, len: usize, what: &str, source_name: &str) -> Result<Vec<u8>> {
    read_part(reader, len, 0..len, what, source_name)
}

/// [`read_exactly`] that keeps only a part of the bytes in memory.
pub(crate) fn read_part(
    reader: &mut dyn Read, len: usize, part: Range<usize>, what: &str, source_name: &str,
) -> Result<Vec<u8>> {
    let broken = |problem: io::Error| stream_error(source_name, problem);
    let short = |found: usize| format_error(source_name, format!("{len} bytes of {what}"), found.to_string());
    let skip = |reader: &mut dyn Read, bytes: Range<usize>| {
        let came = io::copy(&mut reader.take(bytes.len() as u64), &mut io::sink()).map_err(broken)? as usize;
        if came < bytes.len() { Err(short(bytes.start + came)) } else { Ok(()) }
    };
    skip(reader, 0..part.start)?;
    let mut bytes = Vec::new();
    while bytes.len() < part.len() {
        let step = (part.len() - bytes.len()).min(bytes.len().max(FIRST_ALLOCATION));
        bytes.try_reserve_exact(step).map_err(|problem| stream_error(source_name, problem))?;
        let came = reader.take(step as u64).read_to_end(&mut bytes).map_err(broken)?;
        if came < step {
            return Err(short(part.start + bytes.len()));
        }
    }
    skip(reader, part.end..len)?;
    Ok(bytes)
}

/// Checks that the stream ends here.
pub(crate) fn expect_end(reader: &mut dyn Read, source_name: &str) -> Result<()> {
    let mut one = Vec::new();
    match reader.take(1).read_to_end(&mut one) {
        Ok(0) => Ok(()),
        Ok(_) => Err(format_error(source_name, "the end after the values that the header announces", "more bytes")),
        Err(problem) => Err(stream_error(source_name, problem)),
    }
}

/// The [`Error::Format`] of a file or stream.
pub(crate) fn format_error(source_name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
    Error::Format { source_name: source_name.into(), expected: expected.into(), found: found.into() }
}

/// The [`Error::File`] of a stream.
pub(crate) fn stream_error(source_name: &str, problem: impl ToString) -> Error {
    Error::File { path: source_name.into(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests;
