//! What a server answers: rows of named values, as text.

use std::ops::Deref;
use std::sync::Arc;

use crate::variable::Variable;

/// The rows of one answer, which has columns where it has no row.
#[derive(Debug, Default, Clone)]
pub struct Rows {
    columns: Arc<[String]>,
    rows: Vec<Row>,
}

impl Rows {
    /// Rows as they came, each with a value for each of `columns`.
    #[must_use]
    pub fn new(columns: impl Into<Arc<[String]>>, rows: Vec<Vec<Option<String>>>) -> Rows {
        let columns = columns.into();
        let rows = rows.into_iter().map(|values| Row::new(&columns, values)).collect();
        Rows { columns, rows }
    }

    /// Rows of the same columns from literals, for the tests of a mapping.
    #[must_use]
    pub fn of(rows: Vec<Row>) -> Rows {
        Rows { columns: rows.first().map(|row| Arc::clone(&row.names)).unwrap_or_default(), rows }
    }

    /// Whether there is a column of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.columns.iter().any(|have| have.eq_ignore_ascii_case(name))
    }
}

impl Deref for Rows {
    type Target = [Row];

    fn deref(&self) -> &[Row] {
        &self.rows
    }
}

/// One row of an answer; its values are found by column name, in any case, never by position.
#[derive(Debug, Clone)]
pub struct Row {
    names: Arc<[String]>,
    values: Vec<Option<String>>,
}

impl Row {
    /// A row as it came, with a value for each of `names`.
    pub(crate) fn new(names: &Arc<[String]>, values: Vec<Option<String>>) -> Row {
        Row { names: Arc::clone(names), values }
    }

    /// A row from literals, for the tests of a mapping.
    #[must_use]
    pub fn of(columns: &[(&str, Option<&str>)]) -> Row {
        Row {
            names: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            values: columns.iter().map(|(_, value)| value.map(str::to_owned)).collect(),
        }
    }

    /// The value under the first of `names` that the row has; `None` for NULL and for a column that is not there.
    #[must_use]
    pub fn get(&self, names: &[&str]) -> Option<&str> {
        let at = names.iter().find_map(|name| self.names.iter().position(|have| have.eq_ignore_ascii_case(name)))?;
        self.values.get(at)?.as_deref()
    }

    /// Whether there is a column of this name, be its value NULL.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names.iter().any(|have| have.eq_ignore_ascii_case(name))
    }

    /// The value under `name` as a server variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Variable {
        Variable::from(self.get(&[name]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_either_name_in_any_case() {
        let row = Row::of(&[("Slave_IO_Running", Some("Yes")), ("Seconds_Behind_Master", None)]);
        assert_eq!(row.get(&["Replica_IO_Running", "slave_io_running"]), Some("Yes"));
        assert_eq!(row.get(&["Seconds_Behind_Source", "Seconds_Behind_Master"]), None);
        assert_eq!(row.get(&["Channel_Name"]), None);
    }

    #[test]
    fn an_answer_without_a_row_has_its_columns() {
        let rows = Rows::new(vec!["Using_Gtid".into()], Vec::new());
        assert!(rows.is_empty() && rows.has("using_gtid") && !rows.has("Channel_Name"));
        assert!(Rows::of(vec![Row::of(&[("a", None)])]).has("A"));
    }
}
