//! Conditions on the method.

use core::fmt;

use super::value::is_token;

/// Most methods one condition may name.
pub const METHOD_COUNT_MAX: usize = 16;
/// Longest method, in bytes.
const METHOD_BYTES_MAX: usize = 64;

/// Methods, one of which the request must have. Methods are case sensitive (RFC 9110, section 9.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Methods(Box<[Box<str>]>);

/// Why texts are no methods to compare with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// None is named, or too many.
    #[error("1 to {METHOD_COUNT_MAX} methods are needed, these are {0}")]
    Count(usize),
    /// It is none.
    #[error("a method is needed, such as \"GET\"; {0:?} is none")]
    NoMethod(String),
    /// It is a well-known one in the wrong case.
    #[error("methods are case sensitive: clients say {:?}, not {:?}", .0.to_ascii_uppercase(), .0)]
    Case(String),
}

impl Methods {
    /// Compares with these.
    ///
    /// # Errors
    /// If there is none or one of them can stand in no request.
    pub fn new<'a>(methods: impl IntoIterator<Item = &'a str>) -> Result<Self, MethodError> {
        let methods: Vec<&str> = methods.into_iter().take(METHOD_COUNT_MAX + 1).collect();
        if methods.is_empty() || methods.len() > METHOD_COUNT_MAX {
            return Err(MethodError::Count(methods.len()));
        }
        for method in &methods {
            if method.is_empty() || method.len() > METHOD_BYTES_MAX || !method.bytes().all(is_token) {
                return Err(MethodError::NoMethod(method.chars().take(METHOD_BYTES_MAX).collect()));
            }
            // Those of RFC 9110, section 9.3, and RFC 5789.
            const KNOWN: [&str; 9] =
                ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
            if KNOWN.iter().any(|known| known.eq_ignore_ascii_case(method) && known != method) {
                return Err(MethodError::Case((*method).to_owned()));
            }
        }
        Ok(Self(methods.into_iter().map(Into::into).collect()))
    }

    /// Says whether `method` is one of them.
    pub fn matches(&self, method: &str) -> bool {
        self.0.iter().any(|ours| **ours == *method)
    }

    /// Says whether every method of `other` is one of these.
    pub(super) fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|method| self.matches(method))
    }
}

impl fmt::Display for Methods {
    /// Writes `GET` or `GET|HEAD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_methods_in_their_case() {
        let ours = Methods::new(["GET", "PURGE"]).expect("methods");
        assert!(ours.matches("GET") && ours.matches("PURGE"));
        assert!(!ours.matches("get") && !ours.matches("POST") && !ours.matches("GETS") && !ours.matches(""));
        assert_eq!(ours.to_string(), "GET|PURGE");
    }

    #[test]
    fn what_is_no_method_is_refused() {
        for (methods, expected) in [
            (&[][..], MethodError::Count(0)),
            (&["GET"; 17], MethodError::Count(17)),
            (&["GET", ""], MethodError::NoMethod(String::new())),
            (&["GET /"], MethodError::NoMethod("GET /".into())),
            (&["Post"], MethodError::Case("Post".into())),
        ] {
            assert_eq!(Methods::new(methods.iter().copied()), Err(expected), "{methods:?}");
        }
        let told = MethodError::Case("Post".into()).to_string();
        assert_eq!(told, "methods are case sensitive: clients say \"POST\", not \"Post\"");
    }
}
