//! The shipped service files behind the real super-server, in front of a real `MariaDB`: what a client on the wire gets,
//! however it behaves, and whatever is wrong behind the service.
//!
//! A service is changed only where this machine is no database host: see [`ship`].

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::daemon::program;
use lab::fake::{self, Fake, OK, greeting, packet};
use lab::http::{self, Client, REQUEST, Reply};
use lab::program::{Check, binary};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, PORT, Server};
use lab::xinetd::{Services, Xinetd, refusal};
use lab::{address, machine, shipped, user, wait};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

const STATUS: &str = "mysqlchk-status";
const REPLICATION: &str = "mysqlchk-replication";
const GALERA: &str = "galera-chk";

const STATUS_UP: &str = "the server answers, read_only is OFF";
const REPLICATION_UP: &str = "lag is 0s, limit is 30s";
const GALERA_DOWN: &str = "wsrep_on is OFF: not a Galera node";

/// The default of `--timeout`, which no shipped service changes.
const BUDGET: Duration = Duration::from_millis(900);
/// The `--share` of a site with many load balancers.
const SHARE: Duration = Duration::from_millis(500);
/// How much later than its budget an answer may be, beside what the machine adds ([`machine::beside_sleeps`]).
const LATE: Duration = Duration::from_millis(50);
/// A budget for the tests that are not about it: no machine is so busy. A check that waits for a silent client does so for
/// a quarter of it, [`AT_ONCE`] is less.
const PATIENT: &str = "--timeout=20s";
/// For what takes a moment on an idle machine.
const BOUND: Duration = Duration::from_secs(60);

// ---------------------------------------------------------------------------------------------------------------------
// The stage

/// A shipped service file. Changed are the address, the user and the place of the files, and `arguments` are added, since
/// the server's socket and the account are not the default ones here. Everything else is as it
/// is installed.
fn ship(file: &str, arguments: &str, scratch: &Scratch) -> Services {
    let mut services = Services::read(shipped::file("xinetd.d").join(file));
    let ip = address::fresh();
    for name in services.names() {
        let installed = PathBuf::from(services.value(&name, "server").unwrap());
        let built = fs::read(binary(installed.file_name().unwrap().to_str().unwrap())).unwrap();
        services = services
            .set(&name, "disable", "no")
            .set(&name, "bind", ip)
            .set(&name, "user", &user::unprivileged().name)
            .set(&name, "server", scratch.program(&name, built).display())
            .append(&name, "server_args", arguments)
            .set(&name, "banner_fail", shipped::file("xinetd.d/busy.http").display());
    }
    services
}

/// The directory of `--share`.
fn state(scratch: &Scratch) -> PathBuf {
    let directory = scratch.dir("state");
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    directory
}

/// All shipped services behind one xinetd.
struct Host {
    xinetd: Xinetd,
    files: [Services; 2],
    /// Holds copies of the binaries that nobody else runs.
    scratch: Scratch,
}

impl Host {
    /// As installed.
    fn start(arguments: &str) -> Self {
        Self::start_changed(arguments, |services, _| services)
    }

    /// The checks of half a second share one answer.
    fn start_shared(arguments: &str) -> Self {
        let scratch = Scratch::new("host");
        let arguments = format!("--share=500ms --share-dir={} {arguments}", state(&scratch).display());
        Self::start_in(scratch, &arguments, |services, _| services)
    }

    fn start_changed(arguments: &str, change: impl Fn(Services, &str) -> Services) -> Self {
        Self::start_in(Scratch::new("host"), arguments, change)
    }

    fn start_in(scratch: Scratch, arguments: &str, change: impl Fn(Services, &str) -> Services) -> Self {
        let files = ["mysqlchk", "galera-chk"].map(|file| {
            let services = ship(file, arguments, &scratch);
            services.names().iter().fold(services, |services, name| change(services, name))
        });
        Self { xinetd: Xinetd::start(&files), files, scratch }
    }

    fn address(&self, service: &str) -> SocketAddr {
        self.files.iter().find(|file| file.names().iter().any(|name| name == service)).unwrap().address(service)
    }

    /// The processes of the checks that run now.
    fn checks(&self) -> Vec<u32> {
        let own =
            |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(self.scratch.path()));
        let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter_map(|name| name.to_str()?.parse().ok()).filter(own).collect()
    }

    /// Waits until no check runs, although every connection made so far got one.
    #[track_caller]
    fn until_no_check_runs(&self) {
        for service in [STATUS, REPLICATION, GALERA] {
            // Connections are accepted in order: when this one has its answer, no earlier one is still to come.
            assert_ne!(http::get(self.address(service)).status(), 0);
        }
        wait::until_equal("the checks that run", BOUND, Vec::<u32>::new(), || self.checks());
    }
}

/// The arguments for an account that the server knows by its system user.
fn local(server: &Server) -> String {
    format!("--user={} --socket={}", user::unprivileged().name, server.socket().display())
}

/// The arguments for TCP. No password: for servers that do not get as far as to ask for it.
fn remote(address: SocketAddr) -> String {
    format!("--host={} --port={}", address.ip(), address.port())
}

/// The argument for an account with a password, which logs in over TCP.
fn with_password(scratch: &Scratch, file: &str, host: Ipv4Addr, password: &str) -> String {
    let text = format!("[client]\nuser = mysqlchk_tcp\npassword = {password}\nhost = {host}\n");
    format!("--defaults-file={}", scratch.file(file, text).display())
}

/// A replica that every test may ask and none may change.
fn replica() -> &'static Server {
    static REPLICA: LazyLock<&Server> = LazyLock::new(|| {
        let source = Box::leak(Box::new(Server::start()));
        let replica: &Server = Box::leak(Box::new(Server::start()));
        replica.follow(source);
        replica
    });
    *REPLICA
}

/// Has `count` conversations, `at_once` at a time.
fn converse<T: Send>(count: usize, at_once: usize, one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let some = || {
        let mut replies = Vec::new();
        loop {
            match next.fetch_add(1, Ordering::Relaxed) {
                number if number < count => replies.push(one(number)),
                _ => return replies,
            }
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..at_once).map(|_| scope.spawn(some)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// A whole response, to the byte.
fn response(verdict: &str, reason: &str) -> String {
    let code = if verdict == "up" { 200 } else { 503 };
    let body = format!("{verdict}: {reason}\n");
    format!(
        "HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\nCache-Control: no-store\r\n\r\n{body}",
        body.len(),
    )
}

/// Asserts a clean end after this response, and nothing else.
#[track_caller]
fn assert_reply(reply: &Reply, verdict: &str, reason: &str) {
    assert_eq!((reply.text().as_str(), reply.reset), (response(verdict, reason).as_str(), false), "{reply:?}");
}

/// Connects from an address of the caller's choice, and sends `bytes`.
fn connect_from(source: Ipv4Addr, address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&client, &SocketAddr::from((source, 0))).unwrap();
    connect(&client, &address).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(BOUND)).unwrap();
    client.write_all(bytes).unwrap();
    client
}

/// Reads to the end.
fn read_all(mut client: impl Read) -> Reply {
    let (mut bytes, begin) = (Vec::new(), Instant::now());
    let reset = match client.read_to_end(&mut bytes) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
    };
    Reply { bytes, reset, elapsed: begin.elapsed() }
}

/// Asserts that a client of this address is turned away, a number of times: never with something else than the banner, and
/// with that most times.
#[track_caller]
fn assert_refused(source: Ipv4Addr, address: SocketAddr, times: usize) {
    let banner = fs::read_to_string(shipped::file("xinetd.d/busy.http")).unwrap();
    for request in [REQUEST, b""] {
        let one = |_| refusal(&banner, request, &read_all(connect_from(source, address, request))).unwrap();
        let whole = (0..times).map(one).filter(|whole| *whole).count();
        assert!(2 * whole > times, "{whole} banners of {times}, from {source}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The files

#[test]
fn the_shipped_files_say_what_a_service_of_many_short_connections_needs() {
    let (mysqlchk, galera) =
        (Services::read(shipped::file("xinetd.d/mysqlchk")), Services::read(shipped::file("xinetd.d/galera-chk")));
    assert_eq!((mysqlchk.names(), galera.names()), (vec![STATUS.into(), REPLICATION.into()], vec![GALERA.into()]));
    for (file, service, port, disable) in
        [(&mysqlchk, STATUS, "9200", "no"), (&mysqlchk, REPLICATION, "9201", "no"), (&galera, GALERA, "9200", "yes")]
    {
        let server = format!("/usr/local/bin/{service}");
        for (attribute, wanted) in [
            ("disable", disable),
            ("type", "UNLISTED"),
            ("port", port),
            ("protocol", "tcp"),
            ("socket_type", "stream"),
            ("wait", "no"),
            ("user", "mysqlchk"),
            ("server", &server),
            ("server_args", "--reason-phrase"),
            ("passenv", ""),
            ("only_from", "127.0.0.1 ::1"),
            ("cps", "1000 1"),
            ("instances", "200"),
            ("per_source", "50"),
            ("banner_fail", "/etc/mysqlchk/busy.http"),
            ("log_on_success", ""),
            ("log_on_failure", "HOST"),
        ] {
            assert_eq!(file.value(service, attribute).as_deref(), Some(wanted), "{attribute} of {service}");
        }
    }
    // Words after a value are values to xinetd, comments or not.
    for text in [mysqlchk.text(), galera.text()] {
        for line in text.lines().filter(|line| line.contains('#')) {
            assert!(line.trim_start().starts_with('#'), "{line}");
        }
        assert!(!text.replace("# No USERID", "").contains("USERID"));
    }
}

/// They differ from the checks in the form, the port and what is sent to a client that is turned away.
#[test]
fn the_services_of_the_agent_and_of_the_metrics_are_off_and_like_the_others() {
    let checks = Services::read(shipped::file("xinetd.d/mysqlchk"));
    for (file, kind, form, port, banner) in [
        ("mysqlchk-agent", "agent", "agent", "9202", None),
        ("mysqlchk-metrics", "metrics", "prometheus", "9203", Some("/etc/mysqlchk/busy.http")),
    ] {
        let services = Services::read(shipped::file("xinetd.d").join(file));
        assert_eq!(services.names(), [REPLICATION, GALERA].map(|program| format!("{program}-{kind}")));
        for program in [REPLICATION, GALERA] {
            let value = |attribute| services.value(&format!("{program}-{kind}"), attribute);
            for (attribute, wanted) in [
                ("disable", "yes"),
                ("port", port),
                ("server", &format!("/usr/local/bin/{program}")),
                ("server_args", &format!("--format={form}")),
            ] {
                assert_eq!(value(attribute).as_deref(), Some(wanted), "{attribute} of {program} in {file}");
            }
            assert_eq!(value("banner_fail").as_deref(), banner, "{program} in {file}");
            let shared =
                ["type", "protocol", "socket_type", "wait", "user", "passenv", "only_from", "cps", "instances"];
            for attribute in shared.into_iter().chain(["per_source", "log_on_success", "log_on_failure"]) {
                assert_eq!(
                    value(attribute),
                    checks.value(REPLICATION, attribute),
                    "{attribute} of {program} in {file}"
                );
            }
        }
        for line in services.text().lines().filter(|line| line.contains('#')) {
            assert!(line.trim_start().starts_with('#'), "{line}");
        }
    }
}

#[test]
fn xinetd_takes_the_shipped_files_without_a_complaint_and_logs_no_check() {
    let _shared = machine::share();
    let complaints = |log: &str| {
        let complaint = |line: &&str| {
            ["WARN", "ERROR", "CRIT", "ALERT", "EMERG", "fail", "bad"].iter().any(|word| line.contains(word))
        };
        log.lines().filter(complaint).map(str::to_owned).collect::<Vec<_>>()
    };
    let host = Host::start(&local(replica()));
    wait::until("xinetd has told what it started", BOUND, || {
        host.xinetd.log().contains("Started working: 3 available services")
    });
    let log = host.xinetd.log();
    assert_eq!(complaints(&log), [""; 0], "{log}");
    for service in [STATUS, REPLICATION, GALERA] {
        assert_ne!(http::get(host.address(service)).status(), 0);
    }
    host.until_no_check_runs();
    assert_eq!(host.xinetd.log(), log);
    drop(host);
    // What it would say of a comment behind a value.
    let host =
        Host::start_changed(&local(replica()), |services, name| services.append(name, "only_from", "# the balancers"));
    wait::until("xinetd complains", BOUND, || !complaints(&host.xinetd.log()).is_empty());
}

#[test]
fn the_banner_is_a_whole_response_of_its_stated_length() {
    let reason = "too many checks at once, or this address may not ask";
    assert_eq!(fs::read_to_string(shipped::file("xinetd.d/busy.http")).unwrap(), response("down", reason));
}

// ---------------------------------------------------------------------------------------------------------------------
// The answer

#[test]
fn every_service_answers_at_once_with_the_bytes_of_the_contract() {
    let _shared = machine::share();
    let host = Host::start(&format!("{} {PATIENT}", local(replica())));
    for (service, verdict, reason) in
        [(STATUS, "up", STATUS_UP), (REPLICATION, "up", REPLICATION_UP), (GALERA, "down", GALERA_DOWN)]
    {
        let reply = http::get(host.address(service));
        assert_reply(&reply, verdict, reason);
        // The client has seen the end, which is not that of the process: that one waits for the client's.
        assert!(reply.elapsed < AT_ONCE, "{reply:?}");
        let head = http::exchange(host.address(service), b"HEAD / HTTP/1.1\r\nHost: db01\r\nConnection: close\r\n\r\n");
        let whole = response(verdict, reason);
        let (headers, _) = whole.split_once("\r\n\r\n").unwrap();
        assert_eq!((head.text(), head.reset), (format!("{headers}\r\n\r\n"), false));
    }
    host.until_no_check_runs();
}

#[test]
fn the_answer_is_one_write_then_a_half_close_then_all_that_still_comes_is_read() {
    let _shared = machine::share();
    let traces = Scratch::new("trace");
    let host = Host::start_changed(&format!("{} {PATIENT}", local(replica())), |services, name| {
        let check = services.value(name, "server").unwrap();
        let arguments = services.value(name, "server_args").unwrap();
        let trace = traces.join(name);
        services.set(name, "server", program("strace").display()).set(
            name,
            "server_args",
            format!(
                "-f -qq -s 999 -e trace=read,write,writev,sendto,sendmsg,shutdown -o {} {check} {arguments}",
                trace.display()
            ),
        )
    });
    for (service, verdict, reason) in
        [(STATUS, "up", STATUS_UP), (REPLICATION, "up", REPLICATION_UP), (GALERA, "down", GALERA_DOWN)]
    {
        let whole = response(verdict, reason);
        assert_reply(&http::get(host.address(service)), verdict, reason);
        let trace = || fs::read_to_string(traces.join(service)).unwrap();
        // Lines are `PID CALL(DESCRIPTOR, ...`; what goes to and comes from the server has another descriptor.
        let calls = |trace: &str| {
            let on_the_client =
                |call: &str| ["(0, ", "(1, ", "(2, "].iter().any(|descriptor| call.contains(descriptor));
            let calls =
                trace.lines().filter_map(|line| line.split_once(' ')).map(|(_, call)| call.trim_start().to_owned());
            calls.filter(|call| on_the_client(call)).collect::<Vec<_>>()
        };
        wait::until("the check has read the end", BOUND, || {
            calls(&trace()).last().is_some_and(|call| call.starts_with("read(0, \"\""))
        });
        let calls = calls(&trace());
        let wanted = [
            format!("read(0, {:?}, 8192) = {}", String::from_utf8_lossy(REQUEST), REQUEST.len()),
            format!("write(1, {whole:?}, {}) = {}", whole.len(), whole.len()),
            "shutdown(1, SHUT_WR) = 0".to_owned(),
            "read(0, \"\", 4096) = 0".to_owned(),
        ];
        let plain: Vec<String> =
            calls.iter().map(|call| call.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(plain, wanted, "{service}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The manners of a client

/// Two hundred clients of each kind for each service, and no check that stays behind.
#[track_caller]
fn assert_manners(what: &str, client: impl Fn(Client) -> Reply + Sync, verdict: Option<&str>, waits: Waits) {
    // Far from `per_source`: on a busy machine xinetd still counts checks that have ended.
    let (timeout, count, at_once) = match waits {
        Waits::No => (PATIENT.to_owned(), 200, 10),
        Waits::AQuarter => (format!("--timeout={}ms", 4 * QUARTER.as_millis()), 100, 20),
    };
    let host = Host::start(&format!("{} {timeout}", local(replica())));
    for (service, up) in [(STATUS, STATUS_UP), (REPLICATION, REPLICATION_UP)] {
        let address = host.address(service);
        let replies = converse(count, at_once, |_| client(Client::connect(address)));
        let (fastest, slowest) = (
            replies.iter().map(|reply| reply.elapsed).min().unwrap(),
            replies.iter().map(|reply| reply.elapsed).max().unwrap(),
        );
        eprintln!("{what}: {service} answered within {fastest:?} to {slowest:?}");
        assert_eq!(replies.len(), count);
        for reply in &replies {
            match verdict {
                None => assert_reply(reply, "up", up),
                Some(reason) => assert_reply(reply, "down", reason),
            }
        }
        let within = match waits {
            Waits::No => Duration::ZERO..AT_ONCE,
            Waits::AQuarter => QUARTER..2 * QUARTER,
        };
        let load = machine::load();
        assert!(within.contains(&fastest) && within.contains(&slowest), "{what}: {fastest:?} to {slowest:?}, {load}");
    }
    host.until_no_check_runs();
}

/// Whether a check waits for more of the request.
#[derive(Clone, Copy)]
enum Waits {
    No,
    /// For a quarter of its budget.
    AQuarter,
}

/// What nothing was waited for takes, on whatever machine: with [`PATIENT`] a check that waits takes 5 s at least.
const AT_ONCE: Duration = Duration::from_millis(2500);
/// A quarter of the budget of the tests that wait for it: long enough to tell it from a busy machine.
const QUARTER: Duration = Duration::from_secs(1);

#[test]
fn a_client_that_reads_byte_by_byte_gets_every_byte() {
    let _shared = machine::share();
    let pause = Duration::from_millis(1);
    assert_manners("slow reader", |client| client.send(REQUEST).reply_slowly(pause), None, Waits::No);
}

#[test]
fn a_client_that_needs_longer_than_the_budget_gets_every_byte_too() {
    let _shared = machine::share();
    let budget = Duration::from_secs(2);
    let host = Host::start(&format!("{} --timeout=2s", local(replica())));
    let replies = converse(40, 40, |_| {
        Client::connect(host.address(STATUS)).send(REQUEST).reply_slowly(Duration::from_millis(12))
    });
    for reply in &replies {
        assert_reply(reply, "up", STATUS_UP);
        assert!(reply.elapsed > budget, "it was to be slower: {reply:?}");
    }
    host.until_no_check_runs();
}

#[test]
fn a_client_that_says_nothing_gets_the_verdict_after_a_quarter_of_the_budget() {
    let _shared = machine::share();
    assert_manners("silence", Client::reply, None, Waits::AQuarter);
}

#[test]
fn a_client_that_sends_64_kib_of_garbage_gets_a_whole_503() {
    let _shared = machine::share();
    let garbage = [b'A'; 64 * 1024];
    let too_long = Some("the request line is too long");
    assert_manners("garbage", |client| client.send(&garbage).reply(), too_long, Waits::No);
}

#[test]
fn a_client_that_is_still_sending_when_its_answer_is_out_is_not_cut_off() {
    let _shared = machine::share();
    let host = Host::start(&format!("{} {PATIENT}", local(replica())));
    for (service, address) in [STATUS, REPLICATION].map(|service| (service, host.address(service))) {
        converse(50, 10, |_| {
            // The answer is due after 8 KiB, some 10 ms before the last of these.
            let mut client = connect_from(Ipv4Addr::LOCALHOST, address, &[b'A'; 8 * 1024]);
            for number in 0..20 {
                wait::dawdle(Duration::from_millis(1));
                let sent = client.write_all(&[b'A'; 1024]);
                assert!(sent.is_ok(), "{service}, chunk {number}: {sent:?}");
            }
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            assert_eq!(text, response("down", "the request line is too long"));
        });
    }
    host.until_no_check_runs();
}

#[test]
fn a_client_that_sends_64_kib_of_headers_gets_the_verdict() {
    let _shared = machine::share();
    let mut request = b"GET / HTTP/1.1\r\n".to_vec();
    while request.len() < 64 * 1024 {
        request.extend_from_slice(b"X-Filler: 0123456789abcdefghijklmnopqrstuvwxyz\r\n");
    }
    request.extend_from_slice(b"\r\n");
    assert_manners("headers", |client| client.send(&request).reply(), None, Waits::No);
}

#[test]
fn a_client_that_stops_in_the_request_line_is_told_so_after_a_quarter_of_the_budget() {
    let _shared = machine::share();
    let stops = |client: Client| client.send(b"OPTIONS / HT").reply();
    assert_manners("half a line", stops, Some("the request line is incomplete"), Waits::AQuarter);
}

#[test]
fn a_client_that_stops_in_the_headers_gets_the_verdict_after_a_quarter_of_the_budget() {
    let _shared = machine::share();
    let stops = |client: Client| client.send(b"OPTIONS / HTTP/1.1\r\nHost: db").reply();
    assert_manners("half a request", stops, None, Waits::AQuarter);
}

#[test]
fn a_client_that_closes_its_side_early_gets_a_whole_answer_at_once() {
    let _shared = machine::share();
    assert_manners("request, then FIN", |client| client.send(REQUEST).finish().reply(), None, Waits::No);
    assert_manners("FIN", |client| client.finish().reply(), None, Waits::No);
    let half = |client: Client| client.send(b"OPTIONS").finish().reply();
    assert_manners("half a line, then FIN", half, Some("the request line is incomplete"), Waits::No);
}

#[test]
fn a_client_that_goes_away_leaves_no_check_and_no_aborted_connection_behind() {
    let _shared = machine::share();
    let server = Server::start();
    let host = Host::start(&format!("{} {PATIENT}", local(&server)));
    let before = aborted(&server);
    for service in [STATUS, REPLICATION, GALERA] {
        converse(200, 10, |number| {
            let client = Client::connect(host.address(service)).send([&b""[..], b"OPTIONS", REQUEST][number % 3]);
            if number % 2 == 0 { client.reset() } else { client.leave() }
        });
    }
    host.until_no_check_runs();
    assert_eq!(aborted(&server), before);
    assert_reply(&http::get(host.address(STATUS)), "up", STATUS_UP);
}

// ---------------------------------------------------------------------------------------------------------------------
// The budget

/// A hundred checks over each way, twenty at a time in all: each is answered when its budget ends, not before and hardly later
/// than a plain `sleep` of the same time.
#[track_caller]
fn assert_in_time(step: &str, hosts: &[(&str, &Host)]) {
    let services = [STATUS, REPLICATION, GALERA];
    machine::in_time(step, || {
        let (replies, machine) = machine::beside_sleeps(BUDGET, 20, || {
            converse(100 * hosts.len(), 20, |number| {
                let (way, host) = hosts[number % hosts.len()];
                (way, http::get(host.address(services[number / hosts.len() % services.len()])))
            })
        });
        for (way, reply) in &replies {
            assert_reply(reply, "down", &format!("no verdict within 900ms (while {step})"));
            assert!(reply.elapsed >= BUDGET, "over {way}: {:?}", reply.elapsed);
        }
        for (way, _) in hosts {
            assert_eq!(replies.iter().filter(|(over, _)| over == way).count(), 100);
        }
        let last = replies.iter().map(|(_, reply)| reply.elapsed).max().unwrap();
        let told = format!("the slowest of {} answers after {last:?}, a sleep {machine:?} late", replies.len());
        eprintln!("{step}: {told}, {}", machine::load());
        if last <= BUDGET + LATE + machine { Ok(()) } else { Err(told) }
    });
}

#[test]
fn a_frozen_server_is_answered_for_in_time() {
    let _alone = machine::have();
    // The kernel holds the dead connections for a frozen server; its queue shall not be full before the end.
    let server = Server::start_with(&["back_log=400"]);
    let (socket, tcp) = (Host::start(&local(&server)), Host::start(&remote(server.address())));
    server.freeze();
    assert_in_time("logging in", &[("the socket", &socket), ("TCP", &tcp)]);
    server.thaw();
    assert_reply(&http::get(socket.address(STATUS)), "up", STATUS_UP);
}

#[test]
fn checks_that_share_are_answered_in_time_and_a_server_that_hangs_gets_one_of_them_at_a_time() {
    let _alone = machine::have();
    const ROUNDS: u64 = 6;
    let server = Server::start_with(&["back_log=400"]);
    let host = Host::start_shared(&local(&server));
    let before = server.counter("Connections");
    server.freeze();
    let mut late = Duration::ZERO;
    for _ in 0..ROUNDS {
        let (replies, machine) =
            machine::beside_sleeps(BUDGET, 10, || converse(10, 10, |_| http::get(host.address(STATUS))));
        for reply in replies {
            // One asked. The others hear of its failure, or it is too late for that, too.
            let step = ["logging in", "waiting for a shared answer", "answering"]
                .into_iter()
                .find(|step| reply.text().contains(step));
            assert_reply(
                &reply,
                "down",
                &format!("no verdict within 900ms (while {})", step.unwrap_or("nothing known")),
            );
            late = late.max(reply.elapsed.saturating_sub(BUDGET + machine));
        }
        wait::dawdle(SHARE);
    }
    eprintln!("sharing: {} answers, the slowest {late:?} later than a sleep", 10 * ROUNDS);
    // One late answer of sixty may be the machine's; the hundreds of the tests above are held to less.
    assert!(late <= 4 * LATE, "{late:?} later than a sleep, {}", machine::load());
    server.thaw();
    assert_reply(&http::get(host.address(STATUS)), "up", STATUS_UP);
    // One for each round, the last check, and the session that counts.
    assert_eq!(server.counter("Connections") - before, ROUNDS + 2);
}

#[test]
fn a_full_accept_queue_is_answered_for_in_time() {
    let _alone = machine::have();
    let scratch = Scratch::new("full");
    let path = scratch.join("full.sock");
    let unix = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let name = rustix::net::SocketAddrUnix::new(&path).unwrap();
    let _unix_queue = fake::fill(&unix, AddressFamily::UNIX, &name);
    let tcp = TcpListener::bind((address::fresh(), PORT)).unwrap();
    let there = tcp.local_addr().unwrap();
    let _tcp_queue = fake::fill(&tcp, AddressFamily::INET, &there);

    let over_socket = Host::start(&format!("--socket={}", path.display()));
    let over_tcp = Host::start(&remote(there));
    assert_in_time("connecting", &[("the socket", &over_socket), ("TCP", &over_tcp)]);
}

#[test]
fn a_request_longer_than_is_read_gets_no_reset_when_the_budget_ends() {
    let _shared = machine::share();
    let server = Server::start();
    let host = Host::start(&local(&server));
    server.freeze();
    let request =
        [&b"GET / HTTP/1.1\r\n"[..], &b"X-Filler: 0123456789abcdefghijklmnopqrstuvwxyz\r\n".repeat(400), b"\r\n"]
            .concat();
    for reply in converse(20, 20, |_| Client::connect(host.address(STATUS)).send(&request).reply()) {
        assert_reply(&reply, "down", "no verdict within 900ms (while logging in)");
    }
}

#[test]
fn an_answer_on_its_way_out_when_the_budget_ends_arrives_all_the_same() {
    let _shared = machine::share();
    let traces = Scratch::new("trace");
    // The verdict is there at once; the system holds its write until the budget is long over, and then has it made again.
    let host = Host::start_changed(&format!("{} --timeout=2s", local(replica())), |services, name| {
        let check = services.value(name, "server").unwrap();
        let arguments = services.value(name, "server_args").unwrap();
        let hold =
            format!("-f -qq -e inject=write:error=EINTR:delay_enter=4000000:when=1 -o {}", traces.join(name).display());
        services.set(name, "server", program("strace").display()).set(
            name,
            "server_args",
            format!("{hold} {check} {arguments}"),
        )
    });
    let reply = http::get(host.address(STATUS));
    assert_reply(&reply, "up", STATUS_UP);
    assert!(reply.elapsed > Duration::from_secs(4), "the write was not held: {reply:?}");
}

// ---------------------------------------------------------------------------------------------------------------------
// What the server sees

/// The counters that must not rise because of a check.
fn aborted(server: &Server) -> [u64; 3] {
    ["Aborted_clients", "Aborted_connects", "Connection_errors_peer_address"].map(|name| server.counter(name))
}

/// The account of [`local`], as the server writes it.
fn account() -> String {
    format!("{}@localhost", user::unprivileged().name)
}

#[test]
fn a_check_is_one_connect_one_query_and_one_quit() {
    let _shared = machine::share();
    let server = Server::start();
    let scratch = Scratch::new("cnf");
    let option_file = with_password(&scratch, "my.cnf", server.ip(), PASSWORD);
    for (host, account) in [
        (Host::start(&format!("{} {PATIENT}", local(&server))), account()),
        (Host::start(&format!("{option_file} {PATIENT}")), "mysqlchk_tcp@127.0.0.1".to_owned()),
    ] {
        for (service, query) in [
            (STATUS, "Query SELECT @@global.read_only"),
            (REPLICATION, "Query SELECT @@global.skip_networking AS skip_networking; SHOW ALL SLAVES STATUS"),
            (GALERA, "Query SELECT VARIABLE_NAME"),
        ] {
            let log = server.watch_queries();
            converse(10, 5, |_| assert_ne!(http::get(host.address(service)).status(), 0));
            for session in log.until_sessions(&account, 10) {
                assert_eq!(session.len(), 3, "{session:?}");
                assert!(session[0].starts_with(&format!("Connect {account} ")), "{session:?}");
                assert!(session[1].starts_with(query), "{session:?}");
                assert_eq!(session[2], "Quit");
            }
        }
    }
}

#[test]
fn the_checks_of_half_a_second_share_one_connection() {
    let _shared = machine::share();
    let server = Server::start();
    let host = Host::start_shared(&format!("{} {PATIENT}", local(&server)));
    for (service, verdict, reason) in [
        (STATUS, "up", STATUS_UP),
        (REPLICATION, "down", "no replication is configured"),
        (GALERA, "down", GALERA_DOWN),
    ] {
        let (log, begin) = (server.watch_queries(), Instant::now());
        converse(60, 6, |_| assert_reply(&http::get(host.address(service)), verdict, reason));
        let most = begin.elapsed().as_millis() / SHARE.as_millis() + 1;
        let finished = |sessions: &[Vec<String>]| sessions.iter().all(|session| session.last().unwrap() == "Quit");
        wait::until("the server has heard every goodbye", BOUND, || finished(&log.sessions_of(&account())));
        let sessions = log.sessions_of(&account());
        assert!((1..=most).contains(&(sessions.len() as u128)), "{} sessions, not 1 to {most}", sessions.len());
        assert!(sessions.iter().all(|session| session.len() == 3), "{sessions:?}");
    }
}

#[test]
fn a_thousand_checks_abort_nothing() {
    let _shared = machine::share();
    let server = Server::start();
    let host = Host::start(&format!("{} {PATIENT}", local(&server)));
    let (log, before) = (server.watch_queries(), aborted(&server));
    let begin = Instant::now();
    let replies = converse(1000, 4, |number| {
        let (service, verdict, reason) = [
            (STATUS, "up", STATUS_UP),
            (REPLICATION, "down", "no replication is configured"),
            (GALERA, "down", GALERA_DOWN),
        ][number % 3];
        assert_reply(&http::get(host.address(service)), verdict, reason);
    });
    eprintln!("1000 checks, 4 at a time: {:?}", begin.elapsed());
    assert_eq!(replies.len(), 1000);
    for session in log.until_sessions(&account(), 1000) {
        assert_eq!(session.len(), 3, "{session:?}");
    }
    assert_eq!(aborted(&server), before);
}

// ---------------------------------------------------------------------------------------------------------------------
// What is wrong behind the service

/// Starts one service a case, each with its own arguments, behind one xinetd; and asserts a whole 503 with the reason.
#[track_caller]
fn assert_reasons(cases: &[(&str, String, String)]) {
    let scratch = Scratch::new("wrong");
    let usual = format!("{} {PATIENT}", local(replica()));
    let mut files = Vec::new();
    for (number, (service, arguments, _)) in cases.iter().enumerate() {
        let file = if *service == GALERA { "galera-chk" } else { "mysqlchk" };
        let services = ship(file, &format!("{usual} {arguments}"), &scratch);
        files.push(
            services
                .names()
                .iter()
                .fold(services, |services, name| services.set(name, "id", format!("{name}-{number}"))),
        );
    }
    let _xinetd = Xinetd::start(&files);
    for ((service, arguments, reason), file) in cases.iter().zip(&files) {
        machine::in_time(&format!("{service} {arguments}"), || {
            let reply = http::get(file.address(service));
            assert_eq!((reply.text(), reply.reset), (response("down", reason), false), "{service} {arguments}");
            if reply.elapsed < BUDGET / 2 { Ok(()) } else { Err(format!("{:?}", reply.elapsed)) }
        });
    }
}

#[test]
fn wrong_arguments_are_a_whole_503_that_says_what_is_wrong() {
    let _shared = machine::share();
    let print = "`--help`, `--version` and `--print-defaults` cannot be used in a service";
    assert_reasons(
        &[
            (STATUS, "--no-such-option", "unknown option `--no-such-option`, see --help"),
            (REPLICATION, "--max-lag 30", "`--max-lag 30`: a duration needs a unit: write `30s` or `30ms`"),
            (GALERA, "--timeout 0ms", "`--timeout 0ms`: must be longer than 0"),
            (
                GALERA,
                "--min-cluster-size=two",
                "`--min-cluster-size two`: must be a number from 0 to 18446744073709551615",
            ),
            (STATUS, "--help", print),
            (REPLICATION, "--version", print),
            (GALERA, "--print-defaults", print),
            (STATUS, "stray", "unexpected argument: there are only options, see --help"),
            (STATUS, "--password=hunter2", "a password option would show in ps: write `password=` in an option file"),
            (
                STATUS,
                "--require-writable --require-read-only",
                "`--require-writable` and `--require-read-only` exclude each other",
            ),
        ]
        .map(|(service, arguments, reason)| (service, arguments.to_owned(), reason.to_owned())),
    );
}

#[test]
fn an_option_file_that_cannot_be_used_is_a_whole_503_that_says_why() {
    let _shared = machine::share();
    let scratch = Scratch::new("cnf");
    let mut cases = vec![(
        STATUS,
        "--defaults-file=/nowhere/my.cnf".to_owned(),
        "cannot read option file /nowhere/my.cnf: no such file".to_owned(),
    )];
    let mut case = |service, name: &str, text: &str, mode: u32, reason: &dyn Fn(&str) -> String| {
        let file = scratch.file(name, text);
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let file = file.display().to_string();
        cases.push((service, format!("--defaults-file={file}"), reason(&file)));
    };
    case(STATUS, "a.cnf", "[client]\n\nuser = 'nobody\n", 0o644, &|file| {
        format!("{file}:3: a quoted value does not end with its quote")
    });
    case(REPLICATION, "b.cnf", "max-lag = 30s\n", 0o600, &|file| {
        format!("{file}:1: an option before the first [group]")
    });
    case(GALERA, "c.cnf", "[client\n", 0o600, &|file| format!("{file}:1: a group is `[name]` and nothing else"));
    case(REPLICATION, "d.cnf", "[mysqlchk-replication]\nmax_lag = 30\n", 0o644, &|file| {
        format!("{file}:2: `--max-lag 30`: a duration needs a unit: write `30s` or `30ms`")
    });
    case(STATUS, "e.cnf", "[mysqlchk-status]\nmax-lag = 30s\n", 0o644, &|file| {
        format!("{file}:2: this is not an option of mysqlchk-status for an option file")
    });
    case(GALERA, "f.cnf", "", 0o646, &|file| {
        format!("cannot read option file {file}: others may write it (mode 0646): run `chmod go-w` on it")
    });
    if user::is_root() {
        let unreadable = scratch.join("g.cnf");
        fs::write(&unreadable, "[client]\n").unwrap();
        fs::set_permissions(&unreadable, Permissions::from_mode(0o600)).unwrap();
        let file = unreadable.display();
        let uid = user::unprivileged().uid;
        cases.push((
            STATUS,
            format!("--defaults-file={file}"),
            format!("cannot read option file {file}: permission denied (uid {uid})"),
        ));
    }
    assert_reasons(&cases);
}

#[test]
fn whatever_a_server_sends_the_client_gets_a_whole_503() {
    let _shared = machine::share();
    let scratch = Scratch::new("fake");
    let option_file = scratch.file("my.cnf", format!("[client]\npassword = {PASSWORD}\n"));
    let ok = |number| packet(number, OK);
    let switch_to = |plugin: &str| packet(2, &[b"\xfe", plugin.as_bytes(), b"\0", &[b'n'; 32]].concat());
    const GAVE_UP: &str = "the reply could not be parsed";
    const NO_PROTOCOL: &str = "cannot log in: the reply is not the MySQL protocol";
    let sha2 = || switch_to("caching_sha2_password");
    let columns = |count: [u8; 8]| packet(1, &[&[0xfe], &count[..]].concat());
    let cases = [
        ("an empty greeting", vec![packet(0, b"")], "cannot log in: the server closed the connection"),
        ("another protocol", vec![b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()], NO_PROTOCOL),
        ("a packet out of order", vec![packet(9, b"\x0a")], NO_PROTOCOL),
        ("an empty answer to the login", vec![greeting(), packet(2, b"")], GAVE_UP),
        ("an empty answer to ed25519", vec![greeting(), switch_to("client_ed25519"), packet(4, b"")], GAVE_UP),
        ("half an order to go on", vec![greeting(), sha2(), packet(4, &[1])], GAVE_UP),
        ("a key that is none", vec![greeting(), sha2(), packet(4, &[1, 4]), packet(6, b"\x01no key")], GAVE_UP),
        (
            "a login in the clear",
            vec![greeting(), switch_to("mysql_clear_password")],
            "cannot log in: authentication plugin `mysql_clear_password` is not supported",
        ),
        (
            "a login of before 4.1",
            vec![greeting(), packet(2, b"\xfe")],
            "cannot log in: the server asks for an unsafe authentication plugin",
        ),
        (
            "an unknown login",
            vec![greeting(), switch_to("no_such_plugin")],
            "cannot log in: authentication plugin `no_such_plugin` is not supported",
        ),
        ("an empty answer to the query", vec![greeting(), ok(2), packet(1, b"")], GAVE_UP),
        ("more columns than a number holds", vec![greeting(), ok(2), columns([255; 8])], GAVE_UP),
        // The driver makes room for as many as it is told; without the memory std aborts the process, with a message.
        ("more columns than memory holds", vec![greeting(), ok(2), columns([0, 0, 0, 0, 0, 1, 0, 0])], GAVE_UP),
        (
            "an empty column",
            vec![greeting(), ok(2), [packet(1, &[1]), packet(2, b"")].concat()],
            "cannot query: the server closed the connection",
        ),
        (
            "a wish for a file",
            vec![greeting(), ok(2), packet(1, b"\xfb/etc/passwd"), ok(3)],
            "cannot query: the answer has no columns",
        ),
    ];
    let fakes = cases.clone().map(|(_, says, _)| Fake::sending(says));
    let told: Vec<_> = cases
        .iter()
        .zip(&fakes)
        .map(|((_, _, reason), fake)| {
            (
                STATUS,
                format!("--defaults-file={} {}", option_file.display(), remote(fake.address)),
                (*reason).to_owned(),
            )
        })
        .collect();
    assert_reasons(&told);
    for ((what, ..), fake) in cases.iter().zip(&fakes) {
        let received = fake.received();
        assert!(!received.contains(PASSWORD) && !received.contains("root:x:"), "{what}: {received}");
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The limits of the service

#[test]
fn a_client_above_a_limit_gets_the_banner_and_the_service_stays() {
    let _shared = machine::share();
    let server = Server::start_with(&["back_log=400"]);
    // Four sources are needed to come to 200; and time, to get there before the first ones have their answer.
    let host = Host::start_changed(&format!("{} --timeout=5m", local(&server)), |services, name| {
        services.set(name, "only_from", "127.0.0.0/8")
    });
    let address = host.address(STATUS);
    let source = |number| Ipv4Addr::new(127, 0, 0, number);
    let refused = |limit: &str, number| {
        // The log has it a moment later than the client has its banner.
        let line = format!("FAIL: {STATUS} {limit} from={}", source(number));
        wait::until_ok(&line, BOUND, || {
            let log = host.xinetd.log();
            if log.contains(&line) { Ok(()) } else { Err(log) }
        });
    };
    let mut held = Vec::new();
    server.freeze();
    for number in 1..=4 {
        held.extend((0..50).map(|_| connect_from(source(number), address, REQUEST)));
        wait::until_equal("the checks that run", BOUND, held.len(), || host.checks().len());
        // With the fourth the service is full.
        if number == 4 {
            break;
        }
        assert_refused(source(number), address, 5);
        refused("per_source_limit", number);
    }
    assert_refused(source(5), address, 5);
    refused("service_limit", 5);
    assert_eq!(host.checks().len(), 200);

    server.thaw();
    for client in held {
        assert_reply(&read_all(client), "up", STATUS_UP);
    }
    host.until_no_check_runs();
    assert_reply(&read_all(connect_from(source(1), address, REQUEST)), "up", STATUS_UP);
}

#[test]
fn an_address_that_may_not_ask_gets_the_banner_or_nothing() {
    let _shared = machine::share();
    let host = Host::start(&format!("{} {PATIENT}", local(replica())));
    let stranger = Ipv4Addr::new(127, 0, 0, 2);
    for service in [STATUS, REPLICATION, GALERA] {
        assert_refused(stranger, host.address(service), 20);
        let reply = read_all(connect_from(Ipv4Addr::LOCALHOST, host.address(service), REQUEST));
        assert!(reply.status() != 0 && !reply.reset, "{reply:?}");
    }
    let line = format!("FAIL: {STATUS} address from={stranger}");
    wait::until_equal(&line, BOUND, 40, || host.xinetd.log().matches(&line).count());
}

#[test]
fn what_a_client_may_see_that_is_turned_away() {
    let banner = response("down", "this address may not ask");
    let seen = |request, text: &str, reset| {
        refusal(&banner, request, &Reply { bytes: text.into(), reset, elapsed: Duration::ZERO }).ok()
    };
    for request in [REQUEST, b""] {
        assert_eq!(seen(request, &banner, false), Some(true));
        // Part of it is no answer, and no other answer is one.
        for wrong in [&banner[..banner.len() - 1], "HTTP/1.1", &response("up", STATUS_UP), "x"] {
            assert_eq!([seen(request, wrong, false), seen(request, wrong, true)], [None; 2], "{wrong:?}");
        }
    }
    assert_eq!([seen(REQUEST, &banner, true), seen(b"", &banner, true)], [Some(true), None]);
    for reset in [false, true] {
        assert_eq!([seen(REQUEST, "", reset), seen(b"", "", reset)], [Some(false), None]);
    }
}

#[test]
fn sixty_checks_in_a_second_do_not_switch_the_service_off() {
    let _shared = machine::share();
    const CHECKS: usize = 240;
    // Without a panic: what is counted is connections, and a refused one is what is looked for.
    let ask = |address: SocketAddr| {
        let mut client = TcpStream::connect(address).ok()?;
        client.write_all(REQUEST).ok()?;
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).ok()?;
        (!bytes.is_empty()).then_some(bytes)
    };
    let crowd = |host: &Host| {
        let begin = Instant::now();
        let answers = converse(CHECKS, 20, |_| ask(host.address(STATUS)));
        (answers.iter().filter(|answer| answer.is_some()).count(), begin.elapsed())
    };
    let host = Host::start(&format!("{} {PATIENT}", local(replica())));
    // However often it takes on a busy machine to come to sixty in a second: none is refused.
    machine::in_time("sixty checks in a second", || {
        let (answered, time) = crowd(&host);
        assert_eq!(answered, CHECKS, "{}", host.xinetd.log());
        let rate = CHECKS as f64 / time.as_secs_f64();
        if rate >= 60.0 { Ok(()) } else { Err(format!("{rate:.0} in a second")) }
    });
    assert!(!host.xinetd.log().contains("Deactivating"), "{}", host.xinetd.log());
    // What xinetd does on its own.
    let host = Host::start_changed(&local(replica()), |services, name| services.set(name, "cps", "50 10"));
    machine::in_time("more than fifty in a second", || match crowd(&host) {
        (answered, time) if answered == CHECKS => Err(format!("{CHECKS} in {time:?}")),
        _ => Ok(()),
    });
    assert!(host.xinetd.log().contains("Deactivating"), "{}", host.xinetd.log());
}

// ---------------------------------------------------------------------------------------------------------------------
// The password

#[test]
fn the_password_is_in_no_place_where_it_could_be_read() {
    let _shared = machine::share();
    let server = Server::start();
    let scratch = Scratch::new("secret");
    let right = with_password(&scratch, "right.cnf", server.ip(), PASSWORD);
    let wrong = with_password(&scratch, "wrong.cnf", server.ip(), "hunter2");
    for (option_file, password) in [(&right, PASSWORD), (&wrong, "hunter2")] {
        let host = Host::start_shared(&format!("{option_file} {PATIENT}"));
        for (service, up) in [(STATUS, STATUS_UP), (REPLICATION, "no replication is configured"), (GALERA, GALERA_DOWN)]
        {
            let reply = http::get(host.address(service));
            match password {
                PASSWORD => assert_reply(&reply, if service == STATUS { "up" } else { "down" }, up),
                _ => assert_reply(&reply, "down", "cannot log in: access denied (1045)"),
            }
        }
        let shared: Vec<_> =
            fs::read_dir(host.scratch.join("state")).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(shared.len(), 3);
        for file in shared {
            let content = fs::read(&file).unwrap();
            assert!(!String::from_utf8_lossy(&content).contains(password), "{}", file.display());
        }
    }

    let host = Host::start(&right);
    server.freeze();
    for service in [STATUS, REPLICATION, GALERA] {
        let client = Client::connect(host.address(service)).send(REQUEST);
        let [check] = wait::until_some("the check runs", BOUND, || <[u32; 1]>::try_from(host.checks()).ok());
        // Looked at over its whole life: what it writes there itself counts, too.
        let mut seen = BTreeMap::new();
        wait::until("the check ends", BOUND, || {
            for file in ["cmdline", "environ"] {
                let text = fs::read(format!("/proc/{check}/{file}")).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                assert!(!text.contains(PASSWORD), "{file} of {service}: {text}");
                if !text.is_empty() {
                    seen.insert(file, text);
                }
            }
            !host.checks().contains(&check)
        });
        assert!(seen["cmdline"].contains(&right), "{seen:?}");
        assert_eq!(seen["environ"], "REMOTE_HOST=127.0.0.1\0");
        assert_reply(&client.reply(), "down", "no verdict within 900ms (while logging in)");

        let printed = Check::new(service).args([&right, "--print-defaults"]).run();
        assert!(printed.stdout.contains("--user=mysqlchk_tcp\n--host="), "{printed:?}");
        assert!(printed.stdout.contains("--password=*****\n") && !printed.stdout.contains(PASSWORD), "{printed:?}");
    }
}
