//! RACC (Zhang et al., "RACC: An Approach to Cluster-Based Web Servers", 1998): a tree of URLs is annotated with what its parts
//! cost, and the parts are shared out to the members by capacity, so that each member's cache has to hold only its part of
//! what is asked for.
//!
//! A subtree belongs to one member: first to that of its hash, or by size where sizes are known. What it costs is measured over
//! intervals, as requests times their cost. A subtree that costs too much for one member is taken apart, into the subtrees
//! one segment longer; one of a member that has too much to do goes to the member with the least, a bounded number in each
//! interval, at its next request.
//!
//! The paper's router sees both ways and so knows how large answers are. This switch does not: costs and sizes are what the
//! operator says, or costs are guessed from the agents' reports of traffic (see `traffic`). Subtrees are kept by the hash of
//! their path, in a table that forgets what was not asked for.
//!
//! Needs to know the path. Costs a look into the table per segment, and a look at each member while its owner has too much
//! to do. Each lcore has its own tree; they begin alike.

mod known;
mod prefixes;
mod shares;
mod traffic;

use handoff_proto::Micros;

use super::table::Table;
use super::targets::Targets;
use super::{Ask, Choice, Policy, RaccCost, RaccSettings, Reason, View};
use crate::policy::Member;
use known::Known;
use prefixes::prefixes;
use shares::{Average, REQUEST, Shares};
use traffic::Traffic;

/// How many subtrees change their member in one interval, at most.
const MOVES_MAX: u32 = 64;

/// The tree, and who has which part of it.
#[derive(Clone, Debug)]
pub(super) struct Racc {
    depth: u8,
    interval: Micros,
    /// Who has what nobody has yet.
    first: Table,
    known: Known,
    subtrees: Targets<Subtree>,
    shares: Shares,
    /// `None` if costs are not guessed.
    traffic: Option<Traffic>,
    /// The interval of the last moves, and how many there were.
    moves: (u64, u32),
}

/// What is remembered of a subtree.
#[derive(Clone, Copy, Debug, Default)]
struct Subtree {
    /// Whose it is; `None` for what was just entered.
    owner: Option<u16>,
    /// Whether its parts belong to members of their own.
    is_apart: bool,
    /// What it costs.
    load: Average,
    /// The interval in which it got its member, other than at first.
    moved: u64,
}

/// The part of the tree a path belongs to.
struct Part {
    hash: u64,
    subtree: Subtree,
    owner: usize,
    is_new: bool,
    /// What a request for it costs.
    cost: u16,
}

impl Racc {
    pub(super) fn new(members: &[Member], settings: &RaccSettings) -> Self {
        Self {
            depth: settings.depth,
            interval: settings.interval,
            first: Table::new(members, Table::PLACES),
            known: Known::new(&settings.known, settings.depth, members),
            subtrees: Targets::new(settings.subtrees_max),
            shares: Shares::new(members.len(), members.iter().map(|member| u64::from(member.weight)).sum()),
            traffic: (settings.cost == RaccCost::Traffic).then(|| Traffic::new(members.len())),
            moves: (0, 0),
        }
    }

    fn interval(&self, view: &View<'_>) -> u64 {
        view.now.0.checked_div(self.interval.0).unwrap_or(0)
    }

    /// Finds the narrowest subtree on the way to a document that is not taken apart.
    fn part(&self, path: &str) -> Option<Part> {
        let mut last = None;
        let mut cost = 1;
        for hash in prefixes(path, self.depth) {
            let note = self.known.note(hash);
            cost = note.cost.unwrap_or(cost);
            let found = self.subtrees.find(hash).map(|(_, subtree)| *subtree);
            let subtree = found.unwrap_or_default();
            let owner =
                subtree.owner.or(note.owner).map(usize::from).or_else(|| self.first.walk(hash).next())?;
            last = Some(Part { hash, subtree, owner, is_new: found.is_none(), cost });
            if !note.has_parts && !subtree.is_apart {
                break;
            }
        }
        last
    }

    /// Says who gets a request for a part of the tree.
    fn choose_for(&self, part: &Part, view: &View<'_>) -> Option<Choice> {
        let Part { subtree, owner, .. } = part;
        if !view.is_usable(*owner) {
            // It stays the owner's, who may come back.
            let member =
                self.first.walk(part.hash).chain(0..view.members.len()).find(|at| view.is_usable(*at))?;
            return Some(Choice { member, reason: Reason::HashOwnerUnusable });
        }
        let interval = self.interval(view);
        let may_move = subtree.moved != interval && (self.moves.0 != interval || self.moves.1 < MOVES_MAX);
        let load = subtree.load.measured(interval);
        if may_move
            && load > 0
            && let Some(member) = self.shares.better(view, *owner, load, interval)
        {
            return Some(Choice { member, reason: Reason::SubtreeMoved });
        }
        let is_stale = || view.members.get(*owner).is_some_and(|member| view.load(member.backend).is_none());
        let reason = match part.is_new {
            _ if self.traffic.is_some() && is_stale() => Reason::StaleReports,
            true => Reason::SubtreeAssigned,
            false => Reason::SubtreeOwner,
        };
        Some(Choice { member: *owner, reason })
    }

    /// What a request costs, if this member gets it.
    fn cost(&mut self, part: Option<&Part>, member: usize, view: &View<'_>) -> u64 {
        let configured = u64::from(part.map_or(1, |part| part.cost));
        let interval = self.interval(view);
        let load = view.members.get(member).and_then(|member| view.load(member.backend));
        let factor = match (&mut self.traffic, load) {
            (Some(traffic), Some(load)) => {
                traffic.add(member, load, interval);
                traffic.factor(member)
            }
            _ => REQUEST,
        };
        configured.saturating_mul(factor)
    }

    /// Adds to every subtree on the way to a document, and takes apart or puts together what has become too large or small.
    fn annotate(&mut self, path: &str, part: &Part, cost: u64, view: &View<'_>) {
        let interval = self.interval(view);
        let mut way = prefixes(path, self.depth).peekable();
        while let Some(hash) = way.next() {
            let first = self.first.walk(hash).next().and_then(|owner| u16::try_from(owner).ok());
            let Some((_, subtree)) = self.subtrees.enter(hash) else { return };
            subtree.owner = subtree.owner.or(self.known.note(hash).owner).or(first);
            subtree.load.add(interval, cost);
            let load = self.shares.known(subtree.load, interval);
            let was_apart = subtree.is_apart;
            // What has no parts cannot be taken apart.
            subtree.is_apart =
                (was_apart || way.peek().is_some()) && self.shares.is_too_large(load, was_apart, interval);
            if subtree.is_apart && !was_apart && hash == part.hash {
                self.shares.spread(view, part.owner, interval, load);
            }
            if hash == part.hash {
                return;
            }
        }
    }
}

impl Policy for Racc {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        match ask.path.and_then(|path| self.part(path)) {
            Some(part) => self.choose_for(&part, view),
            None => {
                // Without a path there is no subtree.
                let mut walk = self.first.walk(ask.key).chain(0..view.members.len()).enumerate();
                let (passed_over, member) = walk.find(|(_, member)| view.is_usable(*member))?;
                let reason = if passed_over == 0 { Reason::HashOwner } else { Reason::HashOwnerUnusable };
                Some(Choice { member, reason })
            }
        }
    }

    fn commit(&mut self, ask: &Ask<'_>, choice: &Choice, view: &View<'_>) {
        let interval = self.interval(view);
        let part = ask.path.and_then(|path| self.part(path));
        let cost = self.cost(part.as_ref(), choice.member, view);
        let (Some(path), Some(part)) = (ask.path, part) else {
            self.shares.add(choice.member, interval, cost);
            return;
        };
        let has_moved = choice.reason == Reason::SubtreeMoved;
        // A subtree counts for whose it is, even while that one is away: what it leaves to others for a while does not make
        // them give away what is theirs.
        let owner = if has_moved { choice.member } else { part.owner };
        self.shares.add(owner, interval, cost);
        if has_moved && let Some((_, subtree)) = self.subtrees.enter(part.hash) {
            subtree.owner = u16::try_from(owner).ok();
            subtree.moved = interval;
            self.shares.transfer(part.owner, owner, interval, part.subtree.load.measured(interval));
            let before = if self.moves.0 == interval { self.moves.1 } else { 0 };
            self.moves = (interval, before + 1);
        }
        self.annotate(path, &Part { owner, ..part }, cost, view);
    }
}
