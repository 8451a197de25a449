//! Finds a flow's slot by its 4-tuple: open addressing with linear probing, at most half full, allocated at start.

use core::hash::Hasher;
use core::net::IpAddr;

use handoff_proto::FourTuple;
use siphasher::sip::SipHasher13;

/// One cell: the slot, and enough of the hash to pass over most others without looking at the slot.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Slot plus one; 0 is an empty cell.
    slot: u32,
    hash: u32,
}

/// The index. Which flow a slot holds is told by its owner through a closure.
#[derive(Debug)]
pub(super) struct Index {
    cells: Vec<Cell>,
    mask: usize,
    key: [u8; 16],
}

impl Index {
    /// Allocates cells for `count_max` flows. The key keeps clients from choosing colliding 4-tuples.
    pub(super) fn new(count_max: usize, key: [u8; 16]) -> Self {
        let cells = (count_max * 2).next_power_of_two();
        Self { cells: vec![Cell::default(); cells], mask: cells - 1, key }
    }

    fn hash(&self, tuple: &FourTuple) -> u32 {
        let mut hash = SipHasher13::new_with_key(&self.key);
        match (tuple.client, tuple.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let [a, b, c, d] = client.octets();
                let [e, f, g, h] = vip.octets();
                let [i, j] = tuple.client_port.to_be_bytes();
                let [k, l] = tuple.vip_port.to_be_bytes();
                hash.write(&[a, b, c, d, e, f, g, h, i, j, k, l]);
            }
            _ => hash.write(&tuple.to_bytes()),
        }
        let [a, b, c, d, ..] = hash.finish().to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn home(&self, hash: u32) -> usize {
        usize::try_from(hash).unwrap_or(0) & self.mask
    }

    fn cell(&self, at: usize) -> Cell {
        self.cells.get(at).copied().unwrap_or_default()
    }

    fn set(&mut self, at: usize, cell: Cell) {
        if let Some(place) = self.cells.get_mut(at) {
            *place = cell;
        }
    }

    /// Returns the position of the cell whose slot holds `tuple`.
    fn position(&self, tuple: &FourTuple, holds: impl Fn(u32) -> bool) -> Option<usize> {
        let hash = self.hash(tuple);
        let mut at = self.home(hash);
        loop {
            let cell = self.cell(at);
            let slot = cell.slot.checked_sub(1)?;
            if cell.hash == hash && holds(slot) {
                return Some(at);
            }
            at = (at + 1) & self.mask;
        }
    }

    /// Returns the slot that holds `tuple`; `holds` says whether a slot does.
    pub(super) fn find(&self, tuple: &FourTuple, holds: impl Fn(u32) -> bool) -> Option<u32> {
        self.position(tuple, holds).and_then(|at| self.cell(at).slot.checked_sub(1))
    }

    /// Adds a slot. The caller keeps the number of slots within what the index was made for and 4-tuples unique.
    pub(super) fn insert(&mut self, tuple: &FourTuple, slot: u32) {
        let hash = self.hash(tuple);
        let mut at = self.home(hash);
        while self.cell(at).slot != 0 {
            at = (at + 1) & self.mask;
        }
        self.set(at, Cell { slot: slot + 1, hash });
    }

    /// Removes the slot of `tuple`, closing the gap so that no later probe ends early (Knuth, vol. 3, 6.4, algorithm R).
    pub(super) fn remove(&mut self, tuple: &FourTuple, holds: impl Fn(u32) -> bool) {
        let Some(mut gap) = self.position(tuple, holds) else { return };
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask;
            let cell = self.cell(at);
            if cell.slot == 0 {
                break;
            }
            let home = self.home(cell.hash);
            // The cell may move into the gap unless its home lies behind the gap, cyclically.
            if (at.wrapping_sub(home) & self.mask) >= (at.wrapping_sub(gap) & self.mask) {
                self.set(gap, cell);
                gap = at;
            }
        }
        self.set(gap, Cell::default());
    }
}
