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
        let want = "/nowhere/agent.toml: cannot be read: No such file or directory (os error 2); --config names the file \
                    to use\n";
        assert_eq!((status, &*text), (Some(2), want), "{command:?}");
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
