//! Cookies, and conditions on them.

use core::fmt;

use super::value::{Allowed, FieldError, FieldMatch, ValueMatch};
use crate::policy::{Field, cookies};

/// A cookie to look for. Names and values are compared byte by byte. Where several cookies have the name (they may, with
/// different paths: RFC 6265, section 5.4), one of them must have the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieMatch(FieldMatch);

impl CookieMatch {
    /// Looks for a cookie of this name.
    ///
    /// # Errors
    /// If no cookie can have the name or the value.
    pub fn new(name: &str, value: ValueMatch) -> Result<Self, FieldError> {
        FieldMatch::new(name, Allowed::CookieName, value, Allowed::CookieValue).map(Self)
    }

    /// Says whether there is such a cookie.
    pub fn matches(&self, fields: &[Field<'_>]) -> bool {
        cookies(fields).any(|(name, value)| name == self.0.name.as_bytes() && self.0.value.matches(value))
    }

    /// Says whether every request that has what `other` looks for has what this looks for.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0, str::eq)
    }
}

impl fmt::Display for CookieMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_taken_apart_at_semicolons_and_the_first_equals_sign() {
        for (fields, expected) in [
            // RFC 6265, section 3.1.
            (
                &["SID=31d4d96e407aad42; lang=en-US"][..],
                &[("SID", "31d4d96e407aad42"), ("lang", "en-US")][..],
            ),
            (&["a=1;b=2 ;\t c = 3"], &[("a", "1"), ("b", "2"), ("c", "3")]),
            (&["a==1=; a=\"x y\""], &[("a", "=1="), ("a", "\"x y\"")]),
            (&["; ;a=;=1;b;"], &[("a", "")]),
            (&["a=1", "b=2"], &[("a", "1"), ("b", "2")]),
            (&[""], &[]),
        ] {
            let fields: Vec<Field<'_>> =
                fields.iter().map(|value| Field { name: "COOKIE", value: value.as_bytes() }).collect();
            let found: Vec<_> = cookies(&fields).collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            assert_eq!(found, expected);
        }
        assert_eq!(cookies(&[Field { name: "Set-Cookie", value: b"a=1" }]).count(), 0);
    }

    #[test]
    fn one_of_the_cookies_of_a_name_has_the_value() {
        let ours = [
            CookieMatch::new("group", ValueMatch::Present),
            CookieMatch::new("group", ValueMatch::Exact("gold".into())),
            CookieMatch::new("group", ValueMatch::Prefix("g".into())),
        ]
        .map(|cookie| cookie.expect("a cookie"));
        for (value, expected) in [
            ("group=gold", [true, true, true]),
            ("group=silver; group=gold", [true, true, true]),
            ("group=golden", [true, false, true]),
            ("group=", [true, false, false]),
            ("Group=gold; xgroup=gold; groups=gold", [false, false, false]),
            ("id=group=gold", [false, false, false]),
            ("group", [false, false, false]),
        ] {
            let fields = [Field { name: "cookie", value: value.as_bytes() }];
            assert_eq!(ours.each_ref().map(|ours| ours.matches(&fields)), expected, "{value}");
        }
        assert_eq!(CookieMatch::new("a=b", ValueMatch::Present), Err(FieldError::Name(Allowed::CookieName)));
        let two = ValueMatch::Exact("a; b".into());
        assert_eq!(CookieMatch::new("a", two), Err(FieldError::Value(Allowed::CookieValue)));
    }
}
