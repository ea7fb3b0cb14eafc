//! Three `MySQL` servers in single-primary Group Replication, every state that a member can be in, and one cure for
//! all of them.
//!
//! The members share 127.0.0.1 and have a port each: Group Replication wants an address that an interface carries.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::server::{PASSWORD, Server};
use crate::software::Software;
use crate::{address, wait};

/// How long the group may take to get where it should be.
const BOUND: Duration = Duration::from_secs(60);

const NAME: &str = "6c61622d-6772-6f75-7000-000000000000";

/// The three members, numbered from 0, with the schema of [`crate::server`]. Number 0 is the first primary.
#[derive(Debug)]
pub struct Group {
    members: Vec<Server>,
    /// Holds a member that recovers.
    lock: Mutex<Option<Conn>>,
}

/// What a member says of one of the group, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of that member; `None` for one that is not ours or has not said who it is.
    pub number: Option<usize>,
    /// `ONLINE`, `RECOVERING`, `OFFLINE`, `ERROR` or `UNREACHABLE`.
    pub state: String,
    /// `PRIMARY`, `SECONDARY` or empty.
    pub role: String,
}

impl Group {
    /// Starts three members, and waits until all are ONLINE.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts three members with more lines in their option files.
    #[must_use]
    #[track_caller]
    pub fn start_with(lines: &[&str]) -> Self {
        let addresses = [(); 3].map(|()| address::fresh_port());
        let seeds = addresses.map(|address| address.to_string()).join(",");
        let members = addresses.map(|address| {
            let own = format!(
                "plugin_load_add=group_replication.so\ngroup_replication_group_name={NAME}\n\
                 group_replication_communication_stack=MYSQL\ngroup_replication_local_address={address}\n\
                 group_replication_group_seeds={seeds}\ngroup_replication_recovery_get_public_key=ON\n\
                 group_replication_start_on_boot=OFF\ngroup_replication_member_expel_timeout=0\n\
                 group_replication_autorejoin_tries=0\ngroup_replication_message_cache_size=134217728"
            );
            let member =
                Server::prepare(Software::MySql9, address, Software::MySql9.template(), &[&[&*own], lines].concat());
            member.launch(&[]);
            member
        });
        let group = Self { members: members.into(), lock: Mutex::new(None) };
        for member in &group.members {
            member.until_answers();
            member.sql(&format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_USER='repl', SOURCE_PASSWORD='{PASSWORD}'
                 FOR CHANNEL 'group_replication_recovery'"
            ));
        }
        group.bootstrap(0);
        for member in &group.members[1..] {
            member.sql("START GROUP_REPLICATION");
        }
        group.until_online();
        group
    }

    /// A member, from 0 to 2.
    #[must_use]
    pub fn member(&self, number: usize) -> &Server {
        &self.members[number]
    }

    /// What a member sees of the group; empty while it does not answer.
    #[must_use]
    pub fn view(&self, number: usize) -> Vec<Seen> {
        let rows = self.members[number].try_rows("SELECT * FROM performance_schema.replication_group_members");
        let seen = rows.unwrap_or_default().into_iter().map(|mut row| Seen {
            number: self.members.iter().position(|member| member.address().port().to_string() == row["MEMBER_PORT"]),
            state: row.remove("MEMBER_STATE").unwrap(),
            role: row.remove("MEMBER_ROLE").unwrap(),
        });
        seen.collect()
    }

    /// What a member says of itself; `None` while it does not answer.
    #[must_use]
    pub fn state(&self, number: usize) -> Option<String> {
        self.view(number).into_iter().find(|seen| seen.number == Some(number)).map(|seen| seen.state)
    }

    /// The primary, as a member sees it.
    #[must_use]
    pub fn primary_seen_by(&self, number: usize) -> Option<usize> {
        self.view(number).into_iter().find(|seen| seen.role == "PRIMARY")?.number
    }

    /// The primary, as all see it that are ONLINE.
    #[must_use]
    #[track_caller]
    pub fn primary(&self) -> usize {
        wait::until_some("one primary", BOUND, || {
            let running = (0..3).filter(|&number| self.members[number].is_running());
            let mut online = running.filter(|&number| self.state(number).as_deref() == Some("ONLINE"));
            let primary = self.primary_seen_by(online.next()?)?;
            online.all(|number| self.primary_seen_by(number) == Some(primary)).then_some(primary)
        })
    }

    /// Waits until a member says this of itself.
    #[track_caller]
    pub fn until(&self, number: usize, state: &str) {
        wait::until_equal(&format!("state of member {number}"), BOUND, Some(state.to_owned()), || self.state(number));
    }

    /// Waits until `viewer` says this of `number`; `None`: that it is no member.
    #[track_caller]
    pub fn until_seen(&self, viewer: usize, number: usize, state: Option<&str>) {
        let what = format!("state of member {number} as {viewer} sees it");
        wait::until_equal(&what, BOUND, (true, state.map(str::to_owned)), || {
            let view = self.view(viewer);
            let seen = view.iter().find(|seen| seen.number == Some(number));
            (!view.is_empty(), seen.map(|seen| seen.state.clone()))
        });
    }

    /// Waits until all three see three ONLINE members and the same primary.
    #[track_caller]
    pub fn until_online(&self) {
        wait::until_ok("every member is ONLINE", BOUND, || self.all_online());
    }

    /// `group_replication_set_as_primary`: moves the primary, and waits until all see it.
    #[track_caller]
    pub fn move_primary(&self, to: usize) {
        let uuid = self.members[to].value("SELECT @@server_uuid");
        self.members[to].sql(&format!("SELECT group_replication_set_as_primary('{uuid}')"));
        wait::until_equal("the primary", BOUND, to, || self.primary());
    }

    /// Kills the primary, and returns the next one once the others agree.
    #[track_caller]
    pub fn kill_primary(&self) -> usize {
        let killed = self.primary();
        self.members[killed].kill9();
        for number in (0..3).filter(|&number| number != killed) {
            self.until_seen(number, killed, None);
        }
        self.primary()
    }

    /// `STOP GROUP_REPLICATION`: OFFLINE, and read-only.
    #[track_caller]
    pub fn leave(&self, number: usize) {
        self.members[number].sql("STOP GROUP_REPLICATION");
        self.until(number, "OFFLINE");
    }

    /// Ends a member and starts it without joining it: OFFLINE, and **not** read-only.
    #[track_caller]
    pub fn restart_outside(&self, number: usize) {
        self.members[number].stop();
        self.members[number].restart();
        self.until(number, "OFFLINE");
    }

    /// Freezes a member until the others expelled it, and lets it run again: ERROR, read-only, and in
    /// `offline_mode`, so that every account but the admin's gets 3032 (the default of
    /// `group_replication_exit_state_action` since 8.4).
    #[track_caller]
    pub fn expel(&self, number: usize) {
        self.members[number].freeze();
        for other in (0..3).filter(|&other| other != number) {
            self.until_seen(other, number, None);
        }
        self.members[number].thaw();
        self.until(number, "ERROR");
    }

    /// Freezes the two others: `number` is ONLINE and sees two that are UNREACHABLE; it reads, and writes hang.
    #[track_caller]
    pub fn lose_majority(&self, number: usize) {
        for other in (0..3).filter(|&other| other != number) {
            self.members[other].freeze();
        }
        for other in (0..3).filter(|&other| other != number) {
            self.until_seen(number, other, Some("UNREACHABLE"));
        }
    }

    /// Makes a secondary miss a write and join again, and holds it in RECOVERING: the row cannot be applied.
    #[track_caller]
    pub fn hold_recovering(&self, number: usize) {
        let member = &self.members[number];
        self.leave(number);
        self.members[self.primary()].sql("INSERT INTO lab.t (v) VALUES (1)");
        let mut session = member.session();
        // A read lock, since the member is read-only. (It would end a transaction that holds a row.)
        session.query_drop("LOCK TABLES lab.t READ").unwrap();
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        member.sql("START GROUP_REPLICATION");
        self.until(number, "RECOVERING");
    }

    /// Undoes whatever was done, and waits until all are ONLINE and a row written on the primary is everywhere.
    #[track_caller]
    pub fn heal(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut slept = Vec::new();
        for member in &self.members {
            if member.is_frozen() {
                member.thaw();
                slept.push(member);
            } else if !member.is_running() {
                member.launch(&[]);
            }
        }
        for member in &self.members {
            member.until_answers();
        }
        if !slept.is_empty() {
            // Who slept is back at once, and may still be expelled seconds later: it leaves of its own accord, which
            // only works in a group whose members see each other.
            wait::until("the members see each other", BOUND, || {
                (0..3).all(|number| self.view(number).iter().all(|seen| seen.state != "UNREACHABLE"))
            });
            for member in slept {
                member.sql("STOP GROUP_REPLICATION");
            }
        }
        wait::until_ok("every member is ONLINE", BOUND, || self.all_online().inspect_err(|_| self.rejoin()));
        self.until_written();
    }

    /// Lets those join again that are out; when all are, one of them begins a new group.
    fn rejoin(&self) {
        let out = |number: &usize| matches!(self.state(*number).as_deref(), Some("OFFLINE" | "ERROR"));
        let out: Vec<usize> = (0..3).filter(out).collect();
        if out.len() == 3 {
            self.bootstrap(self.most_advanced());
            return;
        }
        for number in out {
            // From ERROR a member joins only after it left, and lets nobody in: not even the group. It may also have
            // to wait until the group noticed that it was gone: it is tried again.
            let _ = self.members[number]
                .try_sql("SET GLOBAL offline_mode=OFF; STOP GROUP_REPLICATION; START GROUP_REPLICATION");
        }
    }

    /// The member that has applied all that the others have.
    fn most_advanced(&self) -> usize {
        let executed: Vec<String> =
            self.members.iter().map(|member| member.value("SELECT @@GLOBAL.gtid_executed")).collect();
        let has_all = |number: &usize| {
            executed.iter().all(|other| {
                self.members[*number].value(&format!("SELECT GTID_SUBSET('{other}', '{}')", executed[*number])) == "1"
            })
        };
        (0..3).find(has_all).expect("a member that lacks nothing")
    }

    #[track_caller]
    fn bootstrap(&self, number: usize) {
        self.members[number].sql(
            "SET GLOBAL offline_mode=OFF; STOP GROUP_REPLICATION;
             SET GLOBAL group_replication_bootstrap_group=ON; START GROUP_REPLICATION;
             SET GLOBAL group_replication_bootstrap_group=OFF",
        );
    }

    fn all_online(&self) -> Result<(), Vec<Vec<Seen>>> {
        let views: Vec<_> = (0..3).map(|number| self.view(number)).collect();
        let primary = |view: &Vec<Seen>| view.iter().find(|seen| seen.role == "PRIMARY").and_then(|seen| seen.number);
        let well = views.iter().all(|view| {
            view.len() == 3 && view.iter().all(|seen| seen.state == "ONLINE") && primary(view) == primary(&views[0])
        });
        if well { Ok(()) } else { Err(views) }
    }

    #[track_caller]
    fn until_written(&self) {
        wait::until_ok("a write", BOUND, || self.members[self.primary()].try_sql("INSERT INTO lab.t (v) VALUES (2)"));
        let applied = |member: &Server| member.value("SELECT @@GLOBAL.gtid_executed");
        let wanted = applied(&self.members[self.primary()]);
        wait::until_equal("what is applied everywhere", BOUND, vec![wanted; 3], || {
            self.members.iter().map(applied).collect::<Vec<_>>()
        });
    }
}
