//! Replication status, and what else the lag is taken from.

use std::time::Duration;

use lab::evidence::Section;
use lab::replica::Fault;
use lab::server::Server;
use lab::software::Software;

use crate::{ask_line, name_of, row, until};

const CHECK: &str = "mysqlchk-replication";
const IN_TIME: &str = "up: lag is 0s, limit is 30s";

fn every_fault_on(software: Software) {
    let (source, replica) = (Server::start_of(software, &[]), Server::start_of(software, &[]));
    let mut section = Section::new(&format!("Replication on {}", name_of(&replica)));
    row(&mut section, &replica, "no replication configured", CHECK, "down: no replication is configured", true);
    let up = "mysqlchk-replication --if-not-replica=up";
    row(&mut section, &replica, "no replication configured", up, "up: no replication is configured", false);
    let link = replica.follow(&source);
    until(&replica, CHECK, IN_TIME);
    row(&mut section, &replica, "replicating", CHECK, IN_TIME, true);
    let receiver = |state: &str| format!("down: receiver is `{state}`, not `Yes`");
    for (fault, situation, verdict) in [
        (Fault::StopReceiver, "receiver stopped", receiver("No")),
        (Fault::StopApplier, "applier stopped", "down: applier is `No`, not `Yes`".into()),
        (Fault::Stop, "both stopped", receiver("No")),
        (Fault::BreakApplier, "duplicate key", "down: applier is `No`, not `Yes` (error 1062)".into()),
        (Fault::WrongPassword, "source refuses the login", receiver("Connecting") + " (error 1045)"),
        (Fault::Unreachable, "source unreachable", receiver("Connecting") + " (error 2003)"),
        (
            Fault::Delay(Duration::from_secs(600)),
            "delayed by 600s",
            "up: lag is 0s beyond the delay of Ns, limit is 30s".into(),
        ),
        (Fault::Lag(Duration::from_secs(60)), "60s behind", "down: lag is Ns, limit is 30s".into()),
    ] {
        link.break_by(fault);
        row(&mut section, &replica, situation, CHECK, &verdict, true);
        if fault == Fault::Unreachable {
            let check = "mysqlchk-replication --allow-connecting";
            let answer = ask_line(&replica, check).verdict;
            // MySQL forgets its position with the change of the source, and says 0.
            let verdict = if software.is_mysql() {
                IN_TIME
            } else {
                "up: receiver is `Connecting`, which is allowed (error 2003)"
            };
            assert_eq!(answer, verdict);
            row(&mut section, &replica, situation, check, verdict, false);
        }
        link.heal();
    }
    section.close();
}

/// Two channels: each fault is said of the one that has it, and of the other one nothing.
fn channels_on(software: Software) {
    let [first, second, replica] = [(); 3].map(|()| Server::start_of(software, &[]));
    let (one, two) = (replica.follow_as("one", &first), replica.follow_as("two", &second));
    let mut section = Section::new(&format!("Channels on {}", name_of(&replica)));
    let both = "up: channel `two`: lag is 0s, limit is 30s";
    until(&replica, CHECK, both);
    row(&mut section, &replica, "two channels replicating", CHECK, both, true);
    let broken = "down: channel `two`: applier is `No`, not `Yes` (error 1062)";
    two.break_by(Fault::BreakApplier);
    row(&mut section, &replica, "duplicate key on the second", CHECK, broken, true);
    let only = "mysqlchk-replication --channel=one";
    row(
        &mut section,
        &replica,
        "duplicate key on the second",
        only,
        "up: channel `one`: lag is 0s, limit is 30s",
        false,
    );
    let named = "mysqlchk-replication --channel=one --channel=TWO";
    row(&mut section, &replica, "duplicate key on the second", named, broken, false);
    let absent = "mysqlchk-replication --channel=one --channel=three";
    row(
        &mut section,
        &replica,
        "a channel that is not there",
        absent,
        "down: channel `three` is not configured",
        false,
    );
    one.break_by(Fault::StopReceiver);
    let worse = "down: channel `one`: receiver is `No`, not `Yes`";
    row(&mut section, &replica, "and the first receiver stopped", CHECK, worse, false);
    section.close();
}

#[test]
fn channels_on_mariadb_10_11() {
    channels_on(Software::MariaDb);
}

#[test]
fn channels_on_mariadb_11_8() {
    channels_on(Software::MariaDb11);
}

#[test]
fn channels_on_mysql_9() {
    channels_on(Software::MySql9);
}

#[test]
fn replication_on_mariadb_10_11() {
    every_fault_on(Software::MariaDb);
}

#[test]
fn replication_on_mariadb_11_8() {
    every_fault_on(Software::MariaDb11);
}

#[test]
fn replication_on_mysql_9() {
    every_fault_on(Software::MySql9);
}

/// `version=` in its option file: the greeting is that of a MySQL, and the statements of one hide what matters.
#[test]
fn a_mariadb_that_greets_as_mysql_is_told_by_its_rows() {
    let source = Server::start();
    let replica = Server::start_with(&["version=8.0.11"]);
    let named = replica.follow_as("us", &source);
    let mut section = Section::new("MariaDB 10.11 that greets as MySQL 8.0.11");
    until(&replica, CHECK, "up: channel `us`: lag is 0s, limit is 30s");
    let up = "up: channel `us`: lag is 0s, limit is 30s";
    row(&mut section, &replica, "a named connection", CHECK, up, true);
    named.break_by(Fault::Stop);
    let down = "down: channel `us`: receiver is `No`, not `Yes`";
    row(&mut section, &replica, "the named connection stopped", CHECK, down, true);
    let status = "mysqlchk-status --require-writable";
    row(&mut section, &replica, "writable", status, "up: the server answers, read_only is OFF", false);
    row(&mut section, &replica, "no Galera node", "galera-chk", "down: wsrep_on is OFF: not a Galera node", false);
    section.close();
}
