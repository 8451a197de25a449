//! What control notices by itself: reports that stay out, requests refused for overload.

use std::io::Write;

use baton_core::policy::{BackendIndex, ClassIndex};
use baton_switch::metrics::{self, Sample};
use handoff_proto::TlsSessionId;
use handoff_proto::admin::{Changes, Event, EventKind, Events};
use handoff_proto::control::{FromAgent, Sessions};

use super::orders::rich;
use super::{Agent, VIP, World, await_that, key};

impl World {
    /// The events of a kind.
    fn told(&self, kind: EventKind) -> Vec<Event> {
        let events: Events = self.get("/v1/events?after=0");
        events.events.into_iter().filter(|event| event.kind == kind).collect()
    }

    /// Whether the report of the first backend is old.
    fn is_stale(&self) -> Option<bool> {
        let backends = self.shared.backends();
        backends
            .into_iter()
            .find(|(index, _)| *index == BackendIndex(0))
            .and_then(|(_, one)| one.report_stale)
    }

    /// Says whether a scraper finds this line.
    fn exports(&self, line: &str) -> bool {
        let text = metrics::render(&Sample::take(&self.shared)).expect("renders");
        text.lines().any(|found| found == line)
    }
}

impl Agent {
    /// Says something that is no report, so that its connection lives on.
    fn learn(&mut self) {
        let ids = vec![TlsSessionId::new(b"x").expect("an id")];
        let sealed = self.channel.seal(&FromAgent::Sessions(Sessions { vip: VIP, ids })).expect("open");
        self.stream.write_all(&sealed).expect("control reads");
    }
}

#[test]
fn reports_that_stay_out_are_told_and_exported_until_they_come() {
    let world = World::start();
    let (mut agent, _) = Agent::connect(&world, &key(), "one", [10, 60, 0, 11]);
    agent.report(true).expect("answered");
    assert!(world.is_stale().is_some());
    await_that("news of old reports", || {
        agent.learn();
        !world.told(EventKind::ReportsStale).is_empty()
    });
    let told = world.told(EventKind::ReportsStale);
    assert_eq!((told.len(), told[0].subject.as_deref()), (1, Some("one")));
    assert!(told[0].text.contains("for more than 350 ms"), "{}", told[0].text);
    assert_eq!(world.is_stale(), Some(true));
    assert!(world.exports("baton_backend_report_stale{backend=\"one\"} 1"));

    await_that("a fresh report", || {
        agent.report(true).expect("answered");
        world.is_stale() == Some(false)
            && world.exports("baton_backend_report_stale{backend=\"one\"} 0")
            && world.exports("baton_backend_connections{backend=\"one\"} 3")
    });
    assert_eq!(world.told(EventKind::ReportsFresh), [], "not before they have come in time for a while");

    drop(agent);
    await_that("the agent's end", || world.is_stale().is_none());
    let text = metrics::render(&Sample::take(&world.shared)).expect("renders");
    for gone in ["report_stale", "report_age_seconds", "connections"] {
        let series = format!("baton_backend_{gone}{{backend=\"one\"}}");
        assert!(!text.contains(&series), "{series} although nobody tells it");
    }
    world.control.stop();
}

#[test]
fn refusals_for_overload_are_told_by_class_and_once_a_spell() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(&rich()));
    let refuse = |lcore: usize, class| {
        let lcore = world.shared.observer.lcores().get(lcore).expect("there are two");
        lcore.core.count_class(ClassIndex(class), false);
    };
    let of = |subject: Option<&str>| {
        let told = world.told(EventKind::OverloadBegan);
        told.into_iter().filter(|event| event.subject.as_deref() == subject).collect::<Vec<_>>()
    };
    world.shared.observer.lcores()[0].core.count_class(ClassIndex(1), true);
    refuse(1, 1);
    await_that("news of the first refusal", || !of(Some("gold")).is_empty());
    // A second class; meanwhile the first is refused again and again, on either lcore.
    refuse(0, 0);
    await_that("news of the other class", || {
        refuse(0, 1);
        refuse(1, 1);
        !of(None).is_empty()
    });
    let (gold, other) = (of(Some("gold")), of(None));
    assert_eq!((gold.len(), other.len()), (1, 1));
    let text = "requests of class \"gold\" are refused for overload; its rules lead to pool some";
    assert_eq!(gold[0].text, text);
    assert!(
        other[0].text.starts_with("requests of rules that name no class are refused"),
        "{}",
        other[0].text
    );
    assert!(other[0].text.ends_with("pool all"), "{}", other[0].text);
    assert_eq!(world.told(EventKind::OverloadEnded), []);
    world.control.stop();
}
