//! Decides whether a Galera node may take traffic. Pure: no I/O, no clock.

use check::{Verdict, down, drain, up};
use client::{consistency, or_null};

use crate::options::{Donor, Options};
use crate::probe::Facts;

/// `Donor/Desynced`: the node applies write sets, but does not hold the others back (flow control).
const DONOR_OR_DESYNCED: u64 = 2;
const SYNCED: u64 = 4;

/// Applies the rules of galera-chk(8); the first that matches wins.
pub(crate) fn judge(facts: &Facts, options: &Options) -> Verdict {
    match refusal(facts, options) {
        Some(reason) => down(reason),
        // An operator takes the node out, or the server does so before it stops.
        None if facts.pxc_maint_mode.is_known() && !facts.pxc_maint_mode.is("DISABLED") => {
            drain(format!("pxc_maint_mode is {}, not DISABLED", facts.pxc_maint_mode))
        }
        None => up(format!("{}, {}", state(facts), members(facts.wsrep_cluster_size))),
    }
}

/// Why the node may not take traffic; `None` when it may.
fn refusal(facts: &Facts, options: &Options) -> Option<String> {
    if !facts.wsrep_on.is_on() {
        return Some(format!("wsrep_on is {}: not a Galera node", facts.wsrep_on.switch()));
    }
    if ["NULL", "none", ""].contains(&facts.wsrep_provider.text()) {
        return Some("wsrep_provider is none: not a Galera node".into());
    }
    if facts.skip_networking.is_set() && !options.allow_skip_networking {
        return Some("skip_networking is ON".into());
    }
    if !facts.wsrep_cluster_status.is("Primary") {
        return Some(format!("wsrep_cluster_status is {}, not Primary", facts.wsrep_cluster_status));
    }
    if !facts.wsrep_connected.is_on() {
        return Some(format!("wsrep_connected is {}, not ON", facts.wsrep_connected));
    }
    if !facts.wsrep_ready.is_on() {
        return Some(format!("wsrep_ready is {}, not ON", facts.wsrep_ready));
    }
    if facts.wsrep_reject_queries.is_known() && !facts.wsrep_reject_queries.is("NONE") {
        return Some(format!("wsrep_reject_queries is {}, not NONE", facts.wsrep_reject_queries));
    }
    match facts.wsrep_local_state {
        Some(SYNCED) => None,
        Some(DONOR_OR_DESYNCED) => refusal_in_state_2(facts, options),
        _ => Some(format!("{}, not 4 (Synced)", state(facts))),
    }
    .or_else(|| refusal_of_a_member(facts, options))
}

/// State 2 has three causes, and the state alone does not tell them apart: a state transfer to a joiner (or a backup's
/// read lock), an operator's `wsrep_desync`, and the time after either until the node has caught up. Two can hold at once.
fn refusal_in_state_2(facts: &Facts, options: &Options) -> Option<String> {
    let desynced = facts.wsrep_desync.is_on();
    let donor = facts.wsrep_desync_count.map_or(!desynced, |count| count > u64::from(desynced));
    if donor && !donor_may_serve(facts, options.available_when_donor) {
        return Some(format!("{} as a donor, not 4 (Synced)", state(facts)));
    }
    if desynced && !options.available_when_desynced {
        return Some(format!("{} by wsrep_desync, not 4 (Synced)", state(facts)));
    }
    if !donor && !desynced {
        return Some(format!("{} and catching up, not 4 (Synced)", state(facts)));
    }
    None
}

/// What still stands against a node whose state is good.
fn refusal_of_a_member(facts: &Facts, options: &Options) -> Option<String> {
    if !facts.read_only.is_off() && !options.available_when_readonly {
        return Some(format!("read_only is {}, not OFF", facts.read_only.switch()));
    }
    if facts.wsrep_cluster_size.is_none_or(|size| size < options.min_cluster_size) {
        let size = or_null(facts.wsrep_cluster_size);
        return Some(format!("cluster size is {size}, minimum is {}", options.min_cluster_size));
    }
    match options.max_recv_queue {
        Some(limit) if facts.wsrep_local_recv_queue.is_none_or(|queue| queue > limit) => {
            Some(format!("receive queue is {}, limit is {limit}", or_null(facts.wsrep_local_recv_queue)))
        }
        _ => refusal_of_the_data(facts, options),
    }
}

/// What was found of the data; that it cannot be read stands against the node, too.
fn refusal_of_the_data(facts: &Facts, options: &Options) -> Option<String> {
    let demand = options.require_consistent?;
    facts.consistency_error.clone().or_else(|| consistency::trouble(facts.consistency.as_ref(), demand))
}

fn donor_may_serve(facts: &Facts, when: Donor) -> bool {
    match when {
        Donor::Never => false,
        Donor::Always => true,
        Donor::Nonblocking => !transfer_blocks(facts) && facts.wsrep_sst_donor_rejects_queries.is_off(),
        // The donor and the node that joins are all there is.
        Donor::Last => facts.wsrep_cluster_size.is_some_and(|size| size <= 2),
    }
}

/// `rsync` and `mysqldump` hold a read lock while they copy; an unknown method is assumed to do so.
fn transfer_blocks(facts: &Facts) -> bool {
    let method = facts.wsrep_sst_method.text();
    method.starts_with("rsync") || ["mysqldump", "NULL", ""].contains(&method)
}

/// Number first, then the name, without what the server may add (`Joining: receiving State Transfer`).
fn state(facts: &Facts) -> String {
    let name = facts.wsrep_local_state_comment.text().split(':').next().unwrap_or_default();
    format!("local state is {} ({name})", or_null(facts.wsrep_local_state))
}

fn members(size: Option<u64>) -> String {
    if size == Some(1) { "1 member".into() } else { format!("{} members", or_null(size)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use client::Variable;
    use client::consistency::{Demand, Found};
    use std::time::Duration;

    fn some(text: &str) -> Variable {
        text.into()
    }

    pub(crate) fn synced() -> Facts {
        Facts {
            consistency: None,
            consistency_error: None,
            wsrep_on: some("1"),
            wsrep_provider: some("/usr/lib/galera/libgalera_smm.so"),
            skip_networking: some("0"),
            wsrep_cluster_status: some("Primary"),
            wsrep_connected: some("ON"),
            wsrep_ready: some("ON"),
            pxc_maint_mode: Variable::default(),
            wsrep_reject_queries: some("NONE"),
            wsrep_local_state: Some(4),
            wsrep_local_state_comment: some("Synced"),
            wsrep_desync: some("0"),
            wsrep_desync_count: Some(0),
            wsrep_sst_method: some("rsync"),
            wsrep_sst_donor_rejects_queries: some("0"),
            read_only: some("0"),
            wsrep_cluster_size: Some(3),
            wsrep_local_recv_queue: Some(0),
        }
    }

    pub(crate) fn options() -> Options {
        Options {
            available_when_donor: Donor::Never,
            available_when_desynced: false,
            available_when_readonly: false,
            min_cluster_size: 1,
            max_recv_queue: None,
            require_consistent: None,
            allow_skip_networking: false,
        }
    }

    const DAY: i64 = 86_400;

    fn differs() -> Found {
        let first_differ = Some("shop.orders".to_owned());
        Found { state: "inconsistent".into(), age_s: None, tables_differ: 2, first_differ }
    }

    fn in_state(number: u64, comment: &str) -> Facts {
        Facts { wsrep_local_state: Some(number), wsrep_local_state_comment: some(comment), ..synced() }
    }

    fn donor(method: &str) -> Facts {
        Facts { wsrep_desync_count: Some(1), wsrep_sst_method: some(method), ..in_state(2, "Donor/Desynced") }
    }

    fn desynced() -> Facts {
        Facts { wsrep_desync: some("1"), wsrep_desync_count: Some(1), ..in_state(2, "Donor/Desynced") }
    }

    fn when(donor: Donor) -> Options {
        Options { available_when_donor: donor, ..options() }
    }

    const UP: &str = "up: local state is 4 (Synced), 3 members";
    const DONOR_UP: &str = "up: local state is 2 (Donor/Desynced), 3 members";
    const DONOR_DOWN: &str = "down: local state is 2 (Donor/Desynced) as a donor, not 4 (Synced)";

    /// The table of galera-chk(8), in its order.
    #[test]
    #[expect(clippy::too_many_lines, reason = "one row a case")]
    fn the_table() {
        let desync_allowed = || Options { available_when_desynced: true, ..options() };
        let local = || Facts { skip_networking: some("ON"), ..synced() };
        let within = Some(Demand::ConsistentWithin(Duration::from_secs(7 * 86_400)));
        let weekly = || Options { require_consistent: within, ..options() };
        let consistent = |age| {
            let found = Found { state: "consistent".into(), age_s: Some(age), ..differs() };
            Facts { consistency: Some(found), ..synced() }
        };
        let demanding = || Options { require_consistent: Some(Demand::NotInconsistent), ..options() };
        let read_only = || Facts { read_only: some("1"), ..synced() };
        let rows = vec![
            (Facts::default(), options(), "down: wsrep_on is NULL: not a Galera node"),
            (Facts { wsrep_on: some("0"), ..synced() }, options(), "down: wsrep_on is OFF: not a Galera node"),
            (
                Facts { wsrep_provider: some("none"), ..synced() },
                options(),
                "down: wsrep_provider is none: not a Galera node",
            ),
            (local(), options(), "down: skip_networking is ON"),
            (local(), Options { allow_skip_networking: true, ..options() }, UP),
            (
                Facts { wsrep_cluster_status: some("non-Primary"), ..synced() },
                options(),
                "down: wsrep_cluster_status is non-Primary, not Primary",
            ),
            (Facts { wsrep_cluster_status: some("PRIMARY"), ..synced() }, options(), UP),
            (
                Facts { wsrep_cluster_status: Variable::default(), ..synced() },
                options(),
                "down: wsrep_cluster_status is NULL, not Primary",
            ),
            (Facts { wsrep_connected: some("OFF"), ..synced() }, options(), "down: wsrep_connected is OFF, not ON"),
            (Facts { wsrep_ready: some("OFF"), ..synced() }, options(), "down: wsrep_ready is OFF, not ON"),
            (
                Facts { wsrep_reject_queries: some("ALL"), ..synced() },
                options(),
                "down: wsrep_reject_queries is ALL, not NONE",
            ),
            (Facts { wsrep_reject_queries: Variable::default(), ..synced() }, options(), UP),
            (donor("mariabackup"), options(), DONOR_DOWN),
            (donor("rsync"), when(Donor::Always), DONOR_UP),
            (donor("mariabackup"), when(Donor::Nonblocking), DONOR_UP),
            (donor("clone"), when(Donor::Nonblocking), DONOR_UP),
            (donor("rsync"), when(Donor::Nonblocking), DONOR_DOWN),
            (donor("rsync_wan"), when(Donor::Nonblocking), DONOR_DOWN),
            (donor("mysqldump"), when(Donor::Nonblocking), DONOR_DOWN),
            (Facts { wsrep_sst_method: Variable::default(), ..donor("") }, when(Donor::Nonblocking), DONOR_DOWN),
            (
                Facts { wsrep_sst_donor_rejects_queries: some("1"), ..donor("mariabackup") },
                when(Donor::Nonblocking),
                DONOR_DOWN,
            ),
            (
                Facts { wsrep_cluster_size: Some(2), ..donor("rsync") },
                when(Donor::Last),
                "up: local state is 2 (Donor/Desynced), 2 members",
            ),
            (donor("rsync"), when(Donor::Last), DONOR_DOWN),
            (Facts { wsrep_desync_count: None, ..donor("rsync") }, options(), DONOR_DOWN),
            (desynced(), options(), "down: local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)"),
            (desynced(), desync_allowed(), DONOR_UP),
            (
                desynced(),
                when(Donor::Always),
                "down: local state is 2 (Donor/Desynced) by wsrep_desync, not 4 (Synced)",
            ),
            (Facts { wsrep_desync_count: Some(2), ..desynced() }, desync_allowed(), DONOR_DOWN),
            (
                in_state(2, "Donor/Desynced"),
                when(Donor::Always),
                "down: local state is 2 (Donor/Desynced) and catching up, not 4 (Synced)",
            ),
            (
                in_state(1, "Joining: receiving State Transfer"),
                options(),
                "down: local state is 1 (Joining), not 4 (Synced)",
            ),
            (in_state(3, "Joined"), options(), "down: local state is 3 (Joined), not 4 (Synced)"),
            (
                Facts { wsrep_local_state: None, wsrep_local_state_comment: Variable::default(), ..synced() },
                options(),
                "down: local state is NULL (NULL), not 4 (Synced)",
            ),
            (read_only(), options(), "down: read_only is ON, not OFF"),
            (Facts { read_only: some("NO_LOCK"), ..synced() }, options(), "down: read_only is NO_LOCK, not OFF"),
            (read_only(), Options { available_when_readonly: true, ..options() }, UP),
            (
                Facts { wsrep_cluster_size: Some(1), ..synced() },
                Options { min_cluster_size: 2, ..options() },
                "down: cluster size is 1, minimum is 2",
            ),
            (synced(), Options { min_cluster_size: 3, ..options() }, UP),
            (Facts { wsrep_cluster_size: None, ..synced() }, options(), "down: cluster size is NULL, minimum is 1"),
            (
                Facts { wsrep_local_recv_queue: Some(11), ..synced() },
                Options { max_recv_queue: Some(10), ..options() },
                "down: receive queue is 11, limit is 10",
            ),
            (
                Facts { wsrep_local_recv_queue: Some(10), ..synced() },
                Options { max_recv_queue: Some(10), ..options() },
                UP,
            ),
            (
                Facts { consistency: Some(differs()), ..synced() },
                demanding(),
                "down: data differs from the source in 2 tables (shop.orders)",
            ),
            (Facts { consistency_error: Some("why".into()), ..synced() }, demanding(), "down: why"),
            (synced(), weekly(), "down: consistency was never checked, limit is 7d"),
            (consistent(9 * DAY), weekly(), "down: consistency was checked 9d ago, limit is 7d"),
            (consistent(-DAY), weekly(), "down: consistency was checked in the future: check clocks"),
            (consistent(DAY), weekly(), UP),
            (Facts { consistency: Some(differs()), ..synced() }, options(), UP),
            (synced(), demanding(), UP),
            (
                Facts { consistency_error: Some("why".into()), wsrep_ready: some("OFF"), ..synced() },
                demanding(),
                "down: wsrep_ready is OFF, not ON",
            ),
            (
                Facts { pxc_maint_mode: some("MAINTENANCE"), ..synced() },
                options(),
                "drain: pxc_maint_mode is MAINTENANCE, not DISABLED",
            ),
            (
                Facts { pxc_maint_mode: some("SHUTDOWN"), wsrep_ready: some("OFF"), ..synced() },
                options(),
                "down: wsrep_ready is OFF, not ON",
            ),
            (Facts { pxc_maint_mode: some("DISABLED"), ..synced() }, options(), UP),
            (synced(), options(), UP),
            (Facts { wsrep_cluster_size: Some(1), ..synced() }, options(), "up: local state is 4 (Synced), 1 member"),
        ];
        for (facts, options, verdict) in rows {
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }
}
