//! What sees a source that hangs, and what does not: status, heartbeat table, commit times, the word of the source.

use std::process::Command;
use std::time::Duration;

use lab::daemon::{Daemon, program};
use lab::evidence::Section;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::software::Software;
use lab::{user, wait};
use mysql::prelude::Queryable;

use crate::{ask_line, name_of, row, until};

const CHECK: &str = "mysqlchk-replication";
const BOUND: Duration = Duration::from_secs(60);
const HEARTBEAT: &str = "mysqlchk-replication --lag-from=heartbeat --heartbeat-table=percona.heartbeat --heartbeat-utc";

/// Waits until a statement gives this on the replica, where even its table may not have arrived.
#[track_caller]
fn until_value(replica: &Server, statement: &str, wanted: &str) {
    wait::until_equal(statement, BOUND, Some(wanted.to_owned()), || {
        replica.try_rows(statement).ok()?.pop()?.into_values().next()
    });
}

/// A source and its replica that notice each other's silence late, as servers do by default, five hours east of UTC.
fn pair(software: Software) -> (Server, Server) {
    let timeout = if software.is_mysql() { "replica_net_timeout=60" } else { "slave_net_timeout=60" };
    let lines = [timeout, "default_time_zone=+05:00"];
    (Server::start_of(software, &lines), Server::start_of(software, &lines))
}

/// The real one, which writes a row a second. `zone` is that of its host.
fn pt_heartbeat(source: &Server, scratch: &Scratch, zone: &str, options: &[&str]) -> Daemon {
    let file = scratch.file("pt.cnf", format!("[client]\nuser=admin\npassword={PASSWORD}\n"));
    let mut command = Command::new(program("pt-heartbeat"));
    command.args(["--database=percona", "--update", "--interval=1"]).args(options).env("TZ", zone);
    command.arg("-F").arg(file).arg(format!("--host={}", source.ip()));
    command.arg(format!("--port={}", source.address().port()));
    Daemon::start(user::drop_to_unprivileged(&mut command), &scratch.join("pt-heartbeat.log"))
}

/// What the table says in every form it can have, and who may read it. `name` has a row of the source's once a second.
fn heartbeats(section: &mut Section, source: &Server, replica: &Server) {
    let name = &user::unprivileged().name;
    let grant = "down: cannot query: missing privilege (1142): GRANT SELECT ON percona.heartbeat";
    row(section, replica, "no privilege on the table", HEARTBEAT, grant, false);
    let rights = format!("GRANT SELECT ON percona.* TO `{name}`@localhost");
    replica.sql(&format!("SET sql_log_bin=OFF; {rights}"));
    let absent = "mysqlchk-replication --lag-from=heartbeat --heartbeat-table=percona.absent";
    let verdict = "down: cannot query: no such table (1146): percona.absent";
    row(section, replica, "no such table", absent, verdict, false);

    source.sql(
        "CREATE TABLE percona.old (id INT PRIMARY KEY, ts DATETIME(6));
         CREATE TABLE percona.hand (ts VARCHAR(26), server_id INT UNSIGNED PRIMARY KEY)",
    );
    let ask_old = "mysqlchk-replication --lag-from=heartbeat --heartbeat-table=percona.old";
    for (situation, check, time, verdict) in [
        (
            "old layout, one row",
            ask_old.to_owned(),
            "NOW() - INTERVAL 20 SECOND",
            "up: lag is Ns by heartbeat, limit is 30s",
        ),
        (
            "old layout, one row",
            ask_old.to_owned(),
            "NOW() - INTERVAL 60 SECOND",
            "down: lag is Ns by heartbeat, limit is 30s",
        ),
        (
            "old layout, in UTC",
            format!("{ask_old} --heartbeat-utc"),
            "UTC_TIMESTAMP() - INTERVAL 20 SECOND",
            "up: lag is Ns by heartbeat, limit is 30s",
        ),
        (
            "old layout, in UTC and not told",
            ask_old.to_owned(),
            "UTC_TIMESTAMP()",
            "down: lag is Ns by heartbeat, limit is 30s",
        ),
        (
            "the source's clock is ahead",
            format!("{ask_old} --max-lag=1h"),
            "NOW() + INTERVAL 60 SECOND",
            "up: lag is 0s by heartbeat (the source's clock is ahead by Ns), limit is 3600s",
        ),
        (
            "the source's clock is ahead by more than the limit",
            ask_old.to_owned(),
            "NOW() + INTERVAL 60 SECOND",
            "down: lag by heartbeat is Ns in the future, limit is 30s: check clocks and time zone",
        ),
        (
            "old layout, not in UTC and told so",
            format!("{ask_old} --heartbeat-utc"),
            "NOW()",
            "down: lag by heartbeat is Ns in the future, limit is 30s: check clocks and time zone",
        ),
        (
            "old layout, of another id",
            format!("{ask_old} --heartbeat-source-id=7"),
            "NOW()",
            "down: no heartbeat of server 7 in percona.old",
        ),
    ] {
        source.sql(&format!("REPLACE INTO percona.old VALUES (1, {time})"));
        let is_there = format!("SELECT COUNT(*) FROM percona.old WHERE ABS(TIMESTAMPDIFF(SECOND, ts, {time})) < 9");
        until_value(replica, &is_there, "1");
        row(section, replica, situation, &check, verdict, false);
    }
    let hand = "mysqlchk-replication --lag-from=heartbeat --heartbeat-table=percona.hand";
    let id = source.value("SELECT @@server_id");
    source.sql(&format!("INSERT INTO percona.hand VALUES ('nonsense', {id}), (NOW(6) - INTERVAL 20 SECOND, 7)"));
    until_value(replica, "SELECT COUNT(*) FROM percona.hand", "2");
    let answer = ask_line(replica, hand);
    assert_eq!(answer.verdict, format!("down: no heartbeat of server {id} in percona.hand"));
    let other = format!("{hand} --heartbeat-source-id=7");
    row(section, replica, "the row of another server", &other, "up: lag is Ns by heartbeat, limit is 30s", false);
}

/// A frozen source, and an applier that waits for a lock.
fn blindness(section: &mut Section, source: &Server, replica: &Server, checks: &[(&str, &str)]) {
    source.freeze();
    for (check, verdict) in checks {
        until(replica, check, verdict);
        row(section, replica, "source frozen for some seconds", check, verdict, *check == CHECK);
    }
    source.thaw();
}

fn commits(section: &mut Section, source: &Server, replica: &Server) {
    let check = "mysqlchk-replication --lag-from=commit --max-lag=2s";
    until(replica, check, "up: lag is 0s by commit, limit is 2s");
    row(section, replica, "replicating", check, "up: lag is 0s by commit, limit is 2s", false);
    let mut session = replica.session();
    session.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    source.sql("INSERT INTO lab.t (v) VALUES (1)");
    until(replica, check, "down: lag is Ns by commit, limit is 2s");
    row(section, replica, "applier waits for a lock", check, "down: lag is Ns by commit, limit is 2s", false);
    drop(session);
    until(replica, check, "up: lag is 0s by commit, limit is 2s");
}

/// A source that dies while its replica is behind. `limit` is one that the lag is above while the server tells it.
fn dead_source(software: Software, limit: &str, rows: &[(&str, [&str; 2])]) {
    let (source, replica) = (Server::start_of(software, &[]), Server::start_of(software, &[]));
    let link = replica.follow(&source);
    let mut section = Section::new(&format!("A source that dies, on {}", name_of(&replica)));
    let mut session = replica.session();
    session.query_drop("LOCK TABLES lab.t WRITE").unwrap();
    source.sql("INSERT INTO lab.t (v) VALUES (1)");
    wait::until("the write is received and not applied", BOUND, || link.lag().is_some_and(|lag| !lag.is_zero()));
    source.kill9();
    let check = |from: &str| format!("{CHECK} --allow-connecting --max-lag={limit}{from}");
    for (from, [behind, _]) in rows {
        until(&replica, &check(from), behind);
        row(&mut section, &replica, "source killed, applier waits for a lock", &check(from), behind, false);
    }
    drop(session);
    for (from, [_, applied]) in rows {
        until(&replica, &check(from), applied);
        row(&mut section, &replica, "source killed, all applied", &check(from), applied, false);
    }
    section.close();
}

const ALLOWED: &str = "up: receiver is `Connecting`, which is allowed (error 2003)";
const NOT_ALL: &str =
    "down: receiver is `Connecting`, lag is NULL, and received events are still to be applied (error 2003)";

#[test]
fn a_source_dies_on_mariadb_10_11() {
    dead_source(Software::MariaDb, "1h", &[("", [NOT_ALL, ALLOWED])]);
}

#[test]
fn a_source_dies_on_mariadb_11_8() {
    let commit = [
        "down: lag by commit is unknown: received events are still to be applied",
        "up: lag is 0s by commit, limit is 3600s",
    ];
    dead_source(Software::MariaDb11, "1h", &[("", [NOT_ALL, ALLOWED]), (" --lag-from=commit", commit)]);
}

/// It knows the lag without a receiver, too: NULL says that all is applied.
#[test]
fn a_source_dies_on_mysql_9() {
    let commit = ["down: lag is Ns by commit, limit is 0s", "up: lag is 0s by commit, limit is 0s"];
    let status = ["down: lag is Ns, limit is 0s", ALLOWED];
    dead_source(Software::MySql9, "0s", &[("", status), (" --lag-from=commit", commit)]);
}

fn on_mariadb(software: Software) {
    let (source, replica) = pair(software);
    let scratch = Scratch::new("lag");
    let _link = replica.follow(&source);
    let mut section = Section::new(&format!("Lag on {}", name_of(&replica)));
    source.sql("CREATE DATABASE percona");
    let pt = pt_heartbeat(&source, &scratch, "America/New_York", &["--utc", "--create-table"]);

    until_value(&replica, "SELECT COUNT(*) FROM percona.heartbeat", "1");
    heartbeats(&mut section, &source, &replica);
    let in_time = "up: lag is Ns by heartbeat, limit is 30s";
    row(&mut section, &replica, "pt-heartbeat --utc", HEARTBEAT, in_time, false);
    let not_told = HEARTBEAT.trim_end_matches(" --heartbeat-utc");
    row(
        &mut section,
        &replica,
        "pt-heartbeat --utc, and not told",
        not_told,
        "down: lag is Ns by heartbeat, limit is 30s",
        false,
    );
    drop(pt);
    // Without --utc it writes the time of its own host.
    let pt = pt_heartbeat(&source, &scratch, "Asia/Karachi", &[]);
    until(&replica, not_told, in_time);
    row(&mut section, &replica, "pt-heartbeat in the zone of the server", not_told, in_time, false);
    drop(pt);
    let pt = pt_heartbeat(&source, &scratch, "UTC", &["--utc"]);
    let strict = format!("{HEARTBEAT} --max-lag=3s");
    until(&replica, &strict, "up: lag is Ns by heartbeat, limit is 3s");
    blindness(
        &mut section,
        &source,
        &replica,
        &[(&strict, "down: lag is Ns by heartbeat, limit is 3s"), (CHECK, "up: lag is 0s, limit is 30s")],
    );
    drop(pt);
    match software {
        Software::MariaDb => {
            let check = "mysqlchk-replication --lag-from=commit";
            row(
                &mut section,
                &replica,
                "replicating",
                check,
                "down: lag by commit needs MySQL 8.0 or MariaDB 11.6",
                false,
            );
        }
        _ => commits(&mut section, &source, &replica),
    }
    let check = "mysqlchk-replication --max-heartbeat-age=5s";
    let verdict = "down: `--max-heartbeat-age` needs MySQL 8.0: take `--lag-from=heartbeat`";
    row(&mut section, &replica, "replicating", check, verdict, false);
    section.close();
}

#[test]
fn lag_on_mariadb_10_11() {
    on_mariadb(Software::MariaDb);
}

#[test]
fn lag_on_mariadb_11_8() {
    on_mariadb(Software::MariaDb11);
}

/// The last hour of summer time comes twice: what goes through local time takes the first for the second. The statement of
/// the check, as the server logged it, in that hour.
#[test]
fn summer_time_ends_on_mysql_9() {
    // 02:30 CEST on 2026-10-25 in Berlin.
    const HALF_PAST_TWO: &str = "SET timestamp=1792888200.25";
    let (source, replica) = (Server::start_of(Software::MySql9, &[]), Server::start_of(Software::MySql9, &[]));
    replica.stop();
    replica.restart_in(&[("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")]);
    let _link = replica.follow(&source);
    let now = |statement: &str| replica.rows(&format!("{HALF_PAST_TWO}; {statement}"))[0]["now"].clone();
    assert_eq!(now("SELECT UNIX_TIMESTAMP(NOW(6)) AS now"), "1792891800.250000", "it is that hour");
    let asked = ask_line(&replica, "mysqlchk-replication --max-heartbeat-age=20s").statements;
    let times = asked.iter().find(|statement| statement.contains("performance_schema")).expect("it asks for times");
    assert_eq!(now(times), "1792888200.250000");
}

/// Debian's pt-heartbeat (3.2.1) does not run on it: it asks for `SHOW MASTER STATUS`, which 8.4 has removed. So the rows
/// are written in its layout by the test.
#[test]
fn lag_on_mysql_9() {
    let (source, replica) = pair(Software::MySql9);
    let _link = replica.follow(&source);
    let mut section = Section::new(&format!("Lag on {}", name_of(&replica)));
    source.sql(
        "CREATE DATABASE percona; CREATE TABLE percona.heartbeat (ts VARCHAR(26), server_id INT UNSIGNED PRIMARY KEY)",
    );
    source.sql("INSERT INTO percona.heartbeat VALUES (UTC_TIMESTAMP(6), @@server_id)");
    until_value(&replica, "SELECT COUNT(*) FROM percona.heartbeat", "1");
    heartbeats(&mut section, &source, &replica);
    commits(&mut section, &source, &replica);
    let heard = "mysqlchk-replication --max-heartbeat-age=3s";
    until(&replica, heard, "up: lag is 0s, limit is 30s");
    row(&mut section, &replica, "replicating", heard, "up: lag is 0s, limit is 30s", false);
    let both = "mysqlchk-replication --max-heartbeat-age=3s --lag-from=heartbeat --heartbeat-table=percona.heartbeat --heartbeat-utc --max-lag=1h";
    row(&mut section, &replica, "replicating", both, "up: lag is Ns by heartbeat, limit is 3600s", false);
    blindness(
        &mut section,
        &source,
        &replica,
        &[(heard, "down: last received from the source Ns ago, limit is 3s"), (CHECK, "up: lag is 0s, limit is 30s")],
    );
    section.close();
}
