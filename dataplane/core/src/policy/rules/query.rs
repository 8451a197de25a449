//! Query parameters, and conditions on them.

use core::fmt;

use super::value::{Allowed, FieldError, FieldMatch, ValueMatch};

/// Goes over the parameters of a query, as name and value, in the order they came.
///
/// What a query means is the server's business (RFC 3986, section 3.4); this reads it as forms write it: parameters between
/// `&`, the name up to the first `=`, an empty value without. Nothing is decoded: `%61` is not `a`, and `+` is no blank.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query
        .split('&')
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .filter(|(name, _)| !name.is_empty())
}

/// A query parameter to look for. Names and values are compared byte by byte, undecoded. Where several parameters have the
/// name, one of them must have the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMatch(FieldMatch);

impl QueryMatch {
    /// Looks for a parameter of this name.
    ///
    /// # Errors
    /// If no parameter can have the name or the value.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, FieldError> {
        FieldMatch::new(name, Allowed::ParameterName, value, Allowed::ParameterValue).map(Self)
    }

    /// Says whether there is such a parameter.
    pub fn matches(&self, query: Option<&str>) -> bool {
        let is_it =
            |(name, value): (&str, &str)| name == &*self.0.name && self.0.value.matches(value.as_bytes());
        query.is_some_and(|query| parameters(query).any(is_it))
    }

    /// Says whether every request that has what `other` looks for has what this looks for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0, str::eq)
    }
}

impl fmt::Display for QueryMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_parameters_of_a_name_has_the_value_undecoded() {
        let ours = [
            QueryMatch::new("id", ValueMatch::Present),
            QueryMatch::new("id", ValueMatch::Exact("7".into())),
            QueryMatch::new("id", ValueMatch::Prefix("7".into())),
            QueryMatch::new("id", ValueMatch::Exact("%37".into())),
        ]
        .map(|query| query.expect("a parameter"));
        for (query, expected) in [
            (Some("id=7"), [true, true, true, false]),
            (Some("a=b&id=7&c"), [true, true, true, false]),
            (Some("id=8&id=7"), [true, true, true, false]),
            (Some("id=77"), [true, false, true, false]),
            (Some("id=%37"), [true, false, false, true]),
            (Some("id"), [true, false, false, false]),
            (Some("id="), [true, false, false, false]),
            (Some("i%64=7"), [false, false, false, false]),
            (Some("ID=7&xid=7&ids=7"), [false, false, false, false]),
            (Some("a=id=7"), [false, false, false, false]),
            (Some("=7&&id=7=7"), [true, false, true, false]),
            (Some(""), [false, false, false, false]),
            (None, [false, false, false, false]),
        ] {
            assert_eq!(ours.each_ref().map(|ours| ours.matches(query)), expected, "{query:?}");
        }
        assert_eq!(
            QueryMatch::new("a&b", ValueMatch::Present),
            Err(FieldError::Name(Allowed::ParameterName))
        );
        let two = ValueMatch::Exact("1&b=2".into());
        assert_eq!(QueryMatch::new("a", two), Err(FieldError::Value(Allowed::ParameterValue)));
    }
}
