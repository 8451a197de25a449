//! From the first data to the handoff: reading the head, holding it while it is unfinished, choosing a backend.

use core::hash::Hasher;

use handoff_proto::{Generation, Micros, Negotiated};
use siphasher::sip::SipHasher13;

use crate::flow::{ATTEMPTS_MAX, Base, Event as Life, Flow, FlowId, HeadMark, State};
use crate::frame::Frame;
use crate::http::Refusal;
use crate::ids::BackendIndex;
use crate::metrics::{DropReason, Event};
use crate::neighbor::Neighbors;
use crate::switch::decide::{Decision, First, Found};
use crate::switch::error_page::{Farewell, Reply, is_head_request};
use crate::switch::held::ACK_DELAY;
use crate::switch::hold::{Hold, PageClient, Unfit};
use crate::switch::{Arrival, Inspect, Outbox, Path, Snapshot, Switch};
use crate::verdict::Verdict;

impl Switch {
    /// Takes the first data of a connection whose cookie holds. Its checksum is verified.
    pub(super) fn first_data(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        negotiated: Negotiated,
        previous: Option<Generation>,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        let flow = new_flow(arrival, negotiated, previous);
        match self.decide_by(arrival, First::Frame(segment.payload(frame.bytes()))) {
            Decision::Refuse(refusal) => {
                self.refuse_first(frame, arrival, flow, Reply::Refused(refusal), out)
            }
            Decision::Answer(bytes) => self.refuse_first(frame, arrival, flow, Reply::Ruled(bytes), out),
            Decision::Wait if segment.flags.fin => {
                self.refuse_first(frame, arrival, flow, Reply::Refused(Refusal::CutOff), out)
            }
            Decision::Wait => {
                self.begin_hold(frame, arrival, flow, State::Holding, out).map(|_| Verdict::Absorb)
            }
            Decision::Dispatch(Found { wanted, backend: None, .. }) => {
                let flow = Flow { wanted, ..flow };
                let id = self.begin_hold(frame, arrival, flow, State::Asking, out)?;
                self.counters.count(Event::OwnersSought);
                self.ask_for_held(id, arrival.now, out);
                Ok(Verdict::Absorb)
            }
            Decision::Dispatch(Found { bytes, wanted, backend: Some(backend) }) => {
                let head = segment.payload(frame.bytes()).get(..bytes).filter(|head| !head.is_empty());
                let head = head.map(|head| HeadMark {
                    bytes: u16::try_from(bytes).unwrap_or(u16::MAX), // less than a frame
                    asks_for_head: is_head_request(head),
                    digest: self.digest(head),
                });
                let flow = Flow { wanted, backend, head, ..flow };
                let Some(id) = self.insert(flow, State::Unconfirmed, arrival) else {
                    return self.refuse(frame, arrival, DropReason::TableFull);
                };
                self.counters.count(Event::Handoffs);
                if segment.flags.fin {
                    self.live(id, Life::Finish, arrival.now);
                }
                self.send_on(frame, arrival, id)
            }
        }
    }

    /// Takes another segment of a connection whose head is unfinished.
    pub(super) fn more_data(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let segment = &arrival.segment;
        arrival.verify(frame)?;
        let flow = self.flows.get_mut(id).ok_or(DropReason::UnknownFlow)?;
        let index = flow.hold.ok_or(DropReason::UnknownFlow)?;
        let hold = self.holds.get_mut(index).ok_or(DropReason::UnknownFlow)?;
        if segment.flags.rst {
            if segment.seq == hold.next() {
                self.forget(id);
            } else {
                self.counters.count(Event::FinUnbelieved);
            }
            return Ok(Verdict::Absorb);
        }
        // There is nothing yet but our SYN-ACK to acknowledge. The backend's kernel drops what acknowledges anything else:
        // taken into the head here, it would be parsed by the switch and never read by the server.
        if segment.ack != flow.base.ack {
            return Err(DropReason::HeadAck);
        }
        hold.note_stamps(segment.timestamps);
        // Keepalive probes, which may carry one byte of anything (RFC 9293, section 3.8.4), and what the client repeats because it
        // missed an acknowledgment.
        let payload = segment.payload(frame.bytes());
        let is_probe = payload.len() == 1 && segment.seq.add(1) == hold.next();
        if segment.seq.before(flow.base.seq) || (payload.is_empty() || is_probe) && !segment.flags.fin {
            return if segment.seq.before(hold.next()) {
                self.acknowledge(frame, arrival, id, index)
            } else {
                Ok(Verdict::Absorb)
            };
        }
        let before = hold.bytes().len();
        let put = hold.put(segment.seq, payload, segment.flags.fin);
        if put.is_ok() {
            hold.window = segment.window;
        }
        // The time for a head runs from its first byte: what comes of it piece by piece buys no more.
        flow.sent_until = hold.next();
        match put {
            Ok(true) => return self.grown_head(frame, arrival, id, before, out),
            Ok(false) => self.counters.count(Event::HeadRepeats),
            Err(Unfit::TooFar) => {
                let verdict = self.acknowledge(frame, arrival, id, index)?;
                self.counters.count_drop(DropReason::HoldGap);
                return Ok(verdict);
            }
            Err(Unfit::Differs) => {
                return self.end_held(id, Reply::Refused(Refusal::Disputed), arrival.now, out);
            }
            Err(Unfit::TooMany) => {
                return self.end_held(id, Reply::Refused(Refusal::HeadTooLarge), arrival.now, out);
            }
        }
        self.acknowledge(frame, arrival, id, index)
    }

    /// Decides about a head that was `before` bytes long without a gap and has grown.
    fn grown_head(
        &mut self,
        frame: &mut Frame<'_>,
        arrival: &Arrival,
        id: FlowId,
        before: usize,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let index = self.flows.get(id).and_then(|(flow, _)| flow.hold).ok_or(DropReason::UnknownFlow)?;
        let hold = self.holds.get(index).ok_or(DropReason::UnknownFlow)?;
        let (is_finished, is_full) = (hold.is_finished(), hold.is_full());
        // A head ends with a line: nothing is decided without one. So a head is parsed once a line, and what a client can make
        // the switch parse is bounded by its fields, or else by SEGMENT_COUNT_MAX scans of empty lines.
        let may_be_whole = self.snapshot.inspect(arrival.vip) != Inspect::Http
            || hold.bytes().get(before..).is_some_and(|new| new.contains(&b'\n'));
        let decision =
            if may_be_whole { self.decide_by(arrival, First::Held(index)) } else { Decision::Wait };
        match decision {
            Decision::Refuse(refusal) => self.end_held(id, Reply::Refused(refusal), arrival.now, out),
            Decision::Answer(bytes) => self.end_held(id, Reply::Ruled(bytes), arrival.now, out),
            Decision::Wait if is_finished => {
                self.end_held(id, Reply::Refused(Refusal::CutOff), arrival.now, out)
            }
            Decision::Wait if is_full => {
                self.end_held(id, Reply::Refused(Refusal::HeadTooLarge), arrival.now, out)
            }
            Decision::Wait => {
                self.counters.count(Event::HeadsHeld);
                self.acknowledge(frame, arrival, id, index)
            }
            Decision::Dispatch(found) => {
                if let Some(flow) = self.flows.get_mut(id) {
                    flow.wanted = found.wanted;
                }
                match found.backend {
                    Some(backend) => self.hand_off_held(id, backend, arrival.now, out),
                    None => self.dispatch_held(id, arrival.now, out),
                }
                Ok(Verdict::Absorb)
            }
        }
    }

    /// Refuses a request whose head is kept; the segment that decided it has been taken in.
    fn end_held(
        &mut self,
        id: FlowId,
        reply: Reply,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        self.refuse_held(id, reply, now, out);
        Ok(Verdict::Absorb)
    }

    /// Keeps the first segment of a connection.
    fn begin_hold(
        &mut self,
        frame: &Frame<'_>,
        arrival: &Arrival,
        flow: Flow,
        state: State,
        out: &mut impl Outbox,
    ) -> Result<FlowId, DropReason> {
        let segment = &arrival.segment;
        let index = self.place(segment.seq, arrival.now, out).ok_or(DropReason::HoldsFull)?;
        let Some(id) = self.insert(Flow { hold: Some(index), ..flow }, state, arrival) else {
            self.holds.release(index);
            return Err(DropReason::TableFull); // the client retransmits; there may be room by then
        };
        let hold = self.holds.get_mut(index).ok_or(DropReason::HoldsFull)?;
        hold.flow = id;
        hold.window = segment.window;
        hold.tsval = flow.base.tsval;
        let kept = hold.put(segment.seq, segment.payload(frame.bytes()), segment.flags.fin);
        debug_assert_eq!(kept, Ok(true), "a first segment fits");
        if state == State::Holding {
            self.holds.set_deadline(index, arrival.now.plus(ACK_DELAY));
        }
        self.counters.count(Event::HeadsHeld);
        Ok(id)
    }

    /// Chooses a backend for a connection whose head is kept and whole, and hands it off.
    pub(super) fn dispatch_held(&mut self, id: FlowId, now: Micros, out: &mut impl Outbox) {
        let Some((flow, state)) = self.flows.get(id) else { return };
        let wanted = flow.wanted;
        if state == State::Holding && self.is_learning(now) {
            self.flows.set_state(id, State::Asking, now);
            self.flows.renew(id, now);
            self.counters.count(Event::OwnersSought);
            return self.ask_for_held(id, now, out);
        }
        match self.choose_late(&wanted, now) {
            Ok(backend) => self.hand_off_held(id, backend, now, out),
            Err(refusal) => self.refuse_held(id, Reply::Refused(refusal), now, out),
        }
    }

    /// Hands off a connection whose head is kept and whole.
    fn hand_off_held(&mut self, id: FlowId, backend: BackendIndex, now: Micros, out: &mut impl Outbox) {
        let Some(flow) = self.flows.get_mut(id) else { return };
        let Some(index) = flow.hold else { return };
        flow.backend = backend;
        flow.last_seen = now;
        self.live(id, Life::Dispatch, now);
        if self.holds.get(index).is_some_and(Hold::is_finished) {
            self.live(id, Life::Finish, now);
        }
        self.counters.count(Event::Handoffs);
        self.send_head(id, index, now, out);
    }

    /// Answers a request whose head is kept.
    pub(super) fn refuse_held(&mut self, id: FlowId, reply: Reply, now: Micros, out: &mut impl Outbox) {
        let index = self.flows.get(id).and_then(|(flow, _)| flow.hold);
        let Some(hold) = index.and_then(|index| self.holds.get(index)) else { return };
        let farewell = Farewell {
            reply,
            with_body: !is_head_request(hold.bytes()),
            client: PageClient { next: hold.next(), is_finished: hold.is_finished() },
            window: hold.window,
            tsval: hold.tsval,
        };
        self.say_farewell(id, &farewell, now, out);
    }

    /// Returns a hash of a request head that nobody else can compute.
    pub(super) fn digest(&self, head: &[u8]) -> u64 {
        let mut hash = SipHasher13::new_with_key(&self.digest_key);
        hash.write(head);
        hash.finish()
    }

    /// Says whether a backend may get new connections and where to send them is known.
    pub(super) fn is_reachable(
        snapshot: &Snapshot,
        paths: &[Path],
        neighbors: &Neighbors,
        backend: BackendIndex,
    ) -> bool {
        let at = usize::from(backend.0);
        snapshot.backends.get(at).is_some_and(|backend| backend.usable)
            && paths.get(at).is_some_and(|path| neighbors.mac(path.hop).is_some())
    }

    /// Adds a flow, at the expense of a quiet one if the table is full; `None` if that does not help.
    pub(super) fn insert(&mut self, flow: Flow, state: State, arrival: &Arrival) -> Option<FlowId> {
        let id = match self.flows.insert(flow, state) {
            Ok(id) => id,
            Err(_) => {
                let quiet = self.flows.evict(arrival.now)?;
                self.forget(quiet);
                self.counters.count(Event::FlowsEvicted);
                self.flows.insert(flow, state).ok()?
            }
        };
        self.recount(id);
        Some(id)
    }

    /// Counts a flow among its backend's connections, or no longer, after its state or its backend has changed.
    pub(super) fn recount(&mut self, id: FlowId) {
        let Some((flow, state)) = self.flows.get(id) else { return };
        let counts = state.is_open().then_some(flow.backend);
        let (counted, weight) = (flow.counted, flow.wanted.session_weight);
        if counts == counted {
            return;
        }
        if let Some(backend) = counted {
            self.dispatcher.end(backend, weight);
        }
        if let Some(backend) = counts {
            self.dispatcher.begin(backend, weight);
        }
        if let Some(flow) = self.flows.get_mut(id) {
            flow.counted = counts;
        }
    }

    /// Removes a flow and what belongs to it.
    pub(super) fn forget(&mut self, id: FlowId) -> Option<Flow> {
        let flow = self.flows.remove(id)?;
        if let Some(backend) = flow.counted {
            self.dispatcher.end(backend, flow.wanted.session_weight);
        }
        if let Some(hold) = flow.hold {
            self.holds.release(hold);
        }
        Some(flow)
    }
}

/// Makes the flow of a connection whose first data has come.
fn new_flow(arrival: &Arrival, negotiated: Negotiated, previous: Option<Generation>) -> Flow {
    let segment = &arrival.segment;
    let stamps = segment.timestamps;
    let base = Base {
        negotiated,
        seq: segment.seq,
        ack: segment.ack,
        tsval: stamps.map_or(0, |stamps| stamps.value),
        tsecr: stamps.map_or(0, |stamps| stamps.echo),
    };
    let generation = Generation::next(previous, arrival.now);
    Flow::new(segment.tuple, base, segment.end(), arrival.client_mac, generation, arrival.now)
}

const _: () = assert!(ATTEMPTS_MAX > 1, "a refused handoff is offered to another backend at least once");
