//! What the agent tells an operator who prepares a host, starts it, and looks at what it does: by the whole process.

mod common;

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Instant;

use common::lab::*;
use common::net::*;
use handoff_proto::control::{FromAgent, FromSwitch};

/// A running agent whose log can be read.
struct Logged {
    agent: Agent,
    file: std::path::PathBuf,
}

impl Logged {
    fn start(lab: &Lab, name: &str) -> Self {
        let file = lab.dir.join(name);
        let log = File::create(&file).expect("writable");
        let mut command = lab.command(&[]);
        Self { agent: Agent(command.stdin(Stdio::null()).stderr(log).spawn().expect("the agent runs")), file }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).expect("readable")
    }

    #[track_caller]
    fn await_line(&self, words: &str) -> String {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let text = self.text();
            if let Some(line) = text.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line with {words:?}:\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_host_on_which_only_the_agent_is_missing_passes_the_check() {
    let lab = Lab::new("");
    let listener = listen();
    let check = || {
        let output = lab.output(&["--check"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (status, text) = check();
    assert_eq!(status, Some(0), "{text}");
    for setting in
        ["conf/data0/arp_ignore is 0", "conf/data0/arp_announce is 0", "the VIP 10.60.0.100 is not"]
    {
        assert!(
            text.lines().any(|line| line.starts_with("will be set at start: ") && line.contains(setting)),
            "{text}"
        );
    }
    assert!(
        !text.contains("error: ") && text.ends_with("fit for handoffs once the agent is started\n"),
        "{text}"
    );
    // What the agent cannot set is an error as before.
    drop(listener);
    let (status, text) = check();
    assert!(status == Some(1) && text.contains("\nerror: nothing listens at 10.60.0.100:80"), "{text}");
    assert!(!text.contains("fit for handoffs"), "{text}");
    lab.configure("manage_host = false");
    let (status, text) = check();
    assert!(status == Some(1) && text.contains("error: net/ipv4/conf/data0/arp_ignore is 0"), "{text}");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_ordinary_start_warns_of_nothing_and_detach_says_that_it_is_done() {
    let lab = Lab::new("");
    let _listener = listen();
    let logged = Logged::start(&lab, "agent.log");
    let mut switch = lab.welcome();
    switch.await_ready();
    logged.await_line("INFO ready for handoffs");
    let text = logged.text();
    assert!(!text.contains("WARN") && !text.contains("ERROR"), "{text}");
    assert!(text.contains("INFO not ready for handoffs yet"), "or the test proves nothing: {text}");
    drop(logged.agent);
    let counters = lab.output(&["counters"]);
    assert!(counters.status.success(), "{counters:?}");
    let detached = lab.output(&["detach"]);
    let said = String::from_utf8_lossy(&detached.stdout).into_owned();
    assert!(said.starts_with("baton-agent: detached: ") && said.lines().count() == 1, "{said}");
    let counters = lab.output(&["counters"]);
    let said = String::from_utf8_lossy(&counters.stderr).into_owned();
    assert!(counters.status.code() == Some(1) && said.contains("no programs of Baton are here"), "{said}");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_switch_that_does_not_let_the_agent_in_is_explained() {
    let lab = Lab::new("");
    let logged = Logged::start(&lab, "agent.log");
    let mut end = SwitchEnd::accept(&lab.switch);
    assert!(matches!(end.next(), FromAgent::Hello { .. }));
    end.say(&FromSwitch::Turned { why: "no backend `backend1` is configured".into() });
    let line = logged.await_line("turned this agent away");
    assert!(line.contains("WARN") && line.contains("no backend `backend1` is configured"), "{line}");
    drop((end, logged));

    lab.write_keys(&[0x77; 32]);
    let logged = Logged::start(&lab, "other-key.log");
    let mut end = SwitchEnd::accept(&lab.switch);
    assert!(end.try_next().is_err(), "another key");
    drop(end); // as the switch does
    let line = logged.await_line("no connection to the switch");
    assert!(line.contains("WARN") && line.contains("most likely its key file is another one"), "{line}");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn somebody_who_may_nothing_is_told_what_is_needed() {
    let lab = Lab::new("");
    let status = Command::new("chown").arg("-R").arg("nobody").arg(&lab.dir).status().expect("chown");
    assert!(status.success());
    let program = lab.dir.join("baton-agent");
    std::fs::copy(env!("CARGO_BIN_EXE_baton-agent"), &program).expect("readable");
    let text = std::fs::read_to_string(lab.dir.join("agent.toml")).expect("readable");
    let state = format!("{}/state", lab.dir.display());
    let closed = lab.dir.join("closed"); // root's
    std::fs::create_dir(&closed).expect("writable");
    let place = closed.join("state").to_string_lossy().into_owned();
    let text = text.replace(&state, &place);
    std::fs::write(lab.dir.join("agent.toml"), text).expect("writable");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=nobody", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .arg(&program);
    let output = command.arg("--config").arg(lab.dir.join("agent.toml")).output().expect("setpriv");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{place}: ")) && said.contains("Permission denied"), "{said}");
    assert!(said.contains("run it as root, or set state_dir") && !said.contains("by hand"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
