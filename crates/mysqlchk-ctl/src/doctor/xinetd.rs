//! The services of xinetd: its files, as xinetd.conf(5) has them, and the process that read them.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::service::{By, Limits, Service, Setting};
use super::{Finding, PORTS, Report, file};
use crate::processes::Process;
use crate::shell::{pattern, quoted, replacement, system};

/// What xinetd reads when nobody names another file.
const DEFAULT_FILE: &str = "/etc/xinetd.conf";
/// Where names have ports.
const NAMES: &str = "/etc/services";

/// Attributes and their values.
type Attributes = HashMap<String, Vec<String>>;

/// Where a service stands, for its cures.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    file: PathBuf,
    name: String,
    /// Attributes that stand in the service itself.
    own: Vec<String>,
    /// The command by which xinetd reads its files again, or is started.
    reload: String,
    /// The process of xinetd, where it runs.
    pub(super) process: Option<u32>,
}

/// A running xinetd.
struct Xinetd {
    process: Process,
    arguments: Vec<String>,
}

/// What all services of a xinetd share.
#[derive(Default)]
struct Host {
    /// The text of `/etc/services`.
    names: String,
    environment: Vec<(String, String)>,
    reload: String,
    process: Option<u32>,
}

/// The services of its files. Where none `is_needed` and it does not run there are none.
pub(super) fn services(is_needed: bool, report: &mut Report) -> Vec<Service> {
    let running = Process::daemon("xinetd").map(|process| Xinetd { arguments: process.arguments(), process });
    let main = running.as_ref().and_then(|xinetd| xinetd.value("-f")).unwrap_or(DEFAULT_FILE);
    if running.is_none() && !is_needed {
        return Vec::new();
    }
    let mut files = Files::default();
    if let Err(why) = files.read(Path::new(main), 0) {
        if running.is_some() {
            report.add(Finding::fail("xinetd", why));
        }
        return Vec::new();
    }
    for why in &files.refused {
        report.add(Finding::fail("xinetd", why));
    }
    let reload = match &running {
        Some(xinetd) => format!("kill -HUP {}", xinetd.process.id),
        None if Path::new("/run/systemd/system").exists() => "systemctl start xinetd".to_owned(),
        None if Path::new("/etc/init.d/xinetd").exists() => "/etc/init.d/xinetd start".to_owned(),
        None => "xinetd".to_owned(),
    };
    let host = Host {
        names: fs::read_to_string(NAMES).unwrap_or_default(),
        environment: running.as_ref().map(|xinetd| xinetd.process.environment()).unwrap_or_default(),
        reload,
        process: running.as_ref().map(|xinetd| xinetd.process.id),
    };
    let mut services = Vec::new();
    for block in &files.services {
        let attributes = files.attributes_of(block);
        let is_on = files.is_on(block, &attributes);
        let Some(service) = service(block, &attributes, is_on, &host) else { continue };
        if !(service.is_ours() || is_on && PORTS.contains(&service.port)) {
            continue;
        }
        if is_on {
            examine(block, &attributes, &host.names, &service, report);
        }
        services.push((service, block.file.clone()));
    }
    let mut on: Vec<&Path> = services.iter().filter(|(service, _)| service.is_on).map(|(_, file)| &**file).collect();
    on.dedup();
    match &running {
        Some(xinetd) => on.iter().for_each(|file| xinetd.examine_age(file, &host.reload, report)),
        None if on.is_empty() => {}
        None => {
            let finding = Finding::fail("xinetd", "it does not run, and has services that are on");
            report.add(finding.cured_by(&host.reload));
        }
    }
    services.into_iter().map(|(service, _)| service).collect()
}

/// The name of a service without `type = UNLISTED` must have a port in `/etc/services`, or xinetd leaves it out.
fn examine(block: &Block, attributes: &Attributes, names: &str, service: &Service, report: &mut Report) {
    let is_unlisted = word(attributes, "type").any(|word| word == "UNLISTED");
    if !is_unlisted && port_of(names, &block.name).is_none() {
        let found = format!("{} is not in {NAMES}, so xinetd does not start it", block.name);
        let finding = Finding::fail(&service.name, found);
        report.add(match &service.by {
            By::Xinetd(entry) => finding.cured_by(entry.set("type", "UNLISTED")),
            By::Systemd(_) => finding,
        });
    }
}

fn service(block: &Block, attributes: &Attributes, is_on: bool, host: &Host) -> Option<Service> {
    let one = |name: &str| word(attributes, name).next().map(str::to_owned);
    let program = PathBuf::from(one("server")?);
    let port = one("port").and_then(|port| port.parse().ok()).or_else(|| port_of(&host.names, &block.name))?;
    // Without `passenv` a service gets all that xinetd has.
    let passes = |name: &str| attributes.get("passenv").is_none_or(|names| names.iter().any(|passed| passed == name));
    let mut environment: Vec<_> = host.environment.iter().filter(|(name, _)| passes(name)).cloned().collect();
    let own = word(attributes, "env").filter_map(|pair| pair.split_once('='));
    environment.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let number = |name: &str| one(name).and_then(|number| number.parse().ok());
    let cps: Vec<u64> = word(attributes, "cps").filter_map(|number| number.parse().ok()).collect();
    // By default 50 a second (xinetd.conf(5), `cps`).
    let rate = cps.first().copied().unwrap_or(50);
    let limits = Limits {
        rate: Some((u32::try_from(rate).unwrap_or(u32::MAX), Duration::from_secs(1))),
        at_once: number("instances"),
        per_source: number("per_source"),
    };
    let entry = Entry {
        file: block.file.clone(),
        name: block.name.clone(),
        own: block.attributes.iter().map(|(name, ..)| name.clone()).collect(),
        reload: host.reload.clone(),
        process: host.process,
    };
    let mut arguments: Vec<String> = word(attributes, "server_args").map(str::to_owned).collect();
    if word(attributes, "flags").any(|flag| flag == "NAMEINARGS") && !arguments.is_empty() {
        // The first is the name that the program sees itself by.
        arguments.remove(0);
    }
    Some(Service {
        name: one("id").unwrap_or_else(|| block.name.clone()),
        by: By::Xinetd(entry),
        is_on,
        program,
        arguments,
        environment,
        user: one("user").unwrap_or_else(|| "root".to_owned()),
        group: one("group"),
        has_all_groups: one("groups").is_some_and(|value| value == "yes"),
        more_groups: Vec::new(),
        ip: one("bind").or_else(|| one("interface")).and_then(|ip| ip.parse().ok()),
        port,
        only_from: word(attributes, "only_from").map(str::to_owned).collect(),
        limits,
    })
}

fn word<'a>(attributes: &'a Attributes, name: &str) -> impl Iterator<Item = &'a str> {
    attributes.get(name).into_iter().flatten().map(String::as_str)
}

/// The TCP port of a name or an alias (services(5)).
fn port_of(names: &str, name: &str) -> Option<u16> {
    names.lines().find_map(|line| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (first, port) = (words.next()?, words.next()?);
        let is_it = first == name || words.any(|alias| alias == name);
        port.strip_suffix("/tcp").filter(|_| is_it)?.parse().ok()
    })
}

/// The name of a setting.
pub(super) fn word_of(setting: Setting) -> &'static str {
    match setting {
        Setting::Program => "server",
        Setting::Arguments => "server_args",
        Setting::Rate => "cps",
        Setting::AtOnce => "instances",
        Setting::PerSource => "per_source",
    }
}

impl Entry {
    /// The command that gives an attribute this value, and lets xinetd see it.
    pub(super) fn set(&self, attribute: &str, value: &str) -> String {
        let value = replacement(value);
        if self.own.iter().any(|own| own == attribute) {
            let name = pattern(attribute);
            self.edit(&format!(r"s/^\([[:blank:]]*{name}[[:blank:]]*\)[+-]\{{0,1\}}=.*/\1= {value}/"))
        } else {
            self.edit(&format!(r"s/^[[:blank:]]*}}/\t{attribute} = {value}\n}}/"))
        }
    }

    pub(super) fn unset(&self, attribute: &str) -> String {
        self.edit(&format!(r"{{/^[[:blank:]]*{}[[:blank:]]*=/d}}", pattern(attribute)))
    }

    /// A command, and then xinetd reads its files again.
    pub(super) fn and_reload(&self, command: &str) -> String {
        format!("{command} && {}", self.reload)
    }

    pub(super) fn reload(&self) -> &str {
        &self.reload
    }

    fn edit(&self, change: &str) -> String {
        let first = format!(r"/^[[:blank:]]*service[[:blank:]]\{{1,\}}{}[[:blank:]]*$/", pattern(&self.name));
        let program = format!("{first},/^[[:blank:]]*}}/{change}");
        self.and_reload(&format!("sed -i {} {}", quoted(&program), quoted(&self.file.display().to_string())))
    }
}

impl Xinetd {
    fn value(&self, option: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter().skip_while(|argument| *argument != option);
        arguments.nth(1).map(String::as_str)
    }

    /// Whether the file was changed after it was read last: at the start, or at the last reload that it wrote down.
    fn examine_age(&self, file: &Path, reload: &str, report: &mut Report) {
        let Some(changed) = fs::metadata(file).ok().map(|about| about.ctime()) else { return };
        let Some(started) = self.process.started() else { return };
        // The start is known to the second before.
        if changed <= started + 1 {
            return;
        }
        let file = file.display();
        let finding = match self.was_reloaded_since(changed) {
            Some(true) => return,
            Some(false) => Finding::fail("xinetd", format!("{file} was changed after xinetd read it")),
            None => Finding::warn(
                "xinetd",
                format!("{file} was changed after xinetd was started, and nothing tells of a reload"),
            ),
        };
        report.add(finding.cured_by(reload));
    }

    /// By its own log, else by the journal; `None` where neither tells.
    fn was_reloaded_since(&self, changed: i64) -> Option<bool> {
        let Some(log) = self.value("-filelog") else {
            let since = |pattern: &str, time: i64| {
                let mut journal = system("journalctl");
                journal.args(["--quiet", "--unit=xinetd", "--lines=1", "--output=cat"]);
                let found = journal.arg(format!("--grep={pattern}")).arg(format!("--since=@{time}")).output().ok()?;
                Some(!found.stdout.is_empty())
            };
            let reloaded = since("Reconfigured", changed)?;
            // A journal that does not know of the start has forgotten more.
            let knows = reloaded || since("Started working", self.process.started()? - 5)?;
            return knows.then_some(reloaded);
        };
        // It writes local time, which `date` knows as well: `26/11/27@21:21:40`. In the hour that summer time repeats, a reload
        // may look older than it is.
        let stamp = system("date").arg(format!("--date=@{changed}")).arg("+%y/%-m/%-d@%H:%M:%S").output().ok()?;
        let log = end_of(Path::new(log))?;
        let last = log.lines().rev().find(|line| line.contains(" NOTICE: Reconfigured:"));
        let last = last.and_then(|line| line.split(' ').next()).map(moment);
        Some(last >= Some(moment(String::from_utf8_lossy(&stamp.stdout).trim())))
    }
}

/// The last part of a log: it may have a line for each check.
fn end_of(log: &Path) -> Option<String> {
    let mut file = file::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(file::MAX))).ok()?;
    let mut bytes = Vec::new();
    file.take(file::MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The numbers of a stamp, to compare it.
fn moment(stamp: &str) -> Vec<u32> {
    stamp.split(['/', '@', ':']).filter_map(|number| number.parse().ok()).collect()
}

/// One block of a file.
#[derive(Debug)]
struct Block {
    file: PathBuf,
    /// Of a service.
    name: String,
    /// Name, operator, values.
    attributes: Vec<(String, char, Vec<String>)>,
}

#[derive(Debug, Default)]
struct Files {
    defaults: Vec<(String, char, Vec<String>)>,
    services: Vec<Block>,
    /// Why files were left out.
    refused: Vec<String>,
}

impl Files {
    /// Reads a file and what it includes, as far as xinetd would.
    fn read(&mut self, file: &Path, depth: u8) -> Result<(), String> {
        for include in self.read_text(file, &file::read(file)?) {
            // One that includes itself ends somewhere; xinetd goes on without a file that it cannot read.
            if depth < 5
                && let Err(why) = self.read(&include, depth + 1)
            {
                self.refused.push(why);
            }
        }
        Ok(())
    }

    /// Reads the text of a file; returns the files that it includes.
    fn read_text(&mut self, file: &Path, text: &str) -> Vec<PathBuf> {
        let mut includes = Vec::new();
        let mut block: Option<Block> = None;
        for line in text.lines().map(str::trim) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (words.as_slice(), &mut block) {
                ([], _) => {}
                ([first, ..], _) if first.starts_with('#') => {}
                (["service", name, ..], None) => {
                    block = Some(Block { file: file.to_owned(), name: (*name).to_owned(), attributes: Vec::new() });
                }
                (["defaults", ..], None) => {
                    block = Some(Block { file: file.to_owned(), name: String::new(), attributes: Vec::new() });
                }
                (["include", path, ..], None) => includes.push(PathBuf::from(path)),
                (["includedir", path, ..], None) => includes.extend(files_of(Path::new(path))),
                (["}", ..], Some(_)) => match block.take() {
                    Some(defaults) if defaults.name.is_empty() => self.defaults = defaults.attributes,
                    Some(service) => self.services.push(service),
                    None => {}
                },
                (_, Some(block)) => block.attributes.extend(assignment(line)),
                _ => {}
            }
        }
        includes
    }

    /// The values in force: those of the defaults, changed by those of the service.
    fn attributes_of(&self, block: &Block) -> Attributes {
        let mut attributes = Attributes::new();
        for (name, operator, values) in self.defaults.iter().chain(&block.attributes) {
            let old = attributes.entry(name.clone()).or_default();
            match operator {
                '+' => old.extend(values.iter().cloned()),
                '-' => old.retain(|value| !values.contains(value)),
                _ => old.clone_from(values),
            }
        }
        attributes
    }

    fn is_on(&self, block: &Block, attributes: &Attributes) -> bool {
        let id = word(attributes, "id").next().unwrap_or(&block.name);
        let list = |name: &str| attributes.get(name).filter(|_| self.defaults.iter().any(|(own, ..)| own == name));
        word(attributes, "disable").next() != Some("yes")
            && !list("disabled").is_some_and(|names| names.iter().any(|name| name == id))
            && list("enabled").is_none_or(|names| names.iter().any(|name| name == id))
    }
}

/// The files of a directory that xinetd reads: none with a dot in its name, none that ends with `~`.
fn files_of(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let is_read = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(".");
        !name.contains('.') && !name.ends_with('~') && path.is_file()
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_read).collect();
    files.sort();
    files
}

fn assignment(line: &str) -> Option<(String, char, Vec<String>)> {
    let (name, values) = line.split_once('=')?;
    let operator = name.trim_end().chars().next_back().filter(|c| "+-".contains(*c)).unwrap_or('=');
    let name = name.trim_end().trim_end_matches(['+', '-']).trim_end().to_owned();
    Some((name, operator, values.split_whitespace().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
defaults
{
\tonly_from = 127.0.0.1
\tinstances = 60
\tdisabled = other
}
includedir /nowhere
service one
{
\t# port = 1
\tport = 9200
\tonly_from += 192.0.2.1 ::1
\tserver = /usr/bin/galera-chk
\tserver_args = --a --b=c
}
service other
{
\tinstances -= 60
}
";

    #[test]
    fn values_of_the_defaults_are_changed_by_those_of_a_service() {
        let mut files = Files::default();
        assert!(files.read_text(Path::new("/etc/xinetd.conf"), TEXT).is_empty());
        let [one, other] = files.services.as_slice() else { panic!("{files:?}") };
        let attributes = files.attributes_of(one);
        assert_eq!(word(&attributes, "only_from").collect::<Vec<_>>(), ["127.0.0.1", "192.0.2.1", "::1"]);
        assert!(files.is_on(one, &attributes) && !files.is_on(other, &files.attributes_of(other)));
        let service = service(one, &attributes, true, &Host::default()).unwrap();
        assert_eq!((service.port, service.limits.at_once, service.limits.per_source), (9200, Some(60), None));
        assert_eq!(service.limits.rate, Some((50, Duration::from_secs(1))));
        assert_eq!(service.arguments, ["--a", "--b=c"]);
        assert_eq!(word(&files.attributes_of(other), "instances").count(), 0);
    }

    #[test]
    fn a_name_has_a_port_under_each_of_its_names() {
        let names = "mysqlchk 9200/tcp chk # status\nmysqlchk 9201/udp\n";
        assert_eq!(port_of(names, "mysqlchk"), Some(9200));
        assert_eq!(port_of(names, "chk"), Some(9200));
        assert_eq!(port_of(names, "status"), None);
    }

    #[test]
    fn stamps_are_compared_as_numbers() {
        assert!(moment("26/11/27@9:21:40") < moment("26/11/27@21:21:40"));
        assert!(moment("26/9/27@21:21:40") < moment("26/11/1@00:00:00"));
    }
}
