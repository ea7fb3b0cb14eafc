//! Decides whether a replica may receive reads. Pure: no I/O, no clock.

use std::time::Duration;

use check::{Verdict, down, duration, up};

use crate::probe::{Channel, Facts};
use crate::{IfNotReplica, Options};

/// What one channel is found to be, from good to bad: the worst channel of a server decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    InTime(Duration),
    Connecting,
    Late(Duration),
    LagUnknown,
    ApplierStopped,
    ReceiverStopped,
}

/// Applies the rules of mysqlchk-replication(8); the first that matches wins.
pub(crate) fn judge(facts: &Facts, options: &Options) -> Verdict {
    if facts.channels.is_empty() {
        return match options.if_not_replica {
            IfNotReplica::Up => up("no replication is configured"),
            IfNotReplica::Down => down("no replication is configured"),
        };
    }
    // Servers compare the names of channels without regard to case.
    let is = |channel: &Channel, name: &str| channel.name.eq_ignore_ascii_case(name);
    if let Some(absent) = options.channel.iter().find(|name| !facts.channels.iter().any(|channel| is(channel, name))) {
        return down(format!("channel `{absent}` is not configured"));
    }
    let asked = |channel: &&Channel| options.channel.is_empty() || options.channel.iter().any(|name| is(channel, name));
    let worst = facts
        .channels
        .iter()
        .filter(asked)
        .map(|channel| (find(channel, options), channel))
        .max_by_key(|(finding, _)| *finding);
    match worst {
        Some((finding, channel)) => verdict(finding, channel, options, facts.channels.len() > 1),
        None => down("no channel was judged"),
    }
}

/// `max_lag` is inclusive. A NULL lag is unknown and never counts as zero.
/// Source: `MySQL` 8.4 Reference Manual, "SHOW REPLICA STATUS Statement".
fn find(channel: &Channel, options: &Options) -> Finding {
    let connecting = channel.receiver == "Connecting" && options.allow_connecting;
    match (channel.receiver.as_str(), channel.applier.as_str(), lag(channel)) {
        (receiver, _, _) if receiver != "Yes" && !connecting => Finding::ReceiverStopped,
        (_, applier, _) if applier != "Yes" => Finding::ApplierStopped,
        (_, _, None) if connecting => Finding::Connecting,
        (_, _, None) => Finding::LagUnknown,
        (_, _, Some(lag)) if lag > options.max_lag => Finding::Late(lag),
        (_, _, Some(lag)) => Finding::InTime(lag),
    }
}

/// The lag that was not asked for: a delayed replica is behind by its delay on purpose.
fn lag(channel: &Channel) -> Option<Duration> {
    channel.lag.map(|lag| lag.saturating_sub(channel.delay.unwrap_or_default()))
}

fn verdict(finding: Finding, channel: &Channel, options: &Options, one_of_many: bool) -> Verdict {
    let name = match channel.name.as_str() {
        "" if one_of_many => "default channel: ".to_owned(),
        "" => String::new(),
        name => format!("channel `{name}`: "),
    };
    let beyond =
        channel.delay.map_or_else(String::new, |delay| format!(" beyond the delay of {}", duration::show(delay)));
    let measured =
        |lag| format!("{name}lag is {}{beyond}, limit is {}", duration::show(lag), duration::show(options.max_lag));
    match finding {
        Finding::ReceiverStopped => {
            down(format!("{name}receiver is `{}`, not `Yes`{}", channel.receiver, error(channel.receiver_error)))
        }
        Finding::ApplierStopped => {
            down(format!("{name}applier is `{}`, not `Yes`{}", channel.applier, error(channel.applier_error)))
        }
        Finding::LagUnknown => down(format!("{name}lag is NULL")),
        Finding::Late(lag) => down(measured(lag)),
        Finding::InTime(lag) => up(measured(lag)),
        Finding::Connecting => {
            up(format!("{name}receiver is `Connecting`, which is allowed{}", error(channel.receiver_error)))
        }
    }
}

fn error(number: u32) -> String {
    if number == 0 { String::new() } else { format!(" (error {number})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(receiver: &str, applier: &str, lag: Option<u64>) -> Channel {
        Channel {
            receiver: receiver.into(),
            applier: applier.into(),
            lag: lag.map(Duration::from_secs),
            ..Channel::default()
        }
    }

    fn named(name: &str, channel: Channel) -> Channel {
        Channel { name: name.into(), ..channel }
    }

    fn options() -> Options {
        Options {
            max_lag: Duration::from_secs(30),
            channel: Vec::new(),
            if_not_replica: IfNotReplica::Down,
            allow_connecting: false,
        }
    }

    fn asked(names: &[&str]) -> Options {
        Options { channel: names.iter().map(|name| (*name).to_owned()).collect(), ..options() }
    }

    /// The table of mysqlchk-replication(8), in its order.
    #[test]
    fn the_table() {
        let good = || channel("Yes", "Yes", Some(0));
        let connecting = || Channel { receiver_error: 2003, ..channel("Connecting", "Yes", None) };
        let allowing = || Options { allow_connecting: true, ..options() };
        let delayed = |lag| Channel { delay: Some(Duration::from_secs(30)), ..channel("Yes", "Yes", Some(lag)) };
        let rows = [
            (vec![], options(), "down: no replication is configured"),
            (vec![], Options { if_not_replica: IfNotReplica::Up, ..options() }, "up: no replication is configured"),
            (vec![named("a", good())], asked(&["a", "b"]), "down: channel `b` is not configured"),
            (vec![named("a", good())], asked(&["A"]), "up: channel `a`: lag is 0s, limit is 30s"),
            (vec![channel("No", "Yes", None)], options(), "down: receiver is `No`, not `Yes`"),
            (vec![connecting()], options(), "down: receiver is `Connecting`, not `Yes` (error 2003)"),
            (vec![channel("Preparing", "Yes", None)], allowing(), "down: receiver is `Preparing`, not `Yes`"),
            (vec![channel("No", "Yes", None)], allowing(), "down: receiver is `No`, not `Yes`"),
            (vec![connecting()], allowing(), "up: receiver is `Connecting`, which is allowed (error 2003)"),
            (vec![channel("Connecting", "Yes", Some(31))], allowing(), "down: lag is 31s, limit is 30s"),
            (vec![channel("Connecting", "No", None)], allowing(), "down: applier is `No`, not `Yes`"),
            (
                vec![Channel { applier_error: 1062, ..channel("Yes", "No", None) }],
                options(),
                "down: applier is `No`, not `Yes` (error 1062)",
            ),
            (vec![channel("Yes", "Yes", None)], options(), "down: lag is NULL"),
            (vec![channel("Yes", "Yes", Some(31))], options(), "down: lag is 31s, limit is 30s"),
            (vec![channel("Yes", "Yes", Some(30))], options(), "up: lag is 30s, limit is 30s"),
            (vec![delayed(61)], options(), "down: lag is 31s beyond the delay of 30s, limit is 30s"),
            (vec![delayed(60)], options(), "up: lag is 30s beyond the delay of 30s, limit is 30s"),
            (vec![delayed(3)], options(), "up: lag is 0s beyond the delay of 30s, limit is 30s"),
            (vec![good()], options(), "up: lag is 0s, limit is 30s"),
        ];
        for (channels, options, verdict) in rows {
            let facts = Facts { channels };
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }

    #[test]
    fn the_worst_channel_decides_and_is_named() {
        let lagging = || named("lagging", channel("Yes", "Yes", Some(90)));
        let broken = || named("broken", channel("Yes", "No", None));
        let good = || named("", channel("Yes", "Yes", Some(7)));
        let rows = [
            (vec![good(), lagging(), broken()], options(), "down: channel `broken`: applier is `No`, not `Yes`"),
            (vec![broken(), lagging(), good()], options(), "down: channel `broken`: applier is `No`, not `Yes`"),
            (vec![good(), lagging()], options(), "down: channel `lagging`: lag is 90s, limit is 30s"),
            (vec![good(), broken()], asked(&[""]), "up: default channel: lag is 7s, limit is 30s"),
            (
                vec![good(), named("lost", channel("Connecting", "Yes", None))],
                Options { allow_connecting: true, ..options() },
                "up: channel `lost`: receiver is `Connecting`, which is allowed",
            ),
            (
                vec![named("a", channel("Yes", "Yes", Some(1))), good()],
                options(),
                "up: default channel: lag is 7s, limit is 30s",
            ),
        ];
        for (channels, options, verdict) in rows {
            let facts = Facts { channels };
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }
}
