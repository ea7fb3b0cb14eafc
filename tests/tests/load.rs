//! The services under load, behind the real super-server: a dozen load balancers that ask ten times a second, a server
//! that hangs for a while, a storm of connections. With `--share=500ms`, as a site with so many of them sets it, and once
//! as they are shipped, for the price of either.
//!
//! `LOAD_SECONDS` lengthens the load (20 by default); the server hangs for a third of that, 20 s at most. The figures go to
//! stderr (`--nocapture`).

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lab::http::{self, Client, REQUEST, Reply};
use lab::program::binary;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::xinetd::{Services, Xinetd, refusal};
use lab::{address, machine, shipped, user, wait};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const SERVICES: [&str; 2] = ["mysqlchk-status", "mysqlchk-replication"];
const CLIENTS: u32 = 12;
/// How often each client asks.
const EVERY: Duration = Duration::from_millis(100);
/// The `--share` of a site with many load balancers.
const LIMIT: Duration = Duration::from_millis(500);
/// The default of `--timeout`.
const BUDGET: Duration = Duration::from_millis(900);
/// How much later than its budget an answer may be, beside what the machine adds.
const LATE: Duration = Duration::from_millis(100);
/// For what takes a moment.
const BOUND: Duration = Duration::from_secs(60);

// ---------------------------------------------------------------------------------------------------------------------
// The stage

/// The two services of `xinetd.d/mysqlchk` in front of a replica, with `--share`.
struct Host {
    xinetd: Xinetd,
    services: Services,
    control: Services,
    replica: Server,
    _source: Server,
    _scratch: Scratch,
}

impl Host {
    fn start() -> Self {
        let (source, replica, scratch) = (Server::start(), Server::start(), Scratch::new("load"));
        replica.follow(&source);
        let dir = scratch.dir("share");
        fs::set_permissions(&dir, Permissions::from_mode(0o700)).unwrap();
        let argument = format!("--share=500ms --share-dir={}", dir.display());
        let services = shipped::services("mysqlchk", &replica);
        let services =
            services.names().iter().fold(services, |services, name| services.append(name, "server_args", &argument));
        assert_eq!(services.names(), SERVICES);
        let control = Services::control(address::fresh(), BUDGET);
        Self {
            xinetd: Xinetd::start(&[services.clone(), control.clone()]),
            control,
            services,
            replica,
            _source: source,
            _scratch: scratch,
        }
    }

    /// The services as they are shipped, in front of the same replica but on another address.
    fn as_shipped(&self) -> (Xinetd, [SocketAddr; 2]) {
        let ip = address::fresh();
        let services = shipped::services("mysqlchk", &self.replica);
        let services = services.names().iter().fold(services, |services, name| {
            let arguments = services.value(name, "server_args").unwrap();
            assert!(!arguments.contains("--share"), "{arguments}");
            services.set(name, "bind", ip)
        });
        let addresses = SERVICES.map(|service| services.address(service));
        (Xinetd::start(&[services]), addresses)
    }

    fn addresses(&self) -> [SocketAddr; 2] {
        SERVICES.map(|service| self.services.address(service))
    }

    /// Both services answer, and the server is well.
    #[track_caller]
    fn assert_up(&self) {
        for address in self.addresses() {
            let reply = http::get(address);
            assert_eq!(reply.status(), 200, "{reply:?}");
        }
    }

    /// No check is left, although every connection made so far got one.
    #[track_caller]
    fn until_no_check_runs(&self) {
        wait::until_equal("the checks that run", BOUND, 0, checks_running);
    }

    /// How many clients xinetd turned away so far.
    fn refusals(&self) -> usize {
        self.xinetd.log().matches("FAIL: ").count()
    }

    /// How many connections the server got meanwhile.
    fn connections_during(&self, act: impl FnOnce()) -> u64 {
        let before = self.replica.counter("Connections");
        act();
        // The second question is a connection, too.
        self.replica.counter("Connections") - before - 1
    }
}

/// The checks that run now: processes of our copies of the binaries.
fn checks_running() -> usize {
    let binaries: Vec<PathBuf> = SERVICES.iter().map(|name| binary(name)).collect();
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let numbers = entries.filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    numbers.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok_and(|exe| binaries.contains(&exe))).count()
}

/// One conversation of a client, from an address of its own.
#[derive(Debug)]
struct Visit {
    begin: Instant,
    reply: Reply,
}

/// Asks as `HAProxy` does, from an address of the caller's choice. A refusal may end in a reset, after all its bytes: xinetd
/// does not read the request.
fn visit(source: Ipv4Addr, address: SocketAddr) -> Visit {
    let begin = Instant::now();
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&client, &SocketAddr::from((source, 0))).unwrap();
    connect(&client, &address).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(BOUND)).unwrap();
    let _ = client.write_all(REQUEST);
    let mut bytes = Vec::new();
    let reset = match client.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("no end, got {:?}: {error}", String::from_utf8_lossy(&bytes)),
    };
    Visit { begin, reply: Reply { bytes, reset, elapsed: begin.elapsed() } }
}

/// All clients ask at their pace, the two services by turns, whether or not they have an answer to the last question;
/// meanwhile `act` runs, and when it ends the clients do. Gives all visits in the order they began, and the most checks
/// seen at a time.
fn keep_asking<T>(addresses: [SocketAddr; 2], act: impl FnOnce() -> T) -> (Vec<Visit>, usize, T) {
    let sources: Vec<Ipv4Addr> = (0..CLIENTS).map(|_| address::fresh()).collect();
    let (visits, most, over) = (Mutex::new(Vec::new()), Mutex::new(0), AtomicBool::new(false));
    let start = Instant::now();
    let result = thread::scope(|scope| {
        for (number, source) in (0..CLIENTS).zip(&sources) {
            let (visits, over) = (&visits, &over);
            scope.spawn(move || {
                // Not all at the same moment, as no load balancers do.
                let mut next = start + EVERY * number / CLIENTS;
                for turn in number as usize.. {
                    wait::dawdle(next.saturating_duration_since(Instant::now()));
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    scope.spawn(move || {
                        let visit = visit(*source, addresses[turn % SERVICES.len()]);
                        visits.lock().unwrap().push(visit);
                    });
                    next += EVERY;
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let seen = checks_running();
                let mut most = most.lock().unwrap();
                *most = seen.max(*most);
                drop(most);
                wait::dawdle(EVERY);
            }
        });
        let end = EndOnDrop(&over);
        let result = act();
        drop(end);
        result
    });
    let mut visits = visits.into_inner().unwrap();
    visits.sort_by_key(|visit| visit.begin);
    (visits, most.into_inner().unwrap(), result)
}

/// Ends the clients also where a panic does.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The host for one test after the other: they measure time and count processes. No answer of the one before is fresh.
fn host() -> MutexGuard<'static, Host> {
    static HOST: LazyLock<Mutex<Host>> = LazyLock::new(|| Mutex::new(Host::start()));
    let host = HOST.lock().unwrap_or_else(PoisonError::into_inner);
    host.assert_up();
    wait::dawdle(LIMIT);
    host
}

fn load_time() -> Duration {
    let seconds = env::var("LOAD_SECONDS").map_or(20, |value| value.parse().expect("LOAD_SECONDS is a number"));
    Duration::from_secs(seconds)
}

/// How many times a service may ask in this time.
fn flights(time: Duration) -> u64 {
    u64::try_from(time.as_millis() / LIMIT.as_millis() + 1).unwrap()
}

/// What is below the given share of all times.
fn percentile(times: &[Duration], of_100: usize) -> Duration {
    times[(times.len() * of_100 / 100).min(times.len() - 1)]
}

fn report(what: &str, visits: &[Visit], more: &str) {
    let mut times: Vec<Duration> = visits.iter().map(|visit| visit.reply.elapsed).collect();
    times.sort_unstable();
    let [p50, p99, max] = [50, 99, 100].map(|of_100| percentile(&times, of_100));
    eprintln!("{what}: {} checks, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}; {more}", times.len());
}

// ---------------------------------------------------------------------------------------------------------------------
// The load

#[test]
fn a_dozen_load_balancers_cost_the_server_two_connections_a_second() {
    let host = host();
    let log = host.replica.watch_queries();
    let begin = Instant::now();
    let (visits, most, ()) = keep_asking(host.addresses(), || wait::dawdle(load_time()));
    let time = begin.elapsed();
    for visit in &visits {
        assert_eq!((visit.reply.status(), visit.reply.reset), (200, false), "{visit:?}");
    }
    let least = CLIENTS as usize * (load_time().as_millis() / EVERY.as_millis()) as usize * 9 / 10;
    assert!(visits.len() >= least, "{} checks, not {least}: the clients were too slow", visits.len());

    let sessions = log.sessions_of(&format!("{}@localhost", user::unprivileged().name));
    let mut by_query: BTreeMap<String, u64> = BTreeMap::new();
    for session in &sessions {
        let query = session.iter().find(|line| line.starts_with("Query")).expect("a query");
        *by_query.entry(query.chars().take(24).collect()).or_default() += 1;
    }
    report("load", &visits, &format!("connections in {time:.1?}: {by_query:?}; at most {most} processes"));
    assert_eq!(by_query.len(), SERVICES.len(), "{by_query:?}");
    for (query, count) in by_query {
        // And not one answer for all of the time.
        let bounds = flights(time) / 2..=flights(time);
        assert!(bounds.contains(&count), "{query}: {count} connections in {time:?}, not {bounds:?}");
    }
    host.until_no_check_runs();
}

/// As shipped each look is an observation of its own, and the server gets a connection for each.
#[test]
fn without_sharing_a_dozen_load_balancers_cost_the_server_a_connection_for_each_look() {
    let host = host();
    let (_xinetd, addresses) = host.as_shipped();
    let (mut result, begin) = (None, Instant::now());
    let connections =
        host.connections_during(|| result = Some(keep_asking(addresses, || wait::dawdle(load_time() / 2))));
    let (visits, most, ()) = result.unwrap();
    report(
        "load, as shipped",
        &visits,
        &format!("{connections} connections in {:.1?}; at most {most} processes", begin.elapsed()),
    );
    for visit in &visits {
        assert_eq!((visit.reply.status(), visit.reply.reset), (200, false), "{visit:?}");
    }
    assert_eq!(connections, visits.len() as u64);
    host.until_no_check_runs();
}

#[test]
fn while_the_server_hangs_every_client_is_told_in_time_and_one_connection_hangs_per_interval() {
    let host = host();
    machine::in_time("answers while the server hangs", || hang(&host));
}

/// Freezes the server under the load and looks at what the clients are told; an error when it was late.
fn hang(host: &Host) -> Result<(), String> {
    let frozen = (load_time() / 3).clamp(Duration::from_secs(6), Duration::from_secs(20));
    let (mut result, mut connections) = (None, 0);
    let mut time = Duration::ZERO;
    connections += host.connections_during(|| {
        let begin = Instant::now();
        let control = || drop(Client::connect(host.control.address("control")).reply());
        result = Some(machine::beside(BUDGET, 4, control, || {
            keep_asking(host.addresses(), || {
                wait::dawdle(LIMIT);
                let froze = Instant::now();
                host.replica.freeze();
                wait::dawdle(frozen);
                host.replica.thaw();
                let thawed = Instant::now();
                wait::dawdle(LIMIT * 3);
                (froze, thawed)
            })
        }));
        time = begin.elapsed();
    });
    let ((visits, most, (froze, thawed)), machine) = result.unwrap();
    let phase = |from: Instant, to: Instant| {
        visits.iter().filter(move |visit| visit.begin >= from && visit.begin + visit.reply.elapsed <= to)
    };
    let of_frozen = phase(froze + LIMIT, thawed).count();
    report("frozen", &visits, &format!("{connections} connections in {time:.1?}; at most {most} processes"));
    assert!(of_frozen > 100, "{of_frozen}");
    for visit in &visits {
        assert!([200, 503].contains(&visit.reply.status()) && !visit.reply.reset, "{visit:?}");
        let end = visit.begin + visit.reply.elapsed;
        // What came before the freeze is as old as the limit at most, and so is what came before the thaw.
        if visit.begin > froze + LIMIT && end < thawed {
            assert_eq!(visit.reply.status(), 503, "{visit:?}");
            let reason = "no verdict within 900ms (while ";
            assert!(visit.reply.reason_phrase().starts_with(reason), "{visit:?}");
        }
        if end < froze || visit.begin > thawed + LIMIT + machine {
            assert_eq!(visit.reply.status(), 200, "{:?} after the thaw: {visit:?}", visit.begin - thawed);
        }
    }
    // A holder that is later than this holds nobody, so on such a machine those who wait ask for themselves.
    let bound = if machine < BUDGET / 8 { flights(time) * SERVICES.len() as u64 } else { visits.len() as u64 };
    assert!(connections <= bound, "{connections} connections in {time:?}, not {bound}");
    // Each client's checks live no longer than the budget, and are gone soon after: they do not pile up while it hangs.
    let bound = CLIENTS as usize * (BUDGET * 2 + machine).as_millis().div_ceil(EVERY.as_millis()) as usize;
    assert!(most <= bound, "{most} processes, not {bound}");
    host.until_no_check_runs();
    // A machine that others use can hold up a single answer for longer; a late program is late each time.
    let mut times: Vec<Duration> = visits.iter().map(|visit| visit.reply.elapsed).collect();
    times.sort_unstable();
    let p99 = percentile(&times, 99);
    if p99 <= BUDGET + LATE + machine { Ok(()) } else { Err(format!("p99 {p99:?}, the control {machine:?} late")) }
}

// ---------------------------------------------------------------------------------------------------------------------
// The storm

/// All at the same moment, from a dozen addresses; then nobody is left, and the service goes on.
#[test]
fn a_storm_of_connections_is_answered_or_refused_and_the_service_stays() {
    const STORM: usize = 500;
    let host = host();
    let banner = fs::read_to_string(shipped::file("xinetd.d/busy.http")).unwrap();
    let sources: Vec<Ipv4Addr> = (0..CLIENTS).map(|_| address::fresh()).collect();
    for is_frozen in [false, true] {
        if is_frozen {
            host.replica.freeze();
        }
        let before = host.refusals();
        let start = Barrier::new(STORM);
        let addresses = host.addresses();
        let visits: Vec<Visit> = thread::scope(|scope| {
            let one = |number: usize| {
                start.wait();
                visit(sources[number % sources.len()], addresses[0])
            };
            let clients: Vec<_> = (0..STORM).map(|number| scope.spawn(move || one(number))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        if is_frozen {
            host.replica.thaw();
        }
        let status = if is_frozen { 503 } else { 200 };
        let (refused, answered): (Vec<_>, Vec<_>) =
            visits.iter().partition(|visit| refusal(&banner, REQUEST, &visit.reply).is_ok());
        // Who saw nothing was turned away, too, and no check lost its answer: xinetd has as many in its log.
        wait::until_equal("refusals in the log of xinetd", BOUND, refused.len(), || host.refusals() - before);
        for visit in &answered {
            let reply = &visit.reply;
            // Two hundred processes at once on a busy machine may not get far within the budget; then they say so.
            let late = reply.status() == 503 && reply.reason_phrase().starts_with("no verdict within 900ms (while ");
            assert!((reply.status() == status || late) && !reply.reset, "{visit:?}");
            assert_eq!(reply.header("content-length"), Some(reply.body().len().to_string()), "{visit:?}");
        }
        let count = format!("{} answered, {} refused", answered.len(), refused.len());
        report(if is_frozen { "storm, frozen" } else { "storm" }, &visits, &count);
        assert!(answered.iter().any(|visit| visit.reply.status() == status), "{:?}", answered.first());
        host.until_no_check_runs();
        wait::dawdle(LIMIT);
        host.assert_up();
        wait::dawdle(LIMIT);
    }
}
