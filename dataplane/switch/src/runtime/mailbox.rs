//! How control and the other lcores reach an lcore.

use core::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use baton_core::metrics::BACKENDS_MAX;
use baton_core::policy::balance::Tally;
use baton_core::policy::{BackendIndex, Load};
use baton_core::switch::{Explanation, FlowView, Learned, Retired, Update};
use baton_core::wire::MacAddress;
use crossbeam::queue::ArrayQueue;
use handoff_proto::TlsSessionId;
use tokio::sync::oneshot;

use super::asked::Asked;
use super::capture::Tap;
use crate::dpdk::Frame;

/// How many frames of other lcores may wait for one. At the limit the frame is dropped and counted as `drop_steer_failed`.
pub const STEERED_COUNT_MAX: usize = 256;
/// How many learned addresses may wait: one of each backend there ever was. At the limit the oldest is lost and counted.
pub const NEWS_COUNT_MAX: usize = BACKENDS_MAX;
/// How many learned TLS sessions may wait. At the limit the oldest is lost and counted: its client's next handshake is a full one.
pub const SESSIONS_COUNT_MAX: usize = 4096;
/// How many questions may wait. At the limit control is told to ask again later.
const QUESTION_COUNT_MAX: usize = 4;
/// How many changes of a tap may wait: one capture runs at a time, and another may begin where an lcore was slow to end the last.
const TAP_CHANGE_COUNT_MAX: usize = 4;
/// How many retired snapshots may wait for control to free them. Control does so each time before it publishes, and an lcore can
/// take no more until then than the one that was published before and this one: there is always room.
const RETIRED_COUNT_MAX: usize = 2;

/// What control may ask an lcore. The room for the answer comes with the question, so that the lcore allocates nothing.
#[derive(Debug)]
pub enum Question {
    /// Fill `room`, up to its capacity, with flows.
    Flows {
        /// Empty, with capacity.
        room: Vec<FlowView>,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<FlowView>>,
    },
    /// Who was last seen to claim an address of ours?
    Conflict {
        /// Where the answer goes.
        reply: oneshot::Sender<Option<Learned>>,
    },
    /// What would become of a request now?
    Explain {
        /// The request.
        asked: Box<Asked>,
        /// Where the answer goes.
        reply: oneshot::Sender<Explanation>,
    },
    /// Fill the room, up to its capacity, with what dispatch counts.
    Dispatched {
        /// Empty, with capacity.
        room: Dispatched,
        /// Where the answer goes.
        reply: oneshot::Sender<Dispatched>,
    },
    /// Fill `room`, up to its capacity, with next hops.
    NextHops {
        /// Empty, with capacity.
        room: Vec<(Ipv4Addr, Option<MacAddress>)>,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<(Ipv4Addr, Option<MacAddress>)>>,
    },
}

/// What an lcore has given to whom.
#[derive(Debug, Default)]
pub struct Dispatched {
    /// By backend.
    pub tallies: Vec<Tally>,
    /// By rule: requests it took since the rules are in force.
    pub rule_hits: Vec<u64>,
}

/// A TLS session that a backend has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnedSession {
    /// Its id.
    pub id: TlsSessionId,
    /// The backend.
    pub backend: BackendIndex,
}

/// A tap to put in or, without one, to take out. The lcore gives back what it had, so that it frees no memory.
#[derive(Debug)]
pub struct TapChange {
    /// From now on.
    pub tap: Option<Arc<Tap>>,
    /// Where the one before goes.
    pub reply: oneshot::Sender<Option<Arc<Tap>>>,
}

/// What others have for one lcore, and what it has for control. Anybody puts in, and that lcore takes out; but what it has retired
/// it puts in, and control takes out.
#[derive(Debug)]
pub struct Mailbox {
    /// Set when something was put in, so that the lcore, which looks every turn, mostly reads one word.
    rung: AtomicBool,
    /// The latest only.
    update: ArrayQueue<Update>,
    retired: ArrayQueue<Retired>,
    questions: ArrayQueue<Question>,
    taps: ArrayQueue<TapChange>,
    steered: ArrayQueue<Frame>,
    news: ArrayQueue<Learned>,
    news_lost: AtomicU64,
    /// The latest only, as with snapshots.
    loads: ArrayQueue<Arc<[Option<Load>]>>,
    sessions: ArrayQueue<LearnedSession>,
    sessions_lost: AtomicU64,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            rung: AtomicBool::new(false),
            update: ArrayQueue::new(1),
            retired: ArrayQueue::new(RETIRED_COUNT_MAX),
            questions: ArrayQueue::new(QUESTION_COUNT_MAX),
            taps: ArrayQueue::new(TAP_CHANGE_COUNT_MAX),
            steered: ArrayQueue::new(STEERED_COUNT_MAX),
            news: ArrayQueue::new(NEWS_COUNT_MAX),
            news_lost: AtomicU64::new(0),
            loads: ArrayQueue::new(1),
            sessions: ArrayQueue::new(SESSIONS_COUNT_MAX),
            sessions_lost: AtomicU64::new(0),
        }
    }
}

impl Mailbox {
    /// Publishes a snapshot, in place of one that has not been taken yet. One thread at a time may do so.
    pub fn publish(&self, update: Update) {
        self.free_retired();
        let update = match self.update.pop() {
            Some(untaken) => update.in_place_of(untaken),
            None => update,
        };
        self.update.force_push(update);
        self.ring();
    }

    /// Frees what the lcore needs no more.
    pub fn free_retired(&self) {
        while self.retired.pop().is_some() {}
    }

    /// Publishes what agents report, by backend, in place of what has not been taken yet.
    pub fn publish_loads(&self, loads: Arc<[Option<Load>]>) {
        self.loads.force_push(loads);
        self.ring();
    }

    /// Tells which backend made a TLS session.
    pub fn tell_session(&self, session: LearnedSession) {
        if self.sessions.force_push(session).is_some() {
            self.sessions_lost.fetch_add(1, Ordering::Relaxed);
        }
        self.ring();
    }

    /// Returns how many learned TLS sessions were lost because too many waited.
    pub fn sessions_lost(&self) -> u64 {
        self.sessions_lost.load(Ordering::Relaxed)
    }

    /// Asks. Says whether there was room for the question; if not, its reply channel is closed.
    pub fn ask(&self, question: Question) -> bool {
        let is_taken = self.questions.push(question).is_ok();
        self.ring();
        is_taken
    }

    /// Changes what the lcore keeps of its frames. Says whether there was room for the change; if not, its reply channel is
    /// closed.
    pub fn change_tap(&self, change: TapChange) -> bool {
        let is_taken = self.taps.push(change).is_ok();
        self.ring();
        is_taken
    }

    /// Hands over a frame.
    ///
    /// # Errors
    /// Gives it back if too many wait.
    pub fn steer(&self, frame: Frame) -> Result<(), Frame> {
        self.steered.push(frame)?;
        self.ring();
        Ok(())
    }

    /// Tells what another lcore learned.
    pub fn tell(&self, news: Learned) {
        if self.news.force_push(news).is_some() {
            self.news_lost.fetch_add(1, Ordering::Relaxed);
        }
        self.ring();
    }

    /// Returns how many news were lost because too many waited.
    pub fn news_lost(&self) -> u64 {
        self.news_lost.load(Ordering::Relaxed)
    }

    /// Returns what is in the box if anything was put in since the last call; mostly one load.
    #[inline]
    pub fn letters(&self) -> Option<Letters<'_>> {
        // Whoever put something in after the swap rings again; what was put in before is seen now.
        let is_rung = self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::Acquire);
        is_rung.then_some(Letters { mailbox: self })
    }

    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
    }
}

/// What is in a mailbox. End with [`Letters::leave`].
#[derive(Debug)]
pub struct Letters<'a> {
    mailbox: &'a Mailbox,
}

impl Letters<'_> {
    /// Takes the latest snapshot.
    pub fn update(&self) -> Option<Update> {
        self.mailbox.update.pop()
    }

    /// Leaves it to control to free what is needed no more.
    pub fn retire(&self, retired: Retired) {
        let is_taken = self.mailbox.retired.push(retired).is_ok();
        debug_assert!(is_taken, "control frees what was retired before it publishes");
    }

    /// Takes the latest reports.
    pub fn loads(&self) -> Option<Arc<[Option<Load>]>> {
        self.mailbox.loads.pop()
    }

    /// Takes the oldest learned TLS session.
    pub fn session(&self) -> Option<LearnedSession> {
        self.mailbox.sessions.pop()
    }

    /// Takes the oldest question.
    pub fn question(&self) -> Option<Question> {
        self.mailbox.questions.pop()
    }

    /// Takes the oldest change of the tap.
    pub fn tap_change(&self) -> Option<TapChange> {
        self.mailbox.taps.pop()
    }

    /// Takes the oldest frame of another lcore.
    pub fn steered(&self) -> Option<Frame> {
        self.mailbox.steered.pop()
    }

    /// Takes the oldest news.
    pub fn news(&self) -> Option<Learned> {
        self.mailbox.news.pop()
    }

    /// Leaves what was not taken, if anything, for the next turn.
    pub fn leave(self) {
        let Mailbox { update, questions, taps, steered, news, loads, sessions, .. } = self.mailbox;
        let is_control_done =
            update.is_empty() && questions.is_empty() && taps.is_empty() && loads.is_empty();
        if !(is_control_done && steered.is_empty() && news.is_empty() && sessions.is_empty()) {
            self.mailbox.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_core::policy::Pool;
    use baton_core::switch::{Renewal, Snapshot};
    use handoff_proto::keys::Key;
    use handoff_proto::{KeyId, KeyRing};

    use super::*;

    fn news(last: u8) -> Learned {
        Learned { address: Ipv4Addr::new(10, 60, 0, last), mac: MacAddress([2, 0, 0, 0, 0, last]) }
    }

    #[test]
    fn the_box_is_looked_into_only_when_something_was_put_in() {
        let mailbox = Mailbox::default();
        assert!(mailbox.letters().is_none());
        mailbox.tell(news(1));
        let letters = mailbox.letters().expect("rung");
        assert_eq!(letters.news(), Some(news(1)));
        assert!(mailbox.letters().is_none());
        mailbox.tell(news(2));
        mailbox.letters().expect("rung").leave();
        let letters = mailbox.letters().expect("left for the next turn");
        assert_eq!(letters.news(), Some(news(2)));
        letters.leave();
        assert!(mailbox.letters().is_none());
    }

    /// What one pool of backends needs that was not there before.
    fn snapshot(members: u16) -> Arc<Snapshot> {
        let pools = if members == 0 { Vec::new() } else { vec![Pool::of((0..members).map(BackendIndex))] };
        let keys = KeyRing::new(vec![Key::new(KeyId(1), [7; 32])]).expect("one key");
        Arc::new(Snapshot { pools, ..Snapshot::bare(keys) })
    }

    #[test]
    fn what_overtakes_an_untaken_snapshot_brings_what_was_new_in_it() {
        let (before, after) = (snapshot(0), snapshot(3));
        let mailbox = Mailbox::default();
        let renewal = Renewal::between(&before, &after);
        assert!(!renewal.is_empty(), "a policy's state");
        mailbox.publish(Update::new(Arc::clone(&after), renewal));
        mailbox.publish(Update::new(Arc::clone(&after), Renewal::default()));
        let letters = mailbox.letters().expect("rung");
        let taken = letters.update().expect("the later one");
        assert!(!taken.renewal().is_empty(), "lost with the earlier one");
        assert!(letters.update().is_none(), "one is enough");
    }

    #[test]
    fn too_many_questions_are_refused_and_their_askers_told() {
        let mailbox = Mailbox::default();
        for _ in 0..QUESTION_COUNT_MAX {
            let (reply, _) = oneshot::channel();
            assert!(mailbox.ask(Question::Flows { room: Vec::new(), reply }));
        }
        let (reply, mut answer) = oneshot::channel();
        assert!(!mailbox.ask(Question::Flows { room: Vec::new(), reply }));
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }

    #[test]
    fn news_beyond_the_limit_push_out_the_oldest_and_are_counted() {
        let mailbox = Mailbox::default();
        (0..NEWS_COUNT_MAX).for_each(|_| mailbox.tell(news(1)));
        assert_eq!(mailbox.news_lost(), 0);
        mailbox.tell(news(2));
        assert_eq!(mailbox.news_lost(), 1);
        let letters = mailbox.letters().expect("rung");
        let all: Vec<Learned> = std::iter::from_fn(|| letters.news()).collect();
        assert_eq!((all.len(), all.last()), (NEWS_COUNT_MAX, Some(&news(2))));
    }
}
