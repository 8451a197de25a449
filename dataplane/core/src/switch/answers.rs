//! What backends say: handoff messages to the switch's own address.

use handoff_proto::header::TUNNEL_BYTES_V4;
use handoff_proto::{FRESHNESS_PAST, Generation, MessageType, Micros};

use crate::flow::FlowId;
use crate::frame::Frame;
use crate::ids::VipIndex;
use crate::metrics::{DropReason, Event};
use crate::switch::{Arrival, Switch};
use crate::tunnel::{self, Answer};
use crate::verdict::Verdict;
use crate::wire::{self, Ipv4, Segment};

impl Switch {
    /// Decides about a UDP datagram to the switch itself. Nothing in it is believed before its tag is verified,
    /// not even whose it is: a forgery must not fill another lcore's inbox.
    pub(super) fn answer(&mut self, frame: &mut Frame<'_>, now: Micros) -> Result<Verdict, DropReason> {
        let answer = Answer::parse(frame.bytes()).map_err(|_| DropReason::AnswerMalformed)?;
        let (_, key) =
            self.tag_keys.iter().find(|(id, _)| *id == answer.header.key_id).ok_or(DropReason::AnswerKey)?;
        if !answer.is_authentic(key) {
            return Err(DropReason::AnswerForged);
        }
        if !answer.is_fresh(now, FRESHNESS_PAST) {
            return Err(DropReason::AnswerStale);
        }
        if answer.header.lcore != self.lcore.number {
            self.counters.count(Event::Steered);
            return Ok(Verdict::Steer(answer.header.lcore));
        }
        match answer.header.kind {
            MessageType::Refused => self.refused(frame, &answer, now),
            MessageType::Gone => Err(DropReason::AnswerGone),
            _ => Err(DropReason::AnswerUnexpected),
        }
    }

    /// A backend sent a client's packet back. It goes to the backend the flow has by now; if that is still the one that
    /// refused, another is chosen first.
    fn refused(
        &mut self,
        frame: &mut Frame<'_>,
        answer: &Answer,
        now: Micros,
    ) -> Result<Verdict, DropReason> {
        let id = self.flows.find(&answer.tuple).ok_or(DropReason::AnswerUnexpected)?;
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerUnexpected)?;
        self.counters.count(Event::HandoffsRefused);
        let refused = answer.header.generation;
        if refused.newer_than(flow.generation) || state.is_confirmed() || flow.hold.is_some() {
            return Err(DropReason::AnswerUnexpected);
        }
        if refused == flow.generation && !self.try_another(id, now) {
            return self.reset_refused(frame, id, now);
        }
        let (flow, state) = self.flows.get(id).ok_or(DropReason::AnswerUnexpected)?;
        let (outer, header) = self.tunnel_headers(flow, state, now)?;
        tunnel::rewrap(frame, &outer, &header, self.settings.mtu_bytes)?;
        self.count_tunnelled(state);
        Ok(Verdict::Forward)
    }

    /// Gives a refused flow to another backend under a new generation; says whether there was one.
    fn try_another(&mut self, id: FlowId, now: Micros) -> bool {
        let Some(flow) = self.flows.get_mut(id) else { return false };
        let may_retry = flow.refused_by.note(flow.backend);
        let (pool, refused_by, generation) = (flow.pool, flow.refused_by, flow.generation);
        let Some(backend) = may_retry.then(|| self.choose(pool, &refused_by)).flatten() else {
            return false;
        };
        if let Some(flow) = self.flows.get_mut(id) {
            flow.backend = backend;
            flow.generation = Generation::next(Some(generation), now);
        }
        self.counters.count(Event::HandoffsRetried);
        true
    }

    /// Nobody took the handoff: turns the packet that came back into a RST for its client and forgets the flow.
    fn reset_refused(
        &mut self,
        frame: &mut Frame<'_>,
        id: FlowId,
        now: Micros,
    ) -> Result<Verdict, DropReason> {
        let flow = self.forget(id).ok_or(DropReason::AnswerUnexpected)?;
        // Behind the tunnel headers lies the client's packet; what is left in front of it becomes its Ethernet header.
        frame.strip(TUNNEL_BYTES_V4).map_err(|_| DropReason::AnswerMalformed)?;
        wire::redirect(frame, flow.client_mac, self.lcore.mac);
        let ip = Ipv4::parse(frame.bytes())?;
        let segment = Segment::parse(frame.bytes(), &ip)?;
        let arrival = Arrival { segment, vip: VipIndex(0), client_mac: flow.client_mac, ip, now };
        self.refuse(frame, &arrival, DropReason::RefusedByAll)
    }
}
