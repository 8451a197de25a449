//! TLS sessions that agents have learned: which backend can resume which (RFC 5246, section 7.3).
//!
//! A fixed number of places, four for each value of a hash; the oldest of the four gives way. A session that was pushed out or never
//! learned is no fault: its client is sent where its address belongs, and the handshake is a full one there.

use core::hash::Hasher;

use handoff_proto::Micros;
use siphasher::sip::SipHasher13;

use crate::ids::BackendIndex;

/// Places that share a hash.
const WAYS: usize = 4;
/// Sets of places on one lcore: 65,536 sessions in 2 MiB.
const SETS: usize = 16_384;
/// How long a session is remembered: as long as RFC 5246, section F.1.4, lets servers keep one.
const LIFETIME: Micros = Micros::from_secs(24 * 3600);

/// Which backend has which session.
#[derive(Debug)]
pub struct Sessions {
    key: [u8; 16],
    places: Box<[Option<Place>]>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    tag: u64,
    backend: BackendIndex,
    learned: Micros,
}

impl Sessions {
    /// Allocates all places. `key` hashes the ids: nobody can aim at a set.
    pub fn new(key: [u8; 16]) -> Self {
        Self { key, places: vec![None; SETS * WAYS].into() }
    }

    /// Remembers that a backend has made a session. An empty id is none.
    pub fn learn(&mut self, id: &[u8], backend: BackendIndex, now: Micros) {
        if id.is_empty() {
            return;
        }
        let tag = self.tag(id);
        let set = self.places.get_mut(range(tag)).unwrap_or_default();
        let known = set.iter().position(|place| place.is_some_and(|place| place.tag == tag));
        let oldest = || {
            let age = |place: &Option<Place>| place.map_or(Micros(0), |place| place.learned);
            set.iter().enumerate().min_by_key(|(_, place)| age(place).0).map(|(position, _)| position)
        };
        if let Some(place) = known.or_else(oldest).and_then(|position| set.get_mut(position)) {
            *place = Some(Place { tag, backend, learned: now });
        }
    }

    /// Returns the backend that made a session.
    pub fn owner(&self, id: &[u8], now: Micros) -> Option<BackendIndex> {
        if id.is_empty() {
            return None;
        }
        let tag = self.tag(id);
        let set = self.places.get(range(tag))?;
        let place = set.iter().flatten().find(|place| place.tag == tag)?;
        (now.since(place.learned) < LIFETIME).then_some(place.backend)
    }

    fn tag(&self, id: &[u8]) -> u64 {
        let mut hash = SipHasher13::new_with_key(&self.key);
        hash.write(id);
        hash.finish()
    }
}

/// Returns the places of a hash.
fn range(tag: u64) -> core::ops::Range<usize> {
    let set = usize::try_from(tag % SETS as u64).unwrap_or(0);
    set * WAYS..set * WAYS + WAYS
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Micros = Micros::from_secs(43_200);

    #[test]
    fn a_session_is_found_where_it_was_made_last_until_it_is_old() {
        let mut sessions = Sessions::new([7; 16]);
        assert_eq!(sessions.owner(b"one", NOON), None);
        sessions.learn(b"one", BackendIndex(1), NOON);
        sessions.learn(b"two", BackendIndex(2), NOON);
        assert_eq!(sessions.owner(b"one", NOON), Some(BackendIndex(1)));
        sessions.learn(b"one", BackendIndex(3), NOON);
        assert_eq!(sessions.owner(b"one", NOON), Some(BackendIndex(3)));
        assert_eq!(sessions.owner(b"two", NOON.plus(LIFETIME)), None);
    }

    #[test]
    fn without_an_id_there_is_no_session() {
        let mut sessions = Sessions::new([7; 16]);
        sessions.learn(b"", BackendIndex(1), NOON);
        assert_eq!(sessions.owner(b"", NOON), None);
    }

    #[test]
    fn the_newest_sessions_stay_when_there_are_too_many() {
        let mut sessions = Sessions::new([7; 16]);
        let count = 3 * SETS * WAYS;
        for number in 0..count {
            let now = NOON.plus(Micros(number as u64));
            sessions.learn(
                &number.to_be_bytes(),
                BackendIndex(u16::try_from(number % 9).expect("small")),
                now,
            );
        }
        let is_known = |number: &usize| {
            let owner = sessions.owner(&number.to_be_bytes(), NOON);
            assert!(owner.is_none_or(|owner| usize::from(owner.0) == number % 9), "{number}");
            owner.is_some()
        };
        // Of the newest quarter of what fits, a set of four loses one only if five of them fall on it: about 4 in 1,000.
        let newest = count - SETS * WAYS / 4..count;
        assert!(newest.clone().filter(is_known).count() * 100 > newest.len() * 99);
        assert!((0..count).filter(is_known).count() <= SETS * WAYS);
    }
}
