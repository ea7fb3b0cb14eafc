//! The site of `haproxy/failover.cfg`: two masters, three replicas, an xinetd for each, `HAProxy` in front, and clients
//! that write and read without pause and know which server answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

pub use crate::front::{READ, WRITE};
use crate::haproxy::{Haproxy, Release};
use crate::notes::Notes;
use crate::program::binary;
use crate::replica::{self, Link};
use crate::scratch::Scratch;
use crate::server::{PASSWORD, PORT, Server};
use crate::software::Software;
use crate::xinetd::{Services, Xinetd};
use crate::{address, http, shipped, user, wait};

/// The servers, as `HAProxy` calls them; the first two are the masters.
pub const NAMES: [&str; 5] = ["db01", "db02", "db03", "db04", "db05"];
/// Whom each replicates from.
const SOURCES: [usize; 5] = [1, 0, 0, 0, 1];

/// For a process to start, and for what it then needs.
const BOUND: Duration = Duration::from_secs(60);

// ---------------------------------------------------------------------------------------------------------------------
// The table

/// Where writes and reads go: a row of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Routes {
    /// The writer's name.
    pub write: Option<&'static str>,
    /// The names of those who take reads.
    pub read: BTreeSet<&'static str>,
}

/// The settled rows 0 to 6 of the table.
#[must_use]
pub fn row(number: usize) -> Routes {
    let (write, read) = match number {
        0 => (Some("db01"), &NAMES[..]),
        1 | 4 => (Some("db01"), &["db01", "db03", "db04"][..]),
        2 | 5 => (Some("db02"), &["db02", "db05"][..]),
        3 => (None, &["db01", "db02"][..]),
        6 => (None, &[][..]),
        _ => panic!("the table has no row {number}"),
    };
    Routes { write, read: read.iter().copied().collect() }
}

/// What can happen to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The applier meets a duplicate key.
    DuplicateKey,
    /// Somebody stopped the receiver.
    StopReceiver,
    /// Somebody stopped the applier.
    StopApplier,
    /// A locked table, and an event that has waited for it for a minute.
    Lag,
    /// The same for ten seconds, which is below the limit.
    Behind,
    /// The replica is told to stay an hour behind: no fault, only the lag beyond that counts.
    Delay,
    /// The receiver cannot reach a source that is there.
    Connecting,
    /// `kill -9`.
    Kill,
    /// Ended in good order.
    Stop,
    /// SIGSTOP: connections are accepted, and nothing answers.
    Freeze,
    /// No connection is left.
    Exhaust,
    /// The checks are gone, the server is well.
    NoXinetd,
    /// `read_only`.
    ReadOnly,
    /// It hands out the other one's values.
    AutoIncrement,
    /// An operator takes it out, with `mysqlchk-ctl drain`.
    Drain,
    /// Two of its rows exchange a value, behind everybody's back; then a comparison.
    Drift,
}

impl Fault {
    /// All, in the order of the list.
    pub const ALL: [Self; 16] = [
        Self::DuplicateKey,
        Self::StopReceiver,
        Self::StopApplier,
        Self::Lag,
        Self::Behind,
        Self::Delay,
        Self::Connecting,
        Self::Kill,
        Self::Stop,
        Self::Freeze,
        Self::Exhaust,
        Self::NoXinetd,
        Self::ReadOnly,
        Self::AutoIncrement,
        Self::Drain,
        Self::Drift,
    ];

    /// One word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::DuplicateKey => "duplicate-key",
            Self::StopReceiver => "stop-receiver",
            Self::StopApplier => "stop-applier",
            Self::Lag => "lag",
            Self::Behind => "behind",
            Self::Delay => "delay",
            Self::Connecting => "connecting",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::Exhaust => "exhaust",
            Self::NoXinetd => "no-xinetd",
            Self::ReadOnly => "read-only",
            Self::AutoIncrement => "auto-increment",
            Self::Drain => "drain",
            Self::Drift => "drift",
        }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The site

/// The five servers and their checks.
#[derive(Debug)]
pub struct Site {
    servers: &'static [Server; 5],
    links: [Link<'static>; 5],
    notes: [Notes; 5],
    services: [Services; 5],
    xinetd: [Mutex<Option<Xinetd>>; 5],
    /// What is wrong now, in the order it happened.
    broken: Mutex<Vec<(usize, Fault)>>,
    /// The sessions that leave no connection to others.
    held: Mutex<Vec<(usize, Conn)>>,
    /// What the comparisons printed.
    compared: Mutex<Vec<String>>,
    scratch: Scratch,
}

impl Site {
    /// Starts everything but `HAProxy`; all replicate.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_at([(); 5].map(|()| address::fresh()))
    }

    /// The same, reached at these addresses.
    #[must_use]
    #[track_caller]
    pub fn start_at(addresses: [Ipv4Addr; 5]) -> Self {
        let scratch = Scratch::new("site");
        let started = [0, 1, 2, 3, 4].map(|number| {
            let lines = match number {
                0 => "auto_increment_increment=2\nauto_increment_offset=1",
                1 => "auto_increment_increment=2\nauto_increment_offset=2",
                _ => "",
            };
            // What was acknowledged is there after kill -9, as on a real server.
            let address = SocketAddrV4::new(addresses[number], PORT);
            let lines = format!("{lines}\ninnodb_flush_log_at_trx_commit=2\ngeneral_log=OFF");
            thread::spawn(move || {
                let server = Server::prepare(Software::MariaDb, address, Software::MariaDb.template(), &[&lines]);
                server.restart();
                server
            })
        });
        let servers: &'static [Server; 5] = Box::leak(Box::new(started.map(|server| server.join().unwrap())));
        servers[0].sql(
            "CREATE TABLE lab.w (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, client INT, n INT) ENGINE=InnoDB;
             CREATE TABLE lab.k (id INT PRIMARY KEY, extra BOOL NOT NULL) ENGINE=InnoDB;
             CREATE DATABASE shop; USE shop;
             CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(20) NOT NULL, paid TINYINT NOT NULL);
             INSERT INTO orders SELECT seq, CONCAT('customer ', seq % 7), seq % 2 FROM seq_1_to_1000",
        );
        let account = &user::unprivileged().name;
        servers[0].sql(&format!("CREATE DATABASE mysqlchk; GRANT SELECT ON mysqlchk.* TO `{account}`@localhost"));
        let links = [1, 0, 2, 3, 4].map(|number| servers[number].follow(&servers[SOURCES[number]]));
        let [second, first, third, fourth, fifth] = links;
        let links = [first, second, third, fourth, fifth];
        let notes = [(); 5].map(|()| Notes::new());
        let services = [0, 1, 2, 3, 4].map(|number| services(number, &servers[number], &scratch, &notes[number]));
        let xinetd = [0, 1, 2, 3, 4]
            .map(|number: usize| Mutex::new(Some(Xinetd::start(std::slice::from_ref::<Services>(&services[number])))));
        let site = Self {
            servers,
            links,
            notes,
            services,
            xinetd,
            broken: Mutex::default(),
            held: Mutex::default(),
            compared: Mutex::default(),
            scratch,
        };
        site.until_replicated();
        // Makes the table of the verdicts: without it a check that must read it is down.
        site.compare(1, &[]);
        site.until_replicated();
        site.comparisons();
        site
    }

    /// A server, by its number from 0.
    #[must_use]
    pub fn server(&self, number: usize) -> &'static Server {
        &self.servers[number]
    }

    /// The addresses of the servers.
    #[must_use]
    pub fn addresses(&self) -> [Ipv4Addr; 5] {
        [0, 1, 2, 3, 4].map(|number| self.server(number).ip())
    }

    /// The environment that points `haproxy/failover.cfg` at this site, with `HAProxy` itself at `front`.
    #[must_use]
    pub fn environment(&self, front: Ipv4Addr) -> Vec<(String, String)> {
        let account = user::unprivileged();
        let servers =
            NAMES.iter().enumerate().map(|(number, name)| (name.to_uppercase(), self.server(number).ip().to_string()));
        let own = [
            ("WRITE_BIND", format!("{front}:{WRITE}")),
            ("READ_BIND", format!("{front}:{READ}")),
            ("DECISIONS", format!("{front}:9300")),
            ("STATS_BIND", format!("{front}:8404")),
            ("PEER_BIND", format!("{front}:10000")),
            ("RUN_AS_USER", account.name.clone()),
            ("RUN_AS_GROUP", account.group.clone()),
        ];
        servers.chain(own.map(|(name, value)| (name.to_owned(), value))).collect()
    }

    /// Breaks a server, and returns at once: the moment just before, which is when it happened.
    #[track_caller]
    pub fn break_by(&self, number: usize, fault: Fault) -> Instant {
        let (server, link) = (self.server(number), &self.links[number]);
        self.broken().push((number, fault));
        // What takes long to prepare.
        let key = unique();
        match fault {
            Fault::DuplicateKey => server.sql(&format!("SET sql_log_bin=OFF; INSERT INTO lab.k VALUES ({key}, TRUE)")),
            Fault::Exhaust => {
                let sessions = (0..12).map(|_| (number, server.session()));
                lock(&self.held).extend(sessions);
            }
            _ => {}
        }
        let begin = Instant::now();
        match fault {
            Fault::DuplicateKey => {
                self.server(SOURCES[number]).sql(&format!("INSERT INTO lab.k VALUES ({key}, FALSE)"));
            }
            Fault::StopReceiver => link.break_by(replica::Fault::StopReceiver),
            Fault::StopApplier => link.break_by(replica::Fault::StopApplier),
            Fault::Lag => link.break_by(replica::Fault::Lag(Duration::from_secs(60))),
            Fault::Behind => link.break_by(replica::Fault::Lag(Duration::from_secs(10))),
            Fault::Delay => link.break_by(replica::Fault::Delay(Duration::from_secs(3600))),
            Fault::Connecting => link.break_by(replica::Fault::Unreachable),
            Fault::Kill => server.kill9(),
            Fault::Stop => server.stop(),
            Fault::Freeze => server.freeze(),
            Fault::Exhaust => {
                let mut held = lock(&self.held);
                let (_, session) = held.iter_mut().find(|(at, _)| *at == number).unwrap();
                session.query_drop("SET GLOBAL max_connections=10").unwrap();
            }
            Fault::NoXinetd => drop(lock(&self.xinetd[number]).take()),
            Fault::ReadOnly => server.sql("SET GLOBAL read_only=1"),
            Fault::AutoIncrement => server.sql("SET GLOBAL auto_increment_offset=3-@@GLOBAL.auto_increment_offset"),
            Fault::Drain => drop(self.notes[number].ctl_ok(&["drain", "--reason=kernel upgrade", "--no-end"])),
            Fault::Drift => {
                self.exchange_rows(number);
                self.compare(number, &[]);
            }
        }
        begin
    }

    /// Waits until the checks of a server tell that something is wrong with it, or that nothing is: an answer from before
    /// is shared for a while.
    #[track_caller]
    pub fn until_told(&self, number: usize, wrong: bool) {
        let services = &self.services[number];
        let is_wrong = |name: &String| {
            let address = services.address(name);
            let told = address::listens(address).then(|| http::get(address));
            told.is_none_or(|reply| reply.status() != 200 || reply.body().contains("Connecting"))
        };
        wait::until(&format!("the checks of {} tell whether it is wrong: {wrong}", NAMES[number]), BOUND, || {
            services.names().iter().any(is_wrong) == wrong
        });
    }

    /// Makes all well again, and waits until all replicate.
    #[track_caller]
    pub fn heal(&self) {
        let broken = std::mem::take(&mut *self.broken());
        self.undo(&broken);
        self.until_replicated();
    }

    /// Makes one server well again, and does not wait.
    #[track_caller]
    pub fn heal_one(&self, number: usize) {
        let broken = self.broken().extract_if(.., |(broken, _)| *broken == number).collect::<Vec<_>>();
        self.undo(&broken);
    }

    #[track_caller]
    fn undo(&self, broken: &[(usize, Fault)]) {
        // First the servers, then what needs two of them.
        for &(number, fault) in broken {
            let server = self.server(number);
            match fault {
                Fault::Kill | Fault::Stop => server.restart(),
                Fault::Freeze => server.thaw(),
                Fault::Exhaust => {
                    let mut held = lock(&self.held);
                    let (_, session) = held.iter_mut().find(|(at, _)| *at == number).unwrap();
                    session.query_drop("SET GLOBAL max_connections=151").unwrap();
                    held.retain(|(at, _)| *at != number);
                }
                Fault::NoXinetd => {
                    *lock(&self.xinetd[number]) = Some(Xinetd::start(std::slice::from_ref(&self.services[number])));
                }
                Fault::ReadOnly => server.sql("SET GLOBAL read_only=0"),
                Fault::Drain => drop(self.notes[number].ctl_ok(&["up"])),
                Fault::AutoIncrement => {
                    server.sql("SET GLOBAL auto_increment_offset=3-@@GLOBAL.auto_increment_offset");
                }
                _ => {}
            }
        }
        for &(number, fault) in broken {
            match fault {
                Fault::DuplicateKey => {
                    self.server(number).sql("SET sql_log_bin=OFF; DELETE FROM lab.k WHERE extra");
                    self.links[number].heal();
                }
                Fault::StopReceiver
                | Fault::StopApplier
                | Fault::Lag
                | Fault::Behind
                | Fault::Delay
                | Fault::Connecting => self.links[number].heal(),
                _ => {}
            }
        }
        // Last what needs a replica that applies.
        for &(number, _) in broken.iter().filter(|(_, fault)| *fault == Fault::Drift) {
            self.exchange_rows(number);
            self.links[number].until_caught_up();
            self.compare(number, &["--recheck"]);
        }
    }

    /// Exchanges a value between two rows of this server only, different rows on each server. Done twice it is undone. A
    /// checksum that adds up CRC32 with XOR does not change.
    #[track_caller]
    fn exchange_rows(&self, number: usize) {
        let (one, other) = (2 * number + 1, 2 * number + 2);
        self.server(number)
            .sql(&format!("SET sql_log_bin=OFF; UPDATE shop.orders SET paid = 1 - paid WHERE id IN ({one}, {other})"));
    }

    /// Runs `mysqlchk-consistency` on the source of a server.
    #[track_caller]
    fn compare(&self, number: usize, words: &[&str]) {
        let source = self.server(SOURCES[number]).ip();
        let account = format!("[mysqlchk-consistency]\nuser=admin\npassword={PASSWORD}\n");
        let file = self.scratch.file("consistency.cnf", account);
        let mut command = Command::new(binary("mysqlchk-consistency"));
        command.arg(format!("--defaults-file={}", file.display())).arg(format!("--host={source}")).args(words);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let names = self.addresses().into_iter().zip(NAMES);
        let text = names.fold(text, |text, (ip, name)| text.replace(&format!("{ip}:"), &format!("{name}:")));
        let command = ["mysqlchk-consistency"].iter().chain(words).copied().collect::<Vec<_>>().join(" ");
        let mut compared = lock(&self.compared);
        compared.push(format!("# {command}"));
        compared.extend(text.lines().map(str::to_owned));
    }

    /// What the comparisons printed since this was called last, with the names of the servers.
    pub fn comparisons(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.compared))
    }

    /// Whether nothing was done to a server since the last cure.
    #[must_use]
    pub fn is_well(&self, number: usize) -> bool {
        self.broken().iter().all(|(broken, _)| *broken != number)
    }

    /// Waits until everybody replicates.
    #[track_caller]
    pub fn until_replicated(&self) {
        for link in &self.links {
            link.until_caught_up();
        }
    }

    /// The arguments that the service of a check has on a server.
    #[must_use]
    #[track_caller]
    pub fn arguments(&self, number: usize, service: &str) -> String {
        self.services[number].value(service, "server_args").unwrap()
    }

    /// Where the service of a check answers.
    #[must_use]
    #[track_caller]
    pub fn address(&self, number: usize, service: &str) -> SocketAddr {
        self.services[number].address(service)
    }

    /// The xinetd of a server, to do to it what is no fault of the list.
    pub fn xinetd(&self, number: usize) -> MutexGuard<'_, Option<Xinetd>> {
        lock(&self.xinetd[number])
    }

    fn broken(&self) -> MutexGuard<'_, Vec<(usize, Fault)>> {
        lock(&self.broken)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for server in self.servers {
            server.kill9();
        }
    }
}

/// The shipped services, and the option file that docs/failover.md gives a server of this number.
fn services(number: usize, server: &Server, scratch: &Scratch, notes: &Notes) -> Services {
    let file = scratch.file(&format!("my{number}.cnf"), option_file(number));
    let services = notes.services(shipped::services("mysqlchk", server));
    let services = services.append("mysqlchk-replication", "server_args", "--require-consistent");
    services.names().iter().fold(services, |services, name| {
        services.set(name, "only_from", "127.0.0.0/8 10.0.0.0/8").append(
            name,
            "server_args",
            &format!("--defaults-file={}", file.display()),
        )
    })
}

/// The lines that docs/failover.md has for `/etc/mysqlchk/my.cnf`: of `db01`, of `db02`, none of a replica.
#[must_use]
pub fn option_file(number: usize) -> String {
    let page = fs::read_to_string(shipped::file("docs/failover.md")).unwrap();
    let heading = format!("# /etc/mysqlchk/my.cnf on {}\n", NAMES[number]);
    page.split_once(&heading).map_or(String::new(), |(_, rest)| rest.split("```").next().unwrap().to_owned())
}

/// A number that was not given before.
fn unique() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---------------------------------------------------------------------------------------------------------------------
// The front

/// `HAProxy` with `haproxy/failover.cfg` in front of a site.
#[derive(Debug)]
pub struct Front {
    /// The process and its statistics.
    pub haproxy: Haproxy,
    /// Where it is reached.
    pub ip: Ipv4Addr,
    addresses: [Ipv4Addr; 5],
    _scratch: Scratch,
}

impl Front {
    /// Starts a release, on an address of its own, with more environment.
    #[must_use]
    #[track_caller]
    pub fn start(site: &Site, release: Release, more: &[(&str, &str)]) -> Self {
        let mut command = release.command();
        user::drop_to_unprivileged(&mut command);
        Self::start_at(site, address::fresh(), command, more)
    }

    /// Starts a command that runs it, at this address.
    #[must_use]
    #[track_caller]
    pub fn start_at(site: &Site, ip: Ipv4Addr, command: Command, more: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("front");
        let mut environment = site.environment(ip);
        environment.push(("STATS_SOCKET".to_owned(), scratch.join("stats.sock").display().to_string()));
        environment.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let environment: Vec<_> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let haproxy = Haproxy::start_by(command, configuration(), &environment);
        Self { haproxy, ip, addresses: site.addresses(), _scratch: scratch }
    }

    /// What `HAProxy` would do with a new connection, by its own statistics.
    #[must_use]
    #[track_caller]
    pub fn routes(&self) -> Routes {
        let mut routes = Routes::default();
        for line in self.haproxy.servers().into_iter().filter(|line| line.status.starts_with("UP")) {
            let Some(name) = NAMES.into_iter().find(|name| *name == line.server) else { continue };
            match &*line.proxy {
                // The first that is up; the other one is its backup.
                "write" if routes.write.is_none() => routes.write = Some(name),
                "read" => drop(routes.read.insert(name)),
                _ => {}
            }
        }
        // Sticky: the one in the table, while it is up.
        let table = self.haproxy.ask("show table write");
        let named = NAMES.into_iter().find(|name| table.contains(&format!("server_key={name}")));
        if let Some(name) = named.filter(|name| self.haproxy.server("write", name).status.starts_with("UP")) {
            routes.write = Some(name);
        }
        routes
    }

    /// Waits for these routes, by the statistics and then by connections, and says how long it took.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: &Routes) {
        wait::until_ok(what, BOUND, || {
            let routes = self.routes();
            if routes == *wanted { Ok(()) } else { Err(format!("{routes:?}, not {wanted:?}; {:?}", self.reasons())) }
        });
    }

    /// Where new connections end up, several for each server that may be met.
    #[must_use]
    pub fn who_answers(&self) -> Routes {
        let writers: BTreeSet<_> = (0..2).filter_map(|_| self.ask_one(WRITE)).collect();
        assert!(writers.len() <= 1, "two writers: {writers:?}");
        // Held open, so that each goes to the server with the fewest.
        let readers: Vec<_> = (0..10).filter_map(|_| self.session(READ).ok()).collect();
        let read = readers.into_iter().filter_map(|mut session| self.name_of(&mut session)).collect();
        Routes { write: writers.into_iter().next(), read }
    }

    /// A session through `HAProxy`.
    ///
    /// # Errors
    /// What `HAProxy` or the server behind it said.
    pub fn session(&self, port: u16) -> mysql::Result<Conn> {
        connect(self.ip, port)
    }

    fn ask_one(&self, port: u16) -> Option<&'static str> {
        self.name_of(&mut self.session(port).ok()?)
    }

    /// The server of a session.
    pub fn name_of(&self, session: &mut Conn) -> Option<&'static str> {
        number_of(&self.addresses, session).map(|number| NAMES[number])
    }

    /// What each check that is not up said.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let lines = self.haproxy.servers().into_iter();
        lines
            .filter(|line| {
                ["status", "replication", "steady", "failback"].contains(&&*line.proxy) && line.status != "UP"
            })
            .map(|line| {
                format!("{}/{} {} {} {}", line.proxy, line.server, line.status, line.check_status, line.last_chk)
            })
            .collect()
    }
}

/// The file.
#[must_use]
pub fn configuration() -> &'static Path {
    Box::leak(Box::new(shipped::file("haproxy/failover.cfg")))
}

fn connect(ip: Ipv4Addr, port: u16) -> mysql::Result<Conn> {
    let bound = Some(Duration::from_secs(10));
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(ip.to_string()))
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some("admin"))
        .pass(Some(PASSWORD))
        .tcp_connect_timeout(bound)
        .read_timeout(bound)
        .write_timeout(bound);
    Conn::new(options)
}

fn number_of(addresses: &[Ipv4Addr; 5], session: &mut Conn) -> Option<usize> {
    let address: String = session.query_first("SELECT @@report_host").ok()??;
    addresses.iter().position(|known| known.to_string() == address)
}

// ---------------------------------------------------------------------------------------------------------------------
// The clients

/// One statement that a server accepted.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// When its session was begun.
    pub opened: Instant,
    /// When it was sent.
    pub sent: Instant,
    /// When the client knew.
    pub accepted: Instant,
    /// The number of the server.
    pub server: usize,
}

/// What the clients saw so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Accepted writes, in order of acceptance.
    pub writes: Vec<Done>,
    /// Answered reads.
    pub reads: Vec<Done>,
    /// When a writing session ended that had been begun.
    pub cut: Vec<Instant>,
    /// When a session that was to write could not be begun.
    pub refused: Vec<Instant>,
}

/// Clients that write and read without pause, on sessions that they keep, and one that begins a session for each write.
#[derive(Debug)]
pub struct Traffic {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts three that write and two that read.
    #[must_use]
    pub fn start(front: &Front) -> Self {
        Self::start_at(front.ip, front.addresses)
    }

    /// The same at any address in front of these servers.
    #[must_use]
    pub fn start_at(ip: Ipv4Addr, addresses: [Ipv4Addr; 5]) -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let threads = (0..5)
            .map(|client| {
                let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        match client {
                            0 | 1 => write_on(ip, &addresses, client, u32::MAX, &seen, &stop),
                            2 => write_on(ip, &addresses, client, 1, &seen, &stop),
                            _ => read_on(ip, &addresses, &seen, &stop),
                        }
                        wait::dawdle(Duration::from_millis(10));
                    }
                })
            })
            .collect();
        Self { seen, stop, threads }
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let mut seen = lock(&self.seen).clone();
        seen.writes.sort_by_key(|write| write.accepted);
        seen
    }

    /// Waits until that many more writes were accepted.
    #[track_caller]
    pub fn until_more_writes(&self, count: usize) {
        let wanted = lock(&self.seen).writes.len() + count;
        wait::until(&format!("{count} more writes"), BOUND, || lock(&self.seen).writes.len() >= wanted);
    }

    /// Waits for a write that `server` accepted, and that was sent after `since`.
    #[track_caller]
    pub fn until_written(&self, server: usize, since: Instant) -> Done {
        let found =
            |seen: &Seen| seen.writes.iter().copied().find(|write| write.server == server && write.sent > since);
        wait::until_some(&format!("a write on {}", NAMES[server]), BOUND, || found(&lock(&self.seen)))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic is told already.
            let _ = thread.join();
        }
    }
}

/// One session that writes so often, or until it is cut.
fn write_on(ip: Ipv4Addr, addresses: &[Ipv4Addr; 5], client: u32, count: u32, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let opened = Instant::now();
    let begun = connect(ip, WRITE).ok().and_then(|mut session| Some((number_of(addresses, &mut session)?, session)));
    let Some((server, mut session)) = begun else {
        lock(seen).refused.push(Instant::now());
        return;
    };
    for n in 1..=count {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sent = Instant::now();
        if session.query_drop(format!("INSERT INTO lab.w (client, n) VALUES ({client}, {n})")).is_err() {
            lock(seen).cut.push(Instant::now());
            return;
        }
        lock(seen).writes.push(Done { opened, sent, accepted: Instant::now(), server });
        wait::dawdle(Duration::from_millis(5));
    }
}

/// One session that reads for a while: then the next one, so that each server is met.
fn read_on(ip: Ipv4Addr, addresses: &[Ipv4Addr; 5], seen: &Mutex<Seen>, stop: &AtomicBool) {
    let opened = Instant::now();
    let Ok(mut session) = connect(ip, READ) else { return };
    while !stop.load(Ordering::Relaxed) && opened.elapsed() < Duration::from_millis(300) {
        let sent = Instant::now();
        let Some(server) = number_of(addresses, &mut session) else { return };
        lock(seen).reads.push(Done { opened, sent, accepted: Instant::now(), server });
        wait::dawdle(Duration::from_millis(10));
    }
}

impl Seen {
    /// For how long a server went on accepting writes after another one had accepted a write of a session that was begun
    /// later. Never, where there is one writer at a time.
    #[must_use]
    pub fn overlap(&self) -> Duration {
        // A session by its beginning: its server, its first and its last accepted write.
        let mut sessions: BTreeMap<Instant, (usize, Instant, Instant)> = BTreeMap::new();
        for write in &self.writes {
            let new = (write.server, write.accepted, write.accepted);
            let (_, first, last) = sessions.entry(write.opened).or_insert(new);
            (*first, *last) = ((*first).min(write.accepted), (*last).max(write.accepted));
        }
        // From the last one on: of each server the first write of all sessions that were begun later.
        let mut longest = Duration::ZERO;
        let mut firsts: BTreeMap<usize, Instant> = BTreeMap::new();
        for (server, first, last) in sessions.into_values().rev() {
            for (_, later) in firsts.iter().filter(|(other, _)| **other != server) {
                longest = longest.max(last.saturating_duration_since(*later));
            }
            let earliest = firsts.entry(server).or_insert(first);
            *earliest = first.min(*earliest);
        }
        longest
    }

    /// The last read that one of these servers answered, after a moment.
    #[must_use]
    pub fn last_read(&self, names: &[&str], since: Instant) -> Duration {
        let reads = self.reads.iter().filter(|read| names.contains(&NAMES[read.server]));
        reads.map(|read| read.accepted.saturating_duration_since(since)).max().unwrap_or_default()
    }

    /// The writers since a moment, each as often as it became that.
    #[must_use]
    pub fn writers(&self, since: Instant) -> Vec<&'static str> {
        let mut names: Vec<_> =
            self.writes.iter().filter(|write| write.sent > since).map(|write| NAMES[write.server]).collect();
        names.dedup();
        names
    }

    /// The longest time without an accepted write between two moments.
    #[must_use]
    pub fn pause(&self, from: Instant, to: Instant) -> Duration {
        let inside = self.writes.iter().map(|write| write.accepted).filter(|at| (from..to).contains(at));
        let moments: Vec<Instant> = [from].into_iter().chain(inside).chain([to]).collect();
        moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes of sessions, as `(server, opened, accepted)` in milliseconds.
    fn overlap(writes: &[(usize, u64, u64)]) -> Duration {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let done = |&(server, opened, accepted)| Done {
            server,
            opened: at(opened),
            sent: at(accepted),
            accepted: at(accepted),
        };
        Seen { writes: writes.iter().map(done).collect(), ..Seen::default() }.overlap()
    }

    #[test]
    fn two_writers_are_a_session_that_goes_on_after_a_later_one_of_another_server() {
        assert_eq!(overlap(&[]), Duration::ZERO);
        assert_eq!(overlap(&[(0, 0, 10), (0, 0, 50), (1, 60, 70)]), Duration::ZERO);
        assert_eq!(overlap(&[(0, 0, 10), (1, 20, 30), (0, 0, 330)]), Duration::from_millis(300));
        // A later session of the same server is no other writer, and an earlier one of another does not count.
        assert_eq!(overlap(&[(0, 0, 10), (0, 20, 30), (0, 0, 330)]), Duration::ZERO);
        assert_eq!(overlap(&[(1, 0, 10), (0, 20, 30), (0, 20, 330)]), Duration::ZERO);
        // There and back again: the session that was cut off late is found.
        assert_eq!(overlap(&[(0, 0, 10), (1, 20, 30), (0, 40, 50), (1, 20, 60)]), Duration::from_millis(10));
    }
}
