//! What the status check asks: the switches that make a server refuse traffic although it answers.
//!
//! Needs no privilege, but on a member of a replication group. `SELECT @@global.x` is the cheapest statement there is. What
//! only a Galera node has is a second query there: even a subquery that is not evaluated costs every other server 0.05 ms
//! of CPU (measured on `MariaDB` 10.11.19, where the rest is 0.02 ms and `SHOW STATUS LIKE` 0.14 ms).

use std::borrow::Cow;

use check::{Verdict, down};
use client::error::{ER_TABLEACCESS_DENIED_ERROR, ER_UNKNOWN_SYSTEM_VARIABLE};
use client::group::{self, Membership};
use client::{Error, Family, Row, Rows, Session, Variable};

use crate::options::Options;

/// `MariaDB` built with wsrep, which every packaged one is (10.1 and later). `transaction_read_only` is an alias since 11.1.
const MARIADB: &str = "SELECT @@global.read_only AS read_only, @@global.skip_networking AS skip_networking, \
    @@global.auto_increment_increment AS auto_increment_increment, \
    @@global.auto_increment_offset AS auto_increment_offset, \
    @@global.tx_read_only AS transaction_read_only, @@global.innodb_read_only AS innodb_read_only, \
    @@global.innodb_force_recovery AS innodb_force_recovery, @@global.wsrep_on AS wsrep_on";
/// On a Galera node of `MariaDB`, also while it is not ready.
const READY: &str = "SELECT VARIABLE_VALUE AS wsrep_ready FROM information_schema.GLOBAL_STATUS \
    WHERE VARIABLE_NAME = 'WSREP_READY'";
/// `MySQL` 8.0 and later. The wsrep rows exist in XtraDB Cluster and Codership builds only; without the first the table
/// of variables is not filled for the second (measured on 9.7.4: 0.24 ms of server CPU against 0.50 ms).
const MYSQL: &str = "SELECT @@global.read_only AS read_only, @@global.skip_networking AS skip_networking, \
    @@global.auto_increment_increment AS auto_increment_increment, \
    @@global.auto_increment_offset AS auto_increment_offset, \
    @@global.transaction_read_only AS transaction_read_only, @@global.innodb_read_only AS innodb_read_only, \
    @@global.innodb_force_recovery AS innodb_force_recovery, @@global.super_read_only AS super_read_only, \
    @@global.offline_mode AS offline_mode, ready.VARIABLE_VALUE AS wsrep_ready, \
    (SELECT provider.VARIABLE_VALUE <> 'none' FROM performance_schema.global_variables AS provider \
    WHERE provider.VARIABLE_NAME = 'wsrep_provider' AND ready.VARIABLE_VALUE IS NOT NULL) AS wsrep_on \
    FROM (SELECT 1) AS one \
    LEFT JOIN performance_schema.global_status AS ready ON ready.VARIABLE_NAME = 'wsrep_ready'";
/// The variable in [`MYSQL`] that 8.0 and later have, and its name before (`MySQL` 5.7 manual, "Server System Variables").
const RENAMED: [&str; 2] = ["@@global.transaction_read_only", "@@global.tx_read_only"];
/// Whether this is to be a member of a replication group: the row of the plugin, with the name of the group; needs no
/// privilege. With `--require-writable` it is asked in the same round trip, and after it the members: an account that may
/// not see those is refused there. Asked by the plugin's row, the table of variables is filled only where there is one
/// (measured on `MySQL` 9.7.4 without the plugin: 0.25 ms of server CPU against 0.7 ms).
const GROUP_NAME: &str = "SELECT (SELECT v.VARIABLE_VALUE FROM performance_schema.global_variables AS v \
    WHERE v.VARIABLE_NAME = CONCAT(p.PLUGIN_NAME, '_group_name')) AS group_name \
    FROM information_schema.PLUGINS AS p WHERE p.PLUGIN_NAME = 'group_replication'";
/// For older servers, and for a `MariaDB` built without wsrep: `MySQL` 5.6.7 and `MariaDB` 10.0 and later.
const PLAIN: &str = "SELECT @@global.read_only AS read_only, @@global.skip_networking AS skip_networking, \
    @@global.auto_increment_increment AS auto_increment_increment, \
    @@global.auto_increment_offset AS auto_increment_offset, \
    @@global.tx_read_only AS transaction_read_only, @@global.innodb_read_only AS innodb_read_only, \
    @@global.innodb_force_recovery AS innodb_force_recovery";
/// What every server has, whatever stands between it and us.
const ANY: &str = "SELECT @@global.read_only AS read_only, @@global.skip_networking AS skip_networking, \
    @@global.auto_increment_increment AS auto_increment_increment, \
    @@global.auto_increment_offset AS auto_increment_offset";

/// The switches as the server reports them. Unknown is NULL, or a switch that the server does not have.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(crate) struct Facts {
    /// `OFF`, `ON`, `0`, `1`; `MariaDB` 12 also `NO_LOCK` and `NO_LOCK_NO_ADMIN`.
    pub(crate) read_only: Variable,
    /// The server takes no connections over TCP.
    pub(crate) skip_networking: Variable,
    /// The step between the values a table hands out; `None` is unknown.
    pub(crate) auto_increment_increment: Option<u32>,
    /// The first of them; `None` is unknown.
    pub(crate) auto_increment_offset: Option<u32>,
    /// A new session's transactions are read-only: `tx_read_only` on `MariaDB` and `MySQL` 5.7.
    pub(crate) transaction_read_only: Variable,
    /// The server was started with `InnoDB` read-only.
    pub(crate) innodb_read_only: Variable,
    /// From 0 to 6. `MySQL` refuses every insert from 1 on (1881), `MariaDB` from 5 on (1836, 1036; measured on 10.11 and 11.8).
    pub(crate) innodb_force_recovery: Variable,
    /// `MySQL` 5.7.8 and later.
    pub(crate) super_read_only: Variable,
    /// `MySQL` 5.7.5 and later.
    pub(crate) offline_mode: Variable,
    /// Whether the server is a Galera node.
    pub(crate) wsrep_on: Variable,
    /// Only had on a Galera node.
    pub(crate) wsrep_ready: Variable,
    /// Only asked with `--require-writable`.
    pub(crate) group: Group,
}

/// A server's place in a replication group.
#[derive(Debug, Default, Clone, serde::Serialize)]
#[serde(untagged)]
pub(crate) enum Group {
    /// It is to be a member of none, or was not asked.
    #[default]
    None,
    /// It is, and the account may not see more.
    Hidden,
    /// As it sees it.
    Seen(Membership),
}

/// Asks for the switches; again only on a Galera node of `MariaDB`, and where the server does not know one of them.
///
/// # Errors
/// When the server refuses the statement, or answers without a row.
pub(crate) fn ask(session: &mut Session<'_>, options: &Options) -> Result<Facts, Verdict> {
    let members = |family| group::statement(family).filter(|_| options.require_writable);
    let statements = |family| {
        let group = members(family).map(|members| [GROUP_NAME.into(), members.into()]);
        [statement(family)].into_iter().chain(group.into_iter().flatten()).collect()
    };
    let (family, answers) =
        session.query_by_family(statements, |answers| matches!(answers.first(), Some(Err(error)) if is_unknown(error)));
    let mut answers = answers.into_iter();
    let mut next = || answers.next().ok_or_else(|| down("cannot query: no answer"));
    let (rows, members) = match next()? {
        Err(error) if is_unknown(&error) => (ask_for_less(session, &statement(family), error)?, None),
        answer => (answer?, members(family)),
    };
    let mut facts = rows.first().map(facts).ok_or_else(no_row)?;
    if family == Family::MariaDb && facts.wsrep_on.is_set() {
        facts.wsrep_ready = session.query(READY)?.first().map(|row| row.variable("wsrep_ready")).unwrap_or_default();
    }
    // What was asked for has to be there: a partial answer is no answer.
    let group = if members.is_some() { group(&next()??, next())? } else { Group::None };
    Ok(Facts { group, ..facts })
}

fn is_unknown(error: &Error) -> bool {
    error.is(&[ER_UNKNOWN_SYSTEM_VARIABLE])
}

fn no_row() -> Verdict {
    down("cannot query: the answer has no row")
}

/// The switches, in the words of this server.
fn statement(family: Family) -> Cow<'static, str> {
    match family {
        Family::MariaDb => MARIADB.into(),
        Family::MySql(8.., ..) => MYSQL.into(),
        Family::MySql(5, 7, 8..) => MYSQL.replace(RENAMED[0], RENAMED[1]).into(),
        Family::MySql(..) => PLAIN.into(),
    }
}

/// The place in a replication group, from the name of the group and the members. A plugin without the name of a group is
/// loaded, and no more: it cannot be started (as after a cluster was dissolved).
fn group(name: &Rows, members: Result<Result<Rows, Error>, Verdict>) -> Result<Group, Verdict> {
    let members = members?;
    if name.first().and_then(|row| row.get(&["group_name"])).is_none_or(str::is_empty) {
        return Ok(Group::None);
    }
    match members {
        Ok(members) => Membership::of(&members).map(Group::Seen).ok_or_else(no_row),
        Err(error) if error.is(&[ER_TABLEACCESS_DENIED_ERROR]) => Ok(Group::Hidden),
        Err(error) => Err(error.into()),
    }
}

/// Where a variable is unknown, as on a `MariaDB` built without wsrep.
fn ask_for_less(session: &mut Session<'_>, asked: &str, unknown: Error) -> Result<Rows, Error> {
    let mut answer = Err(unknown);
    for statement in [PLAIN, ANY].into_iter().filter(|statement| *statement != asked) {
        answer = session.query(statement);
        if !answer.as_ref().is_err_and(is_unknown) {
            break;
        }
    }
    answer
}

fn facts(row: &Row) -> Facts {
    let number = |name| row.get(&[name]).and_then(|value| value.parse().ok());
    Facts {
        read_only: row.variable("read_only"),
        skip_networking: row.variable("skip_networking"),
        auto_increment_increment: number("auto_increment_increment"),
        auto_increment_offset: number("auto_increment_offset"),
        transaction_read_only: row.variable("transaction_read_only"),
        innodb_read_only: row.variable("innodb_read_only"),
        innodb_force_recovery: row.variable("innodb_force_recovery"),
        super_read_only: row.variable("super_read_only"),
        offline_mode: row.variable("offline_mode"),
        wsrep_on: row.variable("wsrep_on"),
        wsrep_ready: row.variable("wsrep_ready"),
        group: Group::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_mariadb_has_no_wsrep_ready() {
        let row = Row::of(&[
            ("read_only", Some("0")),
            ("auto_increment_increment", Some("2")),
            ("auto_increment_offset", Some("1")),
            ("wsrep_on", Some("0")),
            ("wsrep_ready", None),
        ]);
        let facts = facts(&row);
        assert_eq!((facts.auto_increment_increment, facts.auto_increment_offset), (Some(2), Some(1)));
        assert_eq!((facts.read_only, facts.wsrep_on), ("0".into(), "0".into()));
        assert_eq!((facts.wsrep_ready, facts.super_read_only), (Variable::default(), Variable::default()));
    }

    #[test]
    fn a_member_of_a_group_sees_it_or_may_not() {
        let plugin = |name| Rows::of(vec![Row::of(&[("group_name", name)])]);
        let named = plugin(Some("6c61622d-6772-6f75-7000-000000000000"));
        let member = || Rows::of(vec![Row::of(&[("is_own", Some("1")), ("MEMBER_STATE", Some("OFFLINE"))])]);
        assert!(matches!(group(&named, Ok(Ok(member()))), Ok(Group::Seen(_))));
        assert!(group(&named, Ok(Ok(Rows::default()))).is_err());
        assert!(group(&named, Err(down("cannot query: no answer"))).is_err());
        // No plugin, and one that is merely loaded.
        for none in [Rows::default(), plugin(Some("")), plugin(None)] {
            assert!(matches!(group(&none, Ok(Ok(member()))), Ok(Group::None)), "{none:?}");
            // Also where there is nothing to see.
            assert!(group(&none, Err(down("cannot query: no answer"))).is_err());
        }
    }

    #[test]
    fn a_server_is_asked_in_its_own_words() {
        assert_eq!(statement(Family::MariaDb), MARIADB);
        assert_eq!(statement(Family::MySql(5, 7, 7)), PLAIN);
        let older = statement(Family::MySql(5, 7, 8));
        assert!(older.contains("@@global.tx_read_only AS transaction_read_only") && older.contains("super_read_only"));
        assert!(!older.contains(RENAMED[0]), "{older}");
        for (major, minor) in [(8, 0), (9, 7), (10, 0), (11, 8)] {
            assert_eq!(statement(Family::MySql(major, minor, 0)), MYSQL, "{major}.{minor}");
        }
    }

    #[test]
    fn every_switch_of_mysql_is_read() {
        let names = [
            "read_only",
            "skip_networking",
            "transaction_read_only",
            "innodb_read_only",
            "innodb_force_recovery",
            "super_read_only",
            "offline_mode",
            "wsrep_on",
            "wsrep_ready",
        ];
        for name in names {
            assert!(MYSQL.contains(&format!("AS {name}")), "{name}");
        }
        let facts = facts(&Row::of(&names.map(|name| (name, Some(name)))));
        assert_eq!(
            [
                facts.read_only,
                facts.skip_networking,
                facts.transaction_read_only,
                facts.innodb_read_only,
                facts.innodb_force_recovery,
                facts.super_read_only,
                facts.offline_mode,
                facts.wsrep_on,
                facts.wsrep_ready
            ],
            names.map(Variable::from)
        );
    }
}
