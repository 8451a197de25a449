//! Connections nobody here knows: the backends are asked whose they are (WHO-HAS), and the one that has it says so (MINE).
//!
//! After a start of the switch every connection is such a one. Its packets are dropped until its backend is found: TCP sends
//! them again. Only when several questions found no owner, and its client still goes on with it after a while, is it reset.

use handoff_proto::tcp::{MSS_MIN, TcpState};
use handoff_proto::{Generation, MessageType, Micros, Negotiated};
use smoltcp::wire::TcpControl;

use crate::flow::{Base, Event as Life, Flow, FlowId, Search, State};
use crate::frame::Frame;
use crate::ids::BackendIndex;
use crate::metrics::{DropReason, Event};
use crate::policy::Member;
use crate::switch::{Arrival, Outbox, Switch, emit};
use crate::tunnel::Answer;
use crate::verdict::Verdict;
use crate::wire::{self, TcpAnswer, Way};

/// How long a question waits for its answer.
pub(super) const ASK_INTERVAL: Micros = Micros::from_millis(100);
/// How often the backends are asked before the connection counts as nobody's.
const ASK_COUNT_MAX: u8 = 3;
/// How long after its start a switch asks for the owner even of connections that look new: their cookie may be one of its former
/// life, and their request handed off already.
pub(super) const LEARNING: Micros = Micros::from_secs(3);
/// Questions an lcore sends in a second, counted per backend asked: a flood of stray packets must not become one of questions.
/// The last connection asked for in a second is asked for everywhere. As many again are allowed for requests that wait for their
/// answer.
pub(super) const QUESTIONS_PER_SECOND: u32 = 50_000;
/// By how much an owner's sequence numbers may differ from those of the asking packet: more than any window in use, and little
/// enough that a socket left over from another connection hardly ever fits.
pub(super) const FIT_BYTES: u32 = 1 << 26;

/// How long an unfinished search keeps its client's further packets from beginning another.
const SEARCH_KEPT: Micros = Micros::from_secs(3);
/// For how long what a client sends on a connection that is nobody's is dropped before it is answered with a RST. A new connection
/// whose first segment got lost looks just like that until its client sends it again: after 1, 3 and 7 s by the timers of
/// RFC 6298, so that two losses in a row do no harm.
const UNOWNED_AFTER: Micros = Micros::from_secs(5);
/// How long a connection that is nobody's is remembered. No client's repetitions are further apart, however long it has been at it:
/// the longest timer of Linux is 120 s, its keepalive probes are 75 s apart.
pub(super) const UNCLAIMED_TIMEOUT: Micros = Micros::from_secs(125);
const _: () = assert!(UNOWNED_AFTER.0 >= LEARNING.0, "nobody is reset while the switch learns");
const _: () = assert!(UNCLAIMED_TIMEOUT.0 > UNOWNED_AFTER.0, "what is remembered is used");
/// Of how many backends denials are kept; those behind them are taken to agree.
const DENIALS_MAX: usize = 64;

/// What stands for the options of a connection whose handshake is not known.
const UNKNOWN: Negotiated =
    Negotiated { mss: MSS_MIN, wscale: None, sack: false, timestamps: false, ecn: false };

impl Switch {
    /// Says whether connections may still live on backends that were handed off before the switch started.
    pub(super) fn is_learning(&self, now: Micros) -> bool {
        now < self.learning_until
    }

    /// Begins to look for the owner of a segment's connection. The segment itself is dropped: it will come again.
    pub(super) fn ask(&mut self, arrival: &Arrival, out: &mut impl Outbox) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let base = Base { negotiated: UNKNOWN, seq: segment.seq, ack: segment.ack, tsval: 0, tsecr: 0 };
        let flow = Flow {
            search: Search { is_reset: segment.flags.rst, ..Search::default() },
            ..Flow::new(segment.tuple, base, segment.end(), arrival.client_mac, Generation(0), arrival.now)
        };
        if !self.may_ask(arrival.now) {
            return Err(DropReason::AskLimit);
        }
        // Where it is full, what gives way can be asked for again: what the table is full of may be what nobody uses any more.
        let id = self.insert(flow, State::Asking, arrival).ok_or(DropReason::TableFull)?;
        self.counters.count(Event::OwnersSought);
        self.ask_all(id, arrival.now, out);
        Err(DropReason::UnknownFlow)
    }

    /// Decides about a segment of a connection whose owner is being looked for: it will come again.
    pub(super) fn asked(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        arrival.verify(frame)?;
        let segment = &arrival.segment;
        let flow = self.flows.get_mut(id).ok_or(DropReason::UnknownFlow)?;
        if let Some(index) = flow.hold {
            if !segment.flags.rst {
                return Err(DropReason::UnknownFlow);
            }
            // As while its head was held: what was acknowledged is thrown away for the client's own RST only.
            if self.holds.get(index).is_some_and(|hold| segment.seq == hold.next()) {
                self.forget(id);
            } else {
                self.counters.count(Event::FinUnbelieved);
            }
            return Ok(Verdict::Absorb);
        }
        if segment.flags.rst {
            // Its owner shall get the next one; its sender wants no answer.
            flow.search.is_reset = true;
            return Err(DropReason::UnknownFlow);
        }
        if self.is_first_data(arrival) {
            return self.first_after_all(frame, arrival, id, out);
        }
        self.note_newest(arrival, id);
        Err(DropReason::UnknownFlow)
    }

    /// Decides about a segment of a connection that no backend has. Like TCP itself the switch resets nobody but in answer to
    /// what he sends (RFC 9293, section 3.5.2), and only one who had the time to repeat what may have got lost.
    pub(super) fn unclaimed(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        arrival.verify(frame)?;
        let segment = &arrival.segment;
        if segment.flags.rst {
            self.forget(id); // there is nobody to tell
            return Err(DropReason::UnknownFlow);
        }
        if self.is_first_data(arrival) {
            return self.first_after_all(frame, arrival, id, out);
        }
        if let Some(verdict) = self.idle(frame, arrival)? {
            return Ok(verdict); // a new connection, whose client has said nothing yet
        }
        let (flow, _) = self.flows.get(id).ok_or(DropReason::UnknownFlow)?;
        let (denied, age) = (flow.search.denied, arrival.now.since(flow.created));
        if age < UNOWNED_AFTER {
            self.note_newest(arrival, id);
            return Err(DropReason::UnknownFlow);
        }
        if !self.is_denied_by_all(denied) {
            self.forget(id);
            return self.ask(arrival, out); // a backend has turned up since
        }
        let reset = wire::reset_for(segment);
        if self.put_off(id, reset, arrival.now) {
            return Err(DropReason::UnknownFlow);
        }
        self.forget(id);
        self.counters.count(Event::FlowsUnowned);
        self.reply(frame, arrival, &reset, Event::ResetsSent)
    }

    /// Says whether a segment is the first data of a new connection.
    fn is_first_data(&self, arrival: &Arrival) -> bool {
        let segment = &arrival.segment;
        segment.flags.ack
            && segment.payload_bytes > 0
            && self.cookie_holds(arrival, segment.seq.sub(1)).is_some()
    }

    /// What made the switch ask was a stray packet of the past, or overtook the first data of a new connection, which need not
    /// wait for that.
    fn first_after_all(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let previous = self.forget(id).map(|flow| flow.generation);
        self.counters.count(Event::FlowsReplaced);
        self.unknown(frame, arrival, previous, out)
    }

    /// The answers of backends are judged by the newest packet: the first may have been anybody's.
    fn note_newest(&mut self, arrival: &Arrival, id: FlowId) {
        let segment = &arrival.segment;
        if segment.flags.ack
            && let Some(flow) = self.flows.get_mut(id)
        {
            (flow.base.seq, flow.base.ack, flow.sent_until) = (segment.seq, segment.ack, segment.end());
            flow.search.is_reset = false;
        }
    }

    /// Takes a question to every backend out of the allowance; says whether there was any left.
    fn may_ask(&mut self, now: Micros) -> bool {
        self.questions.take(u32::try_from(self.paths.len()).unwrap_or(u32::MAX), now)
    }

    /// Asks all backends whether they have a flow whose request waits, as far as that is allowed in this second; it is asked for
    /// again if nobody answers.
    pub(super) fn ask_for_held(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        if self.held_questions.take(u32::try_from(self.paths.len()).unwrap_or(u32::MAX), now) {
            self.ask_all(id, now, out);
        } else {
            self.counters.count_drop(DropReason::AskLimit);
        }
    }

    /// Asks all backends whether they have a flow.
    fn ask_all(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.search.count = flow.search.count.saturating_add(1);
        for backend in (0..).map(BackendIndex).take(self.paths.len()) {
            self.question(id, backend, now, out);
        }
    }

    /// Asks the backend of a flow whether it has it.
    pub(super) fn ask_owner(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        if let Some(backend) = self.flows.get(id).map(|(flow, _)| flow.backend) {
            self.question(id, backend, now, out);
        }
    }

    fn question(&mut self, id: FlowId, backend: BackendIndex, now: Micros, out: &mut impl Outbox) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let (outer, header) = match self.tunnel_headers(flow, backend, MessageType::WhoHas, now) {
            Ok(headers) => headers,
            Err(_) => return, // out of reach: no answer can come
        };
        let Some(way) = Way::to_vip(&flow.tuple, self.lcore.mac, outer.destination_mac) else { return };
        let quote = TcpAnswer::new(flow.base.seq, Some(flow.base.ack), TcpControl::None);
        let tunnel = emit::Tunnel { outer: &outer, header: &header, mtu_bytes: self.settings.mtu_bytes };
        match emit::to_backend(&mut self.scratch, &tunnel, &way, &quote, &[], out) {
            Ok(true) => self.counters.count(Event::QuestionsSent),
            Ok(false) => self.counters.count(Event::TransmitFailed),
            Err(reason) => self.counters.count_drop(reason),
        }
    }

    /// A backend says that it has a connection.
    pub(super) fn mine(
        &mut self,
        answer: &Answer,
        from: BackendIndex,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let id = self.flows.find(&answer.tuple).ok_or(DropReason::AnswerUnexpected)?;
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerUnexpected)?;
        if !answers_a_question_for(flow, answer) {
            return Err(DropReason::AnswerUnexpected);
        }
        let is_second = state.has_backend();
        if is_second && flow.backend == from {
            // Of an older generation, it is the socket that the handoff on its way will replace. A backend that has forgotten the
            // generation (0) has the very socket if its numbers fit.
            let said = answer.header.generation;
            let is_its_own = said == flow.generation
                || said == Generation(0)
                    && is_owner(flow, answer)
                    && answer.header.base_seq.after(flow.base.seq);
            if !is_its_own {
                return Err(DropReason::AnswerUnexpected);
            }
            self.delivered(id, answer.header.base_seq, now, out);
            return Ok(Verdict::Absorb);
        }
        // Two backends say that they have it: the younger handoff is the one that counts.
        let is_younger = answer.header.generation.newer_than(flow.generation);
        if is_second && !(flow.search.count > 0 && is_younger) {
            return Err(DropReason::AnswerUnexpected);
        }
        if !is_owner(flow, answer) {
            // Left over from an earlier connection, in TIME_WAIT as a rule: to a request that waits, as good as a denial.
            return if !is_second && flow.hold.is_some() {
                self.denied(answer, id, from, now, out)
            } else {
                Err(DropReason::AnswerUnexpected)
            };
        }
        self.claim(answer, id, from);
        if !is_second {
            self.live(id, Life::Claim, now);
            self.counters.count(Event::FlowsAdopted);
        }
        if answer.header.detail.state().is_some_and(has_finished) {
            self.live(id, Life::Finish, now);
        }
        // A request that waited goes to its owner, who may lack some of it.
        if let Some(index) = self.flows.get(id).and_then(|(flow, _)| flow.hold) {
            self.send_head(id, index, now, out);
        }
        Ok(Verdict::Absorb)
    }

    fn claim(&mut self, answer: &Answer, id: FlowId, from: BackendIndex) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.backend = from;
        flow.generation = answer.header.generation;
        let received = answer.header.base_seq;
        // What its client has sent, its backend knows best: the asking packet may be anybody's. Not so a held head.
        if flow.hold.is_none() || flow.sent_until.before(received) {
            flow.sent_until = received;
        }
        self.recount(id);
    }

    /// A backend says that it does not have a connection it was asked for. When all have said so, a request that waited for
    /// this goes to a backend of its own.
    pub(super) fn denied(
        &mut self,
        answer: &Answer,
        id: FlowId,
        from: BackendIndex,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let asked = self.paths.len();
        let flow = self.flows.get_mut(id).ok_or(DropReason::AnswerUnexpected)?;
        if !answers_a_question_for(flow, answer) {
            return Err(DropReason::AnswerUnexpected);
        }
        flow.search.denied |= 1_u64.checked_shl(u32::from(from.0)).unwrap_or(0);
        let by_all = asked <= DENIALS_MAX && usize::try_from(flow.search.denied.count_ones()) == Ok(asked);
        if by_all && flow.hold.is_some() && !self.is_waiting_for_backends(id, now) {
            self.dispatch_held(id, now, out);
        }
        Ok(Verdict::Absorb)
    }

    /// No backend has said in time that it has a connection: asks again, and at last gives it up.
    pub(super) fn asking_expired(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let (search, age, may_be_new) = (flow.search, now.since(flow.created), flow.reopened.is_some());
        if flow.hold.is_some() {
            if search.count < ASK_COUNT_MAX || self.is_waiting_for_backends(id, now) {
                self.ask_for_held(id, now, out);
                self.flows.renew(id, now);
            } else {
                self.dispatch_held(id, now, out);
            }
        } else if search.count < ASK_COUNT_MAX {
            if self.may_ask(now) {
                self.ask_all(id, now, out);
                self.flows.renew(id, now);
            } else {
                self.counters.count_drop(DropReason::AskLimit);
                self.forget(id); // its client's next packet asks again
            }
        } else if !search.is_reset && !may_be_new && self.is_denied_by_all(search.denied) {
            self.live(id, Life::Deny, now);
        } else if age < SEARCH_KEPT {
            self.flows.renew(id, now);
        } else {
            self.forget(id);
        }
    }

    /// Says whether every backend that could have answered said no. One that is silent may have the connection.
    fn is_denied_by_all(&self, denied: u64) -> bool {
        let usable =
            self.snapshot.backends.iter().take(DENIALS_MAX).enumerate().filter(|(_, backend)| backend.usable);
        let mut bits = usable.map(|(at, _)| 1_u64 << at).peekable();
        // Where none is usable, agents may still be turning up.
        bits.peek().is_some() && bits.all(|bit| denied & bit != 0)
    }

    /// Says whether no backend can be given a held request yet, since the switch has just started: agents and next hops are
    /// still turning up.
    fn is_waiting_for_backends(&self, id: FlowId, now: Micros) -> bool {
        let Some((flow, _)) = self.flows.get(id) else { return false };
        let members = self.snapshot.pools.get(usize::from(flow.wanted.pool.0)).map(|pool| &pool.members);
        let is_ready = |member: &Member| {
            Self::is_reachable(&self.snapshot, &self.paths, &self.neighbors, member.backend)
        };
        self.is_learning(now) && !members.is_some_and(|members| members.iter().any(is_ready))
    }
}

/// Says whether an answer can be to a question for this flow, and not for an earlier one of the same 4-tuple.
fn answers_a_question_for(flow: &Flow, answer: &Answer) -> bool {
    flow.created <= answer.header.issued
}

/// Says whether a backend's socket is that of the flow, by its sequence numbers.
fn is_owner(flow: &Flow, answer: &Answer) -> bool {
    let received = answer.header.base_seq.distance_from(flow.base.seq);
    let sent = answer.header.base_ack.distance_from(flow.base.ack);
    let is_near = |distance: i32| distance.unsigned_abs() <= FIT_BYTES;
    // The packet that asked may have come again, or ahead of others. But a request's first byte is the first of its
    // connection, and no client acknowledges what was not sent. A RST need not acknowledge anything.
    is_near(received)
        && (received >= 0 || flow.hold.is_none())
        && (is_near(sent) && sent >= 0 || flow.search.is_reset)
}

/// Says whether a socket in this state has its client's FIN.
const fn has_finished(state: TcpState) -> bool {
    matches!(state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing | TcpState::TimeWait)
}
