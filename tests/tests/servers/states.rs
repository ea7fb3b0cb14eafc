//! Odd states of a server: read-only in every kind, locked for a backup, without grants or network, starting, stopping.

use std::thread;
use std::time::Duration;

use lab::evidence::{Section, stable, verdict_of};
use lab::program::{Check, local};
use lab::server::Server;
use lab::software::Software;
use lab::{user, wait};
use mysql::prelude::Queryable;

use crate::{name_of, row};

const STATUS: &str = "mysqlchk-status";
const WRITABLE: &str = "mysqlchk-status --require-writable";
const BY_SOCKET: &str = "mysqlchk-status --allow-skip-networking";
const READ_ONLY: &str = "mysqlchk-status --require-read-only";
const REPLICATION: &str = "mysqlchk-replication";
const BOUND: Duration = Duration::from_secs(60);
const IS_WRITABLE: &str = "up: the server answers, read_only is OFF";
const IS_READ_ONLY: &str = "up: the server answers, read_only is ON";

fn read_only(section: &mut Section, server: &Server) {
    row(section, server, "writable", STATUS, IS_WRITABLE, false);
    row(section, server, "writable", READ_ONLY, "down: read_only is OFF, not ON", false);
    server.sql("SET GLOBAL read_only=ON");
    row(section, server, "read_only", WRITABLE, "down: read_only is ON, not OFF", false);
    row(section, server, "read_only", READ_ONLY, IS_READ_ONLY, false);
    if server.software().is_mysql() {
        server.sql("SET GLOBAL super_read_only=ON");
        row(
            section,
            server,
            "super_read_only, which brings read_only",
            WRITABLE,
            "down: read_only is ON, not OFF",
            false,
        );
    }
    server.sql("SET GLOBAL read_only=OFF");
}

/// An ordinary account is turned away at the login; one with `CONNECTION_ADMIN` gets in, and sees why.
fn offline_mode(section: &mut Section, server: &Server) {
    let name = &user::unprivileged().name;
    server.sql("SET GLOBAL offline_mode=ON");
    let refused = "down: cannot log in: the server is in offline mode (3032)";
    row(section, server, "offline_mode", STATUS, refused, false);
    server.sql(&format!("GRANT CONNECTION_ADMIN ON *.* TO `{name}`@localhost"));
    let seen = "down: offline_mode is ON";
    row(section, server, "offline_mode, an account with CONNECTION_ADMIN", STATUS, seen, false);
    server.sql(&format!("SET GLOBAL offline_mode=OFF; REVOKE CONNECTION_ADMIN ON *.* FROM `{name}`@localhost"));
}

/// A backup must not take its server out of service, whatever it locks.
fn backups(section: &mut Section, source: &Server, replica: &Server) {
    let locks: &[(&str, &str)] = if replica.software().is_mysql() {
        &[("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"), ("LOCK INSTANCE FOR BACKUP", "UNLOCK INSTANCE")]
    } else {
        &[
            ("FLUSH TABLES WITH READ LOCK", "UNLOCK TABLES"),
            (
                "BACKUP STAGE START; BACKUP STAGE FLUSH; BACKUP STAGE BLOCK_DDL; BACKUP STAGE BLOCK_COMMIT",
                "BACKUP STAGE END",
            ),
        ]
    };
    for (lock, unlock) in locks {
        let mut session = replica.session();
        session.query_drop(lock).unwrap();
        let situation = lock.rsplit("; ").next().unwrap();
        row(section, replica, situation, WRITABLE, IS_WRITABLE, false);
        row(section, replica, situation, REPLICATION, "up: lag is 0s, limit is 30s", true);
        session.query_drop(unlock).unwrap();
    }
    // The applier cannot write, so the lag grows; the check answers.
    let mut session = replica.session();
    session.query_drop("FLUSH TABLES WITH READ LOCK").unwrap();
    source.sql("INSERT INTO lab.t (v) VALUES (1)");
    let check = "mysqlchk-replication --max-lag=1s";
    let late = "down: lag is Ns, limit is 1s";
    wait::until_equal("lag behind the lock", BOUND, late.to_owned(), || {
        stable(&lab::evidence::ask(replica, REPLICATION, &["--max-lag=1s"]).verdict)
    });
    row(section, replica, "FLUSH TABLES WITH READ LOCK, and changes to apply", check, late, false);
    session.query_drop("UNLOCK TABLES").unwrap();
    wait::until_equal("caught up", BOUND, "up: lag is 0s, limit is 30s".to_owned(), || {
        stable(&lab::evidence::ask(replica, REPLICATION, &[]).verdict)
    });
}

/// `STOP REPLICA` waits for an event group that cannot be undone, and the check for nothing.
fn stop_that_hangs(section: &mut Section, source: &Server, replica: &Server) {
    let mysql = replica.software().is_mysql();
    source.sql("CREATE TABLE lab.forever (v INT) ENGINE=MyISAM");
    let mut session = source.session();
    session.query_drop("SET SESSION binlog_format=STATEMENT").unwrap();
    session.query_drop("INSERT INTO lab.forever SELECT SLEEP(6)").unwrap();
    let applying = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO lab.forever%'";
    wait::until_equal("the applier at the long statement", BOUND, "1".to_owned(), || replica.value(applying));
    thread::scope(|scope| {
        let stop = scope.spawn(|| replica.sql(if mysql { "STOP REPLICA" } else { "STOP SLAVE" }));
        let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'STOP %'";
        wait::until_equal("the stop waits", BOUND, "1".to_owned(), || replica.value(waits));
        // The threads still run, and say so.
        let late = "up: lag is Ns, limit is 30s";
        wait::until_equal("an answer while the stop waits", BOUND, late.to_owned(), || {
            let check = Check::new(REPLICATION).args(local(replica)).args(["--format=text"]).run();
            stable(&verdict_of(REPLICATION, &check.stdout))
        });
        row(section, replica, "STOP REPLICA waits for a long statement", REPLICATION, late, true);
        assert!(!stop.is_finished(), "the stop did not hang, so nothing was seen");
        stop.join().unwrap();
    });
    row(section, replica, "STOP REPLICA has ended", REPLICATION, "down: receiver is `No`, not `Yes`", false);
    replica.sql(if mysql { "START REPLICA" } else { "START SLAVE" });
}

/// Every answer from a change of state on, until one is `last`; each must be whole and in our words.
fn answers_until(server: &Server, last: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    wait::until(last, BOUND, || {
        let check = Check::new(STATUS).args(local(server)).args(["--format=text"]).run();
        let verdict = stable(&verdict_of(STATUS, &check.stdout));
        if seen.last() != Some(&verdict) {
            seen.push(verdict.clone());
        }
        verdict.starts_with(last)
    });
    seen
}

fn starting_and_stopping(section: &mut Section, server: &Server) {
    // While it can be asked.
    let _ = name_of(server);
    for _ in 0..200 {
        server.sql("INSERT INTO lab.t (v) VALUES (1), (2), (3)");
    }
    server.kill9();
    row(section, server, "killed", STATUS, "down: cannot connect to SOCKET: connection refused", true);
    server.launch(&[]);
    let seen = answers_until(server, "up: ");
    let not_yet = seen.iter().rev().skip(1).all(|verdict| {
        verdict.starts_with("down: cannot connect")
            || verdict.starts_with("down: cannot log in")
            || verdict.contains("no verdict within")
    });
    assert!(not_yet, "{seen:?}");
    row(section, server, "recovered from the crash", STATUS, IS_WRITABLE, false);

    thread::scope(|scope| {
        let stop = scope.spawn(|| server.stop());
        let seen = answers_until(server, "down: cannot connect");
        stop.join().unwrap();
        let in_words = |verdict: &String| verdict.starts_with("up: ") || verdict.starts_with("down: cannot ");
        assert!(seen.iter().all(in_words), "{seen:?}");
    });
    row(section, server, "stopped", STATUS, "down: cannot connect to SOCKET: no such socket", true);
}

fn without_grants_or_network(section: &mut Section, software: Software) {
    let server = Server::start_of(software, &["skip_networking"]);
    let closed = "down: skip_networking is ON";
    row(section, &server, "skip_networking, over the socket", STATUS, closed, false);
    row(section, &server, "skip_networking, over the socket", BY_SOCKET, IS_WRITABLE, false);
    let tcp = format!("--host={}", server.ip());
    let outcome = Check::new(STATUS).args([&*tcp, "--format=text", "--timeout=5s"]).run();
    let refused = format!("down: cannot connect to {}:3306: connection refused", server.ip());
    assert_eq!(verdict_of(STATUS, &outcome.stdout), refused);
    server.stop();
    server.launch(&["--skip-grant-tables"]);
    server.until_answers();
    row(section, &server, "skip_grant_tables", BY_SOCKET, IS_WRITABLE, false);
}

/// Why the server refuses an insert, by its number; 0 when it does not.
fn refusal(server: &Server) -> u16 {
    match server.try_sql("INSERT INTO lab.t (v) VALUES (1)") {
        Ok(()) => 0,
        Err(mysql::Error::MySqlError(refusal)) => refusal.code,
        Err(error) => panic!("{error}"),
    }
}

/// Writable by `read_only`, and every write fails; or is not safe.
fn refuses_writes(section: &mut Section, software: Software) {
    let server = Server::start_of(software, &[]);
    let name = if software == Software::MariaDb { "tx_read_only" } else { "transaction_read_only" };
    server.sql(&format!("SET GLOBAL {name}=ON"));
    assert_eq!(refusal(&server), 1792);
    row(section, &server, name, WRITABLE, "down: transaction_read_only is ON, not OFF", false);
    row(section, &server, name, STATUS, IS_WRITABLE, false);
    server.sql(&format!("SET GLOBAL {name}=OFF"));
    row(section, &server, &format!("{name} is OFF again"), WRITABLE, IS_WRITABLE, false);

    // MySQL refuses what touches the table of GTIDs as well, which is there for the binary log.
    let mysql = software.is_mysql();
    let forced: &[(&str, u16)] = if mysql { &[("1", 1881), ("4", 1036)] } else { &[("1", 0), ("4", 0), ("5", 1836)] };
    let mut restart_with = |option: &str, verdict: &str, code| {
        // Nothing may be left to recover.
        server.sql("SET GLOBAL innodb_fast_shutdown=1");
        server.stop();
        server.launch(&[&format!("--{option}"), "--skip-log-bin"]);
        server.until_answers();
        row(section, &server, option, WRITABLE, verdict, false);
        row(section, &server, option, STATUS, IS_WRITABLE, false);
        assert_eq!(refusal(&server), code, "{option}");
    };
    let read_only = "down: innodb_read_only is ON, not OFF";
    restart_with("innodb-read-only", read_only, if mysql { 1015 } else { 1036 });
    for (level, code) in forced {
        let verdict = format!("down: innodb_force_recovery is {level}, not 0");
        restart_with(&format!("innodb-force-recovery={level}"), &verdict, *code);
    }
}

fn states_of(software: Software) {
    let (source, replica) = (Server::start_of(software, &[]), Server::start_of(software, &[]));
    let _link = replica.follow(&source);
    let mut section = Section::new(&format!("States of {}", name_of(&replica)));
    read_only(&mut section, &replica);
    if software.is_mysql() {
        offline_mode(&mut section, &replica);
    }
    backups(&mut section, &source, &replica);
    stop_that_hangs(&mut section, &source, &replica);
    starting_and_stopping(&mut section, &source);
    without_grants_or_network(&mut section, software);
    refuses_writes(&mut section, software);
    section.close();
}

#[test]
fn states_of_mariadb_10_11() {
    states_of(Software::MariaDb);
}

#[test]
fn states_of_mariadb_11_8() {
    states_of(Software::MariaDb11);
}

#[test]
fn states_of_mysql_9() {
    states_of(Software::MySql9);
}
