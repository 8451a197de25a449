//! `baton-agent` tells of itself without a configuration, privileges or BPF.

use std::fs;
use std::process::{Command, Output};

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton-agent")).args(words).output().expect("baton-agent was built")
}

#[test]
fn completion_and_manual_are_those_of_the_program() {
    let completion = run(&["completions", "bash"]);
    assert!(completion.status.success(), "{completion:?}");
    assert!(String::from_utf8_lossy(&completion.stdout).contains("detach"));
    let directory = std::env::temp_dir().join(format!("baton-pages-{}", std::process::id()));
    assert!(run(&["man", "--dir", directory.to_str().expect("text")]).status.success());
    let page = |name: &str| fs::read_to_string(directory.join(name)).expect(name);
    assert!(page("baton-agent.8").contains("until SIGTERM or SIGINT"));
    assert!(page("baton-agent-counters.8").contains("\\-\\-json"));
    assert_eq!(run(&["man"]).stdout, page("baton-agent.8").as_bytes());
    fs::remove_dir_all(&directory).expect("ours");
    let nowhere = run(&["man", "--dir", "/proc/nowhere"]);
    assert_eq!(nowhere.status.code(), Some(1));
    let told = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(told.starts_with("baton-agent: /proc/nowhere: "), "{told}");
}
