//! What the figures say: tables with the ratios first, and the goals, met or not.

use std::collections::BTreeSet;

use crate::alone::{Cost, Costs};
use crate::figures::{Figures, Series};
use crate::load::{CLIENTS, Load};
use crate::programs::{
    CHECKS, CLUSTERCHECK, FLOOR_REPLICATION, FLOOR_SHOW, FLOOR_STATUS, GALERA, NOASK, NOLIBC, OF_2009, Programs,
    REPLICATION, SHARED, SHORTEST, STATUS,
};
use crate::table::Table;

/// What is held against what, by itself.
const PAIRS: [(&str, &str); 12] = [
    CHECKS[0],
    CHECKS[1],
    CHECKS[2],
    (STATUS, FLOOR_SHOW),
    (SHARED, NOASK),
    (FLOOR_STATUS, NOASK),
    (NOASK, NOLIBC),
    (SHORTEST, STATUS),
    (OF_2009, STATUS),
    (CLUSTERCHECK, STATUS),
    // How much better than these a check could be at all.
    (SHORTEST, FLOOR_STATUS),
    (CLUSTERCHECK, FLOOR_STATUS),
];
/// And under xinetd.
const SERVED: [(&str, &str); 5] = [
    (STATUS, FLOOR_STATUS),
    (REPLICATION, FLOOR_REPLICATION),
    (SHARED, NOASK),
    (FLOOR_STATUS, NOASK),
    (SHORTEST, STATUS),
];

/// Everything that was measured.
pub(crate) struct Measured<'a> {
    pub(crate) programs: &'a Programs,
    pub(crate) costs: &'a Costs,
    pub(crate) load: &'a Load,
}

impl Measured<'_> {
    /// All tables, the goals first.
    pub(crate) fn tables(&self) -> Vec<Table> {
        vec![
            self.goals(),
            self.ratios_alone(),
            self.ratios_served(),
            self.system_calls(),
            self.figures_alone(),
            self.figures_served(),
        ]
    }

    fn ratios_alone(&self) -> Table {
        let columns = [
            "program",
            "compared with",
            "wall",
            "CPU",
            "server CPU",
            "peak memory",
            "page faults",
            "system calls",
            "instructions",
        ];
        let mut table = Table::new("Ratios, each program by itself: median (quartiles)", 2, &columns);
        for (name, other) in PAIRS {
            let (Some(of), Some(to)) = (self.costs.get(name), self.costs.get(other)) else { continue };
            let pair = |figure: fn(&Cost) -> &Series| Figures::ratio(figure(of), figure(to)).with_quartiles();
            let instructions =
                of.instructions.zip(to.instructions).map(|(of, to)| format!("{:.2}", of as f64 / to as f64));
            // The server has nothing to do for a program that does not ask it.
            let server = if [NOASK, NOLIBC].contains(&other) { "-".to_owned() } else { pair(|cost| &cost.server_ms) };
            table.row([
                name.to_owned(),
                other.to_owned(),
                pair(|cost| &cost.wall_ms),
                pair(|cost| &cost.cpu_ms),
                server,
                format!("{:.2}", Figures::ratio(&of.peak_kb, &to.peak_kb).median()),
                format!("{} : {}", faults(of), faults(to)),
                format!("{} : {}", of.all_syscalls(), to.all_syscalls()),
                instructions.unwrap_or_else(no_valgrind),
            ]);
        }
        table
    }

    fn ratios_served(&self) -> Table {
        let columns = ["clients", "program", "compared with", "p50", "p99", "checks a second"];
        let mut table =
            Table::new("Ratios under xinetd: median of the rounds (quartiles), p99 over all of them", 3, &columns);
        for clients in CLIENTS {
            for (name, other) in SERVED {
                let (Some(of), Some(to)) = (self.load.get(&(clients, name)), self.load.get(&(clients, other))) else {
                    continue;
                };
                table.row([
                    clients.to_string(),
                    name.to_owned(),
                    other.to_owned(),
                    Figures::ratio(&of.p50_ms, &to.p50_ms).with_quartiles(),
                    format!("{:.2}", of.p99_ms() / to.p99_ms()),
                    Figures::ratio(&of.rate, &to.rate).with_quartiles(),
                ]);
            }
        }
        table
    }

    /// Call by call, since each one too many has a name.
    fn system_calls(&self) -> Table {
        let shown = [FLOOR_STATUS, STATUS, REPLICATION, GALERA];
        let calls = shown.map(|name| &self.costs[name].syscalls);
        let mut table = Table::new("System calls", 1, &["call", shown[0], shown[1], shown[2], shown[3]]);
        let names: BTreeSet<_> = calls.iter().flat_map(|calls| calls.keys()).collect();
        for name in names {
            let counts = calls.map(|calls| calls.get(name).map_or_else(String::new, u64::to_string));
            table.row([name.clone()].into_iter().chain(counts));
        }
        table.row(["all".to_owned()].into_iter().chain(shown.map(|name| self.costs[name].all_syscalls().to_string())));
        table
    }

    fn figures_alone(&self) -> Table {
        let columns = [
            "program",
            "wall ms",
            "CPU ms",
            "server CPU ms",
            "peak memory kB",
            "page faults",
            "system calls",
            "instructions",
            "bytes of the files",
        ];
        let mut table = Table::new("Figures of this machine, each program by itself: median (quartiles)", 1, &columns);
        for program in &self.programs.list {
            let cost = &self.costs[program.name];
            let figures = |series: &Series| Figures::of(series.values().copied());
            table.row([
                program.name.to_owned(),
                figures(&cost.wall_ms).with_quartiles(),
                figures(&cost.cpu_ms).with_quartiles(),
                format!("{:.3}", figures(&cost.server_ms).median()),
                format!("{:.0}", figures(&cost.peak_kb).median()),
                faults(cost),
                cost.all_syscalls().to_string(),
                cost.instructions.map_or_else(no_valgrind, thousands),
                thousands(program.bytes),
            ]);
        }
        table
    }

    fn figures_served(&self) -> Table {
        let columns = ["clients", "program", "p50 ms", "p99 ms", "checks a second", "failed"];
        let mut table =
            Table::new("Figures of this machine under xinetd: median of the rounds, p99 over all of them", 2, &columns);
        for program in &self.programs.list {
            for clients in CLIENTS {
                let Some(seen) = self.load.get(&(clients, program.name)) else { continue };
                let median = |series: &Series| Figures::of(series.values().copied()).median();
                table.row([
                    clients.to_string(),
                    program.name.to_owned(),
                    format!("{:.2}", median(&seen.p50_ms)),
                    format!("{:.2}", seen.p99_ms()),
                    format!("{:.0}", median(&seen.rate)),
                    seen.failures.to_string(),
                ]);
            }
        }
        table
    }

    fn goals(&self) -> Table {
        let mut goals = Goals(Table::new("Goals", 2, &["goal", "met", "measured", "limit"]));
        let pair = |name: &str, other: &str, figure: fn(&Cost) -> &Series| {
            Some(Figures::ratio(figure(self.costs.get(name)?), figure(self.costs.get(other)?)).median())
        };
        let wall: fn(&Cost) -> &Series = |cost| &cost.wall_ms;
        let cpu: fn(&Cost) -> &Series = |cost| &cost.cpu_ms;
        let server: fn(&Cost) -> &Series = |cost| &cost.server_ms;
        let served = |clients: usize, name: &str, other: &str| {
            Figures::ratio(&self.load[&(clients, name)].p50_ms, &self.load[&(clients, other)].p50_ms).median()
        };
        for (name, floor) in CHECKS {
            goals.at_most(format!("{name}: wall, of its floor's"), pair(name, floor, wall), 1.3);
            goals.at_most(format!("{name}: CPU, of its floor's"), pair(name, floor, cpu), 1.5);
            // The same packets and the same statement: what differs is noise, which a goal of 1 must allow for.
            goals.at_most(
                format!("{name}: server CPU, of its floor's (1, and 0.05 for noise)"),
                pair(name, floor, server),
                1.05,
            );
        }
        for (name, floor) in [(STATUS, FLOOR_STATUS), (REPLICATION, FLOOR_REPLICATION)] {
            for clients in CLIENTS {
                goals.at_most(
                    format!("{name}: p50 under xinetd, {clients} at a time, of its floor's"),
                    Some(served(clients, name, floor)),
                    1.2,
                );
            }
        }
        goals.at_most(
            format!("{STATUS}: server CPU, of that of a `SHOW STATUS` check"),
            pair(STATUS, FLOOR_SHOW, server),
            0.5,
        );
        goals.at_least(format!("{SHORTEST}: CPU, of {STATUS}'s"), pair(SHORTEST, STATUS, cpu), 12.0);
        goals.at_least(format!("{SHORTEST}: wall, of {STATUS}'s"), pair(SHORTEST, STATUS, wall), 8.0);
        goals.at_least(format!("{CLUSTERCHECK}: wall, of {STATUS}'s"), pair(CLUSTERCHECK, STATUS, wall), 100.0);
        for (name, _) in CHECKS {
            let cost = &self.costs[name];
            let peak = Figures::of(cost.peak_kb.values().copied()).quantile(1.0);
            goals.at_most(format!("{name}: peak memory, kB"), Some(peak), 2800.0);
            goals.at_most(format!("{name}: system calls"), Some(cost.all_syscalls() as f64), 60.0);
        }
        goals.at_most(format!("{SHARED}: wall, of {NOASK}'s"), pair(SHARED, NOASK, wall), 1.2);
        goals.at_most(format!("{SHARED}: CPU, of {NOASK}'s"), pair(SHARED, NOASK, cpu), 1.2);
        goals.0
    }
}

struct Goals(Table);

impl Goals {
    fn at_most(&mut self, what: String, measured: Option<f64>, limit: f64) {
        self.add(what, measured, &format!("at most {limit}"), |measured| measured <= limit);
    }

    fn at_least(&mut self, what: String, measured: Option<f64>, limit: f64) {
        self.add(what, measured, &format!("at least {limit}"), |measured| measured >= limit);
    }

    fn add(&mut self, what: String, measured: Option<f64>, limit: &str, met: impl Fn(f64) -> bool) {
        // What is shown decides: 1.204 is 1.20.
        let (met, measured) = match measured.map(|measured| (measured * 100.0).round() / 100.0) {
            Some(measured) => (if met(measured) { "yes" } else { "NO" }, short(measured)),
            None => ("-", "not there".to_owned()),
        };
        self.0.row([what, met.to_owned(), measured, limit.to_owned()]);
    }
}

fn short(figure: f64) -> String {
    if figure.fract() == 0.0 { format!("{figure:.0}") } else { format!("{figure:.2}") }
}

fn no_valgrind() -> String {
    "no valgrind".to_owned()
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn faults(cost: &Cost) -> String {
    format!("{:.0}", Figures::of(cost.page_faults.values().copied()).median())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_read_in_threes() {
        assert_eq!(["7", "1 234", "12 345 678"], [7, 1234, 12_345_678].map(thousands).each_ref().map(String::as_str));
    }
}
