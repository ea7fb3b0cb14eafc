//! An operator's note in a directory of its own, and the program that writes it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::program::binary;
use crate::scratch::Scratch;
use crate::user;
use crate::xinetd::Services;

/// The words of a line as a shell has them, as far as our documents and units need it: double quotes keep blanks.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    let words = line.split(|c: char| {
        quoted ^= c == '"';
        c == ' ' && !quoted
    });
    words.map(|word| word.replace('"', "")).collect()
}

/// A directory that only its owner may write, and where a note would be in it.
#[derive(Debug)]
pub struct Notes(Scratch);

impl Default for Notes {
    fn default() -> Self {
        Self::new()
    }
}

impl Notes {
    /// A directory without a note.
    #[must_use]
    pub fn new() -> Self {
        let scratch = Scratch::new("notes");
        user::give(scratch.path());
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        Self(scratch)
    }

    /// Where the note is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.join("maintenance")
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The option that makes a program use it.
    #[must_use]
    pub fn option(&self) -> String {
        format!("--maintenance-file={}", self.path().display())
    }

    /// Services whose checks all look for it here.
    #[must_use]
    pub fn services(&self, services: Services) -> Services {
        let names = services.names();
        names.iter().fold(services, |services, name| services.append(name, "server_args", &self.option()))
    }

    /// Writes the note, as a person does with an editor.
    pub fn write(&self, text: &str) {
        self.0.file("maintenance", text);
        user::give(&self.path());
        fs::set_permissions(self.path(), Permissions::from_mode(0o644)).unwrap();
    }

    /// Runs `mysqlchk-ctl` with these words, as the user of the checks, whose name is `alice`.
    #[must_use]
    pub fn ctl(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// The same, where it must end well. Returns what it said.
    #[track_caller]
    pub fn ctl_ok(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The command of [`Self::ctl`].
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary("mysqlchk-ctl"));
        command.args(words).arg(self.option());
        command.env_clear().env("LOGNAME", "alice").stdin(Stdio::null());
        user::drop_to_unprivileged(&mut command);
        command
    }
}
