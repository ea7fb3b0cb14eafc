//! Decides whether a server may take the traffic it is meant for. Pure: no I/O, no clock.

use check::{Verdict, down, up};
use client::or_null;

use crate::options::{AutoIncrement, Options};
use crate::probe::{Facts, Group};

/// Applies the rules of mysqlchk-status(8); the first that matches wins.
pub(crate) fn judge(facts: &Facts, options: &Options) -> Verdict {
    let read_only = facts.read_only.switch();
    if facts.offline_mode.is_set() {
        return down("offline_mode is ON");
    }
    if facts.skip_networking.is_set() && !options.allow_skip_networking {
        return down("skip_networking is ON");
    }
    if facts.wsrep_on.is_set() && !facts.wsrep_ready.is_on() {
        return down(format!("wsrep_ready is {}, not ON", facts.wsrep_ready));
    }
    if let Some(reason) = refusal_of_writes(facts).filter(|_| options.require_writable) {
        return down(reason);
    }
    if let Some(AutoIncrement { increment, offset }) = options.require_auto_increment {
        let (found, own) = (facts.auto_increment_increment, facts.auto_increment_offset);
        if found.is_none_or(|found| found < increment) {
            return down(format!("auto_increment_increment is {}, not {increment} or more", or_null(found)));
        }
        if own != Some(offset) {
            return down(format!("auto_increment_offset is {}, not {offset}", or_null(own)));
        }
    }
    if options.require_read_only && (facts.read_only.is_off() || !facts.read_only.is_known()) {
        return down(format!("read_only is {read_only}, not ON"));
    }
    up(format!("the server answers, read_only is {read_only}"))
}

/// Why the server takes no writes, or must not; `None` when it does.
fn refusal_of_writes(facts: &Facts) -> Option<String> {
    if !facts.read_only.is_off() {
        return Some(format!("read_only is {}, not OFF", facts.read_only.switch()));
    }
    let switches = [
        ("super_read_only", &facts.super_read_only),
        ("transaction_read_only", &facts.transaction_read_only),
        ("innodb_read_only", &facts.innodb_read_only),
    ];
    if let Some((name, _)) = switches.into_iter().find(|(_, switch)| switch.is_set()) {
        return Some(format!("{name} is ON, not OFF"));
    }
    // Where writes are still possible, they are not safe: a server is started so to save what is on it.
    if facts.innodb_force_recovery.is_set() {
        return Some(format!("innodb_force_recovery is {}, not 0", facts.innodb_force_recovery));
    }
    // A member that has left its group may be writable, and so may one that has lost the majority.
    match &facts.group {
        Group::None => None,
        Group::Hidden => Some("member state is unknown: GRANT SELECT ON performance_schema.*".to_owned()),
        Group::Seen(member) => member.trouble(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Variable;
    use client::group::Membership;

    fn some(text: &str) -> Variable {
        text.into()
    }

    /// The table of mysqlchk-status(8), in its order.
    #[test]
    fn the_table() {
        let writable = Facts { read_only: some("0"), ..Facts::default() };
        let read_only = Facts { read_only: some("1"), ..Facts::default() };
        let local = Facts { skip_networking: some("1"), ..writable.clone() };
        let by_socket = || Options { allow_skip_networking: true, ..Options::default() };
        let refusing = [
            Facts { transaction_read_only: some("1"), ..writable.clone() },
            Facts { innodb_read_only: some("1"), ..writable.clone() },
            Facts { innodb_force_recovery: some("1"), ..writable.clone() },
        ];
        let in_order = Facts {
            skip_networking: some("0"),
            transaction_read_only: some("0"),
            innodb_read_only: some("0"),
            innodb_force_recovery: some("0"),
            ..writable.clone()
        };
        let galera = |ready| Facts { wsrep_on: some("1"), wsrep_ready: ready, ..writable.clone() };
        let any = || Options::default();
        let write = || Options { require_writable: true, ..Options::default() };
        let read = || Options { require_read_only: true, ..Options::default() };
        let step = || Options {
            require_auto_increment: Some(AutoIncrement { increment: 2, offset: 2 }),
            ..Options::default()
        };
        let member = |state: &str, reachable| {
            let role = "PRIMARY".to_owned();
            let group = Membership { state: state.to_owned(), role, members: 3, reachable, applier_queue: Some(0) };
            Facts { group: Group::Seen(group), ..writable.clone() }
        };
        let steps = |increment, offset| Facts {
            auto_increment_increment: increment,
            auto_increment_offset: offset,
            ..writable.clone()
        };
        let rows = [
            (Facts { offline_mode: some("1"), ..writable.clone() }, any(), "down: offline_mode is ON"),
            (Facts { offline_mode: some("0"), ..writable.clone() }, any(), "up: the server answers, read_only is OFF"),
            (local.clone(), any(), "down: skip_networking is ON"),
            (local, by_socket(), "up: the server answers, read_only is OFF"),
            (galera(some("OFF")), any(), "down: wsrep_ready is OFF, not ON"),
            (galera(Variable::default()), any(), "down: wsrep_ready is NULL, not ON"),
            (galera(some("ON")), any(), "up: the server answers, read_only is OFF"),
            (
                Facts { wsrep_on: some("0"), wsrep_ready: some("OFF"), ..writable.clone() },
                any(),
                "up: the server answers, read_only is OFF",
            ),
            (read_only.clone(), write(), "down: read_only is ON, not OFF"),
            (Facts { read_only: some("NO_LOCK"), ..Facts::default() }, write(), "down: read_only is NO_LOCK, not OFF"),
            (
                Facts { read_only: some("NO_LOCK_NO_ADMIN"), ..Facts::default() },
                write(),
                "down: read_only is NO_LOCK_NO_ADMIN, not OFF",
            ),
            (Facts::default(), write(), "down: read_only is NULL, not OFF"),
            (Facts { super_read_only: some("1"), ..writable.clone() }, write(), "down: super_read_only is ON, not OFF"),
            (
                Facts { super_read_only: some("0"), ..writable.clone() },
                write(),
                "up: the server answers, read_only is OFF",
            ),
            (refusing[0].clone(), write(), "down: transaction_read_only is ON, not OFF"),
            (refusing[1].clone(), write(), "down: innodb_read_only is ON, not OFF"),
            (refusing[2].clone(), write(), "down: innodb_force_recovery is 1, not 0"),
            (refusing[0].clone(), any(), "up: the server answers, read_only is OFF"),
            (refusing[1].clone(), any(), "up: the server answers, read_only is OFF"),
            (refusing[2].clone(), any(), "up: the server answers, read_only is OFF"),
            (in_order.clone(), write(), "up: the server answers, read_only is OFF"),
            (Facts { read_only: some("OFF"), ..Facts::default() }, write(), "up: the server answers, read_only is OFF"),
            (
                Facts { group: Group::Hidden, ..writable.clone() },
                write(),
                "down: member state is unknown: GRANT SELECT ON performance_schema.*",
            ),
            (member("OFFLINE", 1), write(), "down: member state is OFFLINE, not ONLINE"),
            (member("ONLINE", 1), write(), "down: no majority: 1 of 3 members are reachable"),
            (member("ONLINE", 2), write(), "up: the server answers, read_only is OFF"),
            (steps(Some(1), Some(2)), step(), "down: auto_increment_increment is 1, not 2 or more"),
            (steps(None, Some(2)), step(), "down: auto_increment_increment is NULL, not 2 or more"),
            (steps(Some(2), Some(1)), step(), "down: auto_increment_offset is 1, not 2"),
            (steps(Some(2), None), step(), "down: auto_increment_offset is NULL, not 2"),
            (steps(Some(2), Some(2)), step(), "up: the server answers, read_only is OFF"),
            (steps(Some(10), Some(2)), step(), "up: the server answers, read_only is OFF"),
            (writable.clone(), read(), "down: read_only is OFF, not ON"),
            (Facts::default(), read(), "down: read_only is NULL, not ON"),
            (read_only.clone(), read(), "up: the server answers, read_only is ON"),
            (read_only, any(), "up: the server answers, read_only is ON"),
            (writable, any(), "up: the server answers, read_only is OFF"),
        ];
        for (facts, options, verdict) in rows {
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }
}
