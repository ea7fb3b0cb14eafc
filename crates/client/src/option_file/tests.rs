use super::*;
use std::os::unix::fs::PermissionsExt;

fn setting(line: &str) -> (String, Option<String>) {
    match parse_line(line).unwrap() {
        Line::Setting { key, value } => (key.to_owned(), value),
        other => panic!("{line}: {other:?}"),
    }
}

fn value(line: &str) -> String {
    setting(line).1.unwrap()
}

#[test]
fn blank_lines_and_comments_say_nothing() {
    for line in ["", "   ", "# a", " ; b", "\t#"] {
        assert_eq!(parse_line(line).unwrap(), Line::Nothing, "{line:?}");
    }
}

#[test]
fn keys_stand_bare_or_with_a_value() {
    assert_eq!(setting("quick"), ("quick".into(), None));
    assert_eq!(setting("  host = db01  "), ("host".into(), Some("db01".into())));
    assert_eq!(setting("host="), ("host".into(), Some(String::new())));
    assert_eq!(setting("port=3306 # the usual one"), ("port".into(), Some("3306".into())));
}

#[test]
fn quotes_protect_and_escapes_are_resolved() {
    assert_eq!(value(r#"password="a#b;c" # real comment"#), "a#b;c");
    assert_eq!(value("password='it''s'"), "it''s");
    assert_eq!(value(r"password=a\sb\tc\\d\q"), "a b\tc\\d\\q");
    assert_eq!(value(r##"password="say \"#\" ""##), "say \"#\" ");
    assert_eq!(value("a=b=c"), "b=c");
}

#[test]
fn broken_lines_are_refused() {
    for line in ["[client", "[client] x", "=5", "two words=5", "!source /x", "!include", "a=\"open", "bare words"] {
        assert!(parse_line(line).is_err(), "{line}");
    }
}

/// A directory of our own below the temporary one, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("option-file-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GROUPS: &[&str] = &["client", "mysqlchk", "mysqlchk-status"];

fn keys(settings: &Settings) -> Vec<String> {
    settings.settings.iter().map(|s| format!("{}={}", s.key, s.value.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn groups_apply_in_their_own_order_not_the_files() {
    let directory = Directory::new("groups");
    let file = directory.file(
        "my.cnf",
        "[mysqlchk-status]\ntimeout=3s\n[mysqld]\nport=1\n[mysqlchk]\ntimeout=2s\n[client]\nmax_lag=1s\npassword=p\n",
    );
    let settings = read(&file, GROUPS, &()).unwrap();
    assert_eq!(keys(&settings), ["max-lag=1s", "timeout=2s", "timeout=3s"]);
    assert_eq!(settings.password.as_ref().unwrap().reveal(), "p");
    assert!(!format!("{settings:?}").contains("\"p\""));
}

#[test]
fn groups_are_compared_as_the_mysql_programs_do() {
    for (name, expected) in [
        ("Mysqlchk-Status", "mysqlchk-status"),
        ("mysqlchk_status", "mysqlchk-status"),
        ("GALERA_CHK", "galera-chk"),
        ("MysqlChk", "mysqlchk"),
        ("CLIENT", "client"),
        ("client-server", "client"),
        ("Client-MariaDB", "client"),
        ("mysqld", "mysqld"),
        ("galera", "galera"),
        ("mysqlcheck", "mysqlcheck"),
        ("mysql", "mysql"),
    ] {
        assert_eq!(canonical_group(name).unwrap(), expected, "{name}");
    }
    for (name, shown) in [
        ("mysqlchk-replicaton", "mysqlchk-replicaton"),
        ("mysqlchk_status2", "mysqlchk-status2"),
        ("mysqlchkstatus", "mysqlchkstatus"),
        ("mysqlchk status", "mysqlchk status"),
        ("Mysql-Chk", "mysql-chk"),
        ("galerachk", "galerachk"),
        ("galera-chk-donor", "galera-chk-donor"),
    ] {
        let expected = format!("[{shown}] is neither [mysqlchk] nor the group of one of our programs");
        assert_eq!(canonical_group(name).unwrap_err().to_string(), expected, "{name}");
    }
}

#[test]
fn included_files_stand_in_the_place_of_the_directive() {
    let directory = Directory::new("include");
    directory.file("b.cnf", "[client]\nb=1\n");
    directory.file("c.txt", "this is not read");
    directory.file("a.cnf", "[client]\na=1\n");
    let sub = directory.0.display();
    let file = directory.file("main", &format!("[client]\nx=1\n!includedir {sub}\n!include {sub}/a.cnf\ny=1\n"));
    assert_eq!(keys(&read(&file, GROUPS, &()).unwrap()), ["x=1", "a=1", "b=1", "a=1", "y=1"]);
}

#[test]
fn what_includes_itself_is_refused() {
    let directory = Directory::new("loop");
    let file = directory.0.join("loop.cnf");
    directory.file("loop.cnf", &format!("!include {}\n", file.display()));
    assert!(format!("{:#}", read(&file, GROUPS, &()).unwrap_err()).contains("include each other"));
}

#[test]
fn files_that_include_the_next_one_several_times_are_bounded() {
    let directory = Directory::new("many");
    let path = |level: usize| directory.0.join(format!("{level}.cnf"));
    let next_twice = |level| format!("!include {0}\n!include {0}\n", path(level + 1).display());
    for level in 0..DEPTH_MAX {
        directory.file(&format!("{level}.cnf"), &next_twice(level));
    }
    directory.file(&format!("{DEPTH_MAX}.cnf"), "[client]\nport=1\n");
    let message = format!("{:#}", read(&path(0), GROUPS, &()).unwrap_err());
    assert!(message.ends_with(".cnf:1: more than 256 files are included"), "{message}");
    // What the bound is: 255 of these and the one that names them.
    let all = format!("!include {}\n", path(DEPTH_MAX).display()).repeat(FILES_MAX - 1);
    let file = directory.file("all", &all);
    assert_eq!(read(&file, GROUPS, &()).unwrap().settings.len(), FILES_MAX - 1);
}

#[test]
fn a_message_names_file_and_line() {
    let directory = Directory::new("line");
    let file = directory.file("my.cnf", "[client]\n\nport 3306\n");
    let message = format!("{:#}", read(&file, GROUPS, &()).unwrap_err());
    assert!(message.ends_with("my.cnf:3: a space in an option name: write `option=value`"), "{message}");
    let marked = directory.file("marked.cnf", "\u{feff}[client]\nport=3306\n");
    assert_eq!(keys(&read(&marked, GROUPS, &()).unwrap()), ["port=3306"]);
    let file = directory.file("early.cnf", "port=3306\n");
    let message = format!("{:#}", read(&file, GROUPS, &()).unwrap_err());
    assert!(message.ends_with("early.cnf:1: an option before the first [group]"), "{message}");
}

#[test]
fn only_a_file_that_is_not_there_need_not_be() {
    use std::os::unix::fs::symlink;
    let directory = Directory::new("absent");
    let path = |name: &str| directory.0.join(name);
    directory.file("my.cnf", "[client]\nport=1\n");
    directory.file("file", "");
    symlink(path("nowhere"), path("dangling")).unwrap();
    symlink(path("loop"), path("loop")).unwrap();
    symlink(&directory.0, path("here")).unwrap();
    let read = |name: &str| read_if_there(&path(name), GROUPS, &()).map(|settings| keys(&settings).concat());
    for (name, expected) in [
        ("my.cnf", Ok("port=1")),
        ("here/my.cnf", Ok("port=1")),
        ("gone", Ok("")),
        ("gone/my.cnf", Ok("")),
        ("here/gone/my.cnf", Ok("")),
        ("dangling", Err("a symbolic link leads nowhere")),
        ("dangling/my.cnf", Err("a symbolic link leads nowhere")),
        ("here/dangling/gone/my.cnf", Err("a symbolic link leads nowhere")),
        ("loop", Err("filesystem loop or indirection limit (e.g. symlink loop)")),
        ("file/my.cnf", Err("not a directory")),
        ("", Err("it is not a regular file")),
    ] {
        let expected = expected
            .map(str::to_owned)
            .map_err(|why| format!("cannot read option file {}: {why}", path(name).display()));
        assert_eq!(read(name).map_err(|error| format!("{error:#}")), expected, "{name}");
    }
}

#[test]
fn files_that_cannot_be_trusted_are_refused() {
    let directory = Directory::new("trust");
    let file = directory.file("my.cnf", "[client]\n");
    for mode in [0o666, 0o642, 0o660] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let message = format!("{:#}", read(&file, GROUPS, &()).unwrap_err());
        assert!(message.contains("others may write it"), "{message}");
    }
    assert!(format!("{:#}", read(&directory.0, GROUPS, &()).unwrap_err()).ends_with("not a regular file"));
    assert!(format!("{:#}", read(&directory.0.join("gone"), GROUPS, &()).unwrap_err()).ends_with("no such file"));
    let large = directory.file("large.cnf", &"#\n".repeat(40_000));
    assert!(format!("{:#}", read(&large, GROUPS, &()).unwrap_err()).ends_with("larger than 64 KiB"));
    let binary = directory.0.join("binary.cnf");
    fs::write(&binary, b"[client]\nuser=\xff\n").unwrap();
    assert!(format!("{:#}", read(&binary, GROUPS, &()).unwrap_err()).ends_with("not UTF-8 text"));
}
