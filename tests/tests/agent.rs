//! What the real `HAProxy` makes of the agent's line, with the line of docs/monitoring.md: the weight follows the lag, the health
//! check stays, and so does what an operator said.

use std::fs;
use std::time::Duration;

use lab::haproxy::{Haproxy, Line, Release, check_config_by};
use lab::notes::Notes;
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::xinetd::Xinetd;
use lab::{address, shipped, wait};

const BOUND: Duration = Duration::from_secs(60);
const AGENT: &str = "mysqlchk-replication-agent";
/// Behind the health check that the page names, and behind one that does not see the lag.
const BACKENDS: [&str; 2] = ["by-replication", "by-status"];

const CHECK: &str = "option httpchk\n    http-check disable-on-404";

/// The line of the page, in a configuration with a server in two backends.
fn configuration() -> String {
    let page = fs::read_to_string(shipped::file("docs/monitoring.md")).unwrap();
    let line = page.lines().find(|line| line.trim_start().starts_with("default-server ")).expect("a line of the page");
    assert!(line.contains("check port 9201 ") && line.contains(" weight 100 "), "{line}");
    let by_status = line.replace("check port 9201", "check port 9200");
    let [replication, status] = BACKENDS;
    format!(
        "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
         frontend front\n    bind \"$FRONT\":3306\n    default_backend {replication}\n\
         backend {replication}\n    {CHECK}\n{line}\n    server db \"$DB\":3306\n\
         backend {status}\n    {CHECK}\n{by_status}\n    server db \"$DB\":3306\n"
    )
}

/// `HAProxy` of both releases in front of one replica.
struct Fronts(Vec<(Release, Haproxy)>);

impl Fronts {
    fn start(replica: &Server) -> Self {
        let scratch = Scratch::new("agent");
        let file = scratch.file("haproxy.cfg", configuration());
        let start = |release: Release| {
            let (front, db) = (address::fresh().to_string(), replica.ip().to_string());
            let addresses = [("FRONT", &*front), ("DB", &*db)];
            assert_eq!(check_config_by(release, &file, &addresses), Ok(()), "{release:?}");
            (release, Haproxy::start_by(release.command(), &file, &addresses))
        };
        Self(Release::ALL.map(start).into())
    }

    /// Waits until the server in a backend is as wanted, for each.
    #[track_caller]
    fn until(&self, backend: &str, what: &str, wanted: impl Fn(&Line) -> bool) {
        for (release, haproxy) in &self.0 {
            wait::until_ok(&format!("{backend} of {release:?}: {what}"), BOUND, || {
                let line = haproxy.server(backend, "db");
                if wanted(&line) { Ok(()) } else { Err(Box::new(line)) }
            });
        }
    }

    /// Waits until the server in both backends is up with all its weight, and the agent has said so.
    #[track_caller]
    fn until_up(&self) {
        for backend in BACKENDS {
            self.until(backend, "up, with all its weight", |line| {
                (line.status.as_str(), line.weight.as_str()) == ("UP", "100") && line.last_agent.contains("lag is 0s")
            });
        }
    }

    fn say(&self, command: &str) {
        for (_, haproxy) in &self.0 {
            let answer = haproxy.ask(command);
            assert!(answer.trim().is_empty(), "{command}: {answer}");
        }
    }
}

#[test]
fn the_weight_follows_the_lag_and_the_operator_has_the_last_word() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    let notes = Notes::new();
    let limit = "--max-lag=1000s";
    let checks = notes.services(shipped::services("mysqlchk", &replica));
    let checks = checks.append("mysqlchk-replication", "server_args", limit);
    let agent = notes.services(shipped::service("mysqlchk-agent", AGENT, &replica)).append(AGENT, "server_args", limit);
    let _checks = Xinetd::start(&[checks]);
    let agents = Xinetd::start(std::slice::from_ref(&agent));
    let fronts = Fronts::start(&replica);
    fronts.until_up();

    // 13 % of the limit and more are left out.
    link.break_by(Fault::Lag(Duration::from_secs(130)));
    for backend in BACKENDS {
        fronts.until(backend, "up, with less weight", |line| {
            let weight: u32 = line.weight.parse().unwrap();
            line.status == "UP" && (50..=87).contains(&weight) && line.last_agent.contains("lag is 1")
        });
    }
    link.heal();
    fronts.until_up();

    // A drain: no weight, and the health check says NOLB.
    notes.write("[maintenance]\nmode=drain\nreason=kernel upgrade\nby=alice\n");
    for backend in BACKENDS {
        fronts.until(backend, "drained", |line| {
            (line.status.as_str(), line.weight.as_str()) == ("NOLB", "0")
                && line.last_agent.contains("drain: kernel upgrade (alice)")
        });
    }
    fs::remove_file(notes.path()).unwrap();
    fronts.until_up();

    // Down, by the agent alone where the health check sees nothing of it.
    link.break_by(Fault::StopApplier);
    let reason = "applier is `No`, not `Yes`";
    fronts.until("by-status", "down by the agent", |line| {
        line.status == "DOWN (agent)" && line.check_status == "L7OK" && line.last_agent.contains(reason)
    });
    fronts.until("by-replication", "down", |line| line.status.starts_with("DOWN") && line.last_agent.contains(reason));
    for (_, haproxy) in &fronts.0 {
        assert!(
            haproxy.log().contains("Server by-status/db is DOWN") && haproxy.log().contains(reason),
            "{}",
            haproxy.log()
        );
    }

    // An operator takes it out meanwhile; the agent finds it up again, and leaves it there.
    fronts.say("set server by-status/db state maint");
    fronts.until("by-status", "in maintenance", |line| line.status == "MAINT");
    link.heal();
    fronts.until("by-status", "still in maintenance, with an agent that is up", |line| {
        assert_eq!(line.status, "MAINT");
        line.last_agent.contains("lag is 0s")
    });
    fronts.until("by-replication", "up", |line| line.status == "UP");
    fronts.until("by-status", "still in maintenance", |line| line.status == "MAINT");
    fronts.say("set server by-status/db state ready");
    fronts.until_up();

    // An agent that is gone changes nothing.
    drop(agents);
    for backend in BACKENDS {
        fronts.until(backend, "up without an agent", |line| line.status == "UP" && !line.last_agent.contains("lag is"));
        fronts.until(backend, "with its weight", |line| line.status == "UP" && line.weight == "100");
    }
}
