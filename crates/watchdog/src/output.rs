//! A file that takes the answer in place of stdout. Who reads it finds the last answer, and always whole: it is written
//! beside the file and renamed over it.
//!
//! The handler of the alarm does this, too, so [`Output::put`] uses nothing but system calls that signal-safety(7) lists.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fchmod, open, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::alarm::write_all;

/// Everybody may read it: the collector that does is another user.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR).union(Mode::RGRP).union(Mode::ROTH);

/// The file, and what is written when it cannot be.
#[derive(Debug)]
pub struct Output {
    file: CString,
    /// In the same directory, with an ending that no collector reads; of this process alone.
    temporary: CString,
    complaint: String,
}

/// Why a file cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A directory, a device, or a link, which could lead anywhere.
    NotARegularFile,
    /// It would be replaced by a file of ours.
    BelongsToAnother,
    /// The system refuses.
    System(Errno),
}

impl Output {
    /// This file; `None` for a path that does not end in a name.
    #[must_use]
    pub fn new(file: &Path, program: &str) -> Option<Output> {
        let name = file.file_name()?.to_str()?;
        let temporary = file.with_file_name(format!(".{name}.{}", std::process::id()));
        let path = |path: &Path| CString::new(path.as_os_str().as_bytes()).ok();
        let complaint = format!("{program}: down: cannot write {}: ", file.display());
        Some(Output { file: path(file)?, temporary: path(&temporary)?, complaint })
    }

    /// What to write before the cause.
    pub(crate) fn complaint(&self) -> &str {
        &self.complaint
    }

    /// Puts `bytes` in the place of what the file held.
    ///
    /// # Errors
    /// When that is not possible. The file is as it was.
    pub fn put(&self, bytes: &[u8]) -> Result<(), Refusal> {
        self.ensure_ours()?;
        // What a process of the same number has left that was killed.
        let _ = unlinkat(CWD, self.temporary.as_c_str(), AtFlags::empty());
        let done = self.write(bytes).and_then(|()| renameat(CWD, self.temporary.as_c_str(), CWD, self.file.as_c_str()));
        if done.is_err() {
            let _ = unlinkat(CWD, self.temporary.as_c_str(), AtFlags::empty());
        }
        done.map_err(Refusal::System)
    }

    /// A file of this user, or none.
    fn ensure_ours(&self) -> Result<(), Refusal> {
        match statat(CWD, self.file.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Refusal::System(error)),
            Ok(about) if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile => {
                Err(Refusal::NotARegularFile)
            }
            Ok(about) if about.st_uid != rustix::process::geteuid().as_raw() => Err(Refusal::BelongsToAnother),
            Ok(_) => Ok(()),
        }
    }

    fn write(&self, bytes: &[u8]) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(self.temporary.as_c_str(), flags, MODE)?;
        // Whatever the umask.
        fchmod(&file, MODE)?;
        write_all(file.as_fd(), bytes)
    }
}

impl Refusal {
    /// The cause, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Refusal::NotARegularFile => "it is not a regular file",
            Refusal::BelongsToAnother => "it belongs to another user",
            Refusal::System(Errno::ACCESS | Errno::PERM) => "permission denied",
            Refusal::System(Errno::NOENT | Errno::NOTDIR) => "no such directory",
            Refusal::System(Errno::NOSPC | Errno::DQUOT) => "no space left",
            Refusal::System(Errno::FBIG) => "the file would be too large",
            Refusal::System(Errno::ROFS) => "the file system is read-only",
            Refusal::System(Errno::NAMETOOLONG) => "the name is too long",
            Refusal::System(_) => "an error of the system",
        }
    }
}
