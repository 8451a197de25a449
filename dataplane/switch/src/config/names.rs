//! What the configuration's things are called, and finding them by that.

use std::collections::HashMap;

use super::faults::{Findings, quoted};

/// Longest name of a VIP, a backend, a pool or a class, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// How many names are listed where one is wanted that does not exist.
const LISTED_MAX: usize = 16;

/// The names of one section, in their order.
#[derive(Debug)]
pub(super) struct Names<'a> {
    section: &'static str,
    /// The first of each.
    positions: HashMap<&'a str, u16>,
    /// As they stand, each once; those that are missing are not here.
    listed: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// Checks the names of a section and takes them in.
    pub(super) fn check(
        section: &'static str,
        found: impl Iterator<Item = Option<&'a str>>,
        findings: &mut Findings,
    ) -> Self {
        let allowed = format!("1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.' are allowed");
        let mut names = Self { section, positions: HashMap::new(), listed: Vec::new() };
        // More are a fault of their own.
        for (position, name) in (0..=u16::MAX).zip(found) {
            let key = format!("{section}[{position}].name");
            let Some(name) = findings.required(&key, name, &allowed) else { continue };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
                findings.fault(key, quoted(name), &allowed);
            } else if let Some(first) = names.positions.get(name) {
                let allowed = format!("{section}[{first}] has this name already; names must differ");
                findings.fault(key, quoted(name), allowed);
                continue;
            }
            names.positions.entry(name).or_insert(position);
            names.listed.push(name);
        }
        names
    }

    /// Finds the position of a name, or reports which there are.
    pub(super) fn find(&self, name: &str, key: &str, findings: &mut Findings) -> Option<u16> {
        if let Some(position) = self.positions.get(name) {
            return Some(*position);
        }
        let there_are = there_are(self.listed.iter().copied());
        findings.fault(key, quoted(name), format!("no [[{}]] has this name; {there_are}", self.section));
        None
    }
}

/// Says which names there are, of which an operator might have meant one.
pub(crate) fn there_are<'a>(names: impl Iterator<Item = &'a str>) -> String {
    listed(names).map_or_else(|| "there is none at all".to_owned(), |listed| format!("there are {listed}"))
}

/// Lists names, the first of them if they are many; `None` if there are none.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut names = names.filter(|name| !name.is_empty());
    let mut listed: Vec<String> = names.by_ref().take(LISTED_MAX).map(str::to_owned).collect();
    let rest = names.count();
    if rest > 0 {
        listed.push(format!("{rest} more"));
    }
    (!listed.is_empty()).then(|| listed.join(", "))
}

/// Says of a section that stands any number of times how often it may.
pub(super) fn count(section: &str, found: usize, max: usize, findings: &mut Findings) {
    let key = format!("[[{section}]]");
    if found > max {
        findings.fault(key, "", format!("{found} of them; at most {max} are allowed"));
    }
}

/// Insists on a section.
pub(super) fn at_least_one(section: &str, found: usize, findings: &mut Findings) {
    if found == 0 {
        findings.fault(format!("[[{section}]]"), "", "at least one is needed");
    }
}

/// Returns what is written; nothing where a required text is missing, which is a fault already.
pub(super) fn text(found: &Option<String>) -> &str {
    found.as_deref().unwrap_or_default()
}
