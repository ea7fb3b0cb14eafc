//! Many runs in few figures: the middle, and how far they are spread around it.

use std::collections::BTreeMap;

/// What was measured in each round.
pub(crate) type Series = BTreeMap<usize, f64>;

/// Figures in order of size; never none.
#[derive(Debug, Clone)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    /// # Panics
    /// Without a figure: something was not measured that the bench speaks about.
    #[track_caller]
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        assert!(!figures.is_empty(), "nothing was measured");
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// Round by round, so that what slows down a whole round slows down both and falls out.
    #[track_caller]
    pub(crate) fn ratio(of: &Series, to: &Series) -> Self {
        Self::of(of.iter().filter_map(|(round, figure)| to.get(round).map(|other| figure / other)))
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The figure below which `share` of all figures are, between two of them where need be.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let place = share * (self.0.len() - 1) as f64;
        let (low, high) = (self.0[place.floor() as usize], self.0[place.ceil() as usize]);
        low + (high - low) * place.fract()
    }

    /// The median and the middle half: `1.21 (1.15-1.30)`.
    pub(crate) fn with_quartiles(&self) -> String {
        format!("{:.2} ({:.2}-{:.2})", self.median(), self.quantile(0.25), self.quantile(0.75))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        assert_eq!(Figures::of([4.0, 1.0, 3.0, 2.0]).median(), 2.5);
        assert_eq!(Figures::of([7.0]).median(), 7.0);
    }

    #[test]
    fn the_spread_is_shown_with_the_middle() {
        let figures = Figures::of([5.0, 1.0, 2.0, 4.0, 3.0]);
        assert_eq!(figures.with_quartiles(), "3.00 (2.00-4.00)");
    }

    #[test]
    fn a_ratio_takes_the_rounds_that_both_have() {
        let (of, to) = (Series::from([(1, 2.0), (2, 9.0)]), Series::from([(1, 1.0), (3, 5.0)]));
        assert_eq!(Figures::ratio(&of, &to).with_quartiles(), "2.00 (2.00-2.00)");
    }
}
