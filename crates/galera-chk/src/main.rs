//! Is this node a usable member of the primary component?

#![cfg_attr(not(test), no_main)]

mod gauges;
mod options;
mod probe;
mod rules;

check::main!("Reports whether the local Galera node is a usable member of the primary component.", gauges::measured);
