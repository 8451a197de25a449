//! Which rules are worth a look: found by what the request says, not by going over them all.
//!
//! Each rule stands in exactly one list (one for each end of paths it names, of which a path has one at most), by what its
//! conditions compare most tellingly:
//!
//! 1. by its VIP, or among those of every VIP;
//! 2. there, by its host, or its server name, or among those that name none: a tree of names, read from their end, in which a
//!    wildcard is a name that goes on;
//! 3. there, by its path: a tree of beginnings and whole paths, a tree of ends read backwards, and a list of rules that
//!    compare no path, or one by regular expression.
//!
//! A request meets the lists that its own VIP, names and path lead to. Whoever asks then looks at the rules in them; other
//! conditions have no say here. A list is in the rules' order, and the first rule of all is the least of the first that hold
//! in each: once one holds, of every other list only what stands before it needs a look.

use std::collections::BTreeMap;

use super::host::without_dot;
use super::trie::{Root, Text, Trie};
use super::{Conditions, PathMatch};
use crate::ids::VipIndex;
use crate::policy::{Content, Request};

/// The lists, and the ways to them.
#[derive(Debug, Default)]
pub(super) struct Index {
    trie: Trie,
    /// Positions of rules, ascending in each list, one list behind the other.
    rules: Vec<u16>,
    /// Where in `rules` each list ends; it begins where the one before ends.
    ends: Vec<u32>,
    /// Rules of one VIP, or of all, that name the same host, or none.
    groups: Vec<Group>,
    everywhere: Scope,
    /// By position of the VIP.
    vips: Vec<Scope>,
}

/// The rules of one VIP, or of all: groups by their names.
#[derive(Clone, Debug, Default)]
struct Scope {
    hosts: Option<Root>,
    server_names: Option<Root>,
    nameless: Option<u32>,
}

/// Lists by their paths.
#[derive(Debug)]
struct Group {
    /// A list.
    pathless: Option<u32>,
    /// Lists by whole paths and beginnings.
    forward: Option<Root>,
    /// Lists by ends.
    backward: Option<Root>,
}

/// By what rules are found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    /// `None` finds rules for every VIP only.
    vip: Option<VipIndex>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    server_name: Option<&'a str>,
}

impl<'a> Keys<'a> {
    /// Finds every rule whose conditions may hold for a request.
    pub(super) fn of_request(request: &Request<'a>) -> Self {
        let (mut host, mut path, mut server_name) = (None, None, None);
        match &request.content {
            Content::Http(http) => (host, path) = (http.host, Some(http.path)),
            Content::Tls(tls) => server_name = tls.server_name,
            Content::Unseen => {}
        }
        Self { vip: Some(request.vip), host, path, server_name }
    }

    /// Finds every rule that may cover these conditions: it compares with something that all their requests have.
    pub(super) fn of_conditions(conditions: &'a Conditions) -> Self {
        let end = |name: &'a Option<super::HostMatch>| name.as_ref().map(|name| name.end().0);
        let path = conditions.path.as_ref().and_then(|path| match path {
            PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Suffix(text) => Some(text.as_str()),
            // Who covers them all covers the first.
            PathMatch::Suffixes(ends) => ends.iter().next(),
            PathMatch::Regex(_) => None,
        });
        let (host, server_name) = (end(&conditions.host), end(&conditions.server_name));
        Self { vip: conditions.vip, host, path, server_name }
    }
}

impl Index {
    /// Sorts rules, in their order, into lists.
    pub(super) fn new<'a>(rules: impl Iterator<Item = (u16, &'a Conditions)>) -> Self {
        let mut draft: BTreeMap<Option<u16>, ScopeDraft> = BTreeMap::new();
        // What needs both is no request at all.
        for (position, conditions) in rules.filter(|(_, rule)| !(rule.need_http() && rule.need_tls())) {
            let scope = draft.entry(conditions.vip.map(|vip| vip.0)).or_default();
            let group = match (&conditions.host, &conditions.server_name) {
                (Some(host), _) => scope.hosts.entry(read_backwards(host.end())).or_default(),
                (None, Some(name)) => scope.server_names.entry(read_backwards(name.end())).or_default(),
                (None, None) => &mut scope.nameless,
            };
            let mut by_end =
                |end: &str| group.backward.entry(read_backwards((end, false))).or_default().push(position);
            match &conditions.path {
                Some(PathMatch::Exact(path)) => {
                    group.forward.entry(text(path, true)).or_default().push(position);
                }
                Some(PathMatch::Prefix(path)) => {
                    group.forward.entry(text(path, false)).or_default().push(position);
                }
                Some(PathMatch::Suffix(end)) => by_end(end),
                Some(PathMatch::Suffixes(ends)) => ends.iter().for_each(by_end),
                Some(PathMatch::Regex(_)) | None => group.pathless.push(position),
            }
        }
        let mut index = Self::default();
        for (vip, scope) in draft {
            let scope = index.add_scope(scope);
            match vip.map(usize::from) {
                None => index.everywhere = scope,
                Some(vip) => {
                    index.vips.resize(vip, Scope::default()); // they come in order
                    index.vips.push(scope);
                }
            }
        }
        index
    }

    fn add_scope(&mut self, draft: ScopeDraft) -> Scope {
        let hosts = self.add_names(draft.hosts);
        let server_names = self.add_names(draft.server_names);
        Scope { hosts, server_names, nameless: Some(self.add_group(draft.nameless)) }
    }

    fn add_names(&mut self, drafts: BTreeMap<Text, GroupDraft>) -> Option<Root> {
        let groups: Vec<(Text, u32)> =
            drafts.into_iter().map(|(name, draft)| (name, self.add_group(draft))).collect();
        self.trie.plant(&groups)
    }

    fn add_group(&mut self, draft: GroupDraft) -> u32 {
        let pathless = (!draft.pathless.is_empty()).then(|| self.add_list(&draft.pathless));
        let (forward, backward) = (self.add_paths(&draft.forward), self.add_paths(&draft.backward));
        let position = number(self.groups.len());
        self.groups.push(Group { pathless, forward, backward });
        position
    }

    fn add_paths(&mut self, drafts: &BTreeMap<Text, Vec<u16>>) -> Option<Root> {
        let lists: Vec<(Text, u32)> =
            drafts.iter().map(|(path, rules)| (path.clone(), self.add_list(rules))).collect();
        self.trie.plant(&lists)
    }

    fn add_list(&mut self, rules: &[u16]) -> u32 {
        let position = number(self.ends.len());
        self.rules.extend(rules);
        self.ends.push(number(self.rules.len()));
        position
    }

    /// Gives every list there may be a rule in.
    pub(super) fn lists(&self, keys: &Keys<'_>, mut each: impl FnMut(&[u16])) {
        let of_vip = keys.vip.and_then(|vip| self.vips.get(usize::from(vip.0)));
        for scope in of_vip.into_iter().chain([&self.everywhere]) {
            for (name, root) in [(keys.host, scope.hosts), (keys.server_name, scope.server_names)] {
                if let (Some(name), Some(root)) = (name, root) {
                    let letters = without_dot(name).bytes().rev().map(|byte| byte.to_ascii_lowercase());
                    self.trie.walk(root, letters, |group| self.lists_of(group, keys.path, &mut each));
                }
            }
            if let Some(group) = scope.nameless {
                self.lists_of(group, keys.path, &mut each);
            }
        }
    }

    fn lists_of(&self, group: u32, path: Option<&str>, each: &mut impl FnMut(&[u16])) {
        let Some(group) = usize::try_from(group).ok().and_then(|at| self.groups.get(at)) else { return };
        if let Some(list) = group.pathless {
            each(self.list(list));
        }
        let Some(path) = path else { return };
        if let Some(root) = group.forward {
            self.trie.walk(root, path.bytes(), |list| each(self.list(list)));
        }
        if let Some(root) = group.backward {
            self.trie.walk(root, path.bytes().rev(), |list| each(self.list(list)));
        }
    }

    fn list(&self, list: u32) -> &[u16] {
        let at = usize::try_from(list).unwrap_or(usize::MAX);
        let end = |at: usize| self.ends.get(at).and_then(|end| usize::try_from(*end).ok());
        let from = at.checked_sub(1).map_or(Some(0), end);
        from.zip(end(at)).and_then(|(from, to)| self.rules.get(from..to)).unwrap_or_default()
    }
}

/// Rules of one VIP, or of all, on the way into their lists.
#[derive(Default)]
struct ScopeDraft {
    hosts: BTreeMap<Text, GroupDraft>,
    server_names: BTreeMap<Text, GroupDraft>,
    nameless: GroupDraft,
}

#[derive(Default)]
struct GroupDraft {
    pathless: Vec<u16>,
    forward: BTreeMap<Text, Vec<u16>>,
    backward: BTreeMap<Text, Vec<u16>>,
}

fn text(text: &str, is_whole: bool) -> Text {
    Text { bytes: text.as_bytes().to_vec(), is_whole }
}

fn read_backwards((text, is_whole): (&str, bool)) -> Text {
    Text { bytes: text.bytes().rev().collect(), is_whole }
}

/// Narrows a position: there are fewer lists and groups than a hundred times the rules, whose positions have 16 bits.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
