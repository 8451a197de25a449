//! What becomes of a connection by its first bytes: a backend, an answer of the switch's own, or waiting for more.

use core::net::IpAddr;

use handoff_proto::{FourTuple, Micros};

use crate::flow::{RefusedBy, Wanted};
use crate::http::{self, Fields, Location, Refusal, Response};
use crate::ids::{AnswerIndex, BackendIndex, ClassIndex, HoldIndex, PoolIndex, RuleIndex, VipIndex};
use crate::metrics::Counters;
use crate::neighbor::Neighbors;
use crate::policy::{Action, Content, Http, Request, RuleAnswer, Tls};
use crate::switch::dispatch::{Dispatcher, Why};
use crate::switch::hold::Hold;
use crate::switch::{Arrival, Inspect, Path, Snapshot, Switch};
use crate::tls;

/// How many application protocols of a ClientHello are looked at.
const PROTOCOLS_MAX: usize = 16;

/// Where the first bytes of a connection are.
#[derive(Clone, Copy, Debug)]
pub(super) enum First<'a> {
    /// In the frame that has just come.
    Frame(&'a [u8]),
    /// Kept, of several segments.
    Held(HoldIndex),
}

/// What the first bytes of a connection say, once they are whole.
pub(super) enum Decision {
    /// It goes to a backend.
    Dispatch(Found),
    /// A rule answers it: the response, so many bytes of it, stands in the switch's `page`.
    Answer(usize),
    /// More bytes are needed.
    Wait,
    /// It cannot be served.
    Refuse(Refusal),
}

/// What was found out about a connection that goes to a backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Bytes that were looked at, and so must not change; 0 if none were.
    pub(super) bytes: usize,
    /// What the pool goes by.
    pub(super) wanted: Wanted,
    /// The backend it gets; `None` while connections of the switch's former life may turn up, and it may be one.
    pub(super) backend: Option<BackendIndex>,
}

/// Why a request would go where it would go, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The rule that takes it; `None` if none does.
    pub rule: Option<RuleIndex>,
    /// Its service class.
    pub class: ClassIndex,
    /// The answer the rule gives itself.
    pub answer: Option<AnswerIndex>,
    /// The pool.
    pub pool: Option<PoolIndex>,
    /// How full the pool is, in thousandths.
    pub fullness_permille: u16,
    /// Whether it is let in.
    pub is_let_in: bool,
    /// The backend and why it; `None` if none is usable.
    pub chosen: Option<(BackendIndex, Why)>,
}

/// What of the switch decides where a request goes.
struct Court<'a> {
    snapshot: &'a Snapshot,
    dispatcher: &'a mut Dispatcher,
    paths: &'a [Path],
    neighbors: &'a Neighbors,
    counters: &'a Counters,
    page: &'a mut [u8],
    /// Whether the request may be one that was handed off already, before the switch started.
    is_learning: bool,
    now: Micros,
}

impl Switch {
    /// Decides about the first bytes of a connection.
    pub(super) fn decide_by(&mut self, arrival: &Arrival, first: First<'_>) -> Decision {
        let (now, is_learning) = (arrival.now, self.is_learning(arrival.now));
        let Self { snapshot, dispatcher, paths, neighbors, page, hello, counters, holds, .. } = self;
        let bytes = match first {
            First::Frame(bytes) => bytes,
            First::Held(index) => holds.get(index).map_or(&[][..], Hold::bytes),
        };
        let court = Court { snapshot, dispatcher, paths, neighbors, counters, page, is_learning, now };
        let (vip, client) = (arrival.vip, arrival.segment.tuple.client);
        match snapshot.inspect(vip) {
            Inspect::None => court.judge(&Request { vip, client, content: Content::Unseen }, 0),
            Inspect::Http => court.judge_http(vip, client, bytes),
            Inspect::Tls => court.judge_tls(vip, client, bytes, hello),
        }
    }

    /// Says what is looked at on a connection of which only the 4-tuple is at hand.
    pub(super) fn inspect_of(&self, tuple: &FourTuple) -> Inspect {
        let service = tuple.service();
        let known = self.snapshot.vips.iter().find(|known| known.vip == service);
        known.map_or(Inspect::Http, |known| known.inspect)
    }

    /// Chooses a backend for a request that was read earlier, if it is let in, and notes the choice.
    ///
    /// # Errors
    /// Says why there is none.
    pub(super) fn choose_late(&mut self, wanted: &Wanted, now: Micros) -> Result<BackendIndex, Refusal> {
        let Self { snapshot, dispatcher, paths, neighbors, counters, .. } = self;
        let usable = |backend: BackendIndex| Self::is_reachable(snapshot, paths, neighbors, backend);
        let is_let_in = dispatcher.admit(snapshot, wanted, &usable, now);
        counters.count_class(wanted.class, is_let_in);
        if !is_let_in {
            return Err(Refusal::Overloaded);
        }
        let chosen = dispatcher.give(snapshot, wanted, None, &usable, now);
        let Some(chosen) = chosen else { return Err(Refusal::NoBackend) };
        chosen.count(snapshot, wanted, counters);
        Ok(chosen.backend)
    }

    /// Chooses another backend for a connection that some have refused, and notes the choice.
    pub(super) fn choose_another(
        &mut self,
        wanted: &Wanted,
        refused_by: &RefusedBy,
        now: Micros,
    ) -> Option<BackendIndex> {
        let Self { snapshot, dispatcher, paths, neighbors, counters, .. } = self;
        let usable = |backend: BackendIndex| {
            !refused_by.contains(backend) && Self::is_reachable(snapshot, paths, neighbors, backend)
        };
        let chosen = dispatcher.give(snapshot, wanted, None, &usable, now)?;
        chosen.count(snapshot, wanted, counters);
        Some(chosen.backend)
    }

    /// Says what would become of a request now, and why. Changes nothing.
    pub fn explain(&self, request: &Request<'_>, now: Micros) -> Explanation {
        let mut found = Explanation {
            rule: None,
            class: ClassIndex::default(),
            answer: None,
            pool: None,
            fullness_permille: 0,
            is_let_in: true,
            chosen: None,
        };
        let Some((index, rule)) = self.snapshot.rules.find(request) else { return found };
        (found.rule, found.class) = (Some(index), rule.class);
        if let Action::Answer(answer) = rule.action {
            found.answer = Some(answer);
        }
        let Some(wanted) = self.dispatcher.wanted(&self.snapshot, request, rule, now) else { return found };
        let usable =
            |backend: BackendIndex| Self::is_reachable(&self.snapshot, &self.paths, &self.neighbors, backend);
        found.pool = Some(wanted.pool);
        found.fullness_permille = self.dispatcher.fullness(&self.snapshot, wanted.pool, &usable, now);
        found.is_let_in = self.dispatcher.would_admit(&wanted, found.fullness_permille, now);
        let path = request.http().map(|http| http.path);
        let chosen = self.dispatcher.choose(&self.snapshot, &wanted, path, &usable, now);
        found.chosen = chosen.map(|chosen| (chosen.backend, chosen.why));
        found
    }
}

impl Court<'_> {
    fn judge_http(self, vip: VipIndex, client: IpAddr, bytes: &[u8]) -> Decision {
        let mut fields = Fields::default();
        let head = match http::parse(bytes, &mut fields) {
            http::Parsed::Complete(head) => head,
            http::Parsed::Partial => return Decision::Wait,
            http::Parsed::TooManyFields => return Decision::Refuse(Refusal::HeadTooLarge),
            http::Parsed::Malformed => return Decision::Refuse(Refusal::Malformed),
        };
        let http::Head { method, host, path, query, fields, bytes } = head;
        let content = Content::Http(Http { method, host, path, query, fields });
        self.judge(&Request { vip, client, content }, bytes)
    }

    fn judge_tls(self, vip: VipIndex, client: IpAddr, bytes: &[u8], room: &mut tls::Scratch) -> Decision {
        // However small the pieces are in which it comes, a hello is read from when it may be whole on.
        if bytes.len() < tls::bytes_min(bytes) {
            return Decision::Wait;
        }
        let hello = match tls::parse(bytes, room) {
            tls::Parsed::Complete(hello) => hello,
            tls::Parsed::Partial => return Decision::Wait,
            tls::Parsed::NotTls => return Decision::Refuse(Refusal::NotTls),
            tls::Parsed::Malformed(_) => return Decision::Refuse(Refusal::Malformed),
        };
        let mut protocols = [&[][..]; PROTOCOLS_MAX];
        let mut count = 0;
        for (place, protocol) in protocols.iter_mut().zip(hello.protocols) {
            *place = protocol;
            count += 1;
        }
        let content = Content::Tls(Tls {
            server_name: hello.server_name,
            protocols: protocols.get(..count).unwrap_or_default(),
            session_id: hello.session_id,
        });
        self.judge(&Request { vip, client, content }, hello.bytes)
    }

    /// Finds the rule and does as it says.
    fn judge(self, request: &Request<'_>, bytes: usize) -> Decision {
        let Self { snapshot, dispatcher, paths, neighbors, counters, page, is_learning, now } = self;
        let Some((index, rule)) = snapshot.rules.find(request) else {
            return Decision::Refuse(Refusal::NoRule);
        };
        dispatcher.count_rule(index);
        if let Action::Answer(answer) = rule.action {
            let answer = snapshot.answers.get(usize::from(answer.0));
            return match answer.map_or(0, |answer| written(answer, request, snapshot, page)) {
                0 => Decision::Refuse(Refusal::NoRule),
                bytes => Decision::Answer(bytes),
            };
        }
        let Some(wanted) = dispatcher.wanted(snapshot, request, rule, now) else {
            return Decision::Refuse(Refusal::NoRule);
        };
        if is_learning {
            return Decision::Dispatch(Found { bytes, wanted, backend: None });
        }
        let usable = |backend: BackendIndex| Switch::is_reachable(snapshot, paths, neighbors, backend);
        let is_let_in = dispatcher.admit(snapshot, &wanted, &usable, now);
        counters.count_class(wanted.class, is_let_in);
        if !is_let_in {
            return Decision::Refuse(Refusal::Overloaded);
        }
        let path = request.http().map(|http| http.path);
        let Some(chosen) = dispatcher.give(snapshot, &wanted, path, &usable, now) else {
            return Decision::Refuse(Refusal::NoBackend);
        };
        chosen.count(snapshot, &wanted, counters);
        Decision::Dispatch(Found { bytes, wanted, backend: Some(chosen.backend) })
    }
}

/// Writes the answer of a rule; returns how many bytes it has, 0 if there is no room or nobody to read it.
fn written(answer: &RuleAnswer, request: &Request<'_>, snapshot: &Snapshot, page: &mut [u8]) -> usize {
    let Some(http) = request.http() else { return 0 };
    let port = snapshot.vips.get(usize::from(request.vip.0)).map_or(0, |service| service.vip.port);
    let response = match answer {
        RuleAnswer::Redirect { status, location } => Response {
            status: *status,
            location: Some(Location {
                template: location,
                host: http.host.unwrap_or_default(),
                path: http.path,
                query: http.query,
                port,
            }),
            content_type: "text/plain; charset=utf-8",
            body: b"See the Location field.\n",
        },
        RuleAnswer::Respond { status, content_type, body } => {
            Response { status: *status, location: None, content_type, body }
        }
    };
    response.write(http.method != "HEAD", page)
}
