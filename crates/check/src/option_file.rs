//! `MySQL` option files: text -> the settings of our groups, in the order they apply.
//!
//! Follows "Using Option Files" of the `MySQL` Reference Manual (8.4, section 6.2.2.2): groups, bare keys, quotes,
//! escapes, comments, `!include` and `!includedir`. Knows no particular option; `args` gives the settings their meaning.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use watchdog::alarm::{self, OtherThread};

/// The largest option file, in bytes. Theirs are a few hundred bytes; the bound is for what is no option file.
const FILE_MAX: u64 = 64 * 1024;
/// The group that all our programs read.
pub const SHARED_GROUP: &str = "mysqlchk";
/// The programs of this project, one a line. Each has a group of its name.
const PROGRAMS: &str = include_str!("../../../PROGRAMS");
/// How deep `!include` may nest (the `MySQL` programs stop at 10, too).
const DEPTH_MAX: usize = 10;
/// How many files are read in all: with ten levels that name the next one twice each it would be a thousand.
const FILES_MAX: usize = 256;

/// A password. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself, for the login and nothing else.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("*****")
    }
}

/// Where a setting stands, for messages: `FILE:LINE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    file: Rc<Path>,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// One line of an option file: `key` or `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The group it stands in, as [`canonical_group`] spells it.
    pub group: String,
    /// The key as options are spelled: `-` for `_`.
    pub key: String,
    /// The value without quotes and escapes; `None` for a bare key.
    pub value: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// What the option files say to one program.
#[derive(Debug, Default)]
pub struct Settings {
    /// Everything but passwords; a later setting wins over an earlier one.
    pub settings: Vec<Setting>,
    /// The last `password` of our groups.
    pub password: Option<Secret>,
}

/// Reads `file` and what it includes, and keeps the settings of `groups`, in the order of `groups`.
///
/// # Errors
/// A file that cannot be read, that others may write, that is too large or breaks the syntax. The message names file and line.
pub fn read(file: &Path, groups: &[&str]) -> Result<Settings> {
    let mut reader = Reader::default();
    let opened = reader.open(file);
    reader.read(file, opened, groups)
}

/// As [`read`], for a file that need not exist. Only what is not there has no settings: a file that cannot be seen is one
/// that cannot be read, since without its rules a check would be up.
///
/// # Errors
/// As [`read`], and for a link that leads nowhere.
pub fn read_if_there(file: &Path, groups: &[&str]) -> Result<Settings> {
    let mut reader = Reader::default();
    let opened = reader.open(file);
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        ensure!(is_absent(file), "cannot read option file {}: a symbolic link leads nowhere", file.display());
        return Ok(Settings::default());
    }
    reader.read(file, opened, groups)
}

/// Whether nothing has this path. To open a link that leads nowhere fails in the same way, be it the file or a directory
/// above it, so the first thing that exists on the way up must be a directory.
fn is_absent(path: &Path) -> bool {
    for part in path.ancestors() {
        match fs::symlink_metadata(part) {
            Ok(about) => return part != path && (about.is_dir() || fs::metadata(part).is_ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return false,
        }
    }
    true
}

/// A file and what it includes.
#[derive(Default)]
struct Reader {
    found: Vec<Setting>,
    /// How many files were read.
    files: usize,
    other: Option<OtherThread>,
}

impl Reader {
    fn open(&mut self, path: &Path) -> io::Result<File> {
        open(path, &mut self.other)
    }

    fn read(mut self, file: &Path, opened: io::Result<File>, groups: &[&str]) -> Result<Settings> {
        self.read_file(file, opened, 0)?;
        let mut chosen = Settings::default();
        for group in groups {
            for setting in self.found.iter().filter(|setting| setting.group == *group) {
                if setting.key == "password" {
                    chosen.password = setting.value.clone().map(Secret);
                } else {
                    chosen.settings.push(setting.clone());
                }
            }
        }
        Ok(chosen)
    }

    fn read_file(&mut self, path: &Path, opened: io::Result<File>, depth: usize) -> Result<()> {
        self.files += 1;
        let text = read_text(opened).with_context(|| format!("cannot read option file {}", path.display()))?;
        let name: Rc<Path> = Rc::from(path);
        let mut group: Option<String> = None;
        for (index, line) in text.lines().enumerate() {
            let place = Place { file: Rc::clone(&name), line: index + 1 };
            match parse_line(line).with_context(|| place.to_string())? {
                Line::Nothing => {}
                Line::Group(name) => group = Some(canonical_group(name).with_context(|| place.to_string())?),
                Line::Setting { key, value } => {
                    let Some(group) = group.clone() else {
                        bail!("{place}: an option before the first [group]");
                    };
                    self.found.push(Setting { group, key: key.replace('_', "-"), value, place });
                }
                Line::Include(file) => self.include(Path::new(file), depth, &place)?,
                Line::IncludeDir(directory) => {
                    for file in self.option_files_in(Path::new(directory)).with_context(|| place.to_string())? {
                        self.include(&file, depth, &place)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn include(&mut self, file: &Path, depth: usize, place: &Place) -> Result<()> {
        ensure!(depth < DEPTH_MAX, "{place}: more than {DEPTH_MAX} files include each other");
        ensure!(self.files < FILES_MAX, "{place}: more than {FILES_MAX} files are included");
        let opened = self.open(file);
        self.read_file(file, opened, depth + 1).with_context(|| place.to_string())
    }

    /// The `*.cnf` files of a directory that only its owner may write, in alphabetical order.
    fn option_files_in(&mut self, directory: &Path) -> Result<Vec<PathBuf>> {
        let cannot = || format!("cannot read directory {}", directory.display());
        let about = self.open(directory).and_then(|opened| opened.metadata());
        ensure_only_owner_writes(&about.map_err(|error| io_words(&error)).with_context(cannot)?)
            .with_context(cannot)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(directory).map_err(|error| io_words(&error)).with_context(cannot)? {
            let path = entry.map_err(|error| io_words(&error)).with_context(cannot)?.path();
            if path.extension().is_some_and(|extension| extension == "cnf") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Reads a regular file of at most `max` bytes that only its owner may write.
///
/// # Errors
/// When it is none, or cannot be read. The words say why, and do not name the file.
pub fn read_trusted(path: &Path, max: u64) -> Result<Vec<u8>> {
    let mut other = None;
    read_trusted_file(open(path, &mut other), max)
}

/// Opens a file. Where the path leaves the file system of `/` it may be one that hangs, in a sleep that no handler
/// interrupts: then the deadline is left to the `other` thread for as long as the caller holds it.
fn open(path: &Path, other: &mut Option<OtherThread>) -> io::Result<File> {
    // O_NONBLOCK: opening a FIFO must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    if other.is_none() {
        let here = |path| rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_XDEV);
        // A relative path begins in a directory that may be anywhere.
        let opened = if path.is_absolute() { rustix::io::retry_on_intr(|| here(path)) } else { Err(Errno::XDEV) };
        match opened {
            // The last two: a kernel before 5.6, and a sandbox that does not know the call.
            Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => *other = alarm::answer_from_another_thread().ok(),
            opened => return Ok(opened?.into()),
        }
    }
    Ok(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?.into())
}

fn read_trusted_file(opened: io::Result<File>, max: u64) -> Result<Vec<u8>> {
    let file = opened.map_err(|error| io_words(&error))?;
    let about = file.metadata().map_err(|error| io_words(&error))?;
    ensure!(about.is_file(), "it is no regular file");
    ensure_only_owner_writes(&about)?;
    ensure!(about.len() <= max, "it is larger than {} KiB", max / 1024);
    let mut bytes = Vec::with_capacity(usize::try_from(about.len())? + 1);
    file.take(max).read_to_end(&mut bytes).map_err(|error| io_words(&error))?;
    Ok(bytes)
}

/// The text of an option file.
fn read_text(opened: io::Result<File>) -> Result<String> {
    let text = String::from_utf8(read_trusted_file(opened, FILE_MAX)?).ok().context("it is not UTF-8 text")?;
    // Editors on other systems begin a file with a byte order mark.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn ensure_only_owner_writes(about: &fs::Metadata) -> Result<()> {
    let mode = about.mode() & 0o7777;
    ensure!(mode & 0o022 == 0, "others may write it (mode {mode:04o}): run `chmod go-w` on it");
    Ok(())
}

/// The words for why a file cannot be used, with the user who could not.
fn io_words(error: &io::Error) -> anyhow::Error {
    use io::ErrorKind::{NotFound, PermissionDenied};
    match error.kind() {
        NotFound => anyhow::anyhow!("no such file"),
        PermissionDenied => anyhow::anyhow!("permission denied (uid {})", rustix::process::geteuid().as_raw()),
        kind => anyhow::anyhow!("{kind}"),
    }
}

/// A group as we compare it: in lower case, as in the `MySQL` programs, and with `-` for `_`, as in options. `MariaDB`'s
/// programs read `[client-server]` and `[client-mariadb]` as they read `[client]`.
///
/// # Errors
/// A name that looks like a group of ours and is not one: its rules would be lost without a word.
fn canonical_group(name: &str) -> Result<String> {
    let group = name.to_ascii_lowercase().replace('_', "-");
    let ours = || PROGRAMS.lines().chain([SHARED_GROUP]);
    let letters = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric(), "");
    match group.as_str() {
        "client-server" | "client-mariadb" => Ok("client".to_owned()),
        name if ours().any(|known| known == name) => Ok(group),
        name if ours().any(|known| letters(name).starts_with(&letters(known))) => {
            bail!("[{name}] is neither [{SHARED_GROUP}] nor the group of one of our programs")
        }
        _ => Ok(group),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Group(&'a str),
    Setting { key: &'a str, value: Option<String> },
    Include(&'a str),
    IncludeDir(&'a str),
}

fn parse_line(line: &str) -> Result<Line<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if let Some(directive) = line.strip_prefix('!') {
        let (word, path) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
        let path = path.trim();
        return match (word, path) {
            ("include" | "includedir", "") => bail!("`!{word}` needs a path"),
            ("include", path) => Ok(Line::Include(path)),
            ("includedir", path) => Ok(Line::IncludeDir(path)),
            _ => bail!("`!` begins neither `!include` nor `!includedir`"),
        };
    }
    let line = without_comment(line).trim_end();
    if let Some(rest) = line.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((name, "")) => Ok(Line::Group(name.trim())),
            _ => bail!("a group is `[name]` and nothing else"),
        };
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim_end(), Some(unquote(value.trim_start())?)),
        None => (line, None),
    };
    ensure!(!key.is_empty(), "a value without an option name");
    ensure!(!key.contains(char::is_whitespace), "a blank in an option name: write `option=value`");
    Ok(Line::Setting { key, value })
}

/// Cuts a `#` comment off the end of a line, unless the `#` stands in quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            '#' if quote.is_none() => return line.split_at(at).0,
            '\'' | '"' if !escaped => match quote {
                None => quote = Some(c),
                Some(open) if open == c => quote = None,
                Some(_) => {}
            },
            _ => {}
        }
        escaped = quote.is_some() && c == '\\' && !escaped;
    }
    line
}

/// Takes the quotes off a value and resolves its escapes: `\b \t \n \r \s \\ \" \'`; any other backslash stays.
fn unquote(value: &str) -> Result<String> {
    let bare = match value.chars().next() {
        Some(quote @ ('\'' | '"')) => match value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            Some(inner) => inner,
            None => bail!("a quoted value does not end with its quote"),
        },
        _ => value,
    };
    let mut text = String::with_capacity(bare.len());
    let mut chars = bare.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('b') => text.push('\u{8}'),
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('s') => text.push(' '),
            Some(same @ ('\\' | '"' | '\'')) => text.push(same),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
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
        let settings = read(&file, GROUPS).unwrap();
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
        assert_eq!(keys(&read(&file, GROUPS).unwrap()), ["x=1", "a=1", "b=1", "a=1", "y=1"]);
    }

    #[test]
    fn what_includes_itself_is_refused() {
        let directory = Directory::new("loop");
        let file = directory.0.join("loop.cnf");
        directory.file("loop.cnf", &format!("!include {}\n", file.display()));
        assert!(format!("{:#}", read(&file, GROUPS).unwrap_err()).contains("include each other"));
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
        let message = format!("{:#}", read(&path(0), GROUPS).unwrap_err());
        assert!(message.ends_with(".cnf:1: more than 256 files are included"), "{message}");
        // What the bound is: 255 of these and the one that names them.
        let all = format!("!include {}\n", path(DEPTH_MAX).display()).repeat(FILES_MAX - 1);
        let file = directory.file("all", &all);
        assert_eq!(read(&file, GROUPS).unwrap().settings.len(), FILES_MAX - 1);
    }

    #[test]
    fn a_message_names_file_and_line() {
        let directory = Directory::new("line");
        let file = directory.file("my.cnf", "[client]\n\nport 3306\n");
        let message = format!("{:#}", read(&file, GROUPS).unwrap_err());
        assert!(message.ends_with("my.cnf:3: a blank in an option name: write `option=value`"), "{message}");
        let marked = directory.file("marked.cnf", "\u{feff}[client]\nport=3306\n");
        assert_eq!(keys(&read(&marked, GROUPS).unwrap()), ["port=3306"]);
        let file = directory.file("early.cnf", "port=3306\n");
        let message = format!("{:#}", read(&file, GROUPS).unwrap_err());
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
        let read = |name: &str| read_if_there(&path(name), GROUPS).map(|settings| keys(&settings).concat());
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
            ("", Err("it is no regular file")),
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
            let message = format!("{:#}", read(&file, GROUPS).unwrap_err());
            assert!(message.contains("others may write it"), "{message}");
        }
        assert!(format!("{:#}", read(&directory.0, GROUPS).unwrap_err()).ends_with("no regular file"));
        assert!(format!("{:#}", read(&directory.0.join("gone"), GROUPS).unwrap_err()).ends_with("no such file"));
        let large = directory.file("large.cnf", &"#\n".repeat(40_000));
        assert!(format!("{:#}", read(&large, GROUPS).unwrap_err()).ends_with("larger than 64 KiB"));
        let binary = directory.0.join("binary.cnf");
        fs::write(&binary, b"[client]\nuser=\xff\n").unwrap();
        assert!(format!("{:#}", read(&binary, GROUPS).unwrap_err()).ends_with("not UTF-8 text"));
    }
}
