//! The body of the burst loop on one lcore.

use std::sync::Arc;

use baton_core::switch::Learned;
use baton_core::{Counters, DropReason, Frame as FrameView, Outbox, Switch, Verdict};
use handoff_proto::Micros;

use super::capture::Tap;
use super::clock::Clock;
use super::mailbox::{Letters, Mailbox, Question};
use crate::dpdk::{BURST, Burst, Frame, Tx, Worker};

/// How many news are taken in one turn.
const NEWS_PER_TURN: usize = 64;

/// How many learned TLS sessions are taken in one turn.
const SESSIONS_PER_TURN: usize = 64;

/// The switch of one lcore, between its queue and its mailbox.
#[derive(Debug)]
pub struct SwitchWorker {
    seat: Seat,
    clock: Clock,
    /// Which of `mailboxes` is ours.
    own: usize,
    /// Of all lcores, in the order of their indices.
    mailboxes: Arc<[Mailbox]>,
    /// Where copies of frames go, while a capture runs.
    tap: Option<Arc<Tap>>,
}

/// The switch and its counters.
#[derive(Debug)]
struct Seat {
    switch: Switch,
    counters: Arc<Counters>,
}

impl SwitchWorker {
    /// Puts a switch to work on lcore number `own`. `counters` are the switch's own.
    pub const fn new(
        switch: Switch,
        counters: Arc<Counters>,
        clock: Clock,
        own: usize,
        mailboxes: Arc<[Mailbox]>,
    ) -> Self {
        Self { seat: Seat { switch, counters }, clock, own, mailboxes, tap: None }
    }
}

impl Worker for SwitchWorker {
    fn turn(&mut self, received: &mut Burst, tx: &mut Tx) {
        let now = self.clock.now();
        let letters = self.mailboxes.get(self.own).and_then(Mailbox::letters);
        if let Some(change) = letters.as_ref().and_then(Letters::tap_change) {
            let before = std::mem::replace(&mut self.tap, change.tap);
            // Nobody listening any more is no fault: control stops waiting after a while.
            drop(change.reply.send(before));
        }
        let mailboxes = &self.mailboxes;
        let mut out = Out { tx, own: self.own, mailboxes, tap: self.tap.as_deref(), now };
        if let Some(letters) = letters {
            self.seat.open(&letters, now, &mut out);
            letters.leave();
        }
        for frame in received {
            if let Some(tap) = out.tap {
                tap.look_at(frame.data(), now);
            }
            self.seat.look_at(frame, now, &mut out);
        }
        self.seat.switch.poll(now, &mut out);
    }
}

impl Seat {
    /// Takes in what others have for this lcore, a bounded amount of it.
    #[cold]
    fn open(&mut self, letters: &Letters<'_>, now: Micros, out: &mut Out<'_>) {
        // Taken before the update, answered behind it: what was asked once a configuration was published is answered by it.
        let question = letters.question();
        if let Some(update) = letters.update() {
            letters.retire(self.switch.apply(update, now));
        }
        if let Some(loads) = letters.loads() {
            self.switch.take_loads(loads);
        }
        for _ in 0..SESSIONS_PER_TURN {
            let Some(session) = letters.session() else { break };
            self.switch.learn_session(session.id.as_bytes(), session.backend, now);
        }
        if let Some(question) = question {
            self.answer(question, now);
        }
        for _ in 0..NEWS_PER_TURN {
            let Some(news) = letters.news() else { break };
            self.switch.learn(news, now);
        }
        for _ in 0..BURST {
            let Some(frame) = letters.steered() else { break };
            self.look_at(frame, now, out);
        }
    }

    /// Gives a frame to the switch and does as it says.
    fn look_at(&mut self, mut frame: Frame, now: Micros, out: &mut Out<'_>) {
        let (buffer, start, len) = frame.buffer_mut();
        let Some(mut view) = FrameView::new(buffer, start, len) else {
            unreachable!("the door's frames lie inside their buffers")
        };
        let verdict = self.switch.receive(&mut view, now, out);
        match verdict {
            Verdict::Forward | Verdict::Reply => {
                if let Some(tap) = out.tap {
                    tap.look_at(view.bytes(), now);
                }
                let (start, len) = (view.start(), view.len());
                match frame.set_data(start, len) {
                    Ok(()) => out.tx.send(frame),
                    Err(error) => unreachable!("a view stays inside its buffer: {error}"),
                }
            }
            Verdict::Absorb | Verdict::Drop(_) => drop(frame),
            Verdict::Steer(lcore) => {
                let inbox = out.mailboxes.get(usize::from(lcore));
                if inbox.is_none_or(|inbox| inbox.steer(frame).is_err()) {
                    self.counters.count_drop(DropReason::SteerFailed);
                }
            }
        }
    }

    /// Answers control. Nobody listening any more is no fault: control stops waiting after a while.
    fn answer(&self, question: Question, now: Micros) {
        match question {
            Question::Flows { mut room, reply } => {
                room.extend(self.switch.flows().take(room.capacity()));
                drop(reply.send(room));
            }
            Question::Conflict { reply } => drop(reply.send(self.switch.conflict())),
            // Here alone something is allocated on an lcore: for one request an operator asks about.
            Question::Explain { asked, reply } => {
                drop(reply.send(asked.with(|request| self.switch.explain(request, now))));
            }
            Question::Dispatched { mut room, reply } => {
                let (tallies, hits) = (self.switch.tallies(), self.switch.rule_hits());
                room.tallies.extend(tallies.iter().take(room.tallies.capacity()));
                room.rule_hits.extend(hits.iter().take(room.rule_hits.capacity()));
                drop(reply.send(room));
            }
            Question::NextHops { mut room, reply } => {
                room.extend(self.switch.next_hops().take(room.capacity()));
                drop(reply.send(room));
            }
        }
    }
}

/// Where the switch puts further frames and news.
struct Out<'a> {
    tx: &'a mut Tx,
    own: usize,
    mailboxes: &'a [Mailbox],
    tap: Option<&'a Tap>,
    now: Micros,
}

impl Outbox for Out<'_> {
    fn transmit(&mut self, frame: &[u8]) -> bool {
        if let Some(tap) = self.tap {
            tap.look_at(frame, self.now);
        }
        self.tx.send_copy(frame).is_ok()
    }

    fn share(&mut self, news: Learned) {
        let siblings = self.mailboxes.iter().enumerate().filter(|(index, _)| *index != self.own);
        siblings.for_each(|(_, mailbox)| mailbox.tell(news));
    }
}
