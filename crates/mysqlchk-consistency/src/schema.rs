//! What of a table is compared: its definitions on the source and on the replicas, made into one plan. Pure: no I/O.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A word of a definition or of a name. Thousands of tables share few of them.
pub(crate) type Word = Arc<str>;

/// A table by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) database: Word,
    pub(crate) table: Word,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// A column as `information_schema.COLUMNS` shows it, in lower case but for the name and the type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Column {
    /// Its place among the columns.
    pub(crate) at: u32,
    pub(crate) name: Word,
    /// `int`, `varchar`, `enum`.
    pub(crate) data_type: Word,
    /// `int(11) unsigned zerofill`, `enum('a','b')`.
    pub(crate) full_type: Word,
    /// `None` for what is not text.
    pub(crate) charset: Option<Word>,
    pub(crate) collation: Option<Word>,
    pub(crate) nullable: bool,
    /// Computed when it is read, and not stored.
    pub(crate) is_virtual: bool,
}

/// A unique index of whole columns, in the order of the index; all ascending or all descending.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) index: Word,
    pub(crate) columns: Vec<Word>,
}

/// A table as one server defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) engine: Word,
    /// In their order. Tables that are defined alike share them.
    pub(crate) columns: Arc<[Column]>,
    /// `PRIMARY` first; shared, too.
    pub(crate) keys: Arc<[Key]>,
    /// The server's estimates: rows, and bytes of data.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Definition {
    /// Whether both are the same, whatever is in the table.
    pub(crate) fn is_same(&self, other: &Definition) -> bool {
        self.engine == other.engine && self.columns == other.columns && self.keys == other.keys
    }
}

/// How a column becomes part of the text of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Plain,
    /// As a number: `BIT`, `ENUM` and `SET` of the same definition, and what is shown with leading zeros.
    Number,
    /// `FLOAT` and `DOUBLE`: the bits, since their text rounds.
    Bits,
    /// As `utf8mb4`, where the two ends store it in different character sets.
    Converted,
    /// A `DECIMAL` with this many digits after the point.
    Decimal(u32),
    /// A `DATETIME` with this many digits of the second.
    Datetime(u32),
    /// A `TIME` with this many digits of the second.
    Time(u32),
    /// What may be larger than 64 KB: of a large value only its SHA-256.
    Long,
    /// The same in `utf8mb4`.
    LongConverted,
    /// A geometry: its bytes.
    Bytes,
}

/// A column that is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) name: String,
    pub(crate) form: Form,
    /// On at least one of the ends.
    pub(crate) nullable: bool,
}

/// How a value of a key is written in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    /// As a number as it is.
    Number,
    /// `FLOAT`: as the double that it is, since its text rounds.
    Float,
    /// As the number behind it: `BIT`, `ENUM`, `SET`.
    Ordinal,
    /// As bytes.
    Bytes,
    /// As bytes in this character set.
    Text(String),
    /// As a string: dates and times, `UUID`, `INET6`.
    Quoted,
}

/// A column of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) literal: Literal,
}

/// The key by which a table is read in chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkKey {
    pub(crate) index: String,
    pub(crate) columns: Vec<KeyColumn>,
    /// One column that holds whole numbers.
    pub(crate) is_integer: bool,
}

/// How a table is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) columns: Vec<Compared>,
    /// `None`: the table is compared as a bag of rows, in one statement.
    pub(crate) key: Option<ChunkKey>,
    /// Text of more than one collation stands in a row, so it is compared as bytes.
    pub(crate) as_bytes: bool,
    /// Whether a locking read holds a row.
    pub(crate) has_row_locks: bool,
    /// The estimate of the source.
    pub(crate) rows: u64,
    /// How many bytes a row has, by the same estimate.
    pub(crate) row_bytes: u64,
}

/// What two definitions of a table have that differs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Against {
    /// Makes the table differ: `column c is missing`.
    pub(crate) differences: Vec<String>,
    /// Worth knowing, and no difference of the data: `engine is MyISAM, on the source InnoDB`.
    pub(crate) notes: Vec<String>,
}

/// Engines without data of their own: what they show is elsewhere, or nowhere.
const WITHOUT_DATA: [&str; 6] = ["blackhole", "federated", "connect", "spider", "mrg_myisam", "sphinx"];

/// Why the table cannot be compared; `None` when it can.
pub(crate) fn refusal(definition: &Definition) -> Option<String> {
    let engine = definition.engine.to_ascii_lowercase();
    if engine == "null" || engine.is_empty() {
        return Some("it cannot be opened: run CHECK TABLE on it".to_owned());
    }
    WITHOUT_DATA
        .contains(&&*engine)
        .then(|| format!("engine {} has no data of its own: add it to --ignore-table", definition.engine))
}

/// Holds the definition of a replica against that of the source.
pub(crate) fn against(source: &Definition, replica: &Definition) -> Against {
    let mut found = Against::default();
    for column in source.columns.iter().filter(|column| !column.is_virtual) {
        match find(replica, &column.name) {
            None => found.differences.push(format!("column {} is missing", column.name)),
            Some(other) if other.is_virtual => {
                found.notes.push(format!("column {} is virtual, on the source it is stored", column.name));
            }
            Some(other) if other.full_type != column.full_type => {
                let (name, theirs, ours) = (&column.name, &other.full_type, &column.full_type);
                found.notes.push(format!("column {name} is {theirs}, on the source {ours}"));
            }
            Some(other) if other.collation != column.collation => {
                let [theirs, ours] = [other, column].map(|column| column.collation.as_deref().unwrap_or_default());
                found.notes.push(format!("column {} is {theirs}, on the source {ours}", column.name));
            }
            Some(_) => {}
        }
    }
    for column in &*replica.columns {
        if find(source, &column.name).is_none() {
            found.notes.push(format!("column {} is not on the source", column.name));
        }
    }
    if !replica.engine.eq_ignore_ascii_case(&source.engine) {
        found.notes.push(format!("engine is {}, on the source {}", replica.engine, source.engine));
    }
    found
}

/// Whether the server's own checksum tells such tables apart: it puts nothing between the values of a row, so text must not
/// stand beside text.
pub(crate) fn suits_checksum(definition: &Definition) -> bool {
    let varies = |column: &Column| {
        let name = &*column.data_type;
        name.contains("varchar")
            || name == "varbinary"
            || name.ends_with("text")
            || name.ends_with("blob")
            || name == "json"
            || is_geometry(name)
    };
    let pairs = definition.columns.iter().zip(definition.columns.iter().skip(1));
    refusal(definition).is_none() && !pairs.into_iter().any(|(one, next)| varies(one) && varies(next))
}

/// The columns of a table among those of all, `DB.TABLE.COLUMN`.
pub(crate) fn columns_of(name: &Name, all: &BTreeSet<String>) -> BTreeSet<String> {
    let prefix = format!("{name}.");
    all.iter().filter_map(|column| column.strip_prefix(&prefix).map(str::to_owned)).collect()
}

/// The plan for a table: `replicas` are the definitions that lack no column. `ignored` are columns not to compare.
pub(crate) fn plan(source: &Definition, replicas: &[&Definition], ignored: &BTreeSet<String>) -> Plan {
    let mut columns = Vec::new();
    let mut collations = BTreeSet::new();
    for column in source.columns.iter().filter(|column| !column.is_virtual && !ignored.contains(&*column.name)) {
        let others: Vec<&Column> = replicas.iter().filter_map(|replica| find(replica, &column.name)).collect();
        if others.iter().any(|other| other.is_virtual) {
            continue;
        }
        let form = form(column, &others);
        match (form, &column.collation) {
            (Form::Converted | Form::LongConverted, _) => _ = collations.insert("utf8mb4"),
            (Form::Plain | Form::Long, Some(collation)) => _ = collations.insert(&**collation),
            (Form::Plain | Form::Long | Form::Bytes, None) if is_binary(column) => _ = collations.insert("binary"),
            _ => {}
        }
        let nullable = column.nullable || others.iter().any(|other| other.nullable);
        columns.push(Compared { name: column.name.to_string(), form, nullable });
    }
    let key = source.keys.iter().find_map(|key| chunk_key(key, source, replicas));
    let has_row_locks = source.engine.eq_ignore_ascii_case("innodb");
    Plan {
        columns,
        key,
        as_bytes: collations.len() > 1,
        has_row_locks,
        rows: source.rows,
        row_bytes: source.bytes / source.rows.max(1),
    }
}

fn find<'a>(definition: &'a Definition, name: &str) -> Option<&'a Column> {
    // Column names are the same in any case (MySQL 8.4 Reference Manual, "Identifier Case Sensitivity").
    definition.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
}

fn is_binary(column: &Column) -> bool {
    let name = &*column.data_type;
    name.ends_with("binary") || name.ends_with("blob") || is_geometry(name)
}

fn is_geometry(data_type: &str) -> bool {
    const TYPES: [&str; 9] = [
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    ];
    TYPES.contains(&data_type)
}

fn form(column: &Column, others: &[&Column]) -> Form {
    let all = || [column].into_iter().chain(others.iter().copied());
    let same = |of: fn(&Column) -> &str| others.iter().all(|other| of(other) == of(column));
    let same_type = same(|column| &column.full_type);
    let same_collation =
        others.iter().all(|other| other.charset == column.charset && other.collation == column.collation);
    let digits = || all().map(|column| fraction(&column.full_type)).max().unwrap_or(0);
    match &*column.data_type {
        "float" | "double" if all().all(|column| ["float", "double"].contains(&&*column.data_type)) => Form::Bits,
        "bit" => Form::Number,
        "enum" | "set" if same_type && same_collation => Form::Number,
        "decimal" if !same_type => Form::Decimal(digits()),
        "datetime" | "timestamp" if !same_type => Form::Datetime(digits()),
        "time" if !same_type => Form::Time(digits()),
        name if is_geometry(name) => Form::Bytes,
        "json" => Form::Converted,
        _ if all().any(|column| column.full_type.contains("zerofill")) => Form::Number,
        "mediumtext" | "longtext" if same_collation => Form::Long,
        "mediumtext" | "longtext" => Form::LongConverted,
        "mediumblob" | "longblob" => Form::Long,
        _ if column.charset.is_some() && !same_collation => Form::Converted,
        _ => Form::Plain,
    }
}

/// The last number of a type in brackets: 2 of `decimal(10,2)`, 6 of `datetime(6)`, 0 of `datetime` and `decimal(10,0)`.
fn fraction(full_type: &str) -> u32 {
    let inside = full_type.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(inside, _)| inside);
    inside.and_then(|inside| inside.rsplit(',').next()?.trim().parse().ok()).unwrap_or(0)
}

/// The key as it can be used for chunks; `None` when the two ends would cut the table in different places.
fn chunk_key(key: &Key, source: &Definition, replicas: &[&Definition]) -> Option<ChunkKey> {
    if !replicas.iter().all(|replica| replica.keys.contains(key)) {
        return None;
    }
    let mut columns = Vec::new();
    let mut is_integer = key.columns.len() == 1;
    for name in &key.columns {
        let column = find(source, name)?;
        let alike = |other: &&Definition| {
            find(other, name).is_some_and(|other| {
                !other.nullable
                    && literal(other) == literal(column)
                    && other.collation == column.collation
                    // The order of these is that of their definition.
                    && (!["enum", "set"].contains(&&*column.data_type) || other.full_type == column.full_type)
            })
        };
        if column.nullable || column.is_virtual || !replicas.iter().all(alike) {
            return None;
        }
        is_integer &= column.data_type.ends_with("int") || &*column.data_type == "integer";
        columns.push(KeyColumn { name: column.name.to_string(), literal: literal(column)? });
    }
    Some(ChunkKey { index: key.index.to_string(), columns, is_integer })
}

fn literal(column: &Column) -> Option<Literal> {
    Some(match &*column.data_type {
        "float" => Literal::Float,
        "double" | "decimal" | "year" | "integer" => Literal::Number,
        name if name.ends_with("int") => Literal::Number,
        "bit" | "enum" | "set" => Literal::Ordinal,
        "date" | "datetime" | "timestamp" | "time" | "uuid" | "inet4" | "inet6" => Literal::Quoted,
        _ if is_binary(column) && !is_geometry(&column.data_type) => Literal::Bytes,
        _ => Literal::Text(column.charset.as_deref()?.to_owned()),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A column that is not NULL, of this type; with a collation it is text.
    pub(crate) fn column(name: &str, full_type: &str, collation: Option<&str>) -> Column {
        Column {
            at: 1,
            name: name.into(),
            data_type: full_type.split(['(', ' ']).next().unwrap().into(),
            full_type: full_type.into(),
            charset: collation.map(|collation| collation.split('_').next().unwrap().into()),
            collation: collation.map(Word::from),
            nullable: false,
            is_virtual: false,
        }
    }

    pub(crate) fn definition(columns: &[Column]) -> Definition {
        Definition { engine: "InnoDB".into(), columns: columns.into(), keys: Arc::new([]), rows: 7, bytes: 7 }
    }

    #[test]
    fn each_type_has_its_form() {
        const LATIN1: Option<&str> = Some("latin1_swedish_ci");
        const UTF8: Option<&str> = Some("utf8mb4_bin");
        for (source, collation, replica, other, form) in [
            ("int(11)", None, "int(11)", None, Form::Plain),
            ("int(11)", None, "smallint(6)", None, Form::Plain),
            ("int(8) unsigned zerofill", None, "int(8) unsigned", None, Form::Number),
            ("bit(9)", None, "bit(9)", None, Form::Number),
            ("float", None, "double", None, Form::Bits),
            ("double", None, "decimal(10,2)", None, Form::Plain),
            ("decimal(10,2)", None, "decimal(12,4)", None, Form::Decimal(4)),
            ("decimal(10,2)", None, "decimal(10,2)", None, Form::Plain),
            ("datetime", None, "datetime(6)", None, Form::Datetime(6)),
            ("time(3)", None, "time", None, Form::Time(3)),
            ("varchar(9)", LATIN1, "varchar(9)", LATIN1, Form::Plain),
            ("varchar(9)", LATIN1, "varchar(9)", UTF8, Form::Converted),
            ("longtext", UTF8, "longtext", UTF8, Form::Long),
            ("longtext", LATIN1, "longtext", UTF8, Form::LongConverted),
            ("longblob", None, "longblob", None, Form::Long),
            ("enum('a','b')", UTF8, "enum('a','b')", UTF8, Form::Number),
            ("enum('a','b')", UTF8, "enum('b','a')", UTF8, Form::Plain),
            ("json", None, "json", None, Form::Converted),
            ("point", None, "point", None, Form::Bytes),
        ] {
            let (source, replica) = (column("c", source, collation), column("c", replica, other));
            assert_eq!(super::form(&source, &[&replica]), form, "{source:?} {replica:?}");
        }
    }

    #[test]
    fn a_key_that_cuts_in_other_places_is_not_used() {
        let with_key = |full_type, collation| {
            let mut table = definition(&[column("k", full_type, collation)]);
            table.keys = Arc::new([Key { index: "PRIMARY".into(), columns: vec!["k".into()] }]);
            table
        };
        let is_used =
            |source: &Definition, replica: &Definition| plan(source, &[replica], &BTreeSet::new()).key.is_some();
        let number = with_key("int(11)", None);
        assert!(is_used(&number, &number) && is_used(&number, &with_key("bigint(20)", None)));
        assert!(!is_used(&number, &with_key("varchar(9)", Some("latin1_bin"))));
        let text = with_key("varchar(9)", Some("latin1_bin"));
        assert!(is_used(&text, &text) && !is_used(&text, &with_key("varchar(9)", Some("latin1_swedish_ci"))));
        let list = with_key("enum('a','b')", Some("latin1_bin"));
        assert!(!is_used(&list, &with_key("enum('b','a')", Some("latin1_bin"))));
        let mut nullable = number.clone();
        nullable.columns = Arc::new([Column { nullable: true, ..number.columns[0].clone() }]);
        assert!(!is_used(&number, &nullable) && !is_used(&nullable, &number));
        assert!(!is_used(&number, &definition(&[column("k", "int(11)", None)])));
    }

    #[test]
    fn what_differs_and_what_is_only_noted() {
        let source = definition(&[column("a", "int(11)", None), column("b", "int(11)", None)]);
        let mut replica = definition(&[column("A", "smallint(6)", None), column("z", "int(11)", None)]);
        replica.engine = "MyISAM".into();
        let found = against(&source, &replica);
        assert_eq!(found.differences, ["column b is missing"]);
        let notes = [
            "column a is smallint(6), on the source int(11)",
            "column z is not on the source",
            "engine is MyISAM, on the source InnoDB",
        ];
        assert_eq!(found.notes, notes);
        assert!(refusal(&Definition { engine: "FEDERATED".into(), ..source.clone() }).is_some());
        assert!(refusal(&source).is_none());
    }

    #[test]
    fn text_beside_text_is_not_for_the_servers_checksum() {
        let text = |name| column(name, "varchar(9)", Some("utf8mb4_bin"));
        let number = || column("n", "int(11)", None);
        assert!(suits_checksum(&definition(&[text("a"), number(), text("b")])));
        assert!(!suits_checksum(&definition(&[number(), text("a"), text("b")])));
    }
}
