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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn tuple(number: u32) -> FourTuple {
        FourTuple {
            client: IpAddr::V4((0x0a00_0000 + number / 50_000).into()),
            client_port: u16::try_from(number % 50_000).expect("below 50,000"),
            vip: IpAddr::from([10, 60, 0, 100]),
            vip_port: 80,
        }
    }

    /// Two 4-tuples whose whole 32-bit hashes are equal: among 300,000 there are ten such pairs to be expected.
    fn colliding_pair(index: &Index) -> (FourTuple, FourTuple) {
        let mut seen: HashMap<u32, u32> = HashMap::new();
        for number in 0..2_000_000 {
            if let Some(earlier) = seen.insert(index.hash(&tuple(number)), number) {
                return (tuple(earlier), tuple(number));
            }
        }
        panic!("no collision among two million");
    }

    #[test]
    fn equal_hashes_are_told_apart_by_the_owner() {
        let mut index = Index::new(4, KEY);
        let (first, second) = colliding_pair(&index);
        let slots = [first, second];
        let holds = |tuple: FourTuple| move |slot: u32| slots[usize::try_from(slot).expect("small")] == tuple;
        index.insert(&first, 0);
        assert_eq!(index.find(&second, holds(second)), None);
        index.insert(&second, 1);
        assert_eq!(index.find(&first, holds(first)), Some(0));
        assert_eq!(index.find(&second, holds(second)), Some(1));
        index.remove(&first, holds(first));
        assert_eq!(index.find(&first, holds(first)), None);
        assert_eq!(index.find(&second, holds(second)), Some(1), "the gap is closed");
        index.remove(&second, holds(second));
        assert!(index.cells.iter().all(|cell| cell.slot == 0));
    }

    #[test]
    fn crowded_cells_lose_nobody_in_any_order_of_removal() {
        // 8 slots in 16 cells: neighbours' probes run through each other and around the end.
        for seed in 0..200u8 {
            let mut index = Index::new(8, [seed; 16]);
            let tuples: Vec<FourTuple> = (0..8).map(tuple).collect();
            let mut slots: Vec<Option<FourTuple>> = tuples.iter().copied().map(Some).collect();
            for (slot, tuple) in (0..).zip(&tuples) {
                index.insert(tuple, slot);
            }
            for step in 0..8usize {
                let gone = (step * 3 + usize::from(seed)) % 8;
                let tuple = tuples[gone];
                let at = |slot: u32| usize::try_from(slot).expect("small");
                index.remove(&tuple, |slot| slots[at(slot)] == Some(tuple));
                slots[gone] = None;
                for (slot, tuple) in (0..).zip(&tuples) {
                    let expected = slots[at(slot)].map(|_| slot);
                    assert_eq!(index.find(tuple, |slot| slots[at(slot)] == Some(*tuple)), expected);
                }
            }
            assert!(index.cells.iter().all(|cell| cell.slot == 0));
        }
    }

    #[test]
    fn the_key_decides_where_a_tuple_lies() {
        let (one, other) = (Index::new(4, KEY), Index::new(4, [8; 16]));
        let (first, second) = colliding_pair(&one);
        assert_ne!(other.hash(&first), other.hash(&second));
    }
}
