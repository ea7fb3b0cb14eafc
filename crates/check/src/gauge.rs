//! The numbers behind a verdict, for the forms that show numbers. A check hands over what it measured; what the numbers are
//! called and held against is said there, not here.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An amount with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Quantity {
    /// A time, shown in seconds.
    Time(Duration),
    /// A number of things.
    Count(u64),
}

/// One number that a check measured, and the limits that it is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gauge {
    /// The label in performance data: `lag`.
    pub name: Cow<'static, str>,
    /// The name of the metric, between `mysqlchk_` and the unit: `replication_lag`.
    pub metric: Cow<'static, str>,
    /// What it is, in one line, for a person who reads the metrics.
    pub help: Cow<'static, str>,
    /// What was measured; `None` is unknown, which is never zero.
    pub value: Option<Quantity>,
    /// Drained above this.
    pub soft_limit: Option<Quantity>,
    /// Down above this.
    pub limit: Option<Quantity>,
    /// Of what it is measured, where there can be several: the name and the value of a label (`channel`, `db01`).
    pub of: Option<(Cow<'static, str>, String)>,
}

impl Gauge {
    /// A number without limits.
    #[must_use]
    pub fn new(name: &'static str, metric: &'static str, help: &'static str, value: Option<Quantity>) -> Gauge {
        let [name, metric, help] = [name, metric, help].map(Cow::Borrowed);
        Gauge { name, metric, help, value, soft_limit: None, limit: None, of: None }
    }

    /// With the limits that it is held against.
    #[must_use]
    pub fn within(self, soft_limit: Option<Quantity>, limit: Option<Quantity>) -> Gauge {
        Gauge { soft_limit, limit, ..self }
    }

    /// As that of one of several.
    #[must_use]
    pub fn of(self, label: &'static str, value: impl Into<String>) -> Gauge {
        Gauge { of: Some((Cow::Borrowed(label), value.into())), ..self }
    }

    /// What is left up to the limit, in per cent, rounded up; `None` where there is no limit or the value is unknown.
    #[must_use]
    pub fn room(&self) -> Option<u8> {
        match (self.value?.amount(), self.limit?.amount()) {
            // Also of a limit of nothing, which is kept by nothing.
            (0, _) => Some(100),
            (_, 0) => Some(0),
            (value, limit) => u8::try_from((100 * limit.saturating_sub(value)).div_ceil(limit)).ok(),
        }
    }
}

impl Quantity {
    /// The number alone, in the smallest unit.
    fn amount(self) -> u128 {
        match self {
            Quantity::Time(time) => time.as_nanos(),
            Quantity::Count(count) => count.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_what_is_left_of_the_limit() {
        let room = |value, limit| Gauge::new("", "", "", value).within(None, limit).room();
        let time = |seconds| Some(Quantity::Time(Duration::from_secs(seconds)));
        let count = |count| Some(Quantity::Count(count));
        for (value, limit, percent) in [
            (time(0), time(30), Some(100)),
            (time(4), time(30), Some(87)),
            (time(29), time(30), Some(4)),
            (time(30), time(30), Some(0)),
            (time(31), time(30), Some(0)),
            (count(99), count(100), Some(1)),
            (count(1), count(1_000_000), Some(100)),
            (count(0), count(0), Some(100)),
            (count(1), count(0), Some(0)),
            (count(u64::MAX - 1), count(u64::MAX), Some(1)),
            (None, time(30), None),
            (time(4), None, None),
        ] {
            assert_eq!(room(value, limit), percent, "{value:?} of {limit:?}");
        }
    }
}
