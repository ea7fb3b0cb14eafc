//! Hosts of their own: network namespaces on one bridge, where a host can be cut off without noticing.
//!
//! A test that uses them is run once more by itself in a namespace of its own, so that nothing of this is seen outside of
//! it, and nothing remains. Only root may do this.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, program};
use crate::scratch::Scratch;
use crate::{user, wait};

const BOUND: Duration = Duration::from_secs(60);
/// The bridge all hosts are on, in the namespace of the test.
const BRIDGE: &str = "bridge0";

/// Whether this is the run inside; otherwise the test was run inside, and was good.
///
/// # Panics
/// When it was not, and without root.
#[must_use]
#[track_caller]
pub fn inside(test: &str) -> bool {
    if env::var_os("LAB_NETWORK").is_some() {
        return true;
    }
    assert!(user::is_root(), "only root may make network namespaces: run the tests as root");
    let mut command = Command::new(program("unshare"));
    command
        .arg("--net")
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("LAB_NETWORK", "1");
    assert!(command.status().unwrap().success(), "{test} failed in its network namespace");
    false
}

/// The bridge, with this namespace as one of its hosts.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// Makes the bridge; this namespace gets these addresses.
    #[must_use]
    pub fn new(addresses: &[Ipv4Addr]) -> Self {
        run(ip(&format!("link add {BRIDGE} type bridge")));
        for address in addresses {
            run(ip(&format!("address add {address}/24 dev {BRIDGE}")));
        }
        run(ip("link set lo up"));
        run(ip(&format!("link set {BRIDGE} up")));
        Self(())
    }

    /// Adds a host with this address.
    #[must_use]
    #[track_caller]
    pub fn host(&self, name: &str, address: Ipv4Addr) -> Host {
        let scratch = Scratch::new(name);
        let mut command = Command::new(program("unshare"));
        let mut holder =
            Daemon::start(command.args(["--net", "sleep", "infinity"]).current_dir("/"), &scratch.join("log"));
        let pid = holder.pid();
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        holder.until_ready(BOUND, || fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net != own));
        let host = Host { port: format!("to-{name}"), pid, address, scratch, _holder: holder };
        run(ip(&format!("link add {} type veth peer name eth0 netns {pid}", host.port)));
        run(ip(&format!("link set {} master {BRIDGE} up", host.port)));
        for line in
            ["link set lo up".to_owned(), format!("address add {address}/24 dev eth0"), "link set eth0 up".to_owned()]
        {
            run(host.command("ip").args(line.split(' ')));
        }
        wait::until(&format!("{name} is on the network"), BOUND, || {
            let shown = host.command("ip").args(["-o", "link", "show", "dev", "eth0"]).output().unwrap().stdout;
            String::from_utf8_lossy(&shown).contains("LOWER_UP")
        });
        host
    }
}

/// A host on the bridge: a namespace, and the process that holds it.
#[derive(Debug)]
pub struct Host {
    port: String,
    pid: u32,
    address: Ipv4Addr,
    scratch: Scratch,
    _holder: Daemon,
}

impl Host {
    /// A program on this host, ready for its arguments.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        self.wrap(&Command::new(program(name)))
    }

    /// A command, run on this host.
    #[must_use]
    pub fn wrap(&self, command: &Command) -> Command {
        let mut wrapped = Command::new(program("nsenter"));
        wrapped.arg(format!("--net=/proc/{}/ns/net", self.pid)).arg("--").arg(command.get_program());
        wrapped.args(command.get_args());
        wrapped
    }

    /// Its own address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A directory for its files.
    #[must_use]
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Whether it has an address now. Read from the kernel without starting a program, so that a change is seen within
    /// milliseconds on a busy machine, too.
    #[must_use]
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        let table = fs::read_to_string(format!("/proc/{}/net/fib_trie", self.pid)).unwrap();
        table.contains(&format!("|-- {address}\n"))
    }

    /// Cuts it off: whatever it sends is lost, and so is what is sent to it. Its own interface stays up.
    pub fn cut(&self) {
        run(ip(&format!("link set {} nomaster", self.port)));
    }

    /// Puts it back.
    pub fn join(&self) {
        run(ip(&format!("link set {} master {BRIDGE}", self.port)));
    }

    /// Loses what it sends to one address, from now on.
    pub fn lose(&self, address: Ipv4Addr) {
        let nobody = "02:00:00:00:00:99";
        run(self.command("ip").args([
            "neighbor",
            "replace",
            &address.to_string(),
            "lladdr",
            nobody,
            "nud",
            "permanent",
            "dev",
            "eth0",
        ]));
    }

    /// Sends it again.
    pub fn find(&self, address: Ipv4Addr) {
        run(self.command("ip").args(["neighbor", "del", &address.to_string(), "dev", "eth0"]));
    }
}

/// `ip`, on the bridge's side.
fn ip(line: &str) -> Command {
    let mut command = Command::new(program("ip"));
    command.args(line.split(' '));
    command
}

#[track_caller]
fn run(mut command: impl std::borrow::BorrowMut<Command>) {
    let command = command.borrow_mut();
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
