//! What happened, for operators: every change of state that is logged, numbered and kept for a while.

use std::collections::VecDeque;
use std::time::Duration;

use handoff_proto::Micros;
use handoff_proto::admin::{Event, EventKind, Events};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

/// How many events are kept. At the limit the oldest goes; who asks for it is told that it is lost.
pub const EVENTS_KEPT_MAX: usize = 1_024;
/// How many characters of a story are kept.
const TEXT_CHARS_MAX: usize = 1_000;

/// The newest events.
#[derive(Debug)]
pub struct Chronicle {
    /// The events in their order; guards also that their numbers rise as they are told.
    kept: Mutex<VecDeque<Event>>,
    /// Number of the newest event, 0 before the first.
    newest: watch::Sender<u64>,
}

impl Default for Chronicle {
    fn default() -> Self {
        let kept = Mutex::new(VecDeque::with_capacity(EVENTS_KEPT_MAX));
        Self { kept, newest: watch::Sender::new(0) }
    }
}

impl Chronicle {
    /// Keeps an event and wakes who waits for it.
    pub fn note(&self, time: Micros, kind: EventKind, subject: Option<&str>, text: &str) {
        let mut kept = self.kept.lock();
        if kept.len() == EVENTS_KEPT_MAX {
            kept.pop_front();
        }
        let number = self.newest.borrow().saturating_add(1);
        kept.push_back(Event { number, time, kind, subject: subject.map(str::to_owned), text: line(text) });
        // Under the lock, so that who is woken finds it and numbers never run backwards.
        self.newest.send_replace(number);
    }

    /// Returns the events behind number `after`. A number that was never given is one of an earlier run of the switch: then all
    /// that is kept is news.
    pub fn since(&self, after: u64) -> Events {
        let kept = self.kept.lock();
        let newest = *self.newest.borrow();
        let after = if after > newest { 0 } else { after };
        let events: Vec<Event> = kept.iter().filter(|event| event.number > after).cloned().collect();
        let first = events.first().map_or(newest.saturating_add(1), |event| event.number);
        Events { lost: first.saturating_sub(after.saturating_add(1)), events }
    }

    /// As [`Chronicle::since`]; where there is nothing yet, waits for it, at most for `patience`.
    pub async fn await_since(&self, after: u64, patience: Duration) -> Events {
        let mut newest = self.newest.subscribe();
        // Waiting in vain is an answer, too.
        let news = newest.wait_for(|newest| *newest != after);
        if timeout(patience, news).await.is_ok_and(|sender| sender.is_ok()) || patience.is_zero() {
            return self.since(after);
        }
        Events { lost: 0, events: Vec::new() }
    }
}

/// Makes a story fit for one line of a terminal.
fn line(text: &str) -> String {
    let plain = |character: char| if character.is_control() { ' ' } else { character };
    text.chars().map(plain).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Builder;

    use super::*;

    fn note(chronicle: &Chronicle, text: &str) {
        chronicle.note(Micros(7), EventKind::BackendUsable, Some("one"), text);
    }

    fn numbers(events: &Events) -> Vec<u64> {
        events.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn events_are_numbered_from_one_and_told_from_any_number_on() {
        let chronicle = Chronicle::default();
        assert_eq!(chronicle.since(0), Events { lost: 0, events: Vec::new() });
        for text in ["a", "b\nc\u{1b}[2J", "d"] {
            note(&chronicle, text);
        }
        let all = chronicle.since(0);
        assert_eq!((all.lost, numbers(&all)), (0, vec![1, 2, 3]));
        assert_eq!(all.events[1].text, "b c [2J", "one line, and no orders to terminals");
        assert_eq!((all.events[0].time, all.events[0].subject.as_deref()), (Micros(7), Some("one")));
        assert_eq!(numbers(&chronicle.since(2)), [3]);
        assert_eq!(chronicle.since(3), Events { lost: 0, events: Vec::new() });
        // As a follower asks that outlived a switch.
        assert_eq!(numbers(&chronicle.since(4)), [1, 2, 3]);
    }

    #[test]
    fn the_oldest_goes_at_the_limit_and_is_told_as_lost() {
        let chronicle = Chronicle::default();
        (0..EVENTS_KEPT_MAX + 3).for_each(|_| note(&chronicle, "x"));
        let all = chronicle.since(0);
        assert_eq!((all.lost, all.events.len(), all.events[0].number), (3, EVENTS_KEPT_MAX, 4));
        assert_eq!(chronicle.since(2).lost, 1);
        assert_eq!(chronicle.since(3).lost, 0);
        let newest = chronicle.since(u64::try_from(EVENTS_KEPT_MAX).expect("small") + 2);
        assert_eq!((newest.lost, newest.events.len()), (0, 1));
        note(&chronicle, &"ü".repeat(2_000));
        let last = chronicle.since(u64::try_from(EVENTS_KEPT_MAX).expect("small") + 3);
        assert_eq!(last.events[0].text, "ü".repeat(TEXT_CHARS_MAX));
    }

    #[test]
    fn who_waits_is_woken_by_the_next_event_and_else_answered_in_time() {
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let chronicle = Arc::new(Chronicle::default());
        let patient = Duration::from_secs(3600);
        let waiting = {
            let chronicle = Arc::clone(&chronicle);
            runtime.spawn(async move { chronicle.await_since(0, patient).await })
        };
        runtime.block_on(tokio::task::yield_now());
        assert!(!waiting.is_finished());
        note(&chronicle, "news");
        assert_eq!(numbers(&runtime.block_on(waiting).expect("answers")), [1]);
        let none = runtime.block_on(chronicle.await_since(1, Duration::from_millis(1)));
        assert_eq!(none.events, []);
        let at_once = runtime.block_on(chronicle.await_since(0, Duration::ZERO));
        assert_eq!(numbers(&at_once), [1]);
    }
}
