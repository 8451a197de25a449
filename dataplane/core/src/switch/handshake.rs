//! The handshake without state: SYNs, and clients that have not sent a request yet.

use handoff_proto::header::TUNNEL_BYTES_V4;
use handoff_proto::{Generation, Negotiated, Seq};
use smoltcp::wire::TcpControl;

use crate::cookie::{Echo, Offer};
use crate::flow::{FlowId, State};
use crate::frame::Frame;
use crate::metrics::{DropReason, Event};
use crate::switch::{Arrival, Outbox, Switch};
use crate::verdict::Verdict;
use crate::wire::{self, SynOptions, TcpAnswer, Timestamps};

/// IPv4 and TCP headers without options, which an MSS does not count (RFC 9293, section 3.7.1).
const HEADERS_BYTES: usize = 20 + 20;
/// The window of a SYN-ACK, which is never scaled (RFC 7323, section 2.2).
const WINDOW: u16 = u16::MAX;

impl Switch {
    /// Answers a SYN with a cookie. Nothing is stored; a flow with the same 4-tuple notes that it may have been reopened.
    pub(super) fn syn(&mut self, frame: &mut Frame<'_>, arrival: &Arrival) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        if segment.flags.ack {
            return Err(DropReason::TcpFlags);
        }
        arrival.verify(frame)?;
        let options = SynOptions::parse(frame.bytes())?;
        let offer = Offer {
            mss: options.mss,
            window_scale: options.window_scale,
            sack: options.sack_permitted,
            timestamps: options.tsval.is_some(),
            ecn: segment.flags.ece && segment.flags.cwr,
        };
        if let Some(id) = self.flows.find(&segment.tuple) {
            self.note_syn(id, segment.seq);
        }
        let cookie = self.cookies.issue(&segment.tuple, segment.seq, &offer);
        let answer = TcpAnswer {
            window: WINDOW,
            mss: Some(self.announced_mss()),
            window_scale: cookie.window_scale,
            sack_permitted: offer.sack,
            timestamps: options.tsval.map(|tsval| Timestamps { value: cookie.tsval, echo: tsval }),
            ece: offer.ecn,
            ..TcpAnswer::new(cookie.isn, Some(segment.seq.add(1)), TcpControl::Syn)
        };
        self.reply(frame, arrival, &answer, Event::SynAcks)
    }

    /// Notes that a flow's client may be opening a new connection.
    fn note_syn(&mut self, id: FlowId, client_isn: Seq) {
        if self.flows.get(id).is_some_and(|(_, state)| state == State::Unclaimed) {
            // What was found out about the old one must not end the new one.
            self.forget(id);
        } else if let Some(flow) = self.flows.get_mut(id)
            && flow.base.seq != client_isn.add(1)
        {
            // A late copy of the flow's own SYN opens nothing: its cookie is good, and the request would run a second time.
            flow.reopened = Some(client_isn);
        }
    }

    /// Largest payload that fits the network with headers and the tunnel around it.
    pub(super) fn announced_mss(&self) -> u16 {
        let mss = usize::from(self.settings.mtu_bytes).saturating_sub(TUNNEL_BYTES_V4 + HEADERS_BYTES);
        u16::try_from(mss).unwrap_or(u16::MAX)
    }

    /// Decides about a segment without a flow. `previous` is the generation of a flow the same 4-tuple had.
    pub(super) fn unknown(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        previous: Option<Generation>,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        if !segment.flags.ack && !segment.flags.rst {
            return Err(DropReason::UnknownFlow);
        }
        arrival.verify(frame)?;
        if segment.flags.rst {
            // A client that gives up without a request leaves nothing behind that a backend could have.
            if segment.flags.ack && self.cookie_holds(arrival, segment.seq.sub(1)).is_some() {
                return Err(DropReason::UnknownFlow);
            }
            return self.ask(arrival, out);
        }
        // The first segment after the handshake: the client's ISN is one less than its sequence number.
        if segment.payload_bytes > 0
            && let Some(negotiated) = self.cookie_holds(arrival, segment.seq.sub(1))
        {
            return self.first_data(frame, arrival, negotiated, previous, out);
        }
        match self.idle(frame, arrival)? {
            Some(verdict) => Ok(verdict),
            None => self.ask(arrival, out),
        }
    }

    /// Decides about a segment of a client that has sent no request; `None` if it is not of one. Its checksum is verified.
    pub(super) fn idle(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
    ) -> Result<Option<Verdict>, DropReason> {
        let segment = &arrival.segment;
        let is_bare = segment.payload_bytes == 0;
        if is_bare && segment.flags.fin && self.cookie_holds(arrival, segment.seq.sub(1)).is_some() {
            return self.answer_idle(frame, arrival, TcpControl::Fin, Event::IdleFinsAnswered).map(Some);
        }
        // A keepalive probe repeats the last sequence number sent, here that of the SYN, with no byte or one (RFC 9293,
        // section 3.8.4).
        if segment.payload_bytes <= 1
            && !segment.flags.fin
            && self.cookie_holds(arrival, segment.seq).is_some()
        {
            return self.answer_idle(frame, arrival, TcpControl::None, Event::IdleProbesAnswered).map(Some);
        }
        // The second is of a client that left: both FINs count.
        let is_idle =
            |counted| self.acknowledges(arrival, segment.seq.sub(counted), segment.ack.sub(counted));
        if is_bare && !segment.flags.fin && (is_idle(1).is_some() || is_idle(2).is_some()) {
            self.counters.count(Event::IdleAcks);
            return Ok(Some(Verdict::Absorb));
        }
        Ok(None)
    }

    /// Checks whether the segment acknowledges a cookie given to `client_isn`.
    pub(super) fn cookie_holds(&self, arrival: &Arrival, client_isn: Seq) -> Option<Negotiated> {
        self.acknowledges(arrival, client_isn, arrival.segment.ack.sub(1))
    }

    fn acknowledges(&self, arrival: &Arrival, client_isn: Seq, isn: Seq) -> Option<Negotiated> {
        let segment = &arrival.segment;
        let tsecr = segment.timestamps.map(|stamps| stamps.echo);
        let echo = Echo { client_isn, isn, tsecr };
        self.cookies.check(&segment.tuple, &echo)
    }

    /// Answers a client that has sent no request: its FIN with ours, its probe with an acknowledgment. Timestamps repeat the
    /// client's own echo: the switch has no clock the client has seen.
    fn answer_idle(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        control: TcpControl,
        event: Event,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let expected = if control == TcpControl::Fin { segment.end() } else { segment.seq.add(1) };
        let answer = TcpAnswer {
            window: WINDOW,
            timestamps: segment
                .timestamps
                .map(|stamps| Timestamps { value: stamps.echo, echo: stamps.value }),
            ..TcpAnswer::new(segment.ack, Some(expected), control)
        };
        self.reply(frame, arrival, &answer, event)
    }

    /// Turns the frame into an answer to the client.
    pub(super) fn reply(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        answer: &TcpAnswer,
        event: Event,
    ) -> Result<Verdict, DropReason> {
        wire::answer_tcp(frame, &arrival.segment, answer).map_err(|_| DropReason::NoHeadroom)?;
        self.counters.count(event);
        Ok(Verdict::Reply)
    }

    /// Resets the client because of `reason`, which is counted.
    pub(super) fn refuse(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        reason: DropReason,
    ) -> Result<Verdict, DropReason> {
        let answer = wire::reset_for(&arrival.segment);
        self.reply(frame, arrival, &answer, Event::ResetsSent)?;
        self.counters.count_drop(reason);
        Ok(Verdict::Reply)
    }
}
