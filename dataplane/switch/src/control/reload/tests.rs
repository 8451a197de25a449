//! Stories of a switch whose configuration changes while agents report: no sockets, no clock, real files.

use core::net::IpAddr;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use baton_core::policy::{BackendIndex, PoolIndex};
use handoff_proto::control::{CONTROL_VERSION, Load, Rate, Report, VipHealth};
use handoff_proto::keys::key_file_text;
use handoff_proto::{KeyId, Vip};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::control::{Hello, NamedBackend, PLACES_MAX, Refusal, ReportFault, Roster, SessionId};

const START: Micros = Micros(1_763_711_747_000_000);
const WEB: Vip = Vip { address: IpAddr::V4(Ipv4Addr::new(10, 60, 0, 100)), port: 80 };
const SHOP: Vip = Vip { address: IpAddr::V4(Ipv4Addr::new(10, 60, 0, 100)), port: 8080 };
/// Two VIPs, of which rules lead from the first alone to backends `a` and `b`.
const USUAL: &str = r#"
[[vip]]
name = "web"
address = "10.60.0.100"
port = 80

[[vip]]
name = "shop"
address = "10.60.0.100"
port = 8080

[[backend]]
name = "a"
address = "10.60.0.11"

[[backend]]
name = "b"
address = "10.60.0.12"

[[pool]]
name = "all"
backends = ["a", "b"]

[[pool]]
name = "one"
backends = ["a"]

[[rule]]
vip = "web"
path_prefix = "/one/"
pool = "one"

[[rule]]
vip = "web"
pool = "all"
"#;

/// A switch's control without its sockets, and the directory its files are in.
struct World {
    directory: TempDir,
    live: Live,
    roster: Roster,
    now: Micros,
}

impl World {
    fn start(services: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("switch.toml");
        write_keys(&directory, 1);
        fs::write(&file, whole(&directory, services)).expect("written");
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let roster = Roster::new(Arc::clone(&config.catalog));
        Self { live: Live::new(&file, config, START), directory, roster, now: START }
    }

    fn order(&mut self, order: &Order) -> Result<Outcome, OrderFault> {
        let Self { live, roster, now, .. } = self;
        let carried_out = live.carry_out(order, *now, |catalog| {
            let catalog = Arc::clone(catalog);
            move || roster.adopt(catalog)
        });
        carried_out.map(|(outcome, ())| outcome)
    }

    /// Applies these services; panics if they are refused.
    fn apply(&mut self, services: &str) -> Outcome {
        let order = Order::Apply(whole(&self.directory, services));
        self.order(&order).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Refuses these services, and returns why; what runs goes on.
    fn refuse(&mut self, order: &Order) -> String {
        self.roster.settle();
        let before = (self.live.running(), self.described());
        let fault = self.order(order).expect_err("refused");
        assert!(Arc::ptr_eq(&before.0, &self.live.running()), "another configuration runs");
        assert_eq!(before.1, self.described());
        assert!(self.roster.settle().1.is_none(), "the lcores are told nothing");
        fault.to_string()
    }

    fn described(&self) -> Vec<(String, bool, Vec<String>)> {
        let backends = self.roster.describe(self.now).into_iter();
        backends.map(|backend| (backend.name, backend.usable, backend.reasons)).collect()
    }

    fn place(&self, name: &str) -> Option<BackendIndex> {
        self.live.running().config.catalog.backend_named(name).map(|(index, _)| index)
    }

    /// The agent of a backend comes, serves WEB and reports that all is well.
    fn agent(&mut self, session: u64, name: &str, last: u8) -> BackendIndex {
        let hello = Hello {
            version: CONTROL_VERSION,
            name: name.to_owned(),
            address: IpAddr::from([10, 60, 0, last]),
            vips: vec![WEB],
            release: "0.1.0".to_owned(),
            time: self.now,
        };
        let index = self.roster.greet(SessionId(session), hello, self.now).expect("welcome");
        self.report(session, index).expect("taken");
        index
    }

    fn report(&mut self, session: u64, index: BackendIndex) -> Result<(), ReportFault> {
        let rate = Rate { bytes_per_s: 0, packets_per_s: 0 };
        self.report_load(session, index, Load { established: Some(0), rate: Some(rate), ..Load::default() })
    }

    fn report_load(&mut self, session: u64, index: BackendIndex, load: Load) -> Result<(), ReportFault> {
        let health = vec![VipHealth { vip: WEB, healthy: true, why: None }];
        let report = Report { number: 0, ready: true, reasons: Vec::new(), health, load };
        self.roster.report(index, SessionId(session), &report, self.now)
    }

    /// What the lcores are told by now: of every place, its address and whether it is usable.
    fn snapshot(&mut self) -> Vec<(String, bool)> {
        let (_, snapshot) = self.roster.settle();
        let backends = snapshot.expect("a snapshot").backends.into_iter();
        backends.map(|backend| (backend.address.to_string(), backend.usable)).collect()
    }
}

fn write_keys(directory: &TempDir, id: u8) {
    let path = directory.path().join("keys.toml");
    fs::write(&path, key_file_text(KeyId(id), &[id; 32])).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
}

fn whole(directory: &TempDir, services: &str) -> String {
    let keys = directory.path().join("keys.toml");
    format!(
        "[switch]\naddress = \"10.60.0.1/16\"\nkey_file = {keys:?}\n[dpdk]\ndevice = \"net_null0\"\n\
         [control]\nlisten = \"10.70.0.1:7170\"\n{services}"
    )
}

fn usual(from: &str, to: &str) -> String {
    assert!(USUAL.contains(from), "{from}");
    USUAL.replace(from, to)
}

fn backend(name: &str, last: u8) -> String {
    format!("[[backend]]\nname = {name:?}\naddress = \"10.60.0.{last}\"\n")
}

#[test]
fn who_speaks_for_a_backend_that_stays_speaks_on_whatever_changes_around_it() {
    let mut world = World::start(USUAL);
    let b = world.agent(1, "b", 12);
    assert_eq!(world.snapshot(), [("10.60.0.11".to_owned(), false), ("10.60.0.12".to_owned(), true)]);
    // Another backend stands before it, and it is in another pool.
    let text =
        usual("[[backend]]\nname = \"a\"", &[&backend("new", 9), "\n[[backend]]\nname = \"a\""].concat())
            .replace("backends = [\"a\"]", "backends = [\"b\", \"new\"]");
    let outcome = world.apply(&text);
    assert_eq!(
        outcome.changes,
        ["backend \"new\" is new", "pool \"one\": backends = [\"b\", \"new\"], was [\"a\"]"]
    );
    assert_eq!((outcome.generation, world.live.running().since), (2, START));
    assert_eq!(world.place("b"), Some(b), "it kept its place");
    let expected = [("10.60.0.11", false), ("10.60.0.12", true), ("10.60.0.9", false)];
    assert_eq!(world.snapshot(), expected.map(|(address, usable)| (address.to_owned(), usable)));
    assert_eq!(world.report(1, b), Ok(()));
    assert!(world.roster.settle().1.is_none(), "nothing is new");
}

#[test]
fn a_backend_that_is_taken_out_leaves_its_place_and_gets_it_again() {
    let mut world = World::start(USUAL);
    let (a, b) = (world.agent(1, "a", 11), world.agent(2, "b", 12));
    world.snapshot();
    let without = usual("backends = [\"a\", \"b\"]", "backends = [\"a\"]").replace(&backend("b", 12), "");
    assert_eq!(world.apply(&without).changes[0], "backend \"b\" is taken out");
    let (changes, snapshot) = world.roster.settle();
    let usable: Vec<bool> = snapshot.expect("new").backends.iter().map(|backend| backend.usable).collect();
    assert_eq!(usable, [true, false], "its place stays");
    let lines: Vec<String> = changes.iter().map(|change| change.reasons.join("; ")).collect();
    assert_eq!(lines, ["it was taken out of the configuration"]);
    assert_eq!(world.described().len(), 1, "operators see what is configured");
    // Who speaks for it is told when next heard; who comes anew is not known.
    assert_eq!(world.report(2, b), Err(ReportFault::Turned(Refusal::Removed("b".to_owned()))));
    let running = world.live.running();
    assert_eq!(running.config.catalog.backend_name(b), Some("b"), "its flows can still be named");
    assert_eq!(world.report(1, a), Ok(()));

    world.apply(USUAL);
    assert_eq!((world.place("a"), world.place("b")), (Some(a), Some(b)));
    assert_eq!(world.agent(3, "b", 12), b);
    assert!(world.roster.is_usable(b));
}

#[test]
fn a_backend_with_another_address_is_another_backend() {
    let mut world = World::start(USUAL);
    let b = world.agent(1, "b", 12);
    world.apply(&usual("10.60.0.12", "10.60.0.13"));
    let moved = world.place("b").expect("configured");
    assert_eq!((b, moved), (BackendIndex(1), BackendIndex(2)));
    let expected = [("10.60.0.11", false), ("10.60.0.12", false), ("10.60.0.13", false)];
    assert_eq!(world.snapshot(), expected.map(|(address, usable)| (address.to_owned(), usable)));
    let Err(ReportFault::Turned(refusal)) = world.report(1, b) else { panic!("taken") };
    assert_eq!(
        refusal.to_string(),
        "backend \"b\" has address 10.60.0.13 in switch.toml, its agent says 10.60.0.12; correct one of them"
    );
    assert_eq!(world.agent(2, "b", 13), moved);
    // Back again: the first place.
    world.apply(USUAL);
    assert_eq!(world.place("b"), Some(b));
}

#[test]
fn a_class_keeps_its_place_and_so_its_counts() {
    let mut world = World::start(USUAL);
    let mut names_with = |classes: &[&str]| {
        let class = |name: &&str| format!("[[class]]\nname = \"{name}\"\n");
        // The rule is of the last one.
        let last = classes.last().map_or_else(String::new, |name| format!("[[rule]]\nclass = \"{name}\""));
        let rules = if last.is_empty() { USUAL.to_owned() } else { USUAL.replacen("[[rule]]", &last, 1) };
        let sections: String = classes.iter().map(class).collect();
        world.apply(&[&rules, "\n", &sections].concat());
        let catalog = Arc::clone(&world.live.running().config.catalog);
        let names: Vec<String> = catalog.classes.iter().map(|named| named.name.clone()).collect();
        let of_rule = catalog.rules.iter().next().map(|rule| usize::from(rule.class.0));
        assert_eq!(names[of_rule.expect("a rule")], *classes.last().unwrap_or(&""));
        names
    };
    assert_eq!(names_with(&["gold", "tin"]), ["", "gold", "tin"]);
    assert_eq!(names_with(&["new", "tin", "gold"]), ["", "gold", "tin", "new"]);
    assert_eq!(names_with(&["tin"]), ["", "", "tin", ""], "those behind it stay where they are");
    assert_eq!(names_with(&["brass", "tin"]), ["", "", "tin", "", "brass"]);
    assert_eq!(names_with(&[]), ["", "", "", "", ""]);
    // All 63 that may be find a place, whoever was there before.
    let many: Vec<String> = (0..63).map(|number| format!("c{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let names = names_with(&many);
    assert_eq!(names.len(), 64);
    assert!(many.iter().all(|name| names.iter().filter(|known| known == name).count() == 1), "{names:?}");
}

#[test]
fn a_pool_keeps_its_place_and_leaves_it_empty() {
    let mut world = World::start(USUAL);
    let pools = |world: &World| -> Vec<(String, usize)> {
        let catalog = Arc::clone(&world.live.running().config.catalog);
        catalog.pools.iter().map(|named| (named.name.clone(), named.pool.members.len())).collect()
    };
    let swapped = usual("name = \"all\"", "name = \"new\"").replace("pool = \"all\"", "pool = \"new\"");
    world.apply(&swapped);
    assert_eq!(pools(&world), [("all".to_owned(), 0), ("one".to_owned(), 1), ("new".to_owned(), 2)]);
    let rules = |world: &World| -> Vec<Option<PoolIndex>> {
        world.live.running().config.catalog.rules.iter().map(|rule| rule.pool()).collect()
    };
    assert_eq!(rules(&world), [Some(PoolIndex(1)), Some(PoolIndex(2))]);
    world.apply(USUAL);
    assert_eq!(pools(&world), [("all".to_owned(), 2), ("one".to_owned(), 1), ("new".to_owned(), 0)]);
    assert_eq!(rules(&world), [Some(PoolIndex(1)), Some(PoolIndex(0))]);
}

#[test]
fn a_wrong_configuration_is_refused_whole_and_the_one_before_goes_on() {
    let mut world = World::start(USUAL);
    let a = world.agent(1, "a", 11);
    world.snapshot();
    let wrong = usual("10.60.0.12", "10.60.0.11").replace("pool = \"all\"", "pool = \"al\"");
    let order = Order::Apply(whole(&world.directory, &wrong));
    assert_eq!(
        world.refuse(&order),
        "the configuration: backend[1].address = \"10.60.0.11\": backend \"a\" has this address already\n\
         the configuration: rule[1].pool = \"al\": no [[pool]] has this name; there are all, one"
    );
    let file = world.directory.path().join("switch.toml");
    fs::write(&file, "[[vip]\n").expect("written");
    let told = world.refuse(&Order::Reload);
    assert!(told.starts_with(&format!("{}: line 1: `[[vip]`: ", file.display())), "{told}");
    fs::remove_file(&file).expect("there");
    let fault = world.order(&Order::Reload).expect_err("gone");
    assert!(matches!(fault, OrderFault::Unread(_)), "{fault}");
    assert!(world.roster.is_usable(a));
    let considered = world.live.consider(&order).expect_err("wrong").to_string();
    assert!(considered.contains("rule[1].pool"), "{considered}");
}

#[test]
fn rules_and_pools_are_replaced_on_their_own_and_nothing_else_changes() {
    let mut world = World::start(USUAL);
    let a = world.agent(1, "a", 11);
    world.snapshot();
    world.order(&Order::Drain("b".to_owned())).expect("known");
    let rules = "[[rule]]\nvip = \"web\"\npath_prefix = \"/two/\"\npool = \"all\"\n\n\
                 [[rule]]\nvip = \"web\"\npool = \"one\"\n";
    let order = Order::Replace(ConfigPart::Rules, rules.to_owned());
    let expected = ["2 rules at place 1 in place of 2"];
    assert_eq!(world.live.consider(&order).expect("good").changes, expected);
    assert_eq!(world.live.running().generation, 2, "only looked at");
    let outcome = world.order(&order).expect("good");
    assert_eq!((outcome.generation, outcome.changes.as_slice()), (3, &expected.map(str::to_owned)[..]));
    let running = world.live.running();
    // What was ordered before is still so, and who speaks for a backend speaks on.
    assert!(running.to_toml().expect("written").contains("drain = true"));
    assert!(world.roster.is_usable(a));
    // What is shown is what was applied, and may be applied again.
    assert_eq!(running.part_to_toml(ConfigPart::Rules).expect("written"), rules);
    let pools = running.part_to_toml(ConfigPart::Pools).expect("written");
    assert!(pools.starts_with("[[pool]]\nname = \"all\"\n") && !pools.contains("[[rule]]"), "{pools}");
    let same = Order::Replace(ConfigPart::Pools, pools.clone());
    assert_eq!(world.order(&same).expect("good").changes, [""; 0]);
    let order = Order::Replace(ConfigPart::Pools, pools.replace("[\"a\", \"b\"]", "[\"b\", \"a\"]"));
    let changes = world.order(&order).expect("good").changes;
    assert_eq!(changes, ["pool \"all\": backends = [\"b\", \"a\"], was [\"a\", \"b\"]"]);
}

#[test]
fn a_part_that_is_wrong_or_fits_nothing_is_refused_and_says_where() {
    use ConfigPart::{Pools, Rules};
    let mut world = World::start(USUAL);
    world.agent(1, "a", 11);
    for (part, text, told) in [
        (Rules, "[[rule]]\npool = \"al\"\n", "rule[0].pool = \"al\": no [[pool]] has this name; there are"),
        (Rules, "[[rule]]\npath = \"/\"\n", "rules: rule[0].path (line 2): unknown field `path`"),
        (Rules, "[[rule]\n", "rules: line 1: `[[rule]`: "),
        (Rules, "", "rules: rule: there is no [[rule]], and all rules would be taken out"),
        (Rules, "rule = []\n", "rules: rule: there is no [[rule]], and all rules would be taken out"),
        (Rules, "[[rule]]\npool = \"all\"\n[switch]\n", "rules: switch: only [[rule]] belongs here"),
        (Rules, "[[pool]]\nname = \"x\"\n", "rules: pool: only [[rule]] belongs here"),
        (Pools, "[[rule]]\npool = \"all\"\n", "pools: rule: only [[pool]] belongs here"),
        // Rules need what is taken away.
        (
            Pools,
            "[[pool]]\nname = \"one\"\nbackends = [\"a\"]\n",
            "rule[1].pool = \"all\": no [[pool]] has this name",
        ),
        (
            Pools,
            "[[pool]]\nname = \"one\"\nbackends = [\"z\"]\n",
            "pool[0].backends[0] = \"z\": no [[backend]]",
        ),
    ] {
        let order = Order::Replace(part, text.to_owned());
        let found = world.refuse(&order);
        assert!(found.contains(told), "{text}: {found}");
        assert_eq!(world.live.consider(&order).expect_err("as wrong").to_string(), found);
    }
}

#[test]
fn what_cannot_change_while_the_switch_runs_is_told_with_what_it_runs_with() {
    let mut world = World::start(USUAL);
    let text = whole(&world.directory, USUAL);
    // Written out, the defaults are no change.
    let spelled = format!("{text}[flows]\ncapacity = 65536\n[handshake]\nwindow_scale = 7\n");
    assert!(world.order(&Order::Apply(spelled)).is_ok());
    let other = text
        .replace("net_null0", "net_null1")
        .replace("7170", "7171")
        .replace("10.60.0.1/16", "10.60.0.2/16");
    let other = format!("{other}[flows]\ncapacity = 1024\n[requests]\nunfinished_timeout_s = 5\n");
    let told = world.refuse(&Order::Apply(other));
    let keys: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix("the configuration: ")?.split(" = ").next())
        .collect();
    assert_eq!(
        keys,
        [
            "switch.address",
            "dpdk.device",
            "control.listen",
            "flows.capacity",
            "requests.unfinished_timeout_s"
        ]
    );
    assert_eq!(
        told.lines().nth(3),
        Some(
            "the configuration: flows.capacity = 1024: this cannot change while the switch runs, and it runs with 65536: \
             restart it for this, or write what it runs with"
        )
    );
    let key_file = text.replace("keys.toml", "other.toml");
    fs::copy(world.directory.path().join("keys.toml"), world.directory.path().join("other.toml"))
        .expect("copied");
    assert!(world.refuse(&Order::Apply(key_file)).contains("switch.key_file = "));
}

#[test]
fn a_backend_drains_and_comes_back_without_its_agent_noticing() {
    let mut world = World::start(USUAL);
    let a = world.agent(1, "a", 11);
    world.snapshot();
    let outcome = world.order(&Order::Drain("a".to_owned())).expect("known");
    assert_eq!(outcome.changes, ["backend \"a\": drain = true"]);
    assert_eq!(world.described()[0], ("a".to_owned(), false, vec!["draining".to_owned()]));
    assert!(world.snapshot().iter().all(|(_, usable)| !usable));
    assert_eq!(world.report(1, a), Ok(()), "it reports on");
    assert!(!world.roster.is_usable(a), "which changes nothing");
    world.order(&Order::Enable("a".to_owned())).expect("known");
    assert_eq!(world.snapshot()[0], ("10.60.0.11".to_owned(), true));
    assert_eq!(world.described()[0], ("a".to_owned(), true, vec![]));
    let told = world.refuse(&Order::Drain("z".to_owned()));
    assert_eq!(told, "no backend is called \"z\"; there are a, b");
}

#[test]
fn backends_are_added_weighed_and_removed_one_by_one() {
    let mut world = World::start(USUAL);
    let new = |name: &str, last, pools: &[&str]| {
        Order::Add(Addition {
            name: name.to_owned(),
            address: Ipv4Addr::new(10, 60, 0, last),
            weight: Some(5),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            drain: true,
            connections_max: Some(100),
        })
    };
    assert_eq!(
        world.order(&new("c", 13, &["all", "one"])).expect("good").changes,
        [
            "backend \"c\" is new",
            "pool \"all\": backends = [\"a\", \"b\", \"c\"], was [\"a\", \"b\"]",
            "pool \"one\": backends = [\"a\", \"c\"], was [\"a\"]",
        ]
    );
    let c = world.place("c").expect("added");
    let weights = |world: &World| -> Vec<Vec<u16>> {
        let catalog = Arc::clone(&world.live.running().config.catalog);
        catalog
            .pools
            .iter()
            .map(|named| named.pool.members.iter().map(|member| member.weight).collect())
            .collect()
    };
    assert_eq!(weights(&world), [vec![1, 1, 5], vec![1, 5]]);
    let named = world.live.running().config.catalog.backends[2].clone();
    assert_eq!((named.drain, named.connections_max), (true, Some(100)));
    let weigh = |backend: &str, pool: Option<&str>, weight| Order::Weigh {
        backend: backend.to_owned(),
        pool: pool.map(str::to_owned),
        weight,
    };
    world.order(&weigh("a", Some("all"), 7)).expect("good");
    world.order(&weigh("a", None, 3)).expect("good");
    assert_eq!(weights(&world), [vec![7, 1, 5], vec![3, 5]]);
    for (order, told) in [
        (new("c", 14, &[]), "there is a backend called \"c\" already; names must differ"),
        (new("d", 14, &["al"]), "no pool is called \"al\"; there are all, one"),
        (
            new("d", 13, &["all"]),
            "the configuration: backend[3].address = \"10.60.0.13\": backend \"c\" has this address already",
        ),
        (
            new("d d", 14, &["all"]),
            "the configuration: backend[3].name = \"d d\": 1 to 64 letters, digits, '-', '_' and '.' are allowed",
        ),
        (weigh("b", Some("one"), 2), "backend \"b\" is not in pool \"one\"; there are a, c"),
        (weigh("b", None, 1_001), "the configuration: backend[1].weight = 1001: allowed are 1 to 1000"),
        (Order::Remove("z".to_owned()), "no backend is called \"z\"; there are a, b, c"),
    ] {
        assert_eq!(world.refuse(&order), told);
    }
    world.order(&Order::Remove("a".to_owned())).expect("others are left");
    let last = world.refuse(&Order::Remove("c".to_owned()));
    assert!(
        last.starts_with("backend \"c\" is the last of pool \"one\": add another one to it first"),
        "{last}"
    );
    assert_eq!((world.place("a"), world.place("c")), (None, Some(c)));
}

#[test]
fn a_rule_from_another_vip_asks_more_of_a_backend_at_once() {
    let mut world = World::start(USUAL);
    let a = world.agent(1, "a", 11);
    assert!(world.roster.is_usable(a));
    let text = [USUAL, "\n[[rule]]\nvip = \"shop\"\npool = \"one\"\n"].concat();
    world.apply(&text);
    assert!(!world.roster.is_usable(a), "its agent does not serve that VIP");
    let reasons = &world.described()[0].2;
    assert!(reasons[0].starts_with(&format!("its agent does not serve VIP shop ({SHOP})")), "{reasons:?}");
    world.apply(USUAL);
    assert!(world.roster.is_usable(a), "and is asked no more");
}

#[test]
fn a_reload_reads_keys_and_pages_again_and_a_change_of_one_backend_does_not_need_them() {
    let mut world = World::start(USUAL);
    let page = world.directory.path().join("503.html");
    fs::write(&page, "later").expect("written");
    let text = format!("{USUAL}[[error_page]]\nstatus = 503\nfile = {page:?}\n");
    let file = world.directory.path().join("switch.toml");
    fs::write(&file, whole(&world.directory, &text)).expect("written");
    write_keys(&world.directory, 2);
    let outcome = world.order(&Order::Reload).expect("good");
    assert_eq!(outcome.changes, ["error pages: others than before", "other keys"]);
    let catalog = Arc::clone(&world.live.running().config.catalog);
    assert_eq!(catalog.keys.current().id(), KeyId(2));

    fs::remove_file(&page).expect("there");
    fs::remove_file(world.directory.path().join("keys.toml")).expect("there");
    assert_eq!(
        world.order(&Order::Drain("a".to_owned())).expect("good").changes,
        ["backend \"a\": drain = true"]
    );
    let catalog = Arc::clone(&world.live.running().config.catalog);
    let bodies: Vec<Vec<u8>> =
        catalog.error_pages.bodies.iter().flatten().map(|body| body.bytes.clone()).collect();
    assert_eq!((bodies, catalog.keys.current().id()), (vec![b"later".to_vec()], KeyId(2)));
    let told = world.refuse(&Order::Reload);
    assert!(told.contains("switch.key_file = ") && told.contains("error_page[0].file = "), "{told}");
}

#[test]
fn the_running_configuration_can_be_written_and_applied_again() {
    let mut world = World::start(USUAL);
    world.order(&Order::Drain("b".to_owned())).expect("good");
    let text = world.live.running().to_toml().expect("written");
    assert!(text.contains("drain = true"), "{text}");
    assert_eq!(world.order(&Order::Apply(text)).expect("good").changes, [""; 0]);
}

#[test]
fn who_asks_what_runs_is_not_told_the_one_before_once_lcores_go_by_the_next() {
    let World { live, directory, .. } = World::start(USUAL);
    let order = Order::Apply(whole(
        &directory,
        &usual("name = \"one\"", "name = \"two\"").replace("\"one\"", "\"two\""),
    ));
    let is_kept_waiting = || live.running.try_lock().is_none();
    let prepare = |_: &Arc<Catalog>| {
        assert!(!is_kept_waiting(), "what takes time is made before");
        || assert!(is_kept_waiting(), "told the one before")
    };
    live.carry_out(&order, START, prepare).expect("nothing is wrong with it");
    assert_eq!(live.running().generation, 2);
}

#[test]
fn what_is_published_shares_what_is_large() {
    let large = format!(
        "[[rule]]\npath_exact = \"/gone\"\nrespond = {{ status = 410, body = {:?} }}\n",
        "x".repeat(1_000)
    );
    let world = World::start(&[USUAL, &large].concat());
    let snapshot = world.roster.snapshot();
    let catalog = world.roster.catalog();
    assert!(snapshot.answers.len() == 1 && Arc::ptr_eq(&snapshot.answers, &catalog.answers));
    assert!(Arc::ptr_eq(&snapshot.error_pages, &catalog.error_pages));
}

#[test]
fn a_hundred_configurations_in_a_row_leave_every_session_alone() {
    let mut world = World::start(USUAL);
    let (a, b) = (world.agent(1, "a", 11), world.agent(2, "b", 12));
    for turn in 0..100_u8 {
        world.now = world.now.plus(Micros::from_millis(10));
        let text = match turn % 4 {
            0 => usual(
                "[[pool]]\nname = \"all\"\nbackends = [\"a\", \"b\"]",
                &[&backend("c", 150 + turn), "[[pool]]\nname = \"all\"\nbackends = [\"c\", \"b\", \"a\"]"]
                    .concat(),
            ),
            1 => usual("name = \"one\"", &format!("name = \"one{turn}\""))
                .replace("pool = \"one\"", &format!("pool = \"one{turn}\"")),
            2 => usual("path_prefix = \"/one/\"", "host = \"x\""),
            _ => USUAL.to_owned(),
        };
        let outcome = world.apply(&text);
        assert_eq!(outcome.generation, u64::from(turn) + 2);
        assert_eq!((world.report(1, a), world.report(2, b)), (Ok(()), Ok(())));
        assert!(world.roster.is_usable(a) && world.roster.is_usable(b), "{text}");
    }
    // 25 addresses of `c` and two others; 25 pools and two others.
    let catalog = Arc::clone(&world.live.running().config.catalog);
    assert_eq!((catalog.backends.len(), catalog.pools.len()), (27, 27));
}

#[test]
fn who_has_had_too_many_backends_must_restart() {
    let mut world = World::start(USUAL);
    let running = world.live.running();
    let mut catalog = Catalog::clone(&running.config.catalog);
    let gone = |number: usize| NamedBackend {
        is_removed: true,
        ..NamedBackend::new(&format!("g{number}"), Ipv4Addr::LOCALHOST)
    };
    catalog.backends.extend((2..PLACES_MAX).map(gone));
    let config = Config { catalog: Arc::new(catalog), ..running.config.clone() };
    world.roster.adopt(Arc::clone(&config.catalog));
    world.live = Live::new(&world.directory.path().join("switch.toml"), config, START);
    world.snapshot();
    let told = world.refuse(&Order::Apply(whole(&world.directory, &usual("\"b\"", "\"c\""))));
    assert_eq!(
        told,
        "the configuration: backend[1].name = \"c\": the switch has had 8192 backends since it started and remembers \
         them all; restart it to add one it does not know"
    );
    // What it knows it takes, in whatever order.
    let swapped = usual("name = \"a\"\naddress = \"10.60.0.11\"", "name = \"b\"\naddress = \"10.60.0.12\"");
    let second = "name = \"b\"\naddress = \"10.60.0.12\"\n\n[[pool]]";
    let swapped = swapped.replace(second, "name = \"a\"\naddress = \"10.60.0.11\"\n\n[[pool]]");
    world.apply(&swapped);
    assert_eq!((world.place("a"), world.place("b")), (Some(BackendIndex(0)), Some(BackendIndex(1))));
}

#[test]
fn the_lcores_are_told_of_loads_as_often_as_is_worth_it() {
    let mut world = World::start(USUAL);
    assert!(world.roster.loads_due(START).is_none(), "nobody has reported");
    let a = world.agent(1, "a", 11);
    let told = world.roster.loads_due(START).expect("a report came");
    assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false]);
    let later = |ms| START.plus(Micros::from_millis(ms));
    world.report(1, a).expect("taken");
    assert!(world.roster.loads_due(later(49)).is_none(), "too soon");
    assert!(world.roster.loads_due(later(50)).is_some());
    assert!(world.roster.loads_due(later(100)).is_none(), "nothing new");
    assert!(world.roster.loads(later(350))[0].is_some(), "just fresh");
    assert!(world.roster.loads(later(351))[0].is_none(), "stale");
    // As an agent's first report is: the backend is usable all the same.
    world.report_load(1, a, Load { established: Some(0), ..Load::default() }).expect("taken");
    assert!(world.roster.loads(START)[0].is_none(), "no traffic");
    assert!(world.roster.is_usable(a));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is applied in whatever order, a backend and a pool are where they were, and nobody else is there.
    #[test]
    fn every_name_keeps_its_place(
        // Which of ten backends there are, which of two addresses each has, which of five pools; some are wrong.
        applied in prop::collection::vec((1..1024_u16, any::<u16>(), 1..32_u8, prop::bool::weighted(0.2)), 1..20),
    ) {
        let mut world = World::start(USUAL);
        let mut backends = std::collections::HashMap::from([
            (("a".to_owned(), Ipv4Addr::new(10, 60, 0, 11)), BackendIndex(0)),
            (("b".to_owned(), Ipv4Addr::new(10, 60, 0, 12)), BackendIndex(1)),
        ]);
        let mut pools = std::collections::HashMap::from([("all".to_owned(), PoolIndex(0)), ("one".to_owned(), PoolIndex(1))]);
        for (present, second, of_pools, is_wrong) in applied {
            let chosen = (0..10_u8).filter(|bit| present >> bit & 1 == 1);
            let servers: Vec<(String, Ipv4Addr)> = chosen
                .map(|bit| (format!("s{bit}"), Ipv4Addr::new(10, 60, u8::from(second >> bit & 1 == 1) + 1, bit)))
                .collect();
            let names: Vec<String> = servers.iter().map(|(name, _)| format!("{name:?}")).collect();
            let named_pools: Vec<String> = (0..5).filter(|bit| of_pools >> bit & 1 == 1).map(|bit| format!("p{bit}")).collect();
            let mut text = "[[vip]]\nname = \"web\"\naddress = \"10.60.0.100\"\nport = 80\n".to_owned();
            for (name, address) in &servers {
                text += &format!("[[backend]]\nname = {name:?}\naddress = \"{address}\"\n");
            }
            for name in &named_pools {
                text += &format!("[[pool]]\nname = {name:?}\nbackends = [{}]\n", names.join(", "));
                text += &format!("[[rule]]\nhost = {name:?}\npool = {name:?}\n");
            }
            if is_wrong {
                world.refuse(&Order::Apply(whole(&world.directory, &format!("{text}[[rule]]\npool = \"none\"\n"))));
                continue;
            }
            world.apply(&text);
            world.roster.settle();
            let catalog = Arc::clone(&world.live.running().config.catalog);
            for (name, address) in servers {
                let (index, named) = catalog.backend_named(&name).expect("applied");
                prop_assert_eq!(named.address, address);
                prop_assert_eq!(*backends.entry((name, address)).or_insert(index), index);
            }
            for name in named_pools {
                let index = catalog.pools.iter().position(|pool| pool.name == name).expect("applied");
                let index = PoolIndex(u16::try_from(index).expect("few"));
                prop_assert_eq!(*pools.entry(name).or_insert(index), index);
            }
            let places: std::collections::HashSet<BackendIndex> = backends.values().copied().collect();
            prop_assert_eq!(places.len(), backends.len(), "two at one place");
            prop_assert_eq!(catalog.backends.len(), backends.len());
            prop_assert_eq!(catalog.pools.len(), pools.len());
        }
    }
}
