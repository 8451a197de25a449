//! Conditions on header fields.

use core::fmt;

use super::value::{Allowed, FieldError, FieldMatch, ValueMatch};
use crate::policy::Field;

/// A header field to look for. Names are compared without regard to ASCII case (RFC 9110, section 5.1), values byte by byte.
/// Where several fields have the name, one of them must have the value: lists are not taken apart at their commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch(FieldMatch);

impl HeaderMatch {
    /// Looks for a field of this name.
    ///
    /// # Errors
    /// If no field can have the name or the value.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, FieldError> {
        FieldMatch::new(name, Allowed::Token, value, Allowed::FieldValue).map(Self)
    }

    /// Says whether there is such a field.
    pub fn matches(&self, fields: &[Field<'_>]) -> bool {
        let named = |field: &&Field<'_>| field.name.eq_ignore_ascii_case(&self.0.name);
        fields.iter().filter(named).any(|field| self.0.value.matches(field.value))
    }

    /// Says whether every request that has what `other` looks for has what this looks for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0, str::eq_ignore_ascii_case)
    }
}

impl fmt::Display for HeaderMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_fields_of_a_name_in_any_case_has_the_value_as_written() {
        let ours = [
            HeaderMatch::new("X-Beta", ValueMatch::Present),
            HeaderMatch::new("x-beta", ValueMatch::Exact("1".into())),
            HeaderMatch::new("x-beta", ValueMatch::Prefix("Yes".into())),
            HeaderMatch::new("x-beta", ValueMatch::Exact(String::new())),
        ]
        .map(|header| header.expect("a field"));
        for (fields, expected) in [
            (&[("Accept", "*/*"), ("X-BETA", "1")][..], [true, true, false, false]),
            (&[("x-beta", "2"), ("X-Beta", "1")], [true, true, false, false]),
            (&[("x-beta", "Yes, 1")], [true, false, true, false]),
            (&[("x-beta", "yes")], [true, false, false, false]),
            (&[("x-beta", "")], [true, false, false, true]),
            (&[("x-bet", "1"), ("x-betas", "1")], [false, false, false, false]),
            (&[], [false, false, false, false]),
        ] {
            let fields: Vec<Field<'_>> =
                fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
            assert_eq!(ours.each_ref().map(|ours| ours.matches(&fields)), expected, "{fields:?}");
        }
        assert_eq!(ours.map(|ours| ours.to_string()), ["X-Beta", "x-beta=1", "x-beta=Yes*", "x-beta="]);
    }

    #[test]
    fn what_no_field_has_is_refused() {
        let long = "a".repeat(257);
        for (name, value, expected) in [
            ("", ValueMatch::Present, FieldError::Name(Allowed::Token)),
            ("X Beta", ValueMatch::Present, FieldError::Name(Allowed::Token)),
            ("X-Beta:", ValueMatch::Present, FieldError::Name(Allowed::Token)),
            (&long, ValueMatch::Present, FieldError::NameTooLong(257)),
            ("X", ValueMatch::Exact(" 1".into()), FieldError::Value(Allowed::FieldValue)),
            ("X", ValueMatch::Exact("1 ".into()), FieldError::Value(Allowed::FieldValue)),
            ("X", ValueMatch::Exact("1\r\nY: 2".into()), FieldError::Value(Allowed::FieldValue)),
            ("X", ValueMatch::Prefix(String::new()), FieldError::EmptyPrefix),
            ("X", ValueMatch::Exact("a".repeat(4097)), FieldError::ValueTooLong(4097)),
        ] {
            assert_eq!(HeaderMatch::new(name, value.clone()), Err(expected), "{name}: {value:?}");
        }
        assert!(HeaderMatch::new("User-Agent", ValueMatch::Prefix("Mozilla/5.0 ".into())).is_ok());
    }
}
