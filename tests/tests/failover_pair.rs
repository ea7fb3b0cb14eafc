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
use lab::haproxy::Release;
use lab::network::{Host, Network, inside};
use lab::server::PASSWORD;
use lab::{janitor, shipped, user, wait};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

const BOUND: Duration = Duration::from_secs(30);
/// `advert_int`, and some patience.
const INTERVAL: Duration = Duration::from_millis(1200);
const FLOATING: Ipv4Addr = address(30);
const GATEWAY: Ipv4Addr = address(1);
const DATABASES: [Ipv4Addr; 5] = [address(11), address(12), address(13), address(14), address(15)];
/// As shipped: the clients' ports on all addresses, and HAProxy's own on loopback.
const AS_SHIPPED: [(&str, &str); 5] = [
    ("PROBATION", "3"),
    ("WRITE_BIND", ":3306"),
    ("READ_BIND", ":3307"),
    ("DECISIONS", "127.0.0.1:9300"),
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

/// Runs keepalived on a host with a shipped file, whose lines at the top get these values.
fn keepalived(host: &Host, file: &str, values: &[(&str, &str)]) -> Daemon {
    let mut text = fs::read_to_string(shipped::file(file)).unwrap();
    for (name, value) in values {
        let begin = text.find(&format!("\n${name}=")).unwrap_or_else(|| panic!("{file} has no ${name}")) + 1;
        let end = begin + text[begin..].find('\n').unwrap();
        text.replace_range(begin..end, &format!("${name}={value}"));
    }
    let path = |name: &str| host.scratch().join(name);
    let configuration = host.scratch().file("keepalived.conf", text);
    let mut command = host.command("keepalived");
    command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail", "--use-file"]).arg(configuration);
    command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
    Daemon::start(&mut command, &path("keepalived.log"))
}

/// Whoever of two holds the address.
fn holders(hosts: &[Host; 2]) -> Vec<usize> {
    (0..2).filter(|&number| hosts[number].holds(FLOATING)).collect()
}

#[track_caller]
fn until_held_by(hosts: &[Host; 2], number: usize) {
    wait::until_equal(&format!("host {number} has the address"), BOUND, vec![number], || holders(hosts));
}

/// Whoever has the address, once just one does.
#[track_caller]
fn until_held(hosts: &[Host; 2]) -> usize {
    wait::until_some("one host has the address", BOUND, || match *holders(hosts) {
        [one] => Some(one),
        _ => None,
    })
}

/// Watches who holds the address while `act` runs: the longest time that both did, and how often it moved.
fn watched<T>(hosts: &[Host; 2], act: impl FnOnce() -> T) -> (T, Duration, usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut longest, mut since, mut seen) = (Duration::ZERO, None, Vec::new());
            loop {
                // Looked at before, so that the end is seen, too.
                let ends = stop.load(Ordering::Relaxed);
                let now = holders(hosts);
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
    let start = |number: usize| {
        Front::start_at(&site, hosts[number].address(), hosts[number].wrap(&releases[number].command()), &AS_SHIPPED)
    };
    let mut fronts = [start(0), start(1)];
    let gateway = GATEWAY.to_string();
    let held = format!("{FLOATING}/24");
    let _keepalived = [0, 1].map(|number: usize| {
        let (own, peer) = (hosts[number].address().to_string(), hosts[1 - number].address().to_string());
        let priority = ["101", "100"][number];
        keepalived(
            &hosts[number],
            "haproxy/keepalived.conf",
            &[("SELF", &own), ("PEER", &peer), ("PRIORITY", priority), ("ADDRESS", &held), ("GATEWAY", &gateway)],
        )
    });
    let mut active = until_held(&hosts);
    let mut figures = Vec::new();
    let traffic = Traffic::start_at(FLOATING, DATABASES);
    traffic.until_more_writes(50);

    for what in ["killed", "frozen", "cut off"] {
        let other = 1 - active;
        let (gap, both, moves) = watched(&hosts, || {
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
        let ((), both, _) = watched(&hosts, || {
            match what {
                "killed" => fronts[active] = start(active),
                "frozen" => fronts[active].haproxy.daemon().thaw(),
                _ => hosts[active].join(),
            }
            fronts[active].until("it is back", &row(0));
            until_held_by(&hosts, other);
            traffic.until_more_writes(300);
        });
        assert_eq!(holders(&hosts), [other], "{what}: the cure moved the address");
        figures.push((format!("the {what} one is back: both have the address"), both));
        assert!(both < INTERVAL, "{what}, then back: both had the address for {both:?}");
        active = other;
    }
    let overlap = traffic.seen().overlap();
    assert!(overlap < Duration::from_millis(250), "two writers for {overlap:?}");
    note(&figures);
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

/// The checks with the option file of a master, where keepalived finds them safe: in a directory of root's.
fn checks(site: &Site, number: usize) -> String {
    let dir = janitor::base().join(format!("checks{number}"));
    fs::create_dir(&dir).unwrap();
    for name in ["mysqlchk-status", "mysqlchk-replication"] {
        let arguments = site.arguments(number, name);
        let text = format!("#!/bin/sh\nexec {} {arguments} \"$@\"\n", lab::check::binary(name).display());
        let source = dir.join(format!("{name}.text"));
        fs::write(&source, text).unwrap();
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
    let held = format!("{FLOATING}/24");
    let keepalived = [0, 1].map(|number: usize| {
        let (own, peer) = (hosts[number].address().to_string(), hosts[1 - number].address().to_string());
        let (priority, checks) = (["101", "100"][number], checks(&site, number));
        keepalived(
            &hosts[number],
            "haproxy/keepalived-masters.conf",
            &[
                ("SELF", &own),
                ("PEER", &peer),
                ("PRIORITY", priority),
                ("ADDRESS", &held),
                ("CHECKS", &checks),
                ("USER", &user::unprivileged().name),
            ],
        )
    });
    let mut has = until_held(&hosts);
    let mut figures = Vec::new();
    // One that would hand out the other's values cannot have it; nor one that does not replicate.
    for fault in [Fault::AutoIncrement, Fault::Kill, Fault::Freeze, Fault::StopApplier, Fault::ReadOnly] {
        let begin = Instant::now();
        let (moved, both, moves) = watched(&hosts, || {
            site.break_by(has, fault);
            until_held_by(&hosts, 1 - has);
            begin.elapsed()
        });
        figures.push((format!("two masters without HAProxy, `{}`: until the address has moved", fault.word()), moved));
        assert!(both < INTERVAL, "{fault:?}: both had the address for {both:?}");
        assert_eq!(moves, 1, "{fault:?}");
        site.heal();
        has = 1 - has;
        // It comes back and waits.
        wait::until("the other one stands by", BOUND, || {
            let log = keepalived[1 - has].log();
            let last = log.lines().rev().find(|line| line.contains(" STATE"));
            last.is_some_and(|line| line.contains("BACKUP STATE"))
        });
        assert_eq!(holders(&hosts), [has], "{fault:?}: the cure moved the address");
    }
    site.break_by(DB01, Fault::StopApplier);
    site.break_by(DB02, Fault::StopApplier);
    wait::until_equal("nobody has the address", BOUND, Vec::<usize>::new(), || holders(&hosts));
    note(&figures);
}
