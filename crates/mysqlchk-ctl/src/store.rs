//! The note on disk: changed under a lock, and always whole.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use check::maintenance::{Note, read};
use client::trusted;
use rustix::fs::{FlockOperation, flock};

/// Where the note is.
pub(crate) struct Store {
    file: PathBuf,
}

impl Store {
    pub(crate) fn new(file: PathBuf) -> Store {
        Store { file }
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
        let lock = self.lock()?;
        let mut notes = self.read()?.unwrap_or_default();
        let result = change(&mut notes);
        let written = if notes.is_empty() { remove(&self.file) } else { self.write(&notes) };
        written.and_then(|()| lock.sync_all()).with_context(|| format!("cannot write {}", self.file.display()))?;
        Ok(result)
    }

    /// Removes the file, whatever is in it.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        let lock = self.lock()?;
        let removed = remove(&self.file).and_then(|()| lock.sync_all());
        removed.with_context(|| format!("cannot remove {}", self.file.display()))
    }

    /// The directory of the note, locked while it is open.
    fn lock(&self) -> Result<File> {
        let directory = trusted::directory_of(&self.file);
        if !directory.exists() {
            // Whatever the umask is: the checks must be able to look into it.
            let made = fs::create_dir_all(directory)
                .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o755)));
            made.with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let lock = File::open(directory).with_context(|| format!("cannot open {}", directory.display()))?;
        rustix::io::retry_on_intr(|| flock(&lock, FlockOperation::LockExclusive)).context("cannot lock the note")?;
        Ok(lock)
    }

    /// Written beside the note, synced, and put in its place.
    fn write(&self, notes: &[Note]) -> io::Result<()> {
        let new = self.file.with_extension("new");
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

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
