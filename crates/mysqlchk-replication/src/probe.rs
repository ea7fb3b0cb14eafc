//! What the replication check asks: the status of every channel.
//!
//! Privilege: `REPLICATION CLIENT` on `MySQL` and on `MariaDB` before 10.5, `SLAVE MONITOR` on `MariaDB` since 10.5.9
//! (`REPLICATION SLAVE ADMIN` from 10.5.2 to 10.5.8).

use std::time::Duration;

use anyhow::{Result, bail};
use check::{Family, Row, ServerError, Session};
use serde::Serializer;

/// `MySQL` since 8.0.22; the only spelling since 8.4.
const REPLICA: &str = "SHOW REPLICA STATUS";
/// `MySQL` before 8.0.22. One row a channel since 5.7.
const SLAVE: &str = "SHOW SLAVE STATUS";
/// `MariaDB`, any version: the plain statement hides named connections.
const ALL_SLAVES: &str = "SHOW ALL SLAVES STATUS";

/// The server does not know the statement (`ER_PARSE_ERROR`).
const SYNTAX: u16 = 1064;
/// The account may not run the statement (`ER_SPECIFIC_ACCESS_DENIED_ERROR`).
const PRIVILEGE: u16 = 1227;

/// All channels of this server; none when it is no replica.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(crate) struct Facts {
    pub(crate) channels: Vec<Channel>,
}

/// One row of replication status.
#[derive(Debug, Default, Clone, serde::Serialize)]
pub(crate) struct Channel {
    /// Empty for the default channel.
    pub(crate) name: String,
    /// The receiver (IO) thread: `Yes`, `No`, `Connecting`, on `MariaDB` also `Preparing`.
    pub(crate) receiver: String,
    /// The applier (SQL) thread: `Yes` or `No`.
    pub(crate) applier: String,
    /// `Last_IO_Errno`; 0 is no error.
    pub(crate) receiver_error: u32,
    /// `Last_SQL_Errno`; 0 is no error.
    pub(crate) applier_error: u32,
    /// `Seconds_Behind_Source`; `None` is NULL, which is unknown and never zero.
    #[serde(rename = "lag_s", serialize_with = "seconds")]
    pub(crate) lag: Option<Duration>,
    /// `SQL_Delay`, the delay this replica is configured to keep; `None` is none.
    #[serde(rename = "delay_s", serialize_with = "seconds")]
    pub(crate) delay: Option<Duration>,
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_u64(time.as_secs()),
        None => serializer.serialize_none(),
    }
}

/// Asks for the status of all channels, in the spelling of this server; in another one only on a syntax error.
///
/// # Errors
/// When the server refuses the statement; a missing privilege is named with its grant.
pub(crate) fn ask(session: &mut Session<'_>) -> Result<Facts> {
    let family = session.family();
    let (first, second) = match family {
        Family::MariaDb => (ALL_SLAVES, SLAVE),
        Family::MySql(major, minor, patch) if (major, minor, patch) < (8, 0, 22) => (SLAVE, REPLICA),
        Family::MySql(..) => (REPLICA, SLAVE),
    };
    let answer = match session.query(first) {
        Err(error) if error.code() == Some(SYNTAX) => session.query(second),
        answer => answer,
    };
    match answer {
        Ok(rows) => Ok(Facts { channels: rows.iter().map(channel).collect() }),
        Err(error) if error.code() == Some(PRIVILEGE) => bail!("{}", missing_grant(&error, family)),
        Err(error) => Err(error.into()),
    }
}

fn missing_grant(error: &ServerError, family: Family) -> String {
    let privilege = match family {
        Family::MariaDb => "SLAVE MONITOR ON *.* (before 10.5: REPLICATION CLIENT)",
        Family::MySql(..) => "REPLICATION CLIENT ON *.*",
    };
    format!("{error}: GRANT {privilege}")
}

fn channel(row: &Row) -> Channel {
    let text = |names: &[&str]| row.get(names).unwrap_or("NULL").to_owned();
    let number = |names: &[&str]| row.get(names).and_then(|text| text.parse().ok()).unwrap_or_default();
    let time = |names: &[&str]| row.get(names).and_then(|text| text.parse().ok()).map(Duration::from_secs);
    Channel {
        name: row.get(&["Channel_Name", "Connection_name"]).unwrap_or_default().to_owned(),
        receiver: text(&["Replica_IO_Running", "Slave_IO_Running"]),
        applier: text(&["Replica_SQL_Running", "Slave_SQL_Running"]),
        receiver_error: number(&["Last_IO_Errno"]),
        applier_error: number(&["Last_SQL_Errno"]),
        lag: time(&["Seconds_Behind_Source", "Seconds_Behind_Master"]),
        delay: time(&["SQL_Delay"]).filter(|delay| !delay.is_zero()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((channel.name.as_str(), channel.receiver.as_str(), channel.applier.as_str()), ("ch2", "Yes", "No"));
        assert_eq!((channel.receiver_error, channel.applier_error), (0, 1062));
        assert_eq!((channel.lag, channel.delay), (None, None));
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
        assert_eq!(
            (channel.name.as_str(), channel.receiver.as_str(), channel.applier.as_str()),
            ("", "Connecting", "Yes")
        );
        assert_eq!((channel.receiver_error, channel.applier_error), (2003, 0));
        assert_eq!((channel.lag, channel.delay), (Some(Duration::from_secs(42)), Some(Duration::from_secs(30))));
    }

    #[test]
    fn a_lag_that_is_no_number_is_unknown() {
        assert_eq!(channel(&Row::of(&[("Seconds_Behind_Source", Some("-1"))])).lag, None);
        assert_eq!(channel(&Row::of(&[])).receiver, "NULL");
    }
}
