//! What was found on one replica.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::expression::KeyValues;
use crate::schema::Name;
use crate::settle::Seen;

/// How many differing rows of a table are kept; all are counted.
pub(crate) const KEYS_MAX: usize = 1000;

/// What was found on one replica.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Tables that were compared.
    pub(crate) tables: u64,
    /// Their rows, on the source.
    pub(crate) rows: u64,
    pub(crate) differences: BTreeMap<Name, Difference>,
    /// Tables that were not compared, or not to the end, and why.
    pub(crate) skipped: BTreeMap<Name, String>,
    /// What is worth knowing about a table, and no difference.
    pub(crate) notes: BTreeMap<Name, Vec<String>>,
}

/// What differs in one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The replica does not have it.
    Missing,
    /// Only the replica has it.
    Extra,
    /// It is defined in another way: `column c is missing`.
    Definition(Vec<String>),
    /// These rows differ.
    Rows(RowsDiffer),
    /// Rows differ in a table without a key; the source has so many, the replica so many.
    Bag(u64, u64),
}

/// The rows of a table that differ.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct RowsDiffer {
    pub(crate) count: u64,
    /// The first [`KEYS_MAX`] of them.
    pub(crate) rows: Vec<RowDiffers>,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowDiffers {
    pub(crate) key: KeyValues,
    pub(crate) source: Seen,
    pub(crate) replica: Seen,
    /// The columns that differ, where it was asked for them.
    pub(crate) columns: Vec<String>,
}

impl RowsDiffer {
    /// Puts the rows in the order of their keys: ranges are not settled in that order.
    pub(crate) fn sort(&mut self) {
        let number = |text: &String| text.parse::<f64>().ok();
        self.rows.sort_by(|a, b| {
            let values = a.key.iter().zip(&b.key).map(|(a, b)| match (number(a), number(b)) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => a.cmp(b),
            });
            values.fold(Ordering::Equal, Ordering::then)
        });
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RowKind {
    /// The replica does not have it.
    Missing,
    /// Only the replica has it.
    Extra,
    /// It has other values.
    Differs,
}

impl RowDiffers {
    pub(crate) fn kind(&self) -> RowKind {
        match (&self.source, &self.replica) {
            (_, None) => RowKind::Missing,
            (None, _) => RowKind::Extra,
            _ => RowKind::Differs,
        }
    }
}

impl RowKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            RowKind::Missing => "missing",
            RowKind::Extra => "extra",
            RowKind::Differs => "differs",
        }
    }
}

impl Difference {
    /// What is said of the table: `shop.orders: 2 rows differ`.
    pub(crate) fn line(&self, name: &Name) -> String {
        match self {
            Difference::Missing => format!("{name} is missing"),
            Difference::Extra => format!("{name} is not on the source"),
            Difference::Definition(what) => format!("{name}: {}", what.join(", ")),
            Difference::Rows(RowsDiffer { count: 1, .. }) => format!("{name}: 1 row differs"),
            Difference::Rows(rows) => format!("{name}: {} rows differ", rows.count),
            Difference::Bag(source, replica) if source != replica => {
                format!("{name}: {replica} rows, on the source {source} (it has no unique key)")
            }
            Difference::Bag(..) => format!("{name}: rows differ (it has no unique key)"),
        }
    }

    /// The word for it in the JSON form and in the table of differences.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Definition(_) => "definition",
            Difference::Rows(_) | Difference::Bag(..) => "rows",
        }
    }
}
