//! Request heads that come in several segments: acknowledged while they grow, sent on when they are whole, and kept until the
//! backend has them.
//!
//! What the switch acknowledged the client never sends again: from then on the switch owes it to the backend, repeats it and
//! asks (WHO-HAS) until the backend's answer (MINE) covers it.

use handoff_proto::{MessageType, Micros, Seq};
use smoltcp::wire::TcpControl;

use crate::flow::FlowId;
use crate::frame::Frame;
use crate::ids::HoldIndex;
use crate::metrics::{DropReason, Event};
use crate::switch::hold::Duty;
use crate::switch::{Arrival, Outbox, Switch, emit};
use crate::verdict::Verdict;
use crate::wire::{TIMESTAMPS_BYTES, TcpAnswer, Timestamps, Way};

/// How long the first segment of an unfinished head waits for more before it is acknowledged. A client's kernel waits that long
/// itself (delayed acknowledgments, RFC 9293, section 3.8.6.3, allow ten times as much).
pub(super) const ACK_DELAY: Micros = Micros::from_millis(40);
/// How long after each time a head was sent the backend is asked for it; behind the first, the head is repeated as well.
const OWED_STEPS: [Micros; 8] = [
    Micros::from_millis(20),
    Micros::from_millis(180),
    Micros::from_millis(400),
    Micros::from_millis(800),
    Micros::from_millis(1600),
    Micros::from_millis(3200),
    Micros::from_millis(6400),
    Micros::from_millis(6400),
];
/// How many deadlines of held bytes one `poll` looks at.
const DUE_COUNT_MAX: usize = 32;
/// The window the SYN-ACK announced, in bytes: what it promised is never taken back.
const WINDOW_BYTES: u32 = 65_535;

impl Switch {
    /// Does what is due for held bytes: acknowledgments, repetitions, questions.
    pub(super) fn tend_holds(&mut self, now: Micros, out: &mut impl Outbox) {
        for _ in 0..DUE_COUNT_MAX {
            let Some(index) = self.holds.due(now) else { return };
            let Some(hold) = self.holds.get(index) else { continue };
            let id = hold.flow;
            match hold.duty {
                Duty::Head => self.acknowledge_late(id, index, out),
                Duty::Owed { step } => self.press(id, index, step, now, out),
                Duty::Page { step, .. } => self.repeat_page(id, index, step, now, out),
            }
        }
    }

    /// Makes the answer that acknowledges what is held of a head. Its TSval repeats the client's own echo: the backend's clock
    /// will go on from there, and a later value here would make the client drop the backend's first segments (RFC 7323,
    /// section 5).
    fn head_acknowledgment(&self, id: FlowId, index: HoldIndex) -> Option<TcpAnswer> {
        let (flow, _) = self.flows.get(id)?;
        let hold = self.holds.get(index)?;
        let shift = flow.base.negotiated.wscale.map_or(0, |shifts| shifts.receive);
        let taken = hold.next().distance_from(flow.base.seq).unsigned_abs();
        let window = WINDOW_BYTES.saturating_sub(taken).div_ceil(1 << shift);
        let stamps = Timestamps { value: flow.base.tsecr, echo: hold.tsval };
        Some(TcpAnswer {
            window: u16::try_from(window).unwrap_or(u16::MAX),
            timestamps: flow.base.negotiated.timestamps.then_some(stamps),
            ..TcpAnswer::new(flow.base.ack, Some(hold.next()), TcpControl::None)
        })
    }

    /// Acknowledges what is held of a head, in place of the segment that came.
    pub(super) fn acknowledge(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        index: HoldIndex,
    ) -> Result<Verdict, DropReason> {
        let answer = self.head_acknowledgment(id, index).ok_or(DropReason::UnknownFlow)?;
        self.note_acknowledged(index);
        self.holds.cancel_deadline(index);
        self.reply(frame, arrival, &answer, Event::HeadAcks)
    }

    fn acknowledge_late(&mut self, id: FlowId, index: HoldIndex, out: &mut impl Outbox) {
        let Some(answer) = self.head_acknowledgment(id, index) else { return };
        self.note_acknowledged(index);
        self.send_to_client(id, &answer, Event::HeadAcks, out);
    }

    fn note_acknowledged(&mut self, index: HoldIndex) {
        if let Some(hold) = self.holds.get_mut(index) {
            hold.acked = hold.bytes().len();
        }
    }

    /// Sends a segment without payload to the client of a flow.
    pub(super) fn send_to_client(
        &mut self,
        id: FlowId,
        answer: &TcpAnswer,
        event: Event,
        out: &mut impl Outbox,
    ) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let Some(way) = Way::to_client(&flow.tuple, self.lcore.mac, flow.client_mac) else { return };
        let sent = emit::to_client(&mut self.scratch, &way, answer, &[], out);
        self.counters.count(if sent { event } else { Event::TransmitFailed });
    }

    /// Sends a whole head to the backend of its flow, and remembers to ask whether it arrived.
    pub(super) fn send_head(&mut self, id: FlowId, index: HoldIndex, now: Micros, out: &mut impl Outbox) {
        if let Some(hold) = self.holds.get_mut(index) {
            hold.taken = 0;
        }
        self.send_held(id, index, 0, Event::HandoffPackets, now, out);
        self.owe(index, 0, now);
    }

    fn owe(&mut self, index: HoldIndex, step: u8, now: Micros) {
        let Some(hold) = self.holds.get_mut(index) else { return };
        hold.duty = Duty::Owed { step };
        let delay = OWED_STEPS.get(usize::from(step)).copied().unwrap_or_default();
        self.holds.set_deadline(index, now.plus(delay));
    }

    /// Sends what is held of a head from `offset` on to the backend, cut anew to fit the tunnel.
    fn send_held(
        &mut self,
        id: FlowId,
        index: HoldIndex,
        offset: usize,
        event: Event,
        now: Micros,
        out: &mut impl Outbox,
    ) {
        let (Some((flow, state)), Some(hold)) = (self.flows.get(id), self.holds.get(index)) else { return };
        let kind = if state.is_confirmed() { MessageType::Forward } else { MessageType::Handoff };
        let headers = self.tunnel_headers(flow, flow.backend, kind, now);
        let (outer, header) = match headers {
            Ok(headers) => headers,
            Err(reason) => return self.counters.count_drop(reason),
        };
        let Some(way) = Way::to_vip(&flow.tuple, self.lcore.mac, outer.destination_mac) else { return };
        let stamped = flow.base.negotiated.timestamps;
        let bytes_max = usize::from(self.announced_mss()) - if stamped { TIMESTAMPS_BYTES } else { 0 };
        for piece in hold.pieces(offset, bytes_max) {
            // The kernel makes the socket of the base segment as the client sent it; later ones may carry newer stamps.
            let tsval = if piece.offset == 0 { flow.base.tsval } else { hold.tsval };
            let answer = TcpAnswer {
                window: hold.window,
                timestamps: stamped.then_some(Timestamps { value: tsval, echo: flow.base.tsecr }),
                ..TcpAnswer::new(
                    hold.seq_at(piece.offset),
                    Some(flow.base.ack),
                    if piece.is_last { TcpControl::Fin } else { TcpControl::Psh },
                )
            };
            let tunnel = emit::Tunnel { outer: &outer, header: &header, mtu_bytes: self.settings.mtu_bytes };
            match emit::to_backend(&mut self.scratch, &tunnel, &way, &answer, piece.bytes, out) {
                Ok(true) => self.counters.count(event),
                Ok(false) => self.counters.count(Event::TransmitFailed),
                Err(reason) => self.counters.count_drop(reason),
            }
        }
    }

    /// A head was sent and the backend has not said that it has it: asks, and sends it again. After the last time the client is
    /// reset, if the switch has acknowledged what it cannot deliver; else it repeats by itself what is missing.
    fn press(&mut self, id: FlowId, index: HoldIndex, step: u8, now: Micros, out: &mut impl Outbox) {
        if usize::from(step) + 1 == OWED_STEPS.len() {
            let is_confirmed = self.flows.get(id).is_some_and(|(_, state)| state.is_confirmed());
            if is_confirmed || self.holds.get(index).is_some_and(|hold| hold.acked == 0) {
                return self.release_hold(id);
            }
            self.counters.count(Event::HeadsLost);
            return self.abandon(id, out);
        }
        if step > 0 {
            let taken = self.holds.get(index).map_or(0, |hold| hold.taken);
            self.send_held(id, index, taken, Event::HeldRepeated, now, out);
        }
        self.ask_owner(id, now, out);
        self.owe(index, step + 1, now);
    }

    /// The backend of a flow has everything in front of `rcv_nxt`.
    pub(super) fn delivered(&mut self, id: FlowId, rcv_nxt: Seq, now: Micros, out: &mut impl Outbox) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let Some(index) = flow.hold else { return };
        let Some(hold) = self.holds.get(index) else { return };
        let Duty::Owed { step } = hold.duty else { return };
        // A socket of an earlier connection with the 4-tuple may speak: it has what this client never sent.
        let beyond = rcv_nxt.distance_from(flow.sent_until);
        if rcv_nxt.before(flow.base.seq) || beyond > 0 && beyond.unsigned_abs() > WINDOW_BYTES {
            return;
        }
        if !rcv_nxt.before(hold.next()) {
            return self.release_hold(id);
        }
        // Of a head that lacks nothing but its FIN, the last byte comes again with it.
        let last = hold.bytes().len().saturating_sub(usize::from(hold.is_finished()));
        let taken = hold.taken.max(hold.offset_of(rcv_nxt)).min(last);
        if let Some(hold) = self.holds.get_mut(index) {
            hold.taken = taken;
        }
        self.send_held(id, index, taken, Event::HeldRepeated, now, out);
        self.owe(index, step.max(1), now);
    }

    /// Takes in the stamps of a segment that goes to the backend ahead of what is kept for it: with older ones, that would no
    /// longer be taken (RFC 7323, section 5).
    pub(super) fn note_stamps_of_held(&mut self, arrival: &Arrival, id: FlowId) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let seq = arrival.segment.seq;
        let is_sent_before = !seq.before(flow.base.seq) && !seq.after(flow.sent_until);
        if let Some(hold) = flow.hold.and_then(|index| self.holds.get_mut(index))
            && is_sent_before
        {
            hold.note_stamps(arrival.segment.timestamps);
        }
    }

    /// The client acknowledged bytes of the backend. If the switch acknowledged nothing of the head, the client itself repeats
    /// what may be missing.
    pub(super) fn confirmed(&mut self, id: FlowId) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.head = None;
        if let Some(index) = flow.hold
            && self.holds.get(index).is_some_and(|hold| hold.acked == 0)
        {
            self.release_hold(id);
        }
    }

    /// Finds a place to keep bytes in. When all are taken, one gives way that has been taken for a second at least: clients that
    /// are slow on purpose must not keep others out.
    pub(super) fn place(&mut self, first: Seq, now: Micros, out: &mut impl Outbox) -> Option<HoldIndex> {
        if let Some(index) = self.holds.acquire(first, now) {
            return Some(index);
        }
        let victim = self.holds.victim(now)?;
        let hold = self.holds.get(victim)?;
        self.counters.count(Event::HoldsEvicted);
        if hold.is_page_delivered() {
            // The client has the page; without a place, only the orderly end is not waited for.
            self.release_hold(hold.flow);
        } else {
            self.abandon(hold.flow, out);
        }
        self.holds.acquire(first, now)
    }

    pub(super) fn release_hold(&mut self, id: FlowId) {
        if let Some(index) = self.flows.get_mut(id).and_then(|flow| flow.hold.take()) {
            self.holds.release(index);
        }
    }

    /// Ends a flow that cannot go on: its client is reset.
    pub(super) fn abandon(&mut self, id: FlowId, out: &mut impl Outbox) {
        let Some((flow, _)) = self.flows.get(id) else { return };
        let reset = TcpAnswer::new(flow.base.ack, None, TcpControl::Rst);
        self.send_to_client(id, &reset, Event::ResetsSent, out);
        self.forget(id);
    }

    /// Says whether a segment of an unconfirmed flow leaves the request head as it was parsed: the backend may not have it yet,
    /// and would take whatever comes first.
    pub(super) fn keeps_the_head(&self, frame: &Frame<'_>, arrival: &Arrival, id: FlowId) -> bool {
        let Some((flow, state)) = self.flows.get(id) else { return false };
        let segment = &arrival.segment;
        if segment.payload_bytes == 0 {
            return true;
        }
        let payload = segment.payload(frame.bytes());
        if let Some(hold) = flow.hold.and_then(|index| self.holds.get(index)) {
            return hold.agrees(segment.seq, payload);
        }
        let Some(mark) = flow.head.filter(|_| !state.is_confirmed()) else { return true };
        let end = flow.base.seq.add(u32::from(mark.bytes));
        if !segment.seq.before(end) {
            return true;
        }
        // A keepalive probe may carry a byte of anything in the place of the last (RFC 9293, section 3.8.4). Without the base segment in
        // front of it the backend takes no byte, and with it that byte is there.
        if payload.len() == 1 && segment.seq.add(1) == flow.sent_until {
            return true;
        }
        let head = payload.get(..usize::from(mark.bytes));
        segment.seq == flow.base.seq && head.is_some_and(|head| self.digest(head) == mark.digest)
    }
}
