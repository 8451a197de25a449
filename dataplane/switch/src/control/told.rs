//! Which refused connections and claimed addresses are worth a line in the log: an agent that is turned away comes back five
//! times a second.

use core::net::IpAddr;

use handoff_proto::Micros;

/// How many lines there may be within [`QUIET`], whoever they are of: who has no key must not fill the log. What is more than that
/// is counted like everything else, and not told.
const LINES_MAX: usize = 64;
/// How long the same is not told again.
const QUIET: Micros = Micros::from_secs(60);

/// What was told within [`QUIET`].
#[derive(Debug, Default)]
pub(super) struct Told {
    told: Vec<(IpAddr, String, Micros)>,
}

impl Told {
    /// Says whether this is to be told of a peer or an address, and remembers that it was told.
    pub(super) fn is_news(&mut self, of: IpAddr, what: &str, now: Micros) -> bool {
        self.told.retain(|(_, _, at)| now.since(*at) < QUIET);
        let is_known = self.told.iter().any(|(known, told, _)| *known == of && told == what);
        if is_known || self.told.len() == LINES_MAX {
            return false;
        }
        self.told.push((of, what.to_owned(), now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_a_minute_and_when_its_reason_changes() {
        let mut log = Told::default();
        let peer = IpAddr::from([10, 70, 0, 11]);
        let second = Micros::from_secs;
        assert!(log.is_news(peer, "name", second(0)));
        assert!(!log.is_news(peer, "name", second(59)));
        assert!(log.is_news(peer, "key", second(59)));
        assert!(!log.is_news(peer, "key", second(60)));
        assert!(log.is_news(peer, "key", second(119)));
    }

    #[test]
    fn neither_changing_reasons_nor_a_crowd_of_peers_fill_the_log() {
        let second = Micros::from_secs;
        let mut log = Told::default();
        let peer = IpAddr::from([10, 70, 0, 11]);
        let told = (0..200).filter(|turn| log.is_news(peer, ["key 1", "key 2"][turn % 2], second(1)));
        assert_eq!(told.count(), 2);
        let crowd = (0..200).map(|last| IpAddr::from([10, 70, 1, last]));
        let told = crowd.filter(|peer| log.is_news(*peer, "key 1", second(2)));
        assert_eq!(told.count(), LINES_MAX - 2);
        assert!(!log.is_news(peer, "name", second(60)));
        assert!(log.is_news(peer, "name", second(61)));
    }
}
