//! Files that decide what is asked and whom we trust: only their owner may write them. And the secrets in them.

use std::any::Any;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, retry_on_intr};

use crate::watch::Watch;

/// A password. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(password: String) -> Secret {
        Secret(password)
    }

    /// The password itself, for the login and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

/// Opens files, and warns the program's [`Watch`] of one that may hang.
pub(crate) struct Opener<'w> {
    watch: &'w dyn Watch,
    warned: Option<Box<dyn Any>>,
}

impl Opener<'_> {
    pub(crate) fn new(watch: &dyn Watch) -> Opener<'_> {
        Opener { watch, warned: None }
    }

    /// Opens a file or a directory for reading. Where the path leaves the file system of `/` it may lead to one that hangs.
    pub(crate) fn open(&mut self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::empty())
    }

    fn open_with(&mut self, path: &Path, more: OFlags) -> io::Result<File> {
        // O_NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | more;
        if self.warned.is_none() {
            let here = || rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_XDEV);
            // A relative path begins in a directory that may be anywhere.
            let opened = if path.is_absolute() { retry_on_intr(here) } else { Err(Errno::XDEV) };
            match opened {
                // The last two: a kernel before 5.6, and a sandbox that does not know the call.
                Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => self.warned = self.watch.may_hang(),
                opened => return Ok(opened?.into()),
            }
        }
        Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?.into())
    }
}

/// Reads a regular file of at most `max` bytes that only its owner may write.
///
/// # Errors
/// A file of another kind, or one that cannot be read. The message gives the reason and does not name the file.
pub(crate) fn read(opened: io::Result<File>, max: u64) -> Result<Vec<u8>> {
    let file = opened.map_err(|error| io_words(&error))?;
    let about = file.metadata().map_err(|error| io_words(&error))?;
    ensure!(about.is_file(), "it is not a regular file");
    ensure_only_owner_writes(&about)?;
    ensure!(about.len() <= max, "it is larger than {} KiB", max / 1024);
    let mut bytes = Vec::with_capacity(usize::try_from(about.len())? + 1);
    file.take(max).read_to_end(&mut bytes).map_err(|error| io_words(&error))?;
    Ok(bytes)
}

/// Reads a file that decides about traffic: a regular file of at most `max` bytes, not a symbolic link; it and its directory
/// belong to root or to this user, and only their owner may write them. `None` when there is no such file.
///
/// # Errors
/// Any other file, or one that cannot be read. The message gives the reason and does not name the file.
pub fn read_ours_if_there(path: &Path, max: u64, watch: &dyn Watch) -> Result<Option<Vec<u8>>> {
    let opened = Opener::new(watch).open_with(path, OFlags::NOFOLLOW);
    match &opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => bail!("it is a symbolic link"),
        Err(error) => return Err(io_words(error)),
        Ok(file) => ensure_ours(&file.metadata().map_err(|error| io_words(&error))?)?,
    }
    ensure_directory_is_ours(directory_of(path))?;
    read(opened, max).map(Some)
}

/// Refuses a directory whose files decide about traffic and in which others could put theirs.
///
/// # Errors
/// It belongs to another user, others may write it, or it cannot be looked at. The message names it.
pub fn ensure_directory_is_ours(directory: &Path) -> Result<()> {
    let about = fs::metadata(directory).map_err(|error| io_words(&error));
    about.and_then(|about| ensure_ours(&about)).with_context(|| format!("the directory {}", directory.display()))
}

/// The directory that a file is in.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn ensure_ours(about: &Metadata) -> Result<()> {
    let own = rustix::process::geteuid().as_raw();
    ensure!([0, own].contains(&about.uid()), "it belongs to uid {}, not to root or uid {own}", about.uid());
    ensure_only_owner_writes(about)
}

pub(crate) fn ensure_only_owner_writes(about: &Metadata) -> Result<()> {
    let mode = about.mode() & 0o7777;
    ensure!(mode & 0o022 == 0, "others may write it (mode {mode:04o}): run `chmod go-w` on it");
    Ok(())
}

/// Why a file cannot be used, with the user who could not.
pub(crate) fn io_words(error: &io::Error) -> anyhow::Error {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match error.kind() {
        NotFound => anyhow!("no such file"),
        PermissionDenied => anyhow!("permission denied (uid {})", rustix::process::geteuid().as_raw()),
        kind => anyhow!("{kind}"),
    }
}
