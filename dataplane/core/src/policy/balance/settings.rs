//! Which policy a pool has, and its settings: refused while they are read, so that what is built cannot be wrong.

use handoff_proto::Micros;
use thiserror::Error;

use super::cap::Cap;
use super::content_and_load::ContentAndLoad;
use super::fastest_response::FastestResponse;
use super::lard::Lard;
use super::lard_replicated::LardReplicated;
use super::least_connections::LeastConnections;
use super::least_traffic::LeastTraffic;
use super::maglev::Maglev;
use super::racc::Racc;
use super::round_robin::RoundRobin;
use super::two_choices::TwoChoices;
use super::url_hash::UrlHash;
use super::weighted_least_load::WeightedLeastLoad;
use super::weighted_round_robin::WeightedRoundRobin;
use super::{HashOn, Policy};
use crate::policy::Member;

/// Most members of a pool.
pub const MEMBERS_MAX: usize = 1024;
/// Into how many buckets `url-hash` puts URLs.
pub const URL_BUCKETS: usize = 256;

/// Which policy a pool has, and its settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PolicySettings {
    /// Each usable member in its turn.
    #[default]
    RoundRobin,
    /// Turns in proportion to the weights, spread evenly.
    WeightedRoundRobin,
    /// The member with the fewest connections for its weight.
    LeastConnections,
    /// The member with the least traffic for its weight.
    LeastTraffic(TrafficUnit),
    /// The member whose connections, weighed by class, are the least for its weight.
    WeightedLeastLoad(HostWeights),
    /// The member that answers soonest.
    FastestResponse,
    /// The one of two random members with fewer connections for its weight.
    TwoChoices,
    /// The same member for the same client.
    ClientHash,
    /// The same member for the same part of the request, by a Maglev table.
    Maglev(MaglevSettings),
    /// The same member for the same URL, by 256 buckets.
    UrlHash,
    /// Locality-aware: a member for each target, another if that has too much to do.
    Lard(LardSettings),
    /// Locality-aware: as many members for each target as it needs.
    LardReplicated(LardReplicatedSettings),
    /// Turns within each service class.
    Cap,
    /// A tree of URLs, whose subtrees are shared out to the members by their capacity.
    Racc(RaccSettings),
    /// A few candidates by hash; the least loaded of them.
    ContentAndLoad(ContentAndLoadSettings),
}

/// What `least-traffic` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficUnit {
    /// Bytes.
    #[default]
    Bytes,
    /// Packets.
    Packets,
}

/// Where `weighted-least-load` has the weights of its members from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostWeights {
    /// From the configuration alone.
    #[default]
    Configured,
    /// From the configuration, less what the reports say is in use of the fullest of processor, memory and accept queue.
    Reported,
}

/// Settings of `maglev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaglevSettings {
    pub(super) hash: HashOn,
    pub(super) bounded_load_percent: Option<u16>,
}

/// Settings of `lard`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LardSettings {
    pub(super) hash: HashOn,
    pub(super) low: u32,
    pub(super) high: u32,
    pub(super) targets_max: u32,
}

/// Settings of `lard-replicated`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LardReplicatedSettings {
    pub(super) lard: LardSettings,
    pub(super) replicate: Micros,
}

/// Settings of `racc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaccSettings {
    pub(super) depth: u8,
    pub(super) interval: Micros,
    pub(super) subtrees_max: u32,
    pub(super) cost: RaccCost,
    pub(super) known: Vec<KnownSubtree>,
}

/// What `racc` takes a request to cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RaccCost {
    /// As much as any other, but where its subtree has a cost of its own.
    #[default]
    Requests,
    /// Beside that, as much as its member's requests cause traffic on average, as the reports have it.
    Traffic,
}

/// What the operator knows of a subtree of URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownSubtree {
    pub(super) path: Box<str>,
    pub(super) bytes: u64,
    pub(super) cost: u16,
}

/// Settings of `content-and-load`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentAndLoadSettings {
    pub(super) hash: HashOn,
    pub(super) candidates: u8,
}

impl MaglevSettings {
    /// Percent of its fair share that a member may have, if loads are bounded.
    pub const BOUNDED_LOAD_PERCENT: core::ops::RangeInclusive<u16> = 101..=1000;

    /// Takes what to go by and, if loads are bounded, how many percent of its fair share of connections a member may have.
    ///
    /// # Errors
    /// Unless the bound is in [`Self::BOUNDED_LOAD_PERCENT`].
    pub fn new(hash: HashOn, bounded_load_percent: Option<u16>) -> Result<Self, SettingsFault> {
        match bounded_load_percent {
            Some(percent) if !Self::BOUNDED_LOAD_PERCENT.contains(&percent) => {
                Err(SettingsFault::BoundedLoad)
            }
            _ => Ok(Self { hash, bounded_load_percent }),
        }
    }
}

impl LardSettings {
    /// Connections of a member that has too little to do, unless said otherwise, as in the paper.
    pub const LOW: u32 = 25;
    /// Connections of a member that has too much to do, unless said otherwise, as in the paper.
    pub const HIGH: u32 = 65;
    /// How many targets each lcore remembers, unless said otherwise.
    pub const TARGETS: u32 = 16_384;
    /// How many targets each lcore may remember.
    pub const TARGETS_MAX: core::ops::RangeInclusive<u32> = 64..=1_048_576;

    /// Takes what a target is known by; from how many connections on a member of mean weight has less than enough and more
    /// than enough to do; how many targets each lcore remembers.
    ///
    /// # Errors
    /// Unless `0 < low < high <= 1,000,000` and `targets_max` is in [`Self::TARGETS_MAX`].
    pub fn new(hash: HashOn, low: u32, high: u32, targets_max: u32) -> Result<Self, SettingsFault> {
        if low == 0 || low >= high || high > 1_000_000 {
            return Err(SettingsFault::Thresholds);
        }
        if !Self::TARGETS_MAX.contains(&targets_max) {
            return Err(SettingsFault::Targets);
        }
        Ok(Self { hash, low, high, targets_max })
    }
}

impl Default for LardSettings {
    fn default() -> Self {
        Self { hash: HashOn::Url, low: Self::LOW, high: Self::HIGH, targets_max: Self::TARGETS }
    }
}

impl LardReplicatedSettings {
    /// For how many seconds a target's members stay as they are before one is taken away, unless said otherwise, as in the
    /// paper.
    pub const REPLICATE_S: u32 = 20;

    /// Takes the settings of LARD, and for how many seconds a target's members stay as they are before one is taken away.
    ///
    /// # Errors
    /// Unless `replicate_s` is 1 to 86,400.
    pub fn new(lard: LardSettings, replicate_s: u32) -> Result<Self, SettingsFault> {
        if !(1..=86_400).contains(&replicate_s) {
            return Err(SettingsFault::Replicate);
        }
        Ok(Self { lard, replicate: Micros::from_secs(replicate_s.into()) })
    }
}

impl RaccSettings {
    /// How many segments of a path the tree is deep, unless said otherwise.
    pub const DEPTH: u8 = 4;
    /// How deep it may be.
    pub const DEPTH_MAX: u8 = 8;
    /// How often it is shared out anew, unless said otherwise.
    pub const INTERVAL_S: u32 = 10;
    /// How many subtrees each lcore remembers, unless said otherwise.
    pub const SUBTREES: u32 = 4096;
    /// How many subtrees each lcore may remember.
    pub const SUBTREES_MAX: core::ops::RangeInclusive<u32> = 64..=1_048_576;
    /// How many subtrees may be known.
    pub const KNOWN_MAX: usize = 1024;

    /// Takes how many segments of a path the tree is deep; how often it is shared out anew; how many subtrees each lcore
    /// remembers; what a request costs; and what the operator knows.
    ///
    /// # Errors
    /// Unless `depth` is 1 to 8, `interval_s` 1 to 3,600, `subtrees_max` in [`Self::SUBTREES_MAX`] and at least twice the
    /// number of known subtrees, of which there are at most 1,024, each once and no deeper than the tree.
    pub fn new(
        depth: u8,
        interval_s: u32,
        subtrees_max: u32,
        cost: RaccCost,
        known: Vec<KnownSubtree>,
    ) -> Result<Self, SettingsFault> {
        if !(1..=Self::DEPTH_MAX).contains(&depth) {
            return Err(SettingsFault::Depth);
        }
        if !(1..=3600).contains(&interval_s) {
            return Err(SettingsFault::Interval);
        }
        let room = usize::try_from(subtrees_max / 2).unwrap_or(usize::MAX);
        if !Self::SUBTREES_MAX.contains(&subtrees_max) || known.len() > room || known.len() > Self::KNOWN_MAX
        {
            return Err(SettingsFault::Subtrees);
        }
        if known.iter().any(|subtree| subtree.depth() > depth.into()) {
            return Err(SettingsFault::SubtreeDepth);
        }
        let mut paths: Vec<&str> = known.iter().map(|subtree| &*subtree.path).collect();
        paths.sort_unstable();
        if paths.is_sorted_by(|one, next| one < next) {
            Ok(Self { depth, interval: Micros::from_secs(interval_s.into()), subtrees_max, cost, known })
        } else {
            Err(SettingsFault::SubtreeTwice)
        }
    }
}

impl Default for RaccSettings {
    fn default() -> Self {
        Self {
            depth: Self::DEPTH,
            interval: Micros::from_secs(Self::INTERVAL_S.into()),
            subtrees_max: Self::SUBTREES,
            cost: RaccCost::default(),
            known: Vec::new(),
        }
    }
}

impl KnownSubtree {
    /// Takes a subtree's path, as in `/images`; how many bytes its documents have together, 0 if that is not known; and how
    /// much one request for it costs beside one that costs 1.
    ///
    /// # Errors
    /// If the path is not a slash and segments with one between each, or the cost not 1 to 1,000.
    pub fn new(path: &str, bytes: u64, cost: u16) -> Result<Self, SettingsFault> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let segments = path.strip_prefix('/').ok_or(SettingsFault::SubtreePath)?;
        if segments.split('/').any(str::is_empty) || segments.contains(['?', '#']) || path.len() > 1024 {
            return Err(SettingsFault::SubtreePath);
        }
        if !(1..=1000).contains(&cost) {
            return Err(SettingsFault::SubtreeCost);
        }
        Ok(Self { path: path.into(), bytes, cost })
    }

    fn depth(&self) -> usize {
        self.path.split('/').count() - 1
    }
}

impl ContentAndLoadSettings {
    /// How many candidates there are, unless said otherwise.
    pub const CANDIDATES: u8 = 2;
    /// How many there may be.
    pub const CANDIDATES_MAX: u8 = 8;

    /// Takes what to go by, and how many members each content has.
    ///
    /// # Errors
    /// Unless there are 2 to 8 candidates.
    pub fn new(hash: HashOn, candidates: u8) -> Result<Self, SettingsFault> {
        if !(2..=Self::CANDIDATES_MAX).contains(&candidates) {
            return Err(SettingsFault::Candidates);
        }
        Ok(Self { hash, candidates })
    }
}

impl Default for ContentAndLoadSettings {
    fn default() -> Self {
        Self { hash: HashOn::Path, candidates: Self::CANDIDATES }
    }
}

/// What is wrong with the settings of a policy. It is always the operator who was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SettingsFault {
    /// Of a cookie or header field to go by.
    #[error("a name that no header field or cookie of 1 to 128 bytes can have")]
    HashName,
    /// Of `maglev`.
    #[error("a bounded load that is not 101 to 1000 percent")]
    BoundedLoad,
    /// Of `lard`.
    #[error("thresholds that are not 0 < low < high <= 1000000")]
    Thresholds,
    /// Of `lard`.
    #[error("room for fewer than 64 or more than 1048576 targets")]
    Targets,
    /// Of `lard-replicated`.
    #[error("a time until replicas are taken away that is not 1 to 86400 s")]
    Replicate,
    /// Of `racc`.
    #[error("a tree that is not 1 to 8 segments deep")]
    Depth,
    /// Of `racc`.
    #[error("an interval that is not 1 to 3600 s")]
    Interval,
    /// Of `racc`.
    #[error(
        "room for fewer than 64 or more than 1048576 subtrees, or for less than twice those known, or more than 1024 of these"
    )]
    Subtrees,
    /// Of a known subtree.
    #[error("a subtree deeper than the tree")]
    SubtreeDepth,
    /// Of a known subtree.
    #[error("a subtree that is there twice")]
    SubtreeTwice,
    /// Of a known subtree.
    #[error("a subtree's path that is not of the form /a or /a/b")]
    SubtreePath,
    /// Of a known subtree.
    #[error("a cost that is not 1 to 1000")]
    SubtreeCost,
    /// Of `content-and-load`.
    #[error("a number of candidates that is not 2 to 8")]
    Candidates,
}

impl PolicySettings {
    /// Returns the policy's name, as in the configuration.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::WeightedRoundRobin => "weighted-round-robin",
            Self::LeastConnections => "least-connections",
            Self::LeastTraffic(_) => "least-traffic",
            Self::WeightedLeastLoad(_) => "weighted-least-load",
            Self::FastestResponse => "fastest-response",
            Self::TwoChoices => "two-choices",
            Self::ClientHash => "client-hash",
            Self::Maglev(_) => "maglev",
            Self::UrlHash => "url-hash",
            Self::Lard(_) => "lard",
            Self::LardReplicated(_) => "lard-replicated",
            Self::Cap => "cap",
            Self::Racc(_) => "racc",
            Self::ContentAndLoad(_) => "content-and-load",
        }
    }

    /// Returns what [`Ask::key`](super::Ask::key) is to be made of; `None` if the policy does not look at it.
    pub const fn hash_on(&self) -> Option<&HashOn> {
        match self {
            Self::ClientHash => Some(&HashOn::Client),
            Self::UrlHash => Some(&HashOn::Url),
            Self::Maglev(settings) => Some(&settings.hash),
            Self::Lard(settings) => Some(&settings.hash),
            Self::LardReplicated(settings) => Some(&settings.lard.hash),
            Self::ContentAndLoad(settings) => Some(&settings.hash),
            Self::RoundRobin
            | Self::WeightedRoundRobin
            | Self::LeastConnections
            | Self::LeastTraffic(_)
            | Self::WeightedLeastLoad(_)
            | Self::FastestResponse
            | Self::TwoChoices
            | Self::Cap
            | Self::Racc(_) => None,
        }
    }

    /// Says whether the policy goes by the agents' reports, without which it has only the lcore's own counts.
    pub const fn needs_reports(&self) -> bool {
        match self {
            Self::LeastTraffic(_) | Self::FastestResponse | Self::ContentAndLoad(_) => true,
            Self::WeightedLeastLoad(weights) => matches!(weights, HostWeights::Reported),
            Self::Racc(settings) => matches!(settings.cost, RaccCost::Traffic),
            _ => false,
        }
    }

    /// Returns how many members a pool with this policy may have.
    pub const fn members_max(&self) -> usize {
        match self {
            Self::UrlHash => URL_BUCKETS,
            _ => MEMBERS_MAX,
        }
    }

    /// Makes the state of one lcore, all it will ever need. That may take milliseconds: it is for control, not for a lcore.
    pub fn build(&self, members: &[Member]) -> Box<dyn Policy> {
        let count = members.len();
        match self {
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::WeightedRoundRobin => Box::new(WeightedRoundRobin::new(count)),
            Self::LeastConnections => Box::new(LeastConnections),
            Self::LeastTraffic(unit) => Box::new(LeastTraffic::new(*unit)),
            Self::WeightedLeastLoad(weights) => Box::new(WeightedLeastLoad::new(*weights)),
            Self::FastestResponse => Box::new(FastestResponse::new(count)),
            Self::TwoChoices => Box::new(TwoChoices::new(members)),
            Self::ClientHash => Box::new(Maglev::new(members, None)),
            Self::Maglev(settings) => Box::new(Maglev::new(members, settings.bounded_load_percent)),
            Self::UrlHash => Box::new(UrlHash::new(members)),
            Self::Lard(settings) => Box::new(Lard::new(members, settings)),
            Self::LardReplicated(settings) => Box::new(LardReplicated::new(members, settings)),
            Self::Cap => Box::new(Cap::new(count)),
            Self::Racc(settings) => Box::new(Racc::new(members, settings)),
            Self::ContentAndLoad(settings) => Box::new(ContentAndLoad::new(members, settings)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_at_their_bounds_are_taken_and_one_beyond_refused() {
        let maglev = |percent| MaglevSettings::new(HashOn::Path, percent).err();
        for (percent, fault) in [
            (None, None),
            (Some(101), None),
            (Some(1000), None),
            (Some(100), Some(SettingsFault::BoundedLoad)),
            (Some(1001), Some(SettingsFault::BoundedLoad)),
        ] {
            assert_eq!(maglev(percent), fault, "{percent:?}");
        }
        let lard = |low, high, targets| LardSettings::new(HashOn::Url, low, high, targets).err();
        assert_eq!(lard(1, 2, 64), None);
        assert_eq!(lard(999_999, 1_000_000, 1_048_576), None);
        for (low, high) in [(0, 2), (2, 2), (3, 2), (1, 1_000_001)] {
            assert_eq!(lard(low, high, 64), Some(SettingsFault::Thresholds), "{low} {high}");
        }
        for targets in [0, 63, 1_048_577] {
            assert_eq!(lard(1, 2, targets), Some(SettingsFault::Targets), "{targets}");
        }
        let replicated = |seconds| LardReplicatedSettings::new(LardSettings::default(), seconds).err();
        assert_eq!([replicated(1), replicated(86_400)], [None; 2]);
        assert_eq!([replicated(0), replicated(86_401)], [Some(SettingsFault::Replicate); 2]);
        let candidates = |count| ContentAndLoadSettings::new(HashOn::Path, count).err();
        assert_eq!([candidates(2), candidates(8)], [None; 2]);
        assert_eq!([candidates(1), candidates(9)], [Some(SettingsFault::Candidates); 2]);
    }

    #[test]
    fn trees_at_their_bounds_are_taken_and_one_beyond_refused() {
        let tree = |depth, interval, subtrees, known| {
            RaccSettings::new(depth, interval, subtrees, RaccCost::Requests, known).err()
        };
        let known = |paths: &[&str]| -> Vec<KnownSubtree> {
            paths.iter().map(|path| KnownSubtree::new(path, 1, 1).expect("a good path")).collect()
        };
        assert_eq!(tree(1, 1, 64, known(&["/a", "/b/"])), None);
        assert_eq!(tree(8, 3600, 1_048_576, vec![]), None);
        assert_eq!([tree(0, 1, 64, vec![]), tree(9, 1, 64, vec![])], [Some(SettingsFault::Depth); 2]);
        assert_eq!([tree(1, 0, 64, vec![]), tree(1, 3601, 64, vec![])], [Some(SettingsFault::Interval); 2]);
        assert_eq!(
            [tree(1, 1, 63, vec![]), tree(1, 1, 1_048_577, vec![])],
            [Some(SettingsFault::Subtrees); 2]
        );
        let many: Vec<String> = (0..1025).map(|number| format!("/{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(tree(1, 1, 64, known(&many[..33])), Some(SettingsFault::Subtrees));
        assert_eq!(tree(1, 1, 4096, known(&many)), Some(SettingsFault::Subtrees));
        assert_eq!(tree(1, 1, 64, known(&["/a/b"])), Some(SettingsFault::SubtreeDepth));
        assert_eq!(tree(1, 1, 64, known(&["/b", "/a", "/b/"])), Some(SettingsFault::SubtreeTwice));
    }

    #[test]
    fn subtrees_that_no_path_leads_to_are_refused() {
        for path in ["", "a", "/", "//", "/a//b", "/a?b", "/a#b", &format!("/{}", "a".repeat(1024))] {
            assert_eq!(KnownSubtree::new(path, 1, 1), Err(SettingsFault::SubtreePath), "{path}");
        }
        assert_eq!(KnownSubtree::new("/a", 1, 0), Err(SettingsFault::SubtreeCost));
        assert_eq!(KnownSubtree::new("/a", 1, 1001), Err(SettingsFault::SubtreeCost));
        assert_eq!(KnownSubtree::new("/a/", 1, 1000), KnownSubtree::new("/a", 1, 1000), "one way to say it");
    }
}
