//! Rendezvous hashing: each key has one order of all members, and belongs to the first that is usable.
//!
//! Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998; the weights are Mosberger-Tang's and
//! Schindelhauer's (`-weight / ln(hash)`). Nothing is remembered: every lcore, every switch and the next life of a switch
//! agree. When a member leaves, only its own keys move; when it comes back, they do. Costs a hash and a logarithm per member.

use core::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::ids::BackendIndex;
use crate::policy::Member;

/// Returns the position of the usable member to which `key` belongs.
pub fn owner(key: u64, members: &[Member], usable: impl Fn(BackendIndex) -> bool) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, member) in members.iter().enumerate() {
        if !usable(member.backend) {
            continue;
        }
        let score = score(key, member);
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((position, score));
        }
    }
    best.map(|(position, _)| position)
}

fn score(key: u64, member: &Member) -> f64 {
    let mut hash = SipHasher13::new();
    hash.write_u64(key);
    hash.write_u64(member.identity);
    // 53 bits are what a double holds exactly; in the middle of its step it is neither 0 nor 1.
    let share = (exact(hash.finish() >> 11) + 0.5) / exact(1 << 53);
    -f64::from(member.weight) / share.ln()
}

/// Converts a number of at most 53 bits.
fn exact(bits: u64) -> f64 {
    let (high, low) = (bits >> 32, bits & u64::from(u32::MAX));
    let part = |bits: u64| f64::from(u32::try_from(bits).unwrap_or(u32::MAX));
    part(high) * 4_294_967_296.0 + part(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn members(weights: &[u16]) -> Vec<Member> {
        let member = |(at, weight): (u16, &u16)| Member {
            backend: BackendIndex(at),
            weight: *weight,
            identity: Member::identity_of(&format!("backend{at}")),
        };
        (0..).zip(weights).map(member).collect()
    }

    fn counts(members: &[Member], usable: impl Fn(BackendIndex) -> bool) -> Vec<u64> {
        let mut counts = vec![0; members.len()];
        for key in 0..KEYS {
            counts[owner(key, members, &usable).expect("some are usable")] += 1;
        }
        counts
    }

    #[test]
    fn members_get_keys_by_their_weight() {
        let counts = counts(&members(&[1, 2, 5]), |_| true);
        for (count, share) in counts.iter().zip([1, 2, 5]) {
            let fair = KEYS * share / 8;
            // Of 20,000 throws with chance 1/8, more than 5 % off the mean is 3.3 deviations.
            assert!(count.abs_diff(fair) * 20 < fair, "{counts:?}");
        }
    }

    #[test]
    fn who_leaves_takes_nothing_but_his_own_keys_and_finds_them_again() {
        let members = members(&[3, 3, 3, 3]);
        for key in 0..KEYS {
            let before = owner(key, &members, |_| true).expect("all usable");
            let without = owner(key, &members, |backend| backend.0 != 2).expect("three usable");
            assert!(if before == 2 { without != 2 } else { without == before }, "key {key}");
        }
    }

    #[test]
    fn nobody_usable_is_nobody() {
        assert_eq!(owner(7, &members(&[1, 1]), |_| false), None);
        assert_eq!(owner(7, &[], |_| true), None);
    }
}
