//! Conditions on a path by regular expression.

use core::fmt;
use std::error::Error;
use std::sync::Arc;

use regex_automata::Input;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::syntax;

/// Longest expression, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1024;
/// Most memory the table of one expression may take, in bytes.
pub const TABLE_BYTES_MAX: usize = 256 * 1024;
/// Most memory that may be used while one is made, in bytes: this bounds the time, too.
const BUILD_BYTES_MAX: usize = 4 * TABLE_BYTES_MAX;
/// How deep groups may stand in each other.
const NEST_MAX: u32 = 32;

/// A regular expression that is to be found anywhere in a path, unless it begins with `^` or ends with `$`.
///
/// It is made into a whole table of states at once (a dense DFA). Searching is one look into that table per byte of the
/// path, whatever the expression and whatever the client sends, and needs no memory of its own: the other engines either
/// fill a cache while they search or go back. What cannot become a table of a bounded size is refused when it is made.
/// Equal are those written equally.
///
/// Expressions speak of bytes: classes such as `\d` and `\w` are those of ASCII, and paths come percent-encoded.
#[derive(Clone)]
pub struct PathRegex {
    pattern: Box<str>,
    /// Shared by all copies of the rules.
    table: Arc<dense::DFA<Vec<u32>>>,
}

/// Why a text is no expression to compare with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegexError {
    /// Nothing is written, or too much.
    #[error("a regular expression of 1 to {PATTERN_BYTES_MAX} bytes is needed, this one has {0}")]
    Length(usize),
    /// It is no expression.
    #[error("a regular expression is needed: {0}")]
    Syntax(String),
    /// It counts or nests too much.
    #[error(
        "this regular expression needs a table of more than {} KiB: shorten its repetitions ({{m,n}}) or write several rules",
        TABLE_BYTES_MAX / 1024
    )]
    TooLarge,
}

impl PathRegex {
    /// Makes the table of an expression.
    ///
    /// # Errors
    /// If it is none, or its table would be too large.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
            return Err(RegexError::Length(pattern.len()));
        }
        let nfa = thompson::Compiler::new()
            .syntax(syntax::Config::new().unicode(false).utf8(false).nest_limit(NEST_MAX))
            .configure(
                thompson::Config::new()
                    .utf8(false)
                    .nfa_size_limit(Some(BUILD_BYTES_MAX))
                    .which_captures(WhichCaptures::None),
            )
            .build(pattern)
            .map_err(|error| match error.source() {
                Some(cause) => RegexError::Syntax(last_line(&cause.to_string())),
                None => RegexError::TooLarge, // of what can go wrong here, only syntax has a cause
            })?;
        let table = dense::Builder::new()
            .configure(
                dense::Config::new()
                    .start_kind(StartKind::Unanchored)
                    .dfa_size_limit(Some(TABLE_BYTES_MAX))
                    .determinize_size_limit(Some(BUILD_BYTES_MAX)),
            )
            .build_from_nfa(&nfa)
            .map_err(|_| RegexError::TooLarge)?;
        Ok(Self { pattern: pattern.into(), table: Arc::new(table) })
    }

    /// Says whether it is found in `path`.
    pub fn matches(&self, path: &str) -> bool {
        let input = Input::new(path).earliest(true);
        // A search fails only at bytes the table gives up at, or anchored otherwise than the table is: this one has no such
        // bytes, and both are unanchored.
        matches!(self.table.try_search_fwd(&input), Ok(Some(_)))
    }

    /// Returns the expression as it was written.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
}

/// The parser draws the expression and an arrow below it; its last line says what is wrong.
fn last_line(drawn: &str) -> String {
    let line = drawn.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for PathRegex {}

impl fmt::Debug for PathRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PathRegex").field(&self.pattern).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_found_anywhere_unless_it_is_anchored() {
        for (pattern, path, expected) in [
            ("^/user/[0-9]+/", "/user/42/photo", true),
            ("^/user/[0-9]+/", "/user//photo", false),
            ("^/user/[0-9]+/", "/a/user/42/", false),
            ("user", "/a/user/42", true),
            (r"\.(jpe?g|png)$", "/a.jpeg", true),
            (r"\.(jpe?g|png)$", "/a.jpeg/", false),
            (r"(?i)\.PNG$", "/a.png", true),
            (r"\.PNG$", "/a.png", false),
            (r"^/\w+$", "/é", false),
            ("^/é$", "/é", true),
            ("^/.$", "/é", false), // two bytes
            (r"\bcat\b", "/a-cat.jpg", true),
            (r"\bcat\b", "/concat.jpg", false),
            ("^$", "", true),
            ("^(a|b)*abb$", "ababababb", true),
            ("^(a|b)*abb$", "abababab", false),
        ] {
            let regex = PathRegex::new(pattern).expect("an expression");
            assert_eq!(regex.matches(path), expected, "{pattern} in {path}");
        }
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_told_in_a_line() {
        let told = |pattern: &str| PathRegex::new(pattern).expect_err("refused").to_string();
        assert_eq!(told("^/(a"), "a regular expression is needed: unclosed group");
        assert!(told("a**{").starts_with("a regular expression is needed: "), "{}", told("a**{"));
        assert!(!told("[z-a]").contains('\n'));
        assert_eq!(told(""), "a regular expression of 1 to 1024 bytes is needed, this one has 0");
        assert_eq!(
            told(&"a".repeat(1025)),
            "a regular expression of 1 to 1024 bytes is needed, this one has 1025"
        );
        // 2 to the power of 20 states; 10 to the power of 12 copies; a group in a group in a group.
        for large in ["(a|b)*a(a|b){20}", "((a{10000}){10000}){10000}", "[01]*1[01]{16}$"] {
            assert_eq!(PathRegex::new(large), Err(RegexError::TooLarge), "{large}");
        }
        let deep = [&"(".repeat(40), "a", &")".repeat(40)].concat();
        assert!(matches!(PathRegex::new(&deep), Err(RegexError::Syntax(_))));
    }

    #[test]
    fn equal_are_those_written_equally() {
        let [one, same, other] = ["^/a", "^/a", "^/[a]"].map(|text| PathRegex::new(text).expect("one"));
        assert!(one == same && one != other);
    }
}
