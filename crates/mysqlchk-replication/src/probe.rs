//! What the replication check asks: the status of every channel, and what else the lag is taken from, in one round trip;
//! or the members of the replication group.
//!
//! Privilege: `REPLICATION CLIENT` on `MySQL` and on `MariaDB` before 10.5, `SLAVE MONITOR` on `MariaDB` since 10.5.9
//! (`REPLICATION SLAVE ADMIN` from 10.5.2 to 10.5.8); with `--lag-from=commit`, `--max-heartbeat-age` and
//! `--group-replication` on `MySQL` also `SELECT` on `performance_schema`, with `--lag-from=heartbeat` on its table.

use std::time::Duration;

use check::{Verdict, down};
use client::consistency::{self, Found};
use client::error::{
    ER_BAD_DB_ERROR, ER_BAD_FIELD_ERROR, ER_DBACCESS_DENIED_ERROR, ER_NO_SUCH_TABLE, ER_PARSE_ERROR,
    ER_SPECIFIC_ACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR,
};
use client::group::{self, Membership};
use client::{Answers, Error, Family, NULL, Row, Rows, Session, Variable};
use serde::{Serialize, Serializer};

use crate::lag::{self, Lag, LagFrom};
use crate::options::Options;

/// Whether clients can connect over the network; any server, no privilege. It stands before the others: what comes after a
/// statement that is refused is not run.
const NETWORK: &str = "SELECT @@global.skip_networking AS skip_networking";
/// `MySQL` since 8.0.22; the only spelling since 8.4.
const REPLICA: &str = "SHOW REPLICA STATUS";
/// `MySQL` before 8.0.22. One row a channel since 5.7.
const SLAVE: &str = "SHOW SLAVE STATUS";
/// `MariaDB`, any version: the plain statement hides named connections.
const ALL_SLAVES: &str = "SHOW ALL SLAVES STATUS";

/// What reading `performance_schema` takes.
const PERFORMANCE_SCHEMA: &str = "SELECT ON performance_schema.*";

/// What replicates to this server.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Facts {
    /// `1` where the server listens on its Unix socket alone.
    pub(crate) skip_networking: Variable,
    /// All channels; none when the server is not a replica, or was not asked for them.
    pub(crate) channels: Vec<Channel>,
    /// Its place in a replication group; `None` when it is in none, or was not asked.
    pub(crate) group: Option<Membership>,
    /// How its data was found to be; `None` when nothing is known, or was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consistency: Option<Found>,
}

/// One row of replication status.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Channel {
    /// Empty for the default channel.
    pub(crate) name: String,
    /// The receiver (IO) thread.
    pub(crate) receiver: Receiver,
    /// The applier (SQL) thread.
    pub(crate) applier: Applier,
    /// `Last_IO_Errno`; 0 means none.
    pub(crate) receiver_error: u32,
    /// `Last_SQL_Errno`; 0 means none.
    pub(crate) applier_error: u32,
    /// What `--lag-from` asks for.
    #[serde(rename = "lag_s")]
    pub(crate) lag: Lag,
    /// `SQL_Delay`, the delay this replica is configured to keep; `None` is none.
    #[serde(rename = "delay_s", serialize_with = "seconds")]
    pub(crate) delay: Option<Duration>,
    /// How long ago the receiver received something from its source; unknown also where that was not asked.
    #[serde(rename = "heard_s")]
    pub(crate) heard: Lag,
    /// Whether all that was received is applied, by the positions; `None` is unknown.
    pub(crate) all_applied: Option<bool>,
}

/// The state of a receiver. It is shown and serialized in the words of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Receiver {
    /// `Yes`.
    #[serde(rename = "Yes")]
    Running,
    /// `Connecting`: it tries to reach its source.
    Connecting,
    /// `No`, on `MariaDB` also `Preparing`; `NULL` is unknown.
    #[serde(untagged)]
    Other(String),
}

/// The state of an applier, as that of a [`Receiver`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) enum Applier {
    /// `Yes`.
    #[serde(rename = "Yes")]
    Running,
    /// `No`; `NULL` is unknown.
    #[serde(untagged)]
    Other(String),
}

impl From<&str> for Receiver {
    fn from(word: &str) -> Receiver {
        match word {
            "Yes" => Receiver::Running,
            "Connecting" => Receiver::Connecting,
            word => Receiver::Other(word.to_owned()),
        }
    }
}

impl From<&str> for Applier {
    fn from(word: &str) -> Applier {
        if word == "Yes" { Applier::Running } else { Applier::Other(word.to_owned()) }
    }
}

impl Receiver {
    pub(crate) fn word(&self) -> &str {
        match self {
            Receiver::Running => "Yes",
            Receiver::Connecting => "Connecting",
            Receiver::Other(word) => word,
        }
    }
}

impl Applier {
    pub(crate) fn word(&self) -> &str {
        match self {
            Applier::Running => "Yes",
            Applier::Other(word) => word,
        }
    }
}

impl Default for Receiver {
    fn default() -> Receiver {
        Receiver::Other(NULL.to_owned())
    }
}

impl Default for Applier {
    fn default() -> Applier {
        Applier::Other(NULL.to_owned())
    }
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => lag::serialize_seconds(*time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Asks what the options ask for, in the spelling of this server; in another one only on a syntax error.
///
/// # Errors
/// When the server refuses a statement; a missing privilege is named with its grant.
pub(crate) fn ask(session: &mut Session<'_>, options: &Options) -> Result<Facts, Verdict> {
    let is_recent_mysql = matches!(session.family(), Family::MySql(8.., ..));
    if options.group_replication.is_some() {
        return if is_recent_mysql {
            ask_group(session, options)
        } else {
            Err(down("`--group-replication` needs MySQL 8.0"))
        };
    }
    if !is_recent_mysql && options.max_heartbeat_age.is_some() {
        return Err(down("`--max-heartbeat-age` needs MySQL 8.0: take `--lag-from=heartbeat`"));
    }
    let wants_times = is_recent_mysql && (options.lag_from == LagFrom::Commit || options.max_heartbeat_age.is_some());
    let mut answers = ask_channels(session, options, wants_times).into_iter();
    let mut next = || answers.next().ok_or_else(no_answer);
    let skip_networking = skip_networking(&next()??);
    let status = next()?.map_err(|error| refusal(&error, status_grant(session.family())))?;
    let consistency = if options.require_consistent.is_some() { consistency_of(next()?)? } else { None };
    if status.is_empty() {
        return Ok(Facts { skip_networking, consistency, ..Facts::default() });
    }
    let mut extras = Extras { channels: status.len(), ..Extras::default() };
    if wants_times {
        extras.times = next()?.map_err(|error| refusal(&error, PERFORMANCE_SCHEMA))?;
    }
    if let Some(table) = &options.heartbeat_table {
        let name = table.shown();
        extras.heartbeats = next()?.map_err(|error| match error {
            error if error.is(&[ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE, ER_BAD_FIELD_ERROR]) => {
                down(format!("{error}: {name}"))
            }
            error => refusal(&error, &format!("SELECT ON {name}")),
        })?;
    }
    let channels = status.iter().map(|row| channel(row, &extras, options)).collect();
    Ok(Facts { skip_networking, channels, group: None, consistency })
}

/// Reads the answer about the data.
fn consistency_of(answer: Result<Rows, Error>) -> Result<Option<Found>, Verdict> {
    answer.map(|rows| Found::of(&rows)).map_err(|error| down(consistency::refusal(&error)))
}

/// The status of the channels and what else the options want, with [`NETWORK`] before it.
fn ask_channels(session: &mut Session<'_>, options: &Options, wants_times: bool) -> Answers {
    let heartbeats = options.heartbeat_table.as_ref().map(|table| table.statement(options.heartbeat_utc));
    let extras = [wants_times.then_some(lag::TIMESTAMPS), heartbeats.as_deref()];
    let compared = |family| options.require_consistent.map(|_| consistency::statement(family));
    let statements = |status, family| {
        [Some(NETWORK), Some(status), compared(family)].into_iter().chain(extras).flatten().collect::<Vec<_>>()
    };
    let greeted = session.family();
    let (first, second) = match greeted {
        Family::MariaDb => (ALL_SLAVES, SLAVE),
        Family::MySql(major, minor, patch) if (major, minor, patch) < (8, 0, 22) => (SLAVE, REPLICA),
        Family::MySql(..) => (REPLICA, SLAVE),
    };
    // The statements of MySQL hide the named connections of a MariaDB that greets as one; this column is its own.
    let is_mariadb = |answers: &Answers| matches!(answers.get(1), Some(Ok(rows)) if rows.has("Using_Gtid"));
    let mut ask = |spelling| {
        session
            .query_by_family(
                |family| statements(if family == greeted { spelling } else { ALL_SLAVES }, family),
                is_mariadb,
            )
            .1
    };
    let answers = ask(first);
    match answers.get(1) {
        Some(Err(error)) if error.is(&[ER_PARSE_ERROR]) => ask(second),
        _ => answers,
    }
}

/// The members of the replication group.
fn ask_group(session: &mut Session<'_>, options: &Options) -> Result<Facts, Verdict> {
    let compared = options.require_consistent.map(|_| consistency::statement(session.family()));
    let statements: Vec<&str> = [NETWORK, group::STATEMENT].into_iter().chain(compared).collect();
    let mut answers = session.query_each(&statements).into_iter();
    let mut next = || answers.next().ok_or_else(no_answer);
    let skip_networking = skip_networking(&next()??);
    let rows = next()?.map_err(|error| refusal(&error, PERFORMANCE_SCHEMA))?;
    let consistency = if compared.is_some() { consistency_of(next()?)? } else { None };
    Ok(Facts { skip_networking, group: Membership::of(&rows), consistency, ..Facts::default() })
}

fn no_answer() -> Verdict {
    down("cannot query: no answer")
}

/// Reads the answer to [`NETWORK`].
fn skip_networking(rows: &Rows) -> Variable {
    rows.first().map(|row| row.variable("skip_networking")).unwrap_or_default()
}

/// The rows that came with replication status; none where they were not asked for.
#[derive(Default)]
struct Extras {
    /// How many channels there are.
    channels: usize,
    /// One for each channel, in any order.
    times: Rows,
    /// One for each server that pt-heartbeat ran on.
    heartbeats: Rows,
}

/// The server's refusal, with the grant that is missing where that is the reason.
fn refusal(error: &Error, grant: &str) -> Verdict {
    // The server knows best: the name of this privilege has changed more than once.
    let named = error.privilege().map(|privilege| format!("{privilege} ON *.*"));
    match named {
        Some(named) if error.is(&[ER_SPECIFIC_ACCESS_DENIED_ERROR]) => down(format!("{error}: GRANT {named}")),
        _ if error.is(&[ER_SPECIFIC_ACCESS_DENIED_ERROR, ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR]) => {
            down(format!("{error}: GRANT {grant}"))
        }
        _ => down(error.to_string()),
    }
}

/// The grant for replication status, where the server does not name it.
fn status_grant(family: Family) -> &'static str {
    match family {
        Family::MariaDb => "SLAVE MONITOR ON *.*",
        Family::MySql(..) => "REPLICATION CLIENT ON *.*",
    }
}

fn channel(row: &Row, extras: &Extras, options: &Options) -> Channel {
    let text = |names: &[&str]| row.get(names).unwrap_or(NULL);
    let number = |names: &[&str]| row.get(names).and_then(|text| text.parse().ok()).unwrap_or_default();
    let name = row.get(&["Channel_Name", "Connection_name"]).unwrap_or_default();
    let times = extras.times.iter().find(|times| times.get(&["CHANNEL_NAME"]) == Some(name));
    let lag = match (options.lag_from, &options.heartbeat_table, times) {
        (LagFrom::Heartbeat, Some(table), _) => {
            let source = row.get(&["Source_Server_Id", "Master_Server_Id"]);
            let is_alone = extras.channels == 1 || options.channel.len() == 1;
            lag::of_heartbeat(&extras.heartbeats, table, options.heartbeat_source_id, source, is_alone)
        }
        (LagFrom::Commit, _, Some(times)) => lag::of_commits(times, row),
        (LagFrom::Commit, _, None) => lag::of_events(row),
        (LagFrom::Status | LagFrom::Heartbeat, ..) => lag::of_status(row),
    };
    Channel {
        name: name.to_owned(),
        receiver: text(&["Replica_IO_Running", "Slave_IO_Running"]).into(),
        applier: text(&["Replica_SQL_Running", "Slave_SQL_Running"]).into(),
        receiver_error: number(&["Last_IO_Errno"]),
        applier_error: number(&["Last_SQL_Errno"]),
        lag,
        delay: lag::seconds(row, &["SQL_Delay"]).filter(|delay| !delay.is_zero()),
        heard: times.map(lag::since_heard).unwrap_or_default(),
        all_applied: lag::is_all_applied(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        use clap::{Args, FromArgMatches};
        let command = Options::augment_args(clap::Command::new("test").no_binary_name(true));
        Options::from_arg_matches(&command.get_matches_from(words)).unwrap()
    }

    /// The channel that this row of status alone tells of.
    fn channel(row: &Row) -> Channel {
        super::channel(row, &Extras::default(), &options(&[]))
    }

    #[test]
    fn a_row_of_mysql_is_read() {
        let channel = channel(&Row::of(&[
            ("Replica_IO_State", Some("Waiting for source to send event")),
            ("Replica_IO_Running", Some("Yes")),
            ("Replica_SQL_Running", Some("No")),
            ("Seconds_Behind_Source", None),
            ("Last_IO_Errno", Some("0")),
            ("Last_SQL_Errno", Some("1062")),
            ("SQL_Delay", Some("0")),
            ("Channel_Name", Some("ch2")),
        ]));
        assert_eq!((channel.name.as_str(), channel.receiver.word(), channel.applier.word()), ("ch2", "Yes", "No"));
        assert_eq!((channel.receiver_error, channel.applier_error), (0, 1062));
        assert_eq!((channel.lag, channel.delay), (Lag::default(), None));
    }

    #[test]
    fn the_json_form_has_the_words_of_the_server() {
        for word in ["Yes", "Connecting", "No", "Preparing", "NULL"] {
            let words = [serde_json::to_value(Receiver::from(word)), serde_json::to_value(Applier::from(word))];
            assert_eq!(words.map(Result::unwrap), [word, word]);
        }
    }

    #[test]
    fn a_row_of_mariadb_is_read() {
        let channel = channel(&Row::of(&[
            ("Connection_name", Some("")),
            ("Slave_IO_Running", Some("Connecting")),
            ("Slave_SQL_Running", Some("Yes")),
            ("Seconds_Behind_Master", Some("42")),
            ("Last_IO_Errno", Some("2003")),
            ("Last_SQL_Errno", Some("0")),
            ("SQL_Delay", Some("30")),
        ]));
        assert_eq!((channel.name.as_str(), channel.receiver.word(), channel.applier.word()), ("", "Connecting", "Yes"));
        assert_eq!((channel.receiver_error, channel.applier_error), (2003, 0));
        assert_eq!((channel.lag, channel.delay), (Lag::Behind(Duration::from_secs(42)), Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_lag_that_is_no_number_is_unknown() {
        assert_eq!(channel(&Row::of(&[("Seconds_Behind_Source", Some("-1"))])).lag, Lag::default());
        assert_eq!(channel(&Row::of(&[])).receiver, Receiver::default());
    }

    #[test]
    fn the_lag_is_taken_from_what_was_asked_for() {
        let status = Row::of(&[
            ("Channel_Name", Some("eu")),
            ("Source_Server_Id", Some("17")),
            ("Seconds_Behind_Source", Some("1")),
            ("Source_Log_File", Some("bin.1")),
            ("Read_Source_Log_Pos", Some("9")),
            ("Relay_Source_Log_File", Some("bin.1")),
            ("Exec_Source_Log_Pos", Some("4")),
        ]);
        let times = |name| {
            Row::of(&[
                ("CHANNEL_NAME", Some(name)),
                ("now", Some("1000.500000")),
                ("heartbeat", Some("998.000000")),
                ("received", Some("995.250000")),
            ])
        };
        let beat = |id, age| Row::of(&[("ts", Some("t")), ("server_id", Some(id)), ("heartbeat_age", Some(age))]);
        let extras = Extras {
            channels: 1,
            times: Rows::of(vec![times("us"), times("eu")]),
            heartbeats: Rows::of(vec![beat("1", "9"), beat("17", "3000000")]),
        };
        let lag = |words: &[&str]| super::channel(&status, &extras, &options(words)).lag;
        assert_eq!(lag(&[]), Lag::Behind(Duration::from_secs(1)));
        let heartbeat = ["--lag-from=heartbeat", "--heartbeat-table=percona.heartbeat"];
        assert_eq!(lag(&heartbeat), Lag::Behind(Duration::from_secs(3)));
        assert_eq!(
            lag(&[&heartbeat[..], &["--heartbeat-source-id=1"]].concat()),
            Lag::Behind(Duration::from_micros(9))
        );
        assert_eq!(lag(&["--lag-from=commit"]), Lag::Behind(Duration::from_millis(5250)));
        let channel = super::channel(&status, &extras, &options(&[]));
        assert_eq!(channel.heard, Lag::Behind(Duration::from_millis(2500)));
        assert_eq!(channel.all_applied, Some(false));
    }

    #[test]
    fn a_missing_privilege_is_named_as_the_server_names_it() {
        assert_eq!(status_grant(Family::MariaDb), "SLAVE MONITOR ON *.*");
        assert_eq!(status_grant(Family::MySql(5, 7, 44)), "REPLICATION CLIENT ON *.*");
    }
}
