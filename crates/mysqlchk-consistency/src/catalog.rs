//! What tables a server has, and how it defines them: read from `information_schema`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use client::error::ER_BAD_FIELD_ERROR;
use client::{Error, Family, Row, Session};

use crate::expression::string;
use crate::schema::{Column, Definition, Key, Name};

/// The tables of a server. Where a replica defines a table as its source does, they share it.
pub(crate) type Catalog = BTreeMap<Name, Arc<Definition>>;

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
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Catalog, Error> {
    let found = read_where(session, family, &format!("TABLE_SCHEMA NOT IN ({NOT_DATA})"), wanted)?;
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
    let found =
        read_where(session, family, &format!("TABLE_SCHEMA = {database} AND TABLE_NAME = {table}"), &|found| {
            found == name
        })?;
    Ok(found.into_values().next())
}

fn read_where(
    session: &mut Session<'_>,
    family: Family,
    condition: &str,
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
            let engine = row.get(&["engine"]).unwrap_or("NULL").to_owned();
            let (rows, bytes) = (number("n"), number("bytes"));
            catalog.insert(name, Definition { engine, columns: Vec::new(), keys: Vec::new(), rows, bytes });
        }
    })?;
    let columns = format!(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, ORDINAL_POSITION AS at, COLUMN_NAME AS name, DATA_TYPE AS data, \
         COLUMN_TYPE AS type, IS_NULLABLE AS nullable, CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, \
         EXTRA AS extra FROM information_schema.COLUMNS WHERE {condition}"
    );
    let mut ordered: BTreeMap<Name, Vec<(u32, Column)>> = BTreeMap::new();
    session.query_rows(&columns, |row| {
        let name = name(row);
        if catalog.contains_key(&name) {
            let at = text(row, "at").parse().unwrap_or(0);
            ordered.entry(name).or_default().push((at, column(row)));
        }
    })?;
    for (name, mut columns) in ordered {
        columns.sort_by_key(|(at, _)| *at);
        if let Some(definition) = catalog.get_mut(&name) {
            definition.columns = columns.into_iter().map(|(_, column)| column).collect();
        }
    }
    read_keys(session, family, condition, &mut catalog)?;
    Ok(catalog)
}

/// What makes an index unfit to read a table by.
#[derive(Default)]
struct Index {
    columns: Vec<(u32, String)>,
    directions: BTreeSet<String>,
    is_unfit: bool,
}

fn read_keys(
    session: &mut Session<'_>,
    family: Family,
    condition: &str,
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
    let mut indexes: BTreeMap<Name, BTreeMap<(bool, String), Index>> = BTreeMap::new();
    let mut take = |row: &Row| {
        let name = name(row);
        if !catalog.contains_key(&name) {
            return;
        }
        let index = text(row, "name").to_owned();
        let found = indexes.entry(name).or_default().entry((index != "PRIMARY", index)).or_default();
        let is_whole = row.get(&["part"]).is_none() && row.get(&["col"]).is_some();
        found.is_unfit |= !is_whole || text(row, "hidden") == "1" || text(row, "type") != "BTREE";
        found.directions.insert(text(row, "direction").to_owned());
        found.columns.push((text(row, "at").parse().unwrap_or(0), text(row, "col").to_owned()));
    };
    match session.query_rows(&statement(hidden), &mut take) {
        Err(error) if error.is(&[ER_BAD_FIELD_ERROR]) => session.query_rows(&statement("0"), &mut take)?,
        done => done?,
    }
    for (name, found) in indexes {
        let Some(definition) = catalog.get_mut(&name) else { continue };
        for ((_, index), mut found) in found {
            if !found.is_unfit && found.directions.len() == 1 {
                found.columns.sort();
                let columns = found.columns.into_iter().map(|(_, column)| column).collect();
                definition.keys.push(Key { index, columns });
            }
        }
    }
    Ok(())
}

fn name(row: &Row) -> Name {
    Name { database: text(row, "d").to_owned(), table: text(row, "t").to_owned() }
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row.get(&[column]).unwrap_or_default()
}

fn column(row: &Row) -> Column {
    let lower = |column| row.get(&[column]).map(str::to_lowercase);
    let extra = lower("extra").unwrap_or_default();
    Column {
        name: text(row, "name").to_owned(),
        data_type: lower("data").unwrap_or_default(),
        full_type: text(row, "type").to_owned(),
        charset: lower("charset"),
        collation: lower("collation"),
        nullable: text(row, "nullable") == "YES",
        is_virtual: extra.contains("virtual"),
    }
}
