//! What a run found.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::Value;

use crate::gauge::Gauge;
use crate::verdict::Verdict;

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Up, drain or down, and why.
    pub verdict: Verdict,
    /// What the rules saw; `Null` where there are no facts, or where they are not wanted.
    pub facts: Value,
    /// The numbers behind the verdict; none where nothing was measured, or where they are not wanted.
    pub gauges: Vec<Gauge>,
    /// The end of the operator's note that gave the verdict; `None` without a note or an end.
    pub until: Option<SystemTime>,
    /// Where the answer is from: `off`, `asked`, `shared`, or why sharing was not possible.
    pub share: Cow<'static, str>,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Outcome {
        Outcome { verdict, facts: Value::Null, gauges: Vec::new(), until: None, share: Cow::Borrowed("off") }
    }
}
