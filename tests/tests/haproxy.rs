//! What the real `HAProxy` concludes from the checks, with the shipped configurations: who is up, why, and where
//! connections go.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::galera::Cluster;
use lab::haproxy::{Haproxy, check_config};
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::xinetd::Xinetd;
use lab::{address, shipped, user, wait};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

/// Two checks and a round of patience.
const BOUND: Duration = Duration::from_secs(60);
const WRITE: u16 = 3306;
const READ: u16 = 3307;

/// `HAProxy` with a shipped configuration, on an address of its own.
struct Front {
    haproxy: Haproxy,
    ip: Ipv4Addr,
    _scratch: Scratch,
}

impl Front {
    fn start(configuration: &str, servers: &[(&str, &Server)]) -> Front {
        let (ip, scratch) = (address::fresh(), Scratch::new("front"));
        let mut values: Vec<(String, String)> =
            servers.iter().map(|(name, server)| ((*name).to_owned(), server.ip().to_string())).collect();
        for (name, value) in [
            ("WRITE_BIND", format!("{ip}:{WRITE}")),
            ("READ_BIND", format!("{ip}:{READ}")),
            ("STATS_BIND", format!("{ip}:8404")),
            ("STATS_SOCKET", scratch.join("stats.sock").display().to_string()),
            ("RUN_AS_USER", user::unprivileged().name.clone()),
            ("RUN_AS_GROUP", user::unprivileged().group.clone()),
        ] {
            values.push((name.to_owned(), value));
        }
        let values: Vec<_> = values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Front { haproxy: Haproxy::start(&shipped::file(configuration), &values), ip, _scratch: scratch }
    }

    fn session(&self, port: u16) -> mysql::Result<Conn> {
        let bound = Some(Duration::from_secs(10));
        let options = OptsBuilder::new().ip_or_hostname(Some(self.ip.to_string())).tcp_port(port).prefer_socket(false);
        Conn::new(options.user(Some("admin")).pass(Some(PASSWORD)).read_timeout(bound))
    }

    /// The addresses that answer new connections; several of them, so that each server of a pool is met.
    fn who_answers(&self, port: u16) -> Vec<String> {
        let mut found: Vec<String> =
            (0..8).filter_map(|_| self.session(port).ok()?.query_first("SELECT @@report_host").ok()?).collect();
        found.sort();
        found.dedup();
        found
    }

    /// Waits until a server is down for exactly this reason, as `HAProxy` shows it.
    #[track_caller]
    fn until_down(&self, proxy: &str, server: &str, reason: &str) {
        let what = format!("{proxy}/{server} is down: {reason}");
        wait::until_ok(&what, BOUND, || {
            let line = self.haproxy.server(proxy, server);
            let as_wanted = line.status == "DOWN" && line.check_status == "L7STS" && line.last_chk == reason;
            if as_wanted { Ok(()) } else { Err(format!("{line:?}")) }
        });
        assert_eq!(self.haproxy.server(proxy, server).check_code, "503");
    }

    #[track_caller]
    fn until_up(&self, proxy: &str, server: &str) {
        let what = format!("{proxy}/{server} is up");
        wait::until_ok(&what, BOUND, || {
            let line = self.haproxy.server(proxy, server);
            if line.status == "UP" && ["L7OK", ""].contains(&&*line.check_status) {
                Ok(())
            } else {
                Err(format!("{line:?}"))
            }
        });
    }
}

fn sorted(servers: &[&Server]) -> Vec<String> {
    let mut addresses: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
    addresses.sort();
    addresses
}

#[test]
fn the_shipped_configurations_are_clean() {
    for file in ["haproxy/replicas.cfg", "haproxy/galera.cfg"] {
        check_config(&shipped::file(file), &[]).unwrap_or_else(|said| panic!("{file}: {said}"));
    }
}

#[test]
fn every_fault_of_a_replica_takes_it_out_with_its_reason_and_its_cure_brings_it_back() {
    let (source, sound, broken) = (Server::start(), Server::start(), Server::start());
    let _sound_link = sound.follow(&source);
    let link = broken.follow(&source);
    let _xinetd = Xinetd::start(&[&source, &sound, &broken].map(|server| shipped::services("mysqlchk", server)));
    let front =
        Front::start("haproxy/replicas.cfg", &[("SOURCE", &source), ("REPLICA_1", &sound), ("REPLICA_2", &broken)]);
    for server in ["replica1", "replica2"] {
        front.until_up("read", server);
    }
    assert_eq!(front.who_answers(READ), sorted(&[&sound, &broken]));
    assert_eq!(front.who_answers(WRITE), sorted(&[&source]));

    for (fault, reason) in [
        (Fault::StopReceiver, "receiver is `No`, not `Yes`"),
        (Fault::StopApplier, "applier is `No`, not `Yes`"),
        (Fault::BreakApplier, "applier is `No`, not `Yes` (error 1062)"),
        (Fault::Unreachable, "receiver is `Connecting`, not `Yes` (error 2003)"),
        (Fault::Forget, "no replication is configured"),
    ] {
        link.break_by(fault);
        front.until_down("read", "replica2", reason);
        assert_eq!(front.who_answers(READ), sorted(&[&sound]), "{fault:?}");
        link.heal();
        front.until_up("read", "replica2");
    }

    broken.freeze();
    front.until_down("read", "replica2", "no verdict within 900ms (while logging in)");
    broken.thaw();
    front.until_up("read", "replica2");
    broken.kill9();
    front.until_down(
        "read",
        "replica2",
        &format!("cannot connect to {}: connection refused", broken.socket().display()),
    );
    assert_eq!(front.who_answers(READ), sorted(&[&sound]));
}

#[test]
fn reads_fall_back_to_the_source_and_writes_go_nowhere_else() {
    let (source, replica1, replica2) = (Server::start(), Server::start(), Server::start());
    let links = [replica1.follow(&source), replica2.follow(&source)];
    let _xinetd = Xinetd::start(&[&source, &replica1, &replica2].map(|server| shipped::services("mysqlchk", server)));
    let front = Front::start(
        "haproxy/replicas.cfg",
        &[("SOURCE", &source), ("REPLICA_1", &replica1), ("REPLICA_2", &replica2)],
    );
    front.until_up("write", "source");

    let mut reader = front.session(READ).unwrap();
    for link in &links {
        link.break_by(Fault::StopApplier);
    }
    for server in ["replica1", "replica2"] {
        front.until_down("read", server, "applier is `No`, not `Yes`");
    }
    assert_eq!(front.who_answers(READ), sorted(&[&source]));
    // A session on a replica that is out is cut, so that its pool looks for a better one.
    wait::until("the session is cut", BOUND, || reader.query_drop("SELECT 1").is_err());

    source.kill9();
    front.until_down(
        "write",
        "source",
        &format!("cannot connect to {}: connection refused", source.socket().display()),
    );
    assert_eq!(front.who_answers(WRITE), sorted(&[]));
    assert_eq!(front.who_answers(READ), sorted(&[]));
}

#[test]
fn a_galera_cluster_has_one_writer_at_a_time_and_reads_everywhere() {
    let cluster = Cluster::start();
    let nodes = [cluster.node(0), cluster.node(1), cluster.node(2)];
    let _xinetd = Xinetd::start(&nodes.map(|node| shipped::services("galera-chk", node)));
    let front = Front::start("haproxy/galera.cfg", &[("NODE_1", nodes[0]), ("NODE_2", nodes[1]), ("NODE_3", nodes[2])]);
    for node in ["node1", "node2", "node3"] {
        front.until_up("write", node);
    }
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[0]]));
    assert_eq!(front.who_answers(READ), sorted(&nodes));

    cluster.desync(0);
    front.until_down("write", "node1", "local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)");
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[1]]));
    assert_eq!(front.who_answers(READ), sorted(&[nodes[1], nodes[2]]));

    // The node that comes back does not take the writes back: the sessions of the new writer live on.
    let mut writer = front.session(WRITE).unwrap();
    cluster.resync(0);
    front.until_up("write", "node1");
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[1]]));
    assert_eq!(front.who_answers(READ), sorted(&nodes));
    writer.query_drop("INSERT INTO lab.t (v) VALUES (1)").unwrap();

    // The writer goes: its sessions are cut, and the first node in the order is the next.
    cluster.desync(1);
    front.until_down("write", "node2", "local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)");
    wait::until("the session is cut", BOUND, || writer.query_drop("SELECT 1").is_err());
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[0]]));
}
