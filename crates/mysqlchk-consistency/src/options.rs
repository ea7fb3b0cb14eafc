//! The options of mysqlchk-consistency(8) alone.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{duration, number};

use crate::expression::Hash;
use crate::filters::is_like;
use crate::schema::Name;

/// The options of this program alone.
#[derive(Debug, Clone, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Options {
    /// Compare this replica; repeat for more [default: those that are registered at the source, through all tiers]
    #[arg(long, value_name = "HOST[:PORT]", value_parser = place, action = clap::ArgAction::Append)]
    pub(crate) replica: Vec<Place>,
    /// Compare the tables of these databases only (`*` and `?` match); repeat for more
    #[arg(long, value_name = "PATTERN", value_parser = pattern, action = clap::ArgAction::Append)]
    database: Vec<Pattern>,
    /// Compare these tables only; repeat for more
    #[arg(long, value_name = "DB.TABLE", value_parser = table_pattern, action = clap::ArgAction::Append)]
    table: Vec<Pattern>,
    /// Leave out these databases; repeat for more
    #[arg(long, value_name = "PATTERN", value_parser = pattern, action = clap::ArgAction::Append)]
    ignore_database: Vec<Pattern>,
    /// Leave out these tables; repeat for more
    #[arg(long, value_name = "DB.TABLE", value_parser = table_pattern, action = clap::ArgAction::Append)]
    ignore_table: Vec<Pattern>,
    /// Leave out this column; repeat for more
    #[arg(long, value_name = "DB.TABLE.COLUMN", value_parser = column, action = clap::ArgAction::Append)]
    ignore_column: Vec<String>,
    /// Read in this many lanes at once, each with a session to every server
    #[arg(long, value_name = "N", default_value = "2", value_parser = number::<usize>(1..=64))]
    pub(crate) lanes: usize,
    /// Read in chunks that take this long
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = duration::parse_positive)]
    pub(crate) chunk_time: Duration,
    /// Pause while a replica lags more than this
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    pub(crate) max_lag: Duration,
    /// Pause while the source runs more threads than this (`Threads_running`)
    #[arg(long, value_name = "N", default_value = "25", value_parser = number::<u64>(1..=u32::MAX.into()))]
    pub(crate) max_running: u64,
    /// Hold the lock on a row at most this long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse_positive)]
    pub(crate) max_lock: Duration,
    /// End in good order after this time; the next run goes on there [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) budget: Option<Duration>,
    /// Show the replicas and how each table would be compared, and exit
    #[arg(long)]
    pub(crate) explain: bool,
    /// Begin at the first table, also where the last run did not come to its end
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Compare again what is known to differ, and only that: after a rebuild
    #[arg(long)]
    pub(crate) recheck: bool,
    /// Remove what is known of the server with this `server_id`, and exit
    #[arg(long, value_name = "SERVER_ID", value_parser = number::<u64>(0..=u32::MAX.into()))]
    pub(crate) forget: Option<u64>,
    /// Leave the verdicts for the checks as they are
    #[arg(long)]
    pub(crate) no_publish: bool,
    /// Name the keys of the rows that differ, at most this many for each table
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "20",
        value_parser = number::<usize>(1..=1000))]
    pub(crate) rows: Option<usize>,
    /// Compare tables by the server's own checksum first, and in the ordinary way where it differs: twice as fast, but the
    /// same change in two rows escapes in one of about 65,000 cases
    #[arg(long)]
    pub(crate) quick: bool,
    /// How rows are hashed
    #[arg(long, value_name = "HASH", value_enum, default_value = "crc32")]
    pub(crate) hash: Hash,
    /// How the result is shown
    #[arg(long, value_name = "FORM", value_enum, default_value = "text")]
    pub(crate) format: Format,
    /// Print what is not consistent only
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// How the result is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A sentence for each replica, and a line for each table that differs
    Text,
    /// One document
    Json,
    /// A Nagios plugin: one line, and its exit status
    Nagios,
}

/// A host and a port.
pub(crate) type Place = (String, u16);

/// A name in which `*` stands for anything and `?` for one character, as a pattern of `LIKE`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(String);

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        is_like(self.0.as_bytes(), text.as_bytes())
    }
}

impl Options {
    /// Whether a table is to be compared.
    pub(crate) fn wants(&self, name: &Name) -> bool {
        let full = name.to_string();
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|pattern| pattern.matches(text));
        let is_named = (self.database.is_empty() && self.table.is_empty())
            || any(&self.database, &name.database)
            || any(&self.table, &full);
        is_named && !any(&self.ignore_database, &name.database) && !any(&self.ignore_table, &full)
    }

    /// Whether tables are left out, or columns.
    pub(crate) fn is_partial(&self) -> bool {
        let patterns = [&self.database, &self.table, &self.ignore_database, &self.ignore_table];
        patterns.iter().any(|patterns| !patterns.is_empty()) || !self.ignore_column.is_empty()
    }

    /// What must be the same for a run to go on where another one ended.
    pub(crate) fn scope(&self) -> String {
        let patterns = [&self.database, &self.table, &self.ignore_database, &self.ignore_table];
        format!("{patterns:?} {:?} {:?} {}", self.ignore_column, self.hash, self.quick)
    }

    /// The columns that are not compared, `DB.TABLE.COLUMN`.
    pub(crate) fn ignored_columns(&self) -> BTreeSet<String> {
        self.ignore_column.iter().cloned().collect()
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if text.is_empty() {
        return Err("must name a database, such as `shop` or `shop_*`".into());
    }
    let mut like = String::new();
    for c in text.chars() {
        match c {
            '*' => like.push('%'),
            '?' => like.push('_'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            c => like.push(c),
        }
    }
    Ok(Pattern(like))
}

fn table_pattern(text: &str) -> Result<Pattern, String> {
    match text.split_once('.') {
        Some((database, table)) if !database.is_empty() && !table.is_empty() => pattern(text),
        _ => Err("must be DB.TABLE, such as `shop.orders` or `shop.tmp_*`".into()),
    }
}

fn column(text: &str) -> Result<String, String> {
    let parts = text.split('.').filter(|part| !part.is_empty()).count();
    if parts == 3 { Ok(text.to_owned()) } else { Err("must be DB.TABLE.COLUMN".into()) }
}

/// Reads `db03`, `db03:3307`, `[::1]:3306`.
fn place(text: &str) -> Result<Place, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or("x"))),
        // More than one colon: an address of IPv6 alone.
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(client::options::DEFAULT_PORT), client::options::port)?;
    if host.is_empty() { Err("must be HOST or HOST:PORT".into()) } else { Ok((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("db03", "db03", 3306),
            ("db03:3307", "db03", 3307),
            ("[::1]:3307", "::1", 3307),
            ("[::1]", "::1", 3306),
            ("fe80::1", "fe80::1", 3306),
        ] {
            assert_eq!(place(text), Ok((host.to_owned(), port)));
        }
        for wrong in ["", ":3306", "db03:", "db03:x", "db03:0", "[::1]x"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        for (text, name, matches) in [
            ("shop.tmp_*", "shop.tmp_1", true),
            ("shop.tmp_*", "shop.tmpx1", false),
            ("shop.?", "shop.a", true),
            ("shop.?", "shop.ab", false),
            ("*.orders", "shop.orders", true),
        ] {
            assert_eq!(table_pattern(text).unwrap().matches(name), matches, "{text} {name}");
        }
        for wrong in ["shop", ".x", "shop."] {
            assert!(table_pattern(wrong).is_err(), "{wrong}");
        }
    }
}
