//! Finds out why a check is down, or will be. Each test is a [`Finding`]; nothing is changed.

mod file;
mod haproxy;
mod limits;
mod note;
mod port;
mod program;
mod reason;
mod service;
mod systemd;
mod xinetd;

use std::fmt;

use anyhow::Result;
use check::DEFAULT_BUDGET;
use client::option_file;
use serde_json::{Value, json};

use crate::galera;
use crate::options::{Doctor, Form};
use crate::say;
use crate::shell::plain;
use crate::store::Store;
use program::Run;
use service::Service;

/// The ports that HAProxy asks on, unless somebody has chosen others: also of the checks that we replace.
const PORTS: [u16; 2] = [9200, 9201];
/// The longest text of what was found, in characters.
const FOUND_MAX: usize = 300;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// The check is right, but somebody should know this.
    Warn,
    /// The check is down or cannot be asked, or HAProxy takes it wrong.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        })
    }
}

/// What one test found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// The thing: a service, a port, a file.
    pub(crate) about: String,
    pub(crate) found: String,
    /// The shell command that cures it. One that begins with `#` is for a person to think about.
    pub(crate) cure: Option<String>,
}

impl Finding {
    fn new(level: Level, about: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { level, about: about.into(), found: found.into(), cure: None }
    }

    pub(crate) fn ok(about: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(Level::Ok, about, found)
    }

    pub(crate) fn warn(about: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(Level::Warn, about, found)
    }

    pub(crate) fn fail(about: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding::new(Level::Fail, about, found)
    }

    pub(crate) fn cured_by(self, command: impl Into<String>) -> Finding {
        Finding { cure: Some(command.into()), ..self }
    }
}

/// What was found so far.
pub(crate) struct Report {
    form: Form,
    findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn add(&mut self, mut finding: Finding) {
        // Names of processes and answers of strangers are in it.
        finding.about = plain(&finding.about);
        finding.found = plain(&finding.found).chars().take(FOUND_MAX).collect();
        finding.cure = finding.cure.map(|cure| plain(&cure));
        if self.form == Form::Text {
            // At once: the next test may take a second.
            say(format!("{:4}  {}: {}", finding.level, finding.about, finding.found));
            if let Some(cure) = &finding.cure {
                say(format!("      {cure}"));
            }
        }
        self.findings.push(finding);
    }

    fn end(self) -> bool {
        if self.form == Form::Json {
            let level = |level: Level| level.to_string().to_lowercase();
            let shown = self.findings.iter().map(|finding| {
                json!({"level": level(finding.level), "about": finding.about, "found": finding.found, "cure": finding.cure})
            });
            say(json!({ "findings": shown.collect::<Vec<Value>>() }));
        }
        !self.findings.iter().any(|finding| finding.level == Level::Fail)
    }
}

/// Tests everything, and shows what was found; whether nothing is wrong.
///
/// # Errors
/// A file of HAProxy that cannot be read.
pub(crate) fn examine(options: &Doctor, store: &Store) -> Result<bool> {
    let configuration = options.haproxy.as_deref().map(haproxy::read).transpose()?;
    let mut report = Report { form: options.format, findings: Vec::new() };
    if !rustix::process::geteuid().is_root() {
        report.add(
            Finding::warn("doctor", "not root: the checks are run as you, and much cannot be seen")
                .cured_by("sudo mysqlchk-ctl doctor"),
        );
    }
    let has_note = note::examine(store, &mut report);
    let services = services(options, &mut report);
    let on: Vec<&Service> = services.iter().filter(|service| service.is_on).collect();
    let mut budgets = Vec::new();
    for service in &on {
        if service.is_ours() {
            let is_alone = on.iter().filter(|other| other.clashes_with(service)).count() == 1;
            let run = examine_service(service, is_alone, has_note, options, &mut report);
            budgets.push((service.port, run.map_or(DEFAULT_BUDGET, |run| run.budget)));
        } else {
            old(service, &mut report);
        }
    }
    clashes(&on, &mut report);
    if let Some(configuration) = &configuration {
        // A load balancer has no checks of its own.
        let usual = PORTS.map(|port| (port, DEFAULT_BUDGET));
        configuration.examine(if budgets.is_empty() { &usual } else { &budgets }, &mut report);
    }
    Ok(report.end())
}

/// The services that are ours, and those that stand on a port of ours.
fn services(options: &Doctor, report: &mut Report) -> Vec<Service> {
    let mut services = systemd::services(report);
    // Files of a xinetd that does not run are of no use where systemd has the ports.
    let is_needed = !services.iter().any(|service| service.is_on);
    services.extend(xinetd::services(is_needed, report));
    let is_asked = |service: &Service| options.only.as_deref().is_none_or(|only| service.program_name() == only);
    services.retain(|service| !service.is_ours() || is_asked(service));
    let is_on = |service: &Service| service.is_on && service.is_ours();
    if services.iter().any(is_on) {
        return services;
    }
    let what = options.only.as_deref().unwrap_or("no check");
    // Not its agent, nor its metrics.
    let named = |name: &str| services.iter().find(|own| own.program_name() == name && own.is_named(name));
    let fit = match options.only.as_deref() {
        Some(only) => named(only),
        None if galera::is_node() == Some(true) => named("galera-chk"),
        None => option_file::programs().find_map(named),
    };
    let finding = match fit {
        Some(service) if options.only.is_some() => Finding::fail(what, "is off").cured_by(service.on()),
        Some(service) => Finding::fail("services", "no check is on").cured_by(service.on()),
        None if options.haproxy.is_some() => Finding::ok("services", "no check is installed here"),
        None => Finding::fail("services", format!("{what}: neither xinetd nor systemd has a service for it"))
            .cured_by("# install the package, or run `make install`: see docs/install.md"),
    };
    report.add(finding);
    services
}

/// A service that is on, and what it runs; `None` where that cannot be run.
fn examine_service(
    service: &Service,
    is_alone: bool,
    has_note: bool,
    options: &Doctor,
    report: &mut Report,
) -> Option<Run> {
    let run = program::examine(service, has_note, report)?;
    if is_alone {
        port::examine(service, &run, has_note, report);
    }
    // A load balancer does not read metrics.
    let is_read = service.argument("--format").as_deref() == Some("prometheus");
    for address in options.from.iter().filter(|_| !is_read) {
        service.examine_source(*address, &run, report);
    }
    limits::examine(service, options, &run, report);
    Some(run)
}

/// Services of ours on the same port: on a Galera node it is for `galera-chk`.
fn clashes(on: &[&Service], report: &mut Report) {
    let ours: Vec<_> = on.iter().copied().filter(|service| service.is_ours()).collect();
    for (at, service) in ours.iter().enumerate() {
        let Some(other) = ours.iter().take(at).find(|other| other.clashes_with(service)) else { continue };
        let is_node = galera::is_node();
        let off =
            [*service, *other].into_iter().find(|own| (own.program_name() == "galera-chk") != is_node.unwrap_or(false));
        let cure = off.unwrap_or(service).off();
        // Whether this is a Galera node is not known while the server is down.
        let cure = if is_node.is_some() { cure } else { format!("# {cure}") };
        let found = format!("is on, and so is {}: both are for port {}", other.name, service.port);
        report.add(Finding::fail(&service.name, found).cured_by(cure));
    }
}

/// A checker of another make on one of our ports, or one of those that we replace.
fn old(service: &Service, report: &mut Report) {
    let ours = option_file::programs().collect::<Vec<_>>().join(", ");
    let (program, port) = (service.program.display(), service.port);
    let found = format!("{program} answers on port {port}: it is not one of {ours}");
    report.add(Finding::fail(&service.name, found).cured_by(service.off()));
}
