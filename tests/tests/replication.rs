//! `mysqlchk-replication` and real replicas: each rule of its table, brought about by the servers themselves.
//!
//! One rule has no test here, `lag is NULL` with both threads running: `MariaDB` gives NULL exactly when one of them does
//! not run, and then that is the reason. For the same reason a `Connecting` receiver never has a lag here. Both are in the
//! unit tests.

use std::time::Duration;

use lab::program::{Check, Outcome, local, password};
use lab::replica::{Fault, Link};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, PORT, Server};
use lab::software::Software;
use lab::wait;

const PROGRAM: &str = "mysqlchk-replication";
/// How long a server or a replica may take to come to a state.
const BOUND: Duration = Duration::from_secs(60);
const UP: &str = "up: lag is 0s, limit is 30s";

/// Asks with time enough for a busy machine. A later argument wins over an earlier one.
fn ask(server: &Server, more: &[&str]) -> Outcome {
    Check::new(PROGRAM).args(local(server)).args(["--timeout=10s"]).args(more).run()
}

/// All of an answer: status, body, exit status, stderr.
type Answer = (u16, String, Option<i32>, String);

fn seen(outcome: &Outcome) -> Answer {
    (outcome.reply().status(), outcome.reply().body(), outcome.code, outcome.stderr.clone())
}

/// The answer that gives this verdict.
fn wanted(verdict: &str) -> Answer {
    let (status, code) = match verdict.split(':').next() {
        Some("up") => (200, 0),
        Some("drain") => (404, 1),
        _ => (503, 1),
    };
    (status, format!("{verdict}\n"), Some(code), String::new())
}

#[track_caller]
fn assert_answer(case: &str, outcome: &Outcome, verdict: &str) {
    assert_eq!(seen(outcome), wanted(verdict), "{case}");
}

/// Waits for an answer: a replica that has just been wired, healed or started may show a second of lag before it is idle.
#[track_caller]
fn until_answer(case: &str, server: &Server, more: &[&str], verdict: &str) {
    wait::until_equal(case, BOUND, wanted(verdict), || seen(&ask(server, more)));
}

/// Asserts an answer about a lag that grows: the verdict names one that was seen between before and after.
#[track_caller]
fn assert_lag(case: &str, link: &Link<'_>, ask: impl Fn() -> Outcome, verdict: impl Fn(u64) -> String) {
    let before = link.lag().expect("a lag before").as_secs();
    let outcome = ask();
    let after = link.lag().expect("a lag after").as_secs();
    let body = outcome.reply().body();
    let named = (before..=after).find(|lag| body == format!("{}\n", verdict(*lag)));
    let lag = named.unwrap_or_else(|| panic!("{case}: {body:?} is not {:?}", verdict(before)));
    assert_answer(case, &outcome, &verdict(lag));
}

#[test]
fn a_replica_that_keeps_up_is_up() {
    let (source, replica, scratch) = (Server::start(), Server::start(), Scratch::new("replication"));
    replica.follow(&source);
    until_answer("over the socket", &replica, &[], UP);
    let account = password(&scratch, "good.cnf", PASSWORD);
    let tcp = [&*account, "--user=mysqlchk_tcp", &format!("--host={}", replica.ip())];
    assert_answer("over TCP", &ask(&replica, &tcp), UP);
    assert_answer("the limit is inclusive", &ask(&replica, &["--max-lag=0s"]), "up: lag is 0s, limit is 0s");
    assert_answer("the default channel asked for", &ask(&replica, &["--channel="]), UP);
    source.sql("INSERT INTO lab.t (v) VALUES (1)");
    wait::until_equal("the write arrives", BOUND, "1", || replica.value("SELECT COUNT(*) FROM lab.t"));
    until_answer("after a write", &replica, &[], UP);
}

#[test]
fn a_server_that_is_no_replica_is_down_unless_it_may_be_none() {
    let (source, replica) = (Server::start(), Server::start());
    let (none, may) = ("no replication is configured", "--if-not-replica=up");
    for (case, more, word) in [
        ("by default", vec![], "down"),
        ("as by default", vec!["--if-not-replica=down"], "down"),
        ("allowed", vec![may], "up"),
        ("other permissions do not help", vec!["--allow-connecting", "--max-lag=1h"], "down"),
        ("a channel asked for", vec!["--channel=one"], "down"),
        // The rules go in the order of the table.
        ("a channel asked for, allowed", vec![may, "--channel=one"], "up"),
    ] {
        assert_answer(case, &ask(&source, &more), &format!("{word}: {none}"));
    }

    let link = replica.follow(&source);
    until_answer("a replica", &replica, &[may], UP);
    link.break_by(Fault::Stop);
    assert_answer("a stopped replica still is one", &ask(&replica, &[may]), "down: receiver is `No`, not `Yes`");
    link.break_by(Fault::Forget);
    assert_answer("a replica no more", &ask(&replica, &[]), &format!("down: {none}"));
    assert_answer("a replica no more, allowed", &ask(&replica, &[may]), &format!("up: {none}"));
    link.heal();
    until_answer("a replica again", &replica, &[], UP);
}

#[test]
fn a_server_without_a_network_is_down_unless_it_may_be() {
    for software in [Software::MariaDb, Software::MariaDb11, Software::MySql9] {
        let server = Server::start_of(software, &["skip_networking"]);
        let case = &format!("{software:?}");
        assert_answer(case, &ask(&server, &["--if-not-replica=up"]), "down: skip_networking is ON");
        let allowed = ask(&server, &["--if-not-replica=up", "--allow-skip-networking"]);
        assert_answer(case, &allowed, "up: no replication is configured");
    }
    let server = Server::start_of(Software::MySql9, &["skip_networking"]);
    assert_answer("a group", &ask(&server, &["--group-replication=any"]), "down: skip_networking is ON");
}

#[test]
fn a_channel_asked_for_that_is_absent_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    replica.follow_as("one", &source);
    let up = "up: channel `one`: lag is 0s, limit is 30s";
    until_answer("no channel asked for", &replica, &[], up);
    assert_answer("present", &ask(&replica, &["--channel=one"]), up);
    assert_answer("present, in the server's eyes", &ask(&replica, &["--channel=ONE"]), up);
    for (case, more, absent) in [
        ("absent", vec!["--channel=two"], "two"),
        ("the default channel", vec!["--channel="], ""),
        ("one of two", vec!["--channel=one", "--channel=two"], "two"),
        ("not forgiven", vec!["--channel=two", "--if-not-replica=up", "--allow-connecting"], "two"),
    ] {
        assert_answer(case, &ask(&replica, &more), &format!("down: channel `{absent}` is not configured"));
    }
}

#[test]
fn a_stopped_receiver_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    let down = "down: receiver is `No`, not `Yes`";
    for fault in [Fault::StopReceiver, Fault::Stop] {
        link.break_by(fault);
        assert_answer(&format!("{fault:?}"), &ask(&replica, &[]), down);
        let outcome = ask(&replica, &["--allow-connecting", "--max-lag=1h"]);
        assert_answer(&format!("{fault:?} is not forgiven"), &outcome, down);
        link.heal();
        until_answer(&format!("{fault:?} healed"), &replica, &[], UP);
    }
}

#[test]
fn a_receiver_that_tries_to_connect_is_down_unless_it_may() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    for (fault, number) in [(Fault::Unreachable, 2003), (Fault::WrongPassword, 1045)] {
        link.break_by(fault);
        let down = format!("down: receiver is `Connecting`, not `Yes` (error {number})");
        assert_answer(&format!("{fault:?}"), &ask(&replica, &[]), &down);
        let up = format!("up: receiver is `Connecting`, which is allowed (error {number})");
        assert_answer(&format!("{fault:?}, allowed"), &ask(&replica, &["--allow-connecting"]), &up);
        // The lag is unknown, so no limit can be held against it.
        let outcome = ask(&replica, &["--allow-connecting", "--max-lag=0s"]);
        assert_answer(&format!("{fault:?}, allowed, no lag"), &outcome, &up);
        link.heal();
        until_answer(&format!("{fault:?} healed"), &replica, &["--allow-connecting"], UP);
    }
    link.break_by(Fault::Unreachable);
    replica.sql("STOP SLAVE SQL_THREAD");
    let outcome = ask(&replica, &["--allow-connecting"]);
    assert_answer("allowed, but nothing is applied", &outcome, "down: applier is `No`, not `Yes`");
}

#[test]
fn a_receiver_that_is_neither_running_nor_connecting_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    // The source lets the receiver in, and does not answer its first question.
    source.sql("SET GLOBAL init_connect='DO SLEEP(1000)'");
    replica.sql("STOP SLAVE IO_THREAD; START SLAVE IO_THREAD");
    let receiver = || link.status().and_then(|mut row| row.remove("Slave_IO_Running"));
    wait::until_equal("the receiver waits", BOUND, Some("Preparing".to_owned()), receiver);
    let outcome = ask(&replica, &["--allow-connecting"]);
    assert_answer("it waits", &outcome, "down: receiver is `Preparing`, not `Yes`");
    source.sql("SET GLOBAL init_connect=''");
    link.heal();
    until_answer("healed", &replica, &[], UP);
}

#[test]
fn a_stopped_applier_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    for (fault, down) in [
        (Fault::StopApplier, "down: applier is `No`, not `Yes`"),
        (Fault::BreakApplier, "down: applier is `No`, not `Yes` (error 1062)"),
    ] {
        link.break_by(fault);
        assert_answer(&format!("{fault:?}"), &ask(&replica, &[]), down);
        let outcome = ask(&replica, &["--allow-connecting", "--max-lag=1h", "--if-not-replica=up"]);
        assert_answer(&format!("{fault:?} is not forgiven"), &outcome, down);
        link.heal();
        until_answer(&format!("{fault:?} healed"), &replica, &[], UP);
    }
}

#[test]
fn a_lag_above_the_limit_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    link.break_by(Fault::Lag(Duration::from_secs(90)));
    for (limit, word, shown) in
        [("30s", "down", "30s"), ("1m", "down", "60s"), ("10m", "up", "600s"), ("1h", "up", "3600s")]
    {
        let option = format!("--max-lag={limit}");
        let verdict = |lag| format!("{word}: lag is {lag}s, limit is {shown}");
        assert_lag(&option, &link, || ask(&replica, &[&option]), verdict);
    }
    assert_lag("by default", &link, || ask(&replica, &[]), |lag| format!("down: lag is {lag}s, limit is 30s"));
    let soft = |max: &str| ask(&replica, &["--drain-lag=20s", max]);
    assert_lag("soft", &link, || soft("--max-lag=1h"), |lag| format!("drain: lag is {lag}s, limit is 20s"));
    assert_lag("both", &link, || soft("--max-lag=30s"), |lag| format!("down: lag is {lag}s, limit is 30s"));
    link.heal();
    until_answer("healed", &replica, &[], UP);
}

#[test]
fn a_delayed_replica_is_up_within_its_delay() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    link.break_by(Fault::Delay(Duration::from_secs(600)));
    // The delay counts, not a lag of 0 that would be up without it.
    wait::until("the replica is behind", BOUND, || link.lag().is_some_and(|lag| !lag.is_zero()));
    let up = "up: lag is 0s beyond the delay of 600s, limit is 0s";
    assert_answer("within the delay", &ask(&replica, &["--max-lag=0s"]), up);
    let up = "up: lag is 0s beyond the delay of 600s, limit is 30s";
    assert_answer("within the delay, by default", &ask(&replica, &[]), up);
    link.heal();
    until_answer("the delay is gone", &replica, &[], UP);
}

#[test]
fn a_delayed_replica_that_lags_beyond_its_delay_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    replica.sql("STOP SLAVE; CHANGE MASTER TO MASTER_DELAY=60; START SLAVE");
    link.break_by(Fault::Lag(Duration::from_secs(600)));
    for (option, word, limit) in [("--max-lag=30s", "down", "30s"), ("--max-lag=1h", "up", "3600s")] {
        let verdict = |lag| format!("{word}: lag is {}s beyond the delay of 60s, limit is {limit}", lag - 60);
        assert_lag(option, &link, || ask(&replica, &[option]), verdict);
    }
    link.heal();
    until_answer("healed", &replica, &[], UP);
}

#[test]
fn the_worst_of_several_channels_decides_and_is_named() {
    let (first, second, replica) = (Server::start(), Server::start(), Server::start());
    let (default, reporting) = (replica.follow(&first), replica.follow_as("reporting", &second));
    let (healthy, named) = ("up: default channel: lag is 0s, limit is 30s", "channel `reporting`");
    let healed = format!("up: {named}: lag is 0s, limit is 30s");
    until_answer("the default channel", &replica, &["--channel="], healthy);
    until_answer("the other channel", &replica, &["--channel=reporting"], &healed);
    // Which of two equals is named is nobody's concern.
    assert_eq!(ask(&replica, &[]).code, Some(0), "both up");

    for (fault, reason) in [
        (Fault::StopReceiver, "receiver is `No`, not `Yes`"),
        (Fault::Unreachable, "receiver is `Connecting`, not `Yes` (error 2003)"),
        (Fault::StopApplier, "applier is `No`, not `Yes`"),
        (Fault::BreakApplier, "applier is `No`, not `Yes` (error 1062)"),
    ] {
        reporting.break_by(fault);
        let down = format!("down: {named}: {reason}");
        assert_answer(&format!("{fault:?}"), &ask(&replica, &[]), &down);
        assert_answer(&format!("{fault:?}, asked for"), &ask(&replica, &["--channel=reporting"]), &down);
        let both = ["--channel=", "--channel=reporting"];
        assert_answer(&format!("{fault:?}, both asked for"), &ask(&replica, &both), &down);
        assert_answer(&format!("{fault:?}, the other asked for"), &ask(&replica, &["--channel="]), healthy);
        reporting.heal();
        until_answer(&format!("{fault:?} healed"), &replica, &["--channel=reporting"], &healed);
    }

    reporting.break_by(Fault::Lag(Duration::from_secs(90)));
    let late = |lag| format!("down: {named}: lag is {lag}s, limit is 30s");
    let in_time = |lag| format!("up: {named}: lag is {lag}s, limit is 3600s");
    assert_lag("the larger lag", &reporting, || ask(&replica, &[]), late);
    assert_lag("the larger lag, up", &reporting, || ask(&replica, &["--max-lag=1h"]), in_time);
    // What is broken is worse than what is late.
    default.break_by(Fault::StopApplier);
    let outcome = ask(&replica, &[]);
    assert_answer("one late, one broken", &outcome, "down: default channel: applier is `No`, not `Yes`");
    assert_lag("the late one", &reporting, || ask(&replica, &["--channel=reporting"]), late);
    reporting.heal();
    reporting.break_by(Fault::StopReceiver);
    let down = format!("down: {named}: receiver is `No`, not `Yes`");
    assert_answer("one applies nothing, one receives nothing", &ask(&replica, &[]), &down);
}

#[test]
fn a_missing_privilege_is_down_with_the_grant_that_cures_it() {
    let (source, replica, scratch) = (Server::start(), Server::start(), Scratch::new("replication"));
    replica.follow(&source);
    let account = password(&scratch, "good.cnf", PASSWORD);
    let asked = [&*account, "--user=nopriv"];
    let missing = "down: cannot query: missing privilege (1227): \
                   GRANT SLAVE MONITOR ON *.*";
    assert_answer("no privilege", &ask(&replica, &asked), missing);
    let outcome = ask(&replica, &[asked[0], asked[1], "--if-not-replica=up"]);
    assert_answer("no privilege, and it need not be a replica", &outcome, missing);
    // Since 10.5 this is another word for BINLOG MONITOR.
    replica.sql("GRANT REPLICATION CLIENT ON *.* TO nopriv@localhost");
    assert_answer("the privilege of older servers", &ask(&replica, &asked), missing);
    replica.sql("GRANT SLAVE MONITOR ON *.* TO nopriv@localhost");
    until_answer("granted as advised", &replica, &asked, UP);
    replica.sql("REVOKE SLAVE MONITOR ON *.* FROM nopriv@localhost");
    assert_answer("revoked", &ask(&replica, &asked), missing);
}

#[test]
fn a_login_that_is_refused_is_down_with_the_number() {
    let (server, scratch) = (Server::start(), Scratch::new("replication"));
    let (good, wrong) = (password(&scratch, "good.cnf", PASSWORD), password(&scratch, "wrong.cnf", "wrong"));
    let host = format!("--host={}", server.ip());
    let denied = "down: cannot log in: access denied (1045)";
    for (case, more, verdict) in [
        ("the right password", vec![&*good, "--user=mysqlchk_tcp"], "up: no replication is configured"),
        ("a wrong password", vec![&*wrong, "--user=mysqlchk_tcp"], denied),
        ("a wrong password over TCP", vec![&*wrong, "--user=mysqlchk_tcp", &host], denied),
        ("an unknown account", vec![&*good, "--user=no-such-account"], denied),
    ] {
        assert_answer(case, &ask(&server, &[&["--if-not-replica=up"], &*more].concat()), verdict);
    }
    server.sql("ALTER USER mysqlchk_tcp@localhost ACCOUNT LOCK");
    let outcome = ask(&server, &[&good, "--user=mysqlchk_tcp"]);
    assert_answer("locked", &outcome, "down: cannot log in: the account is locked (4151)");
}

#[test]
fn a_replica_that_is_gone_is_down_until_it_is_back() {
    let (source, replica) = (Server::start(), Server::start());
    replica.follow(&source);
    let socket = replica.socket().display().to_string();
    replica.stop();
    let outcome = ask(&replica, &["--if-not-replica=up"]);
    assert_answer("stopped", &outcome, &format!("down: cannot connect to {socket}: no such socket"));
    let host = format!("--host={}", replica.ip());
    let refused = format!("down: cannot connect to {}:{PORT}: connection refused", replica.ip());
    assert_answer("stopped, TCP", &ask(&replica, &[&host]), &refused);
    replica.restart();
    // Replication starts with the server.
    until_answer("started again", &replica, &[], UP);

    replica.kill9();
    let refused = format!("down: cannot connect to {socket}: connection refused");
    assert_answer("killed", &ask(&replica, &[]), &refused);
    replica.restart();
    until_answer("recovered", &replica, &[], UP);

    replica.freeze();
    let outcome = Check::new(PROGRAM).args(local(&replica)).run();
    assert_answer("frozen", &outcome, "down: no verdict within 900ms (while logging in)");
    replica.thaw();
    until_answer("thawed", &replica, &[], UP);
}

#[test]
fn a_replica_may_outlive_its_source_where_that_is_allowed() {
    let (source, replica) = (Server::start(), Server::start());
    replica.follow(&source);
    source.kill9();
    until_answer("the source is gone", &replica, &[], "down: receiver is `Connecting`, not `Yes` (error 2003)");
    let up = "up: receiver is `Connecting`, which is allowed (error 2003)";
    assert_answer("the source is gone, allowed", &ask(&replica, &["--allow-connecting"]), up);
    source.restart();
    until_answer("the source is back", &replica, &[], UP);
}

/// A source that vanishes without a word (a frozen process, a host without power, a cut cable) is not missed by the replica
/// before `slave_net_timeout`, which is 4 s in the lab and 60 s by default. Until then the server says `Yes`, `Yes` and 0,
/// and so the check says up: the only cures are a shorter `slave_net_timeout` or a heartbeat table.
#[test]
fn a_frozen_source_is_down_once_the_receiver_misses_it() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    until_answer("before", &replica, &[], UP);
    source.freeze();
    assert_answer("at first", &ask(&replica, &[]), UP);
    let receiver = || link.status().and_then(|mut row| row.remove("Slave_IO_Running"));
    wait::until_equal("the receiver misses its source", BOUND, Some("Connecting".to_owned()), receiver);
    // The new attempt hangs, too, so there is no error yet.
    assert_answer("missed", &ask(&replica, &[]), "down: receiver is `Connecting`, not `Yes`");
    let up = "up: receiver is `Connecting`, which is allowed";
    assert_answer("missed, allowed", &ask(&replica, &["--allow-connecting"]), up);
    source.thaw();
    until_answer("thawed", &replica, &[], UP);
}

#[test]
fn the_text_form_is_one_line_and_quiet_says_only_what_is_down() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    until_answer("up", &replica, &[], UP);
    let run = |more: &[&str]| {
        let Outcome { stdout, stderr, code, .. } = ask(&replica, &[&["--format=text"], more].concat());
        (stdout, stderr, code)
    };
    let printed = |stdout: &str, code| (stdout.to_owned(), String::new(), Some(code));
    assert_eq!(run(&[]), printed("mysqlchk-replication: up: lag is 0s, limit is 30s\n", 0), "up");
    assert_eq!(run(&["--quiet"]), printed("", 0), "up, quiet");
    link.break_by(Fault::BreakApplier);
    let down = "mysqlchk-replication: down: applier is `No`, not `Yes` (error 1062)\n";
    assert_eq!(run(&[]), printed(down, 1), "down");
    assert_eq!(run(&["--quiet"]), printed(down, 1), "down, quiet");
}

#[test]
fn the_json_form_holds_what_the_rules_saw() {
    let (source, replica) = (Server::start(), Server::start());
    let assert_json = |case: &str, more: &[&str], code, parts: &[&str]| {
        let outcome = ask(&replica, &[&["--format=json"], more].concat());
        for part in parts {
            assert!(outcome.stdout.contains(part), "{case}: {part} in {outcome:?}");
        }
        let seen = (outcome.stdout.lines().count(), outcome.code, outcome.stderr.as_str());
        assert_eq!(seen, (1, Some(code), ""), "{case}: {outcome:?}");
    };
    assert_json("no replica", &[], 1, &[r#""channels":[]"#, r#""reason":"no replication is configured""#]);

    let link = replica.follow_as("one", &source);
    until_answer("up", &replica, &[], "up: channel `one`: lag is 0s, limit is 30s");
    let up = [r#""program":"mysqlchk-replication""#, r#""verdict":"up""#, r#""misconfigured":false"#];
    assert_json("up", &[], 0, &up);
    assert_json("the steps it took", &[], 0, &[r#""login_us":"#, r#""query_us":"#]);
    let threads = [r#""name":"one""#, r#""receiver":"Yes""#, r#""applier":"Yes""#, r#""lag_s":0"#, r#""delay_s":null"#];
    assert_json("a healthy channel", &[], 0, &threads);
    let errors = [r#""receiver_error":0"#, r#""applier_error":0"#];
    assert_json("no error", &[], 0, &errors);

    link.break_by(Fault::BreakApplier);
    let broken = [
        r#""verdict":"down""#,
        r#""receiver":"Yes""#,
        r#""applier":"No""#,
        r#""applier_error":1062"#,
        r#""lag_s":null"#,
    ];
    assert_json("a broken applier", &[], 1, &broken);
    link.heal();

    link.break_by(Fault::Unreachable);
    let connecting =
        [r#""receiver":"Connecting""#, r#""receiver_error":2003"#, r#""applier":"Yes""#, r#""lag_s":null"#];
    assert_json("a receiver that tries to connect", &[], 1, &connecting);
    link.heal();

    link.break_by(Fault::Delay(Duration::from_secs(600)));
    assert_json("a delay", &[], 0, &[r#""delay_s":600"#]);
    replica.stop();
    assert_json("no server", &[], 1, &[r#""verdict":"down""#, r#""facts":null"#]);
}
