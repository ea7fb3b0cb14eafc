//! Whether a row that looked different is: what the two ends say of it, round by round. Pure; the I/O is outside.
//!
//! A round reads the row on the source, waits until the replica has applied all that the source had committed by then, reads
//! it on the replica, and once more on the source. A row that is equal for good cannot be told different: it is what
//! one of the two readings of the source saw, or it moves, and then the two do not agree. A row that stays different can
//! never be told equal.

/// The hash of a row; `None` where there is no such row.
pub(crate) type Seen = Option<String>;

/// How many rounds a row gets to stand still.
const ROUNDS_MAX: u32 = 12;
/// How often a difference is seen, with the same values, before it is believed.
const TIMES: u32 = 2;

/// What a round tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The replica has what the source has: gone for good.
    Equal,
    /// The source has this, the replica that.
    Different(Seen, Seen),
    /// It does not stand still: another round, after a pause.
    Moving,
    /// It was different, once: another round, at once.
    Again,
    /// It did not stand still in any round.
    Unsettled,
}

/// A row that looked different.
#[derive(Debug, Default, Clone)]
pub(crate) struct Suspect {
    /// What was seen when the source stood still, and how often in a row.
    stable: Option<(Seen, Seen)>,
    times: u32,
    rounds: u32,
}

impl Suspect {
    /// Takes the result of a round: the source before, the replica, the source after.
    pub(crate) fn round(&mut self, before: &Seen, replica: &Seen, after: &Seen) -> Step {
        if replica == before || replica == after {
            return Step::Equal;
        }
        self.rounds += 1;
        let stands_still = before == after;
        if stands_still {
            let seen = Some((before.clone(), replica.clone()));
            self.times = if self.stable == seen { self.times + 1 } else { 1 };
            self.stable = seen;
        } else {
            self.stable = None;
            self.times = 0;
        }
        match &self.stable {
            Some((source, replica)) if self.times >= TIMES => Step::Different(source.clone(), replica.clone()),
            _ if self.rounds >= ROUNDS_MAX => Step::Unsettled,
            _ if stands_still => Step::Again,
            _ => Step::Moving,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Seen {
        (text != "-").then(|| text.to_owned())
    }

    /// What a suspect is told in each round; a round is three words: source, replica, source.
    fn told(rounds: &[&str]) -> Vec<Step> {
        let mut suspect = Suspect::default();
        let round = |round: &&str| {
            let [before, replica, after] = round.split(' ').map(seen).collect::<Vec<_>>().try_into().unwrap();
            suspect.round(&before, &replica, &after)
        };
        rounds.iter().map(round).collect()
    }

    #[test]
    fn what_either_reading_of_the_source_saw_is_equal() {
        for round in ["a a a", "a a b", "b a a", "- - -", "- - a", "a - -"] {
            assert_eq!(told(&[round]), [Step::Equal], "{round}");
        }
    }

    #[test]
    fn a_difference_is_believed_when_it_is_seen_twice() {
        for (round, source, replica) in [("a b a", "a", "b"), ("a - a", "a", "-"), ("- b -", "-", "b")] {
            assert_eq!(told(&[round, round]), [Step::Again, Step::Different(seen(source), seen(replica))], "{round}");
        }
    }

    #[test]
    fn other_values_are_another_difference() {
        assert_eq!(told(&["a b a", "a c a", "a b a"]), [Step::Again, Step::Again, Step::Again]);
        assert_eq!(told(&["a b a", "c b c"]), [Step::Again, Step::Again]);
        assert_eq!(told(&["a b a", "a b c", "a b a"]), [Step::Again, Step::Moving, Step::Again]);
    }

    #[test]
    fn what_never_stands_still_is_not_settled() {
        let told = told(&["a x b"; 12]);
        assert!(told[..11].iter().all(|step| *step == Step::Moving), "{told:?}");
        assert_eq!(told[11], Step::Unsettled);
    }

    #[test]
    fn a_row_that_is_equal_in_the_end_is_equal() {
        assert_eq!(told(&["a b a", "c b c", "c c c"]).pop(), Some(Step::Equal));
    }
}
