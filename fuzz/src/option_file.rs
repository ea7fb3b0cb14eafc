//! An option file and what it includes: any text, with a password somewhere in it.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use client::command_line::{Program, parse};
use client::{duration, option_file};
use tempfile::TempDir;

use super::{dice, is_one_in};

const PROGRAM: &str = "mysqlchk-status";
const GROUPS: [&str; 3] = ["client", "mysqlchk", PROGRAM];
/// The files that an input is made of: the first is read, the others where it includes them.
const FILES: [&str; 3] = ["my.cnf", "a.cnf", "b.cnf"];
/// What stands between two of them.
const SEPARATOR: &str = "\n%%\n";

const SECRET: &str = "Hunter2Zq9";
/// How a password gets into a file; the last ones are slips of the hand.
const FORMS: [&str; 11] = [
    "password=Hunter2Zq9",
    "password = \"Hunter2Zq9\"",
    "password='Hunter2Zq9' # of the lab",
    "loose-password=Hunter2Zq9",
    "pasword=Hunter2Zq9",
    "password Hunter2Zq9",
    "password: Hunter2Zq9",
    "password='Hunter2Zq9",
    "Hunter2Zq9",
    "!Hunter2Zq9",
    "[Hunter2Zq9",
];

/// As in a check, a flag and a value of its own.
#[derive(Debug, clap::Args)]
struct Options {
    #[arg(long)]
    require_writable: bool,
    #[arg(long, value_parser = duration::parse)]
    max_lag: Option<std::time::Duration>,
}

thread_local! {
    /// Where the files are. It is the working directory, so that they include each other by their names.
    static FOLDER: TempDir = {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        std::env::set_current_dir(folder.path()).unwrap();
        folder
    };
}

/// The bytes are the files, with [`SEPARATOR`] between them.
pub fn run(input: &[u8]) {
    FOLDER.with(|folder| {
        let text = String::from_utf8_lossy(input);
        a_value_is_read_as_it_was_quoted(folder.path(), &text);
        if !text.contains(SECRET) && !text.lines().any(leaves_the_folder) {
            a_password_is_not_shown(folder.path(), input);
        }
    });
}

/// The devices and other files of this host are not read: opening some of them does something.
fn leaves_the_folder(line: &str) -> bool {
    line.trim_start().trim_start_matches('\u{feff}').starts_with('!') && line.contains('/')
}

fn a_value_is_read_as_it_was_quoted(folder: &Path, value: &str) {
    let mut quoted = String::new();
    for c in value.chars() {
        match c {
            '\\' | '"' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            c => quoted.push(c),
        }
    }
    let file = folder.join("quoted.cnf.one");
    write(&file, format!("[mysqlchk]\nuser = \"{quoted}\" # a comment\npassword=\"{quoted}\"\n").as_bytes());
    match option_file::read(&file, &GROUPS, &()) {
        Ok(found) => {
            assert_eq!(found.settings.len(), 1);
            assert_eq!(found.settings[0].value.as_deref(), Some(value));
            assert_eq!(found.password.unwrap().reveal(), value);
        }
        Err(error) => assert!(format!("{error:#}").ends_with("larger than 64 KiB"), "{error:#}"),
    }
}

fn a_password_is_not_shown(folder: &Path, input: &[u8]) {
    let files = with_a_password(input);
    let mut texts = split(&files);
    for name in FILES {
        match texts.next() {
            Some(text) => write(&folder.join(name), text),
            None => drop(fs::remove_file(folder.join(name))),
        }
    }
    let file = folder.join(FILES[0]);
    let found = match option_file::read(&file, &GROUPS, &()) {
        Ok(found) => found,
        Err(error) => return keeps_the_secret(&format!("{error:#} {error:?}")),
    };
    for setting in &found.settings {
        assert!(GROUPS.contains(&setting.group.as_str()), "{setting:?}");
        assert!(!setting.key.is_empty() && !setting.key.contains(['_', ' ', '=']), "{setting:?}");
        assert_ne!(setting.key, "password");
    }
    // Clap takes much longer than all the rest.
    if !is_one_in(16, input) {
        return;
    }
    let defaults = format!("--defaults-file={}", file.display());
    for words in [&["program", &defaults][..], &["program", &defaults, "--print-defaults"]] {
        let line: Vec<_> = words.iter().map(OsString::from).collect();
        let program = Program { name: PROGRAM, groups: &["mysqlchk", PROGRAM], about: "", version: "1" };
        match parse::<Options>(program, &line, &(), |_, _| ()) {
            Ok(asked) => keeps_the_secret(&format!("{asked:?}")),
            Err(error) => keeps_the_secret(&format!("{error:#}")),
        }
    }
}

fn keeps_the_secret(text: &str) {
    assert!(!text.contains(SECRET), "{text}");
}

/// The same files with a line more: which one, and where, follows from the bytes.
fn with_a_password(input: &[u8]) -> Vec<u8> {
    let dice = dice(input);
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let (form, line) = (dice % FORMS.len(), dice / FORMS.len() % (lines.len() + 1));
    lines.insert(line, FORMS[form].as_bytes());
    lines.join(&b'\n')
}

fn split(files: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(files);
    std::iter::from_fn(move || {
        let files = rest?;
        let end = files.windows(SEPARATOR.len()).position(|part| part == SEPARATOR.as_bytes());
        rest = end.map(|end| &files[end + SEPARATOR.len()..]);
        Some(&files[..end.unwrap_or(files.len())])
    })
}

/// Not by way of an empty file, which some file systems bring to the disk at once.
fn write(file: &Path, text: &[u8]) {
    let mut file = File::options().write(true).create(true).truncate(false).mode(0o600).open(file).unwrap();
    file.write_all(text).unwrap();
    file.set_len(text.len() as u64).unwrap();
}
