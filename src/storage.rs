//! Files: written whole or not at all, and read without trusting what they say of their own size.

use crate::error::{Error, Result};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What the name of a temporary file begins and ends with.
const TEMPORARY_START: &str = ".harmonium-";
const TEMPORARY_END: &str = ".tmp";
/// How much memory is asked for before the first byte of a stream has come.
const FIRST_ALLOCATION: usize = 1 << 20;

/// Whether this process writes nothing.
static IS_READ_ONLY: AtomicBool = AtomicBool::new(false);

/// From here on the functions of this module that write succeed without having written anything: for a process that makes what
/// another one of the same run writes. What [`write_atomically`] is given is called all the same.
pub fn write_nothing() {
    IS_READ_ONLY.store(true, Ordering::Relaxed);
}

fn is_read_only() -> bool {
    IS_READ_ONLY.load(Ordering::Relaxed)
}

/// What [`write_atomically`] asks of the operating system, so that a test can put one in its place that loses whatever it
/// was not told to keep.
trait Disk {
    type File: Write;

    /// A new file; fails where there is one of that name.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Makes the contents of a file last.
    fn sync(&self, file: Self::File) -> io::Result<()>;
    /// Gives a file another name, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder last.
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

    /// Elsewhere than on Unix a folder cannot be opened as a file.
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

/// Whether a folder cannot be synced here at all, as opposed to a disk that fails: it may not be read, or the file system has
/// no such operation, which it says in one way or another. (The PostgreSQL Group, `fsync_fname` in PostgreSQL's fd.c, passes
/// over the same.)
fn is_unsupported(problem: &io::Error) -> bool {
    /// On every Unix; std has no kind for it.
    const EBADF: i32 = 9;
    use io::ErrorKind::{InvalidInput, IsADirectory, PermissionDenied, Unsupported};
    matches!(problem.kind(), InvalidInput | IsADirectory | PermissionDenied | Unsupported)
        || problem.raw_os_error() == Some(EBADF)
}

/// Writes a file so that `path` holds either what it held before or all of what `write` gives, also if power fails; when it
/// has returned, the latter.
///
/// The bytes go to a temporary file in the same folder, reach the disk, and take the file's name in one step; then the
/// folder reaches the disk. A symbolic link at `path` is replaced, not followed.
///
/// Where folders cannot be synced the last step is left out without an error: on Windows, on file systems that do not offer
/// it (some of those over a network or in user space), and in a folder that may be written to but not read. There, too,
/// `path` holds the one or the other as a whole, but if power fails soon after this has returned it may be what it held
/// before. That a name is taken in one step, the file system has to promise: local ones of Unix do; on Windows NTFS does in
/// practice, and a file that another program has open may not be replaced, which is an error. No test runs on Windows.
///
/// # Errors
/// [`Error::File`] where the operating system refuses, or where `path` is there and is no regular file (a folder, a device:
/// taking its name would remove it). The temporary file is removed.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    if is_read_only() {
        return write(&mut io::sink()).map_err(|problem| file_error(path, problem));
    }
    check_replaceable(path)?;
    write_to(&System, path, write).map_err(|problem| file_error(path, problem))
}

/// Fails where `path` is there and is no regular file, which [`write_atomically`] would refuse to replace.
///
/// # Errors
/// [`Error::File`] that says so.
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
        // The first failure is the one to tell.
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

/// A new file in the folder of `path`, under a name that nobody else has.
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

/// Makes a folder, and those above it, so that they last where folders can be synced ([`write_atomically`] on where they
/// cannot): a file in it is not safe while the folder's own name is not.
///
/// # Errors
/// [`Error::File`] with what the operating system says.
pub fn create_folder(path: &Path) -> Result<()> {
    let fail = |problem: io::Error| file_error(path, format!("expected a folder to write to: {problem}"));
    if is_read_only() {
        return Ok(());
    }
    let missing = path.ancestors().take_while(|folder| *folder != Path::new("") && !folder.exists()).count();
    fs::create_dir_all(path).map_err(fail)?;
    path.ancestors().take(missing).try_for_each(|folder| System.sync_folder(folder_of(folder))).map_err(fail)
}

/// Keeps other processes that ask for it out of the folder `path` as long as what it gives lives; when the process ends,
/// however it ends, the system lets go. None where the system or the file system has no such locks, or the folder cannot be
/// opened, as on Windows: there nobody is kept out.
///
/// # Errors
/// [`Error::File`] where somebody else holds the folder.
pub fn hold_folder(path: &Path) -> Result<Option<File>> {
    if is_read_only() {
        return Ok(None);
    }
    // Elsewhere than on Unix a folder cannot be opened as a file.
    let Ok(folder) = File::open(path) else { return Ok(None) };
    match folder.try_lock() {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => {
            Err(file_error(path, "expected a folder that no other run writes to, found one that does"))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// Removes the temporary files that a process left in the folder `path` when it was killed in the middle of
/// [`write_atomically`], and says how many there were. Only one process at a time may write to a folder where this is done:
/// [`hold_folder`].
///
/// # Errors
/// [`Error::File`] where the folder cannot be read or a file cannot be removed.
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

/// Whether [`create_beside`] could have given a file this name: two numbers between start and end.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let between = name.strip_prefix(TEMPORARY_START).and_then(|name| name.strip_suffix(TEMPORARY_END));
    between.and_then(|between| between.split_once('-')).is_some_and(|(id, n)| number(id) && number(n))
}

/// Fails where no file can be written to the folder `path`.
///
/// # Errors
/// [`Error::File`] with what the operating system says.
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

/// Reads a file whole.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    check_ends(path)?;
    fs::read(path).map_err(|problem| file_error(path, problem))
}

/// Fails where there is a device or a pipe, which need not end.
pub(crate) fn check_ends(path: &Path) -> Result<()> {
    let kind = fs::metadata(path).map_err(|problem| file_error(path, problem))?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(file_error(path, "expected a regular file, found a device or a pipe"));
    }
    Ok(())
}

/// Reads exactly `len` bytes of `what`, in steps that at most double what has come: a header that promises more than there
/// is costs no memory.
pub(crate) fn read_exactly(reader: &mut dyn Read, len: usize, what: &str, source_name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let step = (len - bytes.len()).min(bytes.len().max(FIRST_ALLOCATION));
        bytes.try_reserve_exact(step).map_err(|problem| stream_error(source_name, problem))?;
        let came =
            reader.take(step as u64).read_to_end(&mut bytes).map_err(|problem| stream_error(source_name, problem))?;
        if came < step {
            return Err(format_error(source_name, format!("{len} bytes of {what}"), bytes.len().to_string()));
        }
    }
    Ok(bytes)
}

/// Fails unless the stream ends here.
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
