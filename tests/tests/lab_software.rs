//! The lab's other servers work: each starts, its accounts log in, it replicates, and breaks and heals as told.

use std::thread;
use std::time::{Duration, Instant};

use lab::program::Check;
use lab::replica::Fault;
use lab::roots::sid;
use lab::server::Server;
use lab::software::Software;
use lab::{user, wait};

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn every_software_starts_answers_stops_and_says_its_version() {
    for (software, version) in [(Software::MariaDb, "10."), (Software::MariaDb11, "11.8."), (Software::MySql9, "9.")] {
        let begin = Instant::now();
        let server = Server::start_of(software, &[]);
        let first = begin.elapsed();
        let seen = server.value("SELECT VERSION()");
        assert!(seen.starts_with(version) && seen.contains("MariaDB") != software.is_mysql(), "{seen}");
        let begin = Instant::now();
        server.stop();
        let stop = begin.elapsed();
        assert!(server.try_sql("SELECT 1").is_err());
        let begin = Instant::now();
        server.restart();
        let restart = begin.elapsed();
        let begin = Instant::now();
        let second = Server::start_of(software, &[]);
        eprintln!("{seen}: first {first:?}, stop {stop:?}, restart {restart:?}, second {:?}", begin.elapsed());
        assert_eq!(second.value("SELECT COUNT(*) FROM lab.t"), "0");
        second.hold_gate();
        thread::scope(|scope| {
            scope.spawn(|| second.sql("INSERT INTO lab.gate VALUES ()"));
            let held = "SELECT COUNT(*) FROM information_schema.processlist WHERE state='User sleep'";
            wait::until("the gate holds a row", BOUND, || second.value(held) == "1");
            assert_eq!(second.value("SELECT COUNT(*) FROM lab.gate"), "0");
            second.open_gate();
        });
        assert_eq!(second.value("SELECT COUNT(*) FROM lab.gate"), "1");
    }
}

#[test]
fn the_accounts_of_every_template_log_in() {
    let own = &*user::unprivileged().name;
    for (software, status) in
        [(Software::MariaDb11, "SHOW ALL REPLICAS STATUS"), (Software::MySql9, "SHOW REPLICA STATUS")]
    {
        let server = Server::start_of(software, &[]);
        let log = server.watch_queries();
        let client = |args: &[&str]| {
            let socket = format!("--socket={}", server.socket().display());
            Check::of(software.client()).args([&["--no-defaults", "-N", &socket], args].concat()).run()
        };
        let outcome = client(&["-u", own, &format!("-eSELECT CURRENT_USER();{status}")]);
        assert_eq!((outcome.stdout, &*outcome.stderr), (format!("{own}@localhost\n"), ""), "{software:?}");
        let outcome = client(&["-umysqlchk", "-eSELECT 1"]);
        assert!(outcome.stderr.contains("1698"), "{outcome:?}");
        let outcome = client(&["-umysqlchk_tcp", "-plab-secret", &format!("-e{status}")]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let outcome = client(&["-unopriv", "-plab-secret", &format!("-e{status}")]);
        assert!(outcome.stderr.contains("1227"), "{outcome:?}");
        let sessions = log.until_sessions(&format!("{own}@localhost"), 1);
        let wanted = ["Query SELECT CURRENT_USER()", &format!("Query {status}"), "Quit"];
        assert!(sessions[0].ends_with(&wanted.map(str::to_owned)), "{sessions:?}");
    }
}

#[test]
fn every_fault_of_replication_can_be_made_and_healed_with_every_software() {
    let delay = Duration::from_secs(30);
    for software in [Software::MariaDb, Software::MariaDb11, Software::MySql9] {
        let source = Server::start_of(software, &[]);
        let replica = Server::start_of(software, &[]);
        let begin = Instant::now();
        let link = replica.follow(&source);
        eprintln!("{software:?}: follow {:?}", begin.elapsed());
        for (fault, receiver, applier) in [
            (Fault::StopReceiver, "No", "Yes"),
            (Fault::StopApplier, "Yes", "No"),
            (Fault::Stop, "No", "No"),
            (Fault::BreakApplier, "Yes", "No"),
            (Fault::WrongPassword, "Connecting", "Yes"),
            (Fault::Unreachable, "Connecting", "Yes"),
            (Fault::Delay(delay), "Yes", "Yes"),
            (Fault::Lag(delay), "Yes", "Yes"),
        ] {
            let begin = Instant::now();
            link.break_by(fault);
            let broken = begin.elapsed();
            assert_eq!(link.threads().unwrap(), [receiver, applier], "{software:?}: {fault:?}");
            match fault {
                Fault::Lag(_) => assert!(link.lag().unwrap() >= delay),
                Fault::Delay(_) => assert!(link.lag().unwrap() < delay),
                // `MySQL` forgets its position with the change, and says 0 until it connects.
                Fault::WrongPassword | Fault::Unreachable if software.is_mysql() => {}
                _ => assert_eq!(link.lag(), None, "{software:?}: {fault:?}"),
            }
            let begin = Instant::now();
            link.heal();
            eprintln!("{software:?}: {fault:?}: {broken:?}, healed in {:?}", begin.elapsed());
        }
        link.break_by(Fault::Forget);
        assert_eq!(link.status(), None);
        link.heal();
        source.sql("INSERT INTO lab.t VALUES (7, 7)");
        wait::until("the row arrives", BOUND, || replica.rows("SELECT * FROM lab.t WHERE id=7").len() == 1);
    }
}

#[test]
fn two_channels_of_mysql_are_told_apart() {
    let [first, second, replica] = [(); 3].map(|()| Server::start_of(Software::MySql9, &[]));
    let (one, two) = (replica.follow_as("one", &first), replica.follow_as("two", &second));
    for fault in [Fault::StopApplier, Fault::Unreachable, Fault::Forget] {
        one.break_by(fault);
        assert_ne!(one.threads(), two.threads());
        two.until_caught_up();
        one.heal();
    }
}

#[test]
fn haproxy_3_runs() {
    let outcome = Check::of(sid().command("haproxy")).arg("-v").run();
    assert!(outcome.stdout.starts_with("HAProxy version 3."), "{outcome:?}");
}
