//! The line of a Nagios plugin, with performance data.
//!
//! Source: Monitoring Plugins Development Guidelines, "Plugin Output for Nagios" and "Performance data". A bare number as a
//! range alerts above it, so our inclusive limits are these ranges.

use std::fmt::Write;
use std::time::Duration;

use super::{Reply, total};
use crate::gauge::{Gauge, Quantity};
use crate::outcome::Outcome;
use crate::step::Times;

/// `MYSQLCHK-REPLICATION OK - REASON | lag=0s;10;30;0 time=0.0012s;;0.9;0`
pub(super) fn line(reply: &Reply, outcome: &Outcome, times: &Times) -> String {
    let verdict = &outcome.verdict;
    let word = if verdict.word() == "drain" { "drain: " } else { "" };
    // The bar begins the performance data.
    let reason = verdict.short_reason().replace('|', "?");
    let mut line = format!("{} {} - {word}{reason}", reply.program.to_uppercase(), verdict.nagios().1);
    let mut data: Vec<String> = outcome.gauges.iter().map(of_gauge).collect();
    if let Some(time) = total(times) {
        data.push(format!("time={:.4}s;;{};0", time.as_secs_f64(), reply.budget.as_secs_f64()));
    }
    if !data.is_empty() {
        let _ = write!(line, " | {}", data.join(" "));
    }
    line.push('\n');
    line
}

/// `LABEL=VALUE[UNIT];WARN;CRITICAL;MINIMUM`; `U` is unknown.
fn of_gauge(gauge: &Gauge) -> String {
    let value = match gauge.value {
        Some(value @ Quantity::Time(_)) => number(value) + "s",
        Some(value @ Quantity::Count(_)) => number(value),
        None => "U".to_owned(),
    };
    let [warn, critical] = [gauge.soft_limit, gauge.limit].map(|limit| limit.map(number).unwrap_or_default());
    format!("{}={value};{warn};{critical};0", label(gauge))
}

fn number(quantity: Quantity) -> String {
    match quantity {
        Quantity::Time(time) => seconds(time),
        Quantity::Count(count) => count.to_string(),
    }
}

/// Without trailing zeros: `4`, `0.5`.
fn seconds(time: Duration) -> String {
    time.as_secs_f64().to_string()
}

/// `lag`, of one of several `lag_db01`; in quotes where that needs them.
fn label(gauge: &Gauge) -> String {
    let of = gauge.of.iter().map(|(_, of)| of.as_str()).filter(|of| !of.is_empty());
    let whole = [&*gauge.name].into_iter().chain(of).collect::<Vec<_>>().join("_");
    let cannot_stand = |c: char| matches!(c, '\'' | '=' | '|') || c.is_control();
    let whole = whole.replace(cannot_stand, "?");
    if whole.contains(' ') { format!("'{whole}'") } else { whole }
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::super::tests::reply;
    use super::*;
    use crate::step::Step;
    use crate::verdict::{Verdict, down, drain, misconfigured, up};

    const SECOND: Duration = Duration::from_secs(1);

    fn lag(value: Option<Duration>, soft: Option<Duration>) -> Gauge {
        let limit = Some(Quantity::Time(30 * SECOND));
        Gauge::new("lag", "replication_lag", "", value.map(Quantity::Time)).within(soft.map(Quantity::Time), limit)
    }

    fn shown(verdict: Verdict, gauges: Vec<Gauge>, times: Times) -> String {
        reply(Form::Nagios).render(&Outcome { gauges, ..verdict.into() }, || times)
    }

    #[test]
    fn each_verdict_has_its_word() {
        let times = || vec![(Step::Options, Duration::from_micros(200)), (Step::Query, Duration::from_millis(1))];
        assert_eq!(
            shown(up("lag is 0s, limit is 30s"), vec![lag(Some(Duration::ZERO), Some(10 * SECOND))], times()),
            "MYSQLCHK-REPLICATION OK - lag is 0s, limit is 30s | lag=0s;10;30;0 time=0.0012s;;0.9;0\n"
        );
        assert_eq!(
            shown(drain("lag is 12s, limit is 10s"), vec![lag(Some(12 * SECOND), Some(10 * SECOND))], times()),
            "MYSQLCHK-REPLICATION WARNING - drain: lag is 12s, limit is 10s | lag=12s;10;30;0 time=0.0012s;;0.9;0\n"
        );
        assert_eq!(
            shown(down("lag is NULL"), vec![lag(None, None)], times()),
            "MYSQLCHK-REPLICATION CRITICAL - lag is NULL | lag=U;;30;0 time=0.0012s;;0.9;0\n"
        );
        assert_eq!(shown(misconfigured("a|b"), vec![], vec![]), "MYSQLCHK-REPLICATION UNKNOWN - a?b\n");
    }

    #[test]
    fn each_number_has_a_label_of_its_own() {
        let of = |name: &str| of_gauge(&lag(Some(SECOND / 2), None).of("channel", name));
        assert_eq!(of(""), "lag=0.5s;;30;0");
        assert_eq!(of("db01"), "lag_db01=0.5s;;30;0");
        assert_eq!(of("from db=1|'2'\n"), "'lag_from db?1??2??'=0.5s;;30;0");
        let queue = Gauge::new("recv_queue", "galera_recv_queue", "", Some(Quantity::Count(7)));
        assert_eq!(of_gauge(&queue), "recv_queue=7;;;0");
    }
}
