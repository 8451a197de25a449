//! What is said of VIPs, backends, pools, classes, rules and overload.

use baton_core::policy::balance::{HashOn, LardSettings, MaglevSettings, PolicySettings, TrafficUnit};
use baton_core::policy::{
    Action, Affinity, AnswerIndex, BackendIndex, ClassIndex, Field, Overload, RuleAnswer, RuleIndex, Tls,
};
use baton_core::switch::Inspect;

use super::*;

/// The head of a configuration, before its VIPs.
const HEAD: &str = "[switch]\naddress = \"10.60.0.1/24\"\n[dpdk]\ndevice = \"net_null0\"\n[control]\nlisten = \"10.70.0.1:7170\"\n";
/// A VIP of each kind, three backends, two pools and a class.
const PLACES: &str = r#"
[[vip]]
name = "web"
address = "10.60.0.100"
port = 80

[[vip]]
name = "secure"
address = "10.60.0.100"
port = 443
inspect = "tls"

[[vip]]
name = "blind"
address = "10.60.0.100"
port = 25
inspect = "none"

[[backend]]
name = "a"
address = "10.60.0.11"
weight = 10
drain = true

[[backend]]
name = "b"
address = "10.60.0.12"
connections_max = 2000

[[backend]]
name = "c"
address = "10.60.0.13"

[[pool]]
name = "one"
backends = ["a", { name = "b", weight = 20 }, { name = "c" }]

[[pool]]
name = "two"
backends = ["c"]

[[class]]
name = "gold"
priority = 3
weight = 10
rate_per_s = 100

[[class]]
name = "tin"
priority = 1
"#;

/// The whole with these rules.
fn with(rules: &str) -> String {
    [HEAD, PLACES, rules].concat()
}

fn catalog(text: &str) -> Arc<Catalog> {
    parse(text).map(|config| config.catalog).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn vips_backends_members_and_classes_are_what_is_written() {
    let catalog = catalog(&with("[overload]\nbegin_percent = 55\n[[rule]]\npool = \"one\"\n"));
    let inspected: Vec<Inspect> = catalog.vips.iter().map(|named| named.service.inspect).collect();
    assert_eq!(inspected, [Inspect::Http, Inspect::Tls, Inspect::None]);
    let backends: Vec<(bool, Option<u32>)> =
        catalog.backends.iter().map(|named| (named.drain, named.connections_max)).collect();
    assert_eq!(backends, [(true, None), (false, Some(2_000)), (false, None)]);
    let members: Vec<(u16, u16)> =
        catalog.pools[0].pool.members.iter().map(|member| (member.backend.0, member.weight)).collect();
    // The backend's own weight, the pool's, the default.
    assert_eq!(members, [(0, 10), (1, 20), (2, 1)]);
    let classes: Vec<(&str, u8, u16, Option<u32>)> = catalog
        .classes
        .iter()
        .map(|named| (named.name.as_str(), named.class.priority, named.class.weight, named.class.rate_per_s))
        .collect();
    // Who names none is as dispensable as the most dispensable.
    assert_eq!(classes, [("", 1, 1, None), ("gold", 3, 10, Some(100)), ("tin", 1, 1, None)]);
    assert_eq!(catalog.overload, Overload { begin_permille: 550 });
    let snapshot = catalog.snapshot(|_| true);
    let usable: Vec<bool> = snapshot.backends.iter().map(|backend| backend.usable).collect();
    assert_eq!(usable, [false, true, true], "the first drains");
}

#[test]
fn each_kind_of_condition_holds_for_what_it_is_about_and_not_for_the_rest() {
    let field = |name, value: &'static str| Field { name, value: value.as_bytes() };
    let cookie = [field("Cookie", "group=gold; x=y")];
    let beta = [field("x-beta", "12")];
    let http = Http {
        method: "GET",
        host: Some("www.example.org"),
        path: "/user/42/photo.JPG",
        query: None,
        fields: &[],
    };
    let fits = Content::Http(http);
    let other = Content::Http(Http {
        method: "PUT",
        host: Some("example.org"),
        path: "/x",
        query: Some("id=8"),
        fields: &[],
    });
    let with_cookie = Content::Http(Http { fields: &cookie, ..http });
    let with_field = Content::Http(Http { fields: &beta, ..http });
    let with_query = Content::Http(Http { query: Some("a=b&id=7"), ..http });
    let hello = |server_name, protocols| {
        Content::Tls(Tls { server_name: Some(server_name), protocols, session_id: &[] })
    };
    let (h2, h1): (&[&[u8]], &[&[u8]]) = (&[b"h2"], &[b"http/1.1"]);
    for (condition, yes, no) in [
        ("host = \"*.example.org\"", fits, other),
        ("path_regex = \"^/user/[0-9]+/\"", fits, other),
        ("path_exact = \"/user/42/photo.JPG\"", fits, other),
        ("path_suffix = \".JPG\"", fits, other),
        ("path_suffix = [\".gif\", \".JPG\"]", fits, other),
        ("method = \"GET\"", fits, other),
        ("method = [\"HEAD\", \"GET\"]", fits, other),
        ("service = \"static\"", fits, other),
        ("header = { name = \"X-Beta\" }", with_field, fits),
        ("header = { name = \"X-Beta\", value = \"12\" }", with_field, fits),
        ("header = [{ name = \"X-Beta\", value_prefix = \"1\" }]", with_field, fits),
        ("cookie = { name = \"group\", value = \"gold\" }", with_cookie, with_field),
        ("cookie = [{ name = \"group\" }, { name = \"x\", value_prefix = \"y\" }]", with_cookie, fits),
        ("query = { name = \"id\", value = \"7\" }", with_query, other),
        ("client = \"192.0.2.0/24\"", fits, Content::Unseen),
        (
            "vip = \"secure\"\nserver_name = \"*.example.org\"",
            hello("a.example.org", h2),
            hello("example.org", h2),
        ),
        ("vip = \"secure\"\nprotocol = \"h2\"", hello("a", h2), hello("a", h1)),
    ] {
        let rules = catalog(&with(&format!("[[rule]]\n{condition}\nclass = \"tin\"\npool = \"two\"\n")))
            .rules
            .clone();
        let find = |content, last| {
            let vip = VipIndex(if condition.contains("secure") { 1 } else { 0 });
            let client = Ipv4Addr::new(192, 0, last, 1).into();
            rules
                .find(&Request { vip, client, content })
                .map(|(index, rule)| (index, rule.class, rule.action))
        };
        let expected = Some((RuleIndex(0), ClassIndex(2), Action::Dispatch(PoolIndex(1))));
        assert_eq!(find(yes, 2), expected, "{condition}");
        // Where only the client counts, another one.
        let last = if matches!(no, Content::Unseen) { 3 } else { 2 };
        assert_eq!(find(no, last), None, "{condition}");
    }
}

#[test]
fn rules_answer_themselves_where_they_say_so() {
    let text = with(
        "[[rule]]\nhost = \"a\"\nredirect = { location = \"https://{host}:{port}{path}?{query}\" }\n\
         [[rule]]\nvip = \"web\"\nrespond = { status = 404, body = \"gone\" }\n\
         [[rule]]\nhost = \"b\"\nredirect = { status = 308, location = \"/b{uri}\" }\n",
    );
    let catalog = catalog(&text);
    let respond = |status, body: &str| RuleAnswer::Respond {
        status,
        content_type: "text/plain; charset=utf-8".into(),
        body: body.into(),
    };
    let redirect = |status, location: &str| RuleAnswer::Redirect { status, location: location.into() };
    assert_eq!(
        *catalog.answers,
        [
            redirect(302, "https://{host}:{port}{path}?{query}"),
            respond(404, "gone"),
            redirect(308, "/b{uri}")
        ]
    );
    let actions: Vec<Action> = catalog.rules.iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [0, 1, 2].map(|index| Action::Answer(AnswerIndex(index))));
}

#[test]
fn a_switch_that_answers_all_itself_needs_neither_backend_nor_pool() {
    let vip = "[[vip]]\nname = \"web\"\naddress = \"10.60.0.100\"\nport = 80\n";
    let rule = "[[rule]]\nredirect = { location = \"https://{host}{uri}\" }\n";
    assert!(catalog(&[HEAD, vip, rule].concat()).backends.is_empty());
}

#[test]
fn every_policy_is_known_by_its_name_with_its_settings() {
    let names = [
        "round-robin",
        "weighted-round-robin",
        "least-connections",
        "least-traffic",
        "weighted-least-load",
        "fastest-response",
        "two-choices",
        "client-hash",
        "maglev",
        "url-hash",
        "lard",
        "lard-replicated",
        "cap",
        "racc",
        "content-and-load",
    ];
    let policy = |written: &str| {
        let pool = format!("[[pool]]\nname = \"p\"\nbackends = [\"a\", \"c\"]\npolicy = {written}\n");
        let text = with(&format!("{pool}[[rule]]\nvip = \"web\"\npool = \"p\"\n"));
        catalog(&text).pools[2].pool.policy.clone()
    };
    for name in names {
        assert_eq!(policy(&format!("{name:?}")).name(), name);
        assert_eq!(policy(&format!("{{ name = {name:?} }}")).name(), name);
    }
    let packets = PolicySettings::LeastTraffic(TrafficUnit::Packets);
    assert_eq!(policy("{ name = \"least-traffic\", count = \"packets\" }"), packets);
    let maglev = |hash, bound| PolicySettings::Maglev(MaglevSettings::new(hash, bound).expect("good"));
    let cookie = HashOn::cookie("s").expect("a name");
    assert_eq!(
        policy("{ name = \"maglev\", hash = { cookie = \"s\" }, bounded_load_percent = 125 }"),
        maglev(cookie, Some(125))
    );
    assert_eq!(policy("{ name = \"maglev\", hash = \"client\" }"), maglev(HashOn::Client, None));
    let lard = LardSettings::new(HashOn::Path, 5, 9, 64).expect("good");
    assert_eq!(
        policy("{ name = \"lard\", hash = \"path\", low = 5, high = 9, targets_max = 64 }"),
        PolicySettings::Lard(lard)
    );
}

#[test]
fn every_kind_of_stickiness_is_known() {
    let affinity = |written: &str, vip: &str| {
        let pool = format!("[[pool]]\nname = \"p\"\nbackends = [\"c\", \"a\"]\nsticky = {written}\n");
        catalog(&with(&format!("{pool}[[rule]]\nvip = \"{vip}\"\npool = \"p\"\n"))).pools[2]
            .pool
            .affinity
            .clone()
    };
    assert_eq!(affinity("\"client\"", "blind"), Some(Affinity::Client));
    assert_eq!(affinity("\"tls-session\"", "secure"), Some(Affinity::TlsSession));
    assert_eq!(affinity("{ cookie = \"SID\" }", "web"), Some(Affinity::Cookie { name: "SID".into() }));
    let labels = vec![("a".to_owned(), BackendIndex(0)), ("c".to_owned(), BackendIndex(2))];
    let by_route = Affinity::CookieRoute { name: "SID".into(), labels };
    assert_eq!(affinity("{ cookie_route = \"SID\" }", "web"), Some(by_route));
}

/// What is written where a rule should be, or before it, and the fault that is told.
const BAD: &[(&str, &str)] = &[
    // VIPs and backends.
    (
        "[[vip]]\nname = \"x\"\naddress = \"10.60.0.101\"\nport = 1\ninspect = \"ssl\"",
        "vip[3].inspect = \"ssl\": allowed are \"http\", \"tls\" and \"none\"",
    ),
    (
        "[[vip]]\nname = \"web\"\naddress = \"10.60.0.101\"\nport = 1",
        "vip[3].name = \"web\": vip[0] has this name already; names must differ",
    ),
    (
        "[[vip]]\nname = \"x\"\naddress = \"10.60.0.100\"\nport = 443",
        "vip[3].address = \"10.60.0.100\": VIP \"secure\" has this address and port already",
    ),
    ("[[vip]]\nname = \"x\"\naddress = \"10.60.0.101\"", "vip[3].port: missing; allowed are 1 to 65535"),
    (
        "[[backend]]\nname = \"x\"\naddress = \"10.60.0.14\"\nweight = 0",
        "backend[3].weight = 0: allowed are 1 to 1000",
    ),
    (
        "[[backend]]\nname = \"x\"\naddress = \"10.60.0.14\"\nweight = 1001",
        "backend[3].weight = 1001: allowed are 1 to 1000",
    ),
    (
        "[[backend]]\nname = \"x\"\naddress = \"10.60.0.14\"\nconnections_max = 0",
        "backend[3].connections_max = 0: allowed are 1 to 16777216",
    ),
    // Pools.
    (
        "[[pool]]\nname = \"one\"\nbackends = [\"a\"]",
        "pool[2].name = \"one\": pool[0] has this name already; names must differ",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [{ name = \"z\" }]",
        "pool[2].backends[0].name = \"z\": no [[backend]] has this name; there are a, b, c",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [{ weight = 2 }]",
        "pool[2].backends[0].name: missing; the name of a [[backend]] is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\", { name = \"a\", weight = 2 }]",
        "pool[2].backends[1].name = \"a\": this backend is in the pool already",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [{ name = \"a\", weight = 0 }]",
        "pool[2].backends[0].weight = 0: allowed are 1 to 1000",
    ),
    // Policies.
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { hash = \"path\" }",
        "pool[2].policy.name: missing; the name of a policy is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"magic\" }",
        "pool[2].policy.name = \"magic\": allowed are \"round-robin\"",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"cap\", low = 3 }",
        "pool[2].policy.low = 3: no setting of \"cap\", which has none",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", count = \"bytes\" }",
        "pool[2].policy.count = \"bytes\": no setting of \"maglev\", which has hash, bounded_load_percent",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", bounded_load_percent = 100 }",
        "pool[2].policy.bounded_load_percent = 100: allowed are 101 to 1000",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", bounded_load_percent = 1001 }",
        "pool[2].policy.bounded_load_percent = 1001: allowed are 101 to 1000",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", hash = \"body\" }",
        "pool[2].policy.hash = \"body\": allowed are \"path\", \"url\"",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", hash = { cookie = \"a\", header = \"b\" } }",
        "pool[2].policy.hash: either the name of a cookie or that of a header is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"maglev\", hash = { cookie = \"a b\" } }",
        "pool[2].policy.hash.cookie = \"a b\": a name that no header field or cookie",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"least-traffic\", count = \"flows\" }",
        "pool[2].policy.count = \"flows\": allowed are \"bytes\" and \"packets\"",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"lard\", low = 70 }",
        "pool[2].policy.high = 65: more than low, which is 70, is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"lard\", targets_max = 63 }",
        "pool[2].policy.targets_max = 63: allowed are 64 to 1048576",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"lard-replicated\", replicate_s = 0 }",
        "pool[2].policy.replicate_s = 0: allowed are 1 to 86400",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"racc\", depth = 9 }",
        "pool[2].policy.depth = 9: allowed are 1 to 8",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"racc\", subtrees = [{ path = \"images\" }] }",
        "pool[2].policy.subtrees[0].path = \"images\": a subtree's path that is not of the form /a or /a/b",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"racc\", subtrees = [{ path = \"/i\", cost = 0 }] }",
        "pool[2].policy.subtrees[0].cost = 0: allowed are 1 to 1000",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"racc\", subtrees = [{ path = \"/i\" }, { path = \"/i/\" }] }",
        "pool[2].policy = {",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\npolicy = { name = \"content-and-load\", candidates = 1 }",
        "pool[2].policy.candidates = 1: allowed are 2 to 8",
    ),
    // Stickiness.
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = \"cookie\"",
        "pool[2].sticky = \"cookie\": allowed are \"client\", \"tls-session\", { cookie = \"NAME\" }",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = {}",
        "pool[2].sticky: either cookie or cookie_route is needed, with the name of a cookie",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = { cookie = \"a\", cookie_route = \"b\" }",
        "pool[2].sticky: either cookie or cookie_route is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = { cookie = \"a;b\" }",
        "pool[2].sticky.cookie = \"a;b\": a name as it stands in requests is needed",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = \"tls-session\"\n[[rule]]\npool = \"p\"",
        "pool[2].sticky: rules lead here from VIP \"web\", which has inspect = \"http\"; this needs inspect = \"tls\"",
    ),
    (
        "[[pool]]\nname = \"p\"\nbackends = [\"a\"]\nsticky = { cookie = \"s\" }\n[[rule]]\nvip = \"blind\"\npool = \"p\"",
        "pool[2].sticky: rules lead here from VIP \"blind\", which has inspect = \"none\"; this needs inspect = \"http\"",
    ),
    // Classes and overload.
    (
        "[[class]]\nname = \"gold\"",
        "class[2].name = \"gold\": class[0] has this name already; names must differ",
    ),
    ("[[class]]\nname = \"x\"\npriority = 256", "class[2].priority = 256: allowed are 0 to 255"),
    ("[[class]]\nname = \"x\"\nweight = 0", "class[2].weight = 0: allowed are 1 to 1000"),
    ("[[class]]\nname = \"x\"\nrate_per_s = 0", "class[2].rate_per_s = 0: allowed are 1 to 10000000"),
    ("[overload]\nbegin_percent = 0", "overload.begin_percent = 0: allowed are 1 to 100"),
    ("[overload]\nbegin_percent = 101", "overload.begin_percent = 101: allowed are 1 to 100"),
    // What rules refer to.
    (
        "[[rule]]\nvip = \"shop\"\npool = \"one\"",
        "rule[0].vip = \"shop\": no [[vip]] has this name; there are web, secure, blind",
    ),
    (
        "[[rule]]\nclass = \"lead\"\npool = \"one\"",
        "rule[0].class = \"lead\": no [[class]] has this name; there are gold, tin",
    ),
    (
        "[[rule]]\nhost = \"x\"",
        "rule[0].pool: missing; the name of a [[pool]] is needed, or redirect or respond in its place",
    ),
    (
        "[[rule]]\npool = \"one\"\nrespond = { status = 404 }",
        "rule[0].respond: a rule has one of pool, redirect and respond, and this one has pool already",
    ),
    (
        "[[rule]]\nvip = \"web\"\nredirect = { location = \"/\" }\nrespond = { status = 404 }",
        "rule[0].respond: a rule has one of pool, redirect and respond, and this one has redirect already",
    ),
    // Conditions.
    (
        "[[rule]]\nservice = \"mail\"\npool = \"one\"",
        "rule[0].service = \"mail\": allowed are \"video\", \"database\", \"file\", \"static\", \"dynamic\"",
    ),
    (
        "[[rule]]\nhost = \"www.*.org\"\npool = \"one\"",
        "rule[0].host = \"www.*.org\": an asterisk stands for whole labels in front",
    ),
    (
        "[[rule]]\nhost = \"a..b\"\npool = \"one\"",
        "rule[0].host = \"a..b\": a host name has something between its dots",
    ),
    (
        "[[rule]]\npath_regex = \"^/(a\"\npool = \"one\"",
        "rule[0].path_regex = \"^/(a\": a regular expression is needed: unclosed group",
    ),
    (
        "[[rule]]\npath_regex = \"(a|b)*a(a|b){20}\"\npool = \"one\"",
        "rule[0].path_regex = \"(a|b)*a(a|b){20}\": this regular expression needs a table of more than",
    ),
    (
        "[[rule]]\npath_regex = \"^/a\"\npath_suffix = \".b\"\npool = \"one\"",
        "rule[0].path_regex = \"^/a\": a rule has one path condition, and this one has path_suffix already",
    ),
    (
        "[[rule]]\npath_suffix = []\npool = \"one\"",
        "rule[0].path_suffix = []: 1 to 64 ends of paths are needed, these are 0",
    ),
    (
        "[[rule]]\npath_suffix = [\".gif\", \"?\"]\npool = \"one\"",
        "rule[0].path_suffix = [\".gif\", \"?\"]: a path as it stands in requests is needed",
    ),
    (
        "[[rule]]\nmethod = \"get\"\npool = \"one\"",
        "rule[0].method = \"get\": methods are case sensitive: clients say \"GET\", not \"get\"",
    ),
    ("[[rule]]\nmethod = []\npool = \"one\"", "rule[0].method = []: 1 to 16 methods are needed, these are 0"),
    (
        "[[rule]]\nmethod = [\"GET\", \"G T\"]\npool = \"one\"",
        "rule[0].method = [\"GET\", \"G T\"]: a method is needed, such as \"GET\"; \"G T\" is none",
    ),
    (
        "[[rule]]\nclient = \"10.0.0.1/8\"\npool = \"one\"",
        "rule[0].client = \"10.0.0.1/8\": \"10.0.0.1/8\" has bits behind its prefix; the network it lies in is \"10.0.0.0/8\"",
    ),
    (
        "[[rule]]\nclient = [\"10.0.0.0/8\", \"all\"]\npool = \"one\"",
        "rule[0].client = [\"10.0.0.0/8\", \"all\"]: a network is needed",
    ),
    (
        "[[rule]]\nheader = { value = \"1\" }\npool = \"one\"",
        "rule[0].header.name: missing; whose value is meant?",
    ),
    (
        "[[rule]]\nheader = { name = \"X Y\" }\npool = \"one\"",
        "rule[0].header.name = \"X Y\": a name as it stands in requests is needed: letters, digits",
    ),
    (
        "[[rule]]\nheader = { name = \"X\", value = \"a\", value_prefix = \"b\" }\npool = \"one\"",
        "rule[0].header.value_prefix = \"b\": there is value already",
    ),
    ("[[rule]]\nheader = []\npool = \"one\"", "rule[0].header = []: at least one is needed"),
    (
        "[[rule]]\ncookie = { name = \"a=b\" }\npool = \"one\"",
        "rule[0].cookie.name = \"a=b\": a name as it stands in requests is needed: visible ASCII characters",
    ),
    (
        "[[rule]]\ncookie = [{ name = \"a\" }, { name = \"b\", value = \"x;y\" }]\npool = \"one\"",
        "rule[0].cookie[1].value = \"x;y\": a value as it stands in requests is needed",
    ),
    (
        "[[rule]]\nquery = { name = \"id\", value_prefix = \"\" }\npool = \"one\"",
        "rule[0].query.value_prefix = \"\": the beginning of a value is needed",
    ),
    (
        "[[rule]]\nquery = { name = \"id\", value = \"7&8\" }\npool = \"one\"",
        "rule[0].query.value = \"7&8\": a value as it stands in requests is needed: percent-encoded",
    ),
    (
        "[[rule]]\nprotocol = \"h 2\"\npool = \"one\"",
        "rule[0].protocol = \"h 2\": the name of an application protocol is needed",
    ),
    // What is not seen.
    (
        "[[rule]]\nvip = \"secure\"\nhost = \"x\"\npool = \"one\"",
        "rule[0].host = \"x\": VIP \"secure\" has inspect = \"tls\"; this needs one with inspect = \"http\"",
    ),
    (
        "[[rule]]\nvip = \"blind\"\ncookie = { name = \"x\" }\npool = \"one\"",
        "rule[0].cookie: VIP \"blind\" has inspect = \"none\"; this needs one with inspect = \"http\"",
    ),
    (
        "[[rule]]\nvip = \"web\"\nserver_name = \"x\"\npool = \"one\"",
        "rule[0].server_name = \"x\": VIP \"web\" has inspect = \"http\"; this needs one with inspect = \"tls\"",
    ),
    (
        "[[rule]]\nmethod = \"GET\"\nprotocol = \"h2\"\npool = \"one\"",
        "rule[0].protocol = \"h2\": a request is read or a ClientHello, never both",
    ),
    (
        "[[rule]]\nvip = \"blind\"\nrespond = { status = 404 }",
        "rule[0].respond: VIP \"blind\" has inspect = \"none\"; this needs one with inspect = \"http\"",
    ),
    (
        "[[rule]]\nclient = \"10.0.0.0/8\"\nredirect = { location = \"/\" }",
        "rule[0].redirect: this would have to answer at VIP \"secure\", too, which has inspect = \"tls\"; name a vip with inspect = \"http\"",
    ),
    // Answers.
    (
        "[[rule]]\nhost = \"x\"\nredirect = { status = 300, location = \"/\" }",
        "rule[0].redirect.status = 300: allowed are 301, 302, 303, 307, 308",
    ),
    (
        "[[rule]]\nhost = \"x\"\nredirect = { status = 301 }",
        "rule[0].redirect.location: missing; where to is needed",
    ),
    (
        "[[rule]]\nhost = \"x\"\nredirect = { location = \"ftp://x/\" }",
        "rule[0].redirect.location = \"ftp://x/\": a URI that begins with",
    ),
    (
        "[[rule]]\nhost = \"x\"\nredirect = { location = \"/a\\r\\nX: y\" }",
        "rule[0].redirect.location = \"/a\\r\\nX: y\": a URI that begins with",
    ),
    (
        "[[rule]]\nhost = \"x\"\nredirect = { location = \"https://{hots}/\" }",
        "rule[0].redirect.location = \"https://{hots}/\": what stands in braces is replaced, and is one of {host}, {path}, {query}, {uri}, {port}",
    ),
    (
        "[[rule]]\nhost = \"x\"\nredirect = { location = \"https://x/}\" }",
        "rule[0].redirect.location = \"https://x/}\": what stands in braces",
    ),
    (
        "[[rule]]\nhost = \"x\"\nrespond = { body = \"x\" }",
        "rule[0].respond.status: missing; allowed are 200 to 599",
    ),
    (
        "[[rule]]\nhost = \"x\"\nrespond = { status = 100 }",
        "rule[0].respond.status = 100: allowed are 200 to 599",
    ),
    (
        "[[rule]]\nhost = \"x\"\nrespond = { status = 204, body = \"x\" }",
        "rule[0].respond.body = \"x\": a response with status 204 has no body; leave it out",
    ),
    (
        "[[rule]]\nhost = \"x\"\nrespond = { status = 200, content_type = \"text\" }",
        "rule[0].respond.content_type = \"text\": a media type of at most 128 characters is needed",
    ),
];

#[test]
fn each_bad_entry_is_one_fault_with_place_and_remedy() {
    for (bad, expected) in BAD {
        let text = with(&format!("{bad}\n[[rule]]\nhost = \"good\"\npool = \"one\"\n"));
        let told = faults(&text);
        assert!(
            told.len() == 1 && told[0].starts_with(expected),
            "{bad}\n told: {told:#?}\n want: {expected}"
        );
    }
    assert!(BAD.len() >= 30);
}

#[test]
fn a_table_or_list_of_the_wrong_shape_is_told_with_line_and_what_is_allowed() {
    for (wrong, expected) in [
        (
            "[[pool]]\nname = \"p\"\nbackends = [7]",
            "pool[2].backends[0] (line LINE): invalid type: integer `7`, expected the name of a [[backend]], or a table such as { name = \"files1\", weight = 20 }",
        ),
        (
            "[[pool]]\nname = \"p\"\nbackends = [{ name = \"a\", wieght = 2 }]",
            "pool[2].backends[0].wieght (line LINE): unknown field `wieght`, expected `name` or `weight`",
        ),
        (
            "[[pool]]\nname = \"p\"\npolicy = 1",
            "pool[2].policy (line LINE): invalid type: integer `1`, expected the name of a policy, or a table such as { name = \"maglev\", hash = \"path\" }",
        ),
        (
            "[[pool]]\nname = \"p\"\nsticky = true",
            "pool[2].sticky (line LINE): invalid type: boolean `true`, expected \"client\", \"tls-session\", { cookie = \"NAME\" } or { cookie_route = \"NAME\" }",
        ),
        (
            "[[rule]]\nmethod = 1",
            "rule[0].method (line LINE): invalid type: integer `1`, expected a text or a list of texts",
        ),
        (
            "[[rule]]\nmethod = [\"GET\", 1]",
            "rule[0].method[1] (line LINE): invalid type: integer `1`, expected a string",
        ),
        (
            "[[rule]]\nheader = 1",
            "rule[0].header (line LINE): invalid type: integer `1`, expected a table such as { name = \"NAME\", value = \"VALUE\" }, or a list of them",
        ),
        (
            "[[rule]]\ncookie = [{ name = \"a\" }, { nmae = \"b\" }]",
            "rule[0].cookie[1].nmae (line LINE): unknown field `nmae`, expected one of `name`, `value`, `value_prefix`",
        ),
        (
            "[[rule]]\nredirect = \"/x\"",
            "rule[0].redirect (line LINE): invalid type: string \"/x\", expected a table such as { status = 302, location = ",
        ),
        (
            "[[class]]\nprio = 1",
            "class[2].prio (line LINE): unknown field `prio`, expected one of `name`, `priority`, `weight`, `rate_per_s`",
        ),
    ] {
        let Err(error @ ConfigError::Form { .. }) = parse(&with(wrong)) else { panic!("taken: {wrong}") };
        // What is wrong stands in the last line.
        let line = with(wrong).lines().count();
        let expected = format!("switch.toml: {}", expected.replace("LINE", &line.to_string()));
        assert!(error.to_string().starts_with(&expected), "{error}\nexpected: {expected}");
    }
}

#[test]
fn numbers_of_entries_have_bounds() {
    let classes: String = (0..62).map(|number| format!("[[class]]\nname = \"c{number}\"\n")).collect();
    let told = faults(&with(&format!("{classes}[[rule]]\npool = \"one\"\n")));
    assert_eq!(told, ["[[class]]: 64 of them; at most 63 are allowed"]);
    let rules = "[[rule]]\npool = \"one\"\n".repeat(65_536);
    assert_eq!(faults(&with(&rules)), ["[[rule]]: 65536 of them; at most 65535 are allowed"]);
    let backend = |number: u32| {
        format!(
            "[[backend]]\nname = \"n{number}\"\naddress = \"10.60.{}.{}\"\n",
            1 + number / 200,
            1 + number % 200
        )
    };
    let names: String = (0..1_025).map(|number| format!("\"n{number}\", ")).collect();
    let pool = format!("[[pool]]\nname = \"p\"\nbackends = [{names}]\n[[rule]]\npool = \"p\"\n");
    let backends: String = (0..1_025).map(backend).collect();
    let text = with(&[backends.as_str(), &pool].concat()).replace("10.60.0.1/24", "10.60.0.1/16");
    assert_eq!(faults(&text), ["pool[2].backends: 1025 of them; at most 1024 are allowed"]);
    let url_hash = pool
        .replacen(&names, &names[..names.find("\"n257\"").expect("there")], 1)
        .replace("[[rule]]", "policy = \"url-hash\"\n[[rule]]\nvip = \"web\"");
    let backends: String = (0..257).map(backend).collect();
    let text = with(&[backends.as_str(), &url_hash].concat()).replace("10.60.0.1/24", "10.60.0.1/16");
    assert_eq!(
        faults(&text),
        ["pool[2].backends: 257 of them; with policy \"url-hash\" there are at most 256"]
    );
}

#[test]
fn as_many_rules_as_may_be_are_read_and_a_flood_of_faults_is_cut_off() {
    let many: String = (0..65_535)
        .map(|number| format!("[[rule]]\nhost = \"h{number}.example\"\npool = \"one\"\n"))
        .collect();
    assert_eq!(catalog(&with(&many)).rules.iter().count(), 65_535);
    let wrong = many.replace("pool = \"one\"", "pool = \"zero\"");
    let told = faults(&with(&wrong));
    assert_eq!(told.len(), 1_001);
    assert_eq!(told.last().map(String::as_str), Some("and more: 64535 further faults; correct these first"));
}

#[test]
fn a_long_list_of_names_is_not_told_whole() {
    let pools: String =
        (0..20).map(|number| format!("[[pool]]\nname = \"p{number}\"\nbackends = [\"a\"]\n")).collect();
    let told = faults(&with(&format!("{pools}[[rule]]\npool = \"q\"\n")));
    assert!(told.len() == 1 && told[0].ends_with("p12, p13, 6 more"), "{told:?}");
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    let text = with(
        "[overload]\nbegin_percent = 55\n\
         [[pool]]\nname = \"p\"\nbackends = [\"a\", { name = \"b\", weight = 3 }]\nsticky = { cookie = \"s\" }\n\
         policy = { name = \"maglev\", hash = { header = \"X\" }, bounded_load_percent = 150 }\n\
         [[pool]]\nname = \"q\"\nbackends = [\"a\"]\npolicy = { name = \"racc\", subtrees = [{ path = \"/i\", bytes = 7 }] }\n\
         [[rule]]\nhost = \"*.x\"\nmethod = [\"GET\", \"HEAD\"]\nheader = [{ name = \"A\" }, { name = \"B\", value = \"\\\"\" }]\n\
         cookie = { name = \"c\", value_prefix = \"d\" }\nclass = \"gold\"\npool = \"p\"\n\
         [[rule]]\nhost = \"y\"\npool = \"q\"\n\
         [[rule]]\nvip = \"web\"\nredirect = { location = \"https://{host}{uri}\" }\n",
    );
    for text in [text.as_str(), EXAMPLE] {
        let config = parse(text).expect("good");
        let written = toml::to_string(&config.raw).expect("can be written");
        let again = parse(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
        assert_eq!(again.raw, config.raw, "{written}");
        assert_eq!(format!("{:?}", again.catalog), format!("{:?}", config.catalog));
    }
}
