//! The oracle sees what it is there to see: worlds that went well, in which something is then changed.

use baton_sim::client::script::Ending;
use baton_sim::client::{Client, Outcome};
use baton_sim::fault::Fault;
use baton_sim::oracle::{self, Finding, Losses, Refusals, Tolerance};
use baton_sim::run::let_connections_end;
use baton_sim::scenario;
use baton_sim::world::{START, World};
use handoff_proto::Micros;

/// A world in which every request has just been answered.
fn answered_world() -> World {
    let calm = scenario::named("calm").expect("there is calm");
    let mut world = World::new(calm.plan(2), 2, None);
    let_connections_end(&mut world);
    world
}

/// A world in which nothing went wrong, and all is over.
fn good_world() -> World {
    let mut world = answered_world();
    world.slow_down();
    let deadline = world.now.plus(Micros::from_secs(1800));
    assert!(world.run_until(deadline, |world| world.is_at_rest()));
    assert_eq!(findings(&world), [], "nothing is wrong yet");
    world
}

fn findings(world: &World) -> Vec<Finding> {
    oracle::judge(world, &Tolerance::default())
}

/// Insists that every finding is of one kind, and that there is one.
fn expect(world: &World, is_expected: impl Fn(&Finding) -> bool) {
    let findings = findings(world);
    assert!(!findings.is_empty(), "nothing was seen");
    assert!(findings.iter().all(is_expected), "{findings:?}");
}

#[test]
fn a_byte_that_no_server_wrote() {
    let mut world = good_world();
    let client = world.clients.values_mut().find(|client| client.read.len() > 500).expect("an answer");
    client.read[300] ^= 1;
    expect(&world, |finding| matches!(finding, Finding::ReadOtherBytes(_)));
}

#[test]
fn bytes_that_came_twice() {
    let mut world = good_world();
    let client = world.clients.values_mut().find(|client| client.read.len() > 500).expect("an answer");
    let again: Vec<u8> = client.read[100..200].to_vec();
    client.read.splice(100..100, again);
    expect(&world, |finding| matches!(finding, Finding::ReadOtherBytes(_)));
}

#[test]
fn a_byte_that_no_client_wrote() {
    let mut world = good_world();
    let host = world.backends.iter_mut().find(|host| !host.ended.is_empty()).expect("a served connection");
    host.ended[0].server.read[5] ^= 1;
    let findings = findings(&world);
    assert!(findings.iter().any(|finding| matches!(finding, Finding::ServedOtherBytes(_))), "{findings:?}");
}

#[test]
fn a_last_byte_that_no_server_read() {
    let mut world = good_world();
    let host = world.backends.iter_mut().find(|host| !host.ended.is_empty()).expect("a served connection");
    host.ended[0].server.read.pop().expect("a request");
    expect(&world, |finding| matches!(finding, Finding::ServedOtherBytes(_)));
}

#[test]
fn a_last_byte_that_no_client_read() {
    let mut world = good_world();
    let served = |client: &&mut Client| {
        !matches!(client.script.ending, Ending::Nothing | Ending::Abort(_))
            && client.outcome == Some(Outcome::Complete)
    };
    world.clients.values_mut().find(served).expect("an answer").read.pop();
    expect(&world, |finding| matches!(finding, Finding::ServedOtherBytes(_)));
}

#[test]
fn a_request_that_ran_at_two_servers() {
    let mut world = good_world();
    let host = world.backends.iter().position(|host| !host.ended.is_empty()).expect("a served connection");
    let ran = world.backends[host].ended[0].server.ran.clone();
    let other =
        world.backends.iter_mut().enumerate().find(|(at, other)| *at != host && !other.ended.is_empty());
    other.expect("another").1.ended[0].server.ran.extend(ran);
    expect(&world, |finding| matches!(finding, Finding::RanTwice(_)));
}

#[test]
fn a_request_that_ran_where_no_rule_sends_it() {
    let mut world = good_world();
    // Whoever asked for `video` has been served by the first backend: now it was the second.
    let is_video = |read: &[u8]| {
        read.split(|byte| *byte == b' ').nth(1).is_some_and(|path| path.starts_with(b"/video/"))
    };
    let at = world.backends[0].ended.iter().position(|ended| is_video(&ended.server.read));
    let moved = world.backends[0].ended.remove(at.expect("somebody asked for a video"));
    world.backends[1].ended.push(moved);
    expect(&world, |finding| matches!(finding, Finding::WrongBackend(_)));
}

#[test]
fn ends_that_nothing_explains() {
    for outcome in
        [Outcome::Reset, Outcome::TimedOut, Outcome::CutShort, Outcome::Refused(503), Outcome::Refused(400)]
    {
        let mut world = good_world();
        let client = world.clients.values_mut().next().expect("a connection");
        client.outcome = Some(outcome);
        expect(&world, |finding| matches!(finding, Finding::WrongEnd(_)));
    }
}

/// A world of a scenario whose faults are over, with all that followed.
fn world_after(name: &str, seed: u64) -> (World, Tolerance) {
    let scenario = scenario::named(name).expect("a scenario of that name");
    let mut world = World::new(scenario.plan(seed), seed, None);
    let_connections_end(&mut world);
    world.slow_down();
    let deadline = world.now.plus(Micros::from_secs(1800));
    assert!(world.run_until(deadline, |world| world.is_at_rest()));
    assert_eq!(oracle::judge(&world, &scenario.tolerance), [], "nothing is wrong yet");
    (world, scenario.tolerance)
}

#[test]
fn a_fault_excuses_nothing_that_began_when_it_was_over() {
    for (name, outcome) in [
        ("control-delayed", Outcome::Refused(503)),
        ("clock-jump", Outcome::Refused(503)),
        ("switch-restart", Outcome::Reset),
        ("backend-cut", Outcome::TimedOut),
    ] {
        let (mut world, tolerance) = world_after(name, 3);
        let calm = world.calm_since().plus(oracle::SETTLING);
        let late = world.clients.values_mut().find(|client| client.script.start > calm);
        late.expect("a connection after the faults").outcome = Some(outcome);
        let findings = oracle::judge(&world, &tolerance);
        assert!(matches!(&findings[..], [Finding::WrongEnd(_)]), "{name}: {findings:?}");
        // Where faults last, the same end is fine.
        let lasting = Tolerance { lasts: true, losses: Losses::Any, refusals: Refusals::Any, ..tolerance };
        if matches!(outcome, Outcome::Refused(_)) {
            assert_eq!(oracle::judge(&world, &lasting), [], "{name}");
        }
    }
}

#[test]
fn a_loss_is_explained_by_a_fault_of_its_own_time_only() {
    // The cable of one backend is cut for a while, about which nobody who came and went before can complain.
    let seed = (1..).find(|seed| {
        let plan = scenario::named("backend-cut").expect("there is one").plan(*seed);
        let cut = plan.faults[0];
        let early = plan.conversations.iter().any(|script| script.start.plus(Micros::from_secs(1)) < cut.at);
        matches!(cut.fault, Fault::BackendCut(_)) && early
    });
    let (mut world, tolerance) = world_after("backend-cut", seed.expect("some seed"));
    let cut = START.plus(world.plan.faults[0].at);
    let early = world.clients.values_mut().find(|client| client.ended.is_some_and(|ended| ended < cut));
    let early = early.expect("one that ended before");
    early.outcome = Some(Outcome::Reset);
    let port = early.script.port;
    let findings = oracle::judge(&world, &tolerance);
    assert!(matches!(&findings[..], [Finding::WrongEnd(_)]), "{findings:?}");

    // Nor is it an excuse that no server had it.
    for host in &mut world.backends {
        host.ended.retain(|ended| ended.tuple.client_port != port);
    }
    let early = world.clients.values_mut().find(|client| client.script.port == port);
    early.expect("the same").read.clear();
    let findings = oracle::judge(&world, &tolerance);
    assert!(matches!(&findings[..], [Finding::WrongEnd(_)]), "{findings:?}");
}

#[test]
fn connections_without_an_end_and_answers_without_a_server() {
    let mut world = good_world();
    world.clients.values_mut().next().expect("a connection").outcome = None;
    expect(&world, |finding| matches!(finding, Finding::NoEnd(_)));

    let mut world = good_world();
    let asked = world.clients.values_mut().find(|client| client.script.ending != Ending::Nothing);
    let asked = asked.expect("a request");
    asked.read.clear();
    let port = asked.script.port;
    world.backends.iter_mut().for_each(|host| host.ended.retain(|ended| ended.tuple.client_port != port));
    expect(&world, |finding| matches!(finding, Finding::WrongEnd(_)));
}

#[test]
fn flows_and_sockets_that_stay() {
    let world = answered_world();
    let left = oracle::judge_rest(&world);
    assert!(
        left.iter().any(|finding| matches!(finding, Finding::Leak(_))),
        "no timer has run out yet: {left:?}"
    );
}
