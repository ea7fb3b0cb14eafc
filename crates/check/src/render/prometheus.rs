//! Metrics, in the text format that Prometheus scrapes and `node_exporter`'s textfile collector reads.
//!
//! Source: Prometheus documentation, "Exposition formats" (version 0.0.4). Base units; what is unknown is absent and never
//! zero; without timestamps, which the textfile collector refuses. Each series has the label `program`.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime};

use super::total;
use crate::gauge::{Gauge, Quantity};
use crate::outcome::Outcome;
use crate::step::Times;

/// All metrics of a run.
pub(super) fn page(program: &str, outcome: &Outcome, times: &Times) -> String {
    let verdict = &outcome.verdict;
    // A comment, for a person: metrics have no room for a reason.
    let mut page = Page { text: format!("# {program}: {verdict}\n"), program };
    page.family("up", "Whether the verdict is up.");
    page.series("up", None, u8::from(verdict.is_up()));
    page.family("state", "Which of the three verdicts it is.");
    for state in ["up", "drain", "down"] {
        page.series("state", Some(("state", state)), u8::from(verdict.word() == state));
    }
    gauges(&mut page, &outcome.gauges);
    if let Some(time) = total(times) {
        page.family("check_duration_seconds", "How long the check took.");
        page.series("check_duration_seconds", None, time.as_secs_f64());
    }
    let since_the_epoch = |until: SystemTime| until.duration_since(SystemTime::UNIX_EPOCH).ok();
    if let Some(until) = outcome.until.and_then(since_the_epoch) {
        page.family("maintenance_until_timestamp_seconds", "The end of the maintenance note in force.");
        page.series("maintenance_until_timestamp_seconds", None, until.as_secs());
    }
    page.family("build_info", "The version of the program.");
    page.series("build_info", Some(("version", env!("CARGO_PKG_VERSION"))), 1);
    page.text
}

/// One family for each kind of number, with its limit as another: all that share a metric are next to each other.
fn gauges(page: &mut Page<'_>, gauges: &[Gauge]) {
    for family in gauges.chunk_by(|one, other| one.metric == other.metric) {
        let Some(first) = family.first() else { continue };
        let unit = match family.iter().find_map(|gauge| gauge.value.or(gauge.limit)) {
            Some(Quantity::Time(_)) => "_seconds",
            Some(Quantity::Count(_)) | None => "",
        };
        let name = format!("{}{unit}", first.metric);
        let known = || family.iter().filter_map(|gauge| Some((gauge, gauge.value?)));
        if known().next().is_some() {
            page.family(&name, &first.help);
        }
        for (gauge, value) in known() {
            page.series(&name, gauge.of.as_ref().map(|(label, of)| (&**label, of.as_str())), Base(value));
        }
        if let Some(limit) = first.limit {
            let name = format!("{}_limit{unit}", first.metric);
            page.family(&name, &format!("Down above this: {}", first.help));
            page.series(&name, None, Base(limit));
        }
    }
}

/// In base units: seconds, or things.
struct Base(Quantity);

impl Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Quantity::Time(time) => Display::fmt(&Duration::as_secs_f64(&time), f),
            Quantity::Count(count) => Display::fmt(&count, f),
        }
    }
}

/// What is written so far.
struct Page<'p> {
    text: String,
    program: &'p str,
}

impl Page<'_> {
    /// The head of a family, before its series.
    fn family(&mut self, name: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP mysqlchk_{name} {help}\n# TYPE mysqlchk_{name} gauge");
    }

    fn series(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        let _ = write!(self.text, "mysqlchk_{name}{{program=\"{}\"", self.program);
        if let Some((label, text)) = label {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, ",{label}=\"{text}\"");
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Step;
    use crate::verdict::{down, drain};

    fn seconds(seconds: u64) -> Quantity {
        Quantity::Time(Duration::from_secs(seconds))
    }

    fn lag(value: Option<Quantity>, channel: &str) -> Gauge {
        Gauge::new("lag", "replication_lag", "The lag.", value)
            .within(Some(seconds(10)), Some(seconds(30)))
            .of("channel", channel)
    }

    #[test]
    fn a_page_has_what_is_known_and_no_more() {
        let outcome = Outcome {
            gauges: vec![
                lag(Some(seconds(4)), ""),
                lag(Some(Quantity::Time(Duration::from_millis(12_500))), "a\"b\\c\nd"),
                lag(None, "lost"),
                Gauge::new("queue", "galera_recv_queue", "Two\nlines \\", Some(Quantity::Count(7))),
            ],
            until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_020_000)),
            ..drain("lag is 12s").into()
        };
        let version = env!("CARGO_PKG_VERSION");
        let wanted = format!(
            r#"# mysqlchk-replication: drain: lag is 12s
# HELP mysqlchk_up Whether the verdict is up.
# TYPE mysqlchk_up gauge
mysqlchk_up{{program="mysqlchk-replication"}} 0
# HELP mysqlchk_state Which of the three verdicts it is.
# TYPE mysqlchk_state gauge
mysqlchk_state{{program="mysqlchk-replication",state="up"}} 0
mysqlchk_state{{program="mysqlchk-replication",state="drain"}} 1
mysqlchk_state{{program="mysqlchk-replication",state="down"}} 0
# HELP mysqlchk_replication_lag_seconds The lag.
# TYPE mysqlchk_replication_lag_seconds gauge
mysqlchk_replication_lag_seconds{{program="mysqlchk-replication",channel=""}} 4
mysqlchk_replication_lag_seconds{{program="mysqlchk-replication",channel="a\"b\\c\nd"}} 12.5
# HELP mysqlchk_replication_lag_limit_seconds Down above this: The lag.
# TYPE mysqlchk_replication_lag_limit_seconds gauge
mysqlchk_replication_lag_limit_seconds{{program="mysqlchk-replication"}} 30
# HELP mysqlchk_galera_recv_queue Two\nlines \\
# TYPE mysqlchk_galera_recv_queue gauge
mysqlchk_galera_recv_queue{{program="mysqlchk-replication"}} 7
# HELP mysqlchk_check_duration_seconds How long the check took.
# TYPE mysqlchk_check_duration_seconds gauge
mysqlchk_check_duration_seconds{{program="mysqlchk-replication"}} 0.0012
# HELP mysqlchk_maintenance_until_timestamp_seconds The end of the maintenance note in force.
# TYPE mysqlchk_maintenance_until_timestamp_seconds gauge
mysqlchk_maintenance_until_timestamp_seconds{{program="mysqlchk-replication"}} 1764020000
# HELP mysqlchk_build_info The version of the program.
# TYPE mysqlchk_build_info gauge
mysqlchk_build_info{{program="mysqlchk-replication",version="{version}"}} 1
"#
        );
        let times = vec![(Step::Options, Duration::from_micros(200)), (Step::Query, Duration::from_millis(1))];
        assert_eq!(page("mysqlchk-replication", &outcome, &times), wanted);
    }

    #[test]
    fn an_unknown_lag_is_absent_and_its_limit_is_there() {
        let outcome = Outcome { gauges: vec![lag(None, "")], ..down("lag is NULL").into() };
        let page = page("mysqlchk-replication", &outcome, &Times::new());
        assert!(!page.contains("lag_seconds") && !page.contains("duration") && !page.contains("until"), "{page}");
        assert!(
            page.contains("mysqlchk_replication_lag_limit_seconds{program=\"mysqlchk-replication\"} 30\n"),
            "{page}"
        );
    }
}
