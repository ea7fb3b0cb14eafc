//! The sockets of systemd: what it says of our units, drop-ins included.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::option_file;

use super::service::{By, Limits, Service, Setting};
use super::{Finding, Report, file};
use crate::shell::{self, quoted, system};

/// What is asked of a socket and of an instance of its service.
const PROPERTIES: &str = "Id,LoadState,ActiveState,UnitFileState,Result,NeedDaemonReload,Listen,MaxConnections,\
    MaxConnectionsPerSource,TriggerLimitIntervalUSec,TriggerLimitBurst,ExecStart,User,Group,\
    SupplementaryGroups,DynamicUser,Environment,EnvironmentFiles,MainPID";

type Properties = HashMap<String, String>;

/// The units of a service.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// What listens: a socket, or a service that accepts by itself.
    listens: String,
    /// What answers.
    answers: String,
    /// The words before the program where it accepts by itself; empty otherwise.
    before: String,
    /// The process that listens: that of systemd, or of a service that accepts by itself.
    process: u32,
    /// Whether systemd makes the user (`DynamicUser=`).
    pub(super) has_dynamic_user: bool,
}

pub(super) fn services(report: &mut Report) -> Vec<Service> {
    // systemd is the init of this host (sd_booted(3)).
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let mut services = Vec::new();
    for program in option_file::programs() {
        // Any instance has what the template has.
        let units =
            [format!("{program}.socket"), format!("{program}@doctor.service"), format!("{program}-busy.service")];
        let Some(shown) = show(&units) else {
            report.add(Finding::warn("systemd", "systemctl cannot be run"));
            return services;
        };
        let [socket, instance, busy] =
            units.each_ref().map(|unit| shown.iter().find(|shown| value(shown, "Id") == unit));
        let unit = |listens: &str, answers: &str| Unit {
            listens: listens.to_owned(),
            answers: answers.to_owned(),
            before: String::new(),
            process: 1,
            has_dynamic_user: false,
        };
        if let (Some(socket), Some(instance)) = (is_there(socket), is_there(instance)) {
            let unit = unit(&units[0], &format!("{program}@.service"));
            services.extend(service(unit, socket, instance, report));
        }
        if let Some(busy) = is_there(busy) {
            services.extend(service(unit(&units[2], &units[2]), busy, busy, report));
        }
    }
    services
}

fn is_there(shown: Option<&Properties>) -> Option<&Properties> {
    shown.filter(|shown| value(shown, "LoadState") == "loaded")
}

fn show(units: &[String]) -> Option<Vec<Properties>> {
    let mut show = system("systemctl");
    let done = show.args(["show", "--property", PROPERTIES]).args(units).output().ok()?;
    Some(read(&String::from_utf8_lossy(&done.stdout)))
}

/// Reads what `systemctl show` writes of several units. A property that has several values has a line for each.
fn read(text: &str) -> Vec<Properties> {
    let properties = |text: &str| {
        let mut properties = Properties::new();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let values = properties.entry(name.to_owned()).or_default();
            if !values.is_empty() {
                values.push('\n');
            }
            values.push_str(value);
        }
        properties
    };
    text.split("\n\n").map(properties).collect()
}

fn value<'a>(shown: &'a Properties, name: &str) -> &'a str {
    shown.get(name).map(String::as_str).unwrap_or_default()
}

fn service(mut unit: Unit, socket: &Properties, instance: &Properties, report: &mut Report) -> Option<Service> {
    let is_enabled = value(socket, "UnitFileState") == "enabled";
    let state = value(socket, "ActiveState");
    let is_on = is_enabled || state == "active" || state == "failed";
    if is_on {
        examine(&unit, (is_enabled, state), [socket, instance], report);
    }
    let mut words = argv(value(instance, "ExecStart"));
    unit.has_dynamic_user = value(instance, "DynamicUser") == "yes";
    let mut listen = value(socket, "Listen").to_owned();
    if let Some(at) = words.iter().position(|word| word == "--inetd") {
        // `systemd-socket-activate --listen=9200 --accept --inetd PROGRAM ...`
        let own: Vec<String> = words.drain(..=at).collect();
        unit.before = own.join(" ") + " ";
        unit.process = value(instance, "MainPID").parse().unwrap_or(0);
        listen = own.into_iter().find_map(|word| word.strip_prefix("--listen=").map(str::to_owned)).unwrap_or_default();
    }
    let mut words = words.into_iter();
    let program = PathBuf::from(words.next()?);
    let (ip, port) = address(&listen)?;
    let mut environment = pairs(shell::words(value(instance, "Environment"), None));
    for file in value(instance, "EnvironmentFiles").lines().filter(|_| is_on) {
        match of_file(&unit, file) {
            Ok(more) => environment.extend(more),
            Err(finding) => report.add(finding),
        }
    }
    Some(Service {
        name: unit.listens.clone(),
        by: By::Systemd(unit),
        is_on,
        program,
        arguments: words.flat_map(|word| expanded(&word, &environment)).collect(),
        environment,
        user: Some(value(instance, "User")).filter(|user| !user.is_empty()).unwrap_or("root").to_owned(),
        group: Some(value(instance, "Group")).filter(|group| !group.is_empty()).map(str::to_owned),
        has_all_groups: true,
        more_groups: value(instance, "SupplementaryGroups").split_whitespace().map(str::to_owned).collect(),
        ip,
        port,
        only_from: Vec::new(),
        limits: limits(socket),
    })
}

/// What goes wrong with units themselves.
fn examine(unit: &Unit, (is_enabled, state): (bool, &str), shown: [&Properties; 2], report: &mut Report) {
    let listens = &unit.listens;
    if state == "failed" {
        let found = format!("it has failed ({}), and nobody listens", value(shown[0], "Result"));
        let cure = format!("systemctl reset-failed {listens} && systemctl start {listens}");
        report.add(Finding::fail(listens, found).cured_by(cure));
    } else if state != "active" {
        report.add(
            Finding::fail(listens, "it is enabled and not started").cured_by(format!("systemctl start {listens}")),
        );
    } else if !is_enabled {
        let found = "it is started and not enabled: it is gone after a reboot";
        report.add(Finding::warn(listens, found).cured_by(format!("systemctl enable {listens}")));
    }
    if shown.iter().any(|shown| value(shown, "NeedDaemonReload") == "yes") {
        let cure = format!("systemctl daemon-reload && systemctl restart {listens}");
        report.add(Finding::fail(listens, "a unit was changed after systemd read it").cured_by(cure));
    }
    let instances = unit.answers.replace("@.", "@*.");
    if instances != unit.answers
        && let failed @ 1.. = failed(&instances)
    {
        let found = format!("{failed} failed instances are kept: without CollectMode=inactive-or-failed they pile up");
        let collect = drop_in(
            &unit.answers,
            "collectmode",
            "[Unit]
CollectMode=inactive-or-failed
",
        );
        report
            .add(Finding::warn(listens, found).cured_by(format!("{collect} && systemctl reset-failed '{instances}'")));
    }
}

fn failed(instances: &str) -> usize {
    let mut list = system("systemctl");
    list.args(["list-units", "--all", "--no-legend", "--plain", "--state=failed", instances]);
    list.output().map_or(0, |done| String::from_utf8_lossy(&done.stdout).lines().count())
}

/// The words of a command, from `{ path=... ; argv[]=... ; ignore_errors=no ; ... }`. systemd does not show its quotes.
fn argv(shown: &str) -> Vec<String> {
    let words = shown.split_once("argv[]=").and_then(|(_, rest)| rest.split(" ; ").next()).unwrap_or_default();
    words.split_whitespace().map(str::to_owned).collect()
}

fn pairs(words: Vec<String>) -> Vec<(String, String)> {
    let pair = |word: String| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    words.into_iter().filter_map(pair).collect()
}

/// What an `EnvironmentFile=` sets, shown as `/etc/default/mysqlchk (ignore_errors=no)`.
fn of_file(unit: &Unit, shown: &str) -> Result<Vec<(String, String)>, Finding> {
    let (path, how) = shown.rsplit_once(" (").unwrap_or((shown, ""));
    let file = Path::new(path);
    if path.contains(['*', '?', '[']) {
        let found = format!("EnvironmentFile {path} is a pattern: the doctor does not read it");
        return Err(Finding::warn(&unit.listens, found));
    }
    if !file.exists() {
        if how.contains("ignore_errors=yes") {
            return Ok(Vec::new());
        }
        let found = format!("its EnvironmentFile {path} is missing, and without it no check is started");
        let cure = format!("# install -m 644 /dev/null {}", quoted(path));
        return Err(Finding::fail(&unit.listens, found).cured_by(cure));
    }
    let text = file::read(file).map_err(|why| Finding::warn(&unit.listens, format!("EnvironmentFile: {why}")))?;
    assignments(&text).ok_or_else(|| {
        let found = format!("EnvironmentFile {path} has more than plain lines NAME=VALUE: the doctor does not read it");
        Finding::warn(&unit.listens, found)
    })
}

/// Reads `NAME=VALUE` and `NAME="VALUE"` (systemd.exec(5), `EnvironmentFile`); `None` where there is more to it.
fn assignments(text: &str) -> Option<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        let is_quoted = |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
        let value = if is_quoted('"') || is_quoted('\'') { value.get(1..value.len() - 1)? } else { value.trim() };
        (!value.contains(['\\', '"', '\''])).then(|| (name.trim().to_owned(), value.to_owned()))
    };
    lines.map(pair).collect()
}

/// An argument with its variables: `$NAME` is as many words as its value has, `${NAME}` is a part of one, `$$` a dollar
/// (systemd.service(5), COMMAND LINES). Of several settings the last one counts; one that is not set is empty.
fn expanded(word: &str, environment: &[(String, String)]) -> Vec<String> {
    let last = |name: &str| environment.iter().rfind(|(own, _)| own == name);
    let known = |name: &str| last(name).map(|(_, value)| value.as_str()).unwrap_or_default();
    if let Some(name) = word.strip_prefix('$').filter(|name| !name.starts_with(['$', '{'])) {
        return known(name).split_whitespace().map(str::to_owned).collect();
    }
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        text += before;
        let variable = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let value = variable.map_or("$", |(name, _)| known(name));
        text += value;
        rest = variable.map_or(after.strip_prefix('$').unwrap_or(after), |(_, after)| after);
    }
    vec![text + rest]
}

/// `[::]:9200 (Stream)`, `127.0.0.1:9200 (Stream)`, or `9200` of a command.
fn address(listen: &str) -> Option<(Option<std::net::IpAddr>, u16)> {
    let place = listen.split(' ').next().unwrap_or_default();
    if let Ok(port) = place.parse() {
        return Some((None, port));
    }
    let address: SocketAddr = place.parse().ok()?;
    Some((Some(address.ip()).filter(|ip| !ip.is_unspecified()), address.port()))
}

fn limits(socket: &Properties) -> Limits {
    let number = |name: &str| value(socket, name).parse().ok().filter(|number| *number > 0);
    let interval = span(value(socket, "TriggerLimitIntervalUSec"));
    Limits {
        rate: interval.and_then(|interval| Some((number("TriggerLimitBurst")?, interval))),
        at_once: number("MaxConnections"),
        per_source: number("MaxConnectionsPerSource"),
    }
}

/// A span as systemd shows it, such as `2s` or `1min 30s`; `None` for none or an endless one.
fn span(shown: &str) -> Option<Duration> {
    let parts = shown.split(' ').map(|part| {
        let at = part.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, unit) = part.split_at(at);
        let unit = match unit {
            "us" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "min" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return None,
        };
        unit.checked_mul(number.parse().ok()?)
    });
    let spans: Option<Vec<Duration>> = parts.collect();
    Some(spans?.into_iter().sum()).filter(|span: &Duration| !span.is_zero())
}

pub(super) fn word_of(setting: Setting) -> &'static str {
    match setting {
        Setting::Program | Setting::Arguments => "ExecStart",
        Setting::Rate => "TriggerLimitIntervalSec",
        Setting::AtOnce => "MaxConnections",
        Setting::PerSource => "MaxConnectionsPerSource",
    }
}

impl Unit {
    /// The process that listens.
    pub(super) fn process(&self) -> u32 {
        self.process
    }

    pub(super) fn restart(&self) -> String {
        format!("systemctl restart {}", self.listens)
    }

    /// The command that gives it a user that is there, instead of one that systemd makes for each connection.
    pub(super) fn static_user(&self) -> String {
        let made = drop_in(&self.answers, "user", "[Service]\nDynamicUser=no\nUser=mysqlchk\n");
        format!("{made} && {}", self.restart())
    }

    pub(super) fn on(&self) -> String {
        format!("systemctl enable --now {}", self.listens)
    }

    pub(super) fn off(&self) -> String {
        format!("systemctl disable --now {}", self.listens)
    }

    /// The command that makes a drop-in with this value.
    pub(super) fn set(&self, service: &Service, setting: Setting, value: &str) -> String {
        let word = word_of(setting);
        let program = service.program.display();
        let (unit, lines) = match setting {
            Setting::Program => (
                &self.answers,
                format!("[Service]\nExecStart=\nExecStart={}{value} {}\n", self.before, service.arguments.join(" ")),
            ),
            Setting::Arguments => {
                (&self.answers, format!("[Service]\nExecStart=\nExecStart={}{program} {value}\n", self.before))
            }
            _ => (&self.listens, format!("[Socket]\n{word}={value}\n")),
        };
        let made = drop_in(unit, &word.trim_start_matches('-').to_lowercase(), &lines);
        format!("{made} && systemctl restart {}", self.listens)
    }
}

/// The command that adds a file to a unit, and lets systemd see it. Of several files the last one counts.
fn drop_in(unit: &str, name: &str, lines: &str) -> String {
    let directory = quoted(&format!("/etc/systemd/system/{unit}.d"));
    let lines = quoted(&lines.replace('\\', r"\\").replace('%', "%%").replace('\n', r"\n"));
    format!("mkdir -p {directory} && printf {lines} > {directory}/zz-doctor-{name}.conf && systemctl daemon-reload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_read() {
        let text = "Id=a.socket\nListen=[::]:9200 (Stream)\nTriggerLimitIntervalUSec=2s\nTriggerLimitBurst=200\n\
            MaxConnections=64\n\nId=b@doctor.service\nExecStart={ path=/usr/bin/b ; argv[]=/usr/bin/b --x=1 -y ; \
            ignore_errors=no ; start_time=[n/a] }\n";
        let shown = read(text);
        assert_eq!(value(&shown[1], "Id"), "b@doctor.service");
        assert_eq!(argv(value(&shown[1], "ExecStart")), ["/usr/bin/b", "--x=1", "-y"]);
        assert_eq!(address(value(&shown[0], "Listen")), Some((None, 9200)));
        let limits = limits(&shown[0]);
        assert_eq!(limits.rate, Some((200, Duration::from_secs(2))));
        assert_eq!((limits.at_once, limits.per_source), (Some(64), None));
    }

    #[test]
    fn an_environment_file_is_read_where_it_is_plain() {
        let text = "# a comment\n\n; another\nA=1\n B = two words \nC=\"x y\"\nD=''\n";
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let expected = [("A", "1"), ("B", "two words"), ("C", "x y"), ("D", "")].map(pair);
        assert_eq!(assignments(text), Some(expected.to_vec()));
        for text in ["A", "A=a\\\nb", "A=\"b\" c", "A='b"] {
            assert_eq!(assignments(text), None, "{text}");
        }
    }

    #[test]
    fn a_variable_is_as_many_words_as_it_has_or_a_part_of_one() {
        let variables =
            [("OPTIONS", "--lag=5s  --x"), ("N", "7")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (word, expected) in [
            ("--plain", &["--plain"][..]),
            ("$OPTIONS", &["--lag=5s", "--x"]),
            ("$NOTHING", &[]),
            ("--a=${N}${NOTHING}b", &["--a=7b"]),
            ("${OPTIONS}", &["--lag=5s  --x"]),
            ("a$$b", &["a$b"]),
            ("${N", &["${N"]),
        ] {
            assert_eq!(expanded(word, &variables), expected, "{word}");
        }
    }

    #[test]
    fn a_span_without_length_is_no_limit() {
        for (shown, seconds) in [("2s", Some(2)), ("1min 30s", Some(90)), ("0", None), ("infinity", None), ("", None)] {
            assert_eq!(span(shown), seconds.map(Duration::from_secs), "{shown}");
        }
    }
}
