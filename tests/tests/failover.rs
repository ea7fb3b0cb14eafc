//! Two masters, three replicas, and HAProxy with `haproxy/failover.cfg`: where writes and reads go in every scenario, and
//! what happens on the way there. HAProxy 2.6 and 3.2 stand side by side before the same servers.

use std::time::{Duration, Instant};

use lab::failover::{Fault, Front, Routes, Site, Traffic, configuration, row};
use lab::haproxy::{Release, check_config_by};
use lab::user;

/// Short, for the suite: the default is 10.
const PROBATION: (&str, &str) = ("PROBATION", "3");

/// Both releases in front of one site, with clients that never pause.
struct Stage {
    site: Site,
    fronts: Vec<(Release, Front, Traffic)>,
    begin: Instant,
}

impl Stage {
    fn start(environment: &[(&str, &str)]) -> Self {
        let site = Site::start();
        let environment: Vec<_> = [PROBATION].into_iter().chain(environment.iter().copied()).collect();
        let fronts = Release::ALL
            .map(|release| {
                let front = Front::start(&site, release, &environment);
                let traffic = Traffic::start(&front);
                (release, front, traffic)
            })
            .into();
        let stage = Self { site, fronts, begin: Instant::now() };
        stage.until("at the start", &row(0));
        stage
    }

    #[track_caller]
    fn until(&self, what: &str, wanted: &Routes) {
        for (release, front, _) in &self.fronts {
            front.until(&format!("{release:?}: {what}"), wanted);
        }
    }

    /// The statistics say so, and connections end up there.
    #[track_caller]
    fn until_settled(&self, what: &str, wanted: &Routes) {
        self.until(what, wanted);
        for (release, front, _) in &self.fronts {
            assert_eq!(front.who_answers(), *wanted, "{release:?}: {what}; {:?}", front.reasons());
        }
    }

    /// At the end of everything.
    fn assert_one_writer_at_a_time(&self) {
        for (release, _, traffic) in &self.fronts {
            let seen = traffic.seen();
            let (overlap, writes) = (seen.overlap(), seen.writes.len());
            eprintln!("{release:?}: {writes} writes, {:?}, overlap {overlap:?}", seen.writers(self.begin));
            assert!(overlap < Duration::from_millis(250), "{release:?}: two writers for {overlap:?}");
        }
    }
}

#[test]
fn the_configuration_is_clean() {
    let account = user::unprivileged();
    for release in Release::ALL {
        for writer in ["preferred", "sticky"] {
            let environment = [("WRITER", writer), ("RUN_AS_USER", &*account.name), ("RUN_AS_GROUP", &*account.group)];
            check_config_by(release, configuration(), &environment)
                .unwrap_or_else(|said| panic!("{release:?}, {writer}: {said}"));
        }
    }
}

#[test]
fn every_fault_leads_to_its_row_of_the_table_and_every_cure_back() {
    const DB01: usize = 0;
    const DB02: usize = 1;
    let stage = Stage::start(&[]);
    let cases: &[(usize, &[(usize, Fault)])] = &[
        (1, &[(DB02, Fault::DuplicateKey)]),
        (1, &[(DB02, Fault::StopReceiver)]),
        (1, &[(DB02, Fault::Lag)]),
        (1, &[(DB02, Fault::Connecting)]),
        (0, &[(DB02, Fault::Delay)]),
        (2, &[(DB01, Fault::DuplicateKey)]),
        (2, &[(DB01, Fault::StopApplier)]),
        (2, &[(DB01, Fault::Lag)]),
        (3, &[(DB01, Fault::DuplicateKey), (DB02, Fault::StopReceiver)]),
        (3, &[(DB01, Fault::StopApplier), (DB02, Fault::StopApplier)]),
        (4, &[(DB02, Fault::Kill)]),
        (4, &[(DB02, Fault::Stop)]),
        (4, &[(DB02, Fault::Freeze)]),
        (4, &[(DB02, Fault::Exhaust)]),
        (4, &[(DB02, Fault::NoXinetd)]),
        (4, &[(DB02, Fault::ReadOnly)]),
        (4, &[(DB02, Fault::AutoIncrement)]),
        (5, &[(DB01, Fault::Kill)]),
        (5, &[(DB01, Fault::Stop)]),
        (5, &[(DB01, Fault::Freeze)]),
        (5, &[(DB01, Fault::Exhaust)]),
        (5, &[(DB01, Fault::NoXinetd)]),
        (5, &[(DB01, Fault::ReadOnly)]),
        (6, &[(DB01, Fault::Kill), (DB02, Fault::Kill)]),
        (6, &[(DB01, Fault::Freeze), (DB02, Fault::Freeze)]),
    ];
    for (number, faults) in cases {
        let what = format!("row {number} by {faults:?}");
        let begin = Instant::now();
        for (server, fault) in *faults {
            stage.site.break_by(*server, *fault);
        }
        stage.until_settled(&what, &row(*number));
        let broken = begin.elapsed();
        stage.site.heal();
        let begin = Instant::now();
        stage.until_settled(&format!("healed after {what}"), &row(0));
        eprintln!("{what}: {broken:.1?}, healed {:.1?}", begin.elapsed());
    }
    stage.assert_one_writer_at_a_time();
}
