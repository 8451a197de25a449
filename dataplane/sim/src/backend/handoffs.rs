//! Does with handoffs and questions what the rules say, and remembers what became of them.

use handoff_proto::header::Detail;
use handoff_proto::tcp::TcpState;
use handoff_proto::{FourTuple, Generation, Header, MessageType, Micros};

use crate::backend::message::Message;
use crate::backend::rules::{self, Fate, Handoff, Holder, Record, Step};
use crate::backend::socket::{HandedOff, sequence};
use crate::backend::{Backend, MEMORY_AGE};
use crate::packet::{Bytes, Segment};

/// How long a message waits behind its base segment.
const REQUEUE: Micros = Micros::from_millis(5);
/// How far numbers may lie apart for a socket to be the one a forgotten handoff made.
const FITS_BYTES: u32 = 1 << 30;
/// How long a question about a connection that is being made goes unanswered.
const UNBORN: Micros = Micros::from_millis(100);

impl Backend {
    pub(super) fn handoff(
        &mut self,
        message: &Message<'_>,
        now: Micros,
        requeued: Option<Micros>,
        out: &mut Vec<Bytes>,
    ) {
        let tuple = message.tuple;
        let Some(segment) = Segment::read(message.inner) else {
            self.count("inner_unsound");
            return;
        };
        let header = &message.header;
        let is_base = sequence(segment.tcp.seq_number()) == header.base_seq
            && segment.tcp.ack()
            && !segment.tcp.rst()
            && sequence(segment.tcp.ack_number()) == header.base_ack;
        let handoff = Handoff {
            generation: header.generation,
            is_base,
            fits_socket: self.may_be_older(header.generation) && self.fits(&tuple, &segment, is_base),
        };
        let record = self.records.get(&tuple).copied();
        match rules::decide(handoff, self.holder(&tuple), record.as_ref(), now) {
            Step::Create => self.create(message, record.as_ref(), now, out),
            Step::Deliver => {
                self.count("delivered");
                self.deliver(&tuple, message.inner, now, out);
            }
            Step::Requeue if requeued.is_none() => {
                self.count("requeued");
                self.waiting.push((now.plus(REQUEUE), message.frame.to_vec()));
            }
            Step::Requeue | Step::Drop => self.count("dropped"),
            Step::Heal => {
                self.count("healed");
                let count = rules::heals(record.as_ref(), header.generation) + 1;
                self.remember(&tuple, header.generation, Fate::Healing(count), now);
                if let Some(socket) = self.sockets.get_mut(&tuple) {
                    socket.vanish(now);
                }
                self.end(&tuple);
                self.waiting.push((now, message.frame.to_vec()));
            }
            Step::Refuse(why) => self.refuse(message, why, now, out),
            Step::Gone(why) => {
                self.count("gone");
                self.answer(message, MessageType::Gone, why, out);
            }
        }
    }

    fn create(&mut self, message: &Message<'_>, record: Option<&Record>, now: Micros, out: &mut Vec<Bytes>) {
        let too_early =
            self.remembers_since.is_none_or(|since| message.header.issued < since.plus(MEMORY_AGE));
        let obstacle = if !self.is_ready || too_early {
            Some(Detail::NotReady)
        } else if !self.listens {
            Some(Detail::NoListener)
        } else if self.is_crowded {
            Some(Detail::QueueFull)
        } else {
            None
        };
        if let Some(why) = obstacle {
            match record.map_or(Step::Refuse(why), |record| rules::refuse(record, why, now)) {
                Step::Refuse(why) => self.refuse(message, why, now, out),
                _ => self.count("overtaken"),
            }
            return;
        }
        let (tuple, generation) = (message.tuple, message.header.generation);
        self.seed = self.seed.wrapping_add(1);
        let Some(socket) = HandedOff::new(&message.header, message.inner, &self.host, self.seed, now) else {
            self.refuse(message, Detail::KernelRefused, now, out);
            return;
        };
        self.count("created");
        self.remember(&tuple, generation, Fate::Assigned, now);
        self.sockets.insert(tuple, socket);
        self.deliver(&tuple, message.inner, now, out);
    }

    fn refuse(&mut self, message: &Message<'_>, why: Detail, now: Micros, out: &mut Vec<Bytes>) {
        self.count("refused");
        self.remember(&message.tuple, message.header.generation, Fate::Refused(why), now);
        self.answer(message, MessageType::Refused, why, out);
    }

    fn remember(&mut self, tuple: &FourTuple, generation: Generation, fate: Fate, now: Micros) {
        self.records.insert(*tuple, Record { generation, fate, since: now });
    }

    pub(super) fn who_has(&mut self, message: &Message<'_>, now: Micros, out: &mut Vec<Bytes>) {
        let record = self.records.get(&message.tuple).copied();
        if let Some(state) = self.state_of(&message.tuple) {
            self.count("mine");
            let known = record
                .filter(|record| matches!(record.fate, Fate::Assigned | Fate::Born))
                .map_or(Generation(0), |record| record.generation);
            let Some(socket) = self.sockets.get(&message.tuple) else { return };
            let header = Header {
                kind: MessageType::Mine,
                detail: Detail::State(state),
                base_seq: socket.rcv_nxt(),
                base_ack: socket.snd_nxt(),
                generation: known,
                ..message.header
            };
            self.send(&header, &message.tuple, message.inner, &message.ways, out);
            return;
        }
        let asked = message.header.generation;
        let is_being_made = record.is_some_and(|record| {
            let concerns = asked == Generation(0) || !asked.newer_than(record.generation);
            let is_unborn = record.fate == Fate::Assigned && now.since(record.since) < UNBORN;
            concerns && (is_unborn || matches!(record.fate, Fate::Healing(_)))
        });
        if is_being_made {
            self.count("asked_unborn");
        } else {
            self.answer(message, MessageType::Gone, Detail::NoSocket, out);
        }
    }

    pub(super) fn state_of(&self, tuple: &FourTuple) -> Option<TcpState> {
        self.sockets.get(tuple)?.state()
    }

    fn holder(&self, tuple: &FourTuple) -> Holder {
        match self.state_of(tuple) {
            None => Holder::Nobody,
            Some(TcpState::TimeWait) => Holder::TimeWait,
            Some(_) => Holder::Live,
        }
    }

    /// Says whether a handoff may have been decided before the records began.
    fn may_be_older(&self, generation: Generation) -> bool {
        self.remembers_since.is_none_or(|since| !generation.newer_than(Generation(since.plus(MEMORY_AGE).0)))
    }

    fn fits(&self, tuple: &FourTuple, segment: &Segment<'_>, is_base: bool) -> bool {
        let Some(socket) = self.sockets.get(tuple) else { return false };
        let ahead = socket.rcv_nxt().distance_from(sequence(segment.tcp.seq_number()));
        let sent = socket.snd_nxt().distance_from(sequence(segment.tcp.ack_number()));
        let is_near = |distance: i32| distance.unsigned_abs() <= FITS_BYTES;
        is_near(ahead) && (ahead >= 0 || !is_base) && is_near(sent) && sent >= 0
    }
}
