//! Does this server answer queries, and may it take the traffic it is meant for?

#![cfg_attr(not(test), no_main)]

mod options;
mod probe;
mod rules;

check::main!("Reports whether the local MySQL or MariaDB server may take the traffic it is meant for.");
