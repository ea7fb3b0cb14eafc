//! What a super-server runs on a port: the same for xinetd and systemd.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use check::only_from::{self, OnlyFrom};
use client::{command_line, option_file};

use super::program::Run;
use super::{Finding, Report, systemd, xinetd};

/// A service.
#[derive(Debug, Clone)]
pub(super) struct Service {
    /// As the super-server names it.
    pub(super) name: String,
    pub(super) by: By,
    pub(super) is_on: bool,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) user: String,
    /// Its group; `None` for that of its user.
    pub(super) group: Option<String>,
    /// Whether it has the other groups of its user as well.
    pub(super) has_all_groups: bool,
    /// Groups that it has besides, by name or number.
    pub(super) more_groups: Vec<String>,
    /// The address it listens on; `None` for all.
    pub(super) ip: Option<IpAddr>,
    pub(super) port: u16,
    /// Whom the super-server itself lets in; empty for all.
    pub(super) only_from: Vec<String>,
    pub(super) limits: Limits,
}

/// Who starts it.
#[derive(Debug, Clone)]
pub(super) enum By {
    Xinetd(xinetd::Entry),
    Systemd(systemd::Unit),
}

/// How often and how many at a time; `None` for no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Connections in this time, and then no more for a while or for ever.
    pub(super) rate: Option<(u32, Duration)>,
    pub(super) at_once: Option<u32>,
    pub(super) per_source: Option<u32>,
}

/// What a cure changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Program,
    Arguments,
    Rate,
    AtOnce,
    PerSource,
}

impl Service {
    /// The last part of the path of its program.
    pub(super) fn program_name(&self) -> &str {
        self.program.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Whether both are for the same port of the same address; a service does so with itself.
    pub(super) fn clashes_with(&self, other: &Service) -> bool {
        self.port == other.port && (self.ip == other.ip || self.ip.is_none() || other.ip.is_none())
    }

    /// Whether its super-server lets this address in; `None` where that is not known.
    pub(super) fn lets_in(&self, address: IpAddr) -> Option<bool> {
        admits(&self.only_from, address)
    }

    /// Whether it is the one that answers HAProxy, and not its agent or its metrics.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.strip_suffix(".socket").unwrap_or(&self.name) == name
    }

    pub(super) fn is_ours(&self) -> bool {
        option_file::programs().any(|name| name == self.program_name())
    }

    /// What the word for it is here.
    pub(super) fn word(&self, setting: Setting) -> &'static str {
        match self.by {
            By::Xinetd(_) => xinetd::word_of(setting),
            By::Systemd(_) => systemd::word_of(setting),
        }
    }

    /// The command that gives a setting this value.
    pub(super) fn set(&self, setting: Setting, value: &str) -> String {
        match &self.by {
            By::Xinetd(entry) => entry.set(xinetd::word_of(setting), value),
            By::Systemd(unit) => unit.set(self, setting, value),
        }
    }

    pub(super) fn on(&self) -> String {
        match &self.by {
            By::Xinetd(entry) => entry.set("disable", "no"),
            By::Systemd(unit) => unit.on(),
        }
    }

    pub(super) fn off(&self) -> String {
        match &self.by {
            By::Xinetd(entry) => entry.set("disable", "yes"),
            By::Systemd(unit) => unit.off(),
        }
    }

    /// The command after which its super-server has read its files again, and listens.
    pub(super) fn restart(&self) -> String {
        match &self.by {
            By::Xinetd(entry) => entry.reload().to_owned(),
            By::Systemd(unit) => unit.restart(),
        }
    }

    /// A command after which the super-server has to look again.
    pub(super) fn and_reload(&self, command: &str) -> String {
        match &self.by {
            By::Xinetd(entry) => entry.and_reload(command),
            By::Systemd(_) => command.to_owned(),
        }
    }

    /// The value of an option among its arguments: the last one counts.
    pub(super) fn argument(&self, option: &str) -> Option<String> {
        command_line::value_of(option, &self.arguments)?.into_string().ok()
    }

    /// The command that gives an option this value.
    pub(super) fn set_argument(&self, option: &str, value: &str) -> String {
        let mut kept: Vec<String> = Vec::new();
        let mut arguments = self.arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.strip_prefix(option) {
                Some("") => drop(arguments.next()),
                Some(rest) if rest.starts_with('=') => {}
                _ => kept.push(argument.clone()),
            }
        }
        kept.push(format!("{option}={value}"));
        self.set(Setting::Arguments, &kept.join(" "))
    }

    /// Whether a client of this address may ask.
    pub(super) fn examine_source(&self, address: IpAddr, run: &Run, report: &mut Report) {
        let about = format!("{} for {address}", self.name);
        if self.ip.is_some_and(|ip| ip.is_loopback() && !address.is_loopback()) {
            let ip = self.ip.map(|ip| ip.to_string()).unwrap_or_default();
            report.add(Finding::fail(about, format!("it listens on {ip}, which other hosts cannot reach")).cured_by(
                match &self.by {
                    By::Xinetd(entry) => entry.unset("bind"),
                    By::Systemd(_) => format!("# systemctl edit {}: ListenStream={}", self.name, self.port),
                },
            ));
            return;
        }
        let list = self.only_from.join(" ");
        match self.lets_in(address) {
            Some(true) => {}
            Some(false) => {
                let finding = Finding::fail(about, "only_from does not have it");
                report.add(match &self.by {
                    By::Xinetd(entry) => finding.cured_by(entry.set("only_from", &format!("{list} {address}"))),
                    By::Systemd(_) => finding,
                });
                return;
            }
            None => {
                report.add(Finding::warn(about, format!("only_from is `{list}`: doctor reads addresses alone")));
                return;
            }
        }
        let Some(list) = run.option("--only-from") else {
            report.add(Finding::ok(about, "may ask"));
            return;
        };
        report.add(match only_from::parse(&list) {
            Ok(list) if list.admits(address) => Finding::ok(about, "may ask"),
            Ok(_) if self.argument("--only-from").is_some() => Finding::fail(about, "--only-from does not have it")
                .cured_by(self.set_argument("--only-from", &format!("{list},{address}"))),
            Ok(_) => Finding::fail(about, "only-from in the option file does not have it")
                .cured_by(format!("# write only-from={list},{address} into {}", run.option_file())),
            Err(why) => Finding::fail(about, format!("--only-from {why}")),
        });
    }
}

/// Whether a list of xinetd lets an address in; `None` where it has names or patterns. An empty list lets in all.
fn admits(list: &[String], address: IpAddr) -> Option<bool> {
    if list.is_empty() {
        return Some(true);
    }
    let networks: Option<Vec<OnlyFrom>> = list.iter().map(|word| only_from::parse(&network(word)).ok()).collect();
    // A name may stand for the address, so it is only sure where an address does.
    let known = list.iter().filter_map(|word| only_from::parse(&network(word)).ok());
    if known.into_iter().any(|network| network.admits(address)) {
        return Some(true);
    }
    networks.map(|_| false)
}

/// An IPv4 address of xinetd whose last numbers are 0 is a network (xinetd.conf(5), `only_from`).
fn network(word: &str) -> String {
    let numbers: Vec<&str> = word.split('.').collect();
    let zeros = numbers.iter().rev().take_while(|number| **number == "0").count();
    if numbers.len() == 4 && zeros > 0 { format!("{word}/{}", 32 - 8 * zeros) } else { word.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_only_from_of_xinetd_is_read_as_xinetd_does() {
        for (list, address, expected) in [
            ("", "192.0.2.1", Some(true)),
            ("127.0.0.1 ::1", "::1", Some(true)),
            ("127.0.0.1", "192.0.2.1", Some(false)),
            ("127.0.0.1", "::ffff:127.0.0.1", Some(true)),
            ("192.0.2.0", "192.0.2.9", Some(true)),
            ("192.0.0.0", "192.9.2.9", Some(true)),
            ("192.1.0.0", "192.9.2.9", Some(false)),
            ("192.0.2.0/25", "192.0.2.200", Some(false)),
            ("0.0.0.0", "203.0.113.7", Some(true)),
            ("lb1 192.0.2.10", "192.0.2.10", Some(true)),
            ("lb1 192.0.2.10", "192.0.2.11", None),
        ] {
            let words: Vec<String> = list.split_whitespace().map(str::to_owned).collect();
            assert_eq!(admits(&words, address.parse().unwrap()), expected, "{list}: {address}");
        }
    }
}
