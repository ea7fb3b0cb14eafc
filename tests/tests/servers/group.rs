//! Group Replication: every state of a member, as it sees itself, with each role asked for; and the status check there.

use std::time::Duration;

use lab::evidence::Section;
use lab::group::Group;
use lab::server::Server;
use lab::software::Software;
use lab::wait;
use mysql::prelude::Queryable;

use crate::row;

const ANY: &str = "mysqlchk-replication --group-replication=any";
const PRIMARY: &str = "mysqlchk-replication --group-replication=primary";
const SECONDARY: &str = "mysqlchk-replication --group-replication=secondary";
const WRITABLE: &str = "mysqlchk-status --require-writable";
const IS_PRIMARY: &str = "up: member state is ONLINE, role is PRIMARY, applier queue is 0";
const IS_SECONDARY: &str = "up: member state is ONLINE, role is SECONDARY, applier queue is 0";
const READ_ONLY: &str = "down: read_only is ON, not OFF";
const TAKES_WRITES: &str = "up: the server answers, read_only is OFF";

#[test]
fn group_replication_on_mysql_9() {
    // The default closes an expelled member to all but its administrators (`offline_mode`), who see this.
    let group = Group::start_with(&["group_replication_exit_state_action=READ_ONLY"]);
    let mut section = Section::new("Group Replication on MySQL 9");
    let mut see = |number: usize, situation: &str, wanted: &[(&str, &str)]| {
        for (check, verdict) in wanted {
            row(&mut section, group.member(number), situation, check, verdict, false);
        }
    };
    let read_only = |number: usize| {
        let row = &group.member(number).rows("SELECT @@read_only AS ro, @@super_read_only AS su")[0];
        (row["ro"] == "1", row["su"] == "1")
    };
    see(0, "primary", &[(PRIMARY, IS_PRIMARY), (SECONDARY, "down: member role is PRIMARY, not SECONDARY")]);
    see(0, "primary", &[(ANY, IS_PRIMARY), (WRITABLE, TAKES_WRITES)]);
    see(1, "secondary", &[(PRIMARY, "down: member role is SECONDARY, not PRIMARY"), (SECONDARY, IS_SECONDARY)]);
    see(1, "secondary", &[(WRITABLE, READ_ONLY)]);
    see(1, "asked for channels", &[("mysqlchk-replication", "down: no replication is configured")]);

    group.move_primary(1);
    see(0, "primary moved away", &[(PRIMARY, "down: member role is SECONDARY, not PRIMARY"), (WRITABLE, READ_ONLY)]);
    see(1, "primary moved here", &[(PRIMARY, IS_PRIMARY), (WRITABLE, TAKES_WRITES)]);
    group.heal();

    let mut session = group.member(2).session();
    session.query_drop("LOCK TABLES lab.t READ").unwrap();
    for _ in 0..12 {
        group.member(1).sql("INSERT INTO lab.t (v) VALUES (1)");
    }
    let queue = "SELECT COUNT_TRANSACTIONS_REMOTE_IN_APPLIER_QUEUE FROM performance_schema.replication_group_member_stats WHERE MEMBER_ID=@@server_uuid";
    wait::until_equal("applier queue", Duration::from_secs(20), "12".to_owned(), || group.member(2).value(queue));
    let limited = "mysqlchk-replication --group-replication=secondary --max-applier-queue=11";
    see(2, "12 transactions wait for a lock", &[(limited, "down: applier queue is 12, limit is 11")]);
    let enough = "mysqlchk-replication --group-replication=secondary --max-applier-queue=12";
    see(
        2,
        "12 transactions wait for a lock",
        &[(enough, "up: member state is ONLINE, role is SECONDARY, applier queue is 12")],
    );
    drop(session);
    group.heal();

    group.leave(2);
    assert_eq!(read_only(2), (true, true));
    let offline = "down: member state is OFFLINE, not ONLINE";
    see(2, "left: STOP GROUP_REPLICATION", &[(ANY, offline), (WRITABLE, READ_ONLY)]);
    group.heal();

    group.restart_outside(2);
    // The trap: it takes writes that the group never sees.
    assert_eq!(read_only(2), (false, false));
    see(2, "restarted without joining", &[(ANY, offline), (WRITABLE, offline), ("mysqlchk-status", TAKES_WRITES)]);
    group.heal();

    group.hold_recovering(2);
    see(2, "recovering", &[(ANY, "down: member state is RECOVERING, not ONLINE"), (WRITABLE, READ_ONLY)]);
    group.heal();

    group.expel(2);
    see(2, "expelled", &[(ANY, "down: member state is ERROR, not ONLINE"), (WRITABLE, READ_ONLY)]);
    group.heal();

    let last = group.primary();
    group.lose_majority(last);
    // The trap: it calls itself ONLINE, PRIMARY and writable, and every write hangs.
    assert_eq!((group.state(last).as_deref(), group.primary_seen_by(last)), (Some("ONLINE"), Some(last)));
    assert_eq!(read_only(last), (false, false));
    let lost = "down: no majority: 1 of 3 members are reachable";
    see(last, "two of three members frozen", &[(ANY, lost), (PRIMARY, lost), (WRITABLE, lost)]);
    see(last, "two of three members frozen", &[("mysqlchk-status", TAKES_WRITES)]);
    group.heal();

    let next = { group.kill_primary() };
    see(next, "primary killed, this one elected", &[(PRIMARY, IS_PRIMARY), (WRITABLE, TAKES_WRITES)]);

    // As after a group was dissolved: nothing to be a member of.
    let loaded = Server::start_of(Software::MySql9, &["plugin_load_add=group_replication.so"]);
    let state = "SELECT MEMBER_STATE FROM performance_schema.replication_group_members";
    assert_eq!(
        (loaded.value(state), loaded.value("SELECT @@group_replication_group_name")),
        ("OFFLINE".into(), "NULL".into())
    );
    row(&mut section, &loaded, "the plugin is loaded, without a group", WRITABLE, TAKES_WRITES, false);
    section.close();
}
