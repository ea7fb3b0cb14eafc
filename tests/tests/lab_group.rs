//! The lab's Group Replication works: every state that a member can be in is made, seen and healed.

use std::time::Instant;

use lab::group::Group;

#[test]
fn every_state_of_a_member_can_be_made_and_healed() {
    let begin = Instant::now();
    let group = Group::start();
    eprintln!("start {:?}", begin.elapsed());
    assert_eq!(group.primary(), 0);
    let read_only = |number: usize| {
        let row = &group.member(number).rows("SELECT @@read_only AS ro, @@super_read_only AS su")[0];
        (row["ro"] == "1", row["su"] == "1")
    };
    let state = |number: usize| group.state(number).unwrap();
    let story = |name: &str, make: &dyn Fn()| {
        let begin = Instant::now();
        make();
        let made = begin.elapsed();
        let begin = Instant::now();
        group.heal();
        eprintln!("{name}: {made:?}, healed in {:?}", begin.elapsed());
    };
    assert_eq!([0, 1, 2].map(read_only), [(false, false), (true, true), (true, true)]);

    story("moved primary", &|| {
        group.move_primary(1);
        assert_eq!([0, 1, 2].map(read_only), [(true, true), (false, false), (true, true)]);
    });
    story("left", &|| {
        group.leave(2);
        assert_eq!((&*state(2), read_only(2), group.view(0).len()), ("OFFLINE", (true, true), 2));
    });
    story("restarted outside", &|| {
        group.restart_outside(2);
        assert_eq!((&*state(2), read_only(2), group.view(0).len()), ("OFFLINE", (false, false), 2));
    });
    story("recovering", &|| {
        group.hold_recovering(2);
        assert_eq!((&*state(2), read_only(2), group.view(0).len()), ("RECOVERING", (true, true), 3));
    });
    story("expelled", &|| {
        group.expel(2);
        assert_eq!((&*state(2), read_only(2), group.view(2).len()), ("ERROR", (true, true), 1));
        assert_eq!(group.member(2).value("SELECT @@offline_mode"), "1");
    });
    story("no majority", &|| {
        group.lose_majority(1);
        let view: Vec<_> = group.view(1).into_iter().map(|seen| seen.state).collect();
        assert_eq!(view.iter().filter(|state| *state == "UNREACHABLE").count(), 2, "{view:?}");
        assert_eq!((&*state(1), group.primary_seen_by(1)), ("ONLINE", Some(1)));
    });
    story("killed primary", &|| {
        let killed = group.primary();
        assert_ne!(group.kill_primary(), killed);
    });
    story("all left", &|| (0..3).for_each(|number| group.leave(number)));
}
