//! Says what is wrong with how a world went. It knows what clients wrote and servers wrote, and compares; it never looks into the
//! switch, but for whether anything is left in it.

use core::fmt;
use std::collections::BTreeMap;

use handoff_proto::{FourTuple, Micros};

use crate::addresses;
use crate::backend::server::{Ran, Server};
use crate::client::script::Ending;
use crate::client::{Client, Outcome};
use crate::control;
use crate::fault::Fault;
use crate::world::{START, World};

/// How long after the last fault all is as it was: reports that were delayed most have come, and so have later ones, and whoever
/// lost its memory takes handoffs again.
pub const SETTLING: Micros = Micros::from_secs(7);

/// What may become of connections in a scenario beside being complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Which connections may be reset or time out.
    pub losses: Losses,
    /// Which requests the switch may answer with 503.
    pub refusals: Refusals,
    /// smoltcp may stop for good in rare cases, where acknowledgments overtake each other: a client may have waited in vain for
    /// the rest of what its server wrote. How often that may be is for a batch to say.
    pub smoltcp_may_stop: bool,
    /// The switch may answer 408 to heads that are not finished in time.
    pub unfinished: bool,
    /// What goes wrong lasts as long as the world, by design: all of this goes for connections too that were opened after the last
    /// fault. Without it, these must be answered whole.
    pub lasts: bool,
}

/// Which connections need not end well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Losses {
    /// None.
    #[default]
    None,
    /// Those whose server had a fault that ends connections while it had them. Those that no server had, if the switch died
    /// meanwhile, or a backend that they may have been sent to had such a fault.
    Fatal,
    /// The same, whatever the fault.
    Any,
}

/// Which requests need not find a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusals {
    /// None.
    #[default]
    None,
    /// Those for pools all of whose backends had a fault of their own.
    OfFaulty,
    /// Any.
    Any,
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A client read what its server did not write, or not in that order.
    ReadOtherBytes(String),
    /// A server read what its client did not write.
    ServedOtherBytes(String),
    /// A request ran more than once.
    RanTwice(String),
    /// A request ran where no rule in force would have sent it.
    WrongBackend(String),
    /// A connection ended as nothing that went wrong explains.
    WrongEnd(String),
    /// A connection had not ended when it should have.
    NoEnd(String),
    /// The switch reset a connection that was well.
    WrongReset(String),
    /// Something was left when everything was over.
    Leak(String),
    /// A counter moved that was not to, says who started the run.
    Forbidden(String),
    /// A frame was too long for its cable.
    TooLong(String),
    /// Frames went round the lcores without end.
    Circle(String),
    /// A panic.
    Panic(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, detail) = match self {
            Self::ReadOtherBytes(detail) => ("a client read other bytes than its server wrote", detail),
            Self::ServedOtherBytes(detail) => ("a server read other bytes than its client wrote", detail),
            Self::RanTwice(detail) => ("a request ran twice", detail),
            Self::WrongBackend(detail) => ("a request went where no rule sent it", detail),
            Self::WrongEnd(detail) => ("a connection ended wrongly", detail),
            Self::NoEnd(detail) => ("a connection did not end", detail),
            Self::WrongReset(detail) => ("the switch reset a connection that was well", detail),
            Self::Leak(detail) => ("something was left", detail),
            Self::Forbidden(detail) => ("a forbidden counter moved", detail),
            Self::TooLong(detail) => ("a frame was too long", detail),
            Self::Circle(detail) => ("a frame went round the lcores", detail),
            Self::Panic(detail) => ("a panic", detail),
        };
        write!(out, "{what}: {detail}")
    }
}

/// A server's side of a connection, with where it was.
struct Served<'a> {
    backend: usize,
    tuple: FourTuple,
    created: Micros,
    server: &'a Server,
}

/// Judges a world in which everything is over.
#[must_use]
pub fn judge(world: &World, tolerance: &Tolerance) -> Vec<Finding> {
    let mut findings = Vec::new();
    let served = served(world);
    for client in world.clients.values() {
        let own: Vec<&Served<'_>> = served
            .iter()
            .filter(|served| {
                served.tuple == tuple_of(client) && client.written.starts_with(&served.server.read)
            })
            .filter(|served| served.created >= client.script.start)
            .collect();
        judge_bytes(client, &own, &mut findings);
        judge_whole(client, &own, &mut findings);
        judge_end(world, client, &own, tolerance, &mut findings);
        judge_way(world, client, &own, &mut findings);
    }
    judge_servers(world, &served, &mut findings);
    for reset in &world.wrong_resets {
        let after = reset.at.since(START);
        findings.push(Finding::WrongReset(format!("{} after {} us", reset.tuple, after.0)));
    }
    let counts = world.counts();
    if counts.get("link_too_long").is_some_and(|count| *count > 0) {
        findings.push(Finding::TooLong(format!("{} of them", counts["link_too_long"])));
    }
    if world.circles() > 0 {
        findings.push(Finding::Circle(format!("{} times", world.circles())));
    }
    findings
}

/// Judges what is left once every timer must have run out.
#[must_use]
pub fn judge_rest(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    if world.flow_count() > 0 {
        findings.push(Finding::Leak(format!("{} flows: {}", world.flow_count(), world.flows_told())));
    }
    if world.counted_connections() > 0 {
        findings
            .push(Finding::Leak(format!("{} connections counted at backends", world.counted_connections())));
    }
    if world.held_count() > 0 {
        findings.push(Finding::Leak(format!("{} places for heads", world.held_count())));
    }
    for (number, backend) in world.backends.iter().enumerate() {
        for (tuple, socket) in backend.sockets() {
            let state = socket.state();
            findings.push(Finding::Leak(format!("a socket of backend {number}: {tuple} {state:?}")));
        }
    }
    findings
}

fn served(world: &World) -> Vec<Served<'_>> {
    let mut all = Vec::new();
    for (backend, host) in world.backends.iter().enumerate() {
        for ended in &host.ended {
            let (tuple, created) = (ended.tuple, ended.created);
            all.push(Served { backend, tuple, created, server: &ended.server });
        }
        for (tuple, socket) in host.sockets() {
            let created = socket.created();
            all.push(Served { backend, tuple: *tuple, created, server: socket.server() });
        }
    }
    all
}

fn tuple_of(client: &Client) -> FourTuple {
    FourTuple {
        client: addresses::client(client.script.host).into(),
        client_port: client.script.port,
        vip: addresses::VIP.0.into(),
        vip_port: addresses::VIP.1,
    }
}

fn name(client: &Client) -> String {
    let script = &client.script;
    format!("connection {} ({}, {:?})", script.number, tuple_of(client), script.ending)
}

/// Exactly the bytes its server wrote, or an error page of the switch and no server.
fn judge_bytes(client: &Client, own: &[&Served<'_>], findings: &mut Vec<Finding>) {
    if client.read.is_empty() || own.iter().any(|served| served.server.written.starts_with(&client.read)) {
        return;
    }
    let is_page = client.read.starts_with(b"HTTP/1.1 503 ") || client.read.starts_with(b"HTTP/1.1 408 ");
    if is_page && own.iter().all(|served| served.server.written.is_empty()) {
        return;
    }
    findings.push(Finding::ReadOtherBytes(format!("{}, {} bytes", name(client), client.read.len())));
}

/// Whoever has its answers was read to the end by who gave them: not a byte is missing on either side.
fn judge_whole(client: &Client, own: &[&Served<'_>], findings: &mut Vec<Finding>) {
    if client.outcome != Some(Outcome::Complete) || client.script.ending == Ending::Nothing {
        return;
    }
    // Who aborts leaves in the middle of its last answer, but only after its last request.
    let leaves_early = matches!(client.script.ending, Ending::Abort(_));
    let is_whole = |server: &Server| {
        server.read == client.written && (leaves_early || server.written.len() == client.read.len())
    };
    // Other bytes than any server's are a finding already.
    let mut answered = own.iter().filter(|served| served.server.written.starts_with(&client.read)).peekable();
    let Some(first) = answered.peek() else { return };
    let (read, written) = (first.server.read.len(), first.server.written.len());
    if !answered.any(|served| is_whole(served.server)) {
        findings.push(Finding::ServedOtherBytes(format!(
            "{}: complete with {} bytes written and {} read, of which its server read {read} and wrote {written}",
            name(client),
            client.written.len(),
            client.read.len(),
        )));
    }
}

fn judge_end(
    world: &World,
    client: &Client,
    own: &[&Served<'_>],
    tolerance: &Tolerance,
    findings: &mut Vec<Finding>,
) {
    let Some(outcome) = client.outcome else {
        findings.push(Finding::NoEnd(format!("{}, {:?}", name(client), client.state())));
        return;
    };
    let is_calm = !tolerance.lasts && client.script.start > world.calm_since().plus(SETTLING);
    let may_be_refused = match tolerance.refusals {
        Refusals::None => false,
        Refusals::OfFaulty => {
            allowed_backends(world, client, world.now).iter().all(|backend| world.has_had_fault(*backend))
        }
        Refusals::Any => true,
    };
    let is_fine = match outcome {
        Outcome::Complete => true,
        _ if is_calm => false,
        Outcome::Refused(503) => may_be_refused,
        Outcome::Refused(408) => tolerance.unfinished,
        Outcome::Refused(_) => false,
        Outcome::TimedOut if tolerance.smoltcp_may_stop && !own.is_empty() => true,
        Outcome::Reset | Outcome::TimedOut | Outcome::CutShort => {
            is_loss_explained(world, client, own, tolerance)
        }
    };
    if !is_fine {
        let ended = client.ended.unwrap_or(world.now).since(START);
        findings.push(Finding::WrongEnd(format!(
            "{}: {outcome:?} after {} us, with {} of {} bytes sent read by backends {:?}",
            name(client),
            ended.0,
            own.iter().map(|served| served.server.read.len()).max().unwrap_or(0),
            client.written.len(),
            own.iter().map(|served| served.backend).collect::<Vec<_>>(),
        )));
    }
    let is_whole = client.script.ending != Ending::Nothing && outcome == Outcome::Complete;
    if is_whole && own.is_empty() {
        findings.push(Finding::WrongEnd(format!("{}: complete, but nobody served it", name(client))));
    }
}

/// Says whether something that went wrong while a connection was there explains that it ended without its answers.
fn is_loss_explained(world: &World, client: &Client, own: &[&Served<'_>], tolerance: &Tolerance) -> bool {
    let is_fatal = |fault: Fault| match tolerance.losses {
        Losses::None => false,
        Losses::Fatal => fault.may_end_connections(),
        Losses::Any => true,
    };
    if tolerance.losses == Losses::None {
        return false;
    }
    let (begin, end) = (client.script.start, client.ended.unwrap_or(world.now));
    if own.is_empty() {
        let ways = allowed_backends(world, client, end);
        return tolerance.lasts
            || world.suffered(begin, end, |fault| fault == Fault::SwitchKilled)
            || ways.iter().any(|backend| {
                world.suffered(begin, end, |fault| fault.backend() == Some(*backend) && is_fatal(fault))
            });
    }
    own.iter().all(|served| {
        world
            .suffered(served.created, end, |fault| fault.backend() == Some(served.backend) && is_fatal(fault))
    })
}

/// Each connection is dispatched by its first request, under rules that were in force while it was.
fn judge_way(world: &World, client: &Client, own: &[&Served<'_>], findings: &mut Vec<Finding>) {
    for served in own.iter().filter(|served| !served.server.ran.is_empty()) {
        let allowed = allowed_backends(world, client, served.created);
        if !allowed.contains(&served.backend) {
            findings.push(Finding::WrongBackend(format!(
                "{} ran at backend {}, allowed were {allowed:?}",
                name(client),
                served.backend
            )));
        }
    }
}

/// Where the rules may have sent a connection between its first byte and `until`.
fn allowed_backends(world: &World, client: &Client, until: Micros) -> Vec<usize> {
    let Some(request) = client.script.requests.first() else { return Vec::new() };
    let path = request.path(client.script.number, 0);
    let written = client.first_written.unwrap_or(client.script.start);
    let in_force = world.in_force.iter().enumerate().filter(|(position, rules)| {
        let end = world.in_force.get(position + 1).map_or(Micros(u64::MAX), |next| next.since);
        rules.since <= until && end >= written
    });
    in_force.flat_map(|(_, rules)| control::backends_for(rules.rules, &path)).collect()
}

fn judge_servers(world: &World, served: &[Served<'_>], findings: &mut Vec<Finding>) {
    let mut runs: BTreeMap<Ran, Vec<usize>> = BTreeMap::new();
    for one in served {
        one.server.ran.iter().for_each(|ran| runs.entry(*ran).or_default().push(one.backend));
        let is_known = world
            .clients
            .values()
            .any(|client| tuple_of(client) == one.tuple && client.written.starts_with(&one.server.read));
        if !is_known {
            let bytes = one.server.read.len();
            findings.push(Finding::ServedOtherBytes(format!(
                "{} at backend {}, {bytes} bytes",
                one.tuple, one.backend
            )));
        }
    }
    for (ran, backends) in runs.into_iter().filter(|(_, backends)| backends.len() > 1) {
        // What a backend has run, it forgets with everything else when it loses power (docs/LIMITS.md): then it may be run once
        // more, there or, since what comes back refuses for a while, elsewhere.
        let remembered = backends.iter().filter(|backend| !world.has_lost_power(**backend)).count();
        if remembered <= 1 {
            continue;
        }
        let Ran { connection, number } = ran;
        findings.push(Finding::RanTwice(format!("{connection}/{number} at backends {backends:?}")));
    }
}
