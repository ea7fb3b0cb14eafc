//! Where the chunks of a table begin and end, and how large they are. Pure.

use std::time::Duration;

use crate::expression::{KeyValues, Range};

/// The rows of the first chunk of a table: less than a millisecond, whatever the table before was like.
pub(crate) const FIRST: u64 = 1000;
/// The bytes of the smallest chunk. Less is read no faster: what remains is a machine that is busy, and a chunk that shrinks for
/// that would end at one row.
const LEAST_BYTES: u64 = 64 * 1024;
/// How much larger a chunk may be than the one before.
const GROWTH: u64 = 4;
/// A key with fewer rows than this for each of its numbers has gaps, and is asked for its bounds.
const DENSE: f64 = 0.5;

/// The way through one table, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Walk {
    lower: Option<KeyValues>,
    upper: Upper,
    /// The rows of a chunk that takes as long as it should, as far as we know.
    size: u64,
    /// The rows of the smallest chunk.
    fewest: u64,
    target: Duration,
    /// What is no reading: the way to the farthest server and back.
    trip: Duration,
    /// Of a key of one column of whole numbers: the last one when the walk began.
    last: Option<i128>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Upper {
    /// The chunk ends with this key.
    Key(KeyValues),
    /// It is the last one.
    Open,
    /// There is no further one.
    Done,
}

impl Walk {
    /// Begins behind a key, or below the first row. `first` is the key after the first [`FIRST`] rows, where there are as
    /// many; `last` the last key, where it is one whole number; `row_bytes` about how many bytes a row has;
    /// `target` how long a chunk may be read, and `trip` what the way there and back adds to that.
    pub(crate) fn new(
        lower: Option<KeyValues>,
        first: Option<KeyValues>,
        last: Option<i128>,
        row_bytes: u64,
        target: Duration,
        trip: Duration,
    ) -> Walk {
        let fewest = (LEAST_BYTES / row_bytes.max(1)).clamp(1, FIRST);
        Walk { lower, upper: first.map_or(Upper::Open, Upper::Key), size: FIRST, fewest, target, trip, last }
    }

    /// The chunk to read; `None` behind the last one.
    pub(crate) fn range(&self) -> Option<Range> {
        let upper = match &self.upper {
            Upper::Key(key) => Some(key.clone()),
            Upper::Open => None,
            Upper::Done => return None,
        };
        Some(Range { lower: self.lower.clone(), upper })
    }

    /// What to ask the source together with this chunk: the key this many rows behind its end. `None` where there is no
    /// further chunk, or where it can be computed.
    pub(crate) fn question(&self) -> Option<(Range, u64)> {
        match &self.upper {
            Upper::Key(key) if self.last.is_none() => {
                Some((Range { lower: Some(key.clone()), upper: None }, self.size))
            }
            _ => None,
        }
    }

    /// This chunk had so many rows and took so long; `next` is the answer to the question, if one was asked.
    /// Returns a question to ask before it can go on.
    pub(crate) fn read(&mut self, rows: u64, elapsed: Duration, next: Option<KeyValues>) -> Option<(Range, u64)> {
        let asked = self.question().is_some();
        let Upper::Key(end) = self.upper.clone() else {
            self.upper = Upper::Done;
            return None;
        };
        let begin = self.lower.replace(end.clone());
        self.adapt(rows, elapsed);
        if asked {
            self.upper = next.map_or(Upper::Open, Upper::Key);
            return None;
        }
        let number = |key: &KeyValues| key.first().and_then(|text| text.parse::<i128>().ok());
        if let (Some(begin), Some(end), Some(last)) = (begin.as_ref().and_then(number), number(&end), self.last)
            && let Some(step) = step(rows, end - begin, self.size)
        {
            let next = end.saturating_add(step);
            self.upper = if next >= last { Upper::Open } else { Upper::Key(vec![next.to_string()]) };
            return None;
        }
        Some((Range { lower: Some(end), upper: None }, self.size))
    }

    /// Takes the answer to the question that [`Walk::read`] returned.
    pub(crate) fn answer(&mut self, next: Option<KeyValues>) {
        self.upper = next.map_or(Upper::Open, Upper::Key);
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a size")]
    fn adapt(&mut self, rows: u64, elapsed: Duration) {
        let seconds = elapsed.saturating_sub(self.trip).as_secs_f64().max(1e-6);
        let fits = (rows as f64 * self.target.as_secs_f64() / seconds) as u64;
        self.size = fits.clamp((self.size / GROWTH).max(self.fewest), self.size.saturating_mul(GROWTH));
    }
}

/// How far the numbers of `size` rows reach where `rows` of them reached over `span`; `None` where there are gaps.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "an estimate")]
fn step(rows: u64, span: i128, size: u64) -> Option<i128> {
    let density = rows as f64 / span.max(1) as f64;
    (density >= DENSE).then(|| ((size as f64 / density) as i128).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(40);
    const ROW: u64 = 1024;

    fn key(number: i128) -> KeyValues {
        vec![number.to_string()]
    }

    fn range(lower: Option<i128>, upper: Option<i128>) -> Range {
        Range { lower: lower.map(key), upper: upper.map(key) }
    }

    #[test]
    fn the_first_chunk_is_open_below_and_the_last_one_above() {
        let mut walk = Walk::new(None, Some(key(1000)), None, ROW, TARGET, Duration::ZERO);
        assert_eq!(walk.range(), Some(range(None, Some(1000))));
        let question = walk.question().unwrap();
        assert_eq!(question, (Range { lower: Some(key(1000)), upper: None }, FIRST));
        assert_eq!(walk.read(1000, TARGET, Some(key(2000))), None);
        assert_eq!(walk.range(), Some(range(Some(1000), Some(2000))));
        assert_eq!(walk.read(1000, TARGET, None), None);
        assert_eq!(walk.range(), Some(range(Some(2000), None)));
        assert_eq!(walk.question(), None);
        assert_eq!(walk.read(7, TARGET, None), None);
        assert_eq!(walk.range(), None);
    }

    #[test]
    fn a_small_table_is_one_chunk() {
        let mut walk = Walk::new(None, None, None, ROW, TARGET, Duration::ZERO);
        assert_eq!(walk.range(), Some(range(None, None)));
        walk.read(3, TARGET, None);
        assert_eq!(walk.range(), None);
    }

    #[test]
    fn a_chunk_takes_as_long_as_it_should_and_does_not_jump() {
        let mut walk = Walk::new(None, Some(key(1)), None, ROW, TARGET, Duration::ZERO);
        for (rows, took, size) in [(1000, 1, 4000), (4000, 4, 16_000), (16_000, 16, 40_000), (40_000, 80, 20_000)] {
            walk.read(rows, Duration::from_millis(took), Some(key(1)));
            assert_eq!(walk.size, size);
        }
        walk.read(0, Duration::from_secs(1), Some(key(1)));
        assert_eq!(walk.size, 5000);
    }

    #[test]
    fn a_chunk_does_not_shrink_for_what_is_no_reading() {
        // A machine that is busy with other things.
        for (row_bytes, fewest) in [(0, FIRST), (64, FIRST), (1024, 64), (1 << 30, 1)] {
            let mut walk = Walk::new(None, Some(key(1)), None, row_bytes, TARGET, Duration::ZERO);
            for _ in 0..20 {
                walk.read(walk.size, Duration::from_millis(200), Some(key(1)));
            }
            assert_eq!(walk.size, fewest, "{row_bytes}");
        }
    }

    #[test]
    fn the_way_to_a_replica_on_another_continent_makes_no_chunk_smaller() {
        let trip = Duration::from_millis(150);
        let mut walk = Walk::new(None, Some(key(1)), None, ROW, TARGET, trip);
        // A million rows a second, and what is ahead of the trip takes no time at all.
        for size in [4000, 16_000, 40_000, 40_000] {
            walk.read(walk.size, trip + Duration::from_micros(walk.size), Some(key(1)));
            assert_eq!(walk.size, size);
        }
        walk.read(walk.size, trip / 2, Some(key(1)));
        assert_eq!(walk.size, 160_000);
    }

    #[test]
    fn whole_numbers_without_gaps_need_no_question() {
        let mut walk = Walk::new(None, Some(key(1000)), Some(10_000), ROW, TARGET, Duration::ZERO);
        assert_eq!(walk.question(), None);
        // The first chunk has no beginning, so nothing is known of its gaps.
        assert_eq!(walk.read(1000, TARGET, None), Some((Range { lower: Some(key(1000)), upper: None }, 1000)));
        walk.answer(Some(key(2000)));
        assert_eq!(walk.read(1000, TARGET, None), None);
        assert_eq!(walk.range(), Some(range(Some(2000), Some(3000))));
        // A tenth of the numbers: the next end is asked for.
        assert_eq!(walk.read(100, TARGET, None), Some((Range { lower: Some(key(3000)), upper: None }, 250)));
        walk.answer(Some(key(9500)));
        assert_eq!(walk.read(6500, TARGET, None), None);
        assert_eq!(walk.range(), Some(range(Some(9500), None)));
    }
}
