//! A shipped configuration of `HAProxy` in front of the lab's servers, and clients that connect through it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, mem};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::haproxy::{Haproxy, Line, Release};
use crate::scratch::Scratch;
use crate::server::{PASSWORD, Server};
use crate::{address, shipped, user, wait};

/// Two checks and a round of patience.
const BOUND: Duration = Duration::from_secs(60);
/// The port for writes.
pub const WRITE: u16 = 3306;
/// The port for reads.
pub const READ: u16 = 3307;

/// `HAProxy` with a shipped configuration, on two addresses of its own.
#[derive(Debug)]
pub struct Front {
    /// The process that serves.
    pub haproxy: Haproxy,
    release: Release,
    configuration: PathBuf,
    values: Vec<(String, String)>,
    /// The address of the frontends.
    pub ip: Ipv4Addr,
    /// A second address of theirs, as a floating one is.
    pub second: Ipv4Addr,
    _scratch: Scratch,
}

impl Front {
    /// Starts the host's release with a file of the repository, for these servers, by the names in the file.
    #[must_use]
    pub fn start(configuration: &str, servers: &[(&str, &Server)]) -> Front {
        Self::start_by(Release::Host, address::fresh(), configuration, servers, &[])
    }

    /// The same with this release, on this address, and with more values of the file.
    #[must_use]
    pub fn start_by(
        release: Release,
        ip: Ipv4Addr,
        configuration: &str,
        servers: &[(&str, &Server)],
        more: &[(&str, &str)],
    ) -> Front {
        let (second, scratch) = (address::fresh(), Scratch::new("front"));
        let servers = servers.iter().map(|(name, server)| ((*name).to_owned(), server.ip().to_string()));
        let own = [
            ("WRITE_BIND", format!("{ip}:{WRITE},{second}:{WRITE}")),
            ("READ_BIND", format!("{ip}:{READ},{second}:{READ}")),
            ("STATS_BIND", format!("{ip}:8404")),
            ("HEALTH", format!("{ip}:9300")),
            ("PEER_BIND", format!("{ip}:10000")),
            ("STATS_SOCKET", scratch.join("stats.sock").display().to_string()),
            ("RUN_AS_USER", user::unprivileged().name.clone()),
            ("RUN_AS_GROUP", user::unprivileged().group.clone()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let values: Vec<_> = servers.chain(own).chain(more).collect();
        let configuration = shipped::file(configuration);
        let haproxy = Haproxy::start_by(command(release), &configuration, &borrowed(&values));
        Front { haproxy, release, configuration, values, ip, second, _scratch: scratch }
    }

    /// This release with `galera.cfg`, and waits until each of these nodes takes writes and reads.
    #[must_use]
    #[track_caller]
    pub fn of_cluster(release: Release, nodes: [&Server; 3]) -> Front {
        let servers = [("NODE_1", nodes[0]), ("NODE_2", nodes[1]), ("NODE_3", nodes[2])];
        let front = Self::start_by(release, address::fresh(), "haproxy/galera.cfg", &servers, &[]);
        for node in ["node1", "node2", "node3"] {
            front.until_up("write", node);
            front.until_up("read", node);
        }
        front
    }

    /// Starts a process that takes over from this one, and returns the one before.
    pub fn replace(&mut self) -> Haproxy {
        let values = borrowed(&self.values);
        let new = self.haproxy.succeed_by(command(self.release), &self.configuration, &values);
        mem::replace(&mut self.haproxy, new)
    }

    /// The node that the table of `write` names.
    #[must_use]
    pub fn writer(&self) -> String {
        let table = self.haproxy.ask("show table write");
        table
            .split("server_key=")
            .nth(1)
            .map_or(String::new(), |rest| rest.split_whitespace().next().unwrap().to_owned())
    }

    /// A new session through one of the ports.
    ///
    /// # Errors
    /// As the driver has it.
    pub fn session(&self, port: u16) -> mysql::Result<Conn> {
        connect(self.ip, port)
    }

    /// The addresses that answer new connections; several of them, so that each server of a pool is met.
    #[must_use]
    pub fn who_answers(&self, port: u16) -> Vec<String> {
        let mut found: Vec<String> =
            (0..8).filter_map(|_| self.session(port).ok()?.query_first("SELECT @@report_host").ok()?).collect();
        found.sort();
        found.dedup();
        found
    }

    /// The line of the check that decides about a server: its own, or the one it follows.
    #[must_use]
    pub fn check_of(&self, proxy: &str, server: &str) -> Line {
        let text = fs::read_to_string(&self.configuration).unwrap();
        let mut section = text.lines().skip_while(|line| *line != format!("listen {proxy}"));
        let words = section.find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&["server", server]).then_some(words)
        });
        let words = words.unwrap_or_else(|| panic!("no {proxy}/{server}"));
        match words.iter().skip_while(|word| **word != "track").nth(1).and_then(|followed| followed.split_once('/')) {
            Some((proxy, server)) => self.haproxy.server(proxy, server),
            None => self.haproxy.server(proxy, server),
        }
    }

    /// Waits until a server has this status and its check this code, for exactly this reason, as `HAProxy` shows it.
    #[track_caller]
    pub fn until_shown(&self, proxy: &str, server: &str, shown: [&str; 3], reason: &str) {
        let what = format!("{:?}: {proxy}/{server} is {shown:?}: {reason}", self.release);
        wait::until_ok(&what, BOUND, || {
            let (line, check) = (self.haproxy.server(proxy, server), self.check_of(proxy, server));
            // A check whose answer is shown is in the form of its body; otherwise the reason phrase is shown.
            let told =
                check.last_chk.split_once(": ").filter(|_| check.proxy != proxy).map_or(&*check.last_chk, |two| two.1);
            let seen = [&*line.status, &*check.check_status, &*check.check_code];
            if seen == shown && told == reason { Ok(()) } else { Err(format!("{line:?} {check:?}")) }
        });
    }

    /// Waits until a server is down for exactly this reason, as `HAProxy` shows it.
    #[track_caller]
    pub fn until_down(&self, proxy: &str, server: &str, reason: &str) {
        self.until_shown(proxy, server, ["DOWN", "L7STS", "503"], reason);
    }

    /// Waits until a server and its check are up.
    #[track_caller]
    pub fn until_up(&self, proxy: &str, server: &str) {
        let what = format!("{proxy}/{server} is up");
        wait::until_ok(&what, BOUND, || {
            let (line, check) = (self.haproxy.server(proxy, server), self.check_of(proxy, server));
            if line.status == "UP" && check.check_status == "L7OK" {
                Ok(())
            } else {
                Err(format!("{line:?} {check:?}"))
            }
        });
    }
}

/// The program of a release, as the account without privileges.
fn command(release: Release) -> Command {
    let mut command = release.command();
    user::drop_to_unprivileged(&mut command);
    command
}

fn borrowed(values: &[(String, String)]) -> Vec<(&str, &str)> {
    values.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// A session of an admin over TCP.
///
/// # Errors
/// As the driver has it.
pub fn connect(ip: Ipv4Addr, port: u16) -> mysql::Result<Conn> {
    let bound = Some(Duration::from_secs(10));
    let options = OptsBuilder::new().ip_or_hostname(Some(ip.to_string())).tcp_port(port).prefer_socket(false);
    Conn::new(options.user(Some("admin")).pass(Some(PASSWORD)).read_timeout(bound))
}

/// What clients have seen.
#[derive(Debug, Default)]
struct Seen {
    /// How many sessions each server had.
    servers: BTreeMap<String, usize>,
    /// What went wrong.
    errors: Vec<String>,
}

/// Clients that begin a session, ask who answers, and end it, without pause.
#[derive(Debug)]
pub struct Clients {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them.
    #[must_use]
    pub fn start(ip: Ipv4Addr, port: u16) -> Self {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let ask = move || -> mysql::Result<String> {
            let answer = connect(ip, port)?.query_first("SELECT @@report_host")?;
            Ok(answer.unwrap_or_default())
        };
        let threads = (0..2)
            .map(|_| {
                let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let answer = ask();
                        let mut seen = seen.lock().unwrap();
                        match answer {
                            Ok(server) => *seen.servers.entry(server).or_default() += 1,
                            Err(error) => seen.errors.push(error.to_string()),
                        }
                    }
                })
            })
            .collect();
        Self { seen, stop, threads }
    }

    /// How many sessions each server has had.
    #[must_use]
    pub fn sessions(&self) -> BTreeMap<String, usize> {
        self.seen.lock().unwrap().servers.clone()
    }

    /// What went wrong since the last time this was asked.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        mem::take(&mut self.seen.lock().unwrap().errors)
    }

    /// Waits for so many more sessions, and returns the servers that ever answered.
    #[track_caller]
    pub fn after(&self, more: usize) -> Vec<String> {
        let count = || self.sessions().values().sum::<usize>();
        let wanted = count() + more;
        wait::until_ok(
            &format!("{more} more sessions"),
            BOUND,
            || if count() >= wanted { Ok(()) } else { Err(count()) },
        );
        self.sessions().into_keys().collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // Its panic is told already.
            let _ = thread.join();
        }
    }
}
