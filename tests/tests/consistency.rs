//! `mysqlchk-consistency` with real servers: what it finds, and what it must not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::fake;
use lab::front::{Front, READ};
use lab::galera::Cluster;
use lab::group::Group;
use lab::program::{Check, Outcome, binary, local};
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::software::Software;
use lab::xinetd::Xinetd;
use lab::{machine, shipped, wait};
use mysql::prelude::Queryable;
use serde_json::Value;

/// How long a server may take to get where it should be.
const BOUND: Duration = Duration::from_secs(60);

/// An account as docs/consistency.md gives it, on every server.
fn grant(server: &Server) {
    let user = format!("CREATE USER checker@'%' IDENTIFIED BY '{PASSWORD}'; GRANT SELECT ON *.* TO checker@'%'");
    let (source, replica) = match server.software() {
        Software::MySql9 => ("REPLICATION SLAVE", "REPLICATION CLIENT"),
        _ => ("REPLICATION MASTER ADMIN", "SLAVE MONITOR"),
    };
    server.sql(&format!("{user}; GRANT {source}, {replica} ON *.* TO checker@'%'"));
}

/// Runs the program against the source at this address, with the account of [`grant`].
#[track_caller]
fn compare(source: &Server, arguments: &[&str]) -> Outcome {
    let scratch = Scratch::new("consistency");
    let file = option_file(&scratch, source);
    Check::new("mysqlchk-consistency").arg(format!("--defaults-file={}", file.display())).args(arguments).run()
}

fn option_file(scratch: &Scratch, source: &Server) -> PathBuf {
    // MySQL's login needs TLS, and nobody signed the certificates.
    let options =
        format!("host={}\nport={}\nuser=checker\npassword={PASSWORD}\n", source.ip(), source.address().port());
    scratch.file("my.cnf", format!("[mysqlchk-consistency]\n{options}ssl-mode=PREFERRED\n"))
}

/// What was found on one replica: a line for each table, with the rows that differ.
type Found = BTreeMap<String, String>;

/// The JSON form, and what it tells of the only replica.
#[track_caller]
fn found(source: &Server, arguments: &[&str]) -> (String, Found) {
    let outcome = compare(source, &[&["--format=json", "--rows=1000"], arguments].concat());
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    let replica = &document["replicas"][0];
    let mut found = Found::new();
    for difference in replica["differences"].as_array().unwrap() {
        let keys = difference["keys"].as_array().unwrap();
        let rows: Vec<String> = keys
            .iter()
            .map(|key| format!("{} {}", key["key"].as_str().unwrap(), key["kind"].as_str().unwrap()))
            .collect();
        let line = match rows.len() {
            0 => difference["reason"].as_str().unwrap().to_owned(),
            1..50 => rows.join(", "),
            _ => format!("{} rows", difference["rows"]),
        };
        found.insert(format!("{}.{}", difference["database"], difference["table"]).replace('"', ""), line);
    }
    for table in replica["not_compared"].as_array().unwrap() {
        let name = format!("{}.{}", table["database"], table["table"]).replace('"', "");
        found.insert(name, format!("not compared: {}", table["reason"].as_str().unwrap()));
    }
    (replica["reason"].as_str().unwrap().to_owned(), found)
}

/// The columns that people have. `MySQL` 9 has no sequence tables.
const BASE: &str = "CREATE TABLE plant.base (
    id INT AUTO_INCREMENT PRIMARY KEY, i INT, txt TEXT, c CHAR(1) NOT NULL, v VARCHAR(40), w VARCHAR(40), vb VARBINARY(20),
    bl BLOB, bi BIT(9), st SET('a','b','c'), yr YEAR, de DECIMAL(10,2), f FLOAT, d DOUBLE, ts TIMESTAMP(3) NULL,
    dt DATETIME(3), js JSON, en ENUM('x','y'), da DATE, flag TINYINT NOT NULL);
    INSERT INTO plant.base WITH RECURSIVE seq AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM seq WHERE n < 3000)
    SELECT n * 2, n, CONCAT('text ', n), CHAR(97 + n % 26), CONCAT('v', n), IF(n % 7 = 0, NULL, CONCAT('w#', n)),
    UNHEX(LPAD(HEX(n), 8, 'F')), CONCAT('blob ', n), n % 512, 'a,b', 1970 + n % 100, n / 7, n / 3, n / 3,
    '2026-03-29 00:30:00.125', '2026-03-29 02:30:00.250', CONCAT('{\"n\": ', n, ', \"m\": 1}'), 'x', '2026-01-01', n % 2
    FROM seq";

/// What is done to a copy of the table on the replica alone, and what must be found: the ids of the rows, or a sentence.
/// pt-table-checksum finds none of those marked `+`.
const PLANTS: &[(&str, &str, &str)] = &[
    ("missing_first", "DELETE FROM T WHERE id = 2", "2 missing"),
    ("missing_middle", "DELETE FROM T WHERE id = 3000", "3000 missing"),
    ("missing_last", "DELETE FROM T WHERE id = 6000", "6000 missing"),
    ("extra_gap", "INSERT INTO T (id, c, flag) VALUES (3001, 'x', 0)", "3001 extra"),
    ("extra_below", "INSERT INTO T (id, c, flag) VALUES (-5, 'x', 0)", "-5 extra"),
    ("extra_above", "INSERT INTO T (id, c, flag) VALUES (7000, 'x', 0)", "7000 extra"),
    ("int_value", "UPDATE T SET i = i + 1 WHERE id = 10", "10 differs"),
    ("text_byte", "UPDATE T SET txt = 'texT 5' WHERE id = 10", "10 differs"),
    ("blob_byte", "UPDATE T SET bl = 'blob!5' WHERE id = 10", "10 differs"),
    ("bit_value", "UPDATE T SET bi = bi ^ 256 WHERE id = 10", "10 differs"),
    ("set_value", "UPDATE T SET st = 'a,c' WHERE id = 10", "10 differs"),
    ("year_value", "UPDATE T SET yr = 1999 WHERE id = 10", "10 differs"),
    ("decimal_value", "UPDATE T SET de = de + 0.01 WHERE id = 10", "10 differs"),
    ("enum_value", "UPDATE T SET en = 'y' WHERE id = 10", "10 differs"),
    ("enum_bad", "UPDATE IGNORE T SET en = 'nothing' WHERE id = 10", "10 differs"),
    ("date_value", "UPDATE T SET da = '2026-01-02' WHERE id = 10", "10 differs"),
    ("null_empty", "UPDATE T SET w = '' WHERE id = 14", "14 differs"),
    ("null_zero", "UPDATE T SET i = NULL WHERE id = 10; UPDATE T SET i = 0 WHERE id = 12", "10 differs, 12 differs"),
    ("null_double", "UPDATE T SET d = NULL WHERE id = 10", "10 differs"),
    ("zero_double", "UPDATE T SET d = 0 WHERE id = 10", "10 differs"),
    ("null_moves", "UPDATE T SET w = v, v = NULL WHERE id = 14", "14 differs"),
    ("trailing_space", "UPDATE T SET v = CONCAT(v, ' ') WHERE id = 10", "10 differs"),
    ("other_case", "UPDATE T SET v = UPPER(v) WHERE id = 10", "10 differs"),
    (
        "accent",
        "UPDATE T SET v = 'v\u{e9}' WHERE id = 10; UPDATE T SET v = 've' WHERE id = 12",
        "10 differs, 12 differs",
    ),
    ("double_bit", "UPDATE T SET d = 1.6666666666666665 WHERE id = 10", "10 differs"),
    ("float_bit +", "UPDATE T SET f = 16777218 WHERE id = 10", "10 differs"),
    ("timestamp_hour", "UPDATE T SET ts = ts + INTERVAL 1 HOUR WHERE id = 10", "10 differs"),
    ("timestamp_ms", "UPDATE T SET ts = ts + INTERVAL 1000 MICROSECOND WHERE id = 10", "10 differs"),
    ("datetime_ms", "UPDATE T SET dt = dt + INTERVAL 1000 MICROSECOND WHERE id = 10", "10 differs"),
    ("json_value", "UPDATE T SET js = '{\"n\": 5, \"m\": 2}' WHERE id = 10", "10 differs"),
    ("varbinary", "UPDATE T SET vb = UNHEX('FFFE00FF') WHERE id = 10", "10 differs"),
    ("separator_moves +", "UPDATE T SET v = 'v5#w', w = '5' WHERE id = 10", "10 differs"),
    ("character_moves", "UPDATE T SET v = 'v5w', w = '#5' WHERE id = 10", "10 differs"),
    ("one_char", "UPDATE T SET c = 'Z' WHERE id = 10", "10 differs"),
    ("two_chars +", "UPDATE T SET c = 'Z' WHERE id IN (10, 62)", "10 differs, 62 differs"),
    ("values_exchanged +", "UPDATE T SET c = IF(id = 10, 'g', 'f') WHERE id IN (10, 12)", "10 differs, 12 differs"),
    (
        "ids_exchanged +",
        "UPDATE T SET id = -1 WHERE id = 100; UPDATE T SET id = 100 WHERE id = 102; UPDATE T SET id = 102 WHERE id = -1",
        "100 differs, 102 differs",
    ),
    (
        "three_rotated +",
        "UPDATE T SET v = CASE id WHEN 210 THEN 'v106' WHEN 212 THEN 'v107' ELSE 'v105' END WHERE id IN (210, 212, 214)",
        "210 differs, 212 differs, 214 differs",
    ),
    ("both_richer +", "UPDATE T SET de = de + 100 WHERE id IN (1400, 1402)", "1400 differs, 1402 differs"),
    ("flags_flipped +", "UPDATE T SET flag = 1 - flag WHERE id IN (20, 2000)", "20 differs, 2000 differs"),
    ("update_lost +", "UPDATE T SET flag = 9 WHERE id <= 1500", "750 rows"),
];

/// Tables of other kinds: how each is made, what is done to it on the replica, and what must be found.
const OTHERS: &[(&str, &str, &str, &str)] = &[
    (
        "uuid_key",
        "(k CHAR(36) PRIMARY KEY, v INT) AS SELECT UUID() AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "one row",
    ),
    (
        "binary_key",
        "(k BINARY(16) PRIMARY KEY, v INT) AS SELECT UNHEX(LPAD(HEX(id), 32, '0')) AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "X'0000000000000000000000000000009A' differs",
    ),
    (
        "two_part_key",
        "(a INT, b INT, v INT, PRIMARY KEY (a, b)) AS SELECT id % 50 AS a, id AS b, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE b = 154; DELETE FROM T WHERE b = 56",
        "(4, 154) differs, (6, 56) missing",
    ),
    (
        "mixed_key",
        "(a VARCHAR(20), b DATETIME(3), v INT, PRIMARY KEY (a, b)) AS SELECT CONCAT('it''s \\\\', i % 7) AS a, TIMESTAMPADD(SECOND, id, dt) AS b, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "('it''s \\0', '2026-03-29 02:32:34.250') differs",
    ),
    (
        "enum_key",
        "(k ENUM('z','y','x') PRIMARY KEY, v INT) AS SELECT 'z' AS k, 1 AS v UNION SELECT 'y', 2 UNION SELECT 'x', 3",
        "UPDATE T SET v = 9 WHERE k = 'y'",
        "2 differs",
    ),
    (
        "bit_key",
        "(k BIT(20) PRIMARY KEY, v INT) AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "154 differs",
    ),
    (
        "float_key",
        "(k FLOAT PRIMARY KEY, v INT) AS SELECT id / 8 AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "19.25 differs",
    ),
    (
        "double_key",
        "(k DOUBLE PRIMARY KEY, v INT) AS SELECT id / 3 AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "one row",
    ),
    (
        "decimal_key",
        "(k DECIMAL(20,4) PRIMARY KEY, v INT) AS SELECT id / 8 AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "19.2500 differs",
    ),
    (
        "unsigned_key",
        "(k BIGINT UNSIGNED PRIMARY KEY, v INT) AS SELECT 18446744073709551615 - id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "18446744073709551461 differs",
    ),
    (
        "text_key",
        "(k VARCHAR(30) PRIMARY KEY, v INT) DEFAULT CHARSET latin1 AS SELECT CONCAT('\u{e9}', id) AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "one row",
    ),
    (
        "unique_key",
        "(k INT NOT NULL, v INT, UNIQUE (k)) AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "154 differs",
    ),
    (
        "descending_key",
        "(k INT, v INT, PRIMARY KEY (k DESC)) AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "154 differs",
    ),
    (
        "mixed_directions",
        "(a INT, b INT, v INT, PRIMARY KEY (a, b DESC)) AS SELECT id % 5 AS a, id AS b, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "rows differ (it has no unique key)",
    ),
    (
        "prefix_key",
        "(k TEXT NOT NULL, v INT, UNIQUE (k(10))) AS SELECT CONCAT(id) AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "rows differ (it has no unique key)",
    ),
    (
        "nullable_key",
        "(k INT NULL, v INT, UNIQUE (k)) AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "rows differ (it has no unique key)",
    ),
    (
        "no_key",
        "(v INT, w INT) AS SELECT i AS v, 1 AS w FROM plant.base",
        "DELETE FROM T WHERE v = 77",
        "2999 rows, on the source 3000 (it has no unique key)",
    ),
    (
        "no_key_duplicates +",
        "(v INT, w INT) AS SELECT i % 2 AS v, 1 AS w FROM plant.base WHERE id < 6",
        "UPDATE T SET v = 7 WHERE v = 1",
        "rows differ (it has no unique key)",
    ),
    (
        "no_key_other_copies +",
        "(v CHAR(1)) AS SELECT 'x' AS v UNION ALL SELECT 'x' UNION ALL SELECT 'x' UNION ALL SELECT 'y'",
        "UPDATE T SET v = 'y' WHERE v = 'x' LIMIT 2",
        "rows differ (it has no unique key)",
    ),
    (
        "plain_index +",
        "(k INT, v INT, INDEX (k)) AS SELECT i % 3 AS k, 1 AS v FROM plant.base WHERE id < 14",
        "UPDATE T SET v = 9 WHERE k = 2",
        "rows differ (it has no unique key)",
    ),
    (
        "latin1",
        "(k INT PRIMARY KEY, v VARCHAR(40)) DEFAULT CHARSET latin1 AS SELECT id AS k, CONCAT('\u{e9}', v) AS v FROM plant.base",
        "UPDATE T SET v = 'x' WHERE k = 154",
        "154 differs",
    ),
    (
        "two_charsets",
        "(k INT PRIMARY KEY, v VARCHAR(40) CHARSET latin1, w VARCHAR(40) CHARSET utf8mb4, x VARCHAR(40) CHARSET utf8mb4 COLLATE utf8mb4_bin) AS SELECT id AS k, CONCAT('\u{e9}', v) AS v, w, v AS x FROM plant.base",
        "UPDATE T SET v = 'x' WHERE k = 154",
        "154 differs",
    ),
    (
        "myisam",
        "(k INT PRIMARY KEY, v INT) ENGINE=MyISAM AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "154 differs",
    ),
    (
        "big_blob",
        "(k INT PRIMARY KEY, v LONGBLOB) AS SELECT id AS k, REPEAT(v, 20000) AS v FROM plant.base WHERE id < 20",
        "UPDATE T SET v = CONCAT(v, 'x') WHERE k = 10",
        "10 differs",
    ),
    (
        "generated",
        "(k INT PRIMARY KEY, v INT, s INT AS (v + 1) STORED, i INT AS (v + 2) VIRTUAL)",
        "INSERT INTO T (k, v) VALUES (7, 7)",
        "7 extra",
    ),
    (
        "geometry",
        "(k INT PRIMARY KEY, v POINT) AS SELECT id AS k, POINT(id, i) AS v FROM plant.base",
        "UPDATE T SET v = POINT(1, 1) WHERE k = 154",
        "154 differs",
    ),
    (
        "zerofill",
        "(k INT(8) ZEROFILL PRIMARY KEY, v INT) AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "00000154 differs",
    ),
    (
        "partitioned",
        "(k INT PRIMARY KEY, v INT) PARTITION BY HASH (k) PARTITIONS 4 AS SELECT id AS k, i AS v FROM plant.base",
        "UPDATE T SET v = -1 WHERE v = 77",
        "154 differs",
    ),
    (
        "odd `name`; --",
        "(`k ``x` INT PRIMARY KEY, `select` INT) AS SELECT id AS `k ``x`, i AS `select` FROM plant.base",
        "UPDATE T SET `select` = -1 WHERE `k ``x` = 154",
        "154 differs",
    ),
    (
        "other_case_key",
        "(k VARCHAR(20) PRIMARY KEY, v INT) AS SELECT CONCAT('k', id) AS k, i AS v FROM plant.base",
        "UPDATE T SET k = 'K154' WHERE k = 'k154'",
        "'K154' extra, 'k154' missing",
    ),
    ("empty", "(k INT PRIMARY KEY)", "INSERT INTO T VALUES (1)", "1 extra"),
    ("emptied", "(k INT PRIMARY KEY) AS SELECT id AS k FROM plant.base", "TRUNCATE TABLE T", "3000 rows"),
    ("no_table", "(k INT PRIMARY KEY)", "DROP TABLE T", "is missing"),
    ("no_column", "(k INT PRIMARY KEY, v INT)", "ALTER TABLE T DROP v", ": column v is missing"),
];

/// Data that is the same, whatever the tables look like.
const EQUAL: &[(&str, &str, &str)] = &[
    (
        "column_order",
        "(k INT PRIMARY KEY, a INT, b INT) AS SELECT id AS k, i AS a, 3 AS b FROM plant.base",
        "ALTER TABLE T MODIFY a INT AFTER b",
    ),
    (
        "smaller_int",
        "(k INT PRIMARY KEY, a INT) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T MODIFY a SMALLINT",
    ),
    (
        "other_charset",
        "(k INT PRIMARY KEY, a VARCHAR(40) CHARSET latin1, b VARCHAR(9)) AS SELECT id AS k, CONCAT('\u{e9}', v) AS a, 'x' AS b FROM plant.base",
        "ALTER TABLE T MODIFY a VARCHAR(40) CHARSET utf8mb4",
    ),
    (
        "other_engine",
        "(k INT PRIMARY KEY, a INT) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T ENGINE=MyISAM",
    ),
    (
        "more_columns",
        "(k INT PRIMARY KEY, a INT) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T ADD z INT NOT NULL DEFAULT 5",
    ),
    (
        "more_digits",
        "(k INT PRIMARY KEY, a DECIMAL(10,2), b DATETIME) AS SELECT id AS k, de AS a, '2026-01-01 01:02:03' AS b FROM plant.base",
        "ALTER TABLE T MODIFY a DECIMAL(12,4), MODIFY b DATETIME(6)",
    ),
    (
        "now_nullable",
        "(k INT PRIMARY KEY, a INT NOT NULL) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T MODIFY a INT NULL",
    ),
    (
        "no_zerofill",
        "(k INT PRIMARY KEY, a INT(8) ZEROFILL) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T MODIFY a INT(8) UNSIGNED",
    ),
    (
        "other_index",
        "(k INT PRIMARY KEY, a INT) AS SELECT id AS k, i AS a FROM plant.base",
        "ALTER TABLE T ADD INDEX (a)",
    ),
    (
        "text_for_char",
        "(k INT PRIMARY KEY, a VARCHAR(40)) AS SELECT id AS k, v AS a FROM plant.base",
        "ALTER TABLE T MODIFY a TEXT",
    ),
    (
        "wider_enum",
        "(k INT PRIMARY KEY, a ENUM('x','y')) AS SELECT id AS k, 'y' AS a FROM plant.base",
        "ALTER TABLE T MODIFY a ENUM('w','x','y')",
    ),
    ("no_rows", "(k INT PRIMARY KEY)", "ANALYZE TABLE T"),
];

fn plain(name: &str) -> String {
    name.trim_end_matches(" +").to_owned()
}

fn quoted(name: &str) -> String {
    format!("plant.`{}`", plain(name).replace('`', "``"))
}

/// Runs the statements on the replica alone, on `T`.
fn plant(replica: &Server, name: &str, statements: &str) {
    // A word of its own, not a letter of one.
    let table = quoted(name);
    let mut words: Vec<String> = statements.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if word == "T" {
            word.clone_from(&table);
        }
    }
    replica.sql(&format!("SET SESSION sql_log_bin=0, sql_mode=''; {}", words.join(" ")));
}

fn finds_every_plant(software: Software) {
    // As statements some of what is done below would have other results on the replica, and would be found.
    let lines = ["innodb_buffer_pool_size=32M", "binlog_format=ROW"];
    let [source, replica] = [(), ()].map(|()| Server::start_of(software, &lines));
    let link = replica.follow(&source);
    grant(&source);
    let depth = if software.is_mysql() { "cte_max_recursion_depth" } else { "max_recursive_iterations" };
    source.sql(&format!("SET SESSION {depth}=10000, sql_mode=''; CREATE DATABASE plant; {BASE}"));
    for (name, ..) in PLANTS {
        let table = quoted(name);
        source.sql(&format!("CREATE TABLE {table} LIKE plant.base; INSERT INTO {table} SELECT * FROM plant.base"));
    }
    let others = OTHERS.iter().map(|(name, definition, ..)| (name, definition));
    for (name, definition) in others.chain(EQUAL.iter().map(|(name, definition, _)| (name, definition))) {
        let table = quoted(name);
        // In two statements, as GTIDs demand.
        let (definition, rows) =
            definition.split_once(" AS SELECT ").unwrap_or((definition, "1 FROM dual WHERE FALSE"));
        let rows = if rows.contains("FALSE") { String::new() } else { format!("INSERT INTO {table} SELECT {rows}") };
        source.sql(&format!("SET SESSION sql_mode=''; CREATE TABLE {table} {definition}; {rows}"));
    }
    link.until_caught_up();
    assert_eq!(found(&source, &["--database=plant"]).1, Found::new());
    for (name, statements, _) in PLANTS {
        plant(&replica, name, statements);
    }
    for (name, _, statements, _) in OTHERS {
        plant(&replica, name, statements);
    }
    for (name, _, statements) in EQUAL {
        plant(&replica, name, statements);
    }
    replica.sql("SET sql_log_bin=0; CREATE TABLE plant.only_here (k INT PRIMARY KEY)");
    let mut all: Found =
        PLANTS.iter().map(|(name, _, found)| (format!("plant.{}", plain(name)), (*found).to_owned())).collect();
    all.extend(OTHERS.iter().map(|(name, _, _, found)| (format!("plant.{}", plain(name)), (*found).to_owned())));
    all.insert("plant.only_here".into(), "is not on the source".into());
    for way in ["--hash=crc32", "--hash=sha2", "--quick"] {
        let mut expected = all.clone();
        for (table, line) in found(&source, &["--database=plant", way]).1 {
            let Some(wanted) = expected.remove(&table) else {
                panic!("{way}: {table}: nothing was done to it: {line}")
            };
            match &*wanted {
                "one row" => assert!(line.ends_with(" differs") && !line.contains(", "), "{way}: {table}: {line}"),
                _ if wanted.contains("row") || wanted.contains(" is ") || wanted.starts_with("is") => {
                    assert!(line.ends_with(&wanted), "{way}: {table}: {line}, not {wanted}");
                }
                _ => assert_eq!(line, wanted, "{way}: {table}"),
            }
        }
        assert_eq!(expected, Found::new(), "{way}: was not found");
    }
}

#[test]
fn every_plant_is_found_on_mariadb_and_nothing_else() {
    finds_every_plant(Software::MariaDb);
}

#[test]
fn every_plant_is_found_on_mysql_and_nothing_else() {
    finds_every_plant(Software::MySql9);
}

/// A source with the database for the verdicts, and its replicas with a table that has two rows.
fn published(replicas: &[Server], source: &Server) {
    grant(source);
    source.sql(
        "CREATE DATABASE mysqlchk; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON mysqlchk.* TO checker@'%';
         CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT); INSERT INTO shop.a VALUES (1, 1), (2, 2);
         CREATE TABLE shop.b (id INT PRIMARY KEY); INSERT INTO shop.b VALUES (1)",
    );
    for replica in replicas {
        wait::until("the rows are there", BOUND, || {
            replica.try_rows("SELECT * FROM shop.b").is_ok_and(|rows| rows.len() == 1)
        });
        let monitor = if replica.software().is_mysql() { "" } else { "SLAVE MONITOR ON *.*" };
        let _ = replica.try_sql(&format!("SET sql_log_bin=0; GRANT {monitor} TO nobody@localhost"));
        replica.sql("SET sql_log_bin=0; GRANT SELECT ON *.* TO nobody@localhost");
    }
}

/// What the replication check says of a replica that must be consistent.
#[track_caller]
fn checked(replica: &Server, demand: &str) -> String {
    let check =
        Check::new("mysqlchk-replication").args(local(replica)).args(["--format=text", "--timeout=10s", demand]);
    check.run().stdout.trim_start_matches("mysqlchk-replication: ").trim().to_owned()
}

/// The verdict on a replica as it is published, once it is there: `state first_differ`.
#[track_caller]
fn until_published(replica: &Server, wanted: &str) {
    let statement = "SELECT CONCAT(state, ' ', IFNULL(first_differ, '-')) FROM mysqlchk.consistency \
                     WHERE server_id=@@server_id AND host=@@hostname AND port=@@port";
    wait::until_equal("the verdict", BOUND, Some(wanted.to_owned()), || {
        replica.try_rows(statement).ok()?.pop()?.into_values().next()
    });
}

fn the_verdict_takes_a_replica_out_until_it_is_rechecked(software: Software) {
    let [source, one, two] = [(), (), ()].map(|()| Server::start_of(software, &[]));
    let _links = [one.follow(&source), two.follow(&source)];
    let replicas = [one, two];
    published(&replicas, &source);
    let [one, two] = &replicas;
    assert!(checked(one, "--require-consistent").contains("no such table (1146): mysqlchk.consistency"));
    assert_eq!(compare(&source, &[]).code, Some(0));
    for replica in &replicas {
        until_published(replica, "consistent -");
        assert!(checked(replica, "--require-consistent").starts_with("up: lag is "));
        assert!(checked(replica, "--require-consistent=7d").starts_with("up: lag is "));
    }
    // Two values exchanged: what CRC32 and XOR do not see.
    one.sql("SET sql_log_bin=0; UPDATE shop.a SET v = IF(id = 1, 2, 1)");
    assert_eq!(compare(&source, &[]).code, Some(1));
    until_published(one, "inconsistent shop.a");
    assert_eq!(checked(one, "--require-consistent"), "down: data differs from the source in 1 table (shop.a)");
    assert!(checked(one, "--max-lag=1h").starts_with("up: "));
    assert!(checked(two, "--require-consistent").starts_with("up: "));
    // Not rebuilt, and checked again.
    assert_eq!(compare(&source, &["--recheck"]).code, Some(1));
    until_published(one, "inconsistent shop.a");
    // A run that sees a part of the tables does not say that all are well.
    assert_eq!(compare(&source, &["--table=shop.b"]).code, Some(0));
    until_published(one, "inconsistent shop.a");
    one.sql("SET sql_log_bin=0; UPDATE shop.a SET v = id");
    let outcome = compare(&source, &["--recheck"]);
    assert!(outcome.code == Some(0) && outcome.stdout.contains(": 1 table, 2 rows"), "{outcome:?}");
    until_published(one, "incomplete -");
    assert!(checked(one, "--require-consistent").starts_with("up: "));
    assert_eq!(checked(one, "--require-consistent=7d"), "down: consistency was never checked, limit is 7d");
    assert_eq!(compare(&source, &["--recheck"]).stdout, "no replica is known to differ\n");
    assert_eq!(compare(&source, &[]).code, Some(0));
    until_published(one, "consistent -");
    source.sql("UPDATE mysqlchk.consistency SET since = UTC_TIMESTAMP() - INTERVAL 9 DAY");
    wait::until_equal("the verdict", BOUND, "down: consistency was checked 10d ago, limit is 7d".to_owned(), || {
        checked(one, "--require-consistent=7d")
    });
    assert!(checked(one, "--require-consistent").starts_with("up: "));
}

#[test]
fn the_verdict_takes_a_replica_out_until_it_is_rechecked_on_mariadb() {
    the_verdict_takes_a_replica_out_until_it_is_rechecked(Software::MariaDb);
}

#[test]
fn the_verdict_takes_a_replica_out_until_it_is_rechecked_on_mysql() {
    the_verdict_takes_a_replica_out_until_it_is_rechecked(Software::MySql9);
}

#[test]
fn the_verdict_reaches_haproxy_with_its_reason_until_it_is_rechecked() {
    // Two checks: the file has `inter 1s fastinter 510ms fall 2`.
    const CHECKS: Duration = Duration::from_secs(2);
    let [source, one, two] = [(), (), ()].map(|()| Server::start());
    let _links = [one.follow(&source), two.follow(&source)];
    let replicas = [one, two];
    published(&replicas, &source);
    assert_eq!(compare(&source, &[]).code, Some(0));
    let [one, two] = &replicas;
    for replica in &replicas {
        until_published(replica, "consistent -");
    }
    let demanding = |server| {
        let services = shipped::services("mysqlchk", server);
        services.append("mysqlchk-replication", "server_args", "--require-consistent=7d")
    };
    let _xinetd = Xinetd::start(&[shipped::services("mysqlchk", &source), demanding(one), demanding(two)]);
    let front = Front::start("haproxy/replicas.cfg", &[("SOURCE", &source), ("REPLICA_1", one), ("REPLICA_2", two)]);
    let addresses = |servers: &[&Server]| {
        let mut addresses: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
        addresses.sort();
        addresses
    };
    for server in ["replica1", "replica2"] {
        front.until_up("read", server);
    }
    assert_eq!(front.who_answers(READ), addresses(&[one, two]));

    one.sql("SET sql_log_bin=0; UPDATE shop.a SET v = IF(id = 1, 2, 1)");
    let (took, late) = machine::beside_sleeps(CHECKS, 1, || {
        thread::scope(|scope| {
            let run = scope.spawn(|| compare(&source, &[]));
            until_published(one, "inconsistent shop.a");
            let begin = Instant::now();
            front.haproxy.until("read", "replica1", "DOWN", BOUND);
            let took = begin.elapsed();
            assert_eq!(run.join().unwrap().code, Some(1));
            took
        })
    });
    assert!(took <= CHECKS + 2 * late, "{took:?}, the machine is late by {late:?}");
    front.until_down("read", "replica1", "data differs from the source in 1 table (shop.a)");
    assert_eq!(front.who_answers(READ), addresses(&[two]));
    front.until_up("read", "replica2");

    // Repaired and not checked again, it stays out.
    one.sql("SET sql_log_bin=0; UPDATE shop.a SET v = id");
    front.until_down("read", "replica1", "data differs from the source in 1 table (shop.a)");
    assert_eq!(compare(&source, &["--recheck"]).code, Some(0));
    front.until_down("read", "replica1", "consistency was never checked, limit is 7d");
    assert_eq!(compare(&source, &[]).code, Some(0));
    front.until_up("read", "replica1");
    assert_eq!(front.who_answers(READ), addresses(&[one, two]));
}

#[test]
fn a_clock_that_was_wrong_is_not_believed() {
    let [source, replica] = [(), ()].map(|()| Server::start());
    let _link = replica.follow(&source);
    let replicas = [replica];
    published(&replicas, &source);
    let [replica] = &replicas;
    let ahead = "down: consistency was checked in the future: check clocks";
    for (seconds, verdict) in [
        (30, "up: "),
        (5 * 86_400, ahead),
        (-30, "up: "),
        (-8 * 86_400, "down: consistency was checked 9d ago, limit is 7d"),
    ] {
        source.sql(&format!("SET GLOBAL init_connect='SET timestamp=UNIX_TIMESTAMP() + ({seconds})'"));
        assert_eq!(compare(&source, &[]).code, Some(0));
        wait::until_ok(&format!("{seconds}: {verdict}"), BOUND, || {
            let said = checked(replica, "--require-consistent=7d");
            if said.starts_with(verdict) { Ok(()) } else { Err(said) }
        });
        assert!(checked(replica, "--require-consistent").starts_with("up: "), "{seconds}");
        source.sql("DELETE FROM mysqlchk.consistency");
    }
}

#[test]
fn a_verdict_that_cannot_be_written_is_told_and_not_lost() {
    let [source, replica] = [(), ()].map(|()| Server::start());
    let _link = replica.follow(&source);
    let replicas = [replica];
    published(&replicas, &source);
    assert_eq!(compare(&source, &[]).code, Some(0));
    // What a table gives whose disk is full.
    source.sql(
        "CREATE TRIGGER mysqlchk.full BEFORE INSERT ON mysqlchk.consistency FOR EACH ROW \
         SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full'",
    );
    let unpublished = "the verdicts were not published: cannot query: the table or its disk is full (1114)\n";
    let outcome = compare(&source, &[]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    assert!(outcome.stdout.contains(" is consistent: ") && outcome.stdout.ends_with(unpublished), "{outcome:?}");
    replicas[0].sql("SET sql_log_bin=0; UPDATE shop.a SET v = 7 WHERE id = 1");
    let outcome = compare(&source, &[]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stdout.contains("  shop.a: 1 row differs\n") && outcome.stdout.ends_with(unpublished),
        "{outcome:?}"
    );
    until_published(&replicas[0], "consistent -");
    // The next run with room again makes good for it.
    source.sql("DROP TRIGGER mysqlchk.full");
    assert_eq!(compare(&source, &[]).code, Some(1));
    until_published(&replicas[0], "inconsistent shop.a");
    source.sql("SET GLOBAL read_only=ON");
    let outcome = compare(&source, &[]);
    let expected = "mysqlchk-consistency: cannot use table mysqlchk.consistency: cannot query: an option of the server \
                    forbids it (1290): ask a server that takes writes; or use --no-publish\n";
    assert_eq!((outcome.code, &*outcome.stderr), (Some(2), expected));
    assert_eq!(compare(&source, &["--no-publish"]).code, Some(1));
}

#[test]
fn replicas_that_agree_against_the_source_are_not_taken_out() {
    let [source, one, two] = [(), (), ()].map(|()| Server::start());
    let _links = [one.follow(&source), two.follow(&source)];
    let replicas = [one, two];
    published(&replicas, &source);
    source.sql("SET sql_log_bin=0; UPDATE shop.a SET v = 7 WHERE id = 1");
    let outcome = compare(&source, &["--rows"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.ends_with("all 2 replicas agree against the source: look at the source\n"), "{outcome:?}");
    assert_eq!(source.value("SELECT COUNT(*) FROM mysqlchk.consistency"), "0");
    assert!(checked(&replicas[0], "--require-consistent").starts_with("up: "));
}

#[test]
fn a_table_of_another_layout_is_no_verdict() {
    let [source, replica] = [(), ()].map(|()| Server::start());
    let _link = replica.follow(&source);
    let replicas = [replica];
    published(&replicas, &source);
    source.sql("CREATE TABLE mysqlchk.consistency (server_id INT, state TEXT)");
    let outcome = compare(&source, &[]);
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let expected = "mysqlchk-consistency: cannot use table mysqlchk.consistency: cannot query: no such column (1054): it has \
                    another layout, drop it and it will be made again; or use --no-publish\n";
    assert_eq!(outcome.stderr, expected);
    let replica = &replicas[0];
    wait::until_equal(
        "the verdict",
        BOUND,
        "down: cannot query: no such column (1054): mysqlchk.consistency has another layout".to_owned(),
        || checked(replica, "--require-consistent"),
    );
    source.sql("DROP TABLE mysqlchk.consistency; REVOKE INSERT ON mysqlchk.* FROM checker@'%'");
    assert_eq!(compare(&source, &["--no-publish"]).code, Some(0));
}

#[test]
fn one_run_at_a_time() {
    let [source, replica] = [(), ()].map(|()| Server::start());
    let _link = replica.follow(&source);
    grant(&source);
    let mut other = source.session();
    let lock: Option<u8> = other.query_first("SELECT GET_LOCK('mysqlchk-consistency', 0)").unwrap();
    assert_eq!(lock, Some(1));
    let outcome = compare(&source, &[]);
    let id: Option<u64> = other.query_first("SELECT CONNECTION_ID()").unwrap();
    let expected =
        format!("mysqlchk-consistency: another run is in progress on this source (connection {})\n", id.unwrap());
    assert_eq!((outcome.code, outcome.stderr), (Some(2), expected));
    drop(other);
    wait::until("the lock is free", BOUND, || compare(&source, &[]).code == Some(0));
}

#[test]
fn a_run_that_ended_early_is_gone_on_with() {
    let [source, replica] =
        [(), ()].map(|()| Server::start_with(&["innodb_buffer_pool_size=64M", "binlog_format=ROW"]));
    let _link = replica.follow(&source);
    grant(&source);
    source.sql(
        "CREATE DATABASE mysqlchk; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON mysqlchk.* TO checker@'%'; CREATE DATABASE big;
         USE big; CREATE TABLE big.a (id INT PRIMARY KEY, v CHAR(200)); INSERT INTO big.a SELECT seq, seq FROM seq_1_to_600000;
         CREATE TABLE big.b (id INT PRIMARY KEY, v INT); INSERT INTO big.b VALUES (1, 1)",
    );
    until_rows(&[&replica], "big.b", 1);
    replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id = 599999; DELETE FROM big.b");
    // Slow enough to be in the middle of the table at the second look at the clock, half a second after the first.
    let slow = ["--hash=sha2", "--chunk-time=1ms", "--lanes=1"];
    let interrupted = |budget: u32| {
        let outcome = compare(&source, &[&slow[..], &[&format!("--budget={budget}ms")]].concat());
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        assert!(outcome.stdout.contains("the time was over (--budget)"), "{outcome:?}");
        source.value("SELECT IFNULL(MAX(n), 0) FROM mysqlchk.progress WHERE tbl='a'").parse::<u64>().unwrap()
    };
    // What is behind the point that was reached is for the next whole run; what is before it is not read again.
    let reached = (1..10).map(|times| interrupted(times * 150)).find(|reached| *reached > 0).expect("some progress");
    assert!(reached < 599_999, "{reached}");
    replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id = 1");
    let outcome = compare(&source, &[&slow[..], &["--rows"]].concat());
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let expected = "2 of 4 tables differ, requires rebuild\n  big.a: 1 row differs\n    599999 differs in v\n  big.b: 1 row differs\n";
    assert!(outcome.stdout.contains(expected), "{outcome:?}");
    assert_eq!(source.value("SELECT COUNT(*) FROM mysqlchk.progress"), "0");
    // With other options, or when it is asked for, it begins at the first row.
    replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = '1' WHERE id = 1");
    (1..10).map(|times| interrupted(times * 150)).find(|reached| *reached > 0).expect("some progress");
    replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id = 1");
    let outcome = compare(&source, &["--rows"]);
    assert!(outcome.stdout.contains("    1 differs in v\n    599999 differs in v\n"), "{outcome:?}");
    // Nor does it go on with what is too old, or from a clock that was ahead; and none of that is left for later.
    for shift in ["- INTERVAL 25 HOUR", "+ INTERVAL 1 HOUR"] {
        replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = '1' WHERE id = 1");
        (1..10).map(|times| interrupted(times * 150)).find(|reached| *reached > 0).expect("some progress");
        replica.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id = 1");
        source.sql(&format!("UPDATE mysqlchk.progress SET started = started {shift}"));
        let outcome = compare(&source, &[&slow[..], &["--rows"]].concat());
        assert!(outcome.stdout.contains("    1 differs in v\n    599999 differs in v\n"), "{shift}: {outcome:?}");
        assert_eq!(source.value("SELECT COUNT(*) FROM mysqlchk.progress"), "0", "{shift}");
    }
}

/// The rows of the table of [`large`].
const ROWS: usize = 400_000;

/// A source and two replicas with a table that takes a second or two to read in chunks of a millisecond.
fn large() -> [Server; 3] {
    let servers = [(), (), ()]
        .map(|()| Server::start_with(&["general_log=OFF", "innodb_buffer_pool_size=64M", "binlog_format=ROW"]));
    let [source, one, two] = &servers;
    let links = [one.follow(source), two.follow(source)];
    grant(source);
    source.sql(&format!(
        "CREATE DATABASE mysqlchk; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON mysqlchk.* TO checker@'%'; CREATE DATABASE big;
         USE big; CREATE TABLE big.a (id INT PRIMARY KEY, v CHAR(200)); INSERT INTO big.a SELECT seq, seq FROM seq_1_to_{ROWS}"
    ));
    drop(links);
    until_rows(&[one, two], "big.a", ROWS);
    servers
}

/// Waits until replicas have all rows of a table. A replica that has received nothing of them yet lags nothing.
fn until_rows(replicas: &[&Server], table: &str, rows: usize) {
    let count = format!("SELECT COUNT(*) AS n FROM {table}");
    for replica in replicas {
        wait::until_equal("the rows", BOUND, Some(rows.to_string()), || {
            replica.try_rows(&count).ok()?.pop()?.into_values().next()
        });
    }
}

const SLOWLY: [&str; 4] = ["--database=big", "--hash=sha2", "--chunk-time=1ms", "--lanes=1"];

/// Waits until the table is being read.
fn until_reading(source: &Server) {
    let reading = "SELECT 1 FROM information_schema.PROCESSLIST WHERE USER='checker' AND INFO LIKE '%`big`.`a`%'";
    wait::until("the table is being read", BOUND, || source.try_rows(reading).is_ok_and(|rows| !rows.is_empty()));
}

#[test]
fn a_replica_that_goes_away_does_not_stop_the_others() {
    let [source, one, two] = large();
    thread::scope(|scope| {
        let run = scope.spawn(|| compare(&source, &SLOWLY));
        until_reading(&source);
        one.kill9();
        let outcome = run.join().unwrap();
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        let gone = format!("at {} is incomplete: cannot query: the server closed the connection\n", one.address());
        let other = format!("at {} is consistent: 1 table, 400000 rows\n", two.address());
        assert!(outcome.stdout.contains(&gone) && outcome.stdout.contains(&other), "{outcome:?}");
    });
    // What was compared without it is compared again when it is back: nothing passes that nobody looked at.
    one.restart();
    one.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id = 5");
    wait::until("it is registered again", BOUND, || source.rows("SHOW SLAVE HOSTS").len() == 2);
    let outcome = compare(&source, &SLOWLY);
    let differs = format!("at {} is inconsistent: 1 of 1 table differs", one.address());
    assert!(outcome.stdout.contains(&differs), "{outcome:?}");
}

#[test]
fn a_source_that_goes_away_makes_all_incomplete() {
    let [source, _one, _two] = large();
    thread::scope(|scope| {
        let run = scope.spawn(|| compare(&source, &SLOWLY));
        until_reading(&source);
        source.kill9();
        source.restart();
        let outcome = run.join().unwrap();
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        // The receivers of the replicas may be found to be without a source before.
        let [lost, silent] =
            ["the source cannot be read: cannot query: the server closed the connection", "receiver is `Connecting`"];
        let is_incomplete =
            |line: &&str| line.contains(" is incomplete: ") && (line.contains(lost) || line.contains(silent));
        assert_eq!(outcome.stdout.lines().filter(is_incomplete).count(), 2, "{outcome:?}");
    });
    // The replicas come back, and register again.
    wait::until("both are consistent", BOUND, || {
        compare(&source, &SLOWLY).stdout.matches(" is consistent: 1 table, 400000 rows\n").count() == 2
    });
}

#[test]
fn an_applier_that_stops_in_the_middle_is_noticed() {
    let [source, one, _two] = large();
    // So that there is something to wait for.
    one.sql("STOP SLAVE SQL_THREAD");
    source.sql("UPDATE big.a SET v = 'x' WHERE id = 400000");
    let outcome = compare(&source, &SLOWLY);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stdout.contains("is incomplete: applier is `No`, not `Yes`"), "{outcome:?}");
    assert!(outcome.stdout.contains(" is consistent: 1 table, 400000 rows"), "{outcome:?}");
    assert!(outcome.elapsed < Duration::from_secs(30), "{outcome:?}");
}

/// `CONSISTENCY_KILLS` times (5), at moments spread over a run.
#[test]
fn a_run_that_is_killed_leaves_nothing() {
    let [source, one, two] = large();
    one.sql("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id IN (7, 399999)");
    let kills: u32 = std::env::var("CONSISTENCY_KILLS").map_or(5, |kills| kills.parse().unwrap());
    let whole = compare(&source, &SLOWLY);
    assert_eq!(whole.code, Some(1), "{whole:?}");
    let scratch = Scratch::new("consistency");
    let option_file = option_file(&scratch, &source);
    let mut longest = Duration::ZERO;
    for kill in 0..kills {
        let mut run = Command::new(binary("mysqlchk-consistency"))
            .arg(format!("--defaults-file={}", option_file.display()))
            .args(SLOWLY)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(whole.elapsed * kill / kills);
        run.kill().unwrap();
        run.wait().unwrap();
        let killed = Instant::now();
        for server in [&source, &one, &two] {
            wait::until("all sessions are gone", Duration::from_secs(10), || {
                server.rows("SELECT 1 FROM information_schema.PROCESSLIST WHERE USER='checker'").is_empty()
            });
            let left = server.rows("SELECT trx_query FROM information_schema.INNODB_TRX WHERE trx_rows_locked > 0");
            assert!(left.is_empty(), "{left:?}");
        }
        longest = longest.max(killed.elapsed());
        let next = compare(&source, &SLOWLY);
        assert_eq!((next.code, next.stdout), (Some(1), whole.stdout.clone()), "after kill {kill}");
    }
    println!("nothing was left {longest:.0?} after a kill, at most");
}

/// What the program reports, and the most memory it had, in kB.
fn measured(source: &Server, argument: &str) -> (String, u64) {
    let scratch = Scratch::new("consistency");
    let run = Command::new(binary("mysqlchk-consistency"))
        .arg(format!("--defaults-file={}", option_file(&scratch, source).display()))
        .arg(argument)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", run.id());
    let ended = AtomicBool::new(false);
    let (output, peak) = thread::scope(|scope| {
        let peak = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                let text = std::fs::read_to_string(&status).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                peak = line.map_or(peak, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
                thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let output = run.wait_with_output().unwrap();
        ended.store(true, Ordering::Relaxed);
        (output, peak.join().unwrap())
    });
    (String::from_utf8(output.stdout).unwrap(), peak)
}

/// What the program may take of memory, in kB.
const MEMORY: u64 = 15 * 1024;

#[test]
fn many_rows_that_differ_are_counted_in_little_memory() {
    let [source, one, two] = large();
    let rows = std::env::var("CONSISTENCY_ROWS").map_or(100_000, |rows| rows.parse().unwrap());
    if rows > ROWS {
        source.sql(&format!("INSERT INTO big.a SELECT seq, seq FROM big.seq_{}_to_{rows}", ROWS + 1));
        until_rows(&[&one, &two], "big.a", rows);
    }
    one.sql(&format!("SET sql_log_bin=0; UPDATE big.a SET v = 'x' WHERE id <= {rows}"));
    let (text, peak) = measured(&source, "--database=big");
    assert!(text.contains(&format!("  big.a: {rows} rows differ\n")), "{text}");
    println!("{rows} rows that differ: {peak} kB");
    assert!(peak > 0 && peak <= MEMORY, "{peak} kB");
}

#[test]
fn many_tables_are_compared_in_little_memory() {
    // In one file, or making them takes minutes.
    let lines = ["general_log=OFF", "innodb_file_per_table=OFF", "table_open_cache=6000"];
    let servers = [(), ()].map(|()| Server::start_with(&lines));
    let [source, replica] = &servers;
    let _link = replica.follow(source);
    grant(source);
    source.sql("CREATE DATABASE many");
    wait::until("it is there", BOUND, || replica.try_rows("USE many").is_ok());
    // No two of them have the same columns.
    let procedure = "CREATE PROCEDURE lab.make(beginning INT) FOR n IN beginning..beginning + 99 DO EXECUTE IMMEDIATE CONCAT(
         'CREATE TABLE many.table_', n, ' (id_', n, ' INT NOT NULL PRIMARY KEY, k INT NOT NULL DEFAULT 0, c CHAR(120) NOT NULL, \
         pad CHAR(60) NOT NULL)'); END FOR";
    thread::scope(|scope| {
        for server in &servers {
            scope.spawn(|| {
                server.sql(&format!("SET sql_log_bin=0; {procedure}"));
                for beginning in (0..5000).step_by(100) {
                    server.sql(&format!("SET sql_log_bin=0; CALL lab.make({beginning})"));
                }
            });
        }
    });
    let (text, peak) = measured(source, "--database=many");
    assert!(text.contains(" is consistent: 5000 tables, 0 rows\n"), "{text}");
    assert!(peak > 0 && peak <= MEMORY, "{peak} kB");
}

#[test]
fn a_table_that_is_changed_in_the_middle_is_begun_again() {
    let [source, _one, _two] = large();
    source.sql("ALTER TABLE big.a ADD w INT NOT NULL DEFAULT 1");
    wait::until("it is everywhere", BOUND, || compare(&source, &["--database=big"]).code == Some(0));
    thread::scope(|scope| {
        let run = scope.spawn(|| compare(&source, &SLOWLY));
        until_reading(&source);
        source.sql("ALTER TABLE big.a DROP w");
        let outcome = run.join().unwrap();
        assert_eq!(outcome.stdout.matches(" is consistent: 1 table, 400000 rows").count(), 2, "{outcome:?}");
    });
}

#[test]
fn what_a_filter_keeps_from_a_replica_is_named() {
    let source = Server::start();
    let replica = Server::start_with(&["replicate_ignore_db=log", "replicate_wild_ignore_table=shop.tmp\\_%"]);
    let link = replica.follow(&source);
    grant(&source);
    source.sql(
        "CREATE DATABASE log; USE log; CREATE TABLE hits (id INT PRIMARY KEY); CREATE DATABASE shop; USE shop;
         CREATE TABLE shop.tmp_1 (id INT PRIMARY KEY); CREATE TABLE shop.a (id INT PRIMARY KEY); INSERT INTO shop.a VALUES (1)",
    );
    link.until_caught_up();
    let words = ["--database=shop", "--database=log"];
    let filtered = |filter: &str| format!("not compared: it is not replicated ({filter}): add it to --ignore-table");
    let expected = Found::from([
        ("log.hits".to_owned(), filtered("Replicate_Ignore_DB")),
        ("shop.tmp_1".to_owned(), filtered("Replicate_Wild_Ignore_Table")),
    ]);
    assert_eq!(found(&source, &words).1, expected);
    assert_eq!(compare(&source, &words).code, Some(3));
    let outcome = compare(&source, &["--database=shop", "--ignore-table=shop.tmp_*"]);
    assert!(outcome.code == Some(0) && outcome.stdout.contains(": 1 table, 1 row\n"), "{outcome:?}");
    let explained = compare(&source, &["--database=shop", "--explain"]);
    assert!(explained.stdout.contains("\nshop.a: in chunks by PRIMARY (id), about "), "{explained:?}");
}

#[test]
fn a_stopped_applier_is_incomplete() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    grant(&source);
    link.until_caught_up();
    let outcome = compare(&source, &[]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    link.break_by(Fault::StopApplier);
    source.sql("INSERT INTO lab.t (v) VALUES (1)");
    let outcome = compare(&source, &[]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.stdout.contains("is incomplete: applier is `No`, not `Yes`"), "{outcome:?}");
}

/// Writers on a source, until it is dropped: rows that count, rows that toggle, rows that come and go. They write as much as a
/// replica applies: on a busy machine it would fall behind without end, and a run that waits for it with it.
struct Writers<'a> {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
    source: &'a Server,
}

/// What a writer waits after each transaction.
fn pause(software: Software) -> Duration {
    Duration::from_millis(if software.is_mysql() { 2 } else { 1 })
}

impl<'a> Writers<'a> {
    fn start(source: &'a Server, replica: &Server, pause: Duration) -> Self {
        source.sql(
            "CREATE DATABASE hot;
             CREATE TABLE hot.counters (id INT PRIMARY KEY, n INT NOT NULL, note VARCHAR(20) NOT NULL);
             CREATE TABLE hot.toggles (id INT PRIMARY KEY, flag INT NOT NULL, note VARCHAR(20) NOT NULL);
             CREATE TABLE hot.queue (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL);
             CREATE TABLE hot.cold (id INT AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL);
             INSERT INTO hot.counters VALUES (1, 0, 'a'), (2, 0, 'a'), (3, 0, 'a');
             INSERT INTO hot.toggles VALUES (1, 0, 'a'), (2, 0, 'a');
             INSERT INTO hot.cold (v) WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM s WHERE n < 1000)
             SELECT a.n FROM s AS a, (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) AS b",
        );
        let ended = Arc::new(AtomicBool::new(false));
        let statements: [fn(u64) -> String; 4] = [
            |_| "UPDATE hot.counters SET n = n + 1".into(),
            |_| "UPDATE hot.toggles SET flag = 1 - flag".into(),
            |n| {
                if n % 2 == 0 {
                    "INSERT INTO hot.queue (v) VALUES (1)".into()
                } else {
                    "DELETE FROM hot.queue LIMIT 1".into()
                }
            },
            |n| format!("UPDATE hot.cold SET v = v + 1 WHERE id = {}", 1 + n * 7919 % 3000),
        ];
        // Without a pause only the rows that are hit all the time: the others would take the replica's time from these.
        let writers = if pause.is_zero() { 2 } else { statements.len() };
        let is_behind = Arc::new(AtomicBool::new(false));
        let watch = {
            let (ended, is_behind) = (Arc::clone(&ended), Arc::clone(&is_behind));
            let mut sessions = [source.session(), replica.session()];
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let counted = "SELECT n FROM hot.counters WHERE id = 1";
                    // A replica that has not even the table is behind.
                    let counts =
                        sessions.each_mut().map(|session| session.query_first::<i64, _>(counted).ok().flatten());
                    let [written, applied] = counts.map(|count| count.unwrap_or(i64::MIN / 2));
                    is_behind.store(written - applied > 10, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(20));
                }
                0
            })
        };
        let spawn = |statement: fn(u64) -> String| {
            let (ended, is_behind, mut session) = (Arc::clone(&ended), Arc::clone(&is_behind), source.session());
            thread::spawn(move || {
                let mut done = 0;
                while !ended.load(Ordering::Relaxed) {
                    if is_behind.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    // A deadlock with the others is no matter.
                    let _ = session.query_drop(statement(done));
                    done += 1;
                    thread::sleep(pause);
                }
                done
            })
        };
        let mut threads: Vec<_> = statements.into_iter().take(writers).map(spawn).collect();
        threads.push(watch);
        Self { ended, threads, source }
    }

    /// Ends them, and says how many transactions there were, and how often one of the five hot rows was changed.
    fn end(mut self) -> (u64, u64) {
        self.ended.store(true, Ordering::Relaxed);
        let done: Vec<u64> = self.threads.drain(..).map(|thread| thread.join().unwrap()).collect();
        self.source.sql("DROP DATABASE hot");
        (done.iter().sum(), 3 * done[0] + 2 * done[1])
    }
}

/// How often it is compared under writes.
fn rounds() -> usize {
    std::env::var("CONSISTENCY_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

fn is_right_under_writes(software: Software, lines: &[&str], pause: Duration) {
    let lines = [&["general_log=OFF"], lines].concat();
    let [source, replica] = [(), ()].map(|()| Server::start_of(software, &lines));
    let link = replica.follow(&source);
    grant(&source);
    let (writers, begin) = (Writers::start(&source, &replica, pause), Instant::now());
    for round in 0..rounds() {
        let outcome = compare(&source, &["--database=hot", "--max-lag=60s", "--max-lock=20s"]);
        assert_eq!(outcome.code, Some(0), "round {round}: {outcome:?}");
    }
    replica.sql(
        "SET sql_log_bin=0; UPDATE hot.counters SET note='b' WHERE id=2; UPDATE hot.toggles SET note='b' WHERE id=1",
    );
    for round in 0..rounds() {
        let (reason, found) = found(&source, &["--database=hot", "--max-lag=60s", "--max-lock=20s"]);
        let expected: Found =
            [("hot.counters", "2 differs"), ("hot.toggles", "1 differs")].map(|(a, b)| (a.into(), b.into())).into();
        assert_eq!(found, expected, "round {round}: {reason}");
    }
    let ((done, hits), elapsed) = (writers.end(), begin.elapsed());
    link.until_caught_up();
    assert!(done > 500, "{done} transactions are no load");
    let [done, hits] = [done, hits].map(|count| count as f64 / elapsed.as_secs_f64());
    println!(
        "{done:.0} transactions a second for {elapsed:.0?}; the five hot rows were changed {hits:.0} times a second"
    );
}

#[test]
fn rows_that_never_stand_still_are_told_right_on_mariadb() {
    // With a full image the next change of the row would heal it.
    let lines = ["binlog_format=ROW", "binlog_row_image=MINIMAL"];
    is_right_under_writes(Software::MariaDb, &lines, pause(Software::MariaDb));
}

#[test]
fn rows_that_are_hit_as_fast_as_a_replica_applies_are_told_right() {
    is_right_under_writes(Software::MariaDb, &["binlog_format=ROW", "binlog_row_image=MINIMAL"], Duration::ZERO);
}

#[test]
fn a_table_without_a_key_that_never_stands_still_is_incomplete() {
    let [source, replica] = [(), ()].map(|()| Server::start_with(&["general_log=OFF"]));
    let link = replica.follow(&source);
    grant(&source);
    source.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.log (n INT NOT NULL);
         INSERT INTO shop.log SELECT seq FROM shop.seq_1_to_20000;
         CREATE TABLE shop.items (id INT PRIMARY KEY); INSERT INTO shop.items VALUES (1)",
    );
    link.until_caught_up();
    // A row that is wrong for good, and a table that is never the same twice.
    replica.sql("SET sql_log_bin=0; UPDATE shop.log SET n = 0 LIMIT 1");
    let ended = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        for _ in 0..2 {
            let mut session = source.session();
            let ended = &ended;
            scope.spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    session.query_drop("INSERT INTO shop.log VALUES (1)").unwrap();
                    // Many times while the table is read once, and not more than a replica applies.
                    thread::sleep(Duration::from_micros(500));
                }
            });
        }
        // Joined before it is judged: the writers end in any case.
        let outcome = scope.spawn(|| compare(&source, &["--database=shop", "--max-lag=60s"])).join();
        ended.store(true, Ordering::Relaxed);
        outcome.unwrap()
    });
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let why = "is incomplete: 1 of 2 tables was not compared to the end
  shop.log was not compared to the end: it has no unique key and did not stand still\n";
    assert!(outcome.stdout.ends_with(why), "{outcome:?}");
    link.until_caught_up();
    let outcome = compare(&source, &["--database=shop"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
}

#[test]
fn rows_that_never_stand_still_are_told_right_on_mysql() {
    is_right_under_writes(Software::MySql9, &["binlog_row_image=MINIMAL"], pause(Software::MySql9));
}

/// Follows a source by GTIDs or by file and position, and applies everything as much later.
fn follow_late(replica: &Server, source: &Server, by_gtids: bool, delay: Duration) {
    let is_mysql = source.software().is_mysql();
    let status = &source.rows(if is_mysql { "SHOW BINARY LOG STATUS" } else { "SHOW MASTER STATUS" })[0];
    let place = match (by_gtids, is_mysql) {
        (true, true) => "SOURCE_AUTO_POSITION=1".to_owned(),
        (true, false) => "MASTER_USE_GTID=slave_pos".to_owned(),
        (false, _) => format!("SOURCE_LOG_FILE='{}', SOURCE_LOG_POS={}", status["File"], status["Position"]),
    };
    let options = format!(
        "SOURCE_HOST='{}', SOURCE_USER='repl', SOURCE_PASSWORD='{PASSWORD}', SOURCE_DELAY={}, {place}",
        source.ip(),
        delay.as_secs()
    );
    replica.sql(&if is_mysql {
        format!("CHANGE REPLICATION SOURCE TO {options}, SOURCE_SSL=1; START REPLICA")
    } else {
        format!("CHANGE MASTER TO {}; START SLAVE", options.replace("SOURCE_", "MASTER_"))
    });
}

fn a_third_tier_behind_row_events_is_found(software: Software, by_gtids: bool) {
    let lines: &[&str] = match (software.is_mysql(), by_gtids) {
        (true, true) => &[],
        (true, false) => &["gtid_mode=OFF", "enforce_gtid_consistency=OFF"],
        (false, _) => &["binlog_format=ROW"],
    };
    let [source, middle, last] = [(), (), ()].map(|()| Server::start_of(software, lines));
    // So that a file of the source is another one in the middle.
    middle.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS");
    follow_late(&middle, &source, by_gtids, Duration::ZERO);
    follow_late(&last, &middle, by_gtids, Duration::from_secs(1));
    grant(&source);
    if software.is_mysql() {
        source.sql("GRANT REPLICATION CLIENT ON *.* TO checker@'%'");
    }
    source.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT);
         INSERT INTO shop.a VALUES (1, 1), (2, 2), (3, 3)",
    );
    until_rows(&[&middle, &last], "shop.a", 3);
    // What has not arrived at the last one is no difference, also while there is always more to come.
    let writers = Writers::start(&source, &middle, Duration::from_millis(4));
    source.sql("UPDATE shop.a SET v = 7 WHERE id = 1");
    // A row is locked until the last one has applied what is before the lock.
    let arguments = ["--database=shop", "--rows", "--max-lag=60s", "--max-lock=20s"];
    let outcome = compare(&source, &arguments);
    assert_eq!(outcome.stdout.matches(" is consistent: ").count(), 2, "{outcome:?}");
    last.sql("SET sql_log_bin=0; UPDATE shop.a SET v = IF(id = 2, 3, 2) WHERE id > 1");
    source.sql("UPDATE shop.a SET v = 8 WHERE id = 1");
    let outcome = compare(&source, &arguments);
    writers.end();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let line = format!("at {} is inconsistent: 1 of 1 table differs", last.address());
    assert!(outcome.stdout.contains(&line) && outcome.stdout.matches(" is consistent: ").count() == 1, "{outcome:?}");
    assert!(
        outcome.stdout.contains("  shop.a: 2 rows differ\n    2 differs in v\n    3 differs in v\n"),
        "{outcome:?}"
    );
    let named = format!("--replica={}", last.address());
    let outcome = compare(&source, &["--database=shop", &named, "--max-lock=20s"]);
    if software.is_mysql() && !by_gtids {
        assert_eq!(outcome.code, Some(3), "{outcome:?}");
        let id = middle.value("SELECT @@server_id");
        let why =
            format!("it cannot be waited for without GTIDs: server {id}, which it replicates from, is not compared\n");
        assert!(outcome.stdout.contains(&why), "{outcome:?}");
    } else {
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
    }
}

#[test]
fn a_third_tier_behind_row_events_is_found_by_gtids_on_mariadb() {
    a_third_tier_behind_row_events_is_found(Software::MariaDb, true);
}

#[test]
fn a_third_tier_behind_row_events_is_found_by_positions_on_mariadb() {
    a_third_tier_behind_row_events_is_found(Software::MariaDb, false);
}

#[test]
fn a_third_tier_behind_row_events_is_found_by_gtids_on_mysql() {
    a_third_tier_behind_row_events_is_found(Software::MySql9, true);
}

#[test]
fn a_third_tier_behind_row_events_is_found_by_positions_on_mysql() {
    a_third_tier_behind_row_events_is_found(Software::MySql9, false);
}

#[test]
fn a_replica_is_asked_with_the_account_of_its_own_group() {
    let [source, replica] = [(), ()].map(|()| Server::start());
    let link = replica.follow(&source);
    let account = |name, password, privilege| {
        format!(
            "SET sql_log_bin=0; CREATE USER {name}@'%' IDENTIFIED BY '{password}'; \
             GRANT SELECT, {privilege} ON *.* TO {name}@'%'"
        )
    };
    source.sql(&account("above", "first", "REPLICATION MASTER ADMIN"));
    replica.sql(&account("below", "second", "SLAVE MONITOR"));
    link.until_caught_up();
    let scratch = Scratch::new("consistency");
    let run = |group: &str| {
        let file = scratch.file(
            "my.cnf",
            format!(
                "[mysqlchk-consistency]\nhost={}\nuser=above\npassword=first\nssl-mode=PREFERRED\n\
                 [{group}]\nuser=below\npassword=second\n",
                source.ip()
            ),
        );
        Check::new("mysqlchk-consistency").arg(format!("--defaults-file={}", file.display())).run()
    };
    let outcome = run("mysqlchk-consistency-replica");
    assert!(outcome.code == Some(0) && outcome.stdout.contains(" is consistent: 2 tables"), "{outcome:?}");
    // Without the group the account of the source is taken, which this replica does not have.
    let outcome = run("other");
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    let denied = format!("at {} is incomplete: cannot log in: access denied (1045)\n", replica.address());
    assert!(outcome.stdout.contains(&denied), "{outcome:?}");
}

#[test]
fn a_source_and_a_replica_of_another_version_are_compared() {
    let source = Server::start();
    let replica = Server::start_of(Software::MariaDb11, &[]);
    // It demands a certificate that it can verify, by default.
    replica.sql("CHANGE MASTER TO MASTER_SSL_VERIFY_SERVER_CERT=0, MASTER_SSL=0");
    let link = replica.follow(&source);
    grant(&source);
    source.sql("CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v VARCHAR(20)); INSERT INTO shop.a VALUES (1, 'a'), (2, 'b')");
    link.until_caught_up();
    assert_eq!(found(&source, &[]).1, Found::new());
    replica.sql("SET sql_log_bin=0; UPDATE shop.a SET v = 'c' WHERE id = 2");
    assert_eq!(found(&source, &[]).1, Found::from([("shop.a".into(), "2 differs".into())]));
}

#[test]
fn without_gtids_the_position_in_the_binary_log_is_waited_for() {
    let lines = ["gtid_mode=OFF", "enforce_gtid_consistency=OFF"];
    let [source, replica] = [(), ()].map(|()| Server::start_of(Software::MySql9, &lines));
    grant(&source);
    source.sql("GRANT REPLICATION CLIENT ON *.* TO checker@'%'");
    grant(&replica);
    let status = &source.rows("SHOW BINARY LOG STATUS")[0];
    replica.sql(&format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{}', SOURCE_USER='repl', SOURCE_PASSWORD='{PASSWORD}', SOURCE_SSL=1, \
         SOURCE_LOG_FILE='{}', SOURCE_LOG_POS={}; START REPLICA",
        source.ip(),
        status["File"],
        status["Position"]
    ));
    source.sql("CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT); INSERT INTO shop.a VALUES (1, 1), (2, 2)");
    wait::until("the rows are there", BOUND, || {
        replica.try_rows("SELECT * FROM shop.a").is_ok_and(|rows| rows.len() == 2)
    });
    assert_eq!(found(&source, &[]).1, Found::new());
    replica.sql("SET sql_log_bin=0; UPDATE shop.a SET v = 7 WHERE id = 2");
    assert_eq!(found(&source, &[]).1, Found::from([("shop.a".into(), "2 differs".into())]));
}

#[test]
fn a_delayed_replica_is_waited_for() {
    let [source, replica] = [(), ()].map(|()| Server::start_with(&["binlog_format=ROW"]));
    let link = replica.follow(&source);
    grant(&source);
    source.sql("CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT); INSERT INTO shop.a VALUES (1, 1), (2, 2)");
    until_rows(&[&replica], "shop.a", 2);
    link.until_caught_up();
    replica.sql("SET sql_log_bin=0; UPDATE shop.a SET v = 7 WHERE id = 2");
    link.break_by(Fault::Delay(Duration::from_secs(3)));
    source.sql("UPDATE shop.a SET v = 5 WHERE id = 1; CREATE TABLE shop.b (id INT PRIMARY KEY)");
    let (reason, found) = found(&source, &["--database=shop"]);
    assert_eq!(found, Found::from([("shop.a".into(), "2 differs".into())]), "{reason}");
}

#[test]
fn a_replica_far_away_is_read_in_chunks_as_large_as_one_that_is_near() {
    let [source, replica] = [(), ()].map(|()| Server::start_with(&["general_log=OFF"]));
    let link = replica.follow(&source);
    grant(&source);
    source.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, c CHAR(200) NOT NULL);
         INSERT INTO shop.a SELECT seq, MD5(seq) FROM shop.seq_1_to_300000",
    );
    link.until_caught_up();
    let asked = || replica.status("Com_select").unwrap().parse::<u64>().unwrap();
    let before = asked();
    let far = fake::far(replica.address(), Duration::from_millis(50));
    let outcome = compare(&source, &["--database=shop", "--lanes=1", &format!("--replica={far}")]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let asked = asked() - before;
    assert!(asked < 200, "{asked} statements for 300,000 rows");
}

#[test]
fn the_nodes_of_a_galera_cluster_are_compared() {
    let cluster = Cluster::start();
    let node = cluster.node(0);
    grant(node);
    node.sql("CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT); INSERT INTO shop.a VALUES (1, 1), (2, 2)");
    let outcome = compare(node, &["--database=shop"]);
    assert_eq!(outcome.stdout.matches(" is consistent: 1 table, 2 rows").count(), 2, "{outcome:?}");
    cluster.node(2).sql("SET SESSION wsrep_on=OFF; UPDATE shop.a SET v = 7 WHERE id = 2");
    let outcome = compare(node, &["--database=shop", "--rows"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("  shop.a: 1 row differs\n    2 differs in v\n"), "{outcome:?}");
    assert_eq!(outcome.stdout.matches(" is consistent: ").count(), 1, "{outcome:?}");
}

#[test]
fn the_members_of_a_group_are_compared() {
    let group = Group::start();
    let [primary, other] = [group.member(0), group.member(1)];
    grant(primary);
    primary.sql("CREATE DATABASE shop; CREATE TABLE shop.a (id INT PRIMARY KEY, v INT); INSERT INTO shop.a VALUES (1, 1), (2, 2)");
    let outcome = compare(primary, &["--database=shop"]);
    assert_eq!(outcome.stdout.matches(" is consistent: 1 table, 2 rows").count(), 2, "{outcome:?}");
    other.sql("SET GLOBAL super_read_only=OFF; SET GLOBAL read_only=OFF; SET sql_log_bin=0; UPDATE shop.a SET v = 7 WHERE id = 2");
    let outcome = compare(primary, &["--database=shop", "--rows"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("  shop.a: 1 row differs\n    2 differs in v\n"), "{outcome:?}");
}
