//! A bounded table of what was asked for lately, by hash. It is split into sets of few places, and each set forgets what was used
//! least recently of its own: so a look never costs more than one set, even for somebody who picks hashes that collide.

/// Places of a set.
const WAYS: usize = 8;

/// What is remembered, by hash.
#[derive(Clone, Debug)]
pub(super) struct Targets<V> {
    /// Set after set.
    places: Box<[Place<V>]>,
    sets: u64,
    /// How often places were used: what was used last has the highest number.
    uses: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place<V> {
    key: u64,
    /// When it was used last; 0 if never.
    used: u64,
    value: V,
}

impl<V: Copy + Default> Targets<V> {
    /// Makes room for as many targets as wanted, rounded up to whole sets.
    pub(super) fn new(count: u32) -> Self {
        let sets = usize::try_from(count).unwrap_or(usize::MAX).div_ceil(WAYS).max(1);
        let places = vec![Place::default(); sets * WAYS].into();
        Self { places, sets: u64::try_from(sets).unwrap_or(1), uses: 0 }
    }

    /// Where a set begins. The upper bits choose it: key * sets / 2^64.
    fn set(&self, key: u64) -> usize {
        let set = (u128::from(key) * u128::from(self.sets)) >> 64;
        usize::try_from(set).unwrap_or(0) * WAYS
    }

    /// Finds a target's value.
    pub(super) fn find(&self, key: u64) -> Option<(usize, &V)> {
        let set = self.set(key);
        let places = self.places.get(set..set + WAYS)?;
        let at = places.iter().position(|place| place.used != 0 && place.key == key)?;
        places.get(at).map(|place| (set + at, &place.value))
    }

    /// Returns the place of a target and its value, now the most recently used; one that was not there has the default, in
    /// the place of the target that was used least recently of its set.
    pub(super) fn enter(&mut self, key: u64) -> Option<(usize, &mut V)> {
        self.uses += 1;
        let at = match self.find(key) {
            Some((at, _)) => at,
            None => {
                let set = self.set(key);
                let oldest =
                    self.places.get(set..set + WAYS)?.iter().enumerate().min_by_key(|(_, place)| place.used);
                let at = set + oldest?.0;
                *self.places.get_mut(at)? = Place { key, ..Place::default() };
                at
            }
        };
        let place = self.places.get_mut(at)?;
        place.used = self.uses;
        Some((at, &mut place.value))
    }

    /// How many places there are.
    pub(super) fn places(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_least_recently_of_a_set_is_forgotten() {
        // Small numbers all have the same upper bits: one set.
        let mut targets = Targets::<u16>::new(64);
        for key in 1..=8 {
            *targets.enter(key).expect("room").1 = u16::try_from(key).expect("small");
        }
        targets.enter(1);
        targets.enter(9);
        assert_eq!(targets.find(2), None, "the oldest that was not used since");
        for (key, value) in [(1, 1), (3, 3), (8, 8), (9, 0)] {
            assert_eq!(targets.find(key).map(|(_, value)| *value), Some(value), "{key}");
        }
        assert_eq!(targets.find(u64::MAX), None, "another set");
    }

    #[test]
    fn all_sets_are_used() {
        let mut targets = Targets::<u16>::new(4096);
        let keys = (0..4096_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for key in keys.clone() {
            targets.enter(key);
        }
        let kept = keys.filter(|key| targets.find(*key).is_some()).count();
        assert!(kept > 3400, "{kept} of 4,096");
        assert_eq!(targets.places(), 4096);
    }
}
