//! The numbers that the replication rules judge, for the forms that show numbers. Pure: no I/O, no clock.

use check::{Gauge, Quantity};

use crate::options::Options;
use crate::probe::Facts;
use crate::rules::{is_asked, judged_lag};

/// The lag of each channel that is judged, as it is judged: beyond the configured delay. Or, of a member of a replication
/// group, its queue.
pub(crate) fn measured(facts: &Facts, options: &Options) -> Vec<Gauge> {
    let queue = facts.group.iter().map(|member| {
        let (value, limit) = (member.applier_queue, options.max_applier_queue);
        let help = "Transactions of the group that wait to be applied.";
        Gauge::new("applier_queue", "replication_applier_queue", help, value.map(Quantity::Count))
            .within(None, limit.map(Quantity::Count))
    });
    let judged = facts.channels.iter().filter(|channel| is_asked(channel, options));
    let lags = judged.map(|channel| {
        let (value, soft, limit) = (judged_lag(channel, options), options.drain_lag, Some(options.max_lag));
        let help = "How far the replica is behind its source, beyond the configured delay.";
        Gauge::new("lag", "replication_lag", help, value.map(Quantity::Time))
            .within(soft.map(Quantity::Time), limit.map(Quantity::Time))
            .of("channel", channel.name.as_str())
    });
    queue.chain(lags).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lag::Lag;
    use crate::options::Role;
    use crate::probe::Channel;
    use crate::rules::tests::options;
    use client::group::Membership;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    /// The value of each, by channel.
    fn lags(facts: &Facts, options: &Options) -> Vec<(String, Option<Duration>)> {
        let lag = |gauge: Gauge| match gauge.value {
            Some(Quantity::Time(lag)) => Some(lag),
            None => None,
            Some(Quantity::Count(_)) => panic!("{gauge:?}"),
        };
        measured(facts, options).into_iter().map(|gauge| (gauge.of.clone().unwrap().1, lag(gauge))).collect()
    }

    #[test]
    fn each_judged_channel_has_the_lag_that_is_judged() {
        let channel = |name: &str, lag| Channel { name: name.into(), lag, ..Channel::default() };
        let channels = vec![
            channel("", Lag::Behind(4 * SECOND)),
            Channel { delay: Some(60 * SECOND), ..channel("delayed", Lag::Behind(65 * SECOND)) },
            Channel { delay: Some(60 * SECOND), ..channel("early", Lag::Behind(SECOND)) },
            channel("lost", Lag::default()),
            channel("ahead", Lag::Ahead(30 * SECOND)),
            channel("far", Lag::Ahead(31 * SECOND)),
        ];
        let facts = Facts { channels, ..Facts::default() };
        let wanted = [
            ("", Some(4 * SECOND)),
            ("delayed", Some(5 * SECOND)),
            ("early", Some(Duration::ZERO)),
            ("lost", None),
            ("ahead", Some(Duration::ZERO)),
            ("far", None),
        ];
        assert_eq!(lags(&facts, &options()), wanted.map(|(name, lag)| (name.to_owned(), lag)));
        let one = Options { channel: vec!["DELAYED".into()], ..options() };
        assert_eq!(lags(&facts, &one), [("delayed".to_owned(), Some(5 * SECOND))]);
        assert!(measured(&Facts::default(), &options()).is_empty());
    }

    #[test]
    fn the_limits_are_those_of_the_options() {
        let facts = Facts { channels: vec![Channel::default()], ..Facts::default() };
        let limits = |options: &Options| measured(&facts, options).pop().map(|gauge| (gauge.soft_limit, gauge.limit));
        let time = |seconds| Some(Quantity::Time(seconds * SECOND));
        assert_eq!(limits(&options()), Some((None, time(30))));
        assert_eq!(limits(&Options { drain_lag: Some(10 * SECOND), ..options() }), Some((time(10), time(30))));
    }

    #[test]
    fn a_member_of_a_group_has_a_queue() {
        let member = |applier_queue| Membership {
            state: "ONLINE".into(),
            role: "SECONDARY".into(),
            members: 3,
            reachable: 3,
            applier_queue,
        };
        let any = Options { group_replication: Some(Role::Any), max_applier_queue: Some(100), ..options() };
        for (queue, value) in [(Some(7), Some(Quantity::Count(7))), (None, None)] {
            let facts = Facts { group: Some(member(queue)), ..Facts::default() };
            let found: Vec<_> = measured(&facts, &any).into_iter().map(|gauge| (gauge.value, gauge.limit)).collect();
            assert_eq!(found, [(value, Some(Quantity::Count(100)))]);
        }
    }
}
