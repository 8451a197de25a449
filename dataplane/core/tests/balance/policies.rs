//! One of each policy, and of some two.

use baton_core::policy::balance::{
    ContentAndLoadSettings, HashOn, HostWeights, KnownSubtree, LardReplicatedSettings, LardSettings,
    MaglevSettings, PolicySettings, RaccCost, RaccSettings, TrafficUnit,
};

/// Each policy, with small tables, so that they overflow.
pub(crate) fn all() -> Vec<PolicySettings> {
    let maglev = |bound| MaglevSettings::new(HashOn::Path, bound).expect("good settings");
    let lard = LardSettings::new(HashOn::Url, 2, 5, 64).expect("good settings");
    let known = vec![
        KnownSubtree::new("/a/b", 7, 3).expect("a subtree"),
        KnownSubtree::new("/c", 1 << 40, 1000).expect("a subtree"),
    ];
    let racc = |cost, known| RaccSettings::new(3, 1, 64, cost, known).expect("good settings");
    vec![
        PolicySettings::RoundRobin,
        PolicySettings::WeightedRoundRobin,
        PolicySettings::LeastConnections,
        PolicySettings::LeastTraffic(TrafficUnit::Bytes),
        PolicySettings::LeastTraffic(TrafficUnit::Packets),
        PolicySettings::WeightedLeastLoad(HostWeights::Configured),
        PolicySettings::WeightedLeastLoad(HostWeights::Reported),
        PolicySettings::FastestResponse,
        PolicySettings::TwoChoices,
        PolicySettings::ClientHash,
        PolicySettings::Maglev(maglev(None)),
        PolicySettings::Maglev(maglev(Some(101))),
        PolicySettings::UrlHash,
        PolicySettings::Lard(lard.clone()),
        PolicySettings::LardReplicated(LardReplicatedSettings::new(lard, 1).expect("good settings")),
        PolicySettings::Cap,
        PolicySettings::Racc(racc(RaccCost::Requests, known)),
        PolicySettings::Racc(racc(RaccCost::Traffic, vec![])),
        PolicySettings::ContentAndLoad(ContentAndLoadSettings::new(HashOn::Path, 3).expect("good settings")),
    ]
}
