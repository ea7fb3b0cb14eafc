//! The statements that read a table. Pure: text from a plan.
//!
//! The hash of a row is `CRC32(CRC32(text))`. One CRC32 alone is linear: where the same bits change in an even number of
//! rows, as when two rows exchange their values, the XOR over the rows stays what it was, always. The inner number
//! becomes decimal text, which is not linear.

use std::fmt::Write;

use crate::schema::{ChunkKey, Compared, Form, KeyColumn, Literal, Name, Plan};

/// The values of a key, each as it is written in a statement.
pub(crate) type KeyValues = Vec<String>;

/// The rows with `lower` < key <= `upper`; without a bound, all on that side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub(crate) lower: Option<KeyValues>,
    pub(crate) upper: Option<KeyValues>,
}

/// The hash of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Hash {
    /// 32 bits
    Crc32,
    /// 64 bits, at twice the cost
    Sha2,
}

/// What makes the text of a row, new in each run: so what collides in one does not in the next, and no value can be mistaken
/// for one of the two words.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    /// Between two values.
    pub(crate) separator: String,
    /// In place of NULL, which the server would leave out.
    pub(crate) null: String,
    pub(crate) hash: Hash,
}

/// The largest value that is part of the text of a row, in bytes; of a larger one it is the SHA-256.
const LONG: u32 = 65_536;

/// Asks whether the last statement had to leave something out, such as the text of a row above `max_allowed_packet`.
pub(crate) const WARNINGS: &str = "SELECT @@warning_count AS w";

/// A name as it is written in a statement.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A string as it is written in a statement.
pub(crate) fn string(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn table(name: &Name, key: Option<&ChunkKey>) -> String {
    let index = key.map(|key| format!(" FORCE INDEX ({})", quoted(&key.index))).unwrap_or_default();
    format!("{}.{}{index}", quoted(&name.database), quoted(&name.table))
}

/// Counts and sums up the rows of a range: `n`, `x`, and for a bag of rows `s`, since equal rows cancel each other in `x`.
pub(crate) fn chunk(name: &Name, plan: &Plan, words: &Words, range: &Range) -> String {
    let hash = row_hash(plan, words);
    let sum = if plan.key.is_none() { format!(", SUM({hash}) AS s") } else { String::new() };
    let rows = within(plan.key.as_ref(), range);
    format!("SELECT COUNT(*) AS n, BIT_XOR({hash}) AS x{sum} FROM {}{rows}", table(name, plan.key.as_ref()))
}

/// The server's own checksum of tables, one row each in their order: `Checksum`.
pub(crate) fn checksum(names: &[Name]) -> String {
    let tables: Vec<String> = names.iter().map(|name| table(name, None)).collect();
    format!("CHECKSUM TABLE {} EXTENDED", tables.join(", "))
}

/// The keys and hashes of at most `limit` rows of a range: `k0`, `k1` .., `h`.
pub(crate) fn rows(name: &Name, plan: &Plan, key: &ChunkKey, words: &Words, range: &Range, limit: usize) -> String {
    format!(
        "SELECT {}, {} AS h FROM {}{} LIMIT {limit}",
        key_values(key),
        row_hash(plan, words),
        table(name, Some(key)),
        within(Some(key), range)
    )
}

/// The keys and hashes of the rows with these keys, as [`rows`].
pub(crate) fn rows_of(name: &Name, plan: &Plan, key: &ChunkKey, words: &Words, keys: &[&KeyValues]) -> String {
    let hash = row_hash(plan, words);
    format!("SELECT {}, {hash} AS h FROM {} WHERE {}", key_values(key), table(name, Some(key)), any_of(key, keys))
}

/// A hash of each column of one row: `c0`, `c1` ..
pub(crate) fn columns_of(name: &Name, plan: &Plan, key: &ChunkKey, words: &Words, values: &KeyValues) -> String {
    let one = |(at, column): (usize, &Compared)| {
        let alone = Plan { columns: vec![column.clone()], as_bytes: false, ..plan.clone() };
        format!("{} AS c{at}", row_hash(&alone, words))
    };
    let columns: Vec<String> = plan.columns.iter().enumerate().map(one).collect();
    format!("SELECT {} FROM {} WHERE {}", columns.join(", "), table(name, Some(key)), any_of(key, &[values]))
}

/// The key after `offset` rows of a range.
pub(crate) fn bound(name: &Name, key: &ChunkKey, range: &Range, offset: u64) -> String {
    let order: Vec<String> = key.columns.iter().map(|column| quoted(&column.name)).collect();
    format!(
        "SELECT {} FROM {}{} ORDER BY {} LIMIT 1 OFFSET {offset}",
        key_values(key),
        table(name, Some(key)),
        within(Some(key), range),
        order.join(", ")
    )
}

/// The last key of a table.
pub(crate) fn last(name: &Name, key: &ChunkKey) -> String {
    let order: Vec<String> = key.columns.iter().map(|column| format!("{} DESC", quoted(&column.name))).collect();
    format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", key_values(key), table(name, Some(key)), order.join(", "))
}

/// A value of a key, from what a server returns for it to how it is written in a statement.
pub(crate) fn key_value(literal: &Literal, returned: &str) -> String {
    match literal {
        Literal::Number | Literal::Float | Literal::Ordinal => returned.to_owned(),
        Literal::Bytes => format!("X'{returned}'"),
        Literal::Text(charset) => format!("_{charset} X'{returned}'"),
        Literal::Quoted => string(returned),
    }
}

fn key_values(key: &ChunkKey) -> String {
    let value = |(at, column): (usize, &KeyColumn)| {
        let name = quoted(&column.name);
        match column.literal {
            Literal::Number => format!("{name} AS k{at}"),
            Literal::Float => format!("{name} + 0e0 AS k{at}"),
            Literal::Ordinal => format!("{name} + 0 AS k{at}"),
            Literal::Bytes | Literal::Text(_) => format!("HEX({name}) AS k{at}"),
            Literal::Quoted => format!("CAST({name} AS CHAR) AS k{at}"),
        }
    };
    key.columns.iter().enumerate().map(value).collect::<Vec<_>>().join(", ")
}

/// ` WHERE ..` for a range; empty for the whole table.
fn within(key: Option<&ChunkKey>, range: &Range) -> String {
    let Some(key) = key else { return String::new() };
    let names: Vec<String> = key.columns.iter().map(|column| quoted(&column.name)).collect();
    let side = |values: &KeyValues, sign, last| {
        let (name, value) = (names.first().map_or("", |name| name), values.first().map_or("", |value| value));
        let all = beyond(&names, values, sign, last);
        // Of a key of several columns: the optimizer sees from its first one where to begin.
        if names.len() > 1 { format!("{name} {sign}= {value} AND {all}") } else { all }
    };
    let sides = [
        range.lower.as_ref().map(|values| side(values, ">", ">")),
        range.upper.as_ref().map(|values| side(values, "<", "<=")),
    ];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    if sides.is_empty() { String::new() } else { format!(" WHERE {}", sides.join(" AND ")) }
}

/// `(a > 1 OR (a = 1 AND b > 2))`: the comparison of two rows, which the optimizer cannot use as `(a, b) > (1, 2)`.
fn beyond(names: &[String], values: &[String], sign: &str, last: &str) -> String {
    match (names, values) {
        ([name], [value]) => format!("{name} {last} {value}"),
        ([name, names @ ..], [value, values @ ..]) => {
            let rest = beyond(names, values, sign, last);
            format!("({name} {sign} {value} OR ({name} = {value} AND {rest}))")
        }
        _ => "TRUE".to_owned(),
    }
}

fn any_of(key: &ChunkKey, keys: &[&KeyValues]) -> String {
    if let [column] = &*key.columns {
        let values: Vec<&str> = keys.iter().filter_map(|values| values.first().map(String::as_str)).collect();
        return format!("{} IN ({})", quoted(&column.name), values.join(", "));
    }
    let one = |values: &&KeyValues| {
        let equal = |(column, value): (&KeyColumn, &String)| format!("{} = {value}", quoted(&column.name));
        format!("({})", key.columns.iter().zip(&**values).map(equal).collect::<Vec<_>>().join(" AND "))
    };
    keys.iter().map(one).collect::<Vec<_>>().join(" OR ")
}

fn row_hash(plan: &Plan, words: &Words) -> String {
    let text = row_text(plan, words);
    match words.hash {
        Hash::Crc32 => format!("CRC32(CRC32({text}))"),
        Hash::Sha2 => format!("CAST(CONV(LEFT(SHA2({text}, 256), 16), 16, 10) AS UNSIGNED)"),
    }
}

/// The text of a row, in which no two rows that differ are alike.
fn row_text(plan: &Plan, words: &Words) -> String {
    let null = string(&words.null);
    let mut parts: Vec<String> = Vec::new();
    let (bits, others): (Vec<&Compared>, Vec<&Compared>) =
        plan.columns.iter().partition(|column| column.form == Form::Bits);
    for column in others {
        let name = quoted(&column.name);
        let value = match column.form {
            Form::Plain | Form::Bits => name,
            Form::Number => format!("{name} + 0"),
            Form::Converted => format!("CONVERT({name} USING utf8mb4)"),
            Form::Decimal(digits) => format!("CAST({name} AS DECIMAL(65, {}))", digits.min(30)),
            Form::Datetime(digits) => format!("CAST({name} AS DATETIME({digits}))"),
            Form::Time(digits) => format!("CAST({name} AS TIME({digits}))"),
            Form::Long => format!("IF(LENGTH({name}) > {LONG}, SHA2({name}, 256), {name})"),
            Form::LongConverted => {
                let text = format!("CONVERT({name} USING utf8mb4)");
                format!("IF(LENGTH({text}) > {LONG}, SHA2({text}, 256), {text})")
            }
            Form::Bytes => format!("HEX({name})"),
        };
        parts.push(if column.nullable { format!("IFNULL({value}, {null})") } else { value });
    }
    // Two at a time: a point of a plane has two, and its bytes cost less than the text of one.
    for pair in bits.chunks(2) {
        let values: Vec<String> = pair
            .iter()
            .map(|column| {
                let name = quoted(&column.name);
                if column.nullable { format!("IFNULL({name}, 0)") } else { name }
            })
            .collect();
        parts.push(match &*values {
            [x, y] => format!("HEX(POINT({x}, {y}))"),
            [x, ..] => format!("HEX(POINT({x}, 0))"),
            [] => continue,
        });
    }
    let nulls: Vec<String> = bits
        .iter()
        .filter(|column| column.nullable)
        .map(|column| format!("ISNULL({})", quoted(&column.name)))
        .collect();
    if !nulls.is_empty() {
        parts.push(format!("CONCAT({})", nulls.join(", ")));
    }
    if let Some(first) = parts.first_mut().filter(|_| plan.as_bytes) {
        // Makes all of the text bytes, which have no collation.
        *first = format!("CAST({first} AS BINARY)");
    }
    let mut text = format!("CONCAT_WS({}", string(&words.separator));
    for part in &parts {
        let _ = write!(text, ", {part}");
    }
    text + ")"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{column, definition};
    use crate::schema::{Key, plan};
    use std::collections::BTreeSet;

    fn name() -> Name {
        Name { database: "shop".into(), table: "a`b".into() }
    }

    fn words(hash: Hash) -> Words {
        Words { separator: "SEP".into(), null: "NIL".into(), hash }
    }

    fn two_part_key() -> Plan {
        let mut table =
            definition(&[column("a", "int(11)", None), column("b", "varchar(9)", Some("latin1_swedish_ci"))]);
        table.keys = std::sync::Arc::new([Key { index: "PRIMARY".into(), columns: vec!["a".into(), "b".into()] }]);
        plan(&table, &[&table], &BTreeSet::new())
    }

    #[test]
    fn a_range_is_open_below_and_closed_above() {
        let plan = two_part_key();
        let range = Range {
            lower: Some(vec!["5".into(), "_latin1 X'61'".into()]),
            upper: Some(vec!["9".into(), "_latin1 X'7A'".into()]),
        };
        let expected = "SELECT COUNT(*) AS n, BIT_XOR(CRC32(CRC32(CONCAT_WS('SEP', `a`, `b`)))) AS x \
            FROM `shop`.`a``b` FORCE INDEX (`PRIMARY`) \
            WHERE `a` >= 5 AND (`a` > 5 OR (`a` = 5 AND `b` > _latin1 X'61')) \
            AND `a` <= 9 AND (`a` < 9 OR (`a` = 9 AND `b` <= _latin1 X'7A'))";
        assert_eq!(chunk(&name(), &plan, &words(Hash::Crc32), &range), expected);
        let whole = chunk(&name(), &plan, &words(Hash::Sha2), &Range::default());
        assert!(whole.ends_with("FORCE INDEX (`PRIMARY`)") && whole.contains("SHA2(CONCAT_WS("), "{whole}");
    }

    #[test]
    fn keys_are_written_as_they_are_found_again() {
        for (literal, returned, written) in [
            (Literal::Number, "-7", "-7"),
            (Literal::Bytes, "00FF", "X'00FF'"),
            (Literal::Text("utf8mb4".into()), "6127", "_utf8mb4 X'6127'"),
            (Literal::Quoted, "it's \\", "'it''s \\\\'"),
        ] {
            assert_eq!(key_value(&literal, returned), written);
        }
        let plan = two_part_key();
        let key = plan.key.as_ref().unwrap();
        let keys = [&vec!["1".to_owned(), "X'61'".to_owned()], &vec!["2".to_owned(), "X'62'".to_owned()]];
        let found = rows_of(&name(), &plan, key, &words(Hash::Crc32), &keys);
        assert!(found.ends_with(" WHERE (`a` = 1 AND `b` = X'61') OR (`a` = 2 AND `b` = X'62')"), "{found}");
    }

    #[test]
    fn null_is_a_word_and_never_left_out() {
        let mut nullable = column("n", "int(11)", None);
        nullable.nullable = true;
        let mut double = column("d", "double", None);
        double.nullable = true;
        let plan = plan(&definition(&[nullable, double]), &[], &BTreeSet::new());
        let text = row_text(&plan, &words(Hash::Crc32));
        assert_eq!(text, "CONCAT_WS('SEP', IFNULL(`n`, 'NIL'), HEX(POINT(IFNULL(`d`, 0), 0)), CONCAT(ISNULL(`d`)))");
    }

    /// As the servers have it (ISO 3309).
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
        };
        !bytes.iter().fold(!0, step)
    }

    /// How many of the trials, two rows that exchange a flag, escape the XOR of this hash.
    fn escapes(hash: impl Fn(&str) -> u32) -> u32 {
        // A linear congruential generator: the same trials each time.
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        let mut trial = || {
            let (one, two) = (100_000 + next() % 100_000, 200_000 + next() % 100_000);
            let sum = |a, b| hash(&format!("{one}#{a}#2026-01-01")) ^ hash(&format!("{two}#{b}#2026-01-01"));
            u32::from(sum(0, 1) == sum(1, 0))
        };
        (0..100_000).map(|_| trial()).sum()
    }

    #[test]
    fn an_exchange_always_escapes_one_crc32_and_not_two() {
        assert_eq!(escapes(|text| crc32(text.as_bytes())), 100_000);
        assert_eq!(escapes(|text| crc32(crc32(text.as_bytes()).to_string().as_bytes())), 0);
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
