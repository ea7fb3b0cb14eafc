//! How far a comparison is, on a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often it is drawn at least: also while a replica is waited for.
const TICK: Duration = Duration::from_millis(200);

/// A bar on standard error; none where that is not a terminal.
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins with the rows that are to be read, by the server's estimate.
    pub(crate) fn new(rows: u64) -> Progress {
        Progress(io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(rows);
            let style = ProgressStyle::with_template("{bar:40} {percent:>3}% of about {human_len} rows, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(TICK);
            bar
        }))
    }

    /// So many rows more were read.
    pub(crate) fn add(&self, rows: u64) {
        if let Some(bar) = &self.0 {
            bar.inc(rows);
        }
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
