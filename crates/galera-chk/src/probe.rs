//! What the Galera check asks: the wsrep status and the variables that decide about traffic, as rows of name and value.
//!
//! Needs no privilege. One statement reads both tables, and on `MariaDB` both can be read on a node that is not ready,
//! which refuses other tables and prepared statements (1047); XtraDB Cluster 5.7 answers nothing but `SHOW` and `SET` there,
//! and 1047 is the reason then. Measured on `MariaDB` 10.11.19: 0.18 ms of server CPU, 0.14 ms for a bare
//! `SHOW STATUS LIKE`, 0.25 ms for `SHOW VARIABLES`.

use check::{Verdict, down};
use client::consistency::{self, Found};
use client::error::{ER_NO_SUCH_TABLE, ER_TABLEACCESS_DENIED_ERROR, ER_UNKNOWN_SYSTEM_VARIABLE};
use client::{Answers, Family, Row, Session, Variable};

use crate::options::Options;

/// `MariaDB` built with wsrep, 10.1 and later. Reading a variable with `@@global` does not fill the variables table.
const MARIADB: &str = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME IN \
    ('WSREP_CLUSTER_STATUS', 'WSREP_CONNECTED', 'WSREP_READY', 'WSREP_LOCAL_STATE', 'WSREP_LOCAL_STATE_COMMENT', \
    'WSREP_DESYNC_COUNT', 'WSREP_CLUSTER_SIZE', 'WSREP_LOCAL_RECV_QUEUE') \
    UNION ALL SELECT 'wsrep_on', @@global.wsrep_on \
    UNION ALL SELECT 'wsrep_provider', @@global.wsrep_provider \
    UNION ALL SELECT 'skip_networking', @@global.skip_networking \
    UNION ALL SELECT 'wsrep_reject_queries', @@global.wsrep_reject_queries \
    UNION ALL SELECT 'wsrep_desync', @@global.wsrep_desync \
    UNION ALL SELECT 'wsrep_sst_method', @@global.wsrep_sst_method \
    UNION ALL SELECT 'wsrep_sst_donor_rejects_queries', @@global.wsrep_sst_donor_rejects_queries \
    UNION ALL SELECT 'read_only', @@global.read_only";
/// XtraDB Cluster and Codership builds of `MySQL` 5.7 and later; a variable that a build lacks is a row that is not there.
/// `wsrep_on` has session scope alone since 8.0, so the table of global variables does not hold it.
const MYSQL: &str = "SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME IN \
    ('wsrep_cluster_status', 'wsrep_connected', 'wsrep_ready', 'wsrep_local_state', 'wsrep_local_state_comment', \
    'wsrep_desync_count', 'wsrep_cluster_size', 'wsrep_local_recv_queue') \
    UNION ALL SELECT VARIABLE_NAME, VARIABLE_VALUE FROM performance_schema.global_variables WHERE VARIABLE_NAME IN \
    ('wsrep_provider', 'skip_networking', 'wsrep_reject_queries', 'wsrep_desync', 'wsrep_sst_method', \
    'wsrep_sst_donor_rejects_queries', 'read_only', 'pxc_maint_mode') \
    UNION ALL SELECT 'wsrep_on', @@wsrep_on";

/// How a `MariaDB` refuses a table of `MySQL`: also as one in a schema that is not open to all (measured on 10.11).
const NO_TABLE: [u16; 2] = [ER_NO_SUCH_TABLE, ER_TABLEACCESS_DENIED_ERROR];

/// The state that the node reports, under the server's own names. Unknown is NULL or a name the server does not have.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(crate) struct Facts {
    pub(crate) wsrep_on: Variable,
    /// A path; `none` without a provider.
    pub(crate) wsrep_provider: Variable,
    /// The server takes no connections over TCP.
    pub(crate) skip_networking: Variable,
    pub(crate) wsrep_cluster_status: Variable,
    pub(crate) wsrep_connected: Variable,
    pub(crate) wsrep_ready: Variable,
    /// XtraDB Cluster only: `DISABLED`, `SHUTDOWN` or `MAINTENANCE`.
    pub(crate) pxc_maint_mode: Variable,
    /// `NONE`, `ALL` or `ALL_KILL`; no status value shows it.
    pub(crate) wsrep_reject_queries: Variable,
    pub(crate) wsrep_local_state: Option<u64>,
    pub(crate) wsrep_local_state_comment: Variable,
    pub(crate) wsrep_desync: Variable,
    /// How many desyncs are under way: a donor's, an operator's, that of `FLUSH TABLES WITH READ LOCK`.
    pub(crate) wsrep_desync_count: Option<u64>,
    pub(crate) wsrep_sst_method: Variable,
    pub(crate) wsrep_sst_donor_rejects_queries: Variable,
    pub(crate) read_only: Variable,
    /// Members of the component this node is in.
    pub(crate) wsrep_cluster_size: Option<u64>,
    /// Write sets that wait to be applied.
    pub(crate) wsrep_local_recv_queue: Option<u64>,
    /// How its data was found to be; `None` when nothing is known, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consistency: Option<Found>,
    /// Why that cannot be read. A node that is not ready refuses the table (1047), and is down for its own reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consistency_error: Option<String>,
}

/// Asks for everything at once.
///
/// # Errors
/// When the server refuses the statement. A server built without wsrep is not an error: it has no facts.
pub(crate) fn ask(session: &mut Session<'_>, options: &Options) -> Result<Facts, Verdict> {
    let statement = |family| {
        let state = if family == Family::MariaDb { MARIADB } else { MYSQL };
        let compared = options.require_consistent.map(|_| consistency::statement(family));
        [Some(state), compared].into_iter().flatten().collect()
    };
    let is_mariadb = |answers: &Answers| matches!(answers.first(), Some(Err(error)) if error.is(&NO_TABLE));
    let (_, answers) = session.query_by_family(statement, is_mariadb);
    let mut answers = answers.into_iter();
    match answers.next().ok_or_else(|| down("cannot query: no answer"))? {
        Ok(rows) => {
            let (consistency, consistency_error) = match answers.next() {
                Some(Ok(compared)) => (Found::of(&compared), None),
                Some(Err(error)) => (None, Some(consistency::refusal(&error))),
                None => (None, None),
            };
            Ok(Facts { consistency, consistency_error, ..facts(&rows) })
        }
        // The server is built without wsrep.
        Err(error) if error.is(&[ER_UNKNOWN_SYSTEM_VARIABLE]) => Ok(Facts::default()),
        Err(error) => Err(error.into()),
    }
}

fn facts(rows: &[Row]) -> Facts {
    let value = |name: &str| {
        let row =
            rows.iter().find(|row| row.get(&["VARIABLE_NAME"]).is_some_and(|have| have.eq_ignore_ascii_case(name)))?;
        row.get(&["VARIABLE_VALUE"])
    };
    let text = |name| Variable::from(value(name));
    let number = |name| value(name).and_then(|value| value.parse().ok());
    Facts {
        wsrep_on: text("wsrep_on"),
        wsrep_provider: text("wsrep_provider"),
        skip_networking: text("skip_networking"),
        wsrep_cluster_status: text("wsrep_cluster_status"),
        wsrep_connected: text("wsrep_connected"),
        wsrep_ready: text("wsrep_ready"),
        pxc_maint_mode: text("pxc_maint_mode"),
        wsrep_reject_queries: text("wsrep_reject_queries"),
        wsrep_local_state: number("wsrep_local_state"),
        wsrep_local_state_comment: text("wsrep_local_state_comment"),
        wsrep_desync: text("wsrep_desync"),
        wsrep_desync_count: number("wsrep_desync_count"),
        wsrep_sst_method: text("wsrep_sst_method"),
        wsrep_sst_donor_rejects_queries: text("wsrep_sst_donor_rejects_queries"),
        read_only: text("read_only"),
        wsrep_cluster_size: number("wsrep_cluster_size"),
        wsrep_local_recv_queue: number("wsrep_local_recv_queue"),
        consistency: None,
        consistency_error: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, value: &str) -> Row {
        Row::of(&[("VARIABLE_NAME", Some(name)), ("VARIABLE_VALUE", Some(value))])
    }

    #[test]
    fn names_are_found_in_any_case() {
        let facts =
            facts(&[row("WSREP_LOCAL_STATE", "4"), row("wsrep_on", "1"), row("WSREP_CLUSTER_STATUS", "Primary")]);
        assert_eq!(facts.wsrep_local_state, Some(4));
        assert_eq!((facts.wsrep_on, facts.wsrep_cluster_status), ("1".into(), "Primary".into()));
        assert_eq!(facts.pxc_maint_mode, Variable::default());
    }

    #[test]
    fn every_name_of_the_statements_is_a_fact() {
        let all = serde_names(&Facts::default());
        for name in &all {
            let asked = |statement: &str| statement.to_lowercase().contains(&format!("'{name}'"));
            assert!(asked(MYSQL), "{name}");
            assert!(asked(MARIADB) || name == "pxc_maint_mode", "{name}");
        }
        let rows: Vec<Row> = all.iter().map(|name| row(name, "7")).collect();
        let text = format!("{:?}", Facts { consistency: Found::of(&rows), ..facts(&rows) });
        let of_the_statement = text.split("consistency: ").next().unwrap();
        assert!(!of_the_statement.contains("None"), "{text}");
    }

    /// The field names, as the JSON form shows them.
    fn serde_names(facts: &Facts) -> Vec<String> {
        let debug = format!("{facts:?}");
        debug
            .trim_start_matches("Facts {")
            .trim_end_matches('}')
            .split(',')
            .filter_map(|field| field.split_once(':'))
            .map(|(name, _)| name.trim().to_owned())
            // Those have a statement of their own.
            .filter(|name| !name.starts_with("consistency"))
            .collect()
    }
}
