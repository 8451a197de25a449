//! Rules against a matcher that takes what an operator writes word by word, and bytes one by one, and goes over all rules.

use core::net::{IpAddr, Ipv4Addr};

use baton_core::policy::{
    ClientNetworks, Conditions, Content, CookieMatch, Field, HeaderMatch, HostMatch, Http, Methods,
    PathMatch, PoolIndex, ProtocolMatch, QueryMatch, Request, Rule, Rules, Service, Tls, ValueMatch,
    VipIndex,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Which part of the path a rule names.
#[derive(Clone, Copy, Debug)]
enum Part {
    Exact,
    Prefix,
    Suffix,
}

/// What a rule says of the path.
#[derive(Clone, Debug)]
enum Path {
    Text(Part, String),
    /// One of these ends.
    Ends(Vec<String>),
    /// One of [`EXPRESSIONS`].
    Expression(usize),
}

/// A regular expression, and what it means.
type Expression = (&'static str, fn(&[u8]) -> bool);

const EXPRESSIONS: [Expression; 4] = [
    ("^/a", |path| path.starts_with(b"/a")),
    ("a$", |path| path.ends_with(b"a")),
    ("b+/", |path| path.windows(2).any(|pair| pair == b"b/")),
    ("(?i)^/?b", |path| matches!(path, [b'b' | b'B', ..] | [b'/', b'b' | b'B', ..])),
];

/// What a rule says of a header field, a cookie or a parameter.
#[derive(Clone, Debug)]
struct Named {
    name: &'static str,
    /// Its value, and whether that is the whole of it.
    value: Option<(&'static str, bool)>,
}

/// A rule as an operator writes it.
#[derive(Clone, Debug, Default)]
struct Written {
    vip: Option<u16>,
    /// Addresses and the lengths of their prefixes.
    clients: Vec<(Ipv4Addr, usize)>,
    service: Option<Service>,
    methods: Vec<&'static str>,
    host: Option<&'static str>,
    path: Option<Path>,
    headers: Vec<Named>,
    cookies: Vec<Named>,
    query: Vec<Named>,
    server_name: Option<&'static str>,
    protocol: Option<&'static str>,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Http,
    Tls,
    Unseen,
}

/// A request as it reaches the rules. What its kind does not have is not looked at.
#[derive(Clone, Debug)]
struct Asked {
    kind: Kind,
    vip: u16,
    client: Ipv4Addr,
    method: &'static str,
    /// The host, or the server's name.
    name: Option<String>,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    protocols: Vec<&'static str>,
}

/// "case and one trailing dot do not count"; "`*.`: one label or more"
fn is_name(wanted: &str, name: &str) -> bool {
    let labels = |name: &str| {
        let name = name.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        name.split('.').map(str::to_owned).collect::<Vec<_>>()
    };
    let (wanted, name) = (labels(wanted), labels(name));
    if wanted[0] != "*" {
        return wanted == name;
    }
    let more = name.len().saturating_sub(wanted.len() - 1);
    more > 0 && name[more..] == wanted[1..] && name[..more] != [""]
}

/// "the whole path", "its beginning", "its end", "byte by byte"
fn has_part(path: &[u8], part: Part, wanted: &[u8]) -> bool {
    let begin = match part {
        Part::Exact if path.len() != wanted.len() => return false,
        Part::Exact | Part::Prefix => Some(0),
        Part::Suffix => path.len().checked_sub(wanted.len()),
    };
    begin.is_some_and(|begin| (0..wanted.len()).all(|at| path.get(begin + at) == Some(&wanted[at])))
}

/// "one of those with the name has the value, or begins with it"
fn is_among(named: &Named, all: &[(String, String)], same_name: fn(&str, &str) -> bool) -> bool {
    all.iter().any(|(name, value)| {
        same_name(name, named.name)
            && match named.value {
                None => true,
                Some((whole, true)) => value == whole,
                Some((beginning, false)) => has_part(value.as_bytes(), Part::Prefix, beginning.as_bytes()),
            }
    })
}

/// "parts between semicolons, blanks around them dropped, the name up to the first equals sign"
fn cookies(fields: &[(String, String)]) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in fields {
        if name.eq_ignore_ascii_case("cookie") {
            for part in value.split(';').filter(|part| part.contains('=')) {
                let letters: Vec<char> = part.chars().collect();
                let at = letters.iter().position(|letter| *letter == '=').expect("contained");
                let trimmed =
                    |letters: &[char]| letters.iter().collect::<String>().trim_matches(' ').to_owned();
                all.push((trimmed(&letters[..at]), trimmed(&letters[at + 1..])));
            }
        }
    }
    all
}

/// "parameters between `&`, the name up to the first `=`, an empty value without"
fn parameters(query: &Option<String>) -> Vec<(String, String)> {
    let parts = query.iter().flat_map(|query| query.split('&'));
    parts.map(|part| part.split_once('=').unwrap_or((part, ""))).map(|(n, v)| (n.into(), v.into())).collect()
}

/// The table of services, for the types that occur here: `.mp4` is a video, `.css` a file, `.php` a program, in any case.
fn is_service(service: Service, asked: &Asked) -> bool {
    let path = asked.path.to_ascii_lowercase();
    let last = path.rsplit('/').next().unwrap_or_default();
    let is_program = path.split('/').any(|segment| segment.ends_with(".php"));
    let has_query = asked.query.as_deref().is_some_and(|query| !query.is_empty());
    let is_video = last.ends_with(".mp4");
    let lies_ready = is_video || (!is_program && (!has_query || last.ends_with(".css")));
    let is_static = ["GET", "HEAD"].contains(&asked.method) && lies_ready;
    match service {
        Service::Video => is_static && is_video,
        Service::File => is_static && !is_video,
        Service::Static => is_static,
        Service::Dynamic => !is_static,
        Service::Database => !is_static && (has_query || asked.method == "POST"),
    }
}

/// "an address whose first bits are those of the network"
fn is_in(client: Ipv4Addr, network: Ipv4Addr, bits: usize) -> bool {
    let digits = |address: Ipv4Addr| format!("{:032b}", address.to_bits());
    digits(client)[..bits] == digits(network)[..bits]
}

fn holds(rule: &Written, asked: &Asked) -> bool {
    let of_http = rule.service.is_some()
        || !rule.methods.is_empty()
        || rule.host.is_some()
        || rule.path.is_some()
        || [&rule.headers, &rule.cookies, &rule.query].iter().any(|named| !named.is_empty());
    let of_tls = rule.server_name.is_some() || rule.protocol.is_some();
    let named = |wanted: &str| asked.name.as_ref().is_some_and(|name| is_name(wanted, name));
    let path = asked.path.as_bytes();
    let (all_cookies, all_parameters) = (cookies(&asked.fields), parameters(&asked.query));
    let checks = [
        rule.vip.is_none_or(|vip| vip == asked.vip),
        rule.clients.is_empty() || rule.clients.iter().any(|(net, bits)| is_in(asked.client, *net, *bits)),
        !of_http || asked.kind == Kind::Http,
        !of_tls || asked.kind == Kind::Tls,
        rule.service.is_none_or(|service| is_service(service, asked)),
        rule.methods.is_empty() || rule.methods.contains(&asked.method),
        rule.host.is_none_or(named),
        match &rule.path {
            None => true,
            Some(Path::Text(part, text)) => has_part(path, *part, text.as_bytes()),
            Some(Path::Ends(texts)) => texts.iter().any(|text| has_part(path, Part::Suffix, text.as_bytes())),
            Some(Path::Expression(at)) => EXPRESSIONS[*at].1(path),
        },
        rule.headers.iter().all(|one| is_among(one, &asked.fields, str::eq_ignore_ascii_case)),
        rule.cookies.iter().all(|one| is_among(one, &all_cookies, str::eq)),
        rule.query.iter().all(|one| is_among(one, &all_parameters, str::eq)),
        rule.server_name.is_none_or(named),
        rule.protocol.is_none_or(|protocol| asked.protocols.contains(&protocol)),
    ];
    checks == [true; 13]
}

/// What a rule becomes.
fn conditions(written: &Written) -> Conditions {
    let value = |named: &Named| match named.value {
        None => ValueMatch::Present,
        Some((text, true)) => ValueMatch::Exact(text.into()),
        Some((text, false)) => ValueMatch::Prefix(text.into()),
    };
    let name = |name: Option<&str>| name.map(|name| HostMatch::new(name).expect("a name"));
    let networks: Vec<String> = written.clients.iter().map(|(net, bits)| format!("{net}/{bits}")).collect();
    let networks = networks.iter().map(String::as_str);
    Conditions {
        vip: written.vip.map(VipIndex),
        clients: (!written.clients.is_empty()).then(|| ClientNetworks::new(networks).expect("networks")),
        service: written.service,
        methods: (!written.methods.is_empty())
            .then(|| Methods::new(written.methods.iter().copied()).expect("methods")),
        host: name(written.host),
        path: written.path.as_ref().map(|path| match path {
            Path::Text(Part::Exact, text) => PathMatch::Exact(text.clone()),
            Path::Text(Part::Prefix, text) => PathMatch::Prefix(text.clone()),
            Path::Text(Part::Suffix, text) => PathMatch::Suffix(text.clone()),
            Path::Ends(texts) => {
                PathMatch::suffixes(texts.iter().map(String::as_str)).expect("texts of paths")
            }
            Path::Expression(at) => PathMatch::regex(EXPRESSIONS[*at].0).expect("an expression"),
        }),
        headers: written
            .headers
            .iter()
            .map(|one| HeaderMatch::new(one.name, value(one)).expect("one"))
            .collect(),
        cookies: written
            .cookies
            .iter()
            .map(|one| CookieMatch::new(one.name, value(one)).expect("one"))
            .collect(),
        query: written.query.iter().map(|one| QueryMatch::new(one.name, value(one)).expect("one")).collect(),
        server_name: name(written.server_name),
        protocol: written.protocol.map(|protocol| ProtocolMatch::new(protocol).expect("a protocol")),
    }
}

/// Calls `ask` with the request that reaches the rules.
fn with_request<T>(asked: &Asked, ask: impl FnOnce(&Request<'_>) -> T) -> T {
    let fields: Vec<Field<'_>> =
        asked.fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
    let protocols: Vec<&[u8]> = asked.protocols.iter().map(|protocol| protocol.as_bytes()).collect();
    let name = asked.name.as_deref();
    let content = match asked.kind {
        Kind::Http => Content::Http(Http {
            method: asked.method,
            host: name,
            path: &asked.path,
            query: asked.query.as_deref(),
            fields: &fields,
        }),
        Kind::Tls => Content::Tls(Tls { server_name: name, protocols: &protocols, session_id: &[] }),
        Kind::Unseen => Content::Unseen,
    };
    ask(&Request { vip: VipIndex(asked.vip), client: IpAddr::V4(asked.client), content })
}

/// Few letters, so that names and paths are often nearly the same. `É` is one that ASCII's case does not change.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["a.b", "A.b", "a.b.", "a.b..", ".a.b", "a.bb", "aa.b", "c.a.b", ".", "", "é.b", "É.b"])
            .prop_map(str::to_owned),
        1 => prop::collection::vec(select(vec!['a', 'A', 'b', '.', '-']), 0..5)
            .prop_map(|letters| letters.into_iter().collect()),
    ]
}

/// Those that a rule may name.
fn wanted_name() -> impl Strategy<Value = &'static str> {
    select(vec!["a.b", "A.b", "a.b.", "a.bb", "aa.b", "b", "-", "*.b", "*.A.b", "*.bb."])
}

fn path() -> impl Strategy<Value = String> {
    let part = select(vec!["/", "a", "A", "b", "%61", ".", ".css", ".mp4", ".php"]);
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.concat())
}

fn wanted_path() -> impl Strategy<Value = Path> {
    let part = select(vec![Part::Exact, Part::Prefix, Part::Suffix]);
    prop_oneof![
        4 => (part, path()).prop_map(|(part, text)| Path::Text(part, text)),
        1 => (0..EXPRESSIONS.len()).prop_map(Path::Expression),
        2 => prop::collection::vec(path().prop_filter("none ends in nothing", |path| !path.is_empty()), 1..5)
            .prop_map(Path::Ends),
    ]
}

/// Nothing mostly, else one or two.
fn named() -> impl Strategy<Value = Vec<Named>> {
    let value =
        select(vec![None, Some(("1", true)), Some(("", true)), Some(("1", false)), Some(("11", false))]);
    let one = (select(vec!["a", "A", "b"]), value).prop_map(|(name, value)| Named { name, value });
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(one, 1..3)]
}

/// Mostly for HTTP; mixing it with TLS is possible, and never holds.
fn written() -> impl Strategy<Value = Written> {
    let sometimes = 0.3;
    let clients = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(
            select(vec![([10, 0, 0, 0], 8), ([10, 1, 0, 0], 16), ([10, 1, 1, 1], 32), ([0, 0, 0, 0], 1)]), 1..4
        ),
    ];
    let methods = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(select(vec!["GET", "POST", "HEAD", "get1"]), 1..3),
    ];
    let common = (prop::option::weighted(sometimes, 0..3_u16), clients);
    let service = prop::option::weighted(0.15, select(&Service::ALL[..]));
    let request = (
        service,
        methods,
        prop::option::weighted(0.4, wanted_name()),
        prop::option::weighted(0.5, wanted_path()),
    );
    let lists = (named(), named(), named());
    let protocol = select(vec!["h2", "http/1.1"]);
    let tls = (prop::option::weighted(0.5, wanted_name()), prop::option::weighted(sometimes, protocol));
    (common, request, lists, tls, 0..10).prop_map(|(common, request, lists, tls, which)| {
        let (vip, clients) = common;
        let clients = clients.into_iter().map(|(net, bits)| (Ipv4Addr::from(net), bits)).collect();
        let mut rule = Written { vip, clients, ..Written::default() };
        if which < 8 {
            (rule.service, rule.methods, rule.host, rule.path) = request;
            (rule.headers, rule.cookies, rule.query) = lists;
        }
        if which > 6 {
            (rule.server_name, rule.protocol) = tls;
        }
        rule
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let kind = select(vec![Kind::Http, Kind::Http, Kind::Http, Kind::Tls, Kind::Unseen]);
    let client = select(vec![[10, 1, 1, 1], [10, 1, 1, 2], [10, 2, 0, 1], [11, 0, 0, 0], [128, 0, 0, 0]]);
    let method = select(vec!["GET", "POST", "HEAD"]);
    let query = select(vec![None, Some(""), Some("a=1"), Some("b=11&a"), Some("A=1&a=&a=11"), Some("a=1=")]);
    let field = select(vec![
        ("a", "1"),
        ("A", "11"),
        ("b", ""),
        ("Cookie", "a=1"),
        ("cookie", "b=; a=11 ;A=1"),
        ("Cookie", "a;b=1;=1"),
    ]);
    let fields = prop::collection::vec(field, 0..4);
    let protocols = prop::collection::vec(select(vec!["h2", "http/1.1", "h3"]), 0..3);
    (kind, 0..3_u16, client, method, prop::option::of(name()), path(), query, fields, protocols).prop_map(
        |(kind, vip, client, method, name, path, query, fields, protocols)| {
            let fields = fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            let query = query.map(str::to_owned);
            Asked { kind, vip, client: client.into(), method, name, path, query, fields, protocols }
        },
    )
}

/// How a request differs from what a rule asks for.
#[derive(Clone, Copy, Debug)]
enum Slip {
    Nothing,
    OtherVip,
    OtherClient,
    OtherMethod,
    NameCase,
    NameDot,
    LabelBefore,
    NoName,
    PathCase,
    LetterBefore,
    LetterBehind,
    LetterLess,
    NoQuery,
    FieldLess,
    ProtocolLess,
    OtherKind,
}

const SLIPS: [Slip; 16] = [
    Slip::Nothing,
    Slip::OtherVip,
    Slip::OtherClient,
    Slip::OtherMethod,
    Slip::NameCase,
    Slip::NameDot,
    Slip::LabelBefore,
    Slip::NoName,
    Slip::PathCase,
    Slip::LetterBefore,
    Slip::LetterBehind,
    Slip::LetterLess,
    Slip::NoQuery,
    Slip::FieldLess,
    Slip::ProtocolLess,
    Slip::OtherKind,
];

fn with_other_case(text: &str) -> String {
    let other = |letter: char| {
        if letter.is_ascii_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    text.chars().map(other).collect()
}

/// A request that one of the rules is just about to match; where the rule does not care, it says what `rest` says.
fn nearly(rule: &Written, slips: &[Slip], rest: Asked) -> Asked {
    let mut asked = rest;
    asked.vip = rule.vip.unwrap_or(asked.vip);
    if let Some((network, _)) = rule.clients.first() {
        asked.client = *network;
    }
    if let Some(wanted) = rule.host.or(rule.server_name) {
        asked.name = Some(wanted.replace('*', "a"));
    }
    match &rule.path {
        Some(Path::Text(_, text)) => asked.path.clone_from(text),
        Some(Path::Ends(texts)) => {
            asked.path = texts.last().cloned().unwrap_or_default();
        }
        Some(Path::Expression(0)) => asked.path = "/ab/".into(),
        Some(Path::Expression(_)) => asked.path = "/b/a".into(),
        None => {}
    }
    asked.method = rule.methods.first().copied().unwrap_or(asked.method);
    let text = |one: &Named| format!("{}={}", one.name, one.value.map_or("1", |(text, _)| text));
    for one in &rule.headers {
        asked.fields.push((with_other_case(one.name), one.value.map_or("", |(text, _)| text).into()));
    }
    for one in &rule.cookies {
        asked.fields.push(("cookie".into(), text(one)));
    }
    if !rule.query.is_empty() {
        asked.query = Some(rule.query.iter().map(text).collect::<Vec<_>>().join("&"));
    }
    asked.protocols.extend(rule.protocol);
    if rule.server_name.is_some() || rule.protocol.is_some() {
        asked.kind = Kind::Tls;
    } else if rule.host.is_some() || rule.path.is_some() || !rule.methods.is_empty() {
        asked.kind = Kind::Http;
    }
    for slip in slips {
        match slip {
            Slip::Nothing => {}
            Slip::OtherVip => asked.vip = (asked.vip + 1) % 3,
            Slip::OtherClient => asked.client = Ipv4Addr::from_bits(asked.client.to_bits() ^ 1 << 20),
            Slip::OtherMethod => asked.method = "POST",
            Slip::NameCase => asked.name = asked.name.as_deref().map(with_other_case),
            Slip::NameDot => asked.name = asked.name.map(|name| name + "."),
            Slip::LabelBefore => asked.name = asked.name.map(|name| format!("b.{name}")),
            Slip::NoName => asked.name = None,
            Slip::PathCase => asked.path = with_other_case(&asked.path),
            Slip::LetterBefore => asked.path.insert(0, 'a'),
            Slip::LetterBehind => asked.path.push('a'),
            Slip::LetterLess => drop(asked.path.pop()),
            Slip::NoQuery => asked.query = None,
            Slip::FieldLess => drop(asked.fields.pop()),
            Slip::ProtocolLess => drop(asked.protocols.pop()),
            Slip::OtherKind => asked.kind = if asked.kind == Kind::Tls { Kind::Http } else { Kind::Tls },
        }
    }
    asked
}

proptest! {
    #[test]
    fn the_first_rule_whose_words_all_hold_names_the_pool(
        rules in prop::collection::vec(written(), 1..12),
        requests in prop::collection::vec(
            (any::<Index>(), prop::collection::vec(select(&SLIPS[..]), 0..3), asked()), 1..12,
        ),
    ) {
        let pool_of = |position: usize| PoolIndex(u16::try_from(position).expect("few rules") + 100);
        let made: Vec<Conditions> = rules.iter().map(conditions).collect();
        let ours = Rules::new(made.iter().enumerate().map(|(position, conditions)| {
            Rule::to_pool(conditions.clone(), pool_of(position))
        }).collect());
        for (which, slips, rest) in requests {
            let asked = nearly(which.get(&rules), &slips, rest);
            let held: Vec<bool> = rules.iter().map(|rule| holds(rule, &asked)).collect();
            with_request(&asked, |request| {
                for (made, held) in made.iter().zip(&held) {
                    prop_assert_eq!(made.hold(request), *held, "{} for {:?}", made, &asked);
                }
                let found = ours.find(request).and_then(|(_, rule)| rule.pool());
                let first = held.iter().position(|held| *held);
                prop_assert_eq!(found, first.map(pool_of), "{:?}", &asked);
                // What is covered never holds alone.
                for (wide, wide_held) in made.iter().zip(&held) {
                    for (narrow, held) in made.iter().zip(&held) {
                        prop_assert!(!wide.covers(narrow) || !held || *wide_held, "{} and {}", wide, narrow);
                    }
                }
                Ok(())
            })?;
        }
    }
}

#[test]
fn requests_that_nearly_match_often_do() {
    // The property above is worth nothing if hardly any rule ever holds.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut held = [0; 2];
    for _ in 0..2_000 {
        let rule = written().new_tree(&mut runner).expect("a rule").current();
        let rest = asked().new_tree(&mut runner).expect("a request").current();
        let slips = [select(&SLIPS[..]).new_tree(&mut runner).expect("a slip").current()];
        held[usize::from(holds(&rule, &nearly(&rule, &slips, rest)))] += 1;
    }
    assert!(held[0] > 300 && held[1] > 300, "{held:?}");
}
