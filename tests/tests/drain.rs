//! Taking servers out behind the real `HAProxy`: what becomes of sessions, reads and writes, and what it shows.

use std::env;
use std::fs;
use std::time::Duration;

use lab::front::{Clients, Front, READ, WRITE};
use lab::galera::Cluster;
use lab::haproxy::{Haproxy, Release};
use lab::notes::{Notes, words};
use lab::scratch::Scratch;
use lab::server::Server;
use lab::xinetd::Xinetd;
use lab::{address, shipped, user, wait};
use mysql::Conn;
use mysql::prelude::Queryable;

const BOUND: Duration = Duration::from_secs(60);
const DRAINED: [&str; 3] = ["NOLB", "L7OKC", "404"];
const DOWN: [&str; 3] = ["DOWN", "L7STS", "503"];
const REASON: &str = "kernel upgrade (alice)";
const DRAIN: [&str; 3] = ["drain", "--reason=kernel upgrade", "--no-end"];

/// A source with two replicas behind `replicas.cfg`, each with a note of its own.
struct Replicas<'a> {
    servers: [&'a Server; 3],
    notes: [Notes; 3],
    _xinetd: Xinetd,
}

impl<'a> Replicas<'a> {
    fn start(servers: [&'a Server; 3]) -> Self {
        let notes = [(); 3].map(|()| Notes::new());
        let files: Vec<_> = servers
            .iter()
            .zip(&notes)
            .map(|(server, notes)| notes.services(shipped::services("mysqlchk", server)))
            .collect();
        Self { servers, notes, _xinetd: Xinetd::start(&files) }
    }

    fn front(&self, release: Release) -> Front {
        let names = ["SOURCE", "REPLICA_1", "REPLICA_2"];
        let servers: Vec<_> = names.into_iter().zip(self.servers).collect();
        let front = Front::start_by(release, address::fresh(), "haproxy/replicas.cfg", &servers, &[]);
        for (proxy, server) in [("write", "source"), ("read", "replica1"), ("read", "replica2")] {
            front.until_up(proxy, server);
        }
        front
    }
}

fn who(session: &mut Conn) -> mysql::Result<String> {
    Ok(session.query_first("SELECT @@report_host")?.unwrap_or_default())
}

/// A session through the front on this server.
#[track_caller]
fn session_on(front: &Front, port: u16, server: &Server) -> Conn {
    wait::until_some("a session on this server", BOUND, || {
        let mut session = front.session(port).ok()?;
        (who(&mut session).ok()? == server.ip().to_string()).then_some(session)
    })
}

fn total(front: &Front, proxy: &str, server: &str) -> String {
    front.haproxy.server(proxy, server).total_sessions
}

#[test]
fn a_drained_replica_keeps_its_sessions_and_gets_no_new_ones() {
    let (source, one, two) = (Server::start(), Server::start(), Server::start());
    let _links = [one.follow(&source), two.follow(&source)];
    let replicas = Replicas::start([&source, &one, &two]);
    for release in Release::ALL {
        let front = replicas.front(release);
        let mut old = session_on(&front, READ, &two);
        let clients = Clients::start(front.ip, READ);
        clients.after(20);

        let [of_source, of_one, of_two] = &replicas.notes;
        of_two.ctl_ok(&[&DRAIN[..], &["--settle=3s"]].concat());
        front.until_shown("read", "replica2", DRAINED, REASON);
        let had = total(&front, "read", "replica2");
        clients.after(200);
        assert_eq!(total(&front, "read", "replica2"), had, "{release:?}: a new session on the drained server");
        assert_eq!(who(&mut old).unwrap(), two.ip().to_string(), "{release:?}: an old session");
        assert!(front.haproxy.log().contains("drain: kernel upgrade (alice)"), "{}", front.haproxy.log());

        // With the last replica the source takes the reads, and with the source nobody takes anything. Sessions go on.
        let mut last = session_on(&front, READ, &one);
        of_one.ctl_ok(&DRAIN);
        front.until_shown("read", "replica1", DRAINED, REASON);
        assert_eq!(front.who_answers(READ), [source.ip().to_string()], "{release:?}");
        assert_eq!(clients.errors(), Vec::<String>::new(), "{release:?}");
        drop(clients);
        let mut writer = front.session(WRITE).unwrap();
        of_source.ctl_ok(&DRAIN);
        for proxy in ["read", "write"] {
            front.until_shown(proxy, "source", DRAINED, REASON);
        }
        assert_eq!((front.who_answers(READ), front.who_answers(WRITE)), (vec![], vec![]), "{release:?}");
        for session in [&mut old, &mut last, &mut writer] {
            who(session).unwrap();
        }

        // Down cuts them.
        of_two.ctl_ok(&["down", "--reason=kernel upgrade", "--no-end"]);
        front.until_shown("read", "replica2", DOWN, REASON);
        wait::until("the session is cut", BOUND, || who(&mut old).is_err());
        for notes in &replicas.notes {
            notes.ctl_ok(&["up"]);
        }
        for (proxy, server) in [("write", "source"), ("read", "replica1"), ("read", "replica2"), ("read", "source")] {
            front.until_up(proxy, server);
        }
        who(&mut last).unwrap();
        who(&mut writer).unwrap();
    }
}

#[test]
fn a_drained_galera_node_gives_up_the_writes_and_keeps_its_reads() {
    let cluster = Cluster::start();
    let nodes = [cluster.node(0), cluster.node(1), cluster.node(2)];
    let notes = [(); 3].map(|()| Notes::new());
    let files: Vec<_> =
        nodes.iter().zip(&notes).map(|(node, notes)| notes.services(shipped::services("galera-chk", node))).collect();
    let _xinetd = Xinetd::start(&files);
    let file = |node: &Server| {
        let account = &user::unprivileged().name;
        let text = format!("[client]\nuser={account}\nsocket={}\n[galera-chk]\ntimeout=20s\n", node.socket().display());
        let scratch = Scratch::new("ctl");
        let option = format!("--defaults-file={}", scratch.file("my.cnf", text).display());
        (scratch, option)
    };
    let (_kept, option) = file(nodes[0]);
    for release in Release::ALL {
        let front = Front::of_cluster(release, nodes);
        let mut writer = session_on(&front, WRITE, nodes[0]);
        let mut reader = session_on(&front, READ, nodes[0]);
        notes[0].ctl_ok(&[&DRAIN[..], &[&option]].concat());
        front.until_shown("write", "node1", ["DOWN", "L7STS", "404"], REASON);
        front.until_shown("read", "node1", DRAINED, REASON);
        assert_eq!(front.who_answers(WRITE), [nodes[1].ip().to_string()], "{release:?}");
        wait::until("the writer's session is cut", BOUND, || who(&mut writer).is_err());
        let had = total(&front, "read", "node1");
        assert_eq!(front.who_answers(READ).len(), 2, "{release:?}");
        assert_eq!(total(&front, "read", "node1"), had, "{release:?}: a new session on the drained node");
        who(&mut reader).unwrap();
        notes[0].ctl_ok(&["up"]);
        front.until_up("write", "node1");
        front.until_up("read", "node1");
        assert_eq!(front.who_answers(WRITE), [nodes[1].ip().to_string()], "{release:?}: it stands by");
    }

    // Not a node that has lost the cluster, nor the last one.
    let refused = |more: &[&str]| {
        let output = notes[0].ctl(&[&DRAIN[..], &[&option], more].concat());
        assert_eq!((output.status.code(), notes[0].path().exists()), (Some(2), false), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    cluster.isolate(0);
    let error = refused(&[]);
    assert!(error.contains(" not Primary: repair the cluster first, or add `--force`"), "{error}");
    cluster.rejoin(0);
    cluster.until_synced();
    nodes[1].stop();
    nodes[2].stop();
    cluster.until(0, "wsrep_cluster_size", "1");
    let last = "mysqlchk-ctl: this node is the last member of its cluster: start another one first, or add `--force`\n";
    assert_eq!(refused(&["--wait=1s"]), last);
    notes[0].ctl_ok(&[&DRAIN[..], &[&option, "--force"]].concat());
    // A server that is down needs no protection, but that it was not asked is told, as for one that lets nobody in.
    notes[0].ctl_ok(&["up"]);
    let nobody = Scratch::new("ctl");
    let wrong = format!("[client]\nuser=nobody_here\nsocket={}\n", nodes[0].socket().display());
    let wrong = format!("--defaults-file={}", nobody.file("my.cnf", wrong).display());
    let told = notes[0].ctl(&[&DRAIN[..], &[&wrong]].concat());
    let error = String::from_utf8(told.stderr).unwrap();
    assert!(error.starts_with("mysqlchk-ctl: cannot tell whether this is a Galera node: cannot log in"), "{error}");
    nodes[0].kill9();
    let without = notes[0].ctl(&[&DRAIN[..], &[&option]].concat());
    let error = String::from_utf8_lossy(&without.stderr);
    assert!(without.status.success() && error.contains("cannot tell whether this is a Galera node: "), "{without:?}");
}

/// The column `HAProxy` of the table in docs/maintenance.md: each verdict, asked in three ways.
#[test]
fn each_verdict_has_its_state_in_haproxy() {
    let (server, notes, scratch) = (Server::start(), Notes::new(), Scratch::new("verdicts"));
    let options = scratch.file("my.cnf", "");
    let arguments = format!("--defaults-file={} {}", options.display(), notes.option());
    let services = shipped::services("mysqlchk", &server).append("mysqlchk-status", "server_args", &arguments);
    let _xinetd = Xinetd::start(&[services]);
    let recipe = fs::read_to_string(shipped::file("haproxy/replicas.cfg")).unwrap();
    let rules: String = recipe
        .lines()
        .filter(|line| line.contains("http-check expect"))
        .take(2)
        .map(|line| format!("{line}\n"))
        .collect();
    let backend = |name: &str, rules: &str| {
        format!(
            "backend {name}\n    option httpchk GET /\n{rules}    server s \"$DB\":3306 check port 9200 inter 100ms\n"
        )
    };
    let text =
        ["defaults\n    mode http\n    timeout connect 5s\n    timeout check 20s\n    timeout server 5s\n".to_owned()]
            .into_iter()
            .chain([
                backend("plain", ""),
                backend("option", "    http-check disable-on-404\n"),
                backend("rules", &rules),
            ])
            .collect::<String>();
    for release in Release::ALL {
        let file = scratch.file("haproxy.cfg", &text);
        let haproxy = Haproxy::start_by(release.command(), &file, &[("DB", &server.ip().to_string())]);
        let put = |verdict: &str| {
            fs::write(&options, if verdict == "misconfigured" { "[mysqlchk-status]\nno-such=1\n" } else { "" })
                .unwrap();
            match verdict {
                "drain" | "down" => drop(notes.ctl_ok(&[verdict, "--reason=disk", "--no-end"])),
                _ => drop(notes.ctl_ok(&["up"])),
            }
        };
        let up = ["UP", "L7OK", "200"];
        for (verdict, plain, option, rules, shown) in [
            ("up", up, up, up, "up: the server answers, read_only is OFF"),
            ("drain", ["DOWN", "L7STS", "404"], ["NOLB", "L7OKC", "404"], DRAINED, "drain: disk (alice)"),
            ("down", DOWN, DOWN, DOWN, "down: disk (alice)"),
            ("misconfigured", DOWN, DOWN, DOWN, "this is not an option"),
            ("up", up, up, up, "up: the server answers, read_only is OFF"),
        ] {
            put(verdict);
            for (proxy, wanted) in [("plain", plain), ("option", option), ("rules", rules)] {
                wait::until_ok(&format!("{release:?}, {proxy}: {verdict} is {wanted:?}"), BOUND, || {
                    let line = haproxy.server(proxy, "s");
                    let seen = [&*line.status, &*line.check_status, &*line.check_code];
                    // Only the rules show the reason of all three; the option hides that of a drain.
                    let told = match (proxy, verdict) {
                        ("rules", _) => line.last_chk.contains(shown),
                        ("option", "drain") => !line.last_chk.contains("disk"),
                        _ => true,
                    };
                    if seen == wanted && told { Ok(()) } else { Err(format!("{line:?}")) }
                });
            }
        }
    }
}

/// A line of systemd/drain.conf as the words of a command, for this unit.
fn hook(name: &str) -> Vec<String> {
    let text = fs::read_to_string(shipped::file("systemd/drain.conf")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=-+/usr/local/bin/mysqlchk-ctl "));
    words(&line.unwrap_or_else(|| panic!("no {name}")).replace("%n", "mariadb.service"))
}

/// As often as `RESTARTS` says, each as the drop-in for systemd does it.
#[test]
fn planned_restarts_of_a_replica_are_not_seen_by_clients() {
    let rounds = env::var("RESTARTS").map_or(2, |rounds| rounds.parse().unwrap());
    let (source, one, two) = (Server::start(), Server::start(), Server::start());
    let _links = [one.follow(&source), two.follow(&source)];
    let replicas = Replicas::start([&source, &one, &two]);
    let front = replicas.front(Release::Host);
    let clients = [Clients::start(front.ip, READ), Clients::start(front.ip, READ)];
    let (drain, up) = (hook("ExecStop"), hook("ExecStartPost"));
    for round in 0..rounds {
        let (replica, notes, name) = if round % 2 == 0 {
            (&one, &replicas.notes[1], "replica1")
        } else {
            (&two, &replicas.notes[2], "replica2")
        };
        let port = format!("--port={}:3306", replica.ip());
        let words: Vec<&str> = drain.iter().map(String::as_str).chain([&*port]).collect();
        let said = notes.ctl_ok(&words);
        assert!(said.contains("no sessions are on port 3306"), "{said}");
        replica.stop();
        let had = total(&front, "read", name);
        clients[0].after(20);
        assert_eq!(total(&front, "read", name), had, "{round}");
        replica.restart();
        notes.ctl_ok(&up.iter().map(String::as_str).collect::<Vec<_>>());
        front.until_up("read", name);
        clients[1].after(20);
    }
    let errors: Vec<String> = clients.iter().flat_map(Clients::errors).collect();
    let sessions: usize = clients.iter().map(|clients| clients.sessions().values().sum::<usize>()).sum();
    eprintln!("{rounds} restarts, {sessions} sessions, {} errors", errors.len());
    assert_eq!(errors, Vec::<String>::new(), "{rounds} restarts");
    for server in [&one, &two] {
        assert!(clients[0].sessions().contains_key(&server.ip().to_string()));
    }
}
