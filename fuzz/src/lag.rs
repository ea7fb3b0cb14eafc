//! The arithmetic of lag: what a server can put into the columns that a lag is taken from.

use std::time::Duration;

use client::{Row, duration};

use self::product::Lag;

#[path = "../../crates/mysqlchk-replication/src/lag.rs"]
#[allow(dead_code, reason = "the program has more use for it")]
mod product;

/// `name=value` in lines, a name alone for NULL, blocks of them with a blank line between: a row of replication status,
/// one of `performance_schema`, and the rows of a heartbeat table.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut rows = text.split("\n\n").map(row);
    let (status, times) = (rows.next().unwrap_or_else(none), rows.next().unwrap_or_else(none));
    let heartbeats: Vec<Row> = rows.collect();
    by_status(&status);
    by_events(&status);
    by_commits(&times, &status);
    by_heartbeat(&heartbeats, &status);
    last_heard(&times);
}

fn row(block: &str) -> Row {
    let column = |line| str::split_once(line, '=').map_or((line, None), |(name, value)| (name, Some(value)));
    Row::of(&block.lines().map(column).collect::<Vec<_>>())
}

fn none() -> Row {
    Row::of(&[])
}

/// What must hold of every lag; hands it back in microseconds, as the sign of the JSON form has it.
fn micros(lag: &Lag) -> Option<i128> {
    let json = serde_json::to_value(lag).unwrap();
    let signed = |lag: &Duration| i128::try_from(lag.as_micros()).unwrap();
    let shown = |lag: &Duration| {
        let text = duration::show(*lag);
        let back = duration::parse(&text).unwrap();
        assert_eq!(back.as_millis(), lag.as_millis(), "{text}");
    };
    match lag {
        Lag::Unknown(_) => {
            assert!(json.is_null());
            None
        }
        Lag::Behind(lag) => {
            assert!(json.as_f64().unwrap() >= 0.0);
            shown(lag);
            Some(signed(lag))
        }
        Lag::Ahead(lag) => {
            assert!(json.as_f64().unwrap() <= 0.0);
            shown(lag);
            Some(-signed(lag))
        }
    }
}

fn seconds(row: &Row, names: &[&str]) -> Option<i128> {
    row.get(names)?.parse::<u64>().ok().map(|seconds| i128::from(seconds) * 1_000_000)
}

/// A time in microseconds; none for zero.
fn time(row: &Row, name: &str) -> Option<i128> {
    let (seconds, fraction) = row.get(&[name])?.split_once('.')?;
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    let time = i128::from(seconds.parse::<i64>().ok()?) * 1_000_000 + fraction.parse::<i128>().ok()?;
    (time != 0 && i64::try_from(time).is_ok()).then_some(time)
}

fn by_status(status: &Row) {
    assert_eq!(
        micros(&product::of_status(status)),
        seconds(status, &["Seconds_Behind_Source", "Seconds_Behind_Master"])
    );
}

fn by_events(status: &Row) {
    let lag = micros(&product::of_events(status));
    let (behind, difference) =
        (seconds(status, &["Seconds_Behind_Master"]), seconds(status, &["Master_Slave_time_diff"]));
    if let (Some(lag), Some(behind)) = (lag, behind) {
        assert!(lag >= behind && lag >= difference.unwrap_or(0), "{lag} is less than what is known");
    }
    if behind.is_none() && lag.is_some() {
        assert_eq!((lag, product::is_all_applied(status)), (Some(0), Some(true)));
    }
}

fn by_commits(times: &Row, status: &Row) {
    let Some(lag) = micros(&product::of_commits(times, status)) else { return };
    let now = time(times, "now").unwrap();
    for begun in ["applying", "processing"].into_iter().filter_map(|name| time(times, name)) {
        assert!(lag >= now - begun, "{lag} is less than the age of what is in work");
    }
}

fn by_heartbeat(heartbeats: &[Row], status: &Row) {
    let table = product::table("percona.heartbeat").unwrap();
    let source = status.get(&["Source_Server_Id", "Master_Server_Id"]);
    let age = |row: &Row| row.get(&["heartbeat_age"]).and_then(|age| age.parse::<i64>().ok()).map(i128::from);
    for wanted in [None, Some(1)] {
        for is_alone in [true, false] {
            let lag = micros(&product::of_heartbeat(heartbeats, &table, wanted, source, is_alone));
            assert!(lag.is_none() || heartbeats.iter().any(|row| age(row) == lag), "{lag:?} is the age of no row");
        }
    }
}

fn last_heard(times: &Row) {
    let heard = ["heartbeat", "queued", "queueing"].into_iter().filter_map(|name| time(times, name)).max();
    let since = heard.zip(time(times, "now")).map(|(heard, now)| now - heard);
    let fits = |since: &i128| i64::try_from(*since).is_ok();
    assert_eq!(micros(&product::since_heard(times)), since.filter(fits));
}
