//! Packets of known flows, on their way to the backend: in the tunnel, or by hardware address alone.

use core::net::IpAddr;

use handoff_proto::{FourTuple, Header, MessageType, Micros};

use handoff_proto::header::Detail;
use handoff_proto::tcp::WSCALE_MAX;

use crate::flow::{Event as Life, Flow, FlowId, State};
use crate::frame::Frame;
use crate::http::Refusal;
use crate::ids::BackendIndex;
use crate::metrics::{DropReason, Event};
use crate::switch::ask::FIT_BYTES;
use crate::switch::error_page::Reply;
use crate::switch::{Arrival, EXPIRY_LOOKS_MAX, Outbox, SCRATCH_HEADROOM, Switch};
use crate::tunnel::{self, Outer, WrapError};
use crate::verdict::Verdict;
use crate::wire::{self, ETHERNET_BYTES};

/// The largest window that needs no shift (RFC 9293, section 3.1).
const UNSCALED_WINDOW: u32 = 65_535;
/// A kernel opens its receive window no further than this many times what it has received.
const WINDOW_GROWTH: u32 = 4;

/// Returns how far a segment may lie from what its client was seen to send: one receive window, as no client may send further.
///
/// Less would lose track of an upload for good where more than that is lost on its way to the switch; a whole scaled window
/// for all would make a forged FIN that much easier to place.
fn distance_max(flow: &Flow) -> u32 {
    let Some(shifts) = flow.base.negotiated.wscale else {
        // Of a connection of the switch's former life neither the shift nor how much came is known.
        return if flow.search.count > 0 { FIT_BYTES } else { UNSCALED_WINDOW };
    };
    let shift = shifts.receive.min(WSCALE_MAX);
    let sent = flow.sent_until.distance_from(flow.base.seq).unsigned_abs();
    sent.saturating_mul(WINDOW_GROWTH).clamp(UNSCALED_WINDOW, UNSCALED_WINDOW << shift)
}

impl Switch {
    /// Decides about a segment of a flow.
    pub(super) fn known(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let (flow, state) = self.flows.get(id).ok_or(DropReason::UnknownFlow)?;
        if self.belongs_to_a_new_connection(flow, arrival) {
            return self.reopened(frame, arrival, id, out);
        }
        match state {
            State::Holding => return self.more_data(frame, arrival, id, out),
            State::Asking => return self.asked(frame, arrival, id, out),
            State::Unclaimed => return self.unclaimed(frame, arrival, id, out),
            State::Answered => return self.answered(frame, arrival, id, out),
            State::Unconfirmed | State::Established | State::ClosingUnconfirmed | State::Closing => {}
        }
        let flags = arrival.segment.flags;
        // The backend may lack some of the request: most segments by far are of flows of which it does not.
        let may_lack = flow.hold.is_some() || !state.is_confirmed();
        if may_lack || flags.fin || flags.rst {
            arrival.verify(frame)?;
        }
        if may_lack {
            if !self.keeps_the_head(frame, arrival, id) {
                return Err(DropReason::HeadChanged);
            }
            self.note_stamps_of_held(arrival, id);
        }
        self.follow(arrival, id);
        self.send_on(frame, arrival, id)
    }

    /// Says whether a segment carries on from a SYN seen after the flow began, and that SYN was answered by us.
    fn belongs_to_a_new_connection(&self, flow: &Flow, arrival: &Arrival) -> bool {
        let seq = arrival.segment.seq;
        flow.reopened.is_some_and(|isn| {
            (seq == isn.add(1) || seq == isn)
                && arrival.segment.flags.ack
                && self.cookie_holds(arrival, isn).is_some()
        })
    }

    /// The client opened a new connection with the 4-tuple of a flow. What was left of the old one gives way as soon as the
    /// new one sends data; until then both are possible and nothing is decided.
    fn reopened(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        if segment.flags.rst {
            return Err(DropReason::UnknownFlow);
        }
        arrival.verify(frame)?;
        let opened = self.flows.get(id).and_then(|(flow, _)| flow.reopened);
        if segment.payload_bytes == 0 || opened != Some(segment.seq.sub(1)) {
            return self.idle(frame, arrival)?.ok_or(DropReason::UnknownFlow);
        }
        let previous = self.forget(id).map(|flow| flow.generation);
        self.counters.count(Event::FlowsReplaced);
        self.unknown(frame, arrival, previous, out)
    }

    /// Takes in what a segment says about the life of its flow.
    fn follow(&mut self, arrival: &Arrival, id: FlowId) {
        let segment = &arrival.segment;
        let Some(flow) = self.flows.get_mut(id) else { return };
        flow.last_seen = arrival.now;
        let beyond = segment.seq.distance_from(flow.sent_until);
        let is_near = beyond.unsigned_abs() <= distance_max(flow);
        // A RST says nothing of what was sent: believing it would let a second forged one hit exactly.
        let advances = segment.end().after(flow.sent_until) && !segment.flags.rst;
        if advances && is_near {
            flow.sent_until = segment.end();
        }
        // Only what a backend can have sent by then, and what its client can have sent: an old packet of the same 4-tuple must not
        // pass for an answer, for what is unconfirmed would be given up.
        let acked = segment.ack.distance_from(flow.base.ack);
        let confirms = acked > 0 && acked.unsigned_abs() <= FIT_BYTES && is_near;
        if segment.flags.ack && confirms {
            self.live(id, Life::Confirm, arrival.now);
        }
        // A RST counts only at exactly the next sequence number (RFC 5961, section 3.2): the backend's kernel decides about
        // others, and the flow stays long enough for either outcome.
        let believed = if segment.flags.rst { beyond == 0 } else { segment.flags.fin && is_near };
        if believed {
            let event = if segment.flags.rst { Life::Reset } else { Life::Finish };
            self.live(id, event, arrival.now);
            if event == Life::Reset {
                self.release_hold(id); // nobody waits for it any more
            }
        } else if segment.flags.fin || segment.flags.rst {
            self.counters.count(Event::FinUnbelieved);
        }
    }

    /// Moves a flow through its life.
    pub(super) fn live(&mut self, id: FlowId, event: Life, now: Micros) {
        let Some((_, before)) = self.flows.get(id) else { return };
        match before.after(event) {
            Some(after) if after != before => {
                self.flows.set_state(id, after, now);
                self.recount(id);
                // A backend's claim confirms nothing of what is kept for it: it may lack all of that.
                if event == Life::Confirm && !before.is_confirmed() {
                    self.counters.count(Event::Confirmed);
                    self.confirmed(id);
                }
            }
            Some(_) => {}
            None => {
                self.forget(id);
            }
        }
    }

    /// Sends a client's packet on to the backend of its flow.
    pub(super) fn send_on(
        &self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
    ) -> Result<Verdict, DropReason> {
        let (flow, state) = self.flows.get(id).ok_or(DropReason::UnknownFlow)?;
        let path = self.paths.get(usize::from(flow.backend.0)).ok_or(DropReason::NoNextHop)?;
        if state.is_confirmed() && path.on_link {
            let mac = self.neighbors.mac(path.hop).ok_or(DropReason::NoNextHop)?;
            wire::redirect(frame, self.lcore.mac, mac);
            self.counters.count(Event::ForwardedDirect);
            return Ok(Verdict::Forward);
        }
        let kind = if state.is_confirmed() { MessageType::Forward } else { MessageType::Handoff };
        let (outer, header) = self.tunnel_headers(flow, flow.backend, kind, arrival.now)?;
        tunnel::wrap(frame, &outer, &header, self.settings.mtu_bytes)?;
        self.count_tunnelled(state);
        Ok(Verdict::Forward)
    }

    pub(super) fn count_tunnelled(&self, state: State) {
        self.counters.count(if state.is_confirmed() {
            Event::ForwardedTunnel
        } else {
            Event::HandoffPackets
        });
    }

    /// Makes what goes in front of a packet of a flow on its way to a backend.
    pub(super) fn tunnel_headers(
        &self,
        flow: &Flow,
        backend: BackendIndex,
        kind: MessageType,
        now: Micros,
    ) -> Result<(Outer, [u8; handoff_proto::header::HEADER_BYTES]), DropReason> {
        let path = self.paths.get(usize::from(backend.0)).ok_or(DropReason::NoNextHop)?;
        let mac = self.neighbors.mac(path.hop).ok_or(DropReason::NoNextHop)?;
        let Some((key_id, key)) = self.tag_keys.first() else { unreachable!("a ring is never empty") };
        let header = Header {
            kind,
            negotiated: flow.base.negotiated,
            key_id: *key_id,
            base_seq: flow.base.seq,
            base_ack: flow.base.ack,
            tsval: flow.base.tsval,
            tsecr: flow.base.tsecr,
            detail: Detail::None,
            lcore: self.lcore.number,
            generation: flow.generation,
            issued: now,
        };
        let outer = Outer {
            source_mac: self.lcore.mac,
            destination_mac: mac,
            source: self.settings.network.address,
            destination: path.address,
            source_port: tunnel_port(&flow.tuple),
        };
        Ok((outer, header.emit(&flow.tuple, key)))
    }

    /// Ends flows whose time is up, and goes on with those that have something left to do.
    pub(super) fn expire_flows(&mut self, now: Micros, out: &mut impl Outbox) {
        let mut looks = EXPIRY_LOOKS_MAX;
        while let Some(id) = self.flows.expired(now, &mut looks) {
            match self.flows.get(id).map(|(_, state)| state) {
                Some(State::Asking) => self.asking_expired(id, now, out),
                Some(State::Holding) => self.refuse_held(id, Reply::Refused(Refusal::Unfinished), now, out),
                Some(State::Answered) => self.answered_expired(id, out),
                // What was acknowledged is owed however long the client says nothing: the steps of the debt are its bound.
                Some(_) if self.flows.get(id).is_some_and(|(flow, _)| flow.hold.is_some()) => {
                    self.flows.renew(id, now);
                }
                _ => {
                    self.forget(id);
                    self.counters.count(Event::FlowsExpired);
                }
            }
        }
    }
}

/// Returns the UDP source port of a flow's tunnel packets, in the dynamic range (RFC 6335, section 6).
fn tunnel_port(tuple: &FourTuple) -> u16 {
    let client = match tuple.client {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => address.octets().chunks_exact(4).fold(0, |mixed: u32, word| {
            mixed.rotate_left(7) ^ word.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte))
        }),
    };
    // Fibonacci hashing (Knuth, vol. 3, 6.4): the top bits of the product depend on every bit below them.
    let mixed = (client ^ u32::from(tuple.client_port).rotate_left(16)).wrapping_mul(0x9e37_79b9);
    let [high, low, ..] = mixed.to_be_bytes();
    0xc000 | u16::from_be_bytes([high, low]) >> 2
}

impl From<WrapError> for DropReason {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::NoRoom(_) => Self::NoHeadroom,
            WrapError::TooLong { .. } => Self::TooLong,
        }
    }
}

const _: () = assert!(SCRATCH_HEADROOM >= handoff_proto::header::TUNNEL_BYTES_V4 + ETHERNET_BYTES);
