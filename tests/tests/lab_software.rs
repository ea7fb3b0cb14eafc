//! The lab's other servers work: each starts, its accounts log in, it replicates, and breaks and heals as told.

use std::time::Instant;

use lab::check::Check;
use lab::server::Server;
use lab::software::Software;
use lab::user;

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
        second.open_gate();
        second.sql("INSERT INTO lab.gate VALUES ()");
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
