//! Programs of other Debian releases, from the directories that `tests/roots` unpacked.
//!
//! They run on the host's kernel with their own release's libraries: the root's own loader is started, and told
//! where the libraries are. No `chroot`, no privileges.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::scratch::Scratch;
use crate::{janitor, user};

/// A root, with what it takes to run a program in it.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    loader: PathBuf,
    libraries: PathBuf,
}

/// `MySQL` 9 and `HAProxy` 3.2.
pub fn sid() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root::find("sid"))
}

/// `MariaDB` 11.8 and `Galera`.
pub fn trixie() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root::find("trixie"))
}

/// An inetd, what boots a systemd, and `promtool`.
pub fn bookworm() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root::find("bookworm"))
}

impl Root {
    /// # Panics
    /// When it is not there: a suite that skips is a suite that lies.
    fn find(suite: &str) -> Self {
        let unpacked = env::var_os("MYSQLCHK_ROOTS").map(|dir| Path::new(&dir).join(suite));
        let Some(path) = unpacked.filter(|dir| dir.join(".complete").is_file()) else {
            panic!("no software of Debian {suite}: set MYSQLCHK_ROOTS and run make roots");
        };
        let path = reachable(fs::canonicalize(path).unwrap(), suite);
        let is_loader = |file: &Path| file.file_name().unwrap().to_string_lossy().starts_with("ld-linux");
        // `lib64` on amd64, `lib` on arm64; before Debian 13 packages have them outside of `usr`.
        let loaders = ["usr/lib64", "usr/lib", "lib64", "lib"];
        let loader = loaders.iter().find_map(|lib| entry(&path.join(lib), is_loader)).expect("a loader");
        let has_libc = |dir: &Path| dir.join("libc.so.6").exists();
        let libraries = ["usr/lib", "lib"].iter().find_map(|lib| entry(&path.join(lib), has_libc)).expect("a libc");
        Self { path, loader, libraries }
    }

    /// A file or directory of the root, `usr/share/mysql`.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A program of the root by its name alone, ready for its arguments.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let found = ["usr/sbin", "usr/bin"].map(|dir| self.path.join(dir).join(name));
        let program = found.iter().find(|file| file.is_file()).unwrap_or_else(|| panic!("{name} is not in {self:?}"));
        let mut command = Command::new(&self.loader);
        command.arg("--library-path").arg(&self.libraries).arg(program);
        command
    }

    /// The same as a program of its own: for one that starts itself again by the name it was started by.
    #[must_use]
    pub fn script(&self, name: &str) -> Scratch {
        let command = self.command(name);
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let loader = command.get_program().to_string_lossy();
        let scratch = Scratch::new(name);
        scratch.program(name, format!("#!/bin/sh\nexec {loader} --argv0 \"$0\" {} \"$@\"\n", arguments.join(" ")));
        scratch
    }
}

fn entry(dir: &Path, wanted: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path()).find(|path| wanted(path))
}

/// Where the account without privileges can run it: in place, or below a directory that is closed to others, such
/// as root's home, a copy. Hard links are enough where both are on one file system.
fn reachable(root: PathBuf, suite: &str) -> PathBuf {
    let open = |dir: &Path| fs::metadata(dir).unwrap().permissions().mode() & 0o001 != 0;
    if !user::is_root() || root.ancestors().all(open) {
        return root;
    }
    let copy = janitor::base().join(suite);
    let done = ["-al", "-a"].iter().any(|how| {
        let _ = fs::remove_dir_all(&copy);
        Command::new("cp").arg(how).args([&root, &copy]).output().unwrap().status.success()
    });
    assert!(done, "cannot copy {}", root.display());
    copy
}
