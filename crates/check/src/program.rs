//! What makes a program a check: its name, its options, its question and its rules.

use client::Session;

use crate::gauge::Gauge;
use crate::verdict::Verdict;

/// The whole of a check's `main.rs` but its modules: `check::main!("what it answers, for --help")`; for a check that
/// measures something with the function that lists it, `check::main!("...", gauges::measured)`.
#[macro_export]
#[expect(clippy::crate_in_macro_def, reason = "the modules of the check")]
macro_rules! main {
    ($about:literal $(, $gauges:path)?) => {
        struct Program;

        impl $crate::Check for Program {
            const NAME: &'static str = env!("CARGO_PKG_NAME");
            const ABOUT: &'static str = $about;
            type Options = crate::options::Options;
            type Facts = crate::probe::Facts;

            fn probe(
                session: &mut client::Session<'_>,
                options: &Self::Options,
            ) -> Result<Self::Facts, $crate::Verdict> {
                crate::probe::ask(session, options)
            }

            fn judge(facts: &Self::Facts, options: &Self::Options) -> $crate::Verdict {
                crate::rules::judge(facts, options)
            }
            $(
                fn gauges(facts: &Self::Facts, options: &Self::Options) -> Vec<$crate::Gauge> {
                    $gauges(facts, options)
                }
            )?
        }

        $crate::watchdog::entry!($crate::run::<Program>);
    };
}

/// One check: a name, options, a question to the server, and the rules that judge its answer.
pub trait Check {
    /// The name of the program, which is also its group in option files.
    const NAME: &'static str;
    /// The question it answers, for `--help`.
    const ABOUT: &'static str;
    /// The options that only this check has.
    type Options: clap::Args + Validate;
    /// What the server answered, in typed values. The JSON form shows all of it.
    type Facts: serde::Serialize;

    /// Asks the server.
    ///
    /// # Errors
    /// When the server gives no answer that can be read.
    fn probe(session: &mut Session<'_>, options: &Self::Options) -> Result<Self::Facts, Verdict>;

    /// Judges the answer. Pure: no I/O, no clock.
    fn judge(facts: &Self::Facts, options: &Self::Options) -> Verdict;

    /// The numbers among the facts, with the limits of the options: for the forms that show numbers, and not made for
    /// others. Pure. By default there are none.
    #[must_use]
    fn gauges(_: &Self::Facts, _: &Self::Options) -> Vec<Gauge> {
        Vec::new()
    }
}

/// Refuses options that contradict each other.
pub trait Validate {
    /// By default nothing is refused.
    ///
    /// # Errors
    /// The words name both options.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}
