//! Looks after the servers while they are read: pauses the reading when a replica lags or the source is busy, and gives up a
//! replica that does not apply.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::duration::{show, show_measured};
use client::{Error, Session};

use crate::peer::Peer;
use crate::status::{self, Applier};

/// How often the servers are asked.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a replica may lag above the limit at a stretch.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long a replica may apply nothing of what is waited for, beyond its configured delay.
const STALL: Duration = Duration::from_secs(30);

/// The limits that pause the reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) lag: Duration,
    /// `Threads_running` on the source.
    pub(crate) running: u64,
}

/// What is known of all servers.
pub(crate) struct Monitor {
    state: Mutex<State>,
    changed: Condvar,
    limits: Limits,
}

struct State {
    replicas: Vec<Watched>,
    running: u64,
    has_ended: bool,
    /// The end of the time that was given.
    is_over: bool,
}

struct Watched {
    applier: Applier,
    /// When it last applied something.
    progressed: Instant,
    /// Since when it has lagged above the limit.
    late: Option<Instant>,
    /// Why it is not read any more.
    failed: Option<String>,
}

impl Monitor {
    pub(crate) fn new(replicas: usize, limits: Limits) -> Monitor {
        let watched = || Watched { applier: Applier::Absent, progressed: Instant::now(), late: None, failed: None };
        let replicas = (0..replicas).map(|_| watched()).collect();
        let state = State { replicas, running: 0, has_ended: false, is_over: false };
        Monitor { state: Mutex::new(state), changed: Condvar::new(), limits }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up a replica; the first reason counts.
    pub(crate) fn fail(&self, replica: usize, why: impl Into<String>) {
        if let Some(watched) = self.state().replicas.get_mut(replica) {
            watched.failed.get_or_insert_with(|| why.into());
        }
        self.changed.notify_all();
    }

    /// Why a replica was given up.
    pub(crate) fn failure(&self, replica: usize) -> Option<String> {
        self.state().replicas.get(replica)?.failed.clone()
    }

    /// The replicas that are still read.
    pub(crate) fn alive(&self) -> Vec<usize> {
        let state = self.state();
        let alive = state.replicas.iter().enumerate().filter(|(_, watched)| watched.failed.is_none());
        alive.map(|(at, _)| at).collect()
    }

    /// Ends the watch.
    pub(crate) fn end(&self) {
        self.state().has_ended = true;
        self.changed.notify_all();
    }

    /// The time that was given is over: what has not begun is not begun.
    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Returns when no replica lags and the source is not busy, or when the time is over.
    pub(crate) fn pause(&self) {
        let limits = self.limits;
        let is_busy = |state: &mut State| {
            let late = |watched: &Watched| watched.failed.is_none() && watched.late.is_some();
            !state.has_ended && !state.is_over && (state.running > limits.running || state.replicas.iter().any(late))
        };
        drop(self.changed.wait_while(self.state(), is_busy));
    }

    /// Why a wait for this replica that began then is in vain; `None` while it may be worth it.
    pub(crate) fn stall(&self, replica: usize, since: Instant) -> Option<String> {
        let state = self.state();
        let watched = state.replicas.get(replica)?;
        if let Some(failed) = &watched.failed {
            return Some(failed.clone());
        }
        let delay = match watched.applier {
            Applier::Running { delay, .. } => delay,
            _ => Duration::ZERO,
        };
        let limit = STALL + delay;
        let stalled = since.max(watched.progressed).elapsed() > limit;
        stalled.then(|| format!("it has applied nothing for {}", show(limit)))
    }

    /// Asks the servers until [`Monitor::end`]; `deadline` is the end of the time that was given.
    pub(crate) fn watch(&self, source: &Peer, replicas: &[(Peer, Option<u64>)], deadline: Option<Instant>) {
        let mut own = source.open().ok();
        let mut sessions: Vec<_> = replicas.iter().map(|(peer, _)| peer.open()).collect();
        loop {
            let running = own.as_mut().and_then(threads_running).unwrap_or(0);
            for (at, ((peer, from), session)) in replicas.iter().zip(&mut sessions).enumerate() {
                if self.failure(at).is_none() {
                    self.take(at, ask(session, peer, *from));
                }
            }
            let mut state = self.state();
            // The session that asks is one of them.
            state.running = running.saturating_sub(1);
            state.is_over |= deadline.is_some_and(|deadline| Instant::now() >= deadline);
            self.changed.notify_all();
            let waited = self.changed.wait_timeout_while(state, PAUSE, |state| !state.has_ended);
            if waited.unwrap_or_else(PoisonError::into_inner).0.has_ended {
                return;
            }
        }
    }

    fn take(&self, replica: usize, now: Applier) {
        let mut state = self.state();
        let Some(watched) = state.replicas.get_mut(replica) else { return };
        match &now {
            Applier::Stopped(why) => _ = watched.failed.get_or_insert_with(|| why.clone()),
            Applier::Running { lag, .. } => {
                if watched.applier != now {
                    watched.progressed = Instant::now();
                }
                // An unknown lag is not a small one.
                let is_late = lag.is_none_or(|lag| lag > self.limits.lag);
                watched.late = watched.late.filter(|_| is_late).or_else(|| is_late.then(Instant::now));
                if watched.late.is_some_and(|since| since.elapsed() > PATIENCE) {
                    let lag = lag.map_or_else(|| "NULL".to_owned(), show_measured);
                    let (limit, patience) = (show(self.limits.lag), show(PATIENCE));
                    watched.failed = Some(format!("lag is {lag}, limit is {limit}, after {patience}"));
                }
            }
            Applier::Absent => {}
        }
        watched.applier = now;
    }
}

/// How many threads of a server run.
fn threads_running(session: &mut Session<'_>) -> Option<u64> {
    let rows = session.query("SHOW GLOBAL STATUS LIKE 'Threads_running'").ok()?;
    rows.first()?.get(&["Value"])?.parse().ok()
}

fn ask(session: &mut Result<Session<'static>, Error>, peer: &Peer, source: Option<u64>) -> Applier {
    let asked = match session {
        Ok(session) => session.query(status::question(peer.family)),
        Err(error) => Err(error.clone()),
    };
    match asked {
        Ok(rows) => status::read(&rows, source),
        Err(error) => {
            let grant = match (error.code(), error.privilege()) {
                (Some(_), Some(privilege)) => format!(": GRANT {privilege} ON *.*"),
                _ => String::new(),
            };
            Applier::Stopped(format!("its lag cannot be seen: {error}{grant}"))
        }
    }
}
