//! Rules against a matcher that takes `docs/OPERATING.md`, `[[rule]]`, word by word, and bytes one by one.

use baton_core::policy::{
    Conditions, Content, HostMatch, Http, PathMatch, PoolIndex, Request, Rule, Rules, VipIndex,
};
use proptest::prelude::*;
use proptest::sample::Index;

/// Which part of the path a rule names.
#[derive(Clone, Copy, Debug)]
enum Part {
    Exact,
    Prefix,
    Suffix,
}

/// A rule as an operator writes it.
#[derive(Clone, Debug)]
struct Written {
    vip: Option<u16>,
    host: Option<String>,
    path: Option<(Part, String)>,
}

/// A request as it reaches the rules.
#[derive(Clone, Debug)]
struct Asked {
    vip: u16,
    host: Option<String>,
    path: String,
}

/// "case and one trailing dot do not count"
fn is_same_host(one: &str, other: &str) -> bool {
    let plain = |name: &str| {
        let mut bytes: Vec<u8> = name.bytes().collect();
        bytes.make_ascii_lowercase();
        if bytes.last() == Some(&b'.') {
            bytes.pop();
        }
        bytes
    };
    plain(one) == plain(other)
}

/// "the whole path", "its beginning", "its end", "byte by byte"
fn has_part(path: &str, part: Part, wanted: &str) -> bool {
    let (path, wanted) = (path.as_bytes(), wanted.as_bytes());
    let begin = match part {
        Part::Exact if path.len() != wanted.len() => return false,
        Part::Exact | Part::Prefix => Some(0),
        Part::Suffix => path.len().checked_sub(wanted.len()),
    };
    begin.is_some_and(|begin| (0..wanted.len()).all(|at| path.get(begin + at) == Some(&wanted[at])))
}

/// "In order; the first whose conditions all hold wins; one that is left out always holds."
fn winner(rules: &[Written], asked: &Asked) -> Option<usize> {
    for (position, rule) in rules.iter().enumerate() {
        if rule.vip.is_some_and(|vip| vip != asked.vip) {
            continue;
        }
        match (&rule.host, &asked.host) {
            (Some(wanted), Some(host)) if is_same_host(wanted, host) => {}
            (Some(_), _) => continue,
            (None, _) => {}
        }
        match &rule.path {
            Some((part, wanted)) if !has_part(&asked.path, *part, wanted) => {}
            _ => return Some(position),
        }
    }
    None
}

/// Few letters, so that names and paths are often nearly the same. `É` is one that ASCII's case does not change.
fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a.b", "A.b", "a.b.", "a.b..", ".a.b", "a.bb", "aa.b", ".", "", "é.b", "É.b"])
            .prop_map(str::to_owned),
        1 => prop::collection::vec(prop::sample::select(vec!['a', 'A', 'b', '.', '-']), 0..5)
            .prop_map(|letters| letters.into_iter().collect()),
    ]
}

/// Those that a rule may name.
fn named() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a.b", "A.b", "a.b.", "a.bb", "aa.b", "b", "-"]).prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["/", "a", "A", "b", "%61", "."]), 0..5)
        .prop_map(|parts| parts.concat())
}

fn written() -> impl Strategy<Value = Written> {
    let part = prop::sample::select(vec![Part::Exact, Part::Prefix, Part::Suffix]);
    let path = prop::option::weighted(0.6, (part, path()));
    (prop::option::weighted(0.4, 0..3_u16), prop::option::weighted(0.6, named()), path)
        .prop_map(|(vip, host, path)| Written { vip, host, path })
}

/// How a request differs from what a rule asks for.
#[derive(Clone, Copy, Debug)]
enum Slip {
    Nothing,
    OtherVip,
    HostCase,
    HostDot,
    NoHost,
    PathCase,
    LetterBefore,
    LetterBehind,
    LetterLess,
}

const SLIPS: [Slip; 9] = [
    Slip::Nothing,
    Slip::OtherVip,
    Slip::HostCase,
    Slip::HostDot,
    Slip::NoHost,
    Slip::PathCase,
    Slip::LetterBefore,
    Slip::LetterBehind,
    Slip::LetterLess,
];

fn with_other_case(text: &str) -> String {
    let other = |letter: char| {
        if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    text.chars().map(other).collect()
}

/// A request that one of the rules is just about to match; where the rule does not care, it says what `rest` says.
fn nearly(rule: &Written, slips: &[Slip], rest: Asked) -> Asked {
    let mut asked = Asked {
        vip: rule.vip.unwrap_or(rest.vip),
        host: rule.host.clone().or(rest.host),
        path: rule.path.as_ref().map_or(rest.path, |(_, path)| path.clone()),
    };
    for slip in slips {
        match slip {
            Slip::Nothing => {}
            Slip::OtherVip => asked.vip = (asked.vip + 1) % 3,
            Slip::HostCase => asked.host = asked.host.as_deref().map(with_other_case),
            Slip::HostDot => asked.host = asked.host.map(|host| host + "."),
            Slip::NoHost => asked.host = None,
            Slip::PathCase => asked.path = with_other_case(&asked.path),
            Slip::LetterBefore => asked.path.insert(0, 'a'),
            Slip::LetterBehind => asked.path.push('a'),
            Slip::LetterLess => drop(asked.path.pop()),
        }
    }
    asked
}

proptest! {
    #[test]
    fn the_first_rule_whose_words_all_hold_names_the_pool(
        rules in prop::collection::vec(written(), 1..8),
        requests in prop::collection::vec(
            (any::<Index>(), prop::collection::vec(prop::sample::select(&SLIPS[..]), 0..3),
             0..3_u16, prop::option::of(host()), path()),
            1..8,
        ),
    ) {
        let pool_of = |position: usize| PoolIndex(u16::try_from(position).expect("few rules") + 100);
        let ours = Rules::new(rules.iter().enumerate().map(|(position, rule)| {
            let conditions = Conditions {
                vip: rule.vip.map(VipIndex),
                host: rule.host.as_deref().map(|name| HostMatch::new(name).expect("a name")),
                path: rule.path.clone().map(|(part, text)| match part {
                    Part::Exact => PathMatch::Exact(text),
                    Part::Prefix => PathMatch::Prefix(text),
                    Part::Suffix => PathMatch::Suffix(text),
                }),
                ..Conditions::default()
            };
            Rule::to_pool(conditions, pool_of(position))
        }).collect());
        for (which, slips, vip, host, path) in requests {
            let asked = nearly(which.get(&rules), &slips, Asked { vip, host, path });
            let (host, path) = (asked.host.as_deref(), &asked.path[..]);
            let content = Content::Http(Http { method: "GET", host, path, query: None, fields: &[] });
            let client = [192, 0, 2, 1].into();
            let request = Request { vip: VipIndex(asked.vip), client, content };
            let found = ours.find(&request).and_then(|(_, rule)| rule.pool());
            prop_assert_eq!(found, winner(&rules, &asked).map(pool_of), "{:?}", asked);
        }
    }
}
