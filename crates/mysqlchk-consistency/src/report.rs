//! What a run found, as text, JSON or the line of a Nagios plugin, and as an exit status. Pure.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::options::Format;
use crate::schema::Name;
use crate::tally::{Difference, RowDiffers, Tally};

/// What is known of one replica after a run.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) server_id: Option<u64>,
    pub(crate) place: String,
    /// Why it was not read, or not to the end.
    pub(crate) failed: Option<String>,
    pub(crate) tally: Tally,
}

/// The verdict on a replica, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// Everything was compared and settled, and nothing differs.
    Consistent,
    /// Nothing differs of what was compared, and not everything was.
    Incomplete,
    /// Something differs.
    Inconsistent,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Consistent => "consistent",
            State::Incomplete => "incomplete",
            State::Inconsistent => "inconsistent",
        }
    }
}

impl Replica {
    pub(crate) fn state(&self) -> State {
        if !self.tally.differences.is_empty() {
            State::Inconsistent
        } else if self.failed.is_some() || !self.tally.skipped.is_empty() {
            State::Incomplete
        } else {
            State::Consistent
        }
    }

    /// The sentence that says it all.
    fn sentence(&self) -> String {
        let Tally { tables, rows, differences, skipped, .. } = &self.tally;
        let id = self.server_id.map_or_else(String::new, |id| format!(" {id}"));
        let (place, state) = (&self.place, self.state().word());
        let what = match self.state() {
            State::Consistent => format!("{}, {}", count(*tables, "table"), count(*rows, "row")),
            State::Inconsistent => {
                let differ = differences.len() as u64;
                let verb = if differ == 1 { "differs" } else { "differ" };
                format!("{differ} of {} {verb}, requires rebuild", count(*tables, "table"))
            }
            State::Incomplete => self.failed.clone().unwrap_or_else(|| {
                let (skipped, all) = (skipped.len() as u64, *tables + skipped.len() as u64);
                let verb = if skipped == 1 { "was" } else { "were" };
                format!("{skipped} of {} {verb} not compared to the end", count(all, "table"))
            }),
        };
        format!("replica{id} at {place} is {state}: {what}")
    }
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What a run found.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) elapsed: Duration,
    /// How many rows of a table are named.
    pub(crate) rows_shown: usize,
    /// Why the verdicts could not be published.
    pub(crate) unpublished: Option<String>,
}

impl Report {
    /// The worst of the replicas; a run without one says nothing of any.
    pub(crate) fn state(&self) -> State {
        self.replicas.iter().map(Replica::state).max().unwrap_or(State::Incomplete)
    }

    /// Whether several replicas have the same, and the source something else: then it may be the source that is wrong.
    pub(crate) fn is_against_the_source(&self) -> bool {
        let mut tallies = self.replicas.iter().map(|replica| &replica.tally.differences);
        let Some(first) = tallies.next() else { return false };
        self.replicas.len() > 1 && !first.is_empty() && tallies.all(|others| others == first)
    }

    /// Whether every replica was read to the end, or will never be: a later run has nothing to go on with.
    pub(crate) fn is_at_its_end(&self) -> bool {
        self.replicas.iter().all(|replica| replica.failed.is_none())
    }

    /// 0 consistent, 1 inconsistent, 3 incomplete; 2 when a verdict was not published;
    /// of a Nagios plugin 0, 2 (CRITICAL) and 3 (UNKNOWN).
    pub(crate) fn exit_status(&self, format: Format) -> u8 {
        match (self.state(), format) {
            (State::Consistent, Format::Nagios) if self.unpublished.is_some() => 3,
            (State::Consistent, _) if self.unpublished.is_some() => 2,
            (State::Consistent, _) => 0,
            (State::Inconsistent, Format::Nagios) => 2,
            (State::Inconsistent, _) => 1,
            (State::Incomplete, _) => 3,
        }
    }

    pub(crate) fn render(&self, format: Format, quiet: bool) -> String {
        match format {
            Format::Text => self.text(quiet),
            Format::Json => format!("{:#}\n", self.json()),
            Format::Nagios => self.nagios(),
        }
    }

    fn text(&self, quiet: bool) -> String {
        let mut text = String::new();
        for replica in &self.replicas {
            if quiet && replica.state() == State::Consistent {
                continue;
            }
            let _ = writeln!(text, "{}", replica.sentence());
            for (name, difference) in &replica.tally.differences {
                let _ = writeln!(text, "  {}", difference.line(name));
                for row in rows_of(difference).iter().take(self.rows_shown) {
                    let _ = writeln!(text, "    {}", row_line(row));
                }
            }
            for (name, why) in &replica.tally.skipped {
                let _ = writeln!(text, "  {name} was not compared to the end: {why}");
            }
            if let Some(why) = replica.failed.as_ref().filter(|_| replica.state() == State::Inconsistent) {
                let _ = writeln!(text, "  not everything was compared: {why}");
            }
            for (name, notes) in replica.tally.notes.iter().filter(|_| !quiet) {
                let _ = writeln!(text, "  note: {name}: {}", notes.join(", "));
            }
        }
        if self.is_against_the_source() {
            let all = self.replicas.len();
            let _ = writeln!(text, "all {all} replicas agree against the source: look at the source");
        }
        if let Some(why) = &self.unpublished {
            let _ = writeln!(text, "the verdicts were not published: {why}");
        }
        text
    }

    fn nagios(&self) -> String {
        let word = match self.state() {
            State::Consistent => "OK",
            State::Inconsistent => "CRITICAL",
            State::Incomplete => "UNKNOWN",
        };
        let worst = self.replicas.iter().max_by_key(|replica| replica.state());
        let mut text = worst.map_or_else(|| "there is no replica".to_owned(), Replica::sentence);
        if self.state() == State::Consistent && self.replicas.len() > 1 {
            text = format!("{} are consistent", count(self.replicas.len() as u64, "replica"));
        }
        // A bar would begin the performance data.
        format!("CONSISTENCY {word} - {}\n", text.replace('|', "/"))
    }

    fn json(&self) -> Value {
        let replicas: Vec<Value> = self.replicas.iter().map(|replica| self.json_of(replica)).collect();
        json!({
            "verdict": self.state().word(),
            "replicas": replicas,
            "unpublished": self.unpublished,
            "against_the_source": self.is_against_the_source(),
            "times": { "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX) },
        })
    }

    fn json_of(&self, replica: &Replica) -> Value {
        let Tally { tables, rows, differences, skipped, notes } = &replica.tally;
        let difference = |(name, difference): (&Name, &Difference)| {
            let keys = rows_of(difference).iter().take(self.rows_shown);
            let keys: Vec<Value> =
                keys.map(|row| json!({ "key": shown(row), "kind": row.kind(), "columns": row.columns })).collect();
            let count = match difference {
                Difference::Rows(rows) => Some(rows.count),
                _ => None,
            };
            json!({
                "database": &*name.database, "table": &*name.table, "kind": difference.kind(),
                "reason": difference.line(name), "rows": count, "keys": keys,
            })
        };
        let skipped: Vec<Value> = skipped
            .iter()
            .map(|(name, why)| json!({ "database": &*name.database, "table": &*name.table, "reason": why }))
            .collect();
        let notes: Vec<String> = notes.iter().map(|(name, notes)| format!("{name}: {}", notes.join(", "))).collect();
        json!({
            "server_id": replica.server_id, "place": replica.place, "state": replica.state().word(),
            "reason": replica.sentence(), "tables": tables, "rows": rows,
            "differences": differences.iter().map(difference).collect::<Vec<_>>(),
            "not_compared": skipped, "notes": notes,
        })
    }
}

fn rows_of(difference: &Difference) -> &[RowDiffers] {
    match difference {
        Difference::Rows(rows) => &rows.rows,
        _ => &[],
    }
}

fn row_line(row: &RowDiffers) -> String {
    let (key, kind) = (shown(row), row.kind().word());
    match &*row.columns {
        [] => format!("{key} {kind}"),
        columns => format!("{key} {kind} in {}", columns.join(", ")),
    }
}

/// The key as a person writes it: text for the bytes of a text.
fn shown(row: &RowDiffers) -> String {
    let values: Vec<String> = row.key.iter().map(|value| readable(value).unwrap_or_else(|| value.clone())).collect();
    match &*values {
        [value] => value.clone(),
        values => format!("({})", values.join(", ")),
    }
}

/// `'abc'` for `_utf8mb4 X'616263'`; `None` for what is no text that can be shown.
fn readable(value: &str) -> Option<String> {
    let (charset, hex) = value.strip_prefix('_')?.split_once(" X'")?;
    if !["utf8mb4", "utf8mb3", "utf8", "ascii", "latin1"].contains(&charset) {
        return None;
    }
    let hex = hex.strip_suffix('\'')?.as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    let bytes: Vec<u8> = hex.chunks(2).map(pair).collect::<Option<_>>()?;
    let text = String::from_utf8(bytes).ok()?;
    (!text.contains(char::is_control)).then(|| format!("'{}'", text.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::RowsDiffer;

    fn name(table: &str) -> Name {
        Name { database: "shop".into(), table: table.into() }
    }

    fn replica(tally: Tally, failed: Option<&str>) -> Replica {
        Replica { server_id: Some(5), place: "db05:3306".into(), failed: failed.map(str::to_owned), tally }
    }

    fn differing() -> Tally {
        let row = |key: &str, source: Option<&str>, replica: Option<&str>| RowDiffers {
            key: vec![key.into()],
            source: source.map(str::to_owned),
            replica: replica.map(str::to_owned),
            columns: if replica.is_some() && source.is_some() { vec!["total".into()] } else { Vec::new() },
        };
        let rows = vec![row("7", Some("a"), Some("b")), row("_utf8mb4 X'6162'", Some("a"), None)];
        let mut tally = Tally { tables: 3, rows: 30, ..Tally::default() };
        tally.differences.insert(name("orders"), Difference::Rows(RowsDiffer { count: 2, rows }));
        tally.differences.insert(name("items"), Difference::Missing);
        tally
    }

    fn report(replicas: Vec<Replica>) -> Report {
        Report { replicas, elapsed: Duration::from_secs(2), rows_shown: 20, unpublished: None }
    }

    #[test]
    fn consistent_is_only_what_was_compared_to_the_end() {
        let good = || Tally { tables: 3, rows: 30, ..Tally::default() };
        let skipped = || Tally { skipped: [(name("x"), "why".into())].into(), ..good() };
        for (tally, failed, state, status) in [
            (good(), None, State::Consistent, 0),
            (good(), Some("gone"), State::Incomplete, 3),
            (skipped(), None, State::Incomplete, 3),
            (differing(), None, State::Inconsistent, 1),
            (differing(), Some("gone"), State::Inconsistent, 1),
        ] {
            let report = report(vec![replica(tally, failed)]);
            assert_eq!((report.state(), report.exit_status(Format::Text)), (state, status));
        }
        assert_eq!(report(Vec::new()).exit_status(Format::Text), 3);
    }

    #[test]
    fn a_sentence_for_each_replica_and_a_line_for_each_table() {
        let good = Tally { tables: 1, rows: 30, ..Tally::default() };
        let report =
            report(vec![replica(good, None), replica(differing(), None), replica(Tally::default(), Some("why"))]);
        let expected = "replica 5 at db05:3306 is consistent: 1 table, 30 rows\n\
            replica 5 at db05:3306 is inconsistent: 2 of 3 tables differ, requires rebuild\n  \
            shop.items is missing\n  shop.orders: 2 rows differ\n    7 differs in total\n    'ab' missing\n\
            replica 5 at db05:3306 is incomplete: why\n";
        assert_eq!(report.render(Format::Text, false), expected);
        assert!(!report.render(Format::Text, true).contains("consistent: 1 table"));
        assert!(
            report.render(Format::Nagios, false).starts_with("CONSISTENCY CRITICAL - replica 5 at db05:3306 is inc")
        );
    }

    #[test]
    fn several_that_agree_against_the_source_point_to_the_source() {
        assert!(report(vec![replica(differing(), None), replica(differing(), None)]).is_against_the_source());
        assert!(!report(vec![replica(differing(), None)]).is_against_the_source());
        assert!(!report(vec![replica(differing(), None), replica(Tally::default(), None)]).is_against_the_source());
        assert!(
            !report(vec![replica(Tally::default(), None), replica(Tally::default(), None)]).is_against_the_source()
        );
    }
}
