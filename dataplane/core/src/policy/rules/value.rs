//! What header fields, cookies and query parameters have in common: a name, and what is asked of the value.

use core::fmt;

/// Longest name of a header field, a cookie or a parameter to compare with, in bytes.
pub const FIELD_NAME_BYTES_MAX: usize = 256;
/// Longest value to compare with, in bytes.
pub const FIELD_VALUE_BYTES_MAX: usize = 4096;

/// What is asked of a value. Values are compared byte by byte, as they stand in the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// That there is one.
    Present,
    /// The whole of it.
    Exact(String),
    /// Its beginning.
    Prefix(String),
}

/// Why a name and a value are nothing to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It has no name, or one that no request can have.
    #[error("a name as it stands in requests is needed: {0}")]
    Name(Allowed),
    /// The name is too long.
    #[error("a name has at most {FIELD_NAME_BYTES_MAX} bytes, this one has {0}")]
    NameTooLong(usize),
    /// Its value has what no request can have there.
    #[error("a value as it stands in requests is needed: {0}")]
    Value(Allowed),
    /// The value is too long.
    #[error("a value has at most {FIELD_VALUE_BYTES_MAX} bytes, this one has {0}")]
    ValueTooLong(usize),
    /// The beginning has no bytes, so that every value has it.
    #[error("the beginning of a value is needed; leave it out, if every value will do")]
    EmptyPrefix,
}

/// Which bytes there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Those of a token (RFC 9110, section 5.6.2).
    Token,
    /// Those of a field's value, without blanks around it (RFC 9110, section 5.5).
    FieldValue,
    /// Those of a cookie's name, which servers take more of than a token has (RFC 6265, section 5.2).
    CookieName,
    /// Those of a cookie's value (RFC 6265, section 5.2), without blanks around it.
    CookieValue,
    /// Those of a query (RFC 3986, section 3.4) without `&` and `=`.
    ParameterName,
    /// Those of a query without `&`.
    ParameterValue,
}

impl Allowed {
    /// Says whether a text has nothing else.
    fn has(self, text: &str) -> bool {
        let visible = |byte: u8| byte.is_ascii_graphic();
        let bare = |text: &str| !text.starts_with([' ', '\t']) && !text.ends_with([' ', '\t']);
        let printable = |byte: u8| !byte.is_ascii_control() || byte == b'\t';
        match self {
            Self::Token => text.bytes().all(is_token),
            Self::FieldValue => bare(text) && text.bytes().all(printable),
            Self::CookieName => text.bytes().all(|byte| visible(byte) && !b";=,".contains(&byte)),
            Self::CookieValue => bare(text) && text.bytes().all(|byte| printable(byte) && byte != b';'),
            Self::ParameterName => text.bytes().all(|byte| visible(byte) && !b"&=#".contains(&byte)),
            Self::ParameterValue => text.bytes().all(|byte| visible(byte) && !b"&#".contains(&byte)),
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "letters, digits and any of !#$%&'*+-.^_`|~",
            Self::FieldValue => "without control characters, and without blanks around it",
            Self::CookieName => "visible ASCII characters without ';', ',' and '='",
            Self::CookieValue => "without control characters and ';', and without blanks around it",
            Self::ParameterName => "percent-encoded, without '&', '=' and '#'",
            Self::ParameterValue => "percent-encoded, without '&' and '#'",
        })
    }
}

/// Says whether a byte may stand in a token (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl ValueMatch {
    /// Says whether a value is as asked for.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(whole) => value == whole.as_bytes(),
            Self::Prefix(beginning) => value.starts_with(beginning.as_bytes()),
        }
    }

    /// Says whether every value that `other` asks for is asked for by this.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, _) => true,
            (wide, Self::Exact(value)) => wide.matches(value.as_bytes()),
            (Self::Prefix(wide), Self::Prefix(narrow)) => narrow.starts_with(wide.as_str()),
            (Self::Exact(_) | Self::Prefix(_), _) => false,
        }
    }
}

/// A name and what is asked of its value; what kind of thing it names is the newtype's around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FieldMatch {
    pub(super) name: Box<str>,
    pub(super) value: ValueMatch,
}

impl FieldMatch {
    /// Takes a name and what is asked of its value, if both can stand in a request.
    pub(super) fn new(
        name: &str,
        in_name: Allowed,
        value: ValueMatch,
        in_value: Allowed,
    ) -> Result<Self, FieldError> {
        if name.is_empty() || !in_name.has(name) {
            return Err(FieldError::Name(in_name));
        }
        if name.len() > FIELD_NAME_BYTES_MAX {
            return Err(FieldError::NameTooLong(name.len()));
        }
        match &value {
            ValueMatch::Present => {}
            ValueMatch::Prefix(text) if text.is_empty() => return Err(FieldError::EmptyPrefix),
            ValueMatch::Exact(text) | ValueMatch::Prefix(text) => {
                // A beginning may end with a blank that stands within the value.
                let checked = if matches!(value, ValueMatch::Prefix(_)) { text.trim_end() } else { text };
                if !in_value.has(checked) {
                    return Err(FieldError::Value(in_value));
                }
                if text.len() > FIELD_VALUE_BYTES_MAX {
                    return Err(FieldError::ValueTooLong(text.len()));
                }
            }
        }
        Ok(Self { name: name.into(), value })
    }

    /// Says whether whatever has what `other` asks for has what this asks for; `same` compares names.
    pub(super) fn covers(&self, other: &Self, same: fn(&str, &str) -> bool) -> bool {
        same(&self.name, &other.name) && self.value.covers(&other.value)
    }
}

impl fmt::Display for FieldMatch {
    /// Writes `name`, `name=value` or `name=value*`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.value {
            ValueMatch::Present => f.write_str(name),
            ValueMatch::Exact(value) => write!(f, "{name}={value}"),
            ValueMatch::Prefix(value) => write!(f, "{name}={value}*"),
        }
    }
}
