//! Every rule of galera-chk(8) on a real cluster of three nodes, and the wsrep rule of mysqlchk-status(8).
//!
//! One cluster for all, since it takes seconds to start: each story breaks it, looks, and heals it. Two rules have no
//! story, because a rule before them always matches on a real node: `wsrep_connected` OFF comes with a cluster status of
//! `Disconnected`, and the states 1 and 3 come with `wsrep_ready` OFF or pass in a moment. The unit tests have them.

use lab::galera::{Cluster, Stage};
use lab::program::{Check, Outcome, local};
use lab::server::Server;

fn run(program: &str, node: &Server, arguments: &[&str]) -> Outcome {
    Check::new(program).args(local(node)).args(arguments).run()
}

/// Asserts the verdict of galera-chk on a node: `up: ...` with a 200 or `down: ...` with a 503.
#[track_caller]
fn assert_verdict(node: &Server, arguments: &[&str], verdict: &str) {
    assert_verdict_of("galera-chk", node, arguments, verdict);
}

#[track_caller]
fn assert_verdict_of(program: &str, node: &Server, arguments: &[&str], verdict: &str) {
    let outcome = run(program, node, arguments);
    let up = verdict.starts_with("up: ");
    let expected = (if up { 200 } else { 503 }, format!("{verdict}\n"), Some(i32::from(!up)), "");
    let reply = outcome.reply();
    assert_eq!((reply.status(), reply.body(), outcome.code, outcome.stderr.as_str()), expected, "{arguments:?}");
}

const SYNCED: &str = "up: local state is 4 (Synced), 3 members";
const DONOR: &str = "down: local state is 2 (Donor/Desynced) as a donor, not 4 (Synced)";
const DONOR_ALLOWED: &str = "up: local state is 2 (Donor/Desynced), 3 members";
const DESYNCED: &str = "down: local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)";

/// Runs one story, then heals the cluster; every node must be up again.
fn story(cluster: &Cluster, name: &str, tell: impl FnOnce(&Cluster)) {
    eprintln!("story: {name}");
    tell(cluster);
    cluster.heal();
    for number in 0..3 {
        assert_verdict(cluster.node(number), &[], SYNCED);
    }
}

#[test]
fn a_server_without_a_provider_is_no_node() {
    assert_verdict(&Server::start(), &[], "down: wsrep_on is OFF: not a Galera node");
}

#[test]
fn every_rule_of_the_table_on_a_real_cluster() {
    let cluster = Cluster::start();
    let node = |number| cluster.node(number);
    assert_verdict_of("mysqlchk-status", node(0), &["--require-writable"], "up: the server answers, read_only is OFF");

    story(&cluster, "a node cut off from the group", |cluster| {
        cluster.isolate(2);
        assert_verdict(node(2), &[], "down: wsrep_cluster_status is non-Primary, not Primary");
        // It still answers `SELECT 1`: the status check must not be fooled by that.
        assert_eq!(node(2).value("SELECT 1"), "1");
        assert_verdict_of("mysqlchk-status", node(2), &[], "down: wsrep_ready is OFF, not ON");
        cluster.until(0, "wsrep_cluster_size", "2");
        assert_verdict(node(0), &[], "up: local state is 4 (Synced), 2 members");
        assert_verdict(node(0), &["--min-cluster-size=2"], "up: local state is 4 (Synced), 2 members");
        assert_verdict(node(0), &["--min-cluster-size=3"], "down: cluster size is 2, minimum is 3");
    });
    story(&cluster, "a node without its majority", |cluster| {
        node(1).freeze();
        node(2).freeze();
        cluster.until(0, "wsrep_cluster_status", "non-Primary");
        assert_verdict(node(0), &[], "down: wsrep_cluster_status is non-Primary, not Primary");
        assert_verdict(node(1), &[], "down: no verdict within 900ms (while logging in)");
    });
    story(&cluster, "a node that is killed", |cluster| {
        node(2).kill9();
        let gone = format!("down: cannot connect to {}: connection refused", node(2).socket().display());
        assert_verdict(node(2), &[], &gone);
        cluster.until(0, "wsrep_cluster_size", "2");
        assert_verdict(node(0), &[], "up: local state is 4 (Synced), 2 members");
    });
    story(&cluster, "a node that is joining", |cluster| {
        cluster.hold_joining(2);
        let outcome = run("galera-chk", node(2), &["--format=json"]);
        assert!(outcome.stdout.contains(r#""wsrep_local_state":1"#), "{outcome:?}");
        // Non-Primary while it receives, Primary and not ready while it applies.
        let reasons = ["wsrep_cluster_status is non-Primary, not Primary", "wsrep_ready is OFF, not ON"];
        assert!(reasons.iter().any(|reason| outcome.stdout.contains(reason)), "{outcome:?}");
        assert_verdict_of("mysqlchk-status", node(2), &[], "down: wsrep_ready is OFF, not ON");
    });
    story(&cluster, "a node that rejects queries", |cluster| {
        for which in ["ALL", "ALL_KILL"] {
            cluster.reject_queries(1, which);
            assert_verdict(node(1), &[], &format!("down: wsrep_reject_queries is {which}, not NONE"));
        }
    });
    story(&cluster, "a donor whose tables are not locked", |cluster| {
        cluster.hold_transfer(0, 2, Stage::Open);
        let donor = node(0);
        assert_verdict(donor, &[], DONOR);
        assert_verdict(donor, &["--available-when-donor=always"], DONOR_ALLOWED);
        assert_verdict(donor, &["--available-when-donor=nonblocking"], DONOR); // The method is rsync.
        assert_verdict(donor, &["--available-when-donor=last"], DONOR); // Node 1 could serve.
        assert_verdict(donor, &["--available-when-desynced"], DONOR);
        donor.sql("SET GLOBAL wsrep_sst_method=mariabackup");
        assert_verdict(donor, &["--available-when-donor=nonblocking"], DONOR_ALLOWED);
        donor.sql("SET GLOBAL wsrep_sst_donor_rejects_queries=ON");
        assert_verdict(donor, &["--available-when-donor=nonblocking"], DONOR);
        donor.sql("SET GLOBAL wsrep_sst_donor_rejects_queries=OFF");
        assert_verdict(node(1), &[], SYNCED);
    });
    story(&cluster, "a donor whose tables are locked", |cluster| {
        cluster.hold_transfer(0, 2, Stage::Locked);
        assert_verdict(node(0), &[], DONOR);
        assert_verdict(node(0), &["--available-when-donor=nonblocking"], DONOR);
        assert_verdict(node(0), &["--available-when-donor=always"], DONOR_ALLOWED);
    });
    story(&cluster, "the last node, and it is a donor", |cluster| {
        node(1).stop();
        cluster.until(0, "wsrep_cluster_size", "2");
        cluster.hold_transfer(0, 2, Stage::Open);
        assert_verdict(node(0), &["--available-when-donor=never"], DONOR);
        let last = "up: local state is 2 (Donor/Desynced), 2 members";
        assert_verdict(node(0), &["--available-when-donor=last"], last);
    });
    story(&cluster, "a desynced node", |cluster| {
        cluster.desync(1);
        assert_verdict(node(1), &[], DESYNCED);
        assert_verdict(node(1), &["--available-when-donor=always"], DESYNCED);
        assert_verdict(node(1), &["--available-when-desynced"], DONOR_ALLOWED);
        cluster.resync(1);
        assert_verdict(node(1), &[], SYNCED);
    });
    story(&cluster, "a node that catches up", |cluster| {
        cluster.hold_catching_up(1);
        let catching_up = "down: local state is 2 (Donor/Desynced) and catching up, not 4 (Synced)";
        assert_verdict(node(1), &[], catching_up);
        let all = ["--available-when-donor=always", "--available-when-desynced"];
        assert_verdict(node(1), &all, catching_up);
    });
    story(&cluster, "a backup's read lock, which looks like a donor", |_| {
        let mut backup = node(1).session();
        mysql::prelude::Queryable::query_drop(&mut backup, "FLUSH TABLES WITH READ LOCK").unwrap();
        assert_verdict(node(1), &[], DONOR);
    });
    story(&cluster, "a read-only node", |cluster| {
        node(1).sql("SET GLOBAL read_only=ON");
        // It locks all tables for a moment, which desyncs the node: it comes back by way of 3 (Joined).
        cluster.until(1, "wsrep_local_state", "4");
        assert_verdict(node(1), &[], "down: read_only is ON, not OFF");
        assert_verdict(node(1), &["--available-when-readonly"], SYNCED);
        assert_verdict_of("mysqlchk-status", node(1), &["--require-writable"], "down: read_only is ON, not OFF");
    });
    story(&cluster, "a node without a network", |cluster| {
        node(1).stop();
        node(1).launch(&["--skip-networking"]);
        cluster.until(1, "wsrep_local_state", "4");
        assert_verdict(node(1), &[], "down: skip_networking is ON");
        assert_verdict(node(1), &["--allow-skip-networking"], SYNCED);
        assert_verdict_of("mysqlchk-status", node(1), &[], "down: skip_networking is ON");
        node(1).stop();
    });
    story(&cluster, "a node whose queue is long", |cluster| {
        cluster.hold_applier(1, 6);
        assert_verdict(node(1), &[], SYNCED);
        assert_verdict(node(1), &["--max-recv-queue=5"], SYNCED);
        assert_verdict(node(1), &["--max-recv-queue=4"], "down: receive queue is 5, limit is 4");
    });
}
