//! The note on disk: changed under a lock, and always whole.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use check::maintenance::{ALL_PROGRAMS, DEFAULT_FILE, Note, read};
use client::trusted;
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::shell::quoted;

/// How long another writer is waited for: a change takes milliseconds.
const LOCK_MAX: Duration = Duration::from_secs(5);
/// How often the lock is tried.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the note is.
pub(crate) struct Store {
    file: PathBuf,
}

impl Store {
    pub(crate) fn new(file: PathBuf) -> Store {
        Store { file }
    }

    /// The command line of a subcommand for this file.
    pub(crate) fn command(&self, subcommand: &str) -> String {
        if self.file == Path::new(DEFAULT_FILE) {
            return format!("mysqlchk-ctl {subcommand}");
        }
        format!("mysqlchk-ctl --maintenance-file={} {subcommand}", quoted(&self.file.display().to_string()))
    }

    /// The notes; `None` when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, is not to be trusted or breaks the syntax.
    pub(crate) fn read(&self) -> Result<Option<Vec<Note>>> {
        read(&self.file, &()).with_context(|| format!("cannot use maintenance note {}", self.file.display()))
    }

    /// Changes the notes. Of two programs that do so at the same time, the second sees what the first wrote; one that is
    /// killed leaves the old file or the new one.
    ///
    /// # Errors
    /// As [`Store::read`], and when the file cannot be written.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Vec<Note>) -> T) -> Result<T> {
        let _lock = self.lock()?;
        let mut notes = self.read()?.unwrap_or_default();
        let result = change(&mut notes);
        let written = if notes.is_empty() { remove(&self.file) } else { self.write(&notes) };
        written
            .and_then(|()| self.sync_directory())
            .with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(result)
    }

    /// Removes the file, whatever is in it, and returns its notes: one that cannot be used counts as one for all programs.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn clear(&self) -> Result<Vec<Note>> {
        let _lock = self.lock()?;
        let notes = self.read().unwrap_or_else(|_| Some(vec![Note::down(ALL_PROGRAMS.to_owned())]));
        let removed = remove(&self.file).and_then(|()| self.sync_directory());
        removed.with_context(|| format!("cannot remove {}", self.file.display()))?;
        Ok(notes.unwrap_or_default())
    }

    /// The lock, held while it is open. It is a file of mode 0600: one that others can open, they can hold.
    fn lock(&self) -> Result<File> {
        let directory = trusted::directory_of(&self.file);
        if !directory.exists() {
            // Whatever the umask is: the checks must be able to look into it.
            let made = fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)));
            made.with_context(|| format!("cannot make {}", directory.display()))?;
        }
        // What the checks would not trust is of no use, and following a name that others made may harm.
        trusted::ensure_directory_is_ours(directory)?;
        let path = beside(&self.file, ".lock");
        let no_link = i32::try_from(OFlags::NOFOLLOW.bits())?;
        let opened = File::options().create(true).append(true).mode(0o600).custom_flags(no_link).open(&path);
        let lock = opened.with_context(|| format!("cannot open {}", path.display()))?;
        let end = Instant::now() + LOCK_MAX;
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(lock),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
            }
            ensure!(Instant::now() < end, "another program holds {}: see `fuser {0}`, then try again", path.display());
            thread::sleep(PAUSE);
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(trusted::directory_of(&self.file))?.sync_all()
    }

    /// Written beside the note, synced, and put in its place.
    fn write(&self, notes: &[Note]) -> io::Result<()> {
        let new = beside(&self.file, ".new");
        // What a program that was killed has left.
        remove(&new)?;
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        let text: String = notes.iter().map(Note::to_text).collect();
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        fs::rename(&new, &self.file)
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
