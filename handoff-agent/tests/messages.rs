//! Errors as an operator sees them: each cause told once.

use std::io::Error;
use std::process::{Command, Output};

use handoff_agent::DetachError;
use handoff_agent::bpf::BpfError;
use handoff_agent::config::ConfigError;
use handoff_agent::health::Unwell;
use handoff_agent::host::HostError;
use handoff_agent::selftest::SelfTestError;

const CAUSE: &str = "the cause";

fn cause() -> Error {
    Error::other(CAUSE)
}

fn busy() -> BpfError {
    BpfError::Io { action: "pinning".into(), error: cause() }
}

#[track_caller]
fn assert_told_once(error: impl std::error::Error + Send + Sync + 'static) {
    let alone = error.to_string();
    let chain = format!("{:#}", anyhow::Error::new(error));
    assert_eq!(alone, chain, "whoever prints it, with its sources or without");
    assert_eq!(chain.matches(CAUSE).count(), 1, "{chain}");
}

#[test]
fn each_cause_is_told_once() {
    assert_told_once(ConfigError::Read { file: "a".into(), error: cause() });
    assert_told_once(busy());
    assert_told_once(BpfError::Libbpf { action: "loading".into(), error: cause().into() });
    assert_told_once(HostError::Log { dir: "a".into(), error: cause() });
    assert_told_once(HostError::Place { dir: "a".into(), error: cause() });
    assert_told_once(HostError::Refused { action: "setting".into(), error: cause() });
    assert_told_once(DetachError::Bpf(busy()));
    assert_told_once(DetachError::Host(HostError::Refused { action: "setting".into(), error: cause() }));
    assert_told_once(DetachError::SelfTest(cause()));
    assert_told_once(SelfTestError::Bpf(busy()));
    assert_told_once(SelfTestError::Network { action: "adding", error: cause() });
    assert_told_once(Unwell::Connection(cause()));
}

fn agent(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton-agent")).args(arguments).output().expect("the agent runs")
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_wrong_configuration_ends_with_status_2_and_one_line_for_each_fault() {
    for command in [&[][..], &["--check"], &["detach"], &["counters"]] {
        let (status, text) = said(&agent(&[command, &["--config", "/nowhere/agent.toml"]].concat()));
        let want = "/nowhere/agent.toml: cannot be read: No such file or directory (os error 2)\n";
        assert_eq!((status, &*text), (Some(2), want), "{command:?}");
    }
    // Where nobody named a file, the one that was looked for need not be the right one.
    if !std::path::Path::new("/etc/baton/agent.toml").exists() {
        let (status, text) = said(&agent(&["--check"]));
        let hinted = text.ends_with("; --config names another file\n");
        assert!(status == Some(2) && text.starts_with("/etc/baton/agent.toml: ") && hinted, "{text}");
    }
    let file = std::env::temp_dir().join(format!("baton-messages-{}.toml", std::process::id()));
    std::fs::write(&file, "[agent]\nname = \"b\"\npin_dir = \"/\"\n").expect("writable");
    let path = file.to_string_lossy();
    let run = said(&agent(&["--config", &path]));
    let checked = said(&agent(&["--check", "--config", &path]));
    let detached = said(&agent(&["detach", "--config", &path]));
    let _ = std::fs::remove_file(&file); // left behind, it does no harm
    for (status, text) in [run, checked] {
        assert_eq!((status, text.lines().count()), (Some(2), 6), "{text}");
        assert!(text.lines().all(|line| line.starts_with(&*format!("{path}: "))), "{text}");
    }
    let (status, text) = detached;
    assert_eq!((status, text.lines().count()), (Some(2), 1), "{text}");
    assert!(text.contains("agent.pin_dir: found `/`"), "{text}");
}

#[test]
fn it_goes_by_its_name() {
    let version = agent(&["--version"]);
    let text = String::from_utf8_lossy(&version.stdout).into_owned();
    assert_eq!(text, format!("baton-agent {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn counters_of_programs_that_are_not_there_are_no_riddle() {
    let dir = std::env::temp_dir().join(format!("baton-counters-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("temporary directory");
    let file = dir.join("agent.toml");
    let pins = dir.join("pins");
    std::fs::write(&file, format!("[agent]\npin_dir = \"{}\"\n", pins.display())).expect("writable");
    let wanted = format!(
        "baton-agent: {}: no programs of Baton are here: either no agent was started with this pin_dir, or `baton-agent \
         detach` removed them\n",
        pins.display()
    );
    let counters = || said(&agent(&["counters", "--config", &file.to_string_lossy()]));
    assert_eq!(counters(), (Some(1), wanted.clone()), "no directory");
    std::fs::create_dir(&pins).expect("writable");
    assert_eq!(counters(), (Some(1), wanted), "an empty one");
    let _ = std::fs::remove_dir_all(&dir); // left behind, it does no harm
}

#[test]
fn a_state_directory_that_cannot_be_had_is_told_as_that() {
    // What a file blocks, root cannot make either.
    let dir = std::path::Path::new("/proc/version/state");
    let refused = handoff_agent::host::Keeper::open(dir, Vec::new()).err().expect("no directory");
    let text = refused.to_string();
    assert!(matches!(refused, HostError::Place { .. }), "{text}");
    assert!(
        text.starts_with("/proc/version/state: ") && text.contains("run it as root, or set state_dir"),
        "{text}"
    );
    assert!(!text.contains("by hand"), "nothing was changed: {text}");
}

#[test]
fn wrong_usage_ends_with_status_2_and_help_tells_the_statuses() {
    assert_eq!(said(&agent(&["--chekc"])).0, Some(2));
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton-agent"));
    let output = command.env("BATON_LOG", "=what=").output().expect("the agent runs");
    let (status, text) = said(&output);
    assert!(status == Some(2) && text.starts_with("BATON_LOG: "), "{text}");
    let help = agent(&["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success() && text.contains("2 wrong usage or configuration"), "{text}");
}
