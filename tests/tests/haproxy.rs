//! What the real `HAProxy` concludes from the checks, with the shipped configurations: who is up, why, and where
//! connections go.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use lab::front::{Clients, Front, READ, WRITE, connect};
use lab::galera::Cluster;
use lab::haproxy::{Release, check_config_by};
use lab::replica::Fault;
use lab::server::Server;
use lab::xinetd::Xinetd;
use lab::{address, http, shipped, wait};
use mysql::prelude::Queryable;

/// Two checks and a round of patience.
const BOUND: Duration = Duration::from_secs(60);

/// The cluster of this suite: it takes seconds to start, so the tests that need it have it in turn, and healed.
fn cluster() -> MutexGuard<'static, Cluster> {
    static CLUSTER: OnceLock<Mutex<Cluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Mutex::new(Cluster::start()));
    let cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.heal();
    cluster
}

fn sorted(servers: &[&Server]) -> Vec<String> {
    let mut addresses: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
    addresses.sort();
    addresses
}

#[test]
fn the_shipped_configurations_are_clean() {
    for (file, release) in ["haproxy/replicas.cfg", "haproxy/galera.cfg"]
        .into_iter()
        .flat_map(|file| Release::ALL.map(|release| (file, release)))
    {
        check_config_by(release, &shipped::file(file), &[])
            .unwrap_or_else(|said| panic!("{release:?}, {file}: {said}"));
    }
}

/// The default of a value at the top of a shipped file.
fn preset(file: &str, name: &str) -> String {
    let text = fs::read_to_string(shipped::file(file)).unwrap();
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let line = lines.find(|line| line.starts_with(&["presetenv", name]));
    line.unwrap_or_else(|| panic!("{file} has no {name}"))[2].to_owned()
}

#[test]
fn keepalived_asks_where_each_configuration_answers() {
    let text = fs::read_to_string(shipped::file("haproxy/keepalived.conf")).unwrap();
    let asked = text.lines().find_map(|line| line.strip_prefix("$HEALTH=")).expect("a line $HEALTH");
    for (file, name) in [("failover.cfg", "DECISIONS"), ("galera.cfg", "HEALTH"), ("replicas.cfg", "HEALTH")] {
        assert_eq!(asked, format!("http://{}/", preset(&format!("haproxy/{file}"), name)), "{file}");
    }
}

#[test]
fn idle_clients_leave_haproxy_its_own_connections() {
    // A client that does not log in stays for the whole test.
    let server = Server::start_with(&["connect_timeout=600"]);
    let _xinetd = Xinetd::start(&[shipped::services("mysqlchk", &server)]);
    let limits = [("CLIENTS", "10"), ("MAXCONN", "40")];
    for release in Release::ALL {
        for (file, names) in [
            ("haproxy/galera.cfg", ["NODE_1", "NODE_2", "NODE_3"]),
            ("haproxy/replicas.cfg", ["SOURCE", "REPLICA_1", "REPLICA_2"]),
        ] {
            let front = Front::start_by(release, address::fresh(), file, &names.map(|name| (name, &server)), &limits);
            // More than HAProxy takes in all. Those that find no place, not even in the kernel's queue, do not wait.
            let moment = Duration::from_millis(100);
            let clients: Vec<_> = [WRITE, READ]
                .iter()
                .flat_map(|port| [SocketAddr::from((front.ip, *port)); 25])
                .filter_map(|address| TcpStream::connect_timeout(&address, moment).ok())
                .collect();
            let current = || {
                let info = front.haproxy.ask("show info");
                info.lines().find_map(|line| line.strip_prefix("CurrConns: ")?.parse().ok()).unwrap_or(0)
            };
            wait::until_ok(&format!("{release:?}, {file}: it has as many clients as it serves"), BOUND, || {
                let count: usize = current();
                if count >= 20 { Ok(()) } else { Err(count) }
            });
            let reply = http::get(SocketAddr::from((front.ip, 9300)));
            assert_eq!(reply.status(), 200, "{release:?}, {file}");
            drop(clients);
        }
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
    // Nor does a process that starts now send a client to one of them.
    for release in Release::ALL {
        let ip = address::fresh();
        let clients = Clients::start(ip, READ);
        let servers = [("SOURCE", &source), ("REPLICA_1", &replica1), ("REPLICA_2", &replica2)];
        let _front = Front::start_by(release, ip, "haproxy/replicas.cfg", &servers, &[]);
        assert_eq!(clients.after(50), sorted(&[&source]), "{release:?}");
    }

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
    let cluster = cluster();
    let nodes = [cluster.node(0), cluster.node(1), cluster.node(2)];
    let _xinetd = Xinetd::start(&nodes.map(|node| shipped::services("galera-chk", node)));
    let front = Front::of_cluster(Release::Host, nodes);
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[0]]));
    assert_eq!(front.who_answers(READ), sorted(&nodes));

    cluster.desync(0);
    for proxy in ["write", "read"] {
        front.until_down(proxy, "node1", "local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)");
    }
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[1]]));
    assert_eq!(front.who_answers(READ), sorted(&[nodes[1], nodes[2]]));

    // The node that comes back does not take the writes back: the sessions of the new writer live on. That holds for each
    // address of the host.
    let mut writer = front.session(WRITE).unwrap();
    cluster.resync(0);
    front.until_up("write", "node1");
    front.until_up("read", "node1");
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[1]]));
    let by_second: Option<String> = connect(front.second, WRITE).unwrap().query_first("SELECT @@report_host").unwrap();
    assert_eq!(by_second, Some(nodes[1].ip().to_string()));
    assert_eq!(front.who_answers(READ), sorted(&nodes));
    writer.query_drop("INSERT INTO lab.t (v) VALUES (1)").unwrap();

    // The writer goes: its sessions are cut, and the first node in the order is the next.
    cluster.desync(1);
    front.until_down("write", "node2", "local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)");
    wait::until("the session is cut", BOUND, || writer.query_drop("SELECT 1").is_err());
    assert_eq!(front.who_answers(WRITE), sorted(&[nodes[0]]));
}

#[test]
fn a_galera_writer_is_moved_by_the_commands_in_the_file() {
    let cluster = cluster();
    let nodes = [cluster.node(0), cluster.node(1), cluster.node(2)];
    let _xinetd = Xinetd::start(&nodes.map(|node| shipped::services("galera-chk", node)));
    let text = fs::read_to_string(shipped::file("haproxy/galera.cfg")).unwrap();
    let commands: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("#   echo \"")?.split('"').next()).collect();
    let [leave, look, stand_by] = *commands else { panic!("three commands, not {commands:?}") };
    for release in Release::ALL {
        let front = Front::of_cluster(release, nodes);
        let mut writer = front.session(WRITE).unwrap();
        assert_eq!(front.writer(), "node1", "{release:?}");

        assert_eq!(front.haproxy.ask(leave).trim(), "", "{release:?}");
        wait::until("the session of the old writer is cut", BOUND, || writer.query_drop("SELECT 1").is_err());
        let mut writer = front.session(WRITE).unwrap();
        assert!(front.haproxy.ask(look).contains("server_key=node2"), "{release:?}: {}", front.haproxy.ask(look));
        assert_eq!(front.haproxy.ask(stand_by).trim(), "", "{release:?}");
        front.until_up("write", "node1");
        assert_eq!(front.who_answers(WRITE), sorted(&[nodes[1]]), "{release:?}");
        writer.query_drop("INSERT INTO lab.t (v) VALUES (1)").unwrap();
        assert_eq!(front.who_answers(READ), sorted(&nodes), "{release:?}");
    }
}

#[test]
fn a_reload_keeps_the_galera_writer_and_cuts_the_old_sessions_in_time() {
    let cluster = cluster();
    let nodes = [cluster.node(0), cluster.node(1), cluster.node(2)];
    let servers = [("NODE_1", nodes[0]), ("NODE_2", nodes[1]), ("NODE_3", nodes[2])];
    let _xinetd = Xinetd::start(&nodes.map(|node| shipped::services("galera-chk", node)));
    // The first node is down from the beginning: a process that starts sends no client there.
    cluster.desync(0);
    let mut fronts = Release::ALL.map(|release| [false, true].map(|by_master| (release, by_master)));
    let mut fronts: Vec<_> = fronts
        .as_flattened_mut()
        .iter()
        .map(|&(release, by_master)| {
            let ip = address::fresh();
            let clients = [Clients::start(ip, WRITE), Clients::start(ip, READ)];
            let front = Front::start_by(release, ip, "haproxy/galera.cfg", &servers, &[("HARD_STOP", "4s")]);
            (format!("{release:?}, by a master: {by_master}"), by_master, front, clients)
        })
        .collect();
    for (what, _, front, [writes, reads]) in &fronts {
        assert_eq!(writes.after(50), sorted(&[nodes[1]]), "{what}");
        assert_eq!(reads.after(50), sorted(&[nodes[1], nodes[2]]), "{what}");
        assert_eq!(front.writer(), "node2", "{what}");
    }

    cluster.resync(0);
    for (what, by_master, front, [writes, _]) in &mut fronts {
        front.until_up("write", "node1");
        let mut old = front.session(WRITE).unwrap();
        front.haproxy.until_it_hands_over();
        if *by_master {
            let worker = front.haproxy.reload();
            front.haproxy.until("starting", "hold", "DOWN", BOUND);
            assert_eq!(writes.after(100), sorted(&[nodes[1]]), "{what}");
            wait::until(&format!("{what}: the old process ends"), BOUND, || worker.has_ended());
        } else {
            let mut before = front.replace();
            front.haproxy.until("starting", "hold", "DOWN", BOUND);
            assert_eq!(writes.after(100), sorted(&[nodes[1]]), "{what}");
            wait::until(&format!("{what}: the old process ends"), BOUND, || !before.daemon().is_running());
        }
        assert!(old.query_drop("SELECT 1").is_err(), "{what}: an old session outlives its process");
        assert_eq!(front.writer(), "node2", "{what}");
        front.until_up("write", "node1");
    }
}
