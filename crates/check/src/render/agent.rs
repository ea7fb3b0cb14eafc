//! The line that `HAProxy`'s agent-check reads.
//!
//! Source: `HAProxy` 3.2 Configuration Manual, "agent-check". Never `ready`, `drain`, `maint` or `stopped`: these are the
//! operator's words, and `ready` undoes what an operator set (measured on 2.6). The whole state in each line, since only
//! the agent can undo what it reported before.

use crate::gauge::Gauge;
use crate::outcome::Outcome;

/// `up 87% # REASON`, `up 0% # drain: REASON` or `down # REASON`.
pub(super) fn line(outcome: &Outcome) -> String {
    // The verdict replaces what may not be shown; here `#` would begin the text again.
    let reason = outcome.verdict.short_reason().replace('#', "?");
    match outcome.verdict.word() {
        "up" => format!("up {}% # {reason}\n", weight(outcome)),
        "drain" => format!("up 0% # drain: {reason}\n"),
        word => format!("{word} # {reason}\n"),
    }
}

/// The part of its weight that a server which is up keeps, in per cent: what is left up to the limit that is nearest.
/// At least 1, since 0 would drain it; 100 where no number has a limit.
fn weight(outcome: &Outcome) -> u8 {
    outcome.gauges.iter().filter_map(Gauge::room).min().unwrap_or(100).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauge::Quantity;
    use crate::verdict::{down, drain, misconfigured, up};

    fn behind(counts: &[Option<u64>]) -> Vec<Gauge> {
        let gauge = |count: &Option<u64>| {
            Gauge::new("lag", "lag", "", count.map(Quantity::Count)).within(None, Some(Quantity::Count(30)))
        };
        counts.iter().map(gauge).collect()
    }

    #[test]
    fn each_verdict_has_its_line() {
        for (verdict, gauges, shown) in [
            (up("lag is 4s, limit is 30s"), behind(&[Some(4)]), "up 87% # lag is 4s, limit is 30s\n"),
            (up("x"), behind(&[Some(30)]), "up 1% # x\n"),
            (up("x"), behind(&[Some(0), Some(15), None]), "up 50% # x\n"),
            (up("x"), behind(&[None]), "up 100% # x\n"),
            (up("x"), Vec::new(), "up 100% # x\n"),
            (drain("lag is 12s"), behind(&[Some(12)]), "up 0% # drain: lag is 12s\n"),
            (down("lag is NULL"), behind(&[None]), "down # lag is NULL\n"),
            (misconfigured("x"), Vec::new(), "down # x\n"),
            (down("channel `a#b`\r\nready up 100%"), Vec::new(), "down # channel `a?b`??ready up 100%\n"),
        ] {
            let outcome = Outcome { gauges, ..verdict.into() };
            assert_eq!(line(&outcome), shown);
        }
    }
}
