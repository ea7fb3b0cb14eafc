//! The servers that the lab runs, and what differs between them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::daemon::{Daemon, program};
use crate::roots::{Root, sid, trixie};
use crate::server::{PASSWORD, START};
use crate::{janitor, scratch, user};

/// A server, by name and major version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// The host's own: 10.11 on Debian 12.
    MariaDb,
    /// 11.8, from [`trixie`].
    MariaDb11,
    /// 9.7, from [`sid`].
    MySql9,
}

use Software::{MariaDb, MariaDb11, MySql9};

/// Small and quick, not durable: a `MariaDB` of this kind needs 40 MB of memory and answers within 0.1 s.
const SETTINGS: &str = "\
innodb_data_file_path=ibdata1:5M:autoextend
innodb_autoextend_increment=1
innodb_buffer_pool_size=8M
innodb_flush_log_at_trx_commit=0
innodb_use_native_aio=OFF
sync_binlog=0
skip_name_resolve
";

const MARIADB: &str = "\
innodb_log_file_size=4M
performance_schema=OFF
";

/// The tables about replication need the performance schema, but nothing that it measures.
const MYSQL: &str = "\
innodb_redo_log_capacity=16M
innodb_doublewrite=OFF
performance_schema_instrument=%=OFF
performance_schema_digests_size=0
performance_schema_max_table_instances=200
mysqlx=OFF
secure_file_priv=
";

impl Software {
    /// Whether it is `MySQL`, and speaks of sources and replicas.
    #[must_use]
    pub fn is_mysql(self) -> bool {
        self == MySql9
    }

    /// The server.
    #[must_use]
    pub fn server(self) -> Command {
        self.command(if self.is_mysql() { "mysqld" } else { "mariadbd" })
    }

    /// The client that comes with it.
    #[must_use]
    pub fn client(self) -> Command {
        self.command(if self.is_mysql() { "mysql" } else { "mariadb" })
    }

    fn command(self, name: &str) -> Command {
        match self.root() {
            Some(root) => root.command(name),
            None => Command::new(program(name)),
        }
    }

    fn root(self) -> Option<&'static Root> {
        match self {
            MariaDb => None,
            MariaDb11 => Some(trixie()),
            MySql9 => Some(sid()),
        }
    }

    /// The first lines of an option file: the group, and what every server of this kind needs.
    fn settings(self) -> String {
        let (group, share, own) = if self.is_mysql() {
            ("mysqld", "usr/share/mysql", MYSQL)
        } else {
            ("mariadbd", "usr/share/mariadb", MARIADB)
        };
        let mut settings = format!("[{group}]\n{SETTINGS}{own}");
        if let Some(root) = self.root() {
            let (usr, share) = (root.join("usr"), root.join(share));
            let (usr, share) = (usr.display(), share.display());
            settings += &format!("basedir={usr}\nlc_messages_dir={share}\ncharacter_sets_dir={share}/charsets\n");
        }
        if let Some(root) = self.root() {
            settings += &format!("plugin_dir={}\n", root.join("usr/lib/mysql/plugin").display());
        }
        settings
    }

    /// The option file of a running server: [`Software::settings`], a binary log, and replication that notices a
    /// dead source within seconds. `id` is unique.
    pub(crate) fn running(self, id: u32) -> String {
        let mut settings = self.settings();
        settings += &format!("server_id={id}\ninnodb_fast_shutdown=2\n");
        settings += &if self.is_mysql() {
            "gtid_mode=ON\nenforce_gtid_consistency=ON\nreplica_net_timeout=4\n".to_owned()
        } else {
            format!("gtid_domain_id={id}\nlog_slave_updates=ON\nslave_net_timeout=4\n")
        };
        settings
    }

    /// The data directory that every server begins with.
    pub(crate) fn template(self) -> &'static Path {
        static TEMPLATES: [OnceLock<PathBuf>; 3] = [const { OnceLock::new() }; 3];
        TEMPLATES[self as usize].get_or_init(|| {
            let dir = janitor::base().join(format!("template-{self:?}"));
            fs::create_dir(&dir).unwrap();
            user::give(&dir);
            let (option_file, accounts, tmpdir) = (dir.join("my.cnf"), dir.join("accounts.sql"), dir.join("tmp"));
            // A starting server removes what looks like temporary tables from its tmpdir, those of its neighbours too.
            fs::create_dir(&tmpdir).unwrap();
            user::give(&tmpdir);
            fs::write(&option_file, format!("{}tmpdir={}\n", self.settings(), tmpdir.display())).unwrap();
            fs::write(&accounts, self.accounts()).unwrap();
            let data = dir.join("data");
            let mut command = self.install(&option_file, &accounts, &data);
            command.current_dir(&dir);
            Daemon::start(user::drop_to_unprivileged(&mut command), &dir.join("log")).until_success(START);
            // The server's identity: each makes its own.
            let _ = fs::remove_file(data.join("auto.cnf"));
            data
        })
    }

    /// What makes a data directory.
    fn install(self, option_file: &Path, accounts: &Path, data: &Path) -> Command {
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = match self {
            MySql9 => self.server(),
            MariaDb => Command::new(program("mariadb-install-db")),
            MariaDb11 => Command::new(trixie().join("usr/bin/mariadb-install-db")),
        };
        command.args([option("defaults-file", option_file), option("datadir", data)]);
        if self.is_mysql() {
            command.arg("--initialize-insecure").arg(option("init-file", accounts));
            return command;
        }
        command.arg(option("extra-file", accounts));
        command.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
        if let Some(root) = self.root() {
            // The script, which is the host's shell's, starts nothing but this.
            let server = self.server();
            let words: Vec<_> = [server.get_program()]
                .into_iter()
                .chain(server.get_args())
                .map(|word| word.to_str().unwrap())
                .collect();
            let (text, wrapper) = (option_file.with_file_name("server.text"), option_file.with_file_name("server"));
            fs::write(&text, format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))).unwrap();
            scratch::install(&text, &wrapper);
            command.arg("--cross-bootstrap").arg(option("basedir", &root.join("usr"))).env("MYSQLD_BOOTSTRAP", wrapper);
        }
        command
    }

    fn accounts(self) -> String {
        let (start, by_socket, monitor) = if self.is_mysql() {
            (
                "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so';\n",
                "WITH auth_socket",
                &["REPLICATION CLIENT ON *.*", "SELECT ON performance_schema.*"][..],
            )
        } else {
            // `VIA unix_socket AS 'other'` is accepted by 10.11 and means nothing there: the two names must be the same.
            ("FLUSH PRIVILEGES;\n", "VIA unix_socket", &["SLAVE MONITOR ON *.*"][..])
        };
        let monitor =
            |account: &str| monitor.iter().map(|what| format!("GRANT {what} TO {account};\n")).collect::<String>();
        let own = &user::unprivileged().name;
        let mut sql = start.to_owned();
        for name in [own, "mysqlchk"] {
            sql += &format!("CREATE USER IF NOT EXISTS `{name}`@localhost IDENTIFIED {by_socket};\n");
            sql += &monitor(&format!("`{name}`@localhost"));
        }
        sql += &format!(
            "CREATE USER repl@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT REPLICATION SLAVE ON *.* TO repl@'%';\n"
        );
        if self.is_mysql() {
            sql += "GRANT GROUP_REPLICATION_STREAM ON *.* TO repl@'%';\n";
        }
        for host in ["localhost", "%"] {
            sql += &format!(
                "CREATE USER admin@'{host}' IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL ON *.* TO admin@'{host}' WITH GRANT OPTION;\n\
                 CREATE USER mysqlchk_tcp@'{host}' IDENTIFIED BY '{PASSWORD}';\n\
                 CREATE USER nopriv@'{host}' IDENTIFIED BY '{PASSWORD}';\n"
            );
            sql += &monitor(&format!("mysqlchk_tcp@'{host}'"));
        }
        sql += "CREATE DATABASE lab;\n\
                CREATE TABLE lab.t (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB;\n\
                CREATE TABLE lab.gate (id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;\n\
                DELIMITER $$\n\
                CREATE DEFINER=admin@localhost TRIGGER lab.gate BEFORE INSERT ON lab.gate FOR EACH ROW \
                WHILE LOAD_FILE(CONCAT(@@GLOBAL.tmpdir, '/gate')) IS NOT NULL DO DO SLEEP(0.02); END WHILE$$\n";
        sql
    }
}
