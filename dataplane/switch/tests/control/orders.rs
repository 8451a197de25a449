//! What operators order over the admin API: the running configuration changes, and only as a whole.

use std::fs;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use baton_core::policy::{AnswerIndex, BackendIndex, ClassIndex, PoolIndex, RuleIndex, VipIndex};
use baton_core::switch::{Explanation, Why};
use baton_core::wire::MacAddress;
use baton_switch::control::{Operations, Order};
use baton_switch::runtime::{Asked, AskedContent, Question};
use handoff_proto::admin::{
    Backend, Changes, Class, Configuration, EventKind, Events, Pool, PoolMember, Route, RouteOutcome, Rule,
    RuleAction,
};
use serde::de::DeserializeOwned;
use tokio::runtime::Builder;

use super::{SERVICES, World, write_files};

/// Classes, conditions and answers beside the usual.
const RICH: &str = r#"
[[class]]
name = "gold"
priority = 2
rate_per_s = 5

[[pool]]
name = "some"
backends = [{ name = "far", weight = 3 }]
policy = { name = "maglev", hash = "host" }
sticky = { cookie = "SID" }

[[rule]]
host = "*.example.org"
method = ["GET", "HEAD"]
header = { name = "X", value_prefix = "1" }
class = "gold"
pool = "some"

[[rule]]
path_prefix = "/old/"
redirect = { location = "https://new{uri}" }

[[rule]]
path_exact = "/gone"
respond = { status = 410 }
"#;

impl World {
    /// Orders what must be done.
    pub(super) fn order<T: DeserializeOwned>(&self, method: &str, path: &str, body: &str) -> T {
        let answer = self.request(method, path, body);
        let text = String::from_utf8(answer.body).expect("text");
        assert_eq!(answer.status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("the agreed form")
    }

    pub(super) fn config_body(&self, services: &str) -> String {
        let file = write_files(self.directory.path(), services);
        let toml = fs::read_to_string(file).expect("just written");
        serde_json::json!({ "toml": toml }).to_string()
    }
}

/// The usual services with more before their rule.
pub(super) fn rich() -> String {
    SERVICES.replace("[[rule]]\npool = \"all\"", &[RICH, "\n[[rule]]\npool = \"all\""].concat())
}

#[test]
fn pools_rules_and_classes_are_listed_as_they_are_written() {
    let world = World::start();
    let Changes { generation, changes, warnings } =
        world.order("POST", "/v1/config/apply", &world.config_body(&rich()));
    assert_eq!(generation, 2);
    let expected = ["pool \"some\" is new", "class \"gold\" is new", "3 rules put in at place 1"];
    assert_eq!((changes, warnings), (expected.map(str::to_owned).to_vec(), vec![]));
    let pools: Vec<Pool> = world.get("/v1/pools");
    let member = |backend: &str, weight| PoolMember { backend: backend.to_owned(), weight, usable: false };
    let all = Pool {
        name: "all".to_owned(),
        policy: "round-robin".to_owned(),
        sticky: None,
        members: vec![member("one", 1), member("far", 1)],
    };
    let some = Pool {
        name: "some".to_owned(),
        policy: "maglev".to_owned(),
        sticky: Some("{ cookie = \"SID\" }".to_owned()),
        members: vec![member("far", 3)],
    };
    assert_eq!(pools, [all, some]);
    let rules: Vec<Rule> = world.get("/v1/rules");
    let told: Vec<(u32, Vec<&str>, Option<&str>)> = rules
        .iter()
        .map(|rule| {
            let mut conditions: Vec<&str> = rule.conditions.iter().map(String::as_str).collect();
            conditions.sort_unstable();
            (rule.number, conditions, rule.class.as_deref())
        })
        .collect();
    let first = vec![
        "header = { name = \"X\", value_prefix = \"1\" }",
        "host = \"*.example.org\"",
        "method = [\"GET\", \"HEAD\"]",
    ];
    let expected = [
        (1, first, Some("gold")),
        (2, vec!["path_prefix = \"/old/\""], None),
        (3, vec!["path_exact = \"/gone\""], None),
        (4, vec![], None),
    ];
    assert_eq!(told, expected);
    let actions: Vec<RuleAction> = rules.into_iter().map(|rule| rule.action).collect();
    let redirect = RuleAction::Redirect { status: 302, location: "https://new{uri}".to_owned() };
    let pool = |name: &str| RuleAction::Pool(name.to_owned());
    assert_eq!(actions, [pool("some"), redirect, RuleAction::Respond { status: 410 }, pool("all")]);
    let classes: Vec<Class> = world.get("/v1/classes");
    let gold = Class {
        name: "gold".to_owned(),
        priority: 2,
        weight: 1,
        rate_per_s: Some(5),
        rules: 1,
        let_in: 0,
        refused: 0,
    };
    assert_eq!(classes, [gold]);
    world.control.stop();
}

#[test]
fn single_backends_are_drained_weighed_added_and_removed() {
    let world = World::start();
    let changed = |method: &str, path: &str, body: &str| -> Vec<String> {
        world.order::<Changes>(method, path, body).changes
    };
    let backend = |name: &str| -> Backend {
        let backends: Vec<Backend> = world.get("/v1/backends");
        backends.into_iter().find(|backend| backend.name == name).expect("listed")
    };
    assert_eq!(changed("POST", "/v1/backends/one/drain", ""), ["backend \"one\": drain = true"]);
    let drained = backend("one");
    assert!(drained.draining && drained.reasons[0] == "draining", "{drained:?}");
    assert_eq!(
        changed("POST", "/v1/backends/one/enable", ""),
        ["backend \"one\": drain is left out, was true"]
    );
    assert!(!backend("one").draining);
    assert_eq!(
        changed("POST", "/v1/backends/one/weight", r#"{"weight": 7}"#),
        ["backend \"one\": weight = 7"]
    );
    assert_eq!(backend("one").weight, 7);
    let new = r#"{"name": "new", "address": "10.60.0.77", "pools": ["all"], "weight": 2, "drain": true}"#;
    assert_eq!(changed("POST", "/v1/backends", new)[0], "backend \"new\" is new");
    let added = backend("new");
    assert!(added.draining && added.weight == 2 && added.pools == ["all"], "{added:?}");
    assert_eq!(changed("DELETE", "/v1/backends/new", "")[0], "backend \"new\" is taken out");
    let backends: Vec<Backend> = world.get("/v1/backends");
    assert_eq!(backends.len(), 2);

    for (method, path, body, status, word) in [
        ("POST", "/v1/backends/two/drain", "", 404, "there are one, far"),
        (
            "POST",
            "/v1/backends/one/weight",
            r#"{"weight": 0}"#,
            422,
            "backend[0].weight = 0: allowed are 1 to 1000",
        ),
        ("POST", "/v1/backends/one/weight", r#"{"weight": 1, "pool": "al"}"#, 404, "there are all"),
        ("POST", "/v1/backends", r#"{"name": "one", "address": "10.60.0.78"}"#, 409, "names must differ"),
        (
            "POST",
            "/v1/backends",
            r#"{"name": "x", "address": "10.60.0.100"}"#,
            422,
            "this is the address of VIP",
        ),
        ("DELETE", "/v1/backends/two", "", 404, "there are one, far"),
    ] {
        let (found, why) = world.refusal(method, path, body);
        assert!(found == status && why.contains(word), "{method} {path} {body}: {found} {why}");
    }
    let _: Changes = world.order("DELETE", "/v1/backends/one", "");
    let (status, why) = world.refusal("DELETE", "/v1/backends/far", "");
    assert!(status == 409 && why.contains("is the last of pool \"all\""), "{status} {why}");
    world.control.stop();
}

#[test]
fn a_configuration_is_checked_applied_shown_and_reloaded_whole() {
    let world = World::start();
    let body = world.config_body(&rich());
    let checked: Changes = world.order("POST", "/v1/config/check", &body);
    assert_eq!((checked.generation, checked.changes.len()), (1, 3));
    let shown: Configuration = world.get("/v1/config");
    assert!(shown.generation == 1 && !shown.toml.contains("gold"), "only checked: {}", shown.toml);
    let reloaded: Changes = world.order("POST", "/v1/reload", "");
    assert_eq!((reloaded.generation, reloaded.changes), (2, checked.changes));
    let shown: Configuration = world.get("/v1/config");
    assert!(shown.generation == 2 && shown.toml.contains("name = \"gold\""), "{}", shown.toml);
    // What is shown can be applied.
    let again = serde_json::json!({ "toml": shown.toml }).to_string();
    let applied: Changes = world.order("POST", "/v1/config/apply", &again);
    assert_eq!((applied.generation, applied.changes.as_slice()), (3, &[] as &[String]));

    let wrong = world.config_body(&rich().replace("pool = \"some\"", "pool = \"sum\""));
    for path in ["/v1/config/check", "/v1/config/apply"] {
        let (status, why) = world.refusal("POST", path, &wrong);
        assert!(
            status == 422 && why.contains("rule[0].pool = \"sum\": no [[pool]] has this name"),
            "{status} {why}"
        );
    }
    let fixed = serde_json::json!({ "toml": shown.toml.replace("10.60.0.1/24", "10.60.0.2/24") }).to_string();
    let (status, why) = world.refusal("POST", "/v1/config/apply", &fixed);
    assert!(status == 409 && why.contains("it runs with \"10.60.0.1/24\""), "{status} {why}");
    fs::remove_file(world.directory.path().join("switch.toml")).expect("there");
    let (status, why) = world.refusal("POST", "/v1/reload", "");
    assert!(status == 500 && why.contains("switch.toml: cannot read the configuration"), "{status} {why}");

    let events: Events = world.get("/v1/events?after=1");
    let kinds: Vec<EventKind> = events.events.iter().map(|event| event.kind).collect();
    use EventKind::{ConfigurationApplied as Applied, ConfigurationRefused as Refused};
    assert_eq!(kinds, [Applied, Applied, Refused, Refused, Refused], "a check is no event");
    assert!(events.events[0].text.contains("class \"gold\" is new"), "{}", events.events[0].text);
    world.control.stop();
}

#[test]
fn rules_and_pools_are_checked_and_applied_apart_from_the_rest() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(&rich()));
    let body = |toml: &str| serde_json::json!({ "toml": toml }).to_string();
    let shown: Configuration = world.get("/v1/config/rules");
    assert!(shown.generation == 2 && shown.toml.matches("[[").count() == 4, "{}", shown.toml);
    let fewer =
        body("[[rule]]\npath_exact = \"/gone\"\nrespond = { status = 410 }\n[[rule]]\npool = \"all\"\n");
    let checked: Changes = world.order("POST", "/v1/config/rules/check", &fewer);
    assert_eq!((checked.generation, checked.changes), (2, vec!["2 rules taken out at place 1".to_owned()]));
    assert_eq!(world.get::<Vec<Rule>>("/v1/rules").len(), 4, "only checked");
    let applied: Changes = world.order("POST", "/v1/config/rules/apply", &fewer);
    assert_eq!(applied.generation, 3);
    let left: Vec<Rule> = world.get("/v1/rules");
    assert_eq!(left.len(), 2);

    let only = body("[[pool]]\nname = \"all\"\nbackends = [\"far\"]\n");
    let applied: Changes = world.order("POST", "/v1/config/pools/apply", &only);
    let expected =
        ["pool \"some\" is taken out", "pool \"all\": backends = [\"far\"], was [\"one\", \"far\"]"];
    assert_eq!(applied.changes, expected);
    assert_eq!(world.get::<Vec<Rule>>("/v1/rules"), left, "rules go on");

    for (path, toml, status, word) in [
        (
            "rules/apply",
            "[[rule]]\npool = \"some\"\n",
            422,
            "rule[0].pool = \"some\": no [[pool]] has this name",
        ),
        ("rules/check", "[[pool]]\n", 422, "only [[rule]] belongs here"),
        ("pools/apply", "", 422, "there is no [[pool]]"),
        ("vips/apply", "[[vip]]\n", 404, "there are rules, pools"),
    ] {
        let (found, why) = world.refusal("POST", &format!("/v1/config/{path}"), &body(toml));
        assert!(found == status && why.contains(word), "{path}: {found} {why}");
    }
    let (status, _) = world.refusal("GET", "/v1/config/vips", "");
    assert_eq!(status, 404);
    let events: Events = world.get("/v1/events?after=3");
    let told: Vec<&str> =
        events.events.iter().map(|event| event.text.split(':').next().unwrap_or("")).collect();
    let refused = "configuration not applied (other";
    assert_eq!(told[0], "configuration applied (other pools)");
    assert!(told.len() == 3 && told[1..].iter().all(|text| text.starts_with(refused)), "{told:?}");
    world.control.stop();
}

#[test]
fn the_session_a_tls_client_would_resume_is_asked_about() {
    let world = World::start();
    let services = SERVICES
        .replace("port = 80\n", "port = 80\ninspect = \"tls\"\n")
        .replace("\"far\"]\n", "\"far\"]\nsticky = \"tls-session\"\n");
    // Which VIPs there are is fixed by nothing but their configuration.
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(&services));
    let explanation = Explanation {
        rule: Some(RuleIndex(0)),
        class: ClassIndex(0),
        answer: None,
        pool: Some(PoolIndex(0)),
        fullness_permille: 12,
        is_let_in: true,
        chosen: Some((BackendIndex(1), Why::Owner)),
    };
    for (query, expected) in [("session_id=00fF", vec![0, 0xff]), ("protocol=h2", Vec::new())] {
        let lcore = explain_once(&world, explanation.clone());
        let route: Route = world.get(&format!("/v1/route?{query}"));
        let AskedContent::Tls { session_id, .. } = lcore.join().expect("asked").content else {
            panic!("{query}")
        };
        assert_eq!((session_id, route.pool_fullness_permille), (expected, Some(12)));
        let RouteOutcome::Dispatch { affinity, backend, .. } = route.outcome else { panic!("{query}") };
        assert_eq!(affinity.as_deref(), Some("the TLS session it resumes"));
        assert_eq!(backend.as_deref(), Some("far"));
    }
    let (status, why) = world.refusal("GET", "/v1/route?session_id=0", "");
    assert!(status == 400 && why.contains("hex digits"), "{status} {why}");
    world.control.stop();
}

#[test]
fn what_may_be_long_is_not_written_on_the_control_thread() {
    let world = World::start();
    let many: String = (0..2_000)
        .map(|host| format!("[[rule]]\nhost = \"h{host}.example.org\"\npool = \"all\"\n"))
        .collect();
    let services =
        SERVICES.replace("[[rule]]\npool = \"all\"", &[&many, "\n[[rule]]\npool = \"all\""].concat());
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(&services));
    let operations = Operations::new(Arc::clone(&world.shared));
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut configuration = pin!(operations.configuration());
        let first = poll_fn(|context| Poll::Ready(configuration.as_mut().poll(context))).await;
        assert!(first.is_pending(), "this thread goes on with something else meanwhile");
        let shown = configuration.await.expect("shown");
        assert!(shown.generation == 2 && shown.toml.contains("h1999.example.org"));
    });
    let rules: Vec<Rule> = world.get("/v1/rules");
    assert_eq!(rules.len(), 2_001);
    world.control.stop();
}

#[test]
fn next_hops_are_told_however_many_backends_there_were() {
    let world = World::start();
    let hosts = 100..130;
    let hop = |last: u8| (Ipv4Addr::new(10, 60, 0, last), Some(MacAddress([2, 0, 0, 0, 0, last])));
    let passing: String = hosts
        .clone()
        .map(|last| format!("[[backend]]\nname = \"b{last}\"\naddress = \"10.60.1.{last}\"\n"))
        .collect();
    let _: Changes =
        world.order("POST", "/v1/config/apply", &world.config_body(&[SERVICES, &passing].concat()));
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(SERVICES));
    let new = r#"{"name": "new", "address": "10.60.0.77", "pools": ["all"]}"#;
    let _: Changes = world.order("POST", "/v1/backends", new);
    // As an lcore has them: in the order in which it got to know them, and of those what there is room for.
    let mut hops = vec![hop(254), hop(11)];
    hops.extend(hosts.map(|last| (Ipv4Addr::new(10, 60, 1, last), None)));
    hops.push(hop(77));
    let mailboxes = Arc::clone(&world.mailboxes);
    let lcore = thread::spawn(move || {
        loop {
            if let Some(letters) = mailboxes[0].letters() {
                let question = letters.question();
                letters.leave();
                if let Some(Question::NextHops { mut room, reply }) = question {
                    room.extend(hops.into_iter().take(room.capacity()));
                    return reply.send(room).expect("control waits");
                }
            }
            thread::sleep(Duration::from_micros(100));
        }
    });
    let backends: Vec<Backend> = world.get("/v1/backends");
    lcore.join().expect("asked");
    let told: Vec<(&str, Option<&str>)> =
        backends.iter().map(|one| (one.name.as_str(), one.next_hop_mac.as_deref())).collect();
    let mac = ["02:00:00:00:00:0b", "02:00:00:00:00:fe", "02:00:00:00:00:4d"].map(Some);
    assert_eq!(told, [("one", mac[0]), ("far", mac[1]), ("new", mac[2])]);
    world.control.stop();
}

/// Answers one question about a request as an lcore does; returns what was asked.
fn explain_once(world: &World, explanation: Explanation) -> JoinHandle<Asked> {
    let mailboxes = Arc::clone(&world.mailboxes);
    thread::spawn(move || {
        loop {
            if let Some(letters) = mailboxes[0].letters() {
                let question = letters.question();
                letters.leave();
                if let Some(Question::Explain { asked, reply }) = question {
                    reply.send(explanation).expect("control waits");
                    return *asked;
                }
            }
            thread::sleep(Duration::from_micros(100));
        }
    })
}

#[test]
fn what_would_become_of_a_request_is_told_in_the_words_of_the_configuration() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(&rich()));
    let nothing = Explanation {
        rule: None,
        class: ClassIndex(0),
        answer: None,
        pool: None,
        fullness_permille: 0,
        is_let_in: true,
        chosen: None,
    };
    let to_some =
        Explanation { rule: Some(RuleIndex(0)), class: ClassIndex(1), pool: Some(PoolIndex(1)), ..nothing };
    let some = |backend: Option<&str>, why: &str| RouteOutcome::Dispatch {
        pool: "some".to_owned(),
        affinity: Some("the value of cookie SID".to_owned()),
        policy: "maglev".to_owned(),
        backend: backend.map(str::to_owned),
        why: why.to_owned(),
    };
    let answer = |status, location: Option<&str>, why: &str| RouteOutcome::Answer {
        status,
        location: location.map(str::to_owned),
        why: why.to_owned(),
    };
    for (explanation, rule, expected) in [
        (nothing.clone(), None, answer(503, None, "no rule matches")),
        (to_some.clone(), Some(1), some(None, "no backend of the pool may get new connections")),
        (
            Explanation { chosen: Some((BackendIndex(1), Why::Hash)), ..to_some },
            Some(1),
            some(Some("far"), "what the pool is sticky by belongs to it"),
        ),
        (
            Explanation {
                chosen: Some((BackendIndex(1), Why::Hash)),
                is_let_in: false,
                fullness_permille: 876,
                ..to_some
            },
            Some(1),
            answer(
                503,
                None,
                "overload: pool \"some\" is full by 87 %, and requests of class \"gold\" are refused then",
            ),
        ),
        (
            Explanation { rule: Some(RuleIndex(1)), answer: Some(AnswerIndex(0)), ..nothing },
            Some(2),
            answer(302, Some("https://new{uri}"), "the rule says so"),
        ),
        (
            Explanation { rule: Some(RuleIndex(2)), answer: Some(AnswerIndex(1)), ..nothing },
            Some(3),
            answer(410, None, "the rule says so"),
        ),
    ] {
        // Of what goes to no pool, none is full.
        let fullness = explanation.pool.map(|_| explanation.fullness_permille);
        let lcore = explain_once(&world, explanation);
        let query = "method=PUT&target=/a%3Fid%3D7&host=h:8080&header=X:%201&client=192.0.2.7";
        let route: Route = world.get(&format!("/v1/route?{query}"));
        let asked = lcore.join().expect("asked");
        let content = AskedContent::Http {
            method: "PUT".to_owned(),
            host: Some("h".to_owned()),
            path: "/a".to_owned(),
            query: Some("id=7".to_owned()),
            fields: [("Host", "h:8080"), ("X", "1")].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
        };
        assert_eq!(asked, Asked { vip: VipIndex(0), client: [192, 0, 2, 7].into(), content });
        assert_eq!((route.vip.as_str(), route.rule.map(|rule| rule.number)), ("web", rule));
        assert_eq!(route.pool_fullness_permille, fullness);
        assert_eq!(route.outcome, expected);
    }
    for (query, status, word) in [
        ("vip=shop&method=GET&target=/", 404, "there are web"),
        ("server_name=x", 400, "requests are read there: say method and target"),
        ("", 400, "requests are read there"),
        ("method=GET&target=/&host=h:x", 400, "host=\"h:x\" is no host"),
        ("method=GET&target=/&host=[h]", 400, "answers such a request with 400"),
        ("method=GET&target=/&host=h&header=host:%20h", 400, "more than one Host"),
        // No lcore answers.
        ("method=GET&target=/", 503, "try again"),
    ] {
        let (found, why) = world.refusal("GET", &format!("/v1/route?{query}"), "");
        assert!(found == status && why.contains(word), "{query}: {found} {why}");
    }
    world.control.stop();
}

#[test]
fn a_host_is_read_as_from_a_request() {
    let world = World::start();
    let explanation = Explanation {
        rule: None,
        class: ClassIndex(0),
        answer: None,
        pool: None,
        fullness_permille: 0,
        is_let_in: true,
        chosen: None,
    };
    for (given, host) in [
        ("host=example.org:8080", Some("example.org")),
        ("host=Example.ORG", Some("Example.ORG")),
        ("host=[::1]:80", Some("::1")),
        ("host=[2001:db8::1]", Some("2001:db8::1")),
        ("header=host:%20example.org:80", Some("example.org")),
        ("client=192.0.2.7", None),
    ] {
        let lcore = explain_once(&world, explanation.clone());
        let _: Route = world.get(&format!("/v1/route?method=GET&target=/&{given}"));
        let AskedContent::Http { host: found, .. } = lcore.join().expect("asked").content else {
            panic!("{given}")
        };
        assert_eq!(found.as_deref(), host, "{given}");
    }
    world.control.stop();
}

#[test]
fn what_was_decided_by_a_configuration_is_told_in_its_own_words() {
    let world = World::start();
    let lcore = {
        let (mailboxes, shared) = (Arc::clone(&world.mailboxes), Arc::clone(&world.shared));
        let to_first = |pool| Explanation {
            rule: Some(RuleIndex(0)),
            class: ClassIndex(0),
            answer: None,
            pool: Some(PoolIndex(pool)),
            fullness_permille: 0,
            is_let_in: true,
            chosen: None,
        };
        // Another one comes into force after each of the first two questions.
        let changing = rich();
        let file = world.directory.path().to_owned();
        let pools = [(0, Some(changing)), (1, Some(SERVICES.to_owned())), (0, Some(rich())), (1, None)];
        thread::spawn(move || {
            for (pool, next) in pools {
                loop {
                    let question = mailboxes[0].letters().and_then(|letters| {
                        let question = letters.question();
                        letters.leave();
                        question
                    });
                    if let Some(Question::Explain { reply, .. }) = question {
                        if let Some(next) = &next {
                            write_files(&file, next);
                            shared.carry_out(&Order::Reload).expect("nothing is wrong with it");
                        }
                        break reply.send(to_first(pool)).expect("control waits");
                    }
                    thread::sleep(Duration::from_micros(100));
                }
            }
        })
    };
    // Twice in a row it changed: no answer is better than a wrong one.
    let (status, why) = world.refusal("GET", "/v1/route?method=GET&target=/", "");
    assert!(status == 503 && why.contains("the configuration changed meanwhile"), "{status} {why}");
    // Once: what the second question was answered counts.
    let route: Route = world.get("/v1/route?method=GET&target=/");
    let Some(Rule { conditions, action, .. }) = route.rule else { panic!("{:?}", route.outcome) };
    assert_eq!((conditions.len(), action), (3, RuleAction::Pool("some".to_owned())));
    lcore.join().expect("asked four times");
    world.control.stop();
}
