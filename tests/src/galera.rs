//! Three Galera nodes, every state that a node can be in, and one cure for all of them.
//!
//! The state transfer is the lab's own (`galera/transfer.sh`): it takes no time and stops where it is told to.
//! The server still calls it `rsync`, and `mariabackup` after `SET GLOBAL wsrep_sst_method`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::server::{PORT, Server};
use crate::software::Software;
use crate::{address, janitor, wait};

/// How long the cluster may take to get where it should be.
const BOUND: Duration = Duration::from_secs(60);

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// A node that goes silent is suspected after 2 s. Below that, groups fall apart while they form; the short
/// retransmission halves the time of a start.
const TIMERS: &str = "evs.keepalive_period=PT0.1S;evs.inactive_check_period=PT0.1S;evs.join_retrans_period=PT0.1S;\
    evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S";

/// Where a donor is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before it locks its tables: it serves reads and writes, as with mariabackup.
    Open,
    /// While its tables are locked: reads work, writes block, as with rsync.
    Locked,
}

/// Three nodes, numbered from 0, with the schema of [`crate::server`].
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts three nodes, and waits until all are Synced.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts three nodes with more lines in their option files.
    #[must_use]
    #[track_caller]
    pub fn start_with(lines: &[&str]) -> Self {
        assert!(fs::exists(PROVIDER).unwrap(), "{PROVIDER} is not installed: run make deps");
        let addresses = [address::fresh(), address::fresh(), address::fresh()];
        let cluster = Self { nodes: addresses.map(|ip| prepare(ip, &addresses, history(), lines)).into() };
        cluster.nodes[0].launch(&["--wsrep-new-cluster"]);
        cluster.nodes[0].until_answers();
        for node in &cluster.nodes[1..] {
            node.launch(&[]);
            node.until_answers();
        }
        cluster.until_synced();
        cluster
    }

    /// A node, from 0 to 2.
    #[must_use]
    pub fn node(&self, number: usize) -> &Server {
        &self.nodes[number]
    }

    /// `wsrep_local_state`; `None` while the node does not answer.
    #[must_use]
    pub fn state(&self, number: usize) -> Option<u32> {
        self.nodes[number].status("wsrep_local_state")?.parse().ok()
    }

    /// Waits until a status variable of a node has this value.
    #[track_caller]
    pub fn until(&self, number: usize, name: &str, wanted: &str) {
        let what = format!("{name} of node {number}");
        wait::until_equal(&what, BOUND, Some(wanted.to_owned()), || self.nodes[number].status(name));
    }

    /// Waits until all three are Synced members of the primary component with nothing left to apply.
    #[track_caller]
    pub fn until_synced(&self) {
        let names = [
            "wsrep_cluster_status",
            "wsrep_cluster_size",
            "wsrep_local_state",
            "wsrep_ready",
            "wsrep_local_recv_queue",
        ];
        let wanted = ["Primary", "3", "4", "ON", "0"].map(|value| Some(value.to_owned()));
        wait::until_equal("every node is Synced", BOUND, vec![wanted; 3], || {
            self.nodes.iter().map(|node| names.map(|name| node.status(name))).collect::<Vec<_>>()
        });
    }

    /// Undoes whatever was done, and waits until all are Synced.
    ///
    /// One node at least must still be in the primary component, or come back to it by itself.
    #[track_caller]
    pub fn heal(&self) {
        for node in &self.nodes {
            node.open_gate();
            node.release("open");
            node.release("locked");
            if node.is_running() {
                node.thaw();
            } else {
                node.launch(&[]);
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            node.until_answers();
            self.rejoin(number);
            for setting in ["reject_queries=NONE", "sst_method=rsync", "desync=OFF"] {
                let set = format!("SET GLOBAL wsrep_{setting}");
                wait::until_ok(&set, BOUND, || node.try_sql(&set));
            }
            wait::until_ok("the node takes writes", BOUND, || node.try_sql("SET GLOBAL read_only=OFF"));
        }
        self.until_written();
        self.until_synced();
    }

    /// Waits until a row written on node 0 is on every node: one that slept may for seconds still believe itself
    /// Synced and show old rows.
    #[track_caller]
    fn until_written(&self) {
        static COUNT: AtomicU32 = AtomicU32::new(1_000_000);
        let value = COUNT.fetch_add(1, Ordering::Relaxed);
        let insert = format!("INSERT INTO lab.t (v) VALUES ({value})");
        wait::until_ok(&insert, BOUND, || self.nodes[0].try_sql(&insert));
        let look = format!("SELECT v FROM lab.t WHERE v={value}");
        wait::until(&look, BOUND, || {
            self.nodes.iter().all(|node| node.try_rows(&look).is_ok_and(|rows| rows.len() == 1))
        });
    }

    /// `wsrep_desync=ON`: state 2, and nothing else changes.
    #[track_caller]
    pub fn desync(&self, number: usize) {
        self.nodes[number].sql("SET GLOBAL wsrep_desync=ON");
        self.until(number, "wsrep_local_state", "2");
    }

    /// `wsrep_desync=OFF`, and waits until the node is Synced.
    #[track_caller]
    pub fn resync(&self, number: usize) {
        self.nodes[number].sql("SET GLOBAL wsrep_desync=OFF");
        self.until(number, "wsrep_local_state", "4");
    }

    /// `wsrep_reject_queries` is `NONE`, `ALL` or `ALL_KILL`: no status variable tells.
    #[track_caller]
    pub fn reject_queries(&self, number: usize, which: &str) {
        // `ALL_KILL` ends this session too.
        let _ = self.nodes[number].try_sql(&format!("SET GLOBAL wsrep_reject_queries={which}"));
        assert_eq!(self.nodes[number].value("SELECT @@GLOBAL.wsrep_reject_queries"), which);
    }

    /// Cuts a node off from the group, and waits until it is non-Primary.
    #[track_caller]
    pub fn isolate(&self, number: usize) {
        self.nodes[number].sql("SET GLOBAL wsrep_provider_options='gmcast.isolate=1'");
        self.until(number, "wsrep_cluster_status", "non-Primary");
    }

    /// Lets a node back into the group, and does not wait.
    #[track_caller]
    pub fn rejoin(&self, number: usize) {
        let set = "SET GLOBAL wsrep_provider_options='gmcast.isolate=0'";
        wait::until_ok(set, BOUND, || self.nodes[number].try_sql(set));
    }

    /// Makes `donor` give all its data to `joiner`, which begins anew, and holds both there: the donor is in
    /// state 2, the joiner's port is closed.
    #[track_caller]
    pub fn hold_transfer(&self, donor: usize, joiner: usize, stage: Stage) {
        let (donor, joining) = (&self.nodes[donor], &self.nodes[joiner]);
        donor.hold(if stage == Stage::Open { "open" } else { "locked" });
        joining.stop();
        joining.take_data(Software::MariaDb.template());
        joining.launch(&[&format!("--wsrep-sst-donor={}", donor.ip())]);
        wait::until_equal("the donor's state", BOUND, Some("2".to_owned()), || donor.status("wsrep_local_state"));
        if stage == Stage::Locked {
            wait::until("the donor locked its tables", BOUND, || donor.locks_tables());
        }
    }

    /// Lets a held transfer go on, and waits until all are Synced.
    #[track_caller]
    pub fn release_transfer(&self) {
        for node in &self.nodes {
            node.release("open");
            node.release("locked");
        }
        for node in &self.nodes {
            node.until_answers();
        }
        self.until_synced();
    }

    /// Writes `rows` rows into `lab.gate` by way of a node.
    #[track_caller]
    pub fn write(&self, number: usize, rows: usize) {
        for _ in 0..rows {
            self.nodes[number].sql("INSERT INTO lab.gate VALUES ()");
        }
    }

    /// Holds a node's applier and gives it `rows` rows to apply: Synced, with a queue of `rows` less one.
    ///
    /// [`Server::open_gate`] lets it go on.
    #[track_caller]
    pub fn hold_applier(&self, number: usize, rows: usize) {
        self.nodes[number].hold_gate();
        self.write((number + 1) % 3, rows);
        self.until(number, "wsrep_local_recv_queue", &(rows - 1).to_string());
    }

    /// Holds a node in state 2 with `wsrep_desync` OFF and `wsrep_desync_count` 0: it was desynced, and catches up.
    #[track_caller]
    pub fn hold_catching_up(&self, number: usize) {
        self.desync(number);
        self.hold_applier(number, 5);
        self.nodes[number].sql("SET GLOBAL wsrep_desync=OFF");
        self.until(number, "wsrep_desync_count", "0");
        self.until(number, "wsrep_local_state", "2");
    }

    /// Starts a node again that missed a write, and holds it in state 1 while it receives that.
    #[track_caller]
    pub fn hold_joining(&self, number: usize) {
        let node = &self.nodes[number];
        node.stop();
        node.hold_gate();
        self.write((number + 1) % 3, 2);
        node.launch(&[]);
        node.until_answers();
        self.until(number, "wsrep_local_state", "1");
    }
}

/// Directory and option file of one node of a group.
fn prepare(ip: Ipv4Addr, group: &[Ipv4Addr], data: &Path, lines: &[&str]) -> Server {
    let group: Vec<String> = group.iter().map(Ipv4Addr::to_string).collect();
    let group = group.join(",");
    let own = format!(
        "skip_log_bin\nbinlog_format=ROW\ninnodb_autoinc_lock_mode=2\nslave_run_triggers_for_rbr=ENFORCE\n\
         wsrep_on=ON\nwsrep_provider={PROVIDER}\nwsrep_cluster_name=lab\nwsrep_cluster_address=gcomm://{group}\n\
         wsrep_node_name={ip}\nwsrep_node_address={ip}\nwsrep_node_incoming_address={ip}:3306\n\
         wsrep_sst_receive_address={ip}:4444\nwsrep_sst_method=rsync\n\
         wsrep_provider_options=\"gmcast.listen_addr=tcp://{ip}:4567;ist.recv_addr={ip}:4568;ist.recv_bind={ip}:4568;\
         gcache.size=8M;{TIMERS}\""
    );
    let node = Server::prepare(Software::MariaDb, SocketAddrV4::new(ip, PORT), data, &[&[&*own], lines].concat());
    for method in ["rsync", "mariabackup"] {
        node.provide(&format!("wsrep_sst_{method}"), include_str!("galera/transfer.sh"));
    }
    node
}

/// Data that already was a cluster's, of one node: every node begins with a copy, and the first start needs no
/// state transfer.
fn history() -> &'static Path {
    static HISTORY: OnceLock<PathBuf> = OnceLock::new();
    HISTORY.get_or_init(|| {
        let ip = address::fresh();
        let node = prepare(ip, &[ip], Software::MariaDb.template(), &[]);
        node.launch(&["--wsrep-new-cluster"]);
        node.until_answers();
        // It answers before it is a member that takes writes.
        wait::until_ok("the first write of a cluster", BOUND, || {
            node.try_sql("INSERT INTO lab.t (v) VALUES (0)").map_err(|error| error.to_string())
        });
        node.stop();
        let kept = janitor::base().join("history");
        fs::rename(node.dir().join("data"), &kept).unwrap();
        for file in ["galera.cache", "gvwstate.dat"] {
            let _ = fs::remove_file(kept.join(file));
        }
        kept
    })
}

impl Server {
    fn hold(&self, stage: &str) {
        fs::write(self.dir().join(format!("tmp/hold-{stage}")), "").unwrap();
    }

    fn release(&self, stage: &str) {
        let _ = fs::remove_file(self.dir().join(format!("tmp/hold-{stage}")));
    }

    fn locks_tables(&self) -> bool {
        self.dir().join("tmp/locked").exists()
    }
}
