//! What tables a server has, and how it defines them: read from `information_schema`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use client::error::ER_BAD_FIELD_ERROR;
use client::{Error, Family, Row, Session};

use crate::expression::string;
use crate::schema::{Column, Definition, Key, Name, Word};

/// The tables of a server. Where a replica defines a table as its source does, they share it.
pub(crate) type Catalog = BTreeMap<Name, Arc<Definition>>;

/// Each word once.
#[derive(Default)]
pub(crate) struct Lexicon(HashSet<Word>);

impl Lexicon {
    fn word(&mut self, text: &str) -> Word {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let word: Word = text.into();
        self.0.insert(Arc::clone(&word));
        word
    }
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
        let name = name(row);
        if wanted(&name) {
            let number = |column| text(row, column).parse().unwrap_or(0);
            let engine = lexicon.word(row.get(&["engine"]).unwrap_or("NULL"));
            let (rows, bytes) = (number("n"), number("bytes"));
            catalog.insert(name, Definition { engine, columns: Vec::new(), keys: Vec::new(), rows, bytes });
        }
    })?;
    let columns = format!(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, ORDINAL_POSITION AS at, COLUMN_NAME AS name, DATA_TYPE AS data, \
         COLUMN_TYPE AS type, IS_NULLABLE AS nullable, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, \
         EXTRA AS extra FROM information_schema.COLUMNS WHERE {condition}"
    );
    session.query_rows(&columns, |row| {
        if let Some(definition) = catalog.get_mut(&name(row)) {
            definition.columns.push(column(row, lexicon));
        }
    })?;
    for definition in catalog.values_mut() {
        definition.columns.sort_by_key(|column| column.at);
        definition.columns.shrink_to_fit();
    }
    read_keys(session, family, condition, lexicon, &mut catalog)?;
    Ok(catalog)
}

/// An index while it is read.
struct Index {
    name: Word,
    columns: Vec<(u32, Word)>,
    direction: Word,
    /// Not to read a table by.
    is_unfit: bool,
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
    let mut indexes: BTreeMap<Name, Vec<Index>> = BTreeMap::new();
    let mut take = |row: &Row| {
        let table = name(row);
        if !catalog.contains_key(&table) {
            return;
        }
        let (name, direction) = (lexicon.word(text(row, "name")), lexicon.word(text(row, "direction")));
        let indexes = indexes.entry(table).or_default();
        let at = indexes.iter().position(|index| index.name == name).unwrap_or_else(|| {
            let direction = Arc::clone(&direction);
            indexes.push(Index { name, columns: Vec::new(), direction, is_unfit: false });
            indexes.len() - 1
        });
        let Some(index) = indexes.get_mut(at) else { return };
        let is_whole = row.get(&["part"]).is_none() && row.get(&["col"]).is_some();
        // Both directions in one index: no order by which it can be read.
        index.is_unfit |= !is_whole || text(row, "hidden") == "1" || text(row, "type") != "BTREE";
        index.is_unfit |= index.direction != direction;
        index.columns.push((text(row, "at").parse().unwrap_or(0), lexicon.word(text(row, "col"))));
    };
    match session.query_rows(&statement(hidden), &mut take) {
        Err(error) if error.is(&[ER_BAD_FIELD_ERROR]) => session.query_rows(&statement("0"), &mut take)?,
        done => done?,
    }
    for (name, mut found) in indexes {
        let Some(definition) = catalog.get_mut(&name) else { continue };
        found.retain(|index| !index.is_unfit);
        found.sort_by(|a, b| (&*a.name != "PRIMARY", &a.name).cmp(&(&*b.name != "PRIMARY", &b.name)));
        let key = |mut index: Index| {
            index.columns.sort();
            Key { index: index.name, columns: index.columns.into_iter().map(|(_, column)| column).collect() }
        };
        definition.keys = found.into_iter().map(key).collect();
    }
    Ok(())
}

fn name(row: &Row) -> Name {
    Name { database: text(row, "d").to_owned(), table: text(row, "t").to_owned() }
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
