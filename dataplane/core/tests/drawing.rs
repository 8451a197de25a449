//! The life of a flow as `docs/ARCHITECTURE.md` draws it, against the code that moves flows.

use std::collections::BTreeSet;

use baton_core::flow::{Event, State};

const PAGE: &str = include_str!("../../../docs/ARCHITECTURE.md");

/// An arrow for an event, by name: from, to, event. A flow that is over has gone to `[*]`.
type Arrow = (String, String, String);

/// What is drawn: of `A --> B: Event, Event (why); something else`, an arrow for each event. Arrows that begin nowhere, and those
/// for what is no event (timers, packets of other connections), are not looked at.
fn drawn() -> BTreeSet<Arrow> {
    let (_, behind) = PAGE.split_once("stateDiagram-v2\n").expect("the drawing");
    let (drawing, _) = behind.split_once("```").expect("its end");
    let mut arrows = BTreeSet::new();
    for line in drawing.lines() {
        let (ends, text) = line.split_once(": ").expect("every arrow says what for");
        let (from, to) = ends.trim().split_once(" --> ").expect("an arrow");
        let events = text.split([';', '(']).next().unwrap_or_default();
        for name in events.split(',').map(str::trim) {
            if Event::ALL.iter().any(|event| format!("{event:?}") == name) {
                arrows.insert((from.to_owned(), to.to_owned(), name.to_owned()));
            }
        }
    }
    arrows
}

/// What the code does, where it does anything.
fn coded() -> BTreeSet<Arrow> {
    let pairs = State::ALL.into_iter().flat_map(|state| Event::ALL.map(|event| (state, event)));
    let moves = pairs.filter(|(state, event)| state.after(*event) != Some(*state));
    moves
        .map(|(state, event)| {
            let to = state.after(event).map_or("[*]".to_owned(), |after| format!("{after:?}"));
            (format!("{state:?}"), to, format!("{event:?}"))
        })
        .collect()
}

#[test]
fn the_drawing_has_every_move_of_a_flow_and_no_other() {
    let (drawn, coded) = (drawn(), coded());
    assert!(drawn.len() > 10, "the drawing was read: {drawn:?}");
    let missing: Vec<_> = coded.difference(&drawn).collect();
    let invented: Vec<_> = drawn.difference(&coded).collect();
    assert!(missing.is_empty() && invented.is_empty(), "not drawn: {missing:?}; not so: {invented:?}");
}
