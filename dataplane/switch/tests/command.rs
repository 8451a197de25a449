//! `baton-switch` as an operator runs it, as far as that needs no device.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use handoff_proto::KeyId;
use handoff_proto::keys::key_file_text;
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../switch.example.toml");

/// A directory with the example configuration, its sockets and keys in that directory.
struct Host {
    directory: TempDir,
}

impl Host {
    fn new(change: impl FnOnce(String) -> String) -> Self {
        let host = Self { directory: tempfile::tempdir().expect("a directory") };
        let (keys, socket) = (host.path("keys.toml"), host.path("switch.sock"));
        fs::write(&keys, key_file_text(KeyId(1), &[7; 32])).expect("written");
        fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("ours");
        let text = EXAMPLE
            .replace("# key_file = \"/etc/baton/keys.toml\"", &format!("key_file = {keys:?}"))
            .replace("# admin_socket = \"/run/baton/switch.sock\"", &format!("admin_socket = {socket:?}"));
        fs::write(host.path("switch.toml"), change(text)).expect("written");
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, more: &[&str]) -> Output {
        run(&self.path("switch.toml"), more)
    }
}

/// Runs the program without a configuration.
fn bare(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton-switch")).args(words).output().expect("baton-switch was built")
}

#[test]
fn completion_and_manual_need_no_configuration_and_all_else_does() {
    let completion = bare(&["completions", "bash"]);
    assert!(completion.status.success(), "{completion:?}");
    assert!(String::from_utf8_lossy(&completion.stdout).contains("--check"));
    let directory = tempfile::tempdir().expect("a directory");
    let pages = directory.path().to_str().expect("text");
    assert!(bare(&["man", "--dir", pages]).status.success());
    let page = fs::read_to_string(directory.path().join("baton-switch.8")).expect("written");
    assert!(page.contains("SIGHUP reads the configuration file again"), "{page}");
    assert_eq!(bare(&["man"]).stdout, page.as_bytes());
    for wrong in [&[][..], &["--check"], &["--config", "x", "man"], &["dance"]] {
        assert_eq!(bare(wrong).status.code(), Some(2), "{wrong:?}");
    }
    let asked = String::from_utf8_lossy(&bare(&["--check"]).stderr).into_owned();
    assert!(asked.contains("--config <FILE>"), "{asked}");
}

fn run(config: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton-switch"));
    command
        .arg("--config")
        .arg(config)
        .args(more)
        .env_remove("BATON_LOG")
        .output()
        .expect("baton-switch was built")
}

fn told(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn check_says_ok_and_warns() {
    let host = Host::new(|text| text);
    let output = host.run(&["--check"]);
    assert_eq!((output.status.code(), told(&output.stderr)), (Some(0), String::new()));
    assert_eq!(told(&output.stdout), format!("{}: OK\n", host.path("switch.toml").display()));

    let host = Host::new(|text| text + "[[rule]]\npool = \"video\"\n");
    let output = host.run(&["--check"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(told(&output.stdout).starts_with("warning: "), "{}", told(&output.stdout));
}

#[test]
fn a_faulty_configuration_is_exit_status_2_with_every_fault_on_a_line() {
    let host = Host::new(|text| {
        text.replace("port = 80", "port = 0").replace("# window_scale = 7", "window_scale = 15")
    });
    for more in [&["--check"][..], &[]] {
        let output = host.run(more);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let file = host.path("switch.toml");
        let expected = format!(
            "{0}: handshake.window_scale = 15: allowed are 0 to 14\n{0}: vip[0].port = 0: allowed are 1 to 65535\n",
            file.display()
        );
        assert_eq!(told(&output.stderr), expected);
    }
    fs::set_permissions(host.path("keys.toml"), fs::Permissions::from_mode(0o640)).expect("ours");
    assert!(told(&host.run(&["--check"]).stderr).contains("mode 0640 lets others in"));
}

#[test]
fn wrong_usage_is_exit_status_2() {
    let host = Host::new(|text| text);
    assert_eq!(host.run(&["--explode"]).status.code(), Some(2));
    let absent = run(Path::new("/nonexistent/switch.toml"), &["--check"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(told(&absent.stderr).starts_with("/nonexistent/switch.toml: cannot read the configuration: "));
}

#[test]
fn what_cannot_be_started_is_exit_status_1_and_leaves_no_socket_behind() {
    // 203.0.113.0/24 is for documentation (RFC 5737): no host of ours.
    let host = Host::new(|text| text.replace("listen = \"10.70.0.1:7170\"", "listen = \"203.0.113.1:7170\""));
    let output = host.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = told(&output.stderr);
    assert!(complaint.contains("control.listen = \"203.0.113.1:7170\": cannot listen there"), "{complaint}");
    assert!(!host.path("switch.sock").exists());
}
