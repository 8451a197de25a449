//! Collecting what is wrong with the values of a configuration: all of it, each with its key.

use std::fmt;
use std::ops::RangeInclusive;

use super::raw::Number;

/// One value that is wrong, or missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, as a path: `vip[0].port`, positions counted from 0.
    pub key: String,
    /// What stands there; `None` if nothing does.
    pub found: Option<String>,
    /// What should stand there instead.
    pub instead: Instead,
}

/// What should stand at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// A value such as this.
    Value(&'static str),
    /// What is wrong with the value, and what to do, in a sentence of its own.
    Sentence(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, found, instead } = self;
        match (found, instead) {
            (Some(found), Instead::Value(allowed)) => write!(f, "{key}: found {found}, allowed is {allowed}"),
            (None, Instead::Value(allowed)) => write!(f, "{key}: missing, allowed is {allowed}"),
            (Some(found), Instead::Sentence(sentence)) => write!(f, "{key} = {found}: {sentence}"),
            (None, Instead::Sentence(sentence)) => write!(f, "{key}: {sentence}"),
        }
    }
}

/// The faults found so far.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub(super) fn note(&mut self, key: &str, found: impl Into<Option<String>>, allowed: &'static str) {
        self.0.push(Fault { key: key.to_owned(), found: found.into(), instead: Instead::Value(allowed) });
    }

    /// Notes what is wrong with a value, in a sentence of its own.
    pub(super) fn note_sentence(&mut self, key: &str, found: &str, sentence: String) {
        let instead = Instead::Sentence(sentence);
        self.0.push(Fault { key: key.to_owned(), found: Some(quoted(found)), instead });
    }

    /// Takes a text that must be there, and whatever `take` makes of it.
    pub(super) fn text<T>(
        &mut self,
        key: &str,
        found: Option<&str>,
        allowed: &'static str,
        take: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let taken = found.and_then(take);
        if taken.is_none() {
            self.note(key, found.map(quoted), allowed);
        }
        taken
    }

    /// Takes a number in `range`; `default` if there is none, and without a default there must be one.
    pub(super) fn number<N: TryFrom<i64> + PartialOrd>(
        &mut self,
        key: &str,
        found: Option<Number>,
        default: Option<N>,
        range: &RangeInclusive<N>,
        allowed: &'static str,
    ) -> Option<N> {
        let taken = match found {
            Some(Number(number)) => N::try_from(number).ok().filter(|number| range.contains(number)),
            None => default,
        };
        if taken.is_none() {
            self.note(key, found.map(|Number(number)| quoted(number)), allowed);
        }
        taken
    }

    /// Returns what was made of the values if nothing is wrong with any.
    pub(super) fn judge<T>(self, made: Option<T>) -> Result<T, Vec<Fault>> {
        match made {
            Some(made) if self.0.is_empty() => Ok(made),
            _ => Err(self.0),
        }
    }
}

/// Shows what was found.
pub(super) fn quoted(found: impl fmt::Display) -> String {
    format!("`{found}`")
}
