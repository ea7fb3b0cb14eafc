//! The pair of HAProxy hosts, two masters with an address and no HAProxy, and a database host that vanishes: each host is a
//! network namespace.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::daemon::Daemon;
use lab::failover::{Fault, Front, NAMES, Site, Traffic, WRITE, row};
use lab::haproxy::{Haproxy, Release};
use lab::network::{Host, Network, inside};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::xinetd::Xinetd;
use lab::{janitor, shipped, user, wait};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

const BOUND: Duration = Duration::from_secs(30);
/// For how long both hosts may have the address: `advert_int` is 1 s, and whoever hears the other one yields at once. A host
/// that hears nothing waits for 3 s.
const INTERVAL: Duration = Duration::from_secs(2);
const FLOATING: Ipv4Addr = address(30);
const GATEWAY: Ipv4Addr = address(1);
const DATABASES: [Ipv4Addr; 5] = [address(11), address(12), address(13), address(14), address(15)];
/// As shipped: the clients' ports on all addresses, and HAProxy's own on loopback.
const AS_SHIPPED: [(&str, &str); 6] = [
    ("PROBATION", "3"),
    ("WRITE_BIND", ":3306"),
    ("READ_BIND", ":3307"),
    ("DECISIONS", "127.0.0.1:9300"),
    ("PEER_BIND", "127.0.0.1:10000"),
    ("STATS_BIND", "127.0.0.1:8404"),
];

const fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// A network with the database hosts and the gateway on this side of the bridge.
fn network() -> Network {
    let addresses: Vec<_> = [GATEWAY].into_iter().chain(DATABASES).collect();
    Network::new(&addresses)
}

/// Runs keepalived on a host with this configuration.
fn keepalived(host: &Host, configuration: &str) -> Daemon {
    let path = |name: &str| host.scratch().join(name);
    let configuration = host.scratch().file("keepalived.conf", configuration);
    let mut command = host.command("keepalived");
    command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(configuration);
    command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
    Daemon::start(&mut command, &path("keepalived.log"))
}

/// A shipped file of keepalived, whose lines at the top get these values.
fn shipped_keepalived(file: &str, values: &[(&str, &str)]) -> String {
    let mut text = fs::read_to_string(shipped::file(file)).unwrap();
    for (name, value) in values {
        let begin = text.find(&format!("\n${name}=")).unwrap_or_else(|| panic!("{file} has no ${name}")) + 1;
        let end = begin + text[begin..].find('\n').unwrap();
        text.replace_range(begin..end, &format!("${name}={value}"));
    }
    text
}

/// Two hosts with keepalived, and the address that one of them holds. A test that fails prints what they did.
struct Pair {
    hosts: [Host; 2],
    daemons: [Daemon; 2],
    floating: Ipv4Addr,
}

impl Pair {
    /// Starts keepalived on both hosts at once, with a shipped file. Its lines at the top get the values that each of the
    /// hosts has by the comments there, and more.
    fn start(hosts: [Host; 2], floating: Ipv4Addr, file: &str, more: [&[(&str, &str)]; 2]) -> Self {
        let held = format!("{floating}/24");
        let texts = [0, 1].map(|number: usize| {
            let (own, peer) = (hosts[number].address().to_string(), hosts[1 - number].address().to_string());
            let (priority, delay) = [("101", "1"), ("100", "5")][number];
            let own =
                [("SELF", &*own), ("PEER", &peer), ("PRIORITY", priority), ("START_DELAY", delay), ("ADDRESS", &held)];
            shipped_keepalived(file, &[&own, more[number]].concat())
        });
        let daemons = [0, 1].map(|number: usize| keepalived(&hosts[number], &texts[number]));
        Self { hosts, daemons, floating }
    }

    /// The hosts that hold the address.
    fn holders(&self) -> Vec<usize> {
        (0..2).filter(|&number| self.hosts[number].holds(self.floating)).collect()
    }

    /// The states that a host entered, in order.
    fn states(&self, number: usize) -> Vec<String> {
        let log = self.daemons[number].log();
        let entered = log.lines().filter_map(|line| line.split_once(" Entering ")?.1.strip_suffix(" STATE"));
        entered.map(str::to_owned).collect()
    }

    /// Waits until one host holds the address and the other one stands by, ready to take it: nothing is on its way then.
    /// Returns the holder.
    #[track_caller]
    fn until_settled(&self) -> usize {
        let last = |number| self.states(number).pop().unwrap_or_default();
        wait::until_ok("one host has the address, and the other one stands by", BOUND, || match *self.holders() {
            [one] if last(one) == "MASTER" && last(1 - one) == "BACKUP" => Ok(one),
            ref seen => Err(format!("{seen:?} hold it, the states are {} and {}", last(0), last(1))),
        })
    }

    /// Watches who holds the address while `act` runs: the longest time that both did, and how often it moved.
    fn watched<T>(&self, act: impl FnOnce() -> T) -> (T, Duration, usize) {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let (mut longest, mut since, mut seen) = (Duration::ZERO, None, Vec::new());
                loop {
                    // Looked at before, so that the end is seen, too.
                    let ends = stop.load(Ordering::Relaxed);
                    let now = self.holders();
                    if now.len() == 2 {
                        longest = longest.max(since.get_or_insert_with(Instant::now).elapsed());
                    } else {
                        since = None;
                        seen.extend(now);
                    }
                    if ends {
                        break;
                    }
                    wait::dawdle(Duration::from_millis(20));
                }
                seen.dedup();
                (longest, seen.len().saturating_sub(1))
            });
            let done = catch_unwind(AssertUnwindSafe(act));
            stop.store(true, Ordering::Relaxed);
            let (both, moves) = watch.join().unwrap();
            (done.unwrap_or_else(|panic| resume_unwind(panic)), both, moves)
        })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("{} is held by {:?}", self.floating, self.holders());
        for (host, daemon) in self.hosts.iter().zip(&self.daemons) {
            let log = daemon.log();
            let lines = log.lines().filter(|line| !line.contains("gratuitous ARP"));
            eprintln!("keepalived of {}:\n{}", host.address(), lines.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Whether somebody who comes now can write.
fn can_write(address: Ipv4Addr) -> bool {
    let bound = Some(Duration::from_secs(1));
    let options = OptsBuilder::new().ip_or_hostname(Some(address.to_string())).tcp_port(WRITE).prefer_socket(false);
    let options = options.user(Some("admin")).pass(Some(PASSWORD)).tcp_connect_timeout(bound).read_timeout(bound);
    Conn::new(options).and_then(|mut session| session.query_drop("INSERT INTO lab.w (client) VALUES (9)")).is_ok()
}

/// Where the figures of this suite stand in `docs/failover.md`, and where the others begin.
const BEGIN: &str = "<!-- make failover: the pair, from here -->\n";
const END: &str = "<!-- make failover: from here -->\n";

/// `make failover`: writes what was measured into the document. Otherwise: that the document has it.
#[track_caller]
fn note(figures: &[(String, Duration)]) {
    let file = shipped::file("docs/failover.md");
    let text = fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap();
    let (table, others) = rest.split_once(END).unwrap();
    let row = |line: &str| format!("| {line} | ");
    if env::var_os("FAILOVER_ROUNDS").is_none() {
        for (line, _) in figures {
            assert!(table.contains(&row(line)), "run make failover: {line}");
        }
        return;
    }
    let mut rows: Vec<String> = table.lines().filter(|line| line.starts_with("| ")).map(str::to_owned).collect();
    if rows.is_empty() {
        rows = vec!["| what | time |".into(), "| --- | ---: |".into()];
    }
    for (line, time) in figures {
        let fresh = format!("{}{:.1} s |", row(line), time.as_secs_f64());
        match rows.iter_mut().find(|old| old.starts_with(&row(line))) {
            Some(old) => *old = fresh,
            None => rows.push(fresh),
        }
    }
    fs::write(&file, format!("{head}{BEGIN}\n{}\n\n{END}{others}", rows.join("\n"))).unwrap();
}

#[test]
fn the_pair_has_one_address_and_it_moves_once() {
    if !inside("the_pair_has_one_address_and_it_moves_once") {
        return;
    }
    let network = network();
    let site = Site::start_at(DATABASES);
    let hosts = [network.host("haproxy1", address(31)), network.host("haproxy2", address(32))];
    // One of each: they need not be the same.
    let releases = Release::ALL;
    let start = |host: &Host, number: usize| {
        Front::start_at(&site, host.address(), host.wrap(&releases[number].command()), &AS_SHIPPED)
    };
    let mut fronts = [start(&hosts[0], 0), start(&hosts[1], 1)];
    let gateway = GATEWAY.to_string();
    let pair = Pair::start(hosts, FLOATING, "haproxy/keepalived.conf", [&[("GATEWAY", &gateway)]; 2]);
    let hosts = &pair.hosts;
    let mut active = pair.until_settled();
    let mut figures = Vec::new();
    let traffic = Traffic::start_at(FLOATING, DATABASES);
    traffic.until_more_writes(50);

    for what in ["killed", "frozen", "cut off"] {
        let other = 1 - active;
        let (gap, both, moves) = pair.watched(|| {
            let begin = Instant::now();
            match what {
                "killed" => fronts[active].haproxy.daemon().kill9(),
                "frozen" => fronts[active].haproxy.daemon().freeze(),
                _ => hosts[active].cut(),
            }
            wait::until("the other one takes the address", BOUND, || hosts[other].holds(FLOATING));
            // A session that waits for an answer of a frozen HAProxy waits as long as its client likes: this is a new one.
            wait::until("a new session by way of the other one", BOUND, || can_write(FLOATING));
            begin.elapsed()
        });
        // Who is cut off has it, too, and nobody is there to see it.
        if what != "cut off" {
            assert!(both < INTERVAL, "{what}: both had the address for {both:?}");
            assert_eq!(moves, 1, "{what}");
        }
        figures.push((format!("the active HAProxy is {what}: until a new session writes"), gap));
        if what != "cut off" {
            figures.push((format!("the active HAProxy is {what}: both have the address"), both));
        }
        // The cure moves nothing.
        let ((), both, _) = pair.watched(|| {
            match what {
                "killed" => fronts[active] = start(&hosts[active], active),
                "frozen" => fronts[active].haproxy.daemon().thaw(),
                _ => hosts[active].join(),
            }
            fronts[active].until("it is back", &row(0));
            pair.until_settled();
            traffic.until_more_writes(300);
        });
        assert_eq!(pair.until_settled(), other, "{what}: the cure moved the address");
        figures.push((format!("the {what} one is back: both have the address"), both));
        assert!(both < INTERVAL, "{what}, then back: both had the address for {both:?}");
        active = other;
    }
    let overlap = traffic.seen().overlap();
    assert!(overlap < Duration::from_millis(250), "two writers for {overlap:?}");
    note(&figures);
}

/// `HAProxy` with a shipped file as it is, but for its accounts, its socket and these values.
fn haproxy(command: Command, scratch: &Scratch, file: &Path, values: &[(&str, &str)]) -> Haproxy {
    let account = user::unprivileged();
    let socket = scratch.join("stats.sock").display().to_string();
    let own = [("RUN_AS_USER", &*account.name), ("RUN_AS_GROUP", &*account.group), ("STATS_SOCKET", &*socket)];
    Haproxy::start_by(command, file, &[&own, values].concat())
}

#[test]
fn hosts_that_start_at_once_have_one_holder_and_a_third_host_cannot_take_the_address() {
    if !inside("hosts_that_start_at_once_have_one_holder_and_a_third_host_cannot_take_the_address") {
        return;
    }
    let network = network();
    let gateway = GATEWAY.to_string();
    let (checks, user) = (programs("checks", |_| "exit 0".to_owned()), &*user::unprivileged().name);
    // Two pairs of each file, so that the start is seen several times.
    let mut fronts = Vec::new();
    let pairs = [0, 1, 2, 3].map(|number: u8| {
        let first = 40 + 10 * number;
        let hosts = [1, 2].map(|host| network.host(&format!("p{number}h{host}"), address(first + host)));
        if number % 2 == 1 {
            let more: &[_] = &[("CHECKS", &*checks), ("USER", user)];
            return Pair::start(hosts, address(first), "haproxy/keepalived-masters.conf", [more; 2]);
        }
        // It asks the file that runs on the host, where that listens as shipped; the databases need not be there.
        for ((host, file), release) in hosts.iter().zip(["galera.cfg", "replicas.cfg"]).zip(Release::ALL) {
            let command = host.wrap(&release.command());
            fronts.push(haproxy(command, host.scratch(), &shipped::file(&format!("haproxy/{file}")), &[]));
        }
        Pair::start(hosts, address(first), "haproxy/keepalived.conf", [&[("GATEWAY", &*gateway)]; 2])
    });
    for pair in &pairs {
        assert_eq!(pair.until_settled(), 0);
        assert_eq!([0, 1].map(|host| pair.states(host)), [&["BACKUP", "MASTER"][..], &["BACKUP"]]);
    }

    let stranger = network.host("stranger", address(90));
    let instances: String = [(31, &pairs[0]), (10, &pairs[1])]
        .map(|(id, pair)| {
            let [first, second] = [0, 1].map(|host: usize| pair.hosts[host].address());
            format!(
                "vrrp_instance v{id} {{\n state MASTER\n interface eth0\n virtual_router_id {id}\n priority 250\n \
                 unicast_src_ip {}\n unicast_peer {{\n {first}\n {second}\n }}\n virtual_ipaddress {{\n {}/24\n }}\n}}\n",
                stranger.address(),
                pair.floating,
            )
        })
        .concat();
    let mut claims = keepalived(&stranger, &instances);
    for pair in &pairs[..2] {
        // As many as it takes for the address to be gone, were they believed.
        wait::until("the pair has received what a stranger sends", BOUND, || {
            assert!(claims.is_running(), "{}", claims.log());
            assert!(pair.holders().contains(&0), "{:?}", pair.holders());
            pair.daemons.iter().all(|daemon| daemon.log().matches("not a unicast peer").count() >= 5)
        });
        // The holder never gave it up. (The other host has taken it for a moment once, when it missed three adverts in a row.)
        assert_eq!(pair.states(0), ["BACKUP", "MASTER"]);
        assert_eq!(pair.until_settled(), 0);
    }
}

#[test]
fn a_client_that_cannot_be_reached_any_more_loses_its_session_and_its_locks() {
    if !inside("a_client_that_cannot_be_reached_any_more_loses_its_session_and_its_locks") {
        return;
    }
    let network = network();
    let server = Server::start();
    let _xinetd = Xinetd::start(&[shipped::services("mysqlchk", &server)]);
    let client = network.host("client", address(50));
    let database = server.ip().to_string();
    // The same times in seconds instead of minutes.
    let shorter = [("clitcpka-idle  60s", "clitcpka-idle 1s"), ("clitcpka-intvl 15s", "clitcpka-intvl 1s")];
    let cases = ["galera.cfg", "replicas.cfg"].map(|file| Release::ALL.map(|release| (file, release)));
    let sessions: Vec<_> = cases
        .as_flattened()
        .iter()
        .zip(DATABASES)
        .map(|(&(file, release), ip)| {
            let scratch = Scratch::new("front");
            let text = fs::read_to_string(shipped::file(&format!("haproxy/{file}"))).unwrap();
            let text = shorter.iter().fold(text, |text, (shipped, short)| {
                assert!(text.contains(shipped), "{file} has no {shipped}");
                text.replace(shipped, short)
            });
            let binds = [
                ("WRITE_BIND", 3306),
                ("READ_BIND", 3307),
                ("HEALTH", 9300),
                ("PEER_BIND", 10000),
                ("STATS_BIND", 8404),
            ];
            let binds = binds.map(|(name, port)| (name, format!("{ip}:{port}")));
            let mut values: Vec<_> = binds.iter().map(|(name, value)| (*name, &**value)).collect();
            values.extend([("NODE_1", &*database), ("SOURCE", &database)]);
            let front = haproxy(release.command(), &scratch, &scratch.file("short.cfg", text), &values);
            // A client that takes a lock and then is idle.
            let script = format!(
                "(echo 'SELECT GET_LOCK(\"{ip}\", 0);'; sleep 1000) | \
                 mariadb --unbuffered --host={ip} --user=admin --password={PASSWORD}"
            );
            let session = Daemon::start(client.command("sh").args(["-c", &script]), &scratch.join("client.log"));
            (ip, front, session, scratch)
        })
        .collect();
    let has_lock = |ip| server.value(&format!("SELECT IS_USED_LOCK('{ip}') IS NOT NULL")) == "1";
    for (ip, _, session, _) in &sessions {
        wait::until_ok(&format!("the session by way of {ip} has its lock"), BOUND, || {
            if has_lock(*ip) { Ok(()) } else { Err(session.log()) }
        });
    }
    client.cut();
    for (ip, front, ..) in &sessions {
        wait::until_ok(&format!("the lock of the session by way of {ip} is free"), BOUND, || {
            if has_lock(*ip) { Err(front.log()) } else { Ok(()) }
        });
    }
}

#[test]
fn a_database_host_that_vanishes_is_out_and_so_are_its_replicas() {
    if !inside("a_database_host_that_vanishes_is_out_and_so_are_its_replicas") {
        return;
    }
    let network = network();
    let site = Site::start_at(DATABASES);
    let host = network.host("haproxy", address(31));
    let mut figures = Vec::new();
    for release in Release::ALL {
        let front = Front::start_at(&site, host.address(), host.wrap(&release.command()), &AS_SHIPPED);
        let traffic = Traffic::start(&front);
        traffic.until_more_writes(50);
        for (number, wanted) in [(0, row(5)), (1, row(4))] {
            let begin = Instant::now();
            // To HAProxy it is gone, and to its replicas it is frozen: they do not notice for a while.
            host.lose(DATABASES[number]);
            site.break_by(number, Fault::Freeze);
            front.until(&format!("{release:?}: {} vanished", NAMES[number]), &wanted);
            let out = begin.elapsed();
            let first = traffic.until_written(1 - number, begin);
            if number == 0 {
                let name = if release == Release::Host { "2.6" } else { "3.2" };
                let line = format!("HAProxy {name}, the host of db01 vanishes: until db02 accepts a write");
                figures.push((line, first.accepted - begin));
            }
            assert!(out < Duration::from_secs(5), "{release:?}: {} vanished: out after {out:?}", NAMES[number]);
            host.find(DATABASES[number]);
            site.heal();
            front.until(&format!("{release:?}: {} is back", NAMES[number]), &row(0));
        }
    }
    note(&figures);
}

/// The checks with the option file of a master, where keepalived finds them safe.
fn checks(site: &Site, number: usize) -> String {
    programs(&format!("checks{number}"), |name| {
        let arguments = site.arguments(number, name);
        format!("exec {} {arguments} \"$@\"", lab::program::binary(name).display())
    })
}

/// Programs by the names of the checks, in a directory of root's: keepalived runs no others.
fn programs(dir: &str, command: impl Fn(&str) -> String) -> String {
    let dir = janitor::base().join(dir);
    fs::create_dir(&dir).unwrap();
    for name in ["mysqlchk-status", "mysqlchk-replication"] {
        let source = dir.join(format!("{name}.text"));
        fs::write(&source, format!("#!/bin/sh\n{}\n", command(name))).unwrap();
        let done = Command::new("install").args(["-m", "755"]).args([&source, &dir.join(name)]).status().unwrap();
        assert!(done.success());
    }
    path(&dir)
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn two_masters_and_an_address_without_haproxy() {
    if !inside("two_masters_and_an_address_without_haproxy") {
        return;
    }
    const DB01: usize = 0;
    const DB02: usize = 1;
    let network = network();
    let site = Site::start_at(DATABASES);
    // The servers are on this side of the bridge, and are asked over their sockets: what counts is who has the address.
    let hosts = [network.host("master1", address(21)), network.host("master2", address(22))];
    let checks = [checks(&site, DB01), checks(&site, DB02)];
    let user = &*user::unprivileged().name;
    let more = [0, 1].map(|number: usize| [("CHECKS", &*checks[number]), ("USER", user)]);
    let pair = Pair::start(hosts, FLOATING, "haproxy/keepalived-masters.conf", [&more[0], &more[1]]);
    let mut has = pair.until_settled();
    let mut figures = Vec::new();
    // One that would hand out the other's values cannot have it; nor one that does not replicate.
    for fault in [Fault::AutoIncrement, Fault::Kill, Fault::Freeze, Fault::StopApplier, Fault::ReadOnly] {
        let begin = Instant::now();
        let (moved, both, moves) = pair.watched(|| {
            site.break_by(has, fault);
            wait::until_equal("the other one takes the address", BOUND, vec![1 - has], || pair.holders());
            begin.elapsed()
        });
        figures.push((format!("two masters without HAProxy, `{}`: until the address has moved", fault.word()), moved));
        assert!(both < INTERVAL, "{fault:?}: both had the address for {both:?}");
        assert_eq!(moves, 1, "{fault:?}");
        site.heal();
        has = 1 - has;
        // It comes back and waits.
        assert_eq!(pair.until_settled(), has, "{fault:?}: the cure moved the address");
    }
    site.break_by(DB01, Fault::StopApplier);
    site.break_by(DB02, Fault::StopApplier);
    wait::until_equal("neither has the address", BOUND, Vec::<usize>::new(), || pair.holders());
    note(&figures);
}
