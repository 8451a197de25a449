//! docs/ADMIN.md against control: what it says one may ask is understood, and what it says is answered is what is answered.

use handoff_proto::admin::{Changes, Fault};
use serde_json::Value;

use super::World;

const PAGE: &str = include_str!("../../../../docs/ADMIN.md");

/// What the page's examples speak of.
const SERVICES: &str = r#"
[[vip]]
name = "web"
address = "10.60.0.100"
port = 80

[[backend]]
name = "backend1"
address = "10.60.0.11"

[[backend]]
name = "backend2"
address = "10.60.0.12"

[[pool]]
name = "files"
backends = ["backend1", "backend2"]

[[rule]]
pool = "files"
"#;

/// What no lcore answers, since there is none here.
const OF_LCORES: [&str; 3] = ["/v1/flows", "/v1/route", "/v1/capture"];

/// Each path with its method, as its heading has it, and what is said of it.
fn sections() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    PAGE.split("\n### `").skip(1).map(|section| {
        let (heading, text) = section.split_once("`\n").expect("a heading ends");
        let (method, path) = heading.split_once(' ').expect("method and path");
        (method, path, text.split("\n## ").next().unwrap_or_default())
    })
}

/// Finds the example of a type; `None` if there is none.
fn example<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<!-- json: {name} -->"))?;
    rest.split_once("```json\n")?.1.split("```").next()
}

/// Says whether an answer is one to a request that makes sense, done or not.
fn is_understood(path: &str, status: u16) -> bool {
    // What the page's configurations leave out is more than fits there.
    let is_refused = path.starts_with("/v1/config/") && status == 422;
    status == 200 || is_refused || status == 503 && OF_LCORES.iter().any(|of| path.starts_with(of))
}

#[test]
fn every_path_takes_what_the_page_says_it_takes() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(SERVICES));
    let mut count = 0;
    for (method, path, text) in sections() {
        // What one asks about is in the commands.
        if path == "/v1/route" {
            continue;
        }
        let bodies = ["CaptureRequest", "ConfigurationText", "NewBackend", "NewWeight"];
        let mut body = bodies.iter().find_map(|name| example(text, name)).map(str::to_owned);
        if path == "/v1/config/apply" {
            body = Some(world.config_body(SERVICES));
        } else if path == "/v1/config/{part}/apply" {
            body = Some(serde_json::json!({ "toml": "[[rule]]\npool = \"files\"\n" }).to_string());
        }
        let path =
            path.replace("{name}", "backend2").replace("{part}", "rules").replace("limit=N", "limit=5");
        let path = path.replace("after=N&wait_ms=M", "after=0&wait_ms=1");
        let answer = world.request(method, &path, body.as_deref().unwrap_or_default());
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(is_understood(&path, answer.status), "{method} {path}: {} {said}", answer.status);
        if answer.status == 422 {
            // The page's examples leave out what they do not speak of, and have nothing wrong in them.
            let needed =
                if path == "/v1/config/check" { "dpdk.device: missing; " } else { "rule[0].pool = " };
            assert!(said.contains(needed) && !said.contains("switch.address"), "{path}: {said}");
        }
        if method == "DELETE" {
            // There again for what follows.
            let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(SERVICES));
        }
        count += 1;
    }
    assert!(count > 15, "{count} paths");
    world.control.stop();
}

/// Cuts a command line into its words, as far as the page's need it: quotes, and lines that go on.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted) = (Vec::new(), String::new(), false);
    for character in line.replace("\\\n", " ").chars() {
        match character {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.push(std::mem::take(&mut word)),
            character => word.push(character),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn the_pages_commands_ask_what_can_be_asked() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(SERVICES));
    let blocks = PAGE.split("```\n").filter(|block| block.contains("curl --unix-socket "));
    let commands: Vec<Vec<String>> =
        blocks.map(|block| words(block.trim_end().rsplit("| ").next().unwrap_or_default())).collect();
    assert_eq!(commands.len(), PAGE.matches("curl --unix-socket ").count());
    for command in commands {
        let mut parts = command.iter().map(String::as_str);
        let (mut path, mut data, mut is_query) = (None, Vec::new(), false);
        while let Some(part) = parts.next() {
            match part {
                "curl" => {}
                "-G" => is_query = true,
                "--unix-socket" | "-o" => assert!(parts.next().is_some(), "{command:?}"),
                "-d" => data.extend(parts.next().map(str::to_owned)),
                "--data-urlencode" => data.extend(parts.next().map(|pair| {
                    let (name, value) = pair.split_once('=').expect("a pair");
                    format!(
                        "{name}={}",
                        form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>()
                    )
                })),
                url => path = url.strip_prefix("http://baton"),
            }
        }
        let path = path.unwrap_or_else(|| panic!("no URL: {command:?}"));
        let answer = match (is_query, data.as_slice()) {
            (true, data) => world.request("GET", &format!("{path}?{}", data.join("&")), ""),
            (false, []) => world.request("GET", path, ""),
            (false, [body]) if body == "@-" => world.request("POST", path, &world.config_body(SERVICES)),
            (false, data) => world.request("POST", path, &data.join("&")),
        };
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(is_understood(path, answer.status), "{command:?}: {} {said}", answer.status);
    }
    world.control.stop();
}

#[test]
fn the_pages_texts_are_those_of_the_switch() {
    let world = World::start();
    let _: Changes = world.order("POST", "/v1/config/apply", &world.config_body(SERVICES));
    let fault: Fault = serde_json::from_str(example(PAGE, "Fault").expect("there")).expect("the agreed form");
    assert_eq!(world.refusal("POST", "/v1/backends/backend9/drain", ""), (404, fault.error));
    let told: Changes =
        serde_json::from_str(example(PAGE, "Changes").expect("there")).expect("the agreed form");
    let drained: Changes = world.order("POST", "/v1/backends/backend1/drain", "");
    assert_eq!((drained.changes, drained.warnings), (told.changes, told.warnings));
    let counters: Value = world.get("/v1/counters");
    let counter: Value = serde_json::from_str(example(PAGE, "Vec<Counter>").expect("there")).expect("JSON");
    let known = counters.as_array().expect("a list").iter().find(|known| known["name"] == counter[0]["name"]);
    assert_eq!(known.expect("it is counted")["description"], counter[0]["description"]);
    world.control.stop();
}
