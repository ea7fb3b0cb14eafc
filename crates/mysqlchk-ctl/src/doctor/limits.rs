//! How many checks a service lets through, against how many come.

use std::time::Duration;

use client::duration;

use super::program::Run;
use super::service::{By, Service, Setting};
use super::{Finding, Report};
use crate::options::Doctor;

/// What comes to a service.
#[derive(Debug, Clone, Copy)]
struct Load {
    /// How many ask.
    askers: u32,
    /// How often each does.
    inter: Duration,
    /// How long a check takes when the server hangs.
    budget: Duration,
}

pub(super) fn examine(service: &Service, options: &Doctor, run: &Run, report: &mut Report) {
    let load = options.load_balancers.map(|askers| Load { askers, inter: options.inter, budget: run.budget });
    let findings = findings(service, load);
    if let Some(load) = load.filter(|_| findings.is_empty()) {
        let found = format!("its limits are enough for {} checks in each {}", load.askers, duration::show(load.inter));
        report.add(Finding::ok(&service.name, found));
    }
    for finding in findings {
        report.add(finding);
    }
}

fn findings(service: &Service, load: Option<Load>) -> Vec<Finding> {
    let word = |setting| service.word(setting);
    let mut findings = Vec::new();
    if let Some((count, time)) = service.limits.rate {
        let (found, lifted) = match service.by {
            By::Xinetd(_) => {
                (format!("after {count} checks in a second (cps) xinetd refuses all for a while"), "1000 1")
            }
            By::Systemd(_) => {
                let time = duration::show(time);
                (format!("after {count} checks in {time} systemd ends the socket until somebody comes"), "0")
            }
        };
        let is_low = load.is_some_and(|load| load.during(time) >= u64::from(count));
        let cure = service.set(Setting::Rate, lifted);
        // A socket that ends for ever is never right; xinetd's own limit is met by a restart of HAProxy.
        if is_low {
            findings.push(Finding::fail(&service.name, found).cured_by(cure));
        } else if matches!(service.by, By::Systemd(_)) || count <= 50 {
            findings.push(Finding::warn(&service.name, found).cured_by(cure));
        }
    }
    let Some(load) = load else { return findings };
    let needs = [
        (Setting::AtOnce, service.limits.at_once, load.at_once(load.askers), 200),
        (Setting::PerSource, service.limits.per_source, load.at_once(1), 50),
    ];
    for (setting, limit, need, usual) in needs {
        if let Some(limit) = limit.filter(|limit| u64::from(*limit) < need) {
            let found = format!("{} is {limit}: when the server hangs, {need} checks are on at once", word(setting));
            let value = (2 * need).max(usual).to_string();
            findings.push(Finding::fail(&service.name, found).cured_by(service.set(setting, &value)));
        }
    }
    findings
}

impl Load {
    /// How many checks come in this time. All may begin at the same moment.
    fn during(&self, time: Duration) -> u64 {
        u64::from(self.askers) * self.begun(time)
    }

    /// How many checks of so many askers are on at a time when the server hangs.
    fn at_once(&self, askers: u32) -> u64 {
        u64::from(askers) * self.begun(self.budget)
    }

    /// How many times one begins in this time, at most.
    fn begun(&self, time: Duration) -> u64 {
        let times = time.as_nanos().div_ceil(self.inter.as_nanos().max(1));
        u64::try_from(times).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_what_comes_and_what_is_on() {
        let ms = Duration::from_millis;
        let load = Load { askers: 12, inter: ms(500), budget: ms(900) };
        assert_eq!((load.during(ms(1000)), load.during(ms(2000))), (24, 48));
        assert_eq!((load.at_once(12), load.at_once(1)), (24, 2));
        assert_eq!(Load { inter: ms(5000), ..load }.during(ms(1000)), 12);
    }
}
