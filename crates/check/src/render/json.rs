//! One object, with everything that the rules saw.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::outcome::Outcome;
use crate::step::Times;

pub(super) fn object(program: &str, outcome: &Outcome, times: &Times) -> String {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let times: Map<String, Value> =
        times.iter().map(|(step, time)| (format!("{}_us", step.key()), json!(micros(*time)))).collect();
    let object = json!({
        "program": program,
        "verdict": outcome.verdict.word(),
        "reason": outcome.verdict.reason(),
        "misconfigured": outcome.verdict.is_misconfigured(),
        "facts": outcome.facts,
        "times": times,
        "share": outcome.share,
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::super::Form;
    use super::super::tests::reply;
    use super::*;
    use crate::step::Step;
    use crate::verdict::down;

    #[test]
    fn the_json_form_carries_facts_and_times() {
        let times = vec![(Step::Login, Duration::from_millis(2))];
        let outcome = Outcome { facts: json!({"read_only": null}), ..down("x").into() };
        let text = reply(Form::Json).render(&outcome, || times);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["verdict"], "down");
        assert_eq!(value["facts"]["read_only"], Value::Null);
        assert_eq!(value["times"]["login_us"], 2000);
        assert_eq!(text.lines().count(), 1);
    }
}
