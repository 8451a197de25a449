//! Requests the switch answers itself, with an error or what a rule says: a small response with FIN, then a bounded end of the
//! connection. A client that speaks TLS gets an alert instead, and one of whose protocol nothing is known a RST.
//!
//! The flow stays for [`ANSWERED_TIMEOUT`]: the response is repeated until the client has it, what the client still sends is
//! acknowledged and thrown away (a RST would make some clients throw the response away, RFC 9112, section 9.6), its FIN is
//! acknowledged. A client that has not come to an end by then is reset.

use handoff_proto::tcp::WSCALE_MAX;
use handoff_proto::{FourTuple, Micros, Seq};
use smoltcp::wire::TcpControl;

use crate::flow::{Event as Life, Flow, FlowId, State};
use crate::frame::Frame;
use crate::http::Refusal;
use crate::ids::HoldIndex;
use crate::metrics::{DropReason, Event};
use crate::switch::hold::{Duty, PageClient};
use crate::switch::{Arrival, Inspect, Outbox, Switch, emit};
use crate::tls::Alert;
use crate::verdict::Verdict;
use crate::wire::{TIMESTAMPS_BYTES, TcpAnswer, Timestamps, Way};

/// How long the end of a connection may take that the switch answers itself.
pub(super) const ANSWERED_TIMEOUT: Micros = Micros::from_secs(5);
/// How long after each time an error page is repeated.
const PAGE_STEPS: [Micros; 5] = [
    Micros::from_millis(200),
    Micros::from_millis(400),
    Micros::from_millis(800),
    Micros::from_millis(1600),
    Micros::from_millis(3200),
];
/// A client's window where it is not known: one segment is sent, and its acknowledgment tells.
pub(super) const WINDOW_MIN: u16 = 0;
/// The window while input is thrown away.
const WINDOW: u16 = u16::MAX;

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// An error.
    Refused(Refusal),
    /// What a rule says: so many bytes, which stand in the switch's `page`.
    Ruled(usize),
}

/// What the client of such a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Farewell {
    /// The answer.
    pub(super) reply: Reply,
    /// Whether the response has a body: not for HEAD.
    pub(super) with_body: bool,
    /// What the client has sent so far.
    pub(super) client: PageClient,
    /// The client's window, as in its newest segment.
    pub(super) window: u16,
    /// The client's newest TSval.
    pub(super) tsval: u32,
}

impl Switch {
    /// Answers a request that came as a single segment, whose flow is not in the table yet.
    pub(super) fn refuse_first(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        flow: Flow,
        reply: Reply,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let farewell = Farewell {
            reply,
            with_body: !is_head_request(segment.payload(frame.bytes())),
            client: PageClient { next: segment.end(), is_finished: segment.flags.fin },
            window: segment.window,
            tsval: flow.base.tsval,
        };
        match self.insert(flow, State::Answered, arrival) {
            Some(id) => self.say_farewell(id, &farewell, arrival.now, out),
            None => return self.refuse(frame, arrival, DropReason::TableFull),
        }
        Ok(Verdict::Absorb)
    }

    /// Answers a request whose flow is in the table and unknown to any backend.
    pub(super) fn say_farewell(
        &mut self,
        id: FlowId,
        farewell: &Farewell,
        now: Micros,
        out: &mut impl Outbox,
    ) {
        self.live(id, Life::Refuse, now);
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.last_seen = now;
        let (first, tuple) = (flow.base.ack, flow.tuple);
        let voice = self.voice(&tuple, farewell.reply);
        if let Reply::Refused(refusal) = farewell.reply
            && voice == Voice::Mute
        {
            self.counters.count_drop(refusal.into());
            return self.abandon(id, out);
        }
        let Some(index) =
            self.flows.get(id).and_then(|(flow, _)| flow.hold).or_else(|| self.place(first, now, out))
        else {
            self.counters.count_drop(DropReason::HoldsFull);
            return self.abandon(id, out);
        };
        self.count_reply(farewell.reply, voice);
        if let Some(flow) = self.flows.get_mut(id) {
            flow.hold = Some(index);
        }
        self.flows.renew(id, now);
        let (pages, ready) = (&self.snapshot.error_pages, &self.page);
        let Some(hold) = self.holds.get_mut(index) else { return };
        hold.put_page(first, farewell.client, |buffer| match (farewell.reply, voice) {
            (Reply::Ruled(bytes), _) => copied(ready.get(..bytes).unwrap_or_default(), buffer),
            (Reply::Refused(_), Voice::Tls(alert)) => copied(&alert.record(), buffer),
            (Reply::Refused(refusal), _) => pages.write(refusal, farewell.with_body, buffer),
        });
        hold.flow = id;
        hold.tsval = farewell.tsval;
        hold.window = farewell.window;
        self.send_page(id, index, 0, Event::PageSegments, out);
        self.set_page_step(index, 0, now);
    }

    /// Says what the client of a connection understands.
    fn voice(&self, tuple: &FourTuple, reply: Reply) -> Voice {
        let Reply::Refused(refusal) = reply else { return Voice::Http };
        match (self.inspect_of(tuple), refusal) {
            // Who asks for http where https is spoken.
            (Inspect::Http, _) | (Inspect::Tls, Refusal::NotTls) => Voice::Http,
            (Inspect::None, _) => Voice::Mute,
            (Inspect::Tls, Refusal::NoRule) => Voice::Tls(Alert::UnrecognizedName),
            (Inspect::Tls, Refusal::NoBackend | Refusal::RefusedByAll | Refusal::Overloaded) => {
                Voice::Tls(Alert::InternalError)
            }
            (Inspect::Tls, _) => Voice::Tls(Alert::DecodeError),
        }
    }

    fn count_reply(&self, reply: Reply, voice: Voice) {
        let Reply::Refused(refusal) = reply else { return self.counters.count(Event::AnsweredByRule) };
        self.counters.count_drop(refusal.into());
        self.counters.count(match (voice, refusal.status()) {
            (Voice::Tls(_), _) => Event::Alerts,
            (_, 400) => Event::Errors400,
            (_, 408) => Event::Errors408,
            (_, 431) => Event::Errors431,
            _ => Event::Errors503,
        });
    }

    fn set_page_step(&mut self, index: HoldIndex, step: u8, now: Micros) {
        let Some(hold) = self.holds.get_mut(index) else { return };
        if let Duty::Page { client, .. } = hold.duty {
            hold.duty = Duty::Page { step, client };
        }
        match PAGE_STEPS.get(usize::from(step)) {
            Some(delay) => self.holds.set_deadline(index, now.plus(*delay)),
            None => self.holds.cancel_deadline(index),
        }
    }

    /// Sends an error page from `offset` on, as much of it as the client's window takes, but one segment at least.
    fn send_page(
        &mut self,
        id: FlowId,
        index: HoldIndex,
        offset: usize,
        event: Event,
        out: &mut impl Outbox,
    ) {
        let (Some((flow, _)), Some(hold)) = (self.flows.get(id), self.holds.get(index)) else { return };
        let Duty::Page { client, .. } = hold.duty else { return };
        let Some(way) = Way::to_client(&flow.tuple, self.lcore.mac, flow.client_mac) else { return };
        let negotiated = flow.base.negotiated;
        let stamps = Timestamps { value: flow.base.tsecr, echo: hold.tsval };
        let options = if negotiated.timestamps { TIMESTAMPS_BYTES } else { 0 };
        let bytes_max = usize::from(negotiated.mss.min(self.announced_mss())).saturating_sub(options);
        // Of a page that arrived without its FIN, the last byte comes again with it.
        let from = offset.min(hold.bytes().len().saturating_sub(1));
        let window =
            usize::from(hold.window) << negotiated.wscale.map_or(0, |shifts| shifts.send.min(WSCALE_MAX));
        let until = hold.acked + window;
        let mut sent_until = from;
        for piece in hold.pieces(from, bytes_max) {
            let end = piece.offset + piece.bytes.len();
            if end > until && piece.offset > hold.acked {
                break;
            }
            sent_until = end;
            let control = if piece.is_last { TcpControl::Fin } else { TcpControl::Psh };
            let answer = TcpAnswer {
                window: WINDOW,
                timestamps: negotiated.timestamps.then_some(stamps),
                ..TcpAnswer::new(hold.seq_at(piece.offset), Some(client.next), control)
            };
            let sent = emit::to_client(&mut self.scratch, &way, &answer, piece.bytes, out);
            self.counters.count(if sent { event } else { Event::TransmitFailed });
        }
        if let Some(hold) = self.holds.get_mut(index) {
            hold.taken = hold.taken.max(sent_until);
        }
    }

    /// The client has not acknowledged all of an error page in time.
    pub(super) fn repeat_page(
        &mut self,
        id: FlowId,
        index: HoldIndex,
        step: u8,
        now: Micros,
        out: &mut impl Outbox,
    ) {
        let acked = self.holds.get(index).map_or(0, |hold| hold.acked);
        self.send_page(id, index, acked, Event::PagesRepeated, out);
        self.set_page_step(index, step + 1, now);
    }

    /// Decides about a segment of a client whose request the switch answered.
    pub(super) fn answered(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        arrival.verify(frame)?;
        let segment = &arrival.segment;
        let flow = self.flows.get(id).map(|(flow, _)| *flow).ok_or(DropReason::UnknownFlow)?;
        let Some(index) = flow.hold else {
            // Both sides have finished; only a FIN whose acknowledgment got lost still wants an answer.
            return if segment.flags.fin && !segment.flags.rst {
                let tsval = segment.timestamps.map_or(0, |stamps| stamps.value);
                self.acknowledge_end(frame, arrival, segment.ack, segment.end(), tsval)
            } else {
                Ok(Verdict::Absorb)
            };
        };
        let hold = self.holds.get_mut(index).ok_or(DropReason::UnknownFlow)?;
        let Duty::Page { step, mut client } = hold.duty else { return Err(DropReason::UnknownFlow) };
        if segment.flags.rst {
            if segment.seq == client.next {
                self.forget(id);
            } else {
                self.counters.count(Event::FinUnbelieved);
            }
            return Ok(Verdict::Absorb);
        }
        let (end, acked_before) = (hold.next(), hold.acked);
        if segment.flags.ack && segment.ack == end {
            hold.acked = hold.bytes().len() + 1;
            self.holds.cancel_deadline(index);
        } else if segment.flags.ack && segment.ack.before(end) {
            hold.acked = hold.acked.max(hold.offset_of(segment.ack));
        }
        if !client.is_finished && !segment.seq.after(client.next) && segment.end().after(client.next) {
            client = PageClient { next: segment.end(), is_finished: segment.flags.fin };
        }
        let Some(hold) = self.holds.get_mut(index) else { return Err(DropReason::UnknownFlow) };
        hold.note_stamps(segment.timestamps);
        hold.duty = Duty::Page { step, client };
        let tsval = hold.tsval;
        hold.window = segment.window;
        let (sent, bytes) = (hold.taken, hold.bytes().len());
        let is_over = client.is_finished && hold.acked > bytes;
        if is_over {
            self.release_hold(id);
        } else if hold.acked > acked_before && sent < bytes {
            self.send_page(id, index, sent, Event::PageSegments, out);
        }
        // A probe, and data that came again, want to be acknowledged, too.
        if segment.payload_bytes > 0 || segment.flags.fin || segment.seq.before(client.next) {
            return self.acknowledge_end(frame, arrival, end, client.next, tsval);
        }
        Ok(Verdict::Absorb)
    }

    fn acknowledge_end(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        seq: Seq,
        client_next: Seq,
        client_tsval: u32,
    ) -> Result<Verdict, DropReason> {
        let stamps = arrival.segment.timestamps;
        let answer = TcpAnswer {
            window: WINDOW,
            timestamps: stamps.map(|stamps| Timestamps { value: stamps.echo, echo: client_tsval }),
            ..TcpAnswer::new(seq, Some(client_next), TcpControl::None)
        };
        self.reply(frame, arrival, &answer, Event::InputDiscarded)
    }

    /// The time of an answered connection is up: a client that has not come to an end is reset.
    pub(super) fn answered_expired(&mut self, id: FlowId, out: &mut impl Outbox) {
        let reset = self.flows.get(id).and_then(|(flow, _)| {
            let hold = self.holds.get(flow.hold?)?;
            let Duty::Page { client, .. } = hold.duty else { return None };
            let seq = hold.seq_at(hold.acked); // what it is known to expect: elsewhere it would not believe a RST
            Some(TcpAnswer::new(seq, Some(client.next), TcpControl::Rst))
        });
        if let Some(reset) = reset {
            self.send_to_client(id, &reset, Event::ResetsSent, out);
        }
        self.forget(id);
    }
}

/// What a client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Voice {
    /// A response.
    Http,
    /// An alert.
    Tls(Alert),
    /// Nothing is known of its protocol.
    Mute,
}

/// Copies as much as there is room for; returns how much that was.
fn copied(bytes: &[u8], buffer: &mut [u8]) -> usize {
    buffer.iter_mut().zip(bytes).map(|(place, byte)| *place = *byte).count()
}

/// Says whether a request's first bytes are those of HEAD, whose responses have no body (RFC 9110, section 9.3.2).
pub(super) fn is_head_request(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"HEAD ")
}

impl From<Refusal> for DropReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed | Refusal::CutOff => Self::RequestMalformed,
            Refusal::Disputed => Self::RequestDisputed,
            Refusal::Unfinished => Self::RequestUnfinished,
            Refusal::HeadTooLarge => Self::HeadTooLarge,
            Refusal::NotTls => Self::RequestNotTls,
            Refusal::Overloaded => Self::Overload,
            Refusal::NoRule => Self::NoRule,
            Refusal::NoBackend => Self::NoBackend,
            Refusal::RefusedByAll => Self::RefusedByAll,
        }
    }
}
