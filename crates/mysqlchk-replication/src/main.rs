//! Is this server replicating from its source, and how far behind is it?

#![cfg_attr(not(test), no_main)]

mod gauges;
mod lag;
mod options;
mod probe;
mod rules;

check::main!(
    "Reports whether the local server is replicating from its source, and how far behind it is.",
    gauges::measured
);
