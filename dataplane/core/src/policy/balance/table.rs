//! A table from hashes to members in which few entries change when a member comes or goes: Maglev's (Eisenbud et al., "Maglev: A
//! Fast and Reliable Software Network Load Balancer", 2016, section 3.4).
//!
//! Each member has its own order of all places, made of its identity alone, and members take turns in taking the first free
//! place of their order. A member of weight w has its turns at the times 0, 1/w, 2/w and so on: whose turn comes before whose
//! does not depend on who else is there, and each has at least one place while there are enough.

use core::cmp::Reverse;
use core::hash::Hasher;
use std::collections::BinaryHeap;

use super::hash_on::hasher;
use super::least::{around, modulo};
use crate::policy::Member;

/// Members by hash.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Positions of members; empty without members.
    places: Box<[u16]>,
}

impl Table {
    /// As many places as most policies want: a prime number, as in the paper. With 1,024 members each still has 64.
    pub(super) const PLACES: usize = 65_537;

    /// Shares out `places` places.
    pub(super) fn new(members: &[Member], places: usize) -> Self {
        if members.is_empty() {
            return Self { places: Box::default() };
        }
        let mut owners: Vec<Option<u16>> = vec![None; places];
        let mut orders: Vec<Order> = members.iter().map(|member| Order::new(member, places)).collect();
        // Turns by time, then in an order that is that of no list.
        let mut turns: BinaryHeap<Reverse<(u64, u64, usize)>> =
            orders.iter().enumerate().map(|(at, order)| Reverse((0, order.rank, at))).collect();
        for _ in 0..places {
            let Some(Reverse((_, _, at))) = turns.pop() else { break };
            let Some(order) = orders.get_mut(at) else { break };
            let free = order.find(|place| owners.get(*place).is_some_and(Option::is_none));
            if let Some(owner) = free.and_then(|free| owners.get_mut(free)) {
                // It fits: there are at most 1,024 members.
                *owner = u16::try_from(at).ok();
            }
            order.turns += 1;
            turns.push(Reverse(((order.turns << TIME_BITS) / order.weight, order.rank, at)));
        }
        Self { places: owners.into_iter().map(Option::unwrap_or_default).collect() }
    }

    /// Members in the order in which a hash meets them, the first its owner; each as often as it has places.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        around(self.places.len(), hash)
            .filter_map(|place| self.places.get(place))
            .map(|member| usize::from(*member))
    }
}

/// Fraction of a turn's time: finer than the difference of any two weights.
const TIME_BITS: u32 = 32;

/// All places in the order of one member.
#[derive(Clone, Copy, Debug)]
struct Order {
    places: usize,
    next: usize,
    skip: usize,
    /// How many were passed over or taken.
    seen: usize,
    /// How many turns the member had.
    turns: u64,
    /// At least 1.
    weight: u64,
    /// Who is first of those whose turn comes at the same time.
    rank: u64,
}

impl Order {
    fn new(member: &Member, places: usize) -> Self {
        let hash = |what: u8| {
            let mut hasher = hasher();
            hasher.write(&member.identity.to_be_bytes());
            hasher.write(&[what]);
            hasher.finish()
        };
        let mut skip = 1 + modulo(hash(1), places - 1);
        // To visit all places the step must have no factor in common with their number; with a prime number none has.
        while greatest_common_divisor(skip, places) != 1 {
            skip += 1;
        }
        let weight = u64::from(member.weight).max(1);
        Self { places, next: modulo(hash(0), places), skip, seen: 0, turns: 0, weight, rank: hash(2) }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.seen < self.places).then(|| {
            let place = self.next;
            self.seen += 1;
            self.next = (self.next + self.skip) % self.places;
            place
        })
    }
}

const fn greatest_common_divisor(a: usize, b: usize) -> usize {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
