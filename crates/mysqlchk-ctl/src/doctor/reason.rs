//! The cure for what a check says. The words are those of docs/reasons.md.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use client::options::DEFAULT_SOCKET;

use super::program::{Run, may_execute};
use super::service::Service;
use crate::account::Account;
use crate::shell::quoted;

/// The account that checks log in as, unless told otherwise.
const DEFAULT_USER: &str = "mysqlchk";
/// Where our files are: what is elsewhere may have its rights on purpose.
const OURS: &str = "/etc/mysqlchk";
/// An account belongs to a server, and a replica must not have a transaction of its own.
const HERE: &str = "SET sql_log_bin = 0; ";
/// For what a person has to look at.
const NO_CURE: &str = "# docs/reasons.md has the cure";

/// How long a server may take to greet.
const GREETING: Duration = Duration::from_secs(1);

/// Who asks which server.
struct Asked<'a> {
    /// The account of the server.
    user: String,
    /// The user of the system.
    account: &'a Account,
    socket: String,
    /// Whether it may be another server than that of the socket.
    may_be_elsewhere: bool,
    has_password: bool,
    option_file: String,
}

/// What cures the reason of a check that is not up.
pub(super) fn cure(run: &Run, service: &Service, account: &Account) -> String {
    let asked = Asked {
        user: run.option("--user").unwrap_or_else(|| DEFAULT_USER.to_owned()),
        account,
        socket: run.option("--socket").unwrap_or_else(|| DEFAULT_SOCKET.to_owned()),
        may_be_elsewhere: run.may_ask_elsewhere(),
        has_password: run.option("--password").is_some(),
        option_file: run.option_file(),
    };
    if run.reason.starts_with("no verdict within") && service.argument("--timeout").is_some() {
        return service.set_argument("--timeout", "900ms");
    }
    if run.reason == "no replication is configured" {
        return format!("# on a server that is not a replica: {}", service.off());
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
        if has("permission denied") && has("cannot connect to") {
            return self.open_directory(Path::new(&self.socket)).unwrap_or_else(|| NO_CURE.to_owned());
        }
        if has("maintenance") {
            return "# mysqlchk-ctl up".to_owned();
        }
        if has("access denied") || has("authentication plugin `") {
            return self.cure_of_account(is_mariadb());
        }
        let name = self.name();
        let statement = if let Some((_, grant)) = reason.split_once(": GRANT ") {
            format!("{HERE}GRANT {grant} TO {name}")
        } else if has("the account is locked") {
            format!("{HERE}ALTER USER {name} ACCOUNT UNLOCK")
        } else if has("this host is blocked") {
            let is_mariadb = is_mariadb();
            let statement = if is_mariadb { "FLUSH HOSTS" } else { "TRUNCATE performance_schema.host_cache" };
            return self.run(is_mariadb, statement);
        } else {
            // What is wrong with a server or its replication has no cure that fits all.
            return NO_CURE.to_owned();
        };
        self.run(is_mariadb(), &statement)
    }

    /// An option file that this user cannot use.
    fn cure_of_file(&self, reason: &str) -> String {
        let path = Path::new(&self.option_file);
        let file = quoted(&self.option_file);
        if reason.contains("others may write it") {
            return format!("chmod go-w {file}");
        }
        if reason.contains("permission denied") {
            return self.open_directory(path).unwrap_or_else(|| {
                let cure = format!("chgrp {} {file} && chmod 640 {file}", self.account.gid);
                // A file elsewhere may hold the password of somebody else.
                if path.starts_with(OURS) { cure } else { format!("# {cure}") }
            });
        }
        format!("# write {file}, or correct --defaults-file")
    }

    /// Lets the user into the directory above a file that is closed to it.
    fn open_directory(&self, file: &Path) -> Option<String> {
        let may_enter = |directory: &Path| fs::metadata(directory).is_ok_and(|about| may_execute(&about, self.account));
        let closed = file.ancestors().skip(1).find(|directory| !may_enter(directory))?;
        let cure = format!("chmod a+x {}", quoted(&closed.display().to_string()));
        // The directory of a person is closed on purpose.
        Some(if closed.starts_with(OURS) || closed.starts_with("/run") { cure } else { format!("# {cure}") })
    }

    /// An account that the server lets in without a password: the system user of its name.
    fn cure_of_account(&self, is_mariadb: bool) -> String {
        let name = self.name();
        if self.has_password {
            let how = self.run(is_mariadb, &format!("{HERE}ALTER USER {name} IDENTIFIED BY '...'"));
            return format!("# {} (the password is that of {})", how.trim_start_matches("# "), self.option_file);
        }
        if self.user != self.account.name {
            let (user, system) = (&self.user, &self.account.name);
            return format!("# {user} is not the name of the system user {system}: make them one, or set a password");
        }
        let plugin = if is_mariadb { "VIA unix_socket" } else { "WITH auth_socket" };
        let mut statements = format!("{HERE}CREATE USER IF NOT EXISTS {name} IDENTIFIED {plugin}");
        // That of the checks alone is ours to change.
        if self.user == DEFAULT_USER {
            statements = format!("{statements}; ALTER USER {name} IDENTIFIED {plugin}");
        }
        let made = self.run(is_mariadb, &statements);
        if is_mariadb || made.starts_with('#') {
            return made;
        }
        // The plugin may be there.
        let install = self.run(is_mariadb, "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'");
        format!("{install} || true; {made}")
    }

    /// The account, as SQL has it.
    fn name(&self) -> String {
        format!("'{}'@'localhost'", self.user.replace('\\', r"\\").replace('\'', "''"))
    }

    /// The command that runs a statement.
    fn run(&self, is_mariadb: bool, statement: &str) -> String {
        let client = if is_mariadb { "mariadb" } else { "mysql" };
        let socket = match self.socket.as_str() {
            DEFAULT_SOCKET => String::new(),
            socket => format!(" --socket={}", quoted(socket)),
        };
        let elsewhere = if self.may_be_elsewhere { "# on the server that the check asks: " } else { "" };
        format!("{elsewhere}{client}{socket} -e {}", quoted(statement))
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

    fn asked<'a>(user: &str, account: &'a Account) -> Asked<'a> {
        Asked {
            user: user.to_owned(),
            account,
            socket: DEFAULT_SOCKET.to_owned(),
            may_be_elsewhere: false,
            has_password: false,
            option_file: "/nowhere/my.cnf".to_owned(),
        }
    }

    #[test]
    fn a_reason_has_its_cure() {
        let account = Account { name: "mysqlchk".into(), uid: 998, gid: 997 };
        for (reason, is_mariadb, expected) in [
            (
                "cannot log in: access denied (1698)",
                true,
                r"mariadb -e 'SET sql_log_bin = 0; CREATE USER IF NOT EXISTS '\''mysqlchk'\''@'\''localhost'\'' IDENTIFIED VIA unix_socket; ALTER USER '\''mysqlchk'\''@'\''localhost'\'' IDENTIFIED VIA unix_socket'",
            ),
            (
                "cannot query: missing privilege (1227): GRANT REPLICATION CLIENT ON *.*",
                false,
                r"mysql -e 'SET sql_log_bin = 0; GRANT REPLICATION CLIENT ON *.* TO '\''mysqlchk'\''@'\''localhost'\'''",
            ),
            ("cannot log in: this host is blocked (1129)", true, "mariadb -e 'FLUSH HOSTS'"),
            ("cannot log in: this host is blocked (1129)", false, "mysql -e 'TRUNCATE performance_schema.host_cache'"),
            ("cannot read option file F: others may write it (mode 0666)", true, "chmod go-w /nowhere/my.cnf"),
            ("applier is `No`, not `Yes` (error 1062)", true, NO_CURE),
        ] {
            assert_eq!(asked("mysqlchk", &account).cure(reason, || is_mariadb), expected, "{reason}");
        }
        let of_mysql =
            asked("mysqlchk", &account).cure("authentication plugin `sha256_password` is not supported", || false);
        assert!(
            of_mysql.starts_with("mysql -e 'INSTALL PLUGIN") && of_mysql.contains("|| true; mysql -e"),
            "{of_mysql}"
        );
    }

    #[test]
    fn a_cure_that_could_harm_is_for_a_person() {
        let root = Account { name: "root".into(), uid: 0, gid: 0 };
        let account = Account { name: "mysqlchk".into(), uid: 998, gid: 997 };
        let denied = |asked: Asked| asked.cure("cannot log in: access denied (1698)", || true);
        // The account of somebody else is never changed.
        assert!(denied(asked("root", &account)).starts_with('#'));
        assert!(!denied(asked("root", &root)).contains("ALTER"));
        assert!(denied(Asked { has_password: true, ..asked("mysqlchk", &account) }).starts_with('#'));
        assert!(denied(Asked { may_be_elsewhere: true, ..asked("mysqlchk", &account) }).starts_with('#'));
        // A name is a name, also for a shell.
        let strange = Account { name: "a'$(id)".into(), uid: 998, gid: 997 };
        let cure = denied(asked("a'$(id)", &strange));
        assert_eq!(
            cure,
            r"mariadb -e 'SET sql_log_bin = 0; CREATE USER IF NOT EXISTS '\''a'\'''\''$(id)'\''@'\''localhost'\'' IDENTIFIED VIA unix_socket'"
        );
    }

    #[test]
    fn a_server_says_what_it_is_before_a_login() {
        assert!(is_mariadb(b"Y\0\0\0\n5.5.5-10.11.14-MariaDB-0+deb12u2\0rest"));
        assert!(!is_mariadb(b"J\0\0\0\n9.4.0\0rest MariaDB"));
    }
}
