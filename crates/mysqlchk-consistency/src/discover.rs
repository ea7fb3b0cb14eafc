//! Which replicas there are: those that are registered at the source, at its replicas, and so on; the other nodes of a Galera
//! cluster; the other members of a replication group; or those that are named.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use client::error::{ER_NO_SUCH_TABLE, ER_PARSE_ERROR, ER_SPECIFIC_ACCESS_DENIED_ERROR};
use client::{Account, Endpoint, Error, Family, Row, Rows, Session, Target};

use crate::options::Place;
use crate::peer::{Identity, Peer};

/// The most replicas of one run, for topologies that are wrong.
const REPLICAS_MAX: usize = 256;

/// A replica of the source.
pub(crate) struct Replica {
    /// `host:port`, as it was found.
    pub(crate) place: String,
    /// `server_id`; `None` where it was named and cannot be asked.
    pub(crate) server_id: Option<u64>,
    /// The `server_id` of the server that it replicates from; `None` where that is not known.
    pub(crate) from: Option<u64>,
    /// The server, or why it cannot be asked.
    pub(crate) peer: Result<Peer, String>,
}

/// How the replicas are reached.
pub(crate) struct Access<'a> {
    /// How TCP is to be used.
    pub(crate) target: &'a Target,
    pub(crate) account: &'a Account,
}

impl Access<'_> {
    fn find(&self, host: &str, port: u16) -> Result<(Peer, Session<'static>), Error> {
        Peer::find(&self.target.at(host, port), self.account)
    }
}

/// The replicas that were named.
pub(crate) fn named(places: &[Place], access: &Access<'_>) -> Vec<Replica> {
    let ask = |(host, port): &Place| {
        let place = show(host, *port);
        match access.find(host, *port) {
            Ok((peer, _)) => Replica { place, server_id: Some(peer.identity.server_id), from: None, peer: Ok(peer) },
            Err(error) => Replica { place, server_id: None, from: None, peer: Err(error.to_string()) },
        }
    };
    places.iter().map(ask).collect()
}

/// The replicas of a source, through all tiers.
///
/// # Errors
/// When the source does not say; the message names the privilege.
pub(crate) fn all(source: &Peer, session: &mut Session<'_>, access: &Access<'_>) -> Result<Vec<Replica>> {
    let mut known: Vec<Identity> = vec![source.identity.clone()];
    let mut found = Vec::new();
    let mut tiers: VecDeque<(u64, Vec<Registered>)> = VecDeque::new();
    tiers.push_back((source.identity.server_id, registered(source, session, true)?));
    while let Some((from, replicas)) = tiers.pop_front() {
        for Registered { server_id, host, port, is_member } in replicas {
            let place = show(&host, port);
            let from = (!is_member).then_some(from);
            if host.is_empty() {
                let why = "it has no `report_host`: set it there, or name the replica with --replica".to_owned();
                found.push(Replica { place: "an unknown host".to_owned(), server_id, from, peer: Err(why) });
                continue;
            }
            match access.find(&host, port) {
                Ok((peer, _)) if known.contains(&peer.identity) => {}
                Ok((peer, mut session)) => {
                    known.push(peer.identity.clone());
                    if known.len() > REPLICAS_MAX {
                        bail!("more than {REPLICAS_MAX} replicas were found: name them with --replica");
                    }
                    // A replica that may not be asked for its own is one without.
                    let next = registered(&peer, &mut session, false).unwrap_or_default();
                    tiers.push_back((peer.identity.server_id, next));
                    found.push(Replica { place, server_id: Some(peer.identity.server_id), from, peer: Ok(peer) });
                }
                Err(error) => found.push(Replica { place, server_id, from, peer: Err(error.to_string()) }),
            }
        }
    }
    Ok(found)
}

/// A server that another one knows.
struct Registered {
    server_id: Option<u64>,
    host: String,
    port: u16,
    /// Of the same cluster or group, not a replica.
    is_member: bool,
}

fn registered(peer: &Peer, session: &mut Session<'_>, with_members: bool) -> Result<Vec<Registered>> {
    let statement = match peer.family {
        Family::MySql(8, 0, 22..) | Family::MySql(8, 1.., _) | Family::MySql(9.., ..) => "SHOW REPLICAS",
        _ => "SHOW SLAVE HOSTS",
    };
    let mut found: Vec<Registered> = match session.query(statement) {
        Ok(rows) => rows.iter().map(replica).collect(),
        Err(error) if error.is(&[ER_SPECIFIC_ACCESS_DENIED_ERROR]) => {
            let grant = error.privilege().unwrap_or("REPLICATION SLAVE");
            bail!("cannot list the replicas: {error}: GRANT {grant} ON *.* to this account, or use --replica");
        }
        Err(error) => bail!("cannot list the replicas: {error}"),
    };
    if with_members && peer.is_galera {
        let rows = session
            .query("SHOW GLOBAL STATUS WHERE Variable_name IN ('wsrep_incoming_addresses', 'wsrep_local_index')")?;
        found.extend(nodes(&rows));
    }
    if with_members && peer.family != Family::MariaDb {
        let members = "SELECT MEMBER_HOST, MEMBER_PORT FROM performance_schema.replication_group_members \
                       WHERE MEMBER_ID NOT IN (@@server_uuid, '')";
        match session.query(members) {
            Ok(rows) => found.extend(rows.iter().map(member)),
            // A server without the plugin.
            Err(error) if error.is(&[ER_NO_SUCH_TABLE, ER_PARSE_ERROR]) => {}
            Err(error) => bail!("cannot list the members of the group: {error}"),
        }
    }
    Ok(found)
}

fn replica(row: &Row) -> Registered {
    let text = |name| row.get(&[name]).unwrap_or_default();
    Registered {
        server_id: text("Server_Id").parse().ok(),
        host: text("Host").to_owned(),
        port: text("Port").parse().unwrap_or(client::options::DEFAULT_PORT),
        is_member: false,
    }
}

fn member(row: &Row) -> Registered {
    let text = |name| row.get(&[name]).unwrap_or_default();
    let port = text("MEMBER_PORT").parse().unwrap_or(client::options::DEFAULT_PORT);
    Registered { server_id: None, host: text("MEMBER_HOST").to_owned(), port, is_member: true }
}

/// The other nodes of a Galera cluster; its own address is the one at its index.
fn nodes(rows: &Rows) -> Vec<Registered> {
    let value = |name| {
        let row = rows.iter().find(|row| row.get(&["Variable_name"]).is_some_and(|has| has.eq_ignore_ascii_case(name)));
        row.and_then(|row| row.get(&["Value"])).unwrap_or_default()
    };
    let own = value("wsrep_local_index").parse().unwrap_or(usize::MAX);
    let others = value("wsrep_incoming_addresses").split(',').enumerate().filter(|(at, _)| *at != own);
    let node = |(_, address): (usize, &str)| {
        let (host, port) = address.trim().rsplit_once(':').unwrap_or((address.trim(), ""));
        let port = port.parse().ok().filter(|port| *port != 0).unwrap_or(client::options::DEFAULT_PORT);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        // An arbitrator has no address.
        (!host.is_empty()).then_some(Registered { server_id: None, host, port, is_member: true })
    };
    others.filter_map(node).collect()
}

/// As it is written.
fn show(host: &str, port: u16) -> String {
    Endpoint::Tcp(host.to_owned(), port).to_string()
}
