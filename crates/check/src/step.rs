//! The steps of a run, in their order, and how long each took.

use std::time::Duration;

use client::Stage;

/// The reason when the driver panics on what a server sends, or wants more memory than there is.
pub const GAVE_UP: &str = "the reply could not be parsed";
/// The reason when the program panics or crashes on an option.
pub const OPTIONS_CRASHED: &str = "crashed while reading the options";

/// What a run does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the option files and the command line.
    Options,
    /// Reading the request from stdin, which has a bound of its own.
    Request,
    /// Looking for an operator's note.
    Maintenance,
    /// Waiting for the answer of another check that asks the same question.
    Share,
    /// Looking up the address of a host name.
    Resolve,
    /// Connecting and logging in, which the driver does in one call.
    Connect,
    /// The connection is made, the login is not. Never entered: it only words the reason when the time is over.
    Login,
    /// Running the query.
    Query,
    /// Handing over the answer.
    Answer,
}

impl Step {
    pub(crate) const ALL: [Step; 9] = [
        Step::Options,
        Step::Request,
        Step::Maintenance,
        Step::Share,
        Step::Resolve,
        Step::Connect,
        Step::Login,
        Step::Query,
        Step::Answer,
    ];

    /// The key under which the JSON form gives the time of this step.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Step::Options => "options",
            Step::Request => "request",
            Step::Maintenance => "maintenance",
            Step::Share => "share",
            Step::Resolve => "resolve",
            Step::Connect | Step::Login => "login",
            Step::Query => "query",
            Step::Answer => "answer",
        }
    }

    /// What is going on, to stand after `while`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Step::Options => "reading the options",
            Step::Request => "reading the request",
            Step::Maintenance => "reading the maintenance note",
            Step::Share => "waiting for a shared answer",
            Step::Resolve => "looking up the host name",
            Step::Connect => "connecting",
            Step::Login => "logging in",
            Step::Query => "querying",
            Step::Answer => "answering",
        }
    }

    /// The reason when the program crashes in this step; `None` where it is that of the step before.
    pub(crate) fn crashed(self) -> Option<&'static str> {
        match self {
            Step::Options => Some(OPTIONS_CRASHED),
            Step::Request => Some("crashed before the server was asked"),
            // The modules that nsswitch.conf names are loaded into the program, and not all of them survive that.
            Step::Resolve => Some("looking up the host name crashed: write an address, not a name"),
            Step::Connect => Some(GAVE_UP),
            Step::Maintenance | Step::Share | Step::Login | Step::Query | Step::Answer => None,
        }
    }
}

impl From<Stage> for Step {
    fn from(stage: Stage) -> Step {
        match stage {
            Stage::Resolve => Step::Resolve,
            Stage::Connect => Step::Connect,
            Stage::Query => Step::Query,
        }
    }
}

/// How long each step took that was entered.
pub type Times = Vec<(Step, Duration)>;
