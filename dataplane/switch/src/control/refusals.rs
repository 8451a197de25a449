//! Which refused connections are worth a line in the log: an agent that is turned away comes back five times a second.

use core::net::IpAddr;

use handoff_proto::Micros;

/// How many refused peers are remembered. At the limit the one told longest ago is forgotten.
const PEERS_MAX: usize = 64;
/// How long the same refusal of the same peer is not told again.
const QUIET: Micros = Micros::from_secs(60);

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    told: Vec<(IpAddr, String, Micros)>,
}

impl Refusals {
    /// Says whether to tell of this refusal, and remembers that it was told.
    pub(super) fn is_news(&mut self, peer: IpAddr, why: &str, now: Micros) -> bool {
        self.told.retain(|(_, _, at)| now.since(*at) < QUIET);
        match self.told.iter().position(|(known, _, _)| *known == peer) {
            Some(place) if self.told[place].1 == why => return false,
            Some(place) => drop(self.told.remove(place)),
            None if self.told.len() == PEERS_MAX => drop(self.told.remove(0)),
            None => {}
        }
        self.told.push((peer, why.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_a_minute_and_when_its_reason_changes() {
        let mut refusals = Refusals::default();
        let peer = IpAddr::from([10, 70, 0, 11]);
        let second = Micros::from_secs;
        assert!(refusals.is_news(peer, "name", second(0)));
        assert!(!refusals.is_news(peer, "name", second(59)));
        assert!(refusals.is_news(peer, "key", second(59)));
        assert!(!refusals.is_news(peer, "key", second(60)));
        assert!(refusals.is_news(peer, "key", second(119)));
    }

    #[test]
    fn a_crowd_of_peers_pushes_out_the_oldest_only() {
        let mut refusals = Refusals::default();
        let peer = |last| IpAddr::from([10, 70, 0, last]);
        (0..=64).for_each(|last| assert!(refusals.is_news(peer(last), "key", Micros(1))));
        assert_eq!(refusals.told.len(), PEERS_MAX);
        assert!(!refusals.is_news(peer(1), "key", Micros(2)));
        assert!(refusals.is_news(peer(0), "key", Micros(2)));
    }
}
