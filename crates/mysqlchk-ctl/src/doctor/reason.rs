//! The cure for what a check says. The words are those of docs/reasons.md.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use client::options::DEFAULT_SOCKET;

use super::cure::quoted;
use super::program::Run;
use super::service::Service;
use crate::account::Account;

/// How long a server may take to greet.
const GREETING: Duration = Duration::from_secs(1);

/// Who asks which server.
struct Asked<'a> {
    /// The account of the server.
    user: String,
    /// The user of the system.
    account: &'a Account,
    socket: String,
    has_password: bool,
    option_file: String,
}

/// What cures the reason of a check that is not up.
pub(super) fn cure(run: &Run, service: &Service, account: &Account) -> String {
    let asked = Asked {
        user: run.option("--user").unwrap_or_else(|| "mysqlchk".to_owned()),
        account,
        socket: run.option("--socket").unwrap_or_else(|| DEFAULT_SOCKET.to_owned()),
        has_password: run.option("--password").is_some(),
        option_file: run.option_file(),
    };
    if run.reason.starts_with("no verdict within") && service.argument("--timeout").is_some() {
        return service.set_argument("--timeout", "900ms");
    }
    let is_mariadb = || greeting(&asked.socket).is_none_or(|greeting| is_mariadb(&greeting));
    asked.cure(&run.reason, is_mariadb)
}

impl Asked<'_> {
    fn cure(&self, reason: &str, is_mariadb: impl FnOnce() -> bool) -> String {
        let has = |words: &str| reason.contains(words);
        if reason.starts_with("cannot read option file") {
            return self.cure_of_file(reason);
        }
        if has("access denied") || has("authentication plugin `") {
            return self.cure_of_account(is_mariadb());
        }
        if let Some((_, grant)) = reason.split_once(": GRANT ") {
            let client = self.client(is_mariadb());
            return format!("{client} -e {}", quoted(&format!("GRANT {grant} TO {}@localhost", self.user)));
        }
        let statement = if has("the account is locked") {
            Some(format!("ALTER USER {}@localhost ACCOUNT UNLOCK", self.user))
        } else if has("this host is blocked") {
            Some("FLUSH HOSTS".to_owned())
        } else if has("offline_mode is ON") {
            Some("SET GLOBAL offline_mode = OFF".to_owned())
        } else {
            None
        };
        if let Some(statement) = statement {
            return format!("{} -e {}", self.client(is_mariadb()), quoted(&statement));
        }
        if has("permission denied") && has("cannot connect to") {
            let closed = Path::new(&self.socket).ancestors().skip(1).find(|directory| !self.may_enter(directory));
            let directory = closed.unwrap_or(Path::new(&self.socket)).display().to_string();
            return format!("chmod a+x {}", quoted(&directory));
        }
        if has("maintenance") {
            return "mysqlchk-ctl up".to_owned();
        }
        // What is wrong with a server or its replication has no cure that fits all.
        "# docs/reasons.md has the cure".to_owned()
    }

    /// An option file that this user cannot use.
    fn cure_of_file(&self, reason: &str) -> String {
        let file = quoted(&self.option_file);
        if reason.contains("others may write it") {
            return format!("chmod go-w {file}");
        }
        if reason.contains("permission denied") {
            let closed = Path::new(&self.option_file).ancestors().skip(1).find(|directory| !self.may_enter(directory));
            return match closed {
                Some(directory) => format!("chmod a+x {}", quoted(&directory.display().to_string())),
                None => format!("chgrp {} {file} && chmod 640 {file}", self.account.gid),
            };
        }
        format!("# write {}, or correct --defaults-file", self.option_file)
    }

    fn may_enter(&self, directory: &Path) -> bool {
        std::fs::metadata(directory).is_ok_and(|about| super::program::may_execute(&about, self.account))
    }

    /// An account that the server lets in without a password: the system user of its name.
    fn cure_of_account(&self, is_mariadb: bool) -> String {
        let (user, client) = (&self.user, self.client(is_mariadb));
        if self.has_password {
            let file = &self.option_file;
            return format!(
                "# {client} -e \"ALTER USER {user}@localhost IDENTIFIED BY '...'\", with the password of {file}"
            );
        }
        let name = if *user == self.account.name { String::new() } else { format!(" AS '{}'", self.account.name) };
        let statements = if is_mariadb {
            format!(
                "CREATE USER IF NOT EXISTS {user}@localhost; \
                 ALTER USER {user}@localhost IDENTIFIED VIA unix_socket{}",
                name.replace(" AS ", " USING ")
            )
        } else {
            format!(
                "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'; \
                 CREATE USER IF NOT EXISTS {user}@localhost IDENTIFIED WITH auth_socket{name}; \
                 ALTER USER {user}@localhost IDENTIFIED WITH auth_socket{name}"
            )
        };
        // The plugin may be there.
        let force = if is_mariadb { "" } else { " --force" };
        format!("{client}{force} -e \"{statements}\"")
    }

    fn client(&self, is_mariadb: bool) -> String {
        let client = if is_mariadb { "mariadb" } else { "mysql" };
        match self.socket.as_str() {
            DEFAULT_SOCKET => client.to_owned(),
            socket => format!("{client} --socket={}", quoted(socket)),
        }
    }
}

/// What a server sends first, before any login.
fn greeting(socket: &str) -> Option<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(GREETING)).ok()?;
    let mut bytes = vec![0; 256];
    let length = stream.read(&mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

/// By the version in it, which follows the header of the packet and the protocol.
fn is_mariadb(greeting: &[u8]) -> bool {
    let version = greeting.get(5..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    version.windows(7).any(|seven| seven == b"MariaDB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(account: &Account, has_password: bool) -> Asked<'_> {
        let (user, socket) = ("mysqlchk".to_owned(), DEFAULT_SOCKET.to_owned());
        Asked { user, account, socket, has_password, option_file: "/nowhere/my.cnf".into() }
    }

    #[test]
    fn a_reason_has_its_cure() {
        let account = Account { name: "mysqlchk".into(), uid: 998, gid: 997 };
        let of = |reason: &str, is_mariadb: bool| asked(&account, false).cure(reason, || is_mariadb);
        for (reason, is_mariadb, expected) in [
            (
                "cannot log in: access denied (1698)",
                true,
                "mariadb -e \"CREATE USER IF NOT EXISTS mysqlchk@localhost; ALTER USER mysqlchk@localhost IDENTIFIED VIA unix_socket\"",
            ),
            (
                "cannot log in: authentication plugin `sha256_password` is not supported",
                false,
                "mysql --force -e \"INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'; CREATE USER IF NOT EXISTS mysqlchk@localhost \
                 IDENTIFIED WITH auth_socket; ALTER USER mysqlchk@localhost IDENTIFIED WITH auth_socket\"",
            ),
            (
                "cannot query: missing privilege (1227): GRANT SLAVE MONITOR ON *.*",
                true,
                "mariadb -e 'GRANT SLAVE MONITOR ON *.* TO mysqlchk@localhost'",
            ),
            (
                "cannot query: missing privilege (1227): GRANT REPLICATION CLIENT ON *.*",
                false,
                "mysql -e 'GRANT REPLICATION CLIENT ON *.* TO mysqlchk@localhost'",
            ),
            ("cannot log in: this host is blocked (1129)", true, "mariadb -e 'FLUSH HOSTS'"),
            ("cannot read option file F: others may write it (mode 0666)", true, "chmod go-w /nowhere/my.cnf"),
            ("applier is `No`, not `Yes` (error 1062)", true, "# docs/reasons.md has the cure"),
        ] {
            assert_eq!(of(reason, is_mariadb), expected, "{reason}");
        }
        let other = Account { name: "nobody".into(), ..account.clone() };
        assert!(asked(&other, false).cure("access denied", || true).contains("unix_socket USING 'nobody'"));
        assert!(asked(&account, true).cure("access denied", || true).starts_with('#'));
    }

    #[test]
    fn a_server_says_what_it_is_before_a_login() {
        assert!(is_mariadb(b"Y\0\0\0\n5.5.5-10.11.14-MariaDB-0+deb12u2\0rest"));
        assert!(!is_mariadb(b"J\0\0\0\n9.4.0\0rest MariaDB"));
    }
}
