//! A lab of real servers: what the suites start, break, heal and ask.
//!
//! Every server, `xinetd` and `HAProxy` here is a distribution's own program, on loopback addresses of
//! its own, with its files in a directory that goes away. As root the daemons and the checks drop to
//! `nobody`; without root everything runs as the caller. A program that is missing fails the test.
//!
//! | module | is for |
//! | --- | --- |
//! | [`wait`] | conditions with a bound; the only place that sleeps |
//! | [`janitor`] | nothing remains, however this process ends |
//! | [`machine`] | what a busy machine adds to a time |
//! | [`scratch`] | a directory per server |
//! | [`user`] | the account the daemons and the checks run as |
//! | [`address`] | loopback addresses nobody else uses |
//! | [`daemon`] | a process that is started, frozen and ended |
//! | [`roots`] | programs of other Debian releases |
//! | [`software`] | the servers there are, and what differs between them |
//! | [`server`] | one server, and its admin's eyes and hands |
//! | [`replica`] | a server that follows another, and nine ways to break that |
//! | [`galera`] | three nodes, and every state a node can be in |
//! | [`group`] | three members of Group Replication, and every state a member can be in |
//! | [`failover`] | two masters, three replicas, `HAProxy`, and clients that know who answered |
//! | [`network`] | hosts of their own, that can be cut off |
//! | [`notes`] | an operator's note, and the program that writes it |
//! | [`shipped`] | the files of this project, pointed at the lab's servers |
//! | [`xinetd`] | the shipped service files behind the real super-server |
//! | [`haproxy`] | the shipped configurations, and what `HAProxy` concludes |
//! | [`front`] | a shipped configuration in front of servers, and clients |
//! | [`http`] | a client that sees bytes, a clean end and a reset |
//! | [`program`] | a binary with pipes |
//! | [`evidence`] | `docs/servers.md`, written from what was seen |
//! | [`fake`] | what a real server cannot be made to do |
//! | [`recorded`] | rows on record, in the place of a server that is not to be had |

pub mod address;
pub mod copy;
pub mod daemon;
pub mod evidence;
pub mod failover;
pub mod fake;
pub mod front;
pub mod galera;
pub mod group;
pub mod haproxy;
pub mod http;
pub mod janitor;
pub mod machine;
pub mod network;
pub mod notes;
pub mod program;
pub mod recorded;
pub mod replica;
pub mod roots;
pub mod scratch;
pub mod server;
pub mod shipped;
pub mod software;
pub mod user;
pub mod wait;
pub mod xinetd;
