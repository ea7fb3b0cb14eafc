//! How far behind a channel is: three ways to tell, each with the statement it takes and what its rows mean.
//!
//! `Seconds_Behind_Source` is 0 whenever there is nothing to apply, also when the source has long gone. The heartbeat table
//! sees that; commit timestamps do not, but they are exact where `Seconds_Behind_Source` jumps.

use std::time::Duration;

use check::Row;
use serde::{Serialize, Serializer};

/// Where the lag is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LagFrom {
    /// `Seconds_Behind_Source`.
    Status,
    /// The age of a row that pt-heartbeat writes on the source.
    Heartbeat,
    /// When the source committed what is not applied yet.
    Commit,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Nobody knows; the words say why. Never counts as zero.
    Unknown(String),
    /// Behind by this.
    Behind(Duration),
    /// The source's clock is ahead of this server's, by this: counts as zero.
    Ahead(Duration),
}

impl Default for Lag {
    fn default() -> Lag {
        Lag::Unknown("lag is NULL".into())
    }
}

/// In seconds; `null` is unknown, and a clock that is ahead a negative number.
impl Serialize for Lag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Lag::Unknown(_) => serializer.serialize_none(),
            Lag::Behind(lag) => serialize_seconds(*lag, serializer),
            Lag::Ahead(lag) => serializer.serialize_f64(-lag.as_secs_f64()),
        }
    }
}

/// Whole seconds as a whole number.
pub(crate) fn serialize_seconds<S: Serializer>(time: Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match time.subsec_nanos() {
        0 => serializer.serialize_u64(time.as_secs()),
        _ => serializer.serialize_f64(time.as_secs_f64()),
    }
}

impl Lag {
    /// From a difference of two clocks in microseconds, negative where the source's is ahead.
    fn of_micros(micros: i64) -> Lag {
        let lag = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 { Lag::Ahead(lag) } else { Lag::Behind(lag) }
    }
}

/// `Seconds_Behind_Source` of a row of replication status.
pub(crate) fn of_status(row: &Row) -> Lag {
    seconds(row, &["Seconds_Behind_Source", "Seconds_Behind_Master"]).map_or_else(Lag::default, Lag::Behind)
}

/// The whole seconds under the first of `names` that the row has; `None` for NULL and for what is no number.
pub(crate) fn seconds(row: &Row, names: &[&str]) -> Option<Duration> {
    row.get(names).and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

/// A table, as given: both names without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    database: String,
    name: String,
}

/// Reads `percona.heartbeat`.
pub(crate) fn table(text: &str) -> Result<Table, String> {
    // 64 characters are the limit of a name ("Identifier Length Limits", MySQL 8.4 manual).
    let fits = |name: &str| !name.is_empty() && name.chars().count() <= 64 && !name.contains(['.', '`', '\0']);
    match text.split_once('.') {
        Some((database, name)) if fits(database) && fits(name) => {
            Ok(Table { database: database.to_owned(), name: name.to_owned() })
        }
        _ => Err("must be DB.TABLE, like `percona.heartbeat`, without quotes".into()),
    }
}

impl Table {
    /// The rows, with their age in microseconds. Both layouts of pt-heartbeat have `ts`; the time is written by the host
    /// of pt-heartbeat, in its time zone or in UTC (`--utc`).
    pub(crate) fn statement(&self, utc: bool) -> String {
        let now = if utc { "UTC_TIMESTAMP(6)" } else { "NOW(6)" };
        let Table { database, name } = self;
        format!("SELECT h.*, TIMESTAMPDIFF(MICROSECOND, h.ts, {now}) AS heartbeat_age FROM `{database}`.`{name}` AS h")
    }

    /// `DB.TABLE`.
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

/// The age of the heartbeat of one source: the row of `server_id`; in the old layout, which has `id` instead and counts
/// on one writer, the row of this id, or the only one. One row that is named for all, or the only one there is, tells
/// nothing of several channels: `is_alone` says that one is judged.
pub(crate) fn of_heartbeat(
    rows: &[Row],
    table: &Table,
    wanted: Option<u32>,
    source: Option<&str>,
    is_alone: bool,
) -> Lag {
    if wanted.is_some() && !is_alone {
        return Lag::Unknown("`--heartbeat-source-id` is for one channel: name it with `--channel`".into());
    }
    let is_new = rows.iter().any(|row| row.get(&["server_id"]).is_some());
    let id = wanted.map(|id| id.to_string()).or_else(|| source.map(str::to_owned));
    let row = match (rows, is_new, &id) {
        ([alone], false, _) if wanted.is_none() && is_alone => Some(alone),
        (_, _, Some(id)) => rows.iter().find(|row| row.get(&["server_id", "id"]) == Some(id)),
        _ => None,
    };
    let age = row.and_then(|row| row.get(&["heartbeat_age"])?.parse().ok());
    let of_whom = id.map_or_else(String::new, |id| format!(" of server {id}"));
    age.map_or_else(|| Lag::Unknown(format!("no heartbeat{of_whom} in {}", table.shown())), Lag::of_micros)
}

/// What `performance_schema` knows of each channel, all times in seconds since 1970 on this server's clock or, for commits,
/// the source's; 0 is never. `MySQL` 8.0 and later. Privilege: `SELECT` on `performance_schema`.
///
/// Source: "Performance Schema Replication Tables", `MySQL` 8.4 Reference Manual.
pub(crate) const TIMESTAMPS: &str = "SELECT c.CHANNEL_NAME, UNIX_TIMESTAMP(NOW(6)) AS now, \
    MAX(UNIX_TIMESTAMP(c.LAST_HEARTBEAT_TIMESTAMP)) AS heartbeat, \
    MAX(UNIX_TIMESTAMP(c.LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP)) AS queued, \
    MAX(UNIX_TIMESTAMP(c.QUEUEING_TRANSACTION_START_QUEUE_TIMESTAMP)) AS queueing, \
    MAX(UNIX_TIMESTAMP(c.LAST_QUEUED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS received, \
    MAX(UNIX_TIMESTAMP(w.LAST_APPLIED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS applied, \
    MIN(NULLIF(UNIX_TIMESTAMP(w.APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) AS applying, \
    MIN(NULLIF(UNIX_TIMESTAMP(p.PROCESSING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) AS processing \
    FROM performance_schema.replication_connection_status AS c \
    LEFT JOIN performance_schema.replication_applier_status_by_worker AS w USING (CHANNEL_NAME) \
    LEFT JOIN performance_schema.replication_applier_status_by_coordinator AS p USING (CHANNEL_NAME) \
    GROUP BY c.CHANNEL_NAME";

/// The time under `name`, in microseconds since 1970; `None` for 0, NULL and a column that is not there.
fn time(row: &Row, name: &str) -> Option<i64> {
    let (seconds, fraction) = row.get(&[name])?.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros).filter(|time| *time != 0)
}

/// How long ago the receiver last heard of its source: a heartbeat, or a transaction, since a source that is busy sends no
/// heartbeats. `None` when it has heard nothing since it was started.
pub(crate) fn since_heard(times: &Row) -> Option<Duration> {
    let heard = ["heartbeat", "queued", "queueing"].into_iter().filter_map(|name| time(times, name)).max()?;
    let age = time(times, "now")?.checked_sub(heard)?;
    // Both are by this server's clock. Heard in the future, it was stepped back since, and nobody knows.
    (age > -1_000_000).then(|| Duration::from_micros(u64::try_from(age).unwrap_or_default()))
}

/// The age of the oldest commit of the source that has been received and is not applied, on `MySQL`. `status` is the
/// channel's row of replication status.
///
/// What is in work tells its age. Between two transactions nothing is, and an applier that was restarted has forgotten what
/// it applied (measured on 9.7.4): then all is applied where the positions say so, and else it is never less than
/// `Seconds_Behind_Source`, as they are only brought up to date now and then (`replica_checkpoint_period`).
pub(crate) fn of_commits(times: &Row, status: &Row) -> Lag {
    let position = |file: [&str; 2], position: [&str; 2]| {
        Some((status.get(&file).filter(|file| !file.is_empty())?, status.get(&position)?))
    };
    let read = position(["Source_Log_File", "Master_Log_File"], ["Read_Source_Log_Pos", "Read_Master_Log_Pos"]);
    let executed =
        position(["Relay_Source_Log_File", "Relay_Master_Log_File"], ["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]);
    let unknown = || Lag::Unknown("lag by commit is unknown".into());
    let Some(now) = time(times, "now") else { return unknown() };
    let age = |since: i64| now.checked_sub(since).map(Lag::of_micros);
    if let Some(oldest) = ["applying", "processing"].into_iter().filter_map(|name| time(times, name)).min() {
        return age(oldest).unwrap_or_else(unknown);
    }
    if read.is_some() && read == executed {
        return Lag::Behind(Duration::ZERO);
    }
    let (received, applied) = (time(times, "received"), time(times, "applied"));
    let newest = received.and_then(|received| {
        if applied.is_some_and(|applied| applied >= received) {
            Some(Lag::Behind(Duration::ZERO))
        } else {
            age(received)
        }
    });
    match (newest, of_status(status)) {
        (Some(Lag::Behind(newest)), Lag::Behind(behind)) => Lag::Behind(newest.max(behind)),
        (Some(Lag::Ahead(_)), Lag::Behind(behind)) if !behind.is_zero() => Lag::Behind(behind),
        (Some(ahead @ Lag::Ahead(_)), Lag::Behind(_)) => ahead,
        _ => unknown(),
    }
}

/// The same on `MariaDB` 11.6 and later, from the difference of `Master_last_event_time` and `Slave_last_event_time`: two
/// times of the source, so that no clock of this server is in it. It stands still while an applier hangs and nothing new
/// comes, so it is never below `Seconds_Behind_Master`; it is NULL until the first event after a restart (measured on
/// 11.8.6).
pub(crate) fn of_events(status: &Row) -> Lag {
    if !status.has("Master_Slave_time_diff") {
        return Lag::Unknown("lag by commit needs MySQL 8.0 or MariaDB 11.6".into());
    }
    let behind = seconds(status, &["Seconds_Behind_Master"]);
    match seconds(status, &["Master_Slave_time_diff"]).max(behind) {
        Some(lag) => Lag::Behind(lag),
        None => Lag::Unknown("lag by commit is unknown".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &str = "0.000000";

    fn secs(lag: u64) -> Lag {
        Lag::Behind(Duration::from_secs(lag))
    }

    #[test]
    fn a_table_has_two_names() {
        let table = table("percona.heartbeat").unwrap();
        assert_eq!(
            table.statement(false),
            "SELECT h.*, TIMESTAMPDIFF(MICROSECOND, h.ts, NOW(6)) AS heartbeat_age FROM `percona`.`heartbeat` AS h"
        );
        assert!(table.statement(true).contains("UTC_TIMESTAMP(6)"));
        assert_eq!(table.shown(), "percona.heartbeat");
        for wrong in ["", "heartbeat", ".heartbeat", "percona.", "a.b.c", "a.`b", &format!("a.{}", "x".repeat(65))] {
            assert!(super::table(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_heartbeat_is_that_of_the_source() {
        let row = |column, id, age| Row::of(&[(column, Some(id)), ("ts", Some("t")), ("heartbeat_age", age)]);
        let new = [row("server_id", "1", Some("1000000")), row("server_id", "2", Some("2000000"))];
        let old = [row("id", "1", Some("3000000"))];
        let two = [row("id", "1", Some("3000000")), row("id", "2", Some("4000000"))];
        let broken = [row("server_id", "1", None)];
        let table = table("p.h").unwrap();
        let none = |of: &str| Lag::Unknown(format!("no heartbeat{of} in p.h"));
        for (rows, wanted, source, lag) in [
            (&new[..], None, Some("2"), secs(2)),
            (&new, Some(1), Some("2"), secs(1)),
            (&new, None, Some("3"), none(" of server 3")),
            (&new, None, None, none("")),
            (&new[..1], None, Some("3"), none(" of server 3")),
            (&old, None, Some("17"), secs(3)),
            (&old, Some(1), Some("17"), secs(3)),
            (&old, Some(2), Some("17"), none(" of server 2")),
            (&two, None, Some("17"), none(" of server 17")),
            (&two, Some(2), None, secs(4)),
            (&broken, None, Some("1"), none(" of server 1")),
            (&[], None, Some("1"), none(" of server 1")),
        ] {
            assert_eq!(of_heartbeat(rows, &table, wanted, source, true), lag, "{rows:?} {wanted:?} {source:?}");
        }
        let ahead = [row("server_id", "1", Some("-1500000"))];
        assert_eq!(of_heartbeat(&ahead, &table, None, Some("1"), true), Lag::Ahead(Duration::from_millis(1500)));
        // Of two channels each has a row of its own.
        assert_eq!(of_heartbeat(&new, &table, None, Some("2"), false), secs(2));
        assert_eq!(of_heartbeat(&old, &table, None, Some("17"), false), none(" of server 17"));
        let one = "`--heartbeat-source-id` is for one channel: name it with `--channel`";
        assert_eq!(of_heartbeat(&new, &table, Some(1), Some("2"), false), Lag::Unknown(one.into()));
    }

    /// The rows were recorded on `MySQL` 9.7.4, but for the round numbers.
    #[test]
    fn commits_of_mysql() {
        let behind = |behind, read, executed| {
            Row::of(&[
                ("Source_Log_File", Some("binlog.000001")),
                ("Read_Source_Log_Pos", Some(read)),
                ("Relay_Source_Log_File", Some("binlog.000001")),
                ("Exec_Source_Log_Pos", Some(executed)),
                ("Seconds_Behind_Source", behind),
            ])
        };
        let status = |read, executed| behind(Some("0"), read, executed);
        let unknown = || Lag::Unknown("lag by commit is unknown".into());
        let times = |received, applied, applying, processing| {
            Row::of(&[
                ("now", Some("1000.000000")),
                ("received", Some(received)),
                ("applied", Some(applied)),
                ("applying", applying),
                ("processing", processing),
            ])
        };
        for (times, status, lag) in [
            // Everything that came is applied.
            (times("990.000000", "990.000000", None, None), status("9", "9"), secs(0)),
            // So it is, and the position is not brought up to date.
            (times("990.000000", "990.000000", None, None), status("9", "4"), secs(0)),
            // The applier was restarted: it forgot.
            (times("990.000000", NEVER, None, None), status("9", "9"), secs(0)),
            // Nothing came since the server was started.
            (times(NEVER, NEVER, None, None), status("9", "9"), secs(0)),
            // A worker waits for a lock, the coordinator has read on.
            (times("999.000000", NEVER, Some("960.000000"), Some("970.000000")), status("9", "4"), secs(40)),
            // The position is at the end, and yet a worker works.
            (times("999.000000", "1.000000", Some("960.000000"), None), status("9", "9"), secs(40)),
            // A delayed replica: the coordinator waits, and does not say for what.
            (times("990.000000", NEVER, None, None), status("9", "4"), secs(10)),
            (times("990.000000", "980.000000", None, None), status("9", "4"), secs(10)),
            // The source's clock is ahead.
            (times("1002.000000", NEVER, None, None), status("9", "4"), Lag::Ahead(Duration::from_secs(2))),
            (times("1002.000000", NEVER, None, None), behind(Some("40"), "9", "4"), secs(40)),
            // Between two transactions of a backlog the newest that came says nothing of the oldest.
            (times("999.000000", "1.000000", None, None), behind(Some("3600"), "9", "4"), secs(3600)),
            // Nor is what was committed later by another clock the end.
            (times("980.000000", "990.000000", None, None), behind(Some("3600"), "9", "4"), secs(3600)),
            (times("999.000000", "1.000000", None, None), behind(None, "9", "4"), unknown()),
            // Nothing came since the server was started, and there is more to apply.
            (times(NEVER, NEVER, None, None), status("9", "4"), unknown()),
            (Row::of(&[]), status("9", "9"), unknown()),
            (times(NEVER, NEVER, None, None), Row::of(&[]), unknown()),
            (
                times(NEVER, NEVER, None, None),
                Row::of(&[
                    ("Source_Log_File", Some("")),
                    ("Read_Source_Log_Pos", Some("4")),
                    ("Relay_Source_Log_File", Some("")),
                    ("Exec_Source_Log_Pos", Some("4")),
                ]),
                unknown(),
            ),
        ] {
            assert_eq!(of_commits(&times, &status), lag, "{times:?} {status:?}");
        }
    }

    #[test]
    fn the_source_is_heard_by_heartbeats_or_by_transactions() {
        let times = |heartbeat, queued| {
            Row::of(&[
                ("now", Some("1000.250000")),
                ("heartbeat", Some(heartbeat)),
                ("queued", Some(queued)),
                ("queueing", Some("0.000000")),
            ])
        };
        assert_eq!(since_heard(&times("998.000000", "0.000000")), Some(Duration::from_millis(2250)));
        assert_eq!(since_heard(&times("900.000000", "999.250000")), Some(Duration::from_secs(1)));
        assert_eq!(since_heard(&times("0.000000", "0.000000")), None);
        assert_eq!(since_heard(&times("1000.500000", "0.000000")), Some(Duration::ZERO));
        assert_eq!(since_heard(&times("1002.000000", "0.000000")), None);
        assert_eq!(since_heard(&Row::of(&[])), None);
    }

    /// `MariaDB` 11.8.6.
    #[test]
    fn events_of_mariadb() {
        let row =
            |difference, behind| Row::of(&[("Master_Slave_time_diff", difference), ("Seconds_Behind_Master", behind)]);
        for (difference, behind, lag) in [
            (Some("0"), Some("0"), secs(0)),
            (Some("5"), Some("2"), secs(5)),
            // An applier that hangs while nothing new comes.
            (Some("1"), Some("100"), secs(100)),
            // Just started.
            (None, Some("0"), secs(0)),
            // The receiver is connecting.
            (Some("7"), None, secs(7)),
            (None, None, Lag::Unknown("lag by commit is unknown".into())),
        ] {
            assert_eq!(of_events(&row(difference, behind)), lag, "{difference:?} {behind:?}");
        }
        let old = Row::of(&[("Seconds_Behind_Master", Some("0"))]);
        assert_eq!(of_events(&old), Lag::Unknown("lag by commit needs MySQL 8.0 or MariaDB 11.6".into()));
    }

    #[test]
    fn the_json_form_shows_seconds() {
        for (lag, json) in [
            (secs(3), "3"),
            (Lag::Behind(Duration::from_millis(3250)), "3.25"),
            (Lag::Ahead(Duration::from_millis(1500)), "-1.5"),
            (Lag::default(), "null"),
        ] {
            assert_eq!(serde_json::to_string(&lag).unwrap(), json);
        }
    }
}
