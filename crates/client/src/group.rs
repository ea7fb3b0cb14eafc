//! Group Replication: what a member knows of its group, and whether it is of use in it.
//!
//! For each check that a member of a group may be asked. A member's own word is not enough: with two of three members
//! frozen the third still calls itself `ONLINE` and `PRIMARY` and is writable, and every write hangs (measured on `MySQL`
//! 9.7.4); and one that was restarted without joining again is `OFFLINE` and takes writes.

use serde::Serialize;

use crate::family::Family;
use crate::rows::Row;
use crate::variable::NULL;

/// Asks for the members as this server sees them, and for its own applier queue. `MySQL` 8.0.2 and later; no row on a
/// server without the plugin. Privilege: `SELECT` on `performance_schema.replication_group_members` and
/// `replication_group_member_stats`. [`statement`] has the one for a server.
pub const STATEMENT: &str = "SELECT m.MEMBER_ID = @@server_uuid AS is_own, m.MEMBER_STATE, m.MEMBER_ROLE, \
    s.COUNT_TRANSACTIONS_REMOTE_IN_APPLIER_QUEUE AS applier_queue \
    FROM performance_schema.replication_group_members AS m \
    LEFT JOIN performance_schema.replication_group_member_stats AS s USING (MEMBER_ID)";
/// The same of `MySQL` 5.7.17 and later, which has no applier queue to show, and no role but by the status variable: the id
/// of the primary, or empty where every member is one. Privilege: `SELECT` on `performance_schema.replication_group_members`.
const MYSQL_5_7: &str = "SELECT m.MEMBER_ID = @@server_uuid AS is_own, m.MEMBER_STATE, \
    IF(m.MEMBER_STATE = 'ONLINE', IF(p.VARIABLE_VALUE IN ('', m.MEMBER_ID), 'PRIMARY', 'SECONDARY'), '') AS MEMBER_ROLE, \
    NULL AS applier_queue FROM performance_schema.replication_group_members AS m \
    LEFT JOIN performance_schema.global_status AS p ON p.VARIABLE_NAME = 'group_replication_primary_member'";

/// The statement that asks a server for its group; `None` for one that has no Group Replication.
#[must_use]
pub fn statement(family: Family) -> Option<&'static str> {
    match family {
        Family::MySql(8.., ..) => Some(STATEMENT),
        Family::MySql(5, 7, 17..) => Some(MYSQL_5_7),
        Family::MySql(..) | Family::MariaDb => None,
    }
}

/// A server's place in its group, as it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Membership {
    /// `ONLINE`, `RECOVERING`, `OFFLINE`, `ERROR`.
    pub state: String,
    /// `PRIMARY` or `SECONDARY`; empty outside a group, and on `MySQL` 5.7 while it is not `ONLINE`.
    pub role: String,
    /// All members of the group, with this one; those expelled are none.
    pub members: usize,
    /// Those that are not `UNREACHABLE`, with this one.
    pub reachable: usize,
    /// Transactions of other members that wait to be applied here; `None` is unknown, as on `MySQL` 5.7.
    pub applier_queue: Option<u64>,
}

impl Membership {
    /// Reads the answer to a [`statement`]; `None` for a server that has nothing to do with a group.
    #[must_use]
    pub fn of(rows: &[Row]) -> Option<Membership> {
        // Outside a group the plugin shows one row, whose id may be empty; of another one who is online it is not.
        let own = rows.iter().find(|row| row.get(&["is_own"]) == Some("1")).or(match rows {
            [alone] if alone.get(&["MEMBER_STATE"]) != Some("ONLINE") => Some(alone),
            _ => None,
        });
        let text = |name| own.and_then(|row| row.get(&[name])).unwrap_or_default().to_owned();
        let unreachable = rows.iter().filter(|row| row.get(&["MEMBER_STATE"]) == Some("UNREACHABLE")).count();
        (!rows.is_empty()).then(|| Membership {
            state: text("MEMBER_STATE"),
            role: text("MEMBER_ROLE"),
            members: rows.len(),
            reachable: rows.len() - unreachable,
            applier_queue: own.and_then(|row| row.get(&["applier_queue"])?.parse().ok()),
        })
    }

    /// Why this member must not be used, whatever for; `None` when it is online in a group with a majority.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let Membership { state, members, reachable, .. } = self;
        if state != "ONLINE" {
            return Some(format!("member state is {}, not ONLINE", if state.is_empty() { NULL } else { state }));
        }
        // More than half, as the group itself counts.
        (reachable * 2 <= *members).then(|| format!("no majority: {reachable} of {members} members are reachable"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(own: &str, state: &str, role: &str) -> Row {
        Row::of(&[
            ("is_own", Some(own)),
            ("MEMBER_STATE", Some(state)),
            ("MEMBER_ROLE", Some(role)),
            ("applier_queue", Some("7")),
        ])
    }

    #[test]
    fn a_server_is_asked_in_its_own_words() {
        for (family, asked) in [
            (Family::MariaDb, None),
            (Family::MySql(5, 6, 51), None),
            (Family::MySql(5, 7, 16), None),
            (Family::MySql(5, 7, 17), Some(MYSQL_5_7)),
            (Family::MySql(8, 0, 11), Some(STATEMENT)),
            (Family::MySql(9, 7, 4), Some(STATEMENT)),
            (Family::MySql(10, 0, 0), Some(STATEMENT)),
        ] {
            assert_eq!(statement(family), asked, "{family:?}");
        }
    }

    #[test]
    fn a_server_without_the_plugin_is_in_no_group() {
        assert_eq!(Membership::of(&[]), None);
    }

    #[test]
    fn a_member_is_of_use_online_and_with_a_majority() {
        let online = || row("1", "ONLINE", "PRIMARY");
        let other = |state| row("0", state, "SECONDARY");
        for (rows, trouble) in [
            (vec![online(), other("ONLINE"), other("ONLINE")], None),
            (vec![other("ONLINE"), online(), other("UNREACHABLE")], None),
            (vec![online(), other("RECOVERING"), other("UNREACHABLE")], None),
            (
                vec![online(), other("UNREACHABLE"), other("UNREACHABLE")],
                Some("no majority: 1 of 3 members are reachable"),
            ),
            (vec![online(), other("UNREACHABLE")], Some("no majority: 1 of 2 members are reachable")),
            (vec![online()], None),
            (
                vec![row("1", "RECOVERING", "SECONDARY"), other("ONLINE")],
                Some("member state is RECOVERING, not ONLINE"),
            ),
            (vec![row("0", "OFFLINE", "")], Some("member state is OFFLINE, not ONLINE")),
            (vec![row("1", "ERROR", "")], Some("member state is ERROR, not ONLINE")),
            (vec![other("ONLINE"), other("ONLINE")], Some("member state is NULL, not ONLINE")),
            (vec![other("ONLINE")], Some("member state is NULL, not ONLINE")),
        ] {
            assert_eq!(Membership::of(&rows).unwrap().trouble().as_deref(), trouble, "{rows:?}");
        }
        let own = Membership::of(&[other("ONLINE"), online()]).unwrap();
        assert_eq!((own.role.as_str(), own.members, own.reachable, own.applier_queue), ("PRIMARY", 2, 2, Some(7)));
    }
}
