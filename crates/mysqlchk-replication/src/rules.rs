//! Decides whether a replica may receive reads. Pure: no I/O, no clock.

use std::time::Duration;

use check::{Verdict, down, drain, up};
use client::{consistency, duration, or_null};

use crate::lag::{Lag, LagFrom, Unknown};
use crate::options::{IfNotReplica, Options, Role};
use crate::probe::{Applier, Channel, Facts, Receiver};

/// What one channel is found to be, from good to bad: the worst channel of a server decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Finding {
    InTime(Duration),
    Connecting,
    /// Above the soft limit.
    Draining(Duration),
    Late(Duration),
    /// The lag is a time to come, by this.
    Ahead(Duration),
    LagUnknown,
    NotAllApplied,
    Silent,
    ApplierStopped,
    ReceiverStopped,
}

/// Applies the rules of mysqlchk-replication(8); the first that matches wins.
pub(crate) fn judge(facts: &Facts, options: &Options) -> Verdict {
    if !facts.skip_networking.is_off() && !options.allow_skip_networking {
        return down(format!("skip_networking is {}", facts.skip_networking.switch()));
    }
    let verdict = match options.group_replication {
        Some(role) => judge_member(facts, role, options),
        None => judge_channels(facts, options),
    };
    // What is down is down for its own reason; what would take traffic must have the data, too.
    let demand = options.require_consistent.filter(|_| !verdict.is_down());
    demand.and_then(|demand| consistency::trouble(facts.consistency.as_ref(), demand)).map_or(verdict, down)
}

fn judge_channels(facts: &Facts, options: &Options) -> Verdict {
    if facts.channels.is_empty() {
        return match options.if_not_replica {
            IfNotReplica::Up => up("no replication is configured"),
            IfNotReplica::Down => down("no replication is configured"),
        };
    }
    if let Some(absent) = options.channel.iter().find(|name| !facts.channels.iter().any(|channel| is(channel, name))) {
        return down(format!("channel `{absent}` is not configured"));
    }
    let worst = facts
        .channels
        .iter()
        .filter(|channel| is_asked(channel, options))
        .map(|channel| (find(channel, options), channel))
        .max_by(|(one, _), (other, _)| one.cmp(other));
    match worst {
        Some((finding, channel)) => verdict(&finding, channel, options, facts.channels.len() > 1),
        None => down("no channel was judged"),
    }
}

/// Whether a channel has this name: servers compare the names without regard to case.
fn is(channel: &Channel, name: &str) -> bool {
    channel.name.eq_ignore_ascii_case(name)
}

/// Whether a channel is judged.
pub(crate) fn is_asked(channel: &Channel, options: &Options) -> bool {
    options.channel.is_empty() || options.channel.iter().any(|name| is(channel, name))
}

/// Both limits are inclusive.
/// Source: `MySQL` 8.4 Reference Manual, "SHOW REPLICA STATUS Statement".
fn find(channel: &Channel, options: &Options) -> Finding {
    let connecting = channel.receiver == Receiver::Connecting && options.allow_connecting;
    // A source that may be gone need not send anything.
    let silent = |limit| match &channel.heard {
        Lag::Unknown(_) => true,
        Lag::Behind(heard) | Lag::Ahead(heard) => *heard > limit,
    };
    match (&channel.receiver, &channel.applier) {
        (Receiver::Connecting | Receiver::Other(_), _) if !connecting => Finding::ReceiverStopped,
        (_, Applier::Other(_)) => Finding::ApplierStopped,
        _ if !connecting && options.max_heartbeat_age.is_some_and(silent) => Finding::Silent,
        _ => find_by_lag(channel, connecting, options),
    }
}

/// A lag that is unknown never counts as zero. A time to come counts as zero only within the limit: beyond it, the clocks
/// cannot be trusted.
fn find_by_lag(channel: &Channel, connecting: bool, options: &Options) -> Finding {
    match &channel.lag {
        // Without a receiver `MariaDB` does not know the lag, whatever is left to apply.
        Lag::Unknown(_) if connecting && options.lag_from == LagFrom::Status => match channel.all_applied {
            Some(true) => Finding::Connecting,
            _ => Finding::NotAllApplied,
        },
        Lag::Unknown(_) => Finding::LagUnknown,
        Lag::Ahead(ahead) if *ahead > options.max_lag => Finding::Ahead(*ahead),
        Lag::Ahead(_) => Finding::InTime(Duration::ZERO),
        Lag::Behind(lag) => match beyond_delay(*lag, channel) {
            lag if lag > options.max_lag => Finding::Late(lag),
            lag if options.drain_lag.is_some_and(|limit| lag > limit) => Finding::Draining(lag),
            lag => Finding::InTime(lag),
        },
    }
}

/// The lag that was not asked for: a delayed replica is behind by its delay on purpose.
fn beyond_delay(lag: Duration, channel: &Channel) -> Duration {
    lag.saturating_sub(channel.delay.unwrap_or_default())
}

/// The lag that is held against the limits; `None` when it is unknown, also because it is too far in the future.
pub(crate) fn judged_lag(channel: &Channel, options: &Options) -> Option<Duration> {
    match &channel.lag {
        Lag::Unknown(_) => None,
        Lag::Ahead(ahead) => (*ahead <= options.max_lag).then_some(Duration::ZERO),
        Lag::Behind(lag) => Some(beyond_delay(*lag, channel)),
    }
}

fn verdict(finding: &Finding, channel: &Channel, options: &Options, one_of_many: bool) -> Verdict {
    let name = match channel.name.as_str() {
        "" if one_of_many => "default channel: ".to_owned(),
        "" => String::new(),
        name => format!("channel `{name}`: "),
    };
    match finding {
        Finding::ReceiverStopped => {
            down(format!("{name}receiver is `{}`, not `Yes`{}", channel.receiver.word(), error(channel.receiver_error)))
        }
        Finding::ApplierStopped => {
            down(format!("{name}applier is `{}`, not `Yes`{}", channel.applier.word(), error(channel.applier_error)))
        }
        Finding::Silent => {
            let limit = duration::show(options.max_heartbeat_age.unwrap_or_default());
            match &channel.heard {
                Lag::Unknown(_) => down(format!("{name}nothing received from the source, limit is {limit}")),
                Lag::Behind(heard) => down(format!(
                    "{name}last received from the source {} ago, limit is {limit}",
                    duration::show_measured(*heard)
                )),
                Lag::Ahead(ahead) => down(format!(
                    "{name}last received from the source {} in the future, limit is {limit}: {SET_CLOCKS}",
                    duration::show_measured(*ahead)
                )),
            }
        }
        Finding::NotAllApplied => down(format!(
            "{name}receiver is `Connecting`, lag is NULL, and received events are still to be applied{}",
            error(channel.receiver_error)
        )),
        Finding::LagUnknown => {
            let why = if let Lag::Unknown(why) = &channel.lag { why } else { &Unknown::Null };
            down(format!("{name}{}", unknown(why)))
        }
        Finding::Ahead(ahead) => down(format!(
            "{name}lag{} is {} in the future, limit is {}: {SET_CLOCKS}",
            from(options),
            duration::show_measured(*ahead),
            duration::show(options.max_lag)
        )),
        Finding::Late(lag) => down(format!("{name}{}", measured(*lag, channel, options, options.max_lag))),
        Finding::Draining(lag) => {
            let limit = options.drain_lag.unwrap_or(options.max_lag);
            drain(format!("{name}{}", measured(*lag, channel, options, limit)))
        }
        Finding::InTime(lag) => up(format!("{name}{}", measured(*lag, channel, options, options.max_lag))),
        Finding::Connecting => {
            up(format!("{name}receiver is `Connecting`, which is allowed{}", error(channel.receiver_error)))
        }
    }
}

/// Why a lag is unknown.
fn unknown(why: &Unknown) -> String {
    match why {
        Unknown::Null => "lag is NULL".into(),
        Unknown::NoHeartbeat(Some(id), table) => format!("no heartbeat of server {id} in {table}"),
        Unknown::NoHeartbeat(None, table) => format!("no heartbeat in {table}"),
        Unknown::OneHeartbeatForSeveral => {
            "`--heartbeat-source-id` is for one channel: name it with `--channel`".into()
        }
        Unknown::NeverHeard => "nothing received from the source".into(),
        Unknown::Commit => "lag by commit is unknown".into(),
        Unknown::CommitAndNotAllApplied => "lag by commit is unknown: received events are still to be applied".into(),
        Unknown::NoCommits => "lag by commit needs MySQL 8.0 or MariaDB 11.6".into(),
    }
}

/// What helps against a time to come.
const SET_CLOCKS: &str = "check clocks and time zone";

/// What the lag is taken from, as it follows `lag`.
fn from(options: &Options) -> &'static str {
    match options.lag_from {
        LagFrom::Status => "",
        LagFrom::Heartbeat => " by heartbeat",
        LagFrom::Commit => " by commit",
    }
}

/// The lag, what it is taken from, and the limit.
fn measured(lag: Duration, channel: &Channel, options: &Options, limit: Duration) -> String {
    let beyond =
        channel.delay.map_or_else(String::new, |delay| format!(" beyond the delay of {}", duration::show(delay)));
    let skew = match &channel.lag {
        Lag::Ahead(ahead) => format!(" (the source's clock is ahead by {})", duration::show_measured(*ahead)),
        _ => String::new(),
    };
    let (lag, limit) = (duration::show_measured(lag), duration::show(limit));
    format!("lag is {lag}{}{beyond}{skew}, limit is {limit}", from(options))
}

fn error(number: u32) -> String {
    if number == 0 { String::new() } else { format!(" (error {number})") }
}

/// The rules for a member of a replication group.
fn judge_member(facts: &Facts, role: Role, options: &Options) -> Verdict {
    let Some(member) = &facts.group else {
        return down("no group replication is configured");
    };
    if let Some(trouble) = member.trouble() {
        return down(trouble);
    }
    let wanted = match role {
        Role::Any => None,
        Role::Primary => Some("PRIMARY"),
        Role::Secondary => Some("SECONDARY"),
    };
    if let Some(wanted) = wanted.filter(|wanted| member.role != *wanted) {
        return down(format!("member role is {}, not {wanted}", member.role));
    }
    let queue = or_null(member.applier_queue);
    match options.max_applier_queue {
        Some(limit) if member.applier_queue.is_none_or(|queue| queue > limit) => {
            down(format!("applier queue is {queue}, limit is {limit}"))
        }
        _ => up(format!("member state is ONLINE, role is {}, applier queue is {queue}", member.role)),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use client::consistency::{Demand, Found};
    use client::group::Membership;

    fn channel(receiver: &str, applier: &str, lag: Option<u64>) -> Channel {
        Channel {
            receiver: receiver.into(),
            applier: applier.into(),
            lag: lag.map_or_else(Lag::default, |lag| Lag::Behind(Duration::from_secs(lag))),
            all_applied: Some(true),
            ..Channel::default()
        }
    }

    fn named(name: &str, channel: Channel) -> Channel {
        Channel { name: name.into(), ..channel }
    }

    pub(crate) fn options() -> Options {
        Options {
            max_lag: Duration::from_secs(30),
            drain_lag: None,
            lag_from: LagFrom::Status,
            heartbeat_table: None,
            heartbeat_source_id: None,
            heartbeat_utc: false,
            max_heartbeat_age: None,
            channel: Vec::new(),
            if_not_replica: IfNotReplica::Down,
            allow_connecting: false,
            allow_skip_networking: false,
            group_replication: None,
            max_applier_queue: None,
            require_consistent: None,
        }
    }

    fn asked(names: &[&str]) -> Options {
        Options { channel: names.iter().map(|name| (*name).to_owned()).collect(), ..options() }
    }

    /// The first rule of both tables.
    #[test]
    fn a_server_without_a_network_is_down_unless_it_may_be() {
        let on_socket = |value: &str| Facts { skip_networking: value.into(), ..Facts::default() };
        let member = || Options { group_replication: Some(Role::Any), ..options() };
        for (value, options, verdict) in [
            ("1", options(), "down: skip_networking is ON"),
            ("1", Options { if_not_replica: IfNotReplica::Up, ..options() }, "down: skip_networking is ON"),
            ("1", member(), "down: skip_networking is ON"),
            ("NULL", options(), "down: skip_networking is NULL"),
        ] {
            assert_eq!(judge(&on_socket(value), &options).to_string(), verdict, "{value} {options:?}");
        }
        let allowed = |options| Options { allow_skip_networking: true, ..options };
        for (value, options) in [("1", allowed(options())), ("1", allowed(member())), ("0", options()), ("0", member())]
        {
            let verdict = judge(&on_socket(value), &options);
            assert!(!verdict.reason().contains("skip_networking"), "{verdict} {options:?}");
        }
    }

    /// The table of mysqlchk-replication(8), in its order.
    #[test]
    #[expect(clippy::too_many_lines, reason = "the page has as many rows")]
    fn the_table() {
        let good = || channel("Yes", "Yes", Some(0));
        let connecting = || Channel { receiver_error: 2003, ..channel("Connecting", "Yes", None) };
        let allowing = || Options { allow_connecting: true, ..options() };
        let listening = || Options { max_heartbeat_age: Some(Duration::from_secs(5)), ..options() };
        let heard = |heard: Lag| Channel { heard, ..channel("Yes", "Yes", Some(0)) };
        let secs = Duration::from_secs;
        let soft = || Options { drain_lag: Some(secs(10)), ..options() };
        let by = |lag_from| Options { lag_from, ..options() };
        let found = |lag| Channel { lag, ..channel("Yes", "Yes", None) };
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
            (vec![heard(Lag::Behind(secs(6)))], listening(), "down: last received from the source 6s ago, limit is 5s"),
            (vec![heard(Lag::default())], listening(), "down: nothing received from the source, limit is 5s"),
            (
                vec![heard(Lag::Ahead(secs(6)))],
                listening(),
                "down: last received from the source 6s in the future, limit is 5s: check clocks and time zone",
            ),
            (vec![heard(Lag::Behind(secs(5)))], listening(), "up: lag is 0s, limit is 30s"),
            (vec![heard(Lag::Ahead(secs(5)))], listening(), "up: lag is 0s, limit is 30s"),
            (
                vec![connecting()],
                Options { allow_connecting: true, ..listening() },
                "up: receiver is `Connecting`, which is allowed (error 2003)",
            ),
            (
                vec![Channel { all_applied: Some(false), ..connecting() }],
                allowing(),
                "down: receiver is `Connecting`, lag is NULL, and received events are still to be applied (error 2003)",
            ),
            (
                vec![Channel { all_applied: None, receiver_error: 0, ..connecting() }],
                allowing(),
                "down: receiver is `Connecting`, lag is NULL, and received events are still to be applied",
            ),
            (vec![channel("Yes", "Yes", None)], options(), "down: lag is NULL"),
            (
                vec![Channel {
                    lag: Lag::Unknown(Unknown::NoHeartbeat(Some("17".into()), "a.b".into())),
                    ..connecting()
                }],
                Options { lag_from: LagFrom::Heartbeat, ..allowing() },
                "down: no heartbeat of server 17 in a.b",
            ),
            (
                vec![found(Lag::Unknown(Unknown::NoHeartbeat(Some("17".into()), "percona.heartbeat".into())))],
                by(LagFrom::Heartbeat),
                "down: no heartbeat of server 17 in percona.heartbeat",
            ),
            (vec![found(Lag::Unknown(Unknown::Commit))], by(LagFrom::Commit), "down: lag by commit is unknown"),
            (vec![channel("Yes", "Yes", Some(31))], options(), "down: lag is 31s, limit is 30s"),
            (vec![channel("Yes", "Yes", Some(11))], soft(), "drain: lag is 11s, limit is 10s"),
            (vec![channel("Yes", "Yes", Some(10))], soft(), "up: lag is 10s, limit is 30s"),
            (vec![channel("Yes", "Yes", Some(31))], soft(), "down: lag is 31s, limit is 30s"),
            (vec![channel("Yes", "Yes", Some(30))], options(), "up: lag is 30s, limit is 30s"),
            (
                vec![found(Lag::Behind(Duration::from_millis(30_001)))],
                by(LagFrom::Heartbeat),
                "down: lag is 31s by heartbeat, limit is 30s",
            ),
            (
                vec![found(Lag::Behind(Duration::from_secs(31)))],
                by(LagFrom::Commit),
                "down: lag is 31s by commit, limit is 30s",
            ),
            (
                vec![found(Lag::Ahead(secs(31)))],
                by(LagFrom::Heartbeat),
                "down: lag by heartbeat is 31s in the future, limit is 30s: check clocks and time zone",
            ),
            (
                vec![found(Lag::Ahead(secs(3600)))],
                by(LagFrom::Commit),
                "down: lag by commit is 3600s in the future, limit is 30s: check clocks and time zone",
            ),
            (
                vec![found(Lag::Ahead(secs(30)))],
                by(LagFrom::Heartbeat),
                "up: lag is 0s by heartbeat (the source's clock is ahead by 30s), limit is 30s",
            ),
            (vec![delayed(61)], options(), "down: lag is 31s beyond the delay of 30s, limit is 30s"),
            (vec![delayed(60)], options(), "up: lag is 30s beyond the delay of 30s, limit is 30s"),
            (vec![delayed(3)], options(), "up: lag is 0s beyond the delay of 30s, limit is 30s"),
            (vec![good()], options(), "up: lag is 0s, limit is 30s"),
        ];
        for (channels, options, verdict) in rows {
            let facts = Facts { skip_networking: "0".into(), channels, ..Facts::default() };
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }

    #[test]
    fn what_would_take_traffic_must_have_the_data_too() {
        const DIFFERS: &str = "down: data differs from the source in 2 tables (shop.orders)";
        const DAY: i64 = 86_400;
        let demanding = || Options { require_consistent: Some(Demand::NotInconsistent), ..options() };
        let draining = || Options { drain_lag: Some(Duration::from_secs(5)), ..demanding() };
        let within = Some(Demand::ConsistentWithin(Duration::from_secs(7 * 86_400)));
        let weekly = || Options { require_consistent: within, ..options() };
        let found = |state: &str, age_s| {
            let first_differ = Some("shop.orders".to_owned());
            Some(Found { state: state.into(), age_s, tables_differ: 2, first_differ })
        };
        let differs = || found("inconsistent", None);
        let good = || vec![channel("Yes", "Yes", Some(9))];
        for (channels, consistency, options, verdict) in [
            (good(), differs(), demanding(), DIFFERS),
            (good(), differs(), draining(), DIFFERS),
            (good(), differs(), options(), "up: lag is 9s, limit is 30s"),
            (good(), None, demanding(), "up: lag is 9s, limit is 30s"),
            (good(), None, draining(), "drain: lag is 9s, limit is 5s"),
            (vec![channel("Yes", "No", None)], differs(), demanding(), "down: applier is `No`, not `Yes`"),
            (good(), None, weekly(), "down: consistency was never checked, limit is 7d"),
            (good(), found("consistent", Some(9 * DAY)), weekly(), "down: consistency was checked 9d ago, limit is 7d"),
            (
                good(),
                found("consistent", Some(-DAY)),
                weekly(),
                "down: consistency was checked in the future: check clocks",
            ),
            (good(), found("consistent", Some(DAY)), weekly(), "up: lag is 9s, limit is 30s"),
        ] {
            let facts = Facts { skip_networking: "0".into(), channels, consistency, ..Facts::default() };
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
            let facts = Facts { skip_networking: "0".into(), channels, ..Facts::default() };
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }

    /// The second table of mysqlchk-replication(8), in its order.
    #[test]
    fn the_table_of_a_group() {
        let member = |role: &str, queue| Membership {
            state: "ONLINE".into(),
            role: role.into(),
            members: 3,
            reachable: 3,
            applier_queue: queue,
        };
        let asked = |role| Options { group_replication: Some(role), ..options() };
        let limited = || Options { max_applier_queue: Some(10), ..asked(Role::Any) };
        let rows = [
            (None, asked(Role::Any), "down: no group replication is configured"),
            (
                Some(Membership { state: "RECOVERING".into(), ..member("SECONDARY", Some(0)) }),
                asked(Role::Any),
                "down: member state is RECOVERING, not ONLINE",
            ),
            (
                Some(Membership { reachable: 1, ..member("PRIMARY", Some(0)) }),
                asked(Role::Primary),
                "down: no majority: 1 of 3 members are reachable",
            ),
            (Some(member("SECONDARY", Some(0))), asked(Role::Primary), "down: member role is SECONDARY, not PRIMARY"),
            (Some(member("PRIMARY", Some(0))), asked(Role::Secondary), "down: member role is PRIMARY, not SECONDARY"),
            (Some(member("SECONDARY", Some(11))), limited(), "down: applier queue is 11, limit is 10"),
            (Some(member("SECONDARY", None)), limited(), "down: applier queue is NULL, limit is 10"),
            (
                Some(member("SECONDARY", Some(10))),
                limited(),
                "up: member state is ONLINE, role is SECONDARY, applier queue is 10",
            ),
            (
                Some(member("PRIMARY", Some(0))),
                asked(Role::Primary),
                "up: member state is ONLINE, role is PRIMARY, applier queue is 0",
            ),
            (
                Some(member("SECONDARY", Some(99))),
                asked(Role::Secondary),
                "up: member state is ONLINE, role is SECONDARY, applier queue is 99",
            ),
        ];
        for (group, options, verdict) in rows {
            let facts = Facts { skip_networking: "0".into(), group, ..Facts::default() };
            assert_eq!(judge(&facts, &options).to_string(), verdict, "{facts:?} {options:?}");
        }
    }
}
