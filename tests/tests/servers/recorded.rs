//! Servers that are not to be had: what the checks make of the rows on record in `tests/recordings`.

use lab::evidence::{Answer, From, Section, stable, verdict_of};
use lab::program::Check;
use lab::recorded::{Recorded, Recording, matches};
use lab::server::Server;
use lab::software::Software;

const IN_TIME: &str = "up: lag is 0s, limit is 30s";
const NETWORK: &str = "SELECT @@global.skip_networking AS skip_networking";
const SLAVE: &str = "SHOW SLAVE STATUS";
const REPLICA: &str = "SHOW REPLICA STATUS";
const ALL_SLAVES: &str = "SHOW ALL SLAVES STATUS";
const TIMES: &str = "SELECT c.CHANNEL_NAME, ... FROM performance_schema.replication_connection_status AS c ...";
const HEARTBEATS: &str =
    "SELECT h.*, TIMESTAMPDIFF(MICROSECOND, h.ts, NOW(6)) AS heartbeat_age FROM `percona`.`heartbeat` AS h";
const MYSQL_STATUS: &str = "SELECT @@global.read_only AS read_only, ...LEFT JOIN performance_schema.global_status ...";
const MARIADB_STATUS: &str = "SELECT @@global.read_only AS read_only, ...@@global.wsrep_on...";
const PLAIN_STATUS: &str =
    "SELECT @@global.read_only AS read_only, ...@@global.innodb_force_recovery AS innodb_force_recovery";
const GROUP_NAME: &str =
    "SELECT ...group_name FROM information_schema.PLUGINS AS p WHERE p.PLUGIN_NAME = 'group_replication'";
const MEMBERS: &str =
    "SELECT m.MEMBER_ID = @@server_uuid ...FROM performance_schema.replication_group_members AS m ...USING (MEMBER_ID)";
const MEMBERS_5_7: &str = "SELECT m.MEMBER_ID = @@server_uuid ...FROM performance_schema.replication_group_members AS m \
    ...'group_replication_primary_member'";
const GALERA: &str = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status ...";

/// The rows of one server.
struct Page {
    server: &'static str,
    section: Section,
}

impl Page {
    fn new(server: &'static str) -> Self {
        Self { server, section: Section::new(&format!("Recorded: {server}")) }
    }

    /// Asks one check, asserts what it says and each `COM_QUERY` that it sent, in order, and notes it.
    #[track_caller]
    fn row(&mut self, recording: &Recording, situation: &str, check: &str, verdict: &str, queries: &[&str]) {
        let (program, options) = check.split_once(' ').unwrap_or((check, ""));
        let server = Recorded::serve(recording.clone());
        let outcome = Check::new(program)
            .args(server.arguments())
            .args(["--timeout=10s", "--format=text"])
            .args(options.split_whitespace())
            .run();
        let found = verdict_of(program, &outcome.stdout);
        let asked = server.statements();
        assert_eq!(stable(&found), verdict, "{situation}: {check}: {asked:#?}");
        let status = i32::from(!verdict.starts_with("up"));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(status), ""), "{situation}: {check}: {outcome:?}");
        // Each `COM_QUERY` by itself, and each statement in it.
        let same = |(asked, query): (&String, &&str)| {
            let (asked, query): (Vec<_>, Vec<_>) = (asked.split("; ").collect(), query.split("; ").collect());
            asked.len() == query.len() && asked.iter().zip(query).all(|(asked, query)| matches(query, asked))
        };
        let as_expected = asked.len() == queries.len() && asked.iter().zip(queries).all(same);
        assert!(as_expected, "{situation}: {check} asked {asked:#?}, not {queries:#?}");
        let statements = asked.iter().flat_map(|asked| asked.split("; ")).map(str::to_owned).collect();
        let answer = Answer { verdict: found, statements };
        self.section.row(self.server, situation, check, &answer, None, From::Record);
    }
}

/// How a version speaks of replication.
struct Version {
    server: &'static str,
    file: &'static str,
    statement: &'static str,
    /// `Slave` or `Replica`, `Master` or `Source`.
    replica: &'static str,
    source: &'static str,
    /// What the server says is missing (`ER_SPECIFIC_ACCESS_DENIED_ERROR`), and the grant that helps there.
    privileges: &'static str,
    grant: &'static str,
    /// What it is asked next where it does not know the first spelling, and what makes it so.
    other: &'static str,
    greets: &'static str,
}

const MYSQL_PRIVILEGES: &str = "SUPER, REPLICATION CLIENT";
const MYSQL_GRANT: &str = "REPLICATION CLIENT ON *.*";

const MYSQL_SINCE_8_0_22: Version = Version {
    server: "",
    file: "",
    statement: REPLICA,
    replica: "Replica",
    source: "Source",
    privileges: MYSQL_PRIVILEGES,
    grant: MYSQL_GRANT,
    other: SLAVE,
    greets: "",
};

const MYSQL_BEFORE_8_0_22: Version =
    Version { statement: SLAVE, replica: "Slave", source: "Master", other: REPLICA, ..MYSQL_SINCE_8_0_22 };

/// The rules about replication on every version; `page` takes what else the test has.
#[track_caller]
fn replication(version: &Version) -> Page {
    const CHECK: &str = "mysqlchk-replication";
    let Version { statement, replica, source, .. } = version;
    let mut page = Page::new(version.server);
    let recording = Recording::read(version.file);
    let with_network = |statement: &str| format!("{NETWORK}; {statement}");
    let (once, other) = (with_network(statement), with_network(version.other));
    let once = [once.as_str()];
    let receiver = &format!("{replica}_IO_Running");
    let applier = &format!("{replica}_SQL_Running");
    let behind = &format!("Seconds_Behind_{source}");
    page.row(&recording, "replicating", CHECK, IN_TIME, &once);
    for (situation, values, verdict) in [
        (
            "duplicate key",
            &[(applier, "No"), (&"Last_SQL_Errno".to_owned(), "1062"), (behind, "NULL")][..],
            "down: applier is `No`, not `Yes` (error 1062)",
        ),
        (
            "source unreachable",
            &[(receiver, "Connecting"), (&"Last_IO_Errno".to_owned(), "2003"), (behind, "NULL")],
            "down: receiver is `Connecting`, not `Yes` (error 2003)",
        ),
        ("lag unknown", &[(behind, "NULL")], "down: lag is NULL"),
        ("60s behind", &[(behind, "60")], "down: lag is Ns, limit is 30s"),
        (
            "delayed by 600s",
            &[(behind, "600"), (&"SQL_Delay".to_owned(), "600")],
            "up: lag is 0s beyond the delay of Ns, limit is 30s",
        ),
    ] {
        let broken = values.iter().fold(recording.clone(), |recording, (name, value)| recording.with(name, value));
        page.row(&broken, situation, CHECK, verdict, &once);
    }

    let channel = if *statement == ALL_SLAVES { "Connection_name" } else { "Channel_Name" };
    let two =
        recording.clone().with(channel, "eu").another(&[(channel, "us"), (applier, "No"), ("Last_SQL_Errno", "1062")]);
    let broken = "down: channel `us`: applier is `No`, not `Yes` (error 1062)";
    let situation = "two channels, `us` broken";
    page.row(&two, situation, CHECK, broken, &once);
    let eu = "up: channel `eu`: lag is 0s, limit is 30s";
    page.row(&two, situation, "mysqlchk-replication --channel=eu", eu, &once);
    page.row(&two, situation, "mysqlchk-replication --channel=eu --channel=US", broken, &once);
    let absent = "down: channel `asia` is not configured";
    page.row(&two, situation, "mysqlchk-replication --channel=asia", absent, &once);

    let none = recording.clone().first(&format!("query {statement}\ncolumns {channel}"));
    page.row(&none, "no replication configured", CHECK, "down: no replication is configured", &once);
    let refused = |error: &str| recording.clone().first(&format!("query {statement}\nerror {error}"));
    let denied = refused(&format!(
        "1227 42000 Access denied; you need (at least one of) the {} privilege(s) for this operation",
        version.privileges
    ));
    let verdict = format!("down: cannot query: missing privilege (1227): GRANT {}", version.grant);
    page.row(&denied, "privilege missing", CHECK, &verdict, &once);
    // Nothing but a syntax error is worth another spelling.
    let shutdown = refused("1053 08S01 Server shutdown in progress");
    page.row(&shutdown, "shutting down", CHECK, "down: cannot query: the server is shutting down (1053)", &once);
    let both = [once[0], &other];
    if version.greets.is_empty() {
        let unknown = refused("1064 42000 You have an error in your SQL syntax");
        page.row(&unknown, "does not know the statement", CHECK, IN_TIME, &both);
    } else {
        let as_other = recording.clone().greets(version.greets);
        let situation = format!("behind a proxy that greets as {}", version.greets);
        page.row(&as_other, &situation, CHECK, IN_TIME, &[&other, once[0]]);
        let denied = denied.greets(version.greets);
        let situation = format!("{situation}, privilege missing");
        page.row(&denied, &situation, CHECK, &verdict, &[&other, once[0]]);
    }
    page
}

/// What `mysqlchk-status` says of a `MySQL` that is no member of anything.
fn status(page: &mut Page, recording: &Recording, writes: &[&str]) {
    const UP: &str = "up: the server answers, read_only is OFF";
    page.row(recording, "writable", "mysqlchk-status", UP, &[MYSQL_STATUS]);
    page.row(recording, "writable", "mysqlchk-status --require-writable", UP, writes);
    let read_only = recording.clone().with("read_only", "1");
    let down = "down: read_only is ON, not OFF";
    page.row(&read_only, "read-only", "mysqlchk-status --require-writable", down, writes);
    let up = "up: the server answers, read_only is ON";
    page.row(&read_only, "read-only", "mysqlchk-status --require-read-only", up, &[MYSQL_STATUS]);
    let down = "down: read_only is OFF, not ON";
    page.row(recording, "writable", "mysqlchk-status --require-read-only", down, &[MYSQL_STATUS]);
    // Never so on a real server, where the one sets the other; each is judged by itself.
    let super_read_only = recording.clone().with("super_read_only", "1");
    let down = "down: super_read_only is ON, not OFF";
    page.row(&super_read_only, "super_read_only alone", "mysqlchk-status --require-writable", down, writes);
    for (switch, reason) in [
        ("transaction_read_only", "transaction_read_only is ON, not OFF"),
        ("innodb_read_only", "innodb_read_only is ON, not OFF"),
        ("innodb_force_recovery", "innodb_force_recovery is 1, not 0"),
    ] {
        let refusing = recording.clone().with(switch, "1");
        page.row(&refusing, switch, "mysqlchk-status --require-writable", &format!("down: {reason}"), writes);
        page.row(&refusing, switch, "mysqlchk-status", UP, &[MYSQL_STATUS]);
    }
    let local = recording.clone().with("skip_networking", "1");
    page.row(&local, "skip_networking", "mysqlchk-status", "down: skip_networking is ON", &[MYSQL_STATUS]);
    page.row(&local, "skip_networking", "mysqlchk-status --allow-skip-networking", UP, &[MYSQL_STATUS]);
    let offline = recording.clone().with("offline_mode", "1");
    page.row(&offline, "offline mode", "mysqlchk-status", "down: offline_mode is ON", &[MYSQL_STATUS]);
    let down = "down: wsrep_on is NULL: not a Galera node";
    page.row(recording, "no Galera node", "galera-chk", down, &[GALERA]);
}

/// What of the recordings a real server can vouch for: the columns of 8.4 are those of 9.7, and `MariaDB` 12 has two more
/// than 11.8.
#[test]
fn the_columns_on_record_are_those_of_the_nearest_server() {
    const SINCE_12: [&str; 2] = ["Connects_Tried", "Master_Retry_Count"];
    let sorted = |file, statement| {
        let mut columns = Recording::read(file).columns(statement);
        columns.sort();
        columns
    };
    let replicating = |software| {
        let (source, replica) = (Server::start_of(software, &[]), Server::start_of(software, &[]));
        let _link = replica.follow(&source);
        (source, replica)
    };
    let columns = |server: &Server, statement| server.rows(statement)[0].keys().cloned().collect::<Vec<_>>();
    let (_source, replica) = replicating(Software::MySql9);
    assert_eq!(sorted("mysql-8.4", REPLICA), columns(&replica, REPLICA));
    let (_source, replica) = replicating(Software::MariaDb11);
    for statement in [SLAVE, ALL_SLAVES] {
        let mut recorded = sorted("mariadb-12", statement);
        recorded.retain(|name| !SINCE_12.contains(&name.as_str()));
        assert_eq!(recorded, columns(&replica, statement), "{statement}");
    }
}

#[test]
fn mysql_5_7() {
    let mut page =
        replication(&Version { server: "MySQL 5.7", file: "mysql-5.7", greets: "8.0.35", ..MYSQL_BEFORE_8_0_22 });
    let recording = Recording::read("mysql-5.7");
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS_5_7}");
    status(&mut page, &recording, &[&all]);
    // The first version with the plugin, and the last without it.
    let situation = "restarted outside its group";
    let left = group(&recording, GROUP, &["| 0 | OFFLINE |  | NULL"]);
    let offline = "down: member state is OFFLINE, not ONLINE";
    let writes = "mysqlchk-status --require-writable";
    for (version, verdict, asked) in
        [("5.7.17-log", offline, &*all), ("5.7.16-log", "up: the server answers, read_only is OFF", MYSQL_STATUS)]
    {
        page.row(&left.clone().greets(version), &format!("{situation}, {version}"), writes, verdict, &[asked]);
    }
    memberships(&mut page, &recording, &all);
    let situation = "replicating";
    for role in ["any", "primary"] {
        let check = format!("mysqlchk-replication --group-replication={role}");
        page.row(&recording, situation, &check, "down: `--group-replication` needs MySQL 8.0", &[]);
    }
    let check = "mysqlchk-replication --lag-from=commit";
    page.row(
        &recording,
        situation,
        check,
        "down: lag by commit needs MySQL 8.0 or MariaDB 11.6",
        &[&format!("{NETWORK}; {SLAVE}")],
    );
    let check = "mysqlchk-replication --max-heartbeat-age=5s";
    let refusal = "down: `--max-heartbeat-age` needs MySQL 8.0: take `--lag-from=heartbeat`";
    page.row(&recording, situation, check, refusal, &[]);
    page.section.close();
}

#[test]
fn mysql_5_7_before_5_7_8() {
    let mut page = Page::new("MySQL 5.7.7");
    let recording = Recording::read("mysql-5.7.7");
    const UP: &str = "up: the server answers, read_only is OFF";
    page.row(&recording, "writable", "mysqlchk-status", UP, &[PLAIN_STATUS]);
    page.row(&recording, "writable", "mysqlchk-status --require-writable", UP, &[PLAIN_STATUS]);
    let read_only = recording.clone().with("read_only", "1");
    let down = "down: read_only is ON, not OFF";
    page.row(&read_only, "read-only", "mysqlchk-status --require-writable", down, &[PLAIN_STATUS]);
    for (switch, reason) in [
        ("transaction_read_only", "transaction_read_only is ON, not OFF"),
        ("skip_networking", "skip_networking is ON"),
    ] {
        let check = "mysqlchk-status --require-writable";
        page.row(&recording.clone().with(switch, "1"), switch, check, &format!("down: {reason}"), &[PLAIN_STATUS]);
    }
    // What a proxy makes of it: the first statement has a variable that this server has not.
    let proxied = read_only.greets("8.0.11");
    let situation = "behind a proxy that greets as 8.0.11";
    page.row(
        &proxied,
        situation,
        "mysqlchk-status",
        "up: the server answers, read_only is ON",
        &[MYSQL_STATUS, MARIADB_STATUS, PLAIN_STATUS],
    );
    let both = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    page.row(&proxied, situation, "mysqlchk-status --require-writable", down, &[&both, MARIADB_STATUS, PLAIN_STATUS]);
    page.section.close();
}

#[test]
fn mysql_8_0_before_8_0_22() {
    let mut page =
        replication(&Version { server: "MySQL 8.0.21", file: "mysql-8.0.21", greets: "8.0.22", ..MYSQL_BEFORE_8_0_22 });
    let recording = Recording::read("mysql-8.0.21");
    commits(&mut page, &recording, SLAVE, ["Read_Master_Log_Pos", "Seconds_Behind_Master"]);
    page.section.close();
}

#[test]
fn mysql_8_0() {
    let mut page = replication(&Version { server: "MySQL 8.0", file: "mysql-8.0", ..MYSQL_SINCE_8_0_22 });
    let recording = Recording::read("mysql-8.0");
    commits(&mut page, &recording, REPLICA, ["Read_Source_Log_Pos", "Seconds_Behind_Source"]);
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    status(&mut page, &recording, &[&all]);
    memberships(&mut page, &recording, &all);
    members(&mut page, &recording);
    page.section.close();
}

/// The lag by commit, and what the receiver last heard, both in one round trip with replication status.
fn commits(page: &mut Page, recording: &Recording, statement: &str, [read, behind]: [&str; 2]) {
    let (both, once) = (format!("{NETWORK}; {statement}; {TIMES}"), format!("{NETWORK}; {statement}"));
    let both = [both.as_str()];
    let check = "mysqlchk-replication --lag-from=commit";
    let in_time = "up: lag is 0s by commit, limit is 30s";
    page.row(recording, "replicating", check, in_time, &both);
    let behind = recording.clone().with(behind, "0").with(read, "2000");
    let late = behind.clone().with("applied", "1700000020.000000").with("applying", "1700000055.250000");
    page.row(&late, "a worker waits, 44.75s behind", check, "down: lag is Ns by commit, limit is 30s", &both);
    page.row(&late, "a worker waits, 44.75s behind", "mysqlchk-replication", IN_TIME, &[&once]);
    let long = "mysqlchk-replication --lag-from=commit --max-lag=44750ms";
    page.row(&late, "a worker waits, 44.75s behind", long, "up: lag is Ns by commit, limit is 44750ms", &both);
    // The applier forgets what it applied when it is restarted: the positions still say that nothing is left.
    let forgot = recording.clone().with("applied", "0.000000");
    page.row(&forgot, "applier restarted, nothing left", check, in_time, &both);
    let left = behind.clone().with("applied", "0.000000");
    page.row(&left, "applier restarted, some left", check, "up: lag is Ns by commit, limit is 30s", &both);
    let idle = behind.with("received", "0.000000").with("applied", "0.000000");
    page.row(&idle, "nothing was received", check, "down: lag by commit is unknown", &both);
    let age = "mysqlchk-replication --max-heartbeat-age=5s";
    page.row(recording, "replicating", age, IN_TIME, &both);
    let silent = recording.clone().with("heartbeat", "1700000080.000000");
    page.row(&silent, "source silent for 10s", age, "down: last received from the source Ns ago, limit is 5s", &both);
    let denied = recording.clone().first(
        "query SELECT c.CHANNEL_NAME, ...\nerror 1142 42000 SELECT command denied to user 'recorded'@'localhost' for \
         table 'replication_connection_status'",
    );
    let grant = "down: cannot query: missing privilege (1142): GRANT SELECT ON performance_schema.*";
    page.row(&denied, "may not read performance_schema", check, grant, &both);
    let named = recording.clone().with("Channel_Name", "eu").with("CHANNEL_NAME", "eu");
    page.row(&named, "one channel, `eu`", check, "up: channel `eu`: lag is 0s by commit, limit is 30s", &both);
}

/// The name of a group, as a variable holds it.
const GROUP: &str = "6c61622d-6772-6f75-7000-000000000000";

/// A server with the plugin of Group Replication, the name of its group (which may be empty), and the members it sees.
fn group(recording: &Recording, name: &str, rows: &[&str]) -> Recording {
    recording.clone().first(&format!(
        "query {GROUP_NAME}\nrow\ngroup_name = {name}\n\
         query ...FROM performance_schema.replication_group_members ...\n\
         columns is_own MEMBER_STATE MEMBER_ROLE applier_queue\n{}",
        rows.join("\n")
    ))
}

/// What `mysqlchk-status` says of a member of a replication group, and of one that is none any more.
fn memberships(page: &mut Page, recording: &Recording, all: &str) {
    const CHECK: &str = "mysqlchk-status --require-writable";
    let up = "up: the server answers, read_only is OFF";
    let [primary, lost] = ["| 1 | ONLINE | PRIMARY | NULL", "| 0 | UNREACHABLE | SECONDARY | NULL"];
    let alone = group(recording, GROUP, &[lost, primary, lost]);
    let no_majority = "down: no majority: 1 of 3 members are reachable";
    let situation = "primary of three, two of them frozen";
    page.row(&alone, situation, CHECK, no_majority, &[all]);
    page.row(&alone, situation, "mysqlchk-status", up, &[MYSQL_STATUS]);
    let [out, offline] = ["| 0 | OFFLINE |  | NULL", "down: member state is OFFLINE, not ONLINE"];
    page.row(&group(recording, GROUP, &[out]), "has left its group", CHECK, offline, &[all]);
    let loaded = group(recording, "", &[out]);
    page.row(&loaded, "the plugin is loaded, its group dissolved", CHECK, up, &[all]);
    let denied = "query ...FROM performance_schema.replication_group_members ...\nerror 1142 42000 SELECT command \
        denied to user 'recorded'@'localhost' for table 'replication_group_members'";
    let situation = "primary of three, may not read performance_schema";
    let grant = "down: member state is unknown: GRANT SELECT ON performance_schema.*";
    page.row(&alone.first(denied), situation, CHECK, grant, &[all]);
    let situation = "group dissolved, may not read performance_schema";
    page.row(&loaded.first(denied), situation, CHECK, up, &[all]);
    let situation = "no group, may not read performance_schema";
    page.row(&recording.clone().first(denied), situation, CHECK, up, &[all]);
}

/// What `mysqlchk-replication` says of a member of a replication group.
fn members(page: &mut Page, recording: &Recording) {
    let group = |rows: &[&str]| group(recording, GROUP, rows);
    let secondaries = ["| 0 | ONLINE | SECONDARY | 0", "| 0 | ONLINE | SECONDARY | 0"];
    let asked = format!("{NETWORK}; {MEMBERS}");
    let healthy = group(&["| 1 | ONLINE | PRIMARY | 3", secondaries[0], secondaries[1]]);
    let situation = "primary of three";
    let primary = "mysqlchk-replication --group-replication=primary";
    let secondary = "mysqlchk-replication --group-replication=secondary";
    let up = "up: member state is ONLINE, role is PRIMARY, applier queue is 3";
    page.row(&healthy, situation, primary, up, &[&asked]);
    page.row(&healthy, situation, secondary, "down: member role is PRIMARY, not SECONDARY", &[&asked]);
    let queue = "mysqlchk-replication --group-replication=any --max-applier-queue=2";
    page.row(&healthy, situation, queue, "down: applier queue is 3, limit is 2", &[&asked]);
    let alone = group(&[
        "| 0 | UNREACHABLE | SECONDARY | 0",
        "| 1 | ONLINE | PRIMARY | 3",
        "| 0 | UNREACHABLE | SECONDARY | 0",
    ]);
    let no_majority = "down: no majority: 1 of 3 members are reachable";
    let situation = "primary of three, two of them frozen";
    page.row(&alone, situation, primary, no_majority, &[&asked]);
    let left = group(&["| NULL | OFFLINE |  | NULL"]);
    let offline = "down: member state is OFFLINE, not ONLINE";
    page.row(&left, "has left its group", primary, offline, &[&asked]);
    page.row(recording, "no group", primary, "down: no group replication is configured", &[&asked]);
    let denied = "query ...FROM performance_schema.replication_group_members ...\nerror 1142 42000 SELECT command \
        denied to user 'recorded'@'localhost' for table 'replication_group_members'";
    let situation = "primary of three, may not read performance_schema";
    let grant = "down: cannot query: missing privilege (1142): GRANT SELECT ON performance_schema.*";
    page.row(&healthy.first(denied), situation, primary, grant, &[&asked]);
}

#[test]
fn mysql_8_4() {
    let version = |server, file| Version { server, file, greets: "8.0.11", ..MYSQL_SINCE_8_0_22 };
    let mut page = replication(&version("MySQL 8.4", "mysql-8.4"));
    let recording = Recording::read("mysql-8.4");
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    status(&mut page, &recording, &[&all]);
    page.section.close();
}

/// A version to come, which has the number of a `MariaDB`: it greets as `MySQL` does, and that is what it is.
#[test]
fn mysql_10() {
    let mut page = Page::new("MySQL 10");
    let recording = Recording::read("mysql-8.4").greets("10.1.0");
    let both = format!("{NETWORK}; {REPLICA}");
    page.row(&recording, "replicating", "mysqlchk-replication", IN_TIME, &[&both]);
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    status(&mut page, &recording, &[&all]);
    memberships(&mut page, &recording, &all);
    members(&mut page, &recording);
    page.section.close();
}

#[test]
fn percona_server_8_0() {
    let mut page = replication(&Version { server: "Percona Server 8.0", file: "percona-8.0", ..MYSQL_SINCE_8_0_22 });
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    status(&mut page, &Recording::read("percona-8.0"), &[&all]);
    page.section.close();
}

/// A node of XtraDB Cluster, in every state that `galera-chk` tells apart by what only this build has or says.
fn node(mut page: Page, recording: &Recording, writes: &str) {
    const CHECK: &str = "galera-chk";
    const UP: &str = "up: local state is 4 (Synced), 3 members";
    page.row(recording, "synced", CHECK, UP, &[GALERA]);
    let local = recording.clone().with("skip_networking", "ON");
    page.row(&local, "skip_networking", CHECK, "down: skip_networking is ON", &[GALERA]);
    page.row(&local, "skip_networking", "galera-chk --allow-skip-networking", UP, &[GALERA]);
    let donor = recording.clone().with("wsrep_local_state", "2").with("wsrep_local_state_comment", "Donor/Desynced");
    let donor = donor.with("wsrep_desync_count", "1");
    let down = "down: local state is 2 (Donor/Desynced) as a donor, not 4 (Synced)";
    page.row(&donor, "donor by xtrabackup-v2", CHECK, down, &[GALERA]);
    let nonblocking = "galera-chk --available-when-donor=nonblocking";
    let up = "up: local state is 2 (Donor/Desynced), 3 members";
    page.row(&donor, "donor by xtrabackup-v2", nonblocking, up, &[GALERA]);
    let rsync = donor.with("wsrep_sst_method", "rsync");
    page.row(&rsync, "donor by rsync", nonblocking, down, &[GALERA]);
    for mode in ["SHUTDOWN", "MAINTENANCE"] {
        let verdict = format!("drain: pxc_maint_mode is {mode}, not DISABLED");
        let situation = format!("pxc_maint_mode is {mode}");
        page.row(&recording.clone().with("pxc_maint_mode", mode), &situation, CHECK, &verdict, &[GALERA]);
    }
    for mode in ["ALL", "ALL_KILL"] {
        let verdict = format!("down: wsrep_reject_queries is {mode}, not NONE");
        let situation = format!("wsrep_reject_queries is {mode}");
        page.row(&recording.clone().with("wsrep_reject_queries", mode), &situation, CHECK, &verdict, &[GALERA]);
    }
    let non_primary = ["wsrep_local_state", "0", "wsrep_local_state_comment", "Initialized"];
    let non_primary = recording.clone().with(non_primary[0], non_primary[1]).with(non_primary[2], non_primary[3]);
    let non_primary = non_primary.with("wsrep_cluster_status", "non-Primary").with("wsrep_ready", "OFF");
    let down = "down: wsrep_cluster_status is non-Primary, not Primary";
    page.row(&non_primary, "non-Primary", CHECK, down, &[GALERA]);
    let down = "down: wsrep_ready is OFF, not ON";
    for check in ["mysqlchk-status", "mysqlchk-status --require-read-only"] {
        page.row(&non_primary, "non-Primary", check, down, &[MYSQL_STATUS]);
    }
    page.row(&non_primary, "non-Primary", "mysqlchk-status --require-writable", down, &[writes]);
    let up = "up: the server answers, read_only is OFF";
    page.row(recording, "synced", "mysqlchk-status --require-writable", up, &[writes]);
    // Which statements a node that is not ready still runs has changed between builds.
    let refuses =
        non_primary.first("query SELECT ...\nerror 1047 08S01 WSREP has not yet prepared node for application use");
    let down = "down: cannot query: the node is not ready (1047)";
    page.row(&refuses, "non-Primary, refuses all but SHOW and SET", CHECK, down, &[GALERA]);
    let situation = "non-Primary, refuses all but SHOW and SET";
    page.row(&refuses, situation, "mysqlchk-status", down, &[MYSQL_STATUS]);
    page.section.close();
}

#[test]
fn xtradb_cluster_5_7() {
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS_5_7}");
    node(Page::new("XtraDB Cluster 5.7"), &Recording::read("xtradb-5.7"), &all);
}

#[test]
fn xtradb_cluster_8_0() {
    let all = format!("{MYSQL_STATUS}; {GROUP_NAME}; {MEMBERS}");
    node(Page::new("XtraDB Cluster 8.0"), &Recording::read("xtradb-8.0"), &all);
}

/// `MariaDB`, where only the privilege and the file differ.
fn mariadb(server: &'static str, file: &'static str, privileges: &'static str, grant: &'static str) -> Page {
    replication(&Version {
        server,
        file,
        statement: ALL_SLAVES,
        replica: "Slave",
        source: "Master",
        privileges,
        grant,
        other: SLAVE,
        greets: "",
    })
}

#[test]
fn mariadb_10_4() {
    let mut page = mariadb("MariaDB 10.4", "mariadb-10.4", "SUPER, REPLICATION CLIENT", "REPLICATION CLIENT ON *.*");
    let recording = Recording::read("mariadb-10.4");
    let up = "up: the server answers, read_only is OFF";
    page.row(&recording, "writable", "mysqlchk-status --require-writable", up, &[MARIADB_STATUS]);
    // A build without wsrep has none of its variables.
    let unknown = "query ...wsrep...\nerror 1193 HY000 Unknown system variable 'wsrep_on'";
    let plain = recording.first(unknown);
    let situation = "built without wsrep";
    page.row(&plain, situation, "mysqlchk-status --require-writable", up, &[MARIADB_STATUS, PLAIN_STATUS]);
    let galera = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS ...";
    page.row(&plain, situation, "galera-chk", "down: wsrep_on is NULL: not a Galera node", &[galera]);
    page.section.close();
}

#[test]
fn mariadb_10_6() {
    let mut page = mariadb("MariaDB 10.6", "mariadb-10.6", "SUPER, SLAVE MONITOR", "SLAVE MONITOR ON *.*");
    let recording = Recording::read("mariadb-10.6");
    let once = format!("{NETWORK}; {ALL_SLAVES}");
    let between = recording.clone().greets("5.5.5-10.5.7-MariaDB").first(
        "query SHOW ALL SLAVES STATUS\nerror 1227 42000 Access denied; you need (at least one of) the SUPER, \
         REPLICATION SLAVE ADMIN privilege(s) for this operation",
    );
    let grant = "down: cannot query: missing privilege (1227): GRANT REPLICATION SLAVE ADMIN ON *.*";
    page.row(&between, "privilege missing, as on 10.5.7", "mysqlchk-replication", grant, &[&once]);

    let commit = "mysqlchk-replication --lag-from=commit";
    let refusal = "down: lag by commit needs MySQL 8.0 or MariaDB 11.6";
    page.row(&recording, "replicating", commit, refusal, &[&once]);
    let age = "mysqlchk-replication --max-heartbeat-age=5s";
    let refusal = "down: `--max-heartbeat-age` needs MySQL 8.0: take `--lag-from=heartbeat`";
    page.row(&recording, "replicating", age, refusal, &[]);
    let group = "mysqlchk-replication --group-replication=any";
    page.row(&recording, "replicating", group, "down: `--group-replication` needs MySQL 8.0", &[]);

    let both = format!("{once}; {HEARTBEATS}");
    let both = [both.as_str()];
    let check = "mysqlchk-replication --lag-from=heartbeat --heartbeat-table=percona.heartbeat";
    let of_server = |id| format!("{check} --heartbeat-source-id={id}");
    let new = recording.clone().first("include heartbeat-new");
    let in_time = "up: lag is Ns by heartbeat, limit is 30s";
    page.row(&new, "heartbeat table", check, in_time, &both);
    let late = "down: lag is Ns by heartbeat, limit is 30s";
    page.row(&new, "heartbeat table", &of_server(1), late, &both);
    let stranger = new.clone().with("Master_Server_Id", "3");
    let unknown = "down: no heartbeat of server 3 in percona.heartbeat";
    page.row(&stranger, "heartbeat table, none of this source", check, unknown, &both);
    let old = recording.clone().first("include heartbeat-old");
    page.row(&old, "heartbeat table, the old layout", check, in_time, &both);
    page.row(&old, "heartbeat table, the old layout", &of_server(1), in_time, &both);
    let unknown = "down: no heartbeat of server 2 in percona.heartbeat";
    page.row(&old, "heartbeat table, the old layout", &of_server(2), unknown, &both);
    let ahead = old.with("heartbeat_age", "-1500000");
    let skew = "up: lag is 0s by heartbeat (the source's clock is ahead by Ns), limit is 30s";
    page.row(&ahead, "heartbeat table, the source's clock ahead", check, skew, &both);
    let error = |error: &str| recording.clone().first(&format!("query {HEARTBEATS}\nerror {error}"));
    let absent = error("1146 42S02 Table 'percona.heartbeat' doesn't exist");
    let verdict = "down: cannot query: no such table (1146): percona.heartbeat";
    page.row(&absent, "no heartbeat table", check, verdict, &both);
    let denied = error("1142 42000 SELECT command denied to user 'recorded'@'localhost' for table `heartbeat`");
    let verdict = "down: cannot query: missing privilege (1142): GRANT SELECT ON percona.heartbeat";
    page.row(&denied, "may not read the heartbeat table", check, verdict, &both);
    page.section.close();
}

#[test]
fn mariadb_12() {
    let mut page = mariadb("MariaDB 12", "mariadb-12", "SUPER, SLAVE MONITOR", "SLAVE MONITOR ON *.*");
    let recording = Recording::read("mariadb-12");
    for value in ["OFF", "ON", "NO_LOCK", "NO_LOCK_NO_ADMIN"] {
        let recording = recording.clone().with("read_only", value);
        let situation = format!("read_only is {value}");
        let answers = format!("up: the server answers, read_only is {value}");
        let (not_on, not_off) = ("down: read_only is OFF, not ON", format!("down: read_only is {value}, not OFF"));
        let (writable, read_only) = if value == "OFF" { (&answers, not_on) } else { (&not_off, answers.as_str()) };
        page.row(&recording, &situation, "mysqlchk-status", &answers, &[MARIADB_STATUS]);
        page.row(&recording, &situation, "mysqlchk-status --require-writable", writable, &[MARIADB_STATUS]);
        page.row(&recording, &situation, "mysqlchk-status --require-read-only", read_only, &[MARIADB_STATUS]);
    }
    let once = format!("{NETWORK}; {ALL_SLAVES}");
    let commit = "mysqlchk-replication --lag-from=commit";
    page.row(&recording, "replicating", commit, "up: lag is 0s by commit, limit is 30s", &[&once]);
    let late = recording.with("Master_Slave_time_diff", "31");
    page.row(&late, "31s between the events", commit, "down: lag is Ns by commit, limit is 30s", &[&once]);
    page.section.close();
}
