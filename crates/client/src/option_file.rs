//! `MySQL` option files: text -> the settings of our groups, in the order they apply.
//!
//! Follows "Using Option Files" of the `MySQL` Reference Manual (8.4, section 6.2.2.2): groups, bare keys, quotes,
//! escapes, comments, `!include` and `!includedir`. Knows no particular option: `command_line` gives the settings their meaning.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use crate::trusted::{self, Opener, Secret, ensure_only_owner_writes, io_words};
use crate::watch::Watch;

/// The largest option file, in bytes. Option files are a few hundred bytes; the bound is for anything else.
const FILE_MAX: u64 = 64 * 1024;
/// The group that all our programs read.
pub const SHARED_GROUP: &str = "mysqlchk";
/// The checks of this project, one a line. Each has a group of its name.
const PROGRAMS: &str = include_str!("../../../PROGRAMS");
/// The groups of our programs that are not checks.
const OTHER_GROUPS: [&str; 2] = ["mysqlchk-consistency", "mysqlchk-consistency-replica"];
/// How deep `!include` may nest (the `MySQL` programs stop at 10, too).
const DEPTH_MAX: usize = 10;
/// How many files are read in all: with ten levels that name the next one twice each it would be a thousand.
const FILES_MAX: usize = 256;

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
    /// The line of the `[group]` that it stands under, in the same file.
    pub header: usize,
}

/// What the option files hold for one program.
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
pub fn read(file: &Path, groups: &[&str], watch: &dyn Watch) -> Result<Settings> {
    let mut reader = Reader::new(watch);
    let opened = reader.opener.open(file);
    reader.read(file, opened, groups)
}

/// As [`read`], for a file that need not exist. Only what is not there has no settings: a file that cannot be seen is one
/// that cannot be read, since without its rules a check would be up.
///
/// # Errors
/// As [`read`], and for a link that leads nowhere.
pub fn read_if_there(file: &Path, groups: &[&str], watch: &dyn Watch) -> Result<Settings> {
    let mut reader = Reader::new(watch);
    let opened = reader.opener.open(file);
    if opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        ensure!(is_absent(file), "cannot read option file {}: a symbolic link leads nowhere", file.display());
        return Ok(Settings::default());
    }
    reader.read(file, opened, groups)
}

/// The names of the checks of this project.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.lines()
}

/// The settings of a text in the same syntax that includes no other files, such as a maintenance note.
///
/// # Errors
/// A line that breaks the syntax, or includes a file. The message names file and line.
pub fn parse(file: &Path, text: &str) -> Result<Vec<Setting>> {
    let mut reader = Reader::new(&());
    reader.read_lines(file, text, None)?;
    Ok(reader.found)
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
struct Reader<'w> {
    found: Vec<Setting>,
    /// How many files were read.
    files: usize,
    opener: Opener<'w>,
}

impl Reader<'_> {
    fn new(watch: &dyn Watch) -> Reader<'_> {
        Reader { found: Vec::new(), files: 0, opener: Opener::new(watch) }
    }

    fn read(mut self, file: &Path, opened: io::Result<File>, groups: &[&str]) -> Result<Settings> {
        self.read_file(file, opened, 0)?;
        let mut chosen = Settings::default();
        for group in groups {
            for setting in self.found.iter().filter(|setting| setting.group == *group) {
                if setting.key == "password" {
                    chosen.password = setting.value.clone().map(Secret::new);
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
        self.read_lines(path, &text, Some(depth))
    }

    /// `depth` is that of the file; `None` when it may not include others.
    fn read_lines(&mut self, path: &Path, text: &str, depth: Option<usize>) -> Result<()> {
        let name: Rc<Path> = Rc::from(path);
        let mut group: Option<(String, usize)> = None;
        for (index, line) in text.lines().enumerate() {
            let place = Place { file: Rc::clone(&name), line: index + 1 };
            match parse_line(line).with_context(|| place.to_string())? {
                Line::Nothing => {}
                Line::Group(name) => {
                    group = Some((canonical_group(name).with_context(|| place.to_string())?, place.line));
                }
                Line::Setting { key, value } => {
                    let Some((group, header)) = group.clone() else {
                        bail!("{place}: an option before the first [group]");
                    };
                    self.found.push(Setting { group, key: key.replace('_', "-"), value, place, header });
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

    fn include(&mut self, file: &Path, depth: Option<usize>, place: &Place) -> Result<()> {
        let Some(depth) = depth else { bail!("{place}: this file cannot include others") };
        ensure!(depth < DEPTH_MAX, "{place}: more than {DEPTH_MAX} files include each other");
        ensure!(self.files < FILES_MAX, "{place}: more than {FILES_MAX} files are included");
        let opened = self.opener.open(file);
        self.read_file(file, opened, depth + 1).with_context(|| place.to_string())
    }

    /// The `*.cnf` files of a directory that only its owner may write, in alphabetical order.
    fn option_files_in(&mut self, directory: &Path) -> Result<Vec<PathBuf>> {
        let cannot = || format!("cannot read directory {}", directory.display());
        let about = self.opener.open(directory).and_then(|opened| opened.metadata());
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

/// The text of an option file.
fn read_text(opened: io::Result<File>) -> Result<String> {
    let text = String::from_utf8(trusted::read(opened, FILE_MAX)?).ok().context("it is not UTF-8 text")?;
    // Editors on other systems begin a file with a byte order mark.
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

/// A group as we compare it: in lower case, as in the `MySQL` programs, and with `-` for `_`, as in options. `MariaDB`'s
/// programs read `[client-server]` and `[client-mariadb]` as they read `[client]`.
///
/// # Errors
/// A name that looks like a group of ours and is not one: its rules would be lost without a word.
fn canonical_group(name: &str) -> Result<String> {
    let group = name.to_ascii_lowercase().replace('_', "-");
    let ours = || programs().chain([SHARED_GROUP]).chain(OTHER_GROUPS);
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
    ensure!(!key.contains(char::is_whitespace), "a space in an option name: write `option=value`");
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
mod tests;
