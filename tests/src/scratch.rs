//! A directory for one server or one test: short path, owned by the account without privileges, removed on drop.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{janitor, user};

/// A directory that goes away when dropped, unless `LAB_KEEP=1` is set.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes a directory whose name begins with `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let path = janitor::base().join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path).unwrap();
        user::give(&path);
        Self(path)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside the directory.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes a directory inside, owned like this one.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir_all(&path).unwrap();
        user::give(&path);
        path
    }

    /// Writes a file, owned like the directory, mode 0644.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        fs::write(&path, content).unwrap();
        user::give(&path);
        path
    }

    /// Writes a program, mode 0755.
    ///
    /// `install` makes the file, not we: a descriptor of ours that is open for writing could be inherited by
    /// a process that another thread starts just now, and the program would be "text file busy".
    pub fn program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let source = self.file(&format!("{name}.text"), content);
        let path = self.join(name);
        install(&source, &path);
        path
    }
}

/// Copies a program to where the account without privileges can run it.
pub(crate) fn install(from: &Path, to: &Path) {
    let done = Command::new("install").args(["-m", "755"]).args([from, to]).status().unwrap();
    assert!(done.success(), "cannot copy {} to {}", from.display(), to.display());
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if janitor::keeps() {
            eprintln!("kept {}", self.0.display());
        } else {
            // What a dying process still writes is left to the janitor.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
