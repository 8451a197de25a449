//! `[[pool]]`: backends that can serve the same requests.

use std::collections::HashSet;

use baton_core::policy::balance::MEMBERS_MAX;
use baton_core::policy::{Affinity, BackendIndex, CookieMatch, Member, Pool, ValueMatch};

use super::backends::WEIGHT;
use super::faults::{Findings, quoted};
use super::names::{Names, text};
use super::policies;
use super::raw::{RawMember, RawPool, RawSticky, TextOr, Worded as _};
use crate::control::{NamedBackend, NamedPool};

/// What is said of a pool without members.
const ONE_BACKEND: &str = "at least one backend is needed";

/// Checks the pools. `places` are those of the backends, in the order of the file.
pub(super) fn pools(
    raw: &[RawPool],
    names: &Names<'_>,
    backends: &[NamedBackend],
    places: &[BackendIndex],
    findings: &mut Findings,
) -> Vec<NamedPool> {
    (0..).zip(raw).map(|(position, entry)| pool(position, entry, names, backends, places, findings)).collect()
}

fn pool(
    position: usize,
    entry: &RawPool,
    names: &Names<'_>,
    backends: &[NamedBackend],
    places: &[BackendIndex],
    findings: &mut Findings,
) -> NamedPool {
    let members = members(position, entry, names, backends, places, findings);
    let policy = policies::policy(entry.policy.as_ref(), &format!("pool[{position}].policy"), findings);
    if (policy.members_max() + 1..=MEMBERS_MAX).contains(&members.len()) {
        let allowed = format!(
            "{} of them; with policy {:?} there are at most {}",
            members.len(),
            policy.name(),
            policy.members_max()
        );
        findings.fault(format!("pool[{position}].backends"), "", allowed);
    }
    let key = format!("pool[{position}].sticky");
    let affinity =
        entry.sticky.as_ref().and_then(|sticky| affinity(sticky, &key, &members, backends, places, findings));
    NamedPool { name: text(&entry.name).to_owned(), pool: Pool { members, policy, affinity } }
}

fn members(
    position: usize,
    entry: &RawPool,
    names: &Names<'_>,
    backends: &[NamedBackend],
    places: &[BackendIndex],
    findings: &mut Findings,
) -> Vec<Member> {
    let key = format!("pool[{position}].backends");
    let Some(listed) = findings.required(&key, entry.backends.as_deref(), ONE_BACKEND) else {
        return Vec::new();
    };
    if listed.is_empty() {
        findings.fault(&key, "[]", ONE_BACKEND);
    }
    if listed.len() > MEMBERS_MAX {
        findings.fault(&key, "", format!("{} of them; at most {MEMBERS_MAX} are allowed", listed.len()));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut members = Vec::new();
    for (place, written) in listed.iter().enumerate() {
        let key = format!("{key}[{place}]");
        let (name, name_key, weight) = match written {
            TextOr::Text(name) => (Some(name.as_str()), key.clone(), None),
            TextOr::Table(RawMember { name, weight }) => (name.as_deref(), format!("{key}.name"), *weight),
        };
        let needed = "the name of a [[backend]] is needed";
        let Some(name) = findings.required(&name_key, name, needed) else { continue };
        let Some(index) = names.find(name, &name_key, findings) else { continue };
        if !seen.insert(index) {
            findings.fault(name_key, quoted(name), "this backend is in the pool already");
            continue;
        }
        let own = backends.get(usize::from(index)).map_or(1, |backend| backend.weight);
        let weight = findings.number(&format!("{key}.weight"), weight, own, WEIGHT);
        // Without a place there is a fault already.
        let backend = places.get(usize::from(index)).copied().unwrap_or_default();
        members.push(Member { backend, weight, identity: Member::identity_of(name) });
    }
    members
}

/// Checks what keeps clients at their backend.
fn affinity(
    sticky: &TextOr<RawSticky>,
    key: &str,
    members: &[Member],
    backends: &[NamedBackend],
    places: &[BackendIndex],
    findings: &mut Findings,
) -> Option<Affinity> {
    let mut cookie = |which: &str, name: &String| {
        // Any value will do: only the name is looked at here.
        if let Err(fault) = CookieMatch::new(name, ValueMatch::Present) {
            findings.fault(format!("{key}.{which}"), quoted(name), fault.to_string());
        }
        name.clone()
    };
    match sticky {
        TextOr::Text(word) if word == "client" => Some(Affinity::Client),
        TextOr::Text(word) if word == "tls-session" => Some(Affinity::TlsSession),
        TextOr::Text(other) => {
            findings.fault(key, quoted(other), format!("allowed are {}", RawSticky::EXPECTED));
            None
        }
        TextOr::Table(RawSticky { cookie: Some(name), cookie_route: None }) => {
            Some(Affinity::Cookie { name: cookie("cookie", name) })
        }
        TextOr::Table(RawSticky { cookie: None, cookie_route: Some(name) }) => {
            let is_member = |place: &BackendIndex| members.iter().any(|member| member.backend == *place);
            let named = backends.iter().zip(places).filter(|(_, place)| is_member(place));
            let labels = named.map(|(backend, place)| (backend.name.clone(), *place)).collect();
            Some(Affinity::CookieRoute { name: cookie("cookie_route", name), labels })
        }
        TextOr::Table(_) => {
            findings.fault(key, "", "either cookie or cookie_route is needed, with the name of a cookie");
            None
        }
    }
}
