//! The examples of docs/ADMIN.md are what the types read and write: no member missing, none too many, none of another form.

use std::fs;
use std::path::Path;

use handoff_proto::admin::{
    Backend, CaptureRequest, Changes, Class, Configuration, ConfigurationText, Counter, Event, EventKind,
    Events, Fault, Flows, NewBackend, NewWeight, Pool, Route, Rule, Status,
};
use handoff_proto::time::Micros;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ADMIN.md");
    fs::read_to_string(path).expect("the page is there")
}

/// Each example with the type it is marked with.
fn examples(page: &str) -> Vec<(&str, &str)> {
    let marked = page.split("<!-- json: ").skip(1);
    marked
        .map(|rest| {
            let (name, rest) = rest.split_once(" -->").expect("a mark ends");
            let (_, block) = rest.split_once("```json\n").expect("an example follows");
            (name, block.split_once("```").expect("it ends").0)
        })
        .collect()
}

fn check<T: Serialize + DeserializeOwned>(text: &str) {
    let written: Value = serde_json::from_str(text).expect("JSON");
    let read: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(serde_json::to_value(read).expect("JSON"), written);
}

#[test]
fn every_example_of_the_page_is_read_and_written_the_same() {
    let page = page();
    let examples = examples(&page);
    assert_eq!(examples.len(), page.matches("```json").count(), "an example without a mark");
    for (name, text) in &examples {
        match *name {
            "Fault" => check::<Fault>(text),
            "Status" => check::<Status>(text),
            "Vec<Backend>" => check::<Vec<Backend>>(text),
            "Vec<Pool>" => check::<Vec<Pool>>(text),
            "Vec<Rule>" => check::<Vec<Rule>>(text),
            "Vec<Class>" => check::<Vec<Class>>(text),
            "Flows" => check::<Flows>(text),
            "Vec<Counter>" => check::<Vec<Counter>>(text),
            "Events" => check::<Events>(text),
            "Route" => check::<Route>(text),
            "CaptureRequest" => check::<CaptureRequest>(text),
            "Changes" => check::<Changes>(text),
            "Configuration" => check::<Configuration>(text),
            "ConfigurationText" => check::<ConfigurationText>(text),
            "NewBackend" => check::<NewBackend>(text),
            "NewWeight" => check::<NewWeight>(text),
            name => panic!("no type {name}"),
        }
    }
    assert_eq!(examples.len(), 17);
}

#[test]
fn what_may_be_left_out_may_and_nothing_else() {
    let least: NewBackend = serde_json::from_str(r#"{"name": "a", "address": "10.0.0.1"}"#).expect("enough");
    assert_eq!((least.weight, least.pools.len(), least.drain, least.connections_max), (None, 0, false, None));
    serde_json::from_str::<NewBackend>(r#"{"name": "a"}"#).expect_err("no address");
    serde_json::from_str::<NewWeight>(r#"{"weight": 1, "wait": 2}"#).expect_err("an unknown member");
    let all = r#"{"client": "10.0.0.1", "frames_max": 1, "seconds_max": 1}"#;
    let capture: CaptureRequest = serde_json::from_str(all).expect("enough");
    assert_eq!((capture.client_port, capture.vip), (None, None));
}

#[test]
fn an_events_kind_has_one_name() {
    let page = page();
    for kind in [
        EventKind::Started,
        EventKind::BackendUsable,
        EventKind::BackendUnusable,
        EventKind::AgentRefused,
        EventKind::AddressConflict,
        EventKind::ConfigurationApplied,
        EventKind::ConfigurationRefused,
        EventKind::Capture,
        EventKind::ReportsStale,
        EventKind::ReportsFresh,
        EventKind::OverloadBegan,
        EventKind::OverloadEnded,
    ] {
        let event = Event { number: 1, time: Micros(0), kind, subject: None, text: String::new() };
        let written = serde_json::to_value(event).expect("JSON");
        assert_eq!(written["kind"], kind.name());
        assert!(page.contains(&format!("`{}`", kind.name())), "the page speaks of {}", kind.name());
    }
}
