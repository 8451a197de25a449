//! What backends say: handoff messages to the switch's own address.

use core::net::Ipv4Addr;

use handoff_proto::header::LCORE_ANY;
use handoff_proto::{FRESHNESS_PAST, Generation, MessageType, Micros};
use smoltcp::wire::TcpControl;

use crate::flow::{Event as Life, FlowId, State};
use crate::frame::Frame;
use crate::http::Refusal;
use crate::ids::BackendIndex;
use crate::metrics::{DropReason, Event};
use crate::switch::ask::FIT_BYTES;
use crate::switch::error_page::{Farewell, Reply, WINDOW_MIN, is_head_request};
use crate::switch::hold::PageClient;
use crate::switch::{Outbox, Switch};
use crate::tunnel::{self, Answer};
use crate::verdict::Verdict;
use crate::wire::{self, Ethernet, TcpAnswer};

impl Switch {
    /// Decides about a UDP datagram to the switch itself. Nothing in it is believed before its tag is verified,
    /// not even whose it is: a forgery must not fill another lcore's inbox.
    pub(super) fn answer(
        &mut self,
        frame: &mut Frame<'_>,
        source: Ipv4Addr,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let answer = Answer::parse(frame.bytes()).map_err(|_| DropReason::AnswerMalformed)?;
        let (_, key) =
            self.tag_keys.iter().find(|(id, _)| *id == answer.header.key_id).ok_or(DropReason::AnswerKey)?;
        if !answer.is_authentic(key) {
            return Err(DropReason::AnswerForged);
        }
        if !answer.is_fresh(now, FRESHNESS_PAST) {
            return Err(DropReason::AnswerStale);
        }
        if answer.header.lcore != self.lcore.number && answer.header.lcore != LCORE_ANY {
            self.counters.count(Event::Steered);
            return Ok(Verdict::Steer(answer.header.lcore));
        }
        let from = self.paths.iter().position(|path| path.address == source);
        let from = from.and_then(|at| u16::try_from(at).ok()).map(BackendIndex);
        let from = from.ok_or(DropReason::AnswerUnexpected)?;
        match answer.header.kind {
            MessageType::Refused => self.refused(frame, &answer, from, now, out),
            MessageType::Gone => self.gone(frame, &answer, from, now, out),
            MessageType::Mine => self.mine(&answer, from, now, out),
            _ => Err(DropReason::AnswerUnexpected),
        }
    }

    /// A backend sent a client's packet back. It goes to the backend the flow has by now; if that is still the one that
    /// refused, another is chosen first.
    fn refused(
        &mut self,
        frame: &mut Frame<'_>,
        answer: &Answer,
        from: BackendIndex,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let id = self.flows.find(&answer.tuple).ok_or(DropReason::AnswerUnexpected)?;
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerUnexpected)?;
        self.counters.count(Event::HandoffsRefused);
        let refused = answer.header.generation;
        let is_handed_off = matches!(state, State::Unconfirmed | State::ClosingUnconfirmed);
        if !is_handed_off || refused.newer_than(flow.generation) {
            return Err(DropReason::AnswerUnexpected);
        }
        let hold = flow.hold;
        if refused == flow.generation {
            if flow.backend != from {
                return Err(DropReason::AnswerUnexpected);
            }
            if !self.try_another(id, now) {
                self.refuse_by_all(id, now, out);
                return Ok(Verdict::Absorb);
            }
            if let Some(index) = hold {
                self.send_head(id, index, now, out);
                return Ok(Verdict::Absorb);
            }
        } else if hold.is_some() {
            return Ok(Verdict::Absorb); // the whole head went to the next backend with the first refusal
        }
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerUnexpected)?;
        let (outer, header) = self.tunnel_headers(flow, flow.backend, MessageType::Handoff, now)?;
        tunnel::rewrap(frame, &outer, &header, self.settings.mtu_bytes)?;
        self.count_tunnelled(state);
        Ok(Verdict::Forward)
    }

    /// Gives a refused flow to another backend under a new generation; says whether there was one.
    fn try_another(&mut self, id: FlowId, now: Micros) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let may_retry = flow.refused_by.note(flow.backend);
        let (wanted, refused_by, generation) = (flow.wanted, flow.refused_by, flow.generation);
        let Some(backend) = may_retry.then(|| self.choose_another(&wanted, &refused_by, now)).flatten()
        else {
            return false;
        };
        if let Some(flow) = self.flows.get_mut(id) {
            flow.backend = backend;
            flow.generation = Generation::next(Some(generation), now);
        }
        self.recount(id);
        self.counters.count(Event::HandoffsRetried);
        true
    }

    /// Nobody took the handoff: its client is told.
    fn refuse_by_all(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        let Some((flow, state)) = self.flows.get(id) else { return };
        let hold = flow.hold.and_then(|index| self.holds.get(index));
        let farewell = Farewell {
            reply: Reply::Refused(Refusal::RefusedByAll),
            with_body: !hold.map_or_else(
                || flow.head.is_some_and(|head| head.asks_for_head),
                |hold| is_head_request(hold.bytes()),
            ),
            client: PageClient { next: flow.sent_until, is_finished: state == State::ClosingUnconfirmed },
            window: hold.map_or(WINDOW_MIN, |hold| hold.window),
            tsval: hold.map_or(flow.base.tsval, |hold| hold.tsval),
        };
        self.say_farewell(id, &farewell, now, out);
    }

    /// A backend has no socket for a packet it got.
    fn gone(
        &mut self,
        frame: &mut Frame<'_>,
        answer: &Answer,
        from: BackendIndex,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let Some(id) = self.flows.find(&answer.tuple) else {
            // About a packet that came without a header, and so without the number of its lcore.
            let is_for_any = answer.header.lcore == LCORE_ANY;
            return is_for_any.then(|| self.pass_round(frame)).flatten().ok_or(DropReason::AnswerGone);
        };
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerGone)?;
        let known = answer.header.generation;
        match state {
            State::Asking | State::Unclaimed => return self.denied(answer, id, from, now, out),
            State::Holding | State::Answered => return Err(DropReason::AnswerGone),
            State::Unconfirmed | State::Established | State::ClosingUnconfirmed | State::Closing => {}
        }
        if flow.backend != from {
            return Err(DropReason::AnswerGone);
        }
        if known.newer_than(flow.generation) {
            // Another switch has handed the 4-tuple off since: this flow is no more.
            self.forget(id);
            return Ok(Verdict::Absorb);
        }
        if state.is_confirmed()
            && flow.generation.newer_than(known)
            && known != Generation(0)
            && flow.created <= answer.header.issued
        {
            // It was confirmed, and yet the backend has not got it: what confirmed it was no answer of that backend.
            self.forget(id);
            return Ok(Verdict::Absorb);
        }
        // A stray packet, or a later segment that came first, made the switch ask before there was a flow to ask for. The answer, late
        // or repeated, says nothing of the connection that has been made since. A burst has one time for all its packets.
        if answer.header.issued <= flow.created {
            return Err(DropReason::AnswerGone);
        }
        // Without a generation the backend remembers nothing of the 4-tuple. An older one than the flow's means that its handoff
        // is still on its way, and asked questions (WHO-HAS) may have overtaken it.
        let is_current = known == flow.generation || known == Generation(0);
        let inner = &answer.inner;
        let is_bare = inner.payload_bytes == 0 && !inner.fin;
        // What a question quotes is no packet of the client. An answer to one may be older than the handoff; and the packets
        // themselves come to the same.
        let is_question = is_bare && (inner.seq, inner.ack) == (flow.base.seq, flow.base.ack);
        // A packet of an earlier connection may come late to a backend that remembers nothing of it. The RST a connection was
        // found by need not have acknowledged anything.
        let is_strange = inner.seq.distance_from(flow.sent_until).unsigned_abs() > FIT_BYTES
            || inner.ack.before(flow.base.ack) && !flow.search.is_reset;
        let may_be_early = !flow.is_gone && !state.is_confirmed() && (known == Generation(0) || is_bare);
        // What ends a connection on both sides needs no answer; everything else would hang without one.
        let needs_no_answer = inner.rst || is_bare && state != State::Established && !flow.is_gone;
        if !is_current || may_be_early || needs_no_answer || is_question || is_strange {
            return Err(DropReason::AnswerGone);
        }
        // The packet may be an old one, and its client not believe a RST there: the flow stays, and each further notice brings one
        // at its own number.
        let reset = TcpAnswer::new(inner.ack, None, TcpControl::Rst);
        self.send_to_client(id, &reset, Event::ResetsSent, out);
        if let Some(flow) = self.flows.get_mut(id)
            && !core::mem::replace(&mut flow.is_gone, true)
        {
            self.counters.count(Event::FlowsGone);
            self.release_hold(id);
            self.live(id, Life::Reset, now);
        }
        Ok(Verdict::Absorb)
    }

    /// Gives a frame that speaks of a flow this lcore does not have to another; `None` when all have seen it. It goes round in
    /// the order of their numbers, from the first on, with the port's own address as its source for a mark.
    pub(super) fn pass_round(&self, frame: &mut Frame<'_>) -> Option<Verdict> {
        let own = self.lcore.mac;
        let is_going_round = Ethernet::parse(frame.bytes()).is_ok_and(|ethernet| ethernet.source == own);
        let next = match self.lcore.number {
            number if is_going_round => number.checked_add(1)?,
            0 => 1,
            _ => 0,
        };
        if next >= self.lcore.count {
            return None;
        }
        wire::redirect(frame, own, own);
        self.counters.count(Event::Steered);
        Some(Verdict::Steer(next))
    }
}
