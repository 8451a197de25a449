//! How a pool chooses: the policy's name and its own settings.

use core::ops::RangeInclusive;

use baton_core::policy::balance::{
    ContentAndLoadSettings, HashOn, HostWeights, KnownSubtree, LardReplicatedSettings, LardSettings,
    MaglevSettings, PolicySettings, RaccCost, RaccSettings, SettingsFault, TrafficUnit,
};

use super::faults::{Findings, quoted};
use super::names::text;
use super::raw::{RawHash, RawPolicy, RawSubtree, TextOr, Worded as _};

/// Every policy, and the settings it has.
const POLICIES: [(&str, &[&str]); 15] = [
    ("round-robin", &[]),
    ("weighted-round-robin", &[]),
    ("least-connections", &[]),
    ("least-traffic", &["count"]),
    ("weighted-least-load", &["weights"]),
    ("fastest-response", &[]),
    ("two-choices", &[]),
    ("client-hash", &[]),
    ("maglev", &["hash", "bounded_load_percent"]),
    ("url-hash", &[]),
    ("lard", &["hash", "low", "high", "targets_max"]),
    ("lard-replicated", &["hash", "low", "high", "targets_max", "replicate_s"]),
    ("cap", &[]),
    ("racc", &["depth", "interval_s", "subtrees_max", "cost", "subtrees"]),
    ("content-and-load", &["hash", "candidates"]),
];

const THRESHOLD: RangeInclusive<u32> = 1..=1_000_000;
const REPLICATE_S: RangeInclusive<u32> = 1..=86_400;
const INTERVAL_S: RangeInclusive<u32> = 1..=3_600;
const SUBTREE_BYTES: RangeInclusive<u64> = 0..=(1 << 50);
const SUBTREE_COST: RangeInclusive<u16> = 1..=1_000;

/// Checks `policy` of a pool. A faulty one becomes turns.
pub(super) fn policy(raw: Option<&TextOr<RawPolicy>>, key: &str, findings: &mut Findings) -> PolicySettings {
    let bare;
    let (raw, name, name_key) = match raw {
        None => return PolicySettings::default(),
        Some(TextOr::Text(name)) => {
            bare = RawPolicy::default();
            (&bare, name.as_str(), key.to_owned())
        }
        Some(TextOr::Table(table)) => {
            let name_key = format!("{key}.name");
            let needed = "the name of a policy is needed, such as \"round-robin\"";
            let Some(name) = findings.required(&name_key, table.name.as_deref(), needed) else {
                return PolicySettings::default();
            };
            (table, name, name_key)
        }
    };
    let Some((_, settings)) = POLICIES.iter().find(|(known, _)| *known == name) else {
        let known = POLICIES.map(|(known, _)| quoted(known)).join(", ");
        findings.fault(name_key, quoted(name), format!("allowed are {known}"));
        return PolicySettings::default();
    };
    foreign_settings(raw, name, settings, key, findings);
    let mut read = Reader { raw, key, findings };
    match read.settings(name) {
        Ok(settings) => settings,
        Err(fault) => {
            let found = toml::Value::try_from(raw).map(|table| table.to_string()).unwrap_or_default();
            read.findings.fault(key, found, fault.to_string());
            PolicySettings::default()
        }
    }
}

/// Refuses settings of other policies.
fn foreign_settings(raw: &RawPolicy, name: &str, own: &[&str], key: &str, findings: &mut Findings) {
    let given = toml::Table::try_from(raw).unwrap_or_default();
    for (setting, value) in given.iter().filter(|(setting, _)| *setting != "name") {
        if !own.contains(&setting.as_str()) {
            let has = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
            let allowed = format!("no setting of \"{name}\", which has {has}");
            findings.fault(format!("{key}.{setting}"), value, allowed);
        }
    }
}

/// Reads the settings of one policy.
struct Reader<'a, 'f> {
    raw: &'a RawPolicy,
    key: &'a str,
    findings: &'f mut Findings,
}

impl Reader<'_, '_> {
    /// Reads the settings of the policy of this name, which is known.
    fn settings(&mut self, name: &str) -> Result<PolicySettings, SettingsFault> {
        Ok(match name {
            "weighted-round-robin" => PolicySettings::WeightedRoundRobin,
            "least-connections" => PolicySettings::LeastConnections,
            "least-traffic" => {
                let words = [("bytes", TrafficUnit::Bytes), ("packets", TrafficUnit::Packets)];
                PolicySettings::LeastTraffic(self.word("count", &self.raw.count, &words))
            }
            "weighted-least-load" => {
                let words = [("configured", HostWeights::Configured), ("reported", HostWeights::Reported)];
                PolicySettings::WeightedLeastLoad(self.word("weights", &self.raw.weights, &words))
            }
            "fastest-response" => PolicySettings::FastestResponse,
            "two-choices" => PolicySettings::TwoChoices,
            "client-hash" => PolicySettings::ClientHash,
            "maglev" => {
                let range = MaglevSettings::BOUNDED_LOAD_PERCENT;
                let bound = self.raw.bounded_load_percent;
                let bound = bound.map(|found| self.number("bounded_load_percent", Some(found), 125, range));
                PolicySettings::Maglev(MaglevSettings::new(self.hash(HashOn::Path), bound)?)
            }
            "url-hash" => PolicySettings::UrlHash,
            "lard" => PolicySettings::Lard(self.lard()?),
            "lard-replicated" => {
                let replicate_s = self.raw.replicate_s;
                let default = LardReplicatedSettings::REPLICATE_S;
                let replicate_s = self.number("replicate_s", replicate_s, default, REPLICATE_S);
                PolicySettings::LardReplicated(LardReplicatedSettings::new(self.lard()?, replicate_s)?)
            }
            "cap" => PolicySettings::Cap,
            "racc" => PolicySettings::Racc(self.racc()?),
            "content-and-load" => {
                let range = 2..=ContentAndLoadSettings::CANDIDATES_MAX;
                let default = ContentAndLoadSettings::CANDIDATES;
                let candidates = self.number("candidates", self.raw.candidates, default, range);
                let hash = self.hash(HashOn::Path);
                PolicySettings::ContentAndLoad(ContentAndLoadSettings::new(hash, candidates)?)
            }
            _ => PolicySettings::RoundRobin,
        })
    }

    fn number<N>(&mut self, name: &str, found: Option<i64>, default: N, range: RangeInclusive<N>) -> N
    where
        N: TryFrom<i64> + PartialOrd + core::fmt::Display + Copy,
    {
        self.findings.number(&format!("{}.{name}", self.key), found, default, range)
    }

    /// Takes one of some words, of which the first is the default.
    fn word<T: Copy + Default>(&mut self, name: &str, found: &Option<String>, words: &[(&str, T)]) -> T {
        let Some(found) = found else { return T::default() };
        if let Some((_, meant)) = words.iter().find(|(word, _)| word == found) {
            return *meant;
        }
        let allowed: Vec<String> = words.iter().map(|(word, _)| quoted(word)).collect();
        let key = format!("{}.{name}", self.key);
        self.findings.fault(key, quoted(found), format!("allowed are {}", allowed.join(" and ")));
        T::default()
    }

    fn hash(&mut self, default: HashOn) -> HashOn {
        let key = format!("{}.hash", self.key);
        match &self.raw.hash {
            None => default,
            Some(TextOr::Text(word)) => match word.as_str() {
                "client" => HashOn::Client,
                "path" => HashOn::Path,
                "url" => HashOn::Url,
                "host" => HashOn::Host,
                "server-name" => HashOn::ServerName,
                other => {
                    self.findings.fault(key, quoted(other), format!("allowed are {}", RawHash::EXPECTED));
                    default
                }
            },
            Some(TextOr::Table(RawHash { cookie: Some(name), header: None })) => {
                self.hash_of(name, &format!("{key}.cookie"), HashOn::cookie(name), default)
            }
            Some(TextOr::Table(RawHash { cookie: None, header: Some(name) })) => {
                self.hash_of(name, &format!("{key}.header"), HashOn::header(name), default)
            }
            Some(TextOr::Table(_)) => {
                self.findings.fault(key, "", "either the name of a cookie or that of a header is needed");
                default
            }
        }
    }

    fn hash_of(
        &mut self,
        name: &str,
        key: &str,
        read: Result<HashOn, SettingsFault>,
        default: HashOn,
    ) -> HashOn {
        read.unwrap_or_else(|fault| {
            self.findings.fault(key, quoted(name), fault.to_string());
            default
        })
    }

    fn lard(&mut self) -> Result<LardSettings, SettingsFault> {
        let RawPolicy { low, high, targets_max, .. } = self.raw;
        let low = self.number("low", *low, LardSettings::LOW, THRESHOLD);
        let high = self.number("high", *high, LardSettings::HIGH, THRESHOLD);
        let targets_max =
            self.number("targets_max", *targets_max, LardSettings::TARGETS, LardSettings::TARGETS_MAX);
        if low >= high {
            let allowed = format!("more than low, which is {low}, is needed");
            self.findings.fault(format!("{}.high", self.key), high, allowed);
            return Ok(LardSettings::default());
        }
        LardSettings::new(self.hash(HashOn::Url), low, high, targets_max)
    }

    fn racc(&mut self) -> Result<RaccSettings, SettingsFault> {
        let raw = self.raw;
        let depth = self.number("depth", raw.depth, RaccSettings::DEPTH, 1..=RaccSettings::DEPTH_MAX);
        let interval_s = self.number("interval_s", raw.interval_s, RaccSettings::INTERVAL_S, INTERVAL_S);
        let range = RaccSettings::SUBTREES_MAX;
        let subtrees_max = self.number("subtrees_max", raw.subtrees_max, RaccSettings::SUBTREES, range);
        let words = [("requests", RaccCost::Requests), ("traffic", RaccCost::Traffic)];
        let cost = self.word("cost", &raw.cost, &words);
        let mut known = Vec::new();
        for (position, entry) in raw.subtrees.iter().flatten().enumerate() {
            known.extend(self.subtree(position, entry));
        }
        RaccSettings::new(depth, interval_s, subtrees_max, cost, known)
    }

    fn subtree(&mut self, position: usize, entry: &RawSubtree) -> Option<KnownSubtree> {
        let name = |name: &str| format!("subtrees[{position}].{name}");
        let bytes = self.number(&name("bytes"), entry.bytes, 0, SUBTREE_BYTES);
        let cost = self.number(&name("cost"), entry.cost, 1, SUBTREE_COST);
        let key = format!("{}.{}", self.key, name("path"));
        let path =
            self.findings.required(&key, entry.path.as_deref(), "a path such as \"/images\" is needed")?;
        KnownSubtree::new(path, bytes, cost)
            .map_err(|fault| self.findings.fault(key, quoted(text(&entry.path)), fault.to_string()))
            .ok()
    }
}
