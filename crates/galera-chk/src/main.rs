//! Is this node a usable member of the primary component?

#![cfg_attr(not(test), no_main)]

mod probe;
mod rules;

use check::{Check, Session, Verdict, number, switch};
use probe::Facts;

/// The options of this check alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Whether a node that sends a state transfer may take traffic
    #[arg(long, value_name = "WHEN", value_enum, default_value = "never")]
    available_when_donor: Donor,
    /// Up while `wsrep_desync` is ON
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    available_when_desynced: bool,
    /// Up although the node is read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    available_when_readonly: bool,
    /// Down in a component of fewer members
    #[arg(long, value_name = "MEMBERS", default_value_t = 1, value_parser = number::<u64>(0..=u64::MAX))]
    min_cluster_size: u64,
    /// Down when more write sets wait to be applied [default: no limit]
    #[arg(long, value_name = "WRITESETS", value_parser = number::<u64>(0..=u64::MAX))]
    max_recv_queue: Option<u64>,
    /// Up although the server takes no connections over TCP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    allow_skip_networking: bool,
}

/// When a donor may take traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Donor {
    /// Not while it is a donor.
    Never,
    /// When its state transfer method does not block writes.
    Nonblocking,
    /// When no other member could serve.
    Last,
    /// Always.
    Always,
}

struct Galera;

impl Check for Galera {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str = "Tells whether the local Galera node is a usable member of the primary component.";
    type Options = Options;
    type Facts = Facts;

    fn probe(session: &mut Session<'_>, _: &Options) -> anyhow::Result<Facts> {
        probe::ask(session)
    }

    fn judge(facts: &Facts, options: &Options) -> Verdict {
        rules::judge(facts, options)
    }
}

check::main!(Galera);
