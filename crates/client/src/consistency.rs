//! What `mysqlchk-consistency` found of a server: its row in the replicated table `mysqlchk.consistency`, and whether it
//! stands against the server.
//!
//! For each check that a replica or a node may be asked.

use std::time::Duration;

use serde::Serialize;

use crate::duration;
use crate::error::{
    ER_BAD_DB_ERROR, ER_BAD_FIELD_ERROR, ER_DBACCESS_DENIED_ERROR, ER_NO_SUCH_TABLE, ER_TABLEACCESS_DENIED_ERROR, Error,
};
use crate::family::Family;
use crate::rows::Row;

/// Asks for the row of this server. Any `MariaDB`. Privilege: `SELECT` on `mysqlchk.consistency`.
const MARIADB: &str = "SELECT state, TIMESTAMPDIFF(SECOND, since, UTC_TIMESTAMP()) AS age, tables_differ, first_differ \
    FROM mysqlchk.consistency WHERE server_id = @@server_id AND host = @@hostname AND port = @@port";
/// The same of any `MySQL`: a server that was rebuilt has another UUID, and what was found before is not of it.
const MYSQL: &str = "SELECT state, TIMESTAMPDIFF(SECOND, since, UTC_TIMESTAMP()) AS age, tables_differ, first_differ \
    FROM mysqlchk.consistency WHERE server_id = @@server_id AND host = @@hostname AND port = @@port \
    AND server_uuid = @@server_uuid";

/// The statement that asks a server for its row.
#[must_use]
pub fn statement(family: Family) -> &'static str {
    if family == Family::MariaDb { MARIADB } else { MYSQL }
}

/// How far the clocks of two servers may be apart, in seconds: right after a comparison its beginning lies in the future of
/// a replica whose clock is behind.
const CLOCKS_APART_S: i64 = 60;

/// What is demanded of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// That it is not known to differ from its source.
    NotInconsistent,
    /// And that it was found consistent within this time.
    ConsistentWithin(Duration),
}

/// What stands for [`Demand::NotInconsistent`] on a command line.
pub const ANY_AGE: &str = "any";

/// Reads the value of `--require-consistent`.
///
/// # Errors
/// As [`duration::parse_positive`].
pub fn demand(text: &str) -> Result<Demand, String> {
    match text {
        ANY_AGE => Ok(Demand::NotInconsistent),
        text => duration::parse_positive(text).map(Demand::ConsistentWithin),
    }
}

/// What was found of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// `consistent`, `inconsistent` or `incomplete`; empty is unknown.
    pub state: String,
    /// How long ago the comparison began that last found it consistent; `None` is never, or not since it differed.
    pub age_s: Option<i64>,
    /// How many tables differ.
    pub tables_differ: u64,
    /// The first of them, `DB.TABLE`; `None` when none does.
    pub first_differ: Option<String>,
}

impl Found {
    /// Reads the answer to a [`statement`]; `None` when nothing is known.
    #[must_use]
    pub fn of(rows: &[Row]) -> Option<Found> {
        let row = rows.first()?;
        let text = |name| row.get(&[name]);
        Some(Found {
            state: text("state").unwrap_or_default().to_owned(),
            age_s: text("age").and_then(|age| age.parse().ok()),
            tables_differ: text("tables_differ").and_then(|count| count.parse().ok()).unwrap_or(0),
            first_differ: text("first_differ").map(str::to_owned),
        })
    }
}

/// Why the server does not meet the demand; `None` when it does. Both ends of the age are inclusive.
#[must_use]
pub fn trouble(found: Option<&Found>, demand: Demand) -> Option<String> {
    if let Some(Found { state, tables_differ, first_differ, .. }) = found
        && !["consistent", "incomplete"].contains(&&**state)
    {
        let first = first_differ.as_ref().map(|first| format!(" ({first})")).unwrap_or_default();
        let tables = if *tables_differ == 1 { "1 table".to_owned() } else { format!("{tables_differ} tables") };
        return Some(format!("data differs from the source in {tables}{first}"));
    }
    let Demand::ConsistentWithin(limit) = demand else { return None };
    let limit_shown = in_days(limit);
    match found.and_then(|found| found.age_s) {
        None => Some(format!("consistency was never checked, limit is {limit_shown}")),
        // A clock that was set: since when is not known.
        Some(age_s) if age_s < -CLOCKS_APART_S => {
            Some("consistency was checked in the future: check clocks".to_owned())
        }
        Some(age_s) => {
            let age = Duration::from_secs(age_s.max(0).unsigned_abs());
            (age > limit).then(|| format!("consistency was checked {} ago, limit is {limit_shown}", in_days(age)))
        }
    }
}

/// Why the table cannot be read, with the cure.
#[must_use]
pub fn refusal(error: &Error) -> String {
    const DENIED: [u16; 2] = [ER_DBACCESS_DENIED_ERROR, ER_TABLEACCESS_DENIED_ERROR];
    const MISSING: [u16; 2] = [ER_BAD_DB_ERROR, ER_NO_SUCH_TABLE];
    if error.is(&DENIED) {
        format!("{error}: GRANT SELECT ON mysqlchk.consistency")
    } else if error.is(&MISSING) {
        format!("{error}: mysqlchk.consistency")
    } else if error.is(&[ER_BAD_FIELD_ERROR]) {
        format!("{error}: mysqlchk.consistency has another layout")
    } else {
        error.to_string()
    }
}

/// Days from two on, rounded up, so that what is above a limit is never shown as the limit; else as a limit is written.
fn in_days(time: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let seconds = time.as_secs();
    if seconds < 2 * DAY { duration::show(time) } else { format!("{}d", seconds.div_ceil(DAY)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn found(state: &str, age_s: Option<i64>) -> Found {
        let differs = state == "inconsistent";
        let first_differ = differs.then(|| "shop.orders".to_owned());
        Found { state: state.into(), age_s, tables_differ: if differs { 2 } else { 0 }, first_differ }
    }

    #[test]
    fn a_demand_is_a_word_or_a_time() {
        assert_eq!(demand(ANY_AGE), Ok(Demand::NotInconsistent));
        assert_eq!(demand("7d"), Ok(Demand::ConsistentWithin(Duration::from_secs(7 * 86_400))));
        assert!(demand("0s").is_err() && demand("7").is_err());
    }

    #[test]
    fn what_stands_against_a_server() {
        const DIFFERS: &str = "data differs from the source in 2 tables (shop.orders)";
        const NEVER: &str = "consistency was never checked, limit is 7d";
        let week = Demand::ConsistentWithin(Duration::from_secs(7 * 86_400));
        for (row, any_age, within_a_week) in [
            (None, None, Some(NEVER)),
            (Some(found("inconsistent", None)), Some(DIFFERS), Some(DIFFERS)),
            (Some(found("inconsistent", Some(0))), Some(DIFFERS), Some(DIFFERS)),
            (Some(found("incomplete", None)), None, Some(NEVER)),
            (Some(found("incomplete", Some(6 * DAY))), None, None),
            (Some(found("consistent", Some(7 * DAY))), None, None),
            (Some(found("consistent", Some(9 * DAY))), None, Some("consistency was checked 9d ago, limit is 7d")),
            (Some(found("consistent", Some(-60))), None, None),
            (Some(found("consistent", Some(-61))), None, Some("consistency was checked in the future: check clocks")),
            (
                Some(found("", None)),
                Some("data differs from the source in 0 tables"),
                Some("data differs from the source in 0 tables"),
            ),
        ] {
            let troubles = [Demand::NotInconsistent, week].map(|demand| trouble(row.as_ref(), demand));
            assert_eq!(troubles.each_ref().map(Option::as_deref), [any_age, within_a_week], "{row:?}");
        }
        let just_above = found("consistent", Some(7 * DAY + 1));
        assert_eq!(trouble(Some(&just_above), week).unwrap(), "consistency was checked 8d ago, limit is 7d");
    }
}
