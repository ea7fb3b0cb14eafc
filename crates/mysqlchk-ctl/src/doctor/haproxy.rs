//! A configuration of HAProxy: the lines that concern the checks, and nothing else. `haproxy -c` is what parses it.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use client::duration;

use super::{Finding, Report};
use crate::shell::{self, pattern, quoted, replacement};

/// A configuration is a few hundred lines; the bound is for anything else.
const FILE_MAX: u64 = 4 * 1024 * 1024;
/// Where a MySQL server listens: a check of HAProxy that goes there is not one of ours.
const MYSQL_PORT: u16 = 3306;
/// The default of `inter` (HAProxy's configuration manual, section 5.2).
const DEFAULT_INTER: Duration = Duration::from_secs(2);

/// Words of 2009 that stop a modern HAProxy (measured on 2.6 and 3.2), and what they are now; `None` for nothing.
const WORDS_OF_2009: [(&str, Option<&str>); 6] = [
    ("contimeout", Some("timeout connect")),
    ("clitimeout", Some("timeout client")),
    ("srvtimeout", Some("timeout server")),
    ("redispatch", Some("option redispatch")),
    ("nbproc", None),
    ("debug", None),
];

/// A configuration.
#[derive(Debug)]
pub(super) struct Configuration {
    file: PathBuf,
    sections: Vec<Section>,
}

/// `defaults`, `backend NAME` ...
#[derive(Debug)]
struct Section {
    kind: String,
    name: String,
    head: Line,
    /// The section of defaults that it has its own from.
    defaults: Option<usize>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    words: Vec<String>,
}

/// Reads a configuration.
///
/// # Errors
/// A file that cannot be read, or is no text.
pub(super) fn read(file: &Path) -> Result<Configuration> {
    let cannot = || format!("cannot read {}", file.display());
    let mut text = String::new();
    let opened = File::open(file).with_context(cannot)?;
    opened.take(FILE_MAX + 1).read_to_string(&mut text).with_context(cannot)?;
    ensure!(text.len() as u64 <= FILE_MAX, "{} is larger than {} MiB", file.display(), FILE_MAX / 1024 / 1024);
    Ok(Configuration { file: file.to_owned(), sections: sections(&text) })
}

fn sections(text: &str) -> Vec<Section> {
    const KINDS: [&str; 12] = [
        "global",
        "defaults",
        "frontend",
        "backend",
        "listen",
        "peers",
        "resolvers",
        "userlist",
        "cache",
        "program",
        "mailers",
        "ring",
    ];
    let mut sections: Vec<Section> = Vec::new();
    let mut variables = HashMap::new();
    let mut defaults = None;
    for (index, line) in text.lines().enumerate() {
        let words = words(line, &variables);
        let line = Line { number: index + 1, words };
        let word = |at: usize| line.words.get(at).cloned().unwrap_or_default();
        if let ("presetenv" | "setenv", name) = (word(0).as_str(), word(1)) {
            variables.insert(name, word(2));
        }
        if KINDS.contains(&word(0).as_str()) {
            let from = line.words.iter().skip_while(|word| *word != "from").nth(1);
            let named =
                from.and_then(|name| sections.iter().rposition(|own| own.kind == "defaults" && own.name == *name));
            if word(0) == "defaults" {
                defaults = Some(sections.len());
            }
            let defaults = named.or(defaults).filter(|_| word(0) != "defaults");
            sections.push(Section { kind: word(0), name: word(1), head: line, defaults, lines: Vec::new() });
        } else if let Some(section) = sections.last_mut().filter(|_| !line.words.is_empty()) {
            section.lines.push(line);
        }
    }
    sections
}

/// The words of a line, `${NAME}` replaced where the name is known.
fn words(line: &str, variables: &HashMap<String, String>) -> Vec<String> {
    let known = |mut word: String| {
        for (name, value) in variables {
            word = word.replace(&format!("${{{name}}}"), value);
        }
        word
    };
    shell::words(line, Some('#')).into_iter().map(known).collect()
}

/// A server, and what it is checked by.
struct Server<'a> {
    line: &'a Line,
    /// Words of the line, after those of the `default-server` lines that hold for it.
    words: Vec<&'a str>,
}

impl<'a> Server<'a> {
    fn name(&self) -> &'a str {
        self.line.words.get(1).map(String::as_str).unwrap_or_default()
    }

    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    fn value(&self, word: &str) -> Option<&'a str> {
        self.words
            .iter()
            .rev()
            .zip(self.words.iter().rev().skip(1))
            .find(|(_, name)| **name == word)
            .map(|(value, _)| *value)
    }

    /// The port of its address.
    fn own_port(&self) -> Option<u16> {
        self.line.words.get(2)?.rsplit_once(':')?.1.parse().ok()
    }

    /// The port that its check goes to; `None` where it is not checked, or that is not known.
    fn checked_port(&self) -> Option<u16> {
        let own = || self.own_port().filter(|_| self.value("addr").is_none());
        self.has("check").then(|| self.value("port").map_or_else(own, |port| port.parse().ok()))?
    }
}

impl Configuration {
    /// Tests the lines that concern checks on these ports, each with the budget of the check.
    pub(super) fn examine(&self, services: &[(u16, Duration)], report: &mut Report) {
        let mut findings = Vec::new();
        for section in &self.sections {
            self.examine_words(section, &mut findings);
            for server in self.servers(section) {
                self.examine_server(section, &server, services, &mut findings);
            }
            self.examine_stick(section, &mut findings);
        }
        if findings.is_empty() {
            findings.push(Finding::ok(self.file.display().to_string(), "its lines about the checks are right"));
        }
        for finding in findings {
            report.add(finding);
        }
    }

    fn examine_words(&self, section: &Section, findings: &mut Vec<Finding>) {
        for line in &section.lines {
            let first = line.words.first().map(String::as_str).unwrap_or_default();
            let Some((old, new)) = WORDS_OF_2009.iter().find(|(old, _)| *old == first) else { continue };
            let found = format!("`{old}` stops HAProxy since 2.6");
            findings.push(Finding::fail(self.place(line), found).cured_by(match new {
                Some(new) => self.edit(line, &format!("s/{old}/{new}/")),
                None => self.edit(line, "d"),
            }));
        }
        let address = section.head.words.get(2).filter(|word| section.kind == "listen" && word.contains(':'));
        if let Some(address) = address {
            let found = format!("the address behind `listen {}` stops HAProxy since 2.6", section.name);
            let change = format!(r"s/[[:blank:]]\{{1,\}}{}/\n    bind {}/", pattern(address), replacement(address));
            findings.push(Finding::fail(self.place(&section.head), found).cured_by(self.edit(&section.head, &change)));
        }
    }

    fn examine_server(
        &self,
        section: &Section,
        server: &Server,
        services: &[(u16, Duration)],
        findings: &mut Vec<Finding>,
    ) {
        let name = format!("{}/{}", section.name, server.name());
        let is_http = self.has(section, &["option", "httpchk"]);
        let connects_elsewhere = self.has(section, &["http-check", "connect"]);
        let port = server.checked_port();
        if let Some((port, budget)) = services.iter().find(|(service, _)| port == Some(*service)) {
            if is_http {
                findings.extend(self.examine_patience(section, server, &name, *budget));
            } else {
                let found = format!("{name} is checked on port {port} without `option httpchk`: whoever accepts is up");
                let cure = self.edit(&section.head, r"s/$/\n    option httpchk GET \//");
                findings.push(Finding::fail(self.place(server.line), found).cured_by(cure));
            }
        } else if is_http && port == Some(MYSQL_PORT) && !connects_elsewhere {
            let found = format!("{name} is asked on {MYSQL_PORT}, which is the server itself and knows no HTTP");
            let change = "s/$/ port 9200/";
            findings.push(Finding::fail(self.place(server.line), found).cured_by(self.edit(server.line, change)));
        }
        if server.has("agent-check") && server.value("weight").is_none() {
            let found = format!("{name} has `agent-check` and no weight: a percentage of 1 is 1 or 0");
            let cure = self.edit(server.line, "s/$/ weight 100/");
            findings.push(Finding::warn(self.place(server.line), found).cured_by(cure));
        }
        let tracked = server.value("track").map(|track| track.split_once('/').unwrap_or((&section.name, track)));
        let tracked = tracked.and_then(|(proxy, _)| {
            self.sections.iter().find(|own| own.name == proxy && ["backend", "listen"].contains(&own.kind.as_str()))
        });
        if let Some(tracked) = tracked {
            let drains = |section| self.has(section, &["http-check", "disable-on-404"]);
            let lacking = match (drains(section), drains(tracked)) {
                (true, false) => tracked,
                (false, true) => section,
                _ => return,
            };
            let found = format!(
                "{name} tracks a server of {}, and {} has no `http-check disable-on-404`",
                tracked.name, lacking.name
            );
            let cure = self.edit(&lacking.head, r"s/$/\n    http-check disable-on-404/");
            findings.push(Finding::fail(self.place(server.line), found).cured_by(cure));
        }
    }

    /// Whether HAProxy waits for the answer of a server that hangs.
    fn examine_patience(&self, section: &Section, server: &Server, name: &str, budget: Duration) -> Option<Finding> {
        let inter = server.value("inter").map_or(Some(DEFAULT_INTER), time)?;
        let own = self.lines(section).filter(|line| begins(line, &["timeout", "check"])).last();
        let patience = own.and_then(|line| time(line.words.get(2)?));
        if patience.unwrap_or(inter) >= budget {
            return None;
        }
        let wait = duration::show(patience.unwrap_or(inter));
        let found = format!(
            "{name} waits {wait}, --timeout is {}: a server that hangs is down without a reason",
            duration::show(budget)
        );
        let longer = duration::show(budget + Duration::from_millis(100));
        let cure = match own {
            Some(line) => {
                self.edit(line, &format!(r"s/\(timeout[[:blank:]]*check[[:blank:]]*\)[^[:blank:]]*/\1{longer}/"))
            }
            None => self.edit(&section.head, &format!(r"s/$/\n    timeout check {longer}/")),
        };
        Some(Finding::warn(self.place(server.line), found).cured_by(cure))
    }

    /// A stick table sends new sessions to a server that a 404 has drained.
    fn examine_stick(&self, section: &Section, findings: &mut Vec<Finding>) {
        let sticks = |line: &Line| ["on", "match"].iter().any(|word| begins(line, &["stick", word]));
        let drains = |line: &&Line| begins(line, &["http-check", "disable-on-404"]);
        if !section.lines.iter().any(sticks) {
            return;
        }
        let Some(line) = self.lines(section).find(drains) else { return };
        let found = format!(
            "{} has a stick table and `disable-on-404`: a drained server keeps getting new sessions",
            section.name
        );
        let is_own = section.lines.iter().any(|own| own.number == line.number);
        findings.push(Finding::fail(self.place(line), found).cured_by(if is_own {
            self.edit(line, "d")
        } else {
            format!("# move `http-check disable-on-404` from line {} to the proxies without a stick table", line.number)
        }));
    }

    /// The lines that hold for a section: those of its defaults first.
    fn lines<'a>(&'a self, section: &'a Section) -> impl Iterator<Item = &'a Line> {
        let defaults = section.defaults.and_then(|at| self.sections.get(at));
        defaults.into_iter().flat_map(|defaults| &defaults.lines).chain(&section.lines)
    }

    fn has(&self, section: &Section, words: &[&str]) -> bool {
        self.lines(section).any(|line| begins(line, words))
    }

    fn servers<'a>(&'a self, section: &'a Section) -> Vec<Server<'a>> {
        let mut servers = Vec::new();
        let mut defaults: Vec<&str> = Vec::new();
        for line in self.lines(section) {
            let words = || line.words.iter().map(String::as_str);
            match line.words.first().map(String::as_str) {
                Some("default-server") => defaults.extend(words().skip(1)),
                Some("server") => {
                    servers.push(Server { line, words: defaults.iter().copied().chain(words().skip(3)).collect() });
                }
                _ => {}
            }
        }
        servers
    }

    fn place(&self, line: &Line) -> String {
        format!("{}:{}", self.file.display(), line.number)
    }

    /// The command that changes a line, where it still begins with the same word: another cure may have moved it.
    fn edit(&self, line: &Line, change: &str) -> String {
        let first = pattern(line.words.first().map(String::as_str).unwrap_or_default());
        let program = format!("{}{{/^[[:blank:]]*{first}/{change}}}", line.number);
        format!("sed -i {} {}", quoted(&program), quoted(&self.file.display().to_string()))
    }
}

fn begins(line: &Line, words: &[&str]) -> bool {
    line.words.iter().zip(words).filter(|(own, word)| own == word).count() == words.len()
}

/// A time as HAProxy writes it: milliseconds unless a unit says otherwise.
fn time(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let unit = match unit {
        "us" => Duration::from_micros(1),
        "" | "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        "d" => Duration::from_secs(24 * 3600),
        _ => return None,
    };
    unit.checked_mul(number.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    /// What is found in a configuration, and where.
    fn found(text: &str) -> Vec<(Level, String)> {
        let configuration = Configuration { file: "f".into(), sections: sections(text) };
        let mut report = Report { form: crate::options::Form::Json, findings: Vec::new() };
        configuration.examine(&[(9201, Duration::from_millis(900))], &mut report);
        report.findings.into_iter().map(|finding| (finding.level, finding.about)).collect()
    }

    const GOOD: &str = "\
global
    presetenv PORT 9201
defaults
    option httpchk GET /   # the check
    timeout check 1s
    default-server inter 1s
backend a
    server one 192.0.2.1:3306 check port \"${PORT}\"
";

    #[test]
    fn what_is_right_is_not_named() {
        assert_eq!(found(GOOD), [(Level::Ok, "f".to_owned())]);
        // Another service, that is no business of ours.
        assert_eq!(
            found("backend web\n option httpchk\n server w 192.0.2.9:80 check inter 10\n"),
            [(Level::Ok, "f".to_owned())]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (from, to, level, line) in [
            ("option httpchk GET /", "option tcp-check", Level::Fail, 8),
            (" check port \"${PORT}\"", " check", Level::Fail, 8),
            ("timeout check 1s", "timeout check 500", Level::Warn, 8),
            ("    timeout check 1s\n", "    default-server inter 500ms\n    default-server port 9201\n", Level::Ok, 0),
            ("inter 1s\n", "inter 1s\n    redispatch\n", Level::Fail, 7),
            ("backend a\n", "listen a 127.0.0.1:3306\n", Level::Fail, 7),
            ("backend a\n", "backend a\n    stick on src\n    http-check disable-on-404\n", Level::Fail, 9),
            (" check port", " agent-check check port", Level::Warn, 8),
            (
                "backend a\n",
                "backend b\n    http-check disable-on-404\n    server x 192.0.2.1:3306 track a/one\nbackend a\n",
                Level::Fail,
                9,
            ),
        ] {
            let about = if line == 0 { "f".to_owned() } else { format!("f:{line}") };
            assert_eq!(found(&GOOD.replace(from, to)), [(level, about)], "{to}");
        }
        let hasty = GOOD.replace("timeout check 1s", "").replace("inter 1s", "inter 500ms");
        assert_eq!(found(&hasty), [(Level::Warn, "f:8".to_owned())]);
    }

    #[test]
    fn words_are_those_of_haproxy() {
        let variables = HashMap::from([("A".to_owned(), "x".to_owned())]);
        assert_eq!(words(r#" a "b c" d\ e '#f' ${A}:1 # g"#, &variables), ["a", "b c", "d e", "#f", "x:1"]);
        assert_eq!(time("500"), Some(Duration::from_millis(500)));
        assert_eq!(time("1m"), Some(Duration::from_secs(60)));
    }
}
