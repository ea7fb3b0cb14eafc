//! The tables that a replica is told not to replicate: its filters, as its status shows them. Pure.

use client::Row;

use crate::schema::Name;

/// The filters of a replica's channels.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Filters {
    do_db: Vec<String>,
    ignore_db: Vec<String>,
    do_table: Vec<String>,
    ignore_table: Vec<String>,
    wild_do_table: Vec<String>,
    wild_ignore_table: Vec<String>,
}

impl Filters {
    /// Reads the rows of a replica's status.
    pub(crate) fn read(rows: &[Row]) -> Filters {
        let list = |name: &str| {
            let texts = rows.iter().filter_map(|row| row.get(&[name]));
            let words = texts.flat_map(|text| text.split(',')).map(str::trim);
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        Filters {
            do_db: list("Replicate_Do_DB"),
            ignore_db: list("Replicate_Ignore_DB"),
            do_table: list("Replicate_Do_Table"),
            ignore_table: list("Replicate_Ignore_Table"),
            wild_do_table: list("Replicate_Wild_Do_Table"),
            wild_ignore_table: list("Replicate_Wild_Ignore_Table"),
        }
    }

    /// The filter that keeps changes of this table from the replica, as for a row event: the database is that of the table.
    /// Source: "How Servers Evaluate Replication Filtering Rules", `MySQL` 8.4 Reference Manual.
    pub(crate) fn hides(&self, name: &Name) -> Option<&'static str> {
        let has = |list: &[String], word: &str| list.iter().any(|entry| entry == word);
        let table = name.to_string();
        if !self.do_db.is_empty() {
            if !has(&self.do_db, &name.database) {
                return Some("Replicate_Do_DB");
            }
        } else if has(&self.ignore_db, &name.database) {
            return Some("Replicate_Ignore_DB");
        }
        let wild = |list: &[String]| list.iter().any(|pattern| is_like(pattern.as_bytes(), table.as_bytes()));
        if has(&self.do_table, &table) {
            return None;
        }
        if has(&self.ignore_table, &table) {
            return Some("Replicate_Ignore_Table");
        }
        if wild(&self.wild_do_table) {
            return None;
        }
        if wild(&self.wild_ignore_table) {
            return Some("Replicate_Wild_Ignore_Table");
        }
        match (self.do_table.is_empty(), self.wild_do_table.is_empty()) {
            (true, true) => None,
            (false, _) => Some("Replicate_Do_Table"),
            (true, false) => Some("Replicate_Wild_Do_Table"),
        }
    }
}

/// Whether a text is like a pattern with `%`, `_` and `\`, as in `LIKE`.
pub(crate) fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'%', pattern @ ..], _) => {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| is_like(pattern, text)))
        }
        ([b'_', pattern @ ..], [_, text @ ..]) => is_like(pattern, text),
        ([b'\\', wanted, pattern @ ..] | [wanted, pattern @ ..], [byte, text @ ..]) => {
            wanted == byte && is_like(pattern, text)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hides(filter: &str, value: &str, table: &str) -> Option<&'static str> {
        let (database, table) = table.split_once('.').unwrap();
        let name = Name { database: database.into(), table: table.into() };
        Filters::read(&[Row::of(&[(filter, Some(value))])]).hides(&name)
    }

    #[test]
    fn a_table_is_hidden_by_the_filter_that_names_it() {
        for (filter, value, table, is_hidden) in [
            ("Replicate_Do_DB", "shop,crm", "shop.orders", false),
            ("Replicate_Do_DB", "shop,crm", "log.hits", true),
            ("Replicate_Ignore_DB", "log", "log.hits", true),
            ("Replicate_Ignore_DB", "log", "shop.orders", false),
            ("Replicate_Do_Table", "shop.orders", "shop.orders", false),
            ("Replicate_Do_Table", "shop.orders", "shop.items", true),
            ("Replicate_Ignore_Table", "shop.orders", "shop.orders", true),
            ("Replicate_Wild_Do_Table", "shop.%", "shop.orders", false),
            ("Replicate_Wild_Do_Table", "shop.%", "log.hits", true),
            ("Replicate_Wild_Ignore_Table", "%.tmp\\_%", "shop.tmp_1", true),
            ("Replicate_Wild_Ignore_Table", "%.tmp\\_%", "shop.tmpx1", false),
            ("Replicate_Wild_Ignore_Table", "%.tmp_1", "shop.tmpx1", true),
            ("Replicate_Do_DB", "", "shop.orders", false),
        ] {
            assert_eq!(hides(filter, value, table), is_hidden.then_some(filter), "{filter}={value} {table}");
        }
    }
}
