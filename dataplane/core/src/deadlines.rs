//! Deadlines of things numbered from 0: at most one each, found in the order in which they come due.
//!
//! A binary heap (Williams, "Algorithm 232: Heapsort", 1964) that also knows where each number stands, so that a deadline can be
//! moved or taken back. All memory is allocated by [`Deadlines::new`].

use handoff_proto::Micros;

/// Marks a number without a deadline.
const NOWHERE: u32 = u32::MAX;

/// The deadlines of a fixed number of things.
#[derive(Debug)]
pub(crate) struct Deadlines {
    /// Numbers, the soonest first: no child is due before its parent.
    heap: Vec<u32>,
    /// Per number: its place in the heap.
    places: Vec<u32>,
    /// Per number: when it is due, if it stands in the heap.
    due: Vec<Micros>,
}

impl Deadlines {
    /// Makes room for the numbers below `count`.
    pub(crate) fn new(count: u16) -> Self {
        let count = usize::from(count);
        Self { heap: Vec::with_capacity(count), places: vec![NOWHERE; count], due: vec![Micros(0); count] }
    }

    /// Gives `number` a deadline instead of the one it had.
    pub(crate) fn set(&mut self, number: u16, due: Micros) {
        let at = usize::from(number);
        let Some(place) = self.due.get_mut(at) else { return };
        *place = due;
        let place = match self.place_of(u32::from(number)) {
            Some(place) => place,
            None => {
                self.heap.push(u32::from(number));
                self.heap.len() - 1
            }
        };
        self.put(place, u32::from(number));
        self.rise(place);
        self.sink(place);
    }

    /// Takes a deadline back, if there is one.
    pub(crate) fn cancel(&mut self, number: u16) {
        let Some(place) = self.place_of(u32::from(number)) else { return };
        if let Some(entry) = self.places.get_mut(usize::from(number)) {
            *entry = NOWHERE;
        }
        let Some(last) = self.heap.pop() else { return };
        if place < self.heap.len() {
            self.put(place, last);
            self.rise(place);
            self.sink(place);
        }
    }

    /// Returns the number that is due first, if it is due by `now`, and takes its deadline back.
    pub(crate) fn pop(&mut self, now: Micros) -> Option<u16> {
        let first = *self.heap.first()?;
        let number = u16::try_from(first).ok()?;
        if self.due_of(first) > now {
            return None;
        }
        self.cancel(number);
        Some(number)
    }

    fn due_of(&self, number: u32) -> Micros {
        usize::try_from(number).ok().and_then(|at| self.due.get(at)).copied().unwrap_or(Micros(u64::MAX))
    }

    fn due_at(&self, place: usize) -> Option<Micros> {
        self.heap.get(place).map(|number| self.due_of(*number))
    }

    fn place_of(&self, number: u32) -> Option<usize> {
        let place = *self.places.get(usize::try_from(number).ok()?)?;
        if place == NOWHERE { None } else { usize::try_from(place).ok() }
    }

    fn put(&mut self, place: usize, number: u32) {
        if let Some(entry) = self.heap.get_mut(place) {
            *entry = number;
        }
        if let Some(entry) = usize::try_from(number).ok().and_then(|at| self.places.get_mut(at)) {
            *entry = u32::try_from(place).unwrap_or(NOWHERE);
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        if let (Some(&first), Some(&second)) = (self.heap.get(one), self.heap.get(other)) {
            self.put(one, second);
            self.put(other, first);
        }
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.due_at(parent) <= self.due_at(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let children = [2 * place + 1, 2 * place + 2];
            let sooner = children.into_iter().filter_map(|child| Some((self.due_at(child)?, child))).min();
            match sooner {
                Some((due, child)) if Some(due) < self.due_at(place) => {
                    self.swap(place, child);
                    place = child;
                }
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Enough for a heap of five levels, in which what moves up or down has a choice of ways.
    const ROOM: u16 = 24;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Set(u16, u64),
        Cancel(u16),
        Pop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..=ROOM, 0..100u64).prop_map(|(number, due)| Step::Set(number, due)),
            2 => (0..=ROOM).prop_map(Step::Cancel),
            1 => (0..100u64).prop_map(Step::Pop),
        ]
    }

    proptest! {
        /// As an ordered map would have it; number [`ROOM`] has no room and never comes due.
        #[test]
        fn deadlines_come_due_in_order_whatever_was_moved_or_taken_back(
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut deadlines = Deadlines::new(ROOM);
            let mut model: BTreeMap<u16, u64> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(number, due) => {
                        deadlines.set(number, Micros(due));
                        if number < ROOM {
                            model.insert(number, due);
                        }
                    }
                    Step::Cancel(number) => {
                        deadlines.cancel(number);
                        model.remove(&number);
                    }
                    Step::Pop(now) => {
                        let soonest = model.values().min().copied().filter(|due| *due <= now);
                        let popped = deadlines.pop(Micros(now));
                        prop_assert_eq!(popped.and_then(|number| model.remove(&number)), soonest);
                    }
                }
            }
            // Whatever happened, what is left comes in order, and each number has its place again.
            let mut left: Vec<u64> = model.values().copied().collect();
            left.sort_unstable();
            for due in left {
                let number = deadlines.pop(Micros(u64::MAX));
                prop_assert_eq!(number.and_then(|number| model.remove(&number)), Some(due));
            }
            (0..ROOM).for_each(|number| deadlines.set(number, Micros(u64::from(ROOM - number))));
            let again: Vec<u16> = core::iter::from_fn(|| deadlines.pop(Micros(ROOM.into()))).collect();
            prop_assert_eq!(again, (0..ROOM).rev().collect::<Vec<u16>>());
        }
    }
}
