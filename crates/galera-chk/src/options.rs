//! The options of galera-chk(8) alone.

use check::Validate;
use client::consistency::{self, Demand};
use client::number;

/// The options of this check alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Whether a node that sends a state transfer may take traffic
    #[arg(long, value_name = "WHEN", value_enum, default_value = "never")]
    pub(crate) available_when_donor: Donor,
    /// Up while `wsrep_desync` is ON
    #[arg(long)]
    pub(crate) available_when_desynced: bool,
    /// Up even if the node is read-only
    #[arg(long)]
    pub(crate) available_when_readonly: bool,
    /// Down in a component with fewer members
    #[arg(long, value_name = "MEMBERS", default_value_t = 1, value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) min_cluster_size: u64,
    /// Down when more write sets wait to be applied [default: no limit]
    #[arg(long, value_name = "WRITESETS", value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) max_recv_queue: Option<u64>,
    /// Down when the data is known to differ from that of the source, or with a time when it was not found consistent within
    /// it (see mysqlchk-consistency)
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = consistency::ANY_AGE,
        value_parser = consistency::demand)]
    pub(crate) require_consistent: Option<Demand>,
    /// Up even if the server does not accept TCP connections
    #[arg(long)]
    pub(crate) allow_skip_networking: bool,
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

impl Validate for Options {}
