//! The recipes of `docs/recipes`, as they stand there.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use lab::daemon::program;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::shipped;

/// Two databases with all that a dump can hold, and what would show a wrong order: foreign keys in both directions, triggers that
/// write, a view of a view.
const SCHEMA: &str = r"
CREATE DATABASE shop; CREATE DATABASE `we ird`;
USE shop;
CREATE TABLE a (id INT PRIMARY KEY, b INT, note TEXT, bin BLOB);
CREATE TABLE b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id)) ;
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id);
CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(20));
CREATE TRIGGER written AFTER INSERT ON b FOR EACH ROW INSERT INTO log (what) VALUES (NEW.id);
CREATE VIEW v1 AS SELECT id, note FROM a;
CREATE VIEW v2 AS SELECT v1.id FROM v1 JOIN b ON b.a = v1.id;
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN
-- Dumping data for table `a`
2 * n;
CREATE EVENT later ON SCHEDULE EVERY 1 YEAR DO DELETE FROM log;
INSERT INTO a (id, note, bin) SELECT seq, CONCAT('line\n-- Dumping data for table `b`\n', seq, ' ''ä'), UNHEX(MD5(seq)) FROM seq_1_to_5000;
INSERT INTO b SELECT seq, seq FROM seq_1_to_3000;
UPDATE a SET b = id WHERE id <= 3000;
CREATE TABLE empty (id INT PRIMARY KEY);
USE `we ird`;
CREATE TABLE `a b` (id INT PRIMARY KEY, other INT, FOREIGN KEY (other) REFERENCES shop.a (id));
INSERT INTO `a b` SELECT seq, seq FROM seq_1_to_100;
";

/// One of MariaDB's programs, with what leads it to this server.
fn of_mariadb(name: &str, server: &Server, scratch: &Scratch) -> Command {
    let file = scratch.file("admin.cnf", format!("[client]\nuser=admin\npassword={PASSWORD}\n"));
    let mut command = Command::new(program(name));
    command.arg(format!("--defaults-file={}", file.display())).arg("--default-character-set=utf8mb4");
    command.arg("-S").arg(server.socket());
    command
}

fn dump(server: &Server, scratch: &Scratch, options: &[&str]) -> Vec<u8> {
    let mut dump = of_mariadb("mariadb-dump", server, scratch);
    dump.args(["--routines", "--events", "--skip-dump-date"]).args(options);
    let Output { status, stdout, stderr } = dump.args(["--databases", "shop", "we ird"]).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// Runs the script of the document with three clients.
fn import(script: &Path, dump: &Path, client: &Command) -> Output {
    let mut import = Command::new("sh");
    import.arg(script).arg(dump).arg("3").arg(client.get_program()).args(client.get_args());
    import.output().unwrap()
}

#[test]
fn a_dump_loaded_by_several_clients_is_the_dump_loaded_by_one() {
    let (source, plain, parallel) = (Server::start(), Server::start(), Server::start());
    source.sql(SCHEMA);
    let scratch = Scratch::new("import");
    let file = scratch.file("dump.sql", dump(&source, &scratch, &[]));
    let text = fs::read_to_string(shipped::file("docs/recipes/import.md")).unwrap();
    let script = scratch.program("import", text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap());

    assert!(of_mariadb("mariadb", &plain, &scratch).stdin(File::open(&file).unwrap()).status().unwrap().success());
    let client = of_mariadb("mariadb", &parallel, &scratch);
    let done = import(&script, &file, &client);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (plain, loaded) = (dump(&plain, &scratch, &[]), dump(&parallel, &scratch, &[]));
    assert!(plain.len() > 400_000, "{}", plain.len());
    assert!(loaded == plain, "the parallel import differs from the plain one");

    let bare = scratch.file("bare.sql", dump(&source, &scratch, &["--skip-comments"]));
    let done = import(&script, &bare, &client);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("--skip-comments"), "{done:?}");
    let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    let purged = text.replacen("/*!40101 SET NAMES", "SET @@GLOBAL.GTID_PURGED='x:1';\n/*!40101 SET NAMES", 1);
    let done = import(&script, &scratch.file("purged.sql", purged), &client);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("GTID_PURGED"), "{done:?}");
    // A client that fails is an error of the whole.
    let broken = text.replacen("INSERT INTO `b`", "INSERT INTO `nowhere`", 1);
    assert!(!import(&script, &scratch.file("broken.sql", broken), &client).status.success());
}
