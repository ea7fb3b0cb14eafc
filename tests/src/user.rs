//! The account that the daemons and the checks run as: `nobody` when the suite is run by root, else the caller.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// An operating system account.
#[derive(Debug)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The name of that group.
    pub group: String,
}

static UNPRIVILEGED: LazyLock<User> = LazyLock::new(|| {
    let uid = rustix::process::getuid().as_raw();
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let groups = fs::read_to_string("/etc/group").unwrap();
    let group = |gid: u32| {
        let field = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let name = field
            .filter(|field| field.get(2).is_some_and(|id| *id == gid.to_string()))
            .map(|field| field[0].to_owned())
            .next();
        name.unwrap_or_default()
    };
    let find = |wanted: &dyn Fn(&str, u32) -> bool| {
        accounts.lines().find_map(|line| {
            let field: Vec<&str> = line.split(':').collect();
            let (uid, gid) = (field.get(2)?.parse().ok()?, field.get(3)?.parse().ok()?);
            wanted(field[0], uid).then(|| User { name: field[0].to_owned(), uid, gid, group: group(gid) })
        })
    };
    if uid == 0 { find(&|name, _| name == "nobody") } else { find(&|_, id| id == uid) }
        .expect("an account in /etc/passwd")
});

/// The account without privileges.
#[must_use]
pub fn unprivileged() -> &'static User {
    &UNPRIVILEGED
}

/// Whether the suite is run by root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Makes `command` run without privileges; the standard library drops the supplementary groups too.
pub fn drop_to_unprivileged(command: &mut Command) -> &mut Command {
    if is_root() {
        command.uid(UNPRIVILEGED.uid).gid(UNPRIVILEGED.gid);
    }
    command
}

/// Gives `path` to the account without privileges.
pub fn give(path: &Path) {
    if is_root() {
        chown(path, Some(UNPRIVILEGED.uid), Some(UNPRIVILEGED.gid)).unwrap();
    }
}
