//! What tables a server has, and how it defines them: read from `information_schema`.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::mem;
use std::sync::Arc;

use client::error::ER_BAD_FIELD_ERROR;
use client::{Error, Family, Row, Session};

use crate::expression::string;
use crate::schema::{Column, Definition, Key, Name, Word};

/// The tables of a server. Where a replica defines a table as its source does, they share it.
pub(crate) type Catalog = BTreeMap<Name, Arc<Definition>>;

/// Each word once, and each list of columns or keys: a replica shares them with its source, and tables with each other.
#[derive(Default)]
pub(crate) struct Lexicon {
    words: HashSet<Word>,
    columns: HashSet<Arc<[Column]>>,
    keys: HashSet<Arc<[Key]>>,
}

impl Lexicon {
    fn word(&mut self, text: &str) -> Word {
        if let Some(known) = self.words.get(text) {
            return Arc::clone(known);
        }
        let word: Word = text.into();
        self.words.insert(Arc::clone(&word));
        word
    }

    fn name(&mut self, row: &Row) -> Name {
        Name { database: self.word(text(row, "d")), table: self.word(text(row, "t")) }
    }
}

fn shared<T: Eq + Hash>(lists: &mut HashSet<Arc<[T]>>, list: Vec<T>) -> Arc<[T]> {
    if let Some(known) = lists.get(&*list) {
        return Arc::clone(known);
    }
    let list: Arc<[T]> = list.into();
    lists.insert(Arc::clone(&list));
    list
}

/// The schemas that belong to the server itself, and ours.
const NOT_DATA: &str = "'information_schema','mysql','mysqlchk','performance_schema','sys'";

/// Reads the tables that are `wanted`; `source` are those of the source, for a replica.
///
/// # Errors
/// When the server does not answer.
pub(crate) fn read(
    session: &mut Session<'_>,
    family: Family,
    source: Option<&Catalog>,
    lexicon: &mut Lexicon,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Catalog, Error> {
    let found = read_where(session, family, &format!("TABLE_SCHEMA NOT IN ({NOT_DATA})"), lexicon, wanted)?;
    let share = |(name, definition): (Name, Definition)| {
        let same = source.and_then(|source| source.get(&name)).filter(|source| source.is_same(&definition));
        let definition = same.map_or_else(|| Arc::new(definition), Arc::clone);
        (name, definition)
    };
    Ok(found.into_iter().map(share).collect())
}

/// Reads one table; `None` where there is none.
///
/// # Errors
/// When the server does not answer.
pub(crate) fn read_one(session: &mut Session<'_>, family: Family, name: &Name) -> Result<Option<Definition>, Error> {
    let (database, table) = (string(&name.database), string(&name.table));
    let condition = format!("TABLE_SCHEMA = {database} AND TABLE_NAME = {table}");
    let found = read_where(session, family, &condition, &mut Lexicon::default(), &|found| found == name)?;
    Ok(found.into_values().next())
}

fn read_where(
    session: &mut Session<'_>,
    family: Family,
    condition: &str,
    lexicon: &mut Lexicon,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<BTreeMap<Name, Definition>, Error> {
    let mut catalog = BTreeMap::new();
    let tables = format!(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, ENGINE AS engine, TABLE_ROWS AS n, DATA_LENGTH AS bytes \
         FROM information_schema.TABLES WHERE {condition} AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED')"
    );
    session.query_rows(&tables, |row| {
        let name = lexicon.name(row);
        if wanted(&name) {
            let number = |column| text(row, column).parse().unwrap_or(0);
            let engine = lexicon.word(row.get(&["engine"]).unwrap_or("NULL"));
            let (rows, bytes) = (number("n"), number("bytes"));
            catalog.insert(name, Definition { engine, columns: Arc::new([]), keys: Arc::new([]), rows, bytes });
        }
    })?;
    let columns = format!(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, ORDINAL_POSITION AS at, COLUMN_NAME AS name, DATA_TYPE AS data, \
         COLUMN_TYPE AS type, IS_NULLABLE AS nullable, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, \
         EXTRA AS extra FROM information_schema.COLUMNS WHERE {condition}"
    );
    let mut table = None;
    let mut found = Vec::new();
    session.query_rows(&columns, |row| {
        let name = lexicon.name(row);
        if table.as_ref() != Some(&name) {
            take_columns(&mut catalog, lexicon, table.replace(name), mem::take(&mut found));
        }
        found.push(column(row, lexicon));
    })?;
    take_columns(&mut catalog, lexicon, table, found);
    read_keys(session, family, condition, lexicon, &mut catalog)?;
    Ok(catalog)
}

/// Takes the columns of a table as soon as the next one comes, so that few are held that others have, too.
fn take_columns(
    catalog: &mut BTreeMap<Name, Definition>,
    lexicon: &mut Lexicon,
    table: Option<Name>,
    mut found: Vec<Column>,
) {
    let Some(definition) = table.and_then(|table| catalog.get_mut(&table)) else { return };
    // No server says that all columns of a table come together.
    found.extend(definition.columns.iter().cloned());
    found.sort_by_key(|column| column.at);
    definition.columns = shared(&mut lexicon.columns, found);
}

/// A column of an index.
struct Part {
    table: Name,
    index: Word,
    at: u32,
    column: Word,
    direction: Word,
    /// Not to read a table by.
    is_unfit: bool,
}

impl Part {
    /// `PRIMARY` before other indexes of its table.
    fn place(&self) -> impl Ord + '_ {
        (&self.table, &*self.index != "PRIMARY", &self.index, self.at)
    }
}

fn read_keys(
    session: &mut Session<'_>,
    family: Family,
    condition: &str,
    lexicon: &mut Lexicon,
    catalog: &mut BTreeMap<Name, Definition>,
) -> Result<(), Error> {
    // Not to be used in a statement although it is there: MySQL 8.0, MariaDB 10.6.
    let hidden = if family == Family::MariaDb { "IGNORED = 'YES'" } else { "IS_VISIBLE = 'NO'" };
    let statement = |hidden: &str| {
        format!(
            "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, INDEX_NAME AS name, SEQ_IN_INDEX AS at, COLUMN_NAME AS col, \
             SUB_PART AS part, COLLATION AS direction, INDEX_TYPE AS type, {hidden} AS hidden \
             FROM information_schema.STATISTICS WHERE {condition} AND NON_UNIQUE = 0"
        )
    };
    let mut parts = Vec::new();
    let mut take = |row: &Row| {
        let table = lexicon.name(row);
        if !catalog.contains_key(&table) {
            return;
        }
        let is_whole = row.get(&["part"]).is_none() && row.get(&["col"]).is_some();
        parts.push(Part {
            table,
            index: lexicon.word(text(row, "name")),
            at: text(row, "at").parse().unwrap_or(0),
            column: lexicon.word(text(row, "col")),
            direction: lexicon.word(text(row, "direction")),
            is_unfit: !is_whole || text(row, "hidden") == "1" || text(row, "type") != "BTREE",
        });
    };
    match session.query_rows(&statement(hidden), &mut take) {
        Err(error) if error.is(&[ER_BAD_FIELD_ERROR]) => session.query_rows(&statement("0"), &mut take)?,
        done => done?,
    }
    parts.sort_by(|a, b| a.place().cmp(&b.place()));
    for of_table in parts.chunk_by(|one, next| one.table == next.table) {
        let key = |index: &[Part]| {
            let first = index.first()?;
            // Both directions in one index: no order by which it can be read.
            let is_fit = index.iter().all(|part| !part.is_unfit && part.direction == first.direction);
            let columns = index.iter().map(|part| Arc::clone(&part.column));
            is_fit.then(|| Key { index: Arc::clone(&first.index), columns: columns.collect() })
        };
        let keys = of_table.chunk_by(|one, next| one.index == next.index).filter_map(key).collect();
        if let Some(definition) = of_table.first().and_then(|part| catalog.get_mut(&part.table)) {
            definition.keys = shared(&mut lexicon.keys, keys);
        }
    }
    Ok(())
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(&[column]).unwrap_or_default()
}

fn column(row: &Row, lexicon: &mut Lexicon) -> Column {
    let mut lower = |column| row.get(&[column]).map(|text| lexicon.word(&text.to_lowercase()));
    let [data_type, charset, collation] = ["data", "charset", "collation"].map(&mut lower);
    Column {
        at: text(row, "at").parse().unwrap_or(0),
        name: lexicon.word(text(row, "name")),
        data_type: data_type.unwrap_or_default(),
        full_type: lexicon.word(text(row, "type")),
        charset,
        collation,
        nullable: text(row, "nullable") == "YES",
        is_virtual: text(row, "extra").to_lowercase().contains("virtual"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests;

    fn table(name: &str) -> Name {
        Name { database: "shop".into(), table: name.into() }
    }

    #[test]
    fn columns_that_do_not_come_together_are_put_together_and_shared() {
        let column = |at, name| Column { at, ..tests::column(name, "int(11)", None) };
        let mut lexicon = Lexicon::default();
        let mut catalog: BTreeMap<Name, Definition> =
            ["a", "b"].map(|name| (table(name), tests::definition(&[]))).into();
        for (name, columns) in [
            ("a", vec![column(1, "id"), column(3, "w")]),
            ("b", vec![column(1, "id"), column(2, "v"), column(3, "w")]),
            ("a", vec![column(2, "v")]),
            ("not_wanted", vec![column(1, "id")]),
        ] {
            take_columns(&mut catalog, &mut lexicon, Some(table(name)), columns);
        }
        let [a, b] = ["a", "b"].map(|name| Arc::clone(&catalog[&table(name)].columns));
        assert_eq!(a.iter().map(|column| &*column.name).collect::<Vec<_>>(), ["id", "v", "w"]);
        assert!(Arc::ptr_eq(&a, &b));
    }
}
