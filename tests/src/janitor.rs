//! Makes sure that nothing remains, however this process ends: after a panic, after Ctrl-C, after `kill -9`.
//!
//! A shell in a process group of its own reads from a pipe that only we hold. It learns which process groups
//! live; when the pipe ends it kills those and removes our directory. A parent-death signal would not do: it
//! is bound to the thread that started the child, and it does not reach grandchildren.

use std::fs::{Permissions, set_permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups=
while read -r verb group; do
    rest=
    for known in $groups; do [ "$known" = "$group" ] || rest="$rest $known"; done
    case $verb in
        watch) groups="$rest $group" ;;
        forget) groups=$rest ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
[ -n "$LAB_KEEP" ] || rm -rf -- "$1" || rm -rf -- "$1"
"#;

struct Janitor {
    base: PathBuf,
    shell: Mutex<Child>,
}

static JANITOR: LazyLock<Janitor> = LazyLock::new(|| {
    // A short name: the path of a Unix socket has room for 107 bytes.
    let base = tempfile::Builder::new().prefix("mysqlchk-").tempdir_in("/tmp").unwrap().keep();
    set_permissions(&base, Permissions::from_mode(0o755)).unwrap();
    let shell = Command::new("/bin/sh")
        .args(["-c", SCRIPT, "janitor"])
        .arg(&base)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Janitor { base, shell: Mutex::new(shell) }
});

/// The directory of this process, `/tmp/mysqlchk-XXXXXX`.
pub fn base() -> &'static Path {
    &JANITOR.base
}

/// Whether directories are kept for a look afterwards (`LAB_KEEP=1`).
#[must_use]
pub fn keeps() -> bool {
    std::env::var_os("LAB_KEEP").is_some_and(|value| !value.is_empty())
}

/// From now on the process group dies with this process.
pub(crate) fn watch(group: u32) {
    tell(&format!("watch {group}\n")).expect("a living janitor");
}

/// The process group is gone; its number may be given to others.
pub(crate) fn forget(group: u32) {
    // Also while a panic unwinds: no second one.
    let _ = tell(&format!("forget {group}\n"));
}

fn tell(line: &str) -> io::Result<()> {
    let mut shell = JANITOR.shell.lock().unwrap_or_else(PoisonError::into_inner);
    shell.stdin.as_mut().unwrap().write_all(line.as_bytes())
}
