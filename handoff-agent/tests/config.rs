//! The configuration file: the example is good, and each fault is told with file, key, what was found, what is allowed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use handoff_agent::config::{Config, ConfigError, HealthProbe};
use handoff_proto::KeyId;
use handoff_proto::keys::key_file_text;

const EXAMPLE: &str = include_str!("../agent.example.toml");

/// A directory with a key file and a configuration that names it.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("baton-config-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let files = Self(dir);
        files.write_keys(&key_file_text(KeyId(1), &[7; 32]), 0o600);
        files
    }

    fn write_keys(&self, text: &str, mode: u32) {
        let file = self.0.join("keys.toml");
        let _ = std::fs::remove_file(&file); // it may be read-only
        std::fs::write(&file, text).expect("writable");
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).expect("settable");
    }

    /// Reads the example with `from` replaced.
    fn read(&self, from: &str, to: &str) -> Result<Config, ConfigError> {
        assert!(EXAMPLE.contains(from), "the example has no {from}");
        let keys = self.0.join("keys.toml");
        let text = EXAMPLE.replace(from, to).replace("/etc/baton/keys.toml", &keys.to_string_lossy());
        let file = self.0.join("agent.toml");
        std::fs::write(&file, text).expect("writable");
        Config::read(&file)
    }

    /// The message about the example with `from` replaced; it names the file.
    fn fault(&self, from: &str, to: &str) -> String {
        let message = self.read(from, to).expect_err("a fault").to_string();
        let (file, rest) = message.split_once(": ").expect("a file first");
        assert!(file.starts_with(&*self.0.to_string_lossy()), "{message}");
        rest.to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // left behind, it does no harm
    }
}

#[test]
fn the_example_is_good_and_shows_the_defaults() {
    let files = Files::new("example");
    let config = files.read("[agent]", "[agent]").expect("the example");
    assert_eq!((config.name.as_str(), config.interface.as_str()), ("backend1", "data0"));
    assert_eq!((config.manage_host, config.records), (true, 262_144));
    assert_eq!(
        (config.health_interval, config.health_timeout),
        (Duration::from_millis(150), Duration::from_millis(300))
    );
    assert_eq!(config.vips.len(), 1);
    assert_eq!(
        (config.vips[0].vip().to_string().as_str(), &config.vips[0].health),
        ("10.60.0.100:80", &HealthProbe::Tcp)
    );
    // What the example shows as defaults are the defaults.
    let shown: String = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(key) if key.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => {
                format!("{key}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(shown.contains("\nrecords = 262144\n") && shown.contains("\nhealth = \"tcp\"\n"));
    let text = shown.replace("/etc/baton/keys.toml", &files.0.join("keys.toml").to_string_lossy());
    std::fs::write(files.0.join("shown.toml"), text).expect("writable");
    let explicit = Config::read(&files.0.join("shown.toml")).expect("the example, uncommented");
    assert_eq!(format!("{explicit:?}"), format!("{config:?}"));
}

#[test]
fn faults_name_key_value_and_what_is_allowed() {
    let files = Files::new("faults");
    for (from, to, want) in [
        ("name = \"backend1\"", "name = \"\"", "agent.name: found ``, allowed is 1 to 63 letters"),
        ("\"backend1\"", "\"back end\"", "agent.name: found `back end`, allowed is"),
        (
            "\"data0\"",
            "\"an-interface-name-too-long\"",
            "agent.interface: found `an-interface-name-too-long`",
        ),
        (
            "\"10.60.0.11\"",
            "\"10.60.0\"",
            "agent.address: found `10.60.0`, allowed is the IPv4 address of one host",
        ),
        ("\"10.60.0.11\"", "\"127.0.0.1\"", "agent.address: found `127.0.0.1`"),
        ("\"10.60.0.11\"", "\"fd00::1\"", "agent.address: found `fd00::1`"),
        (
            "\"10.70.0.1:7170\"",
            "\"10.70.0.1\"",
            "agent.switch: found `10.70.0.1`, allowed is an IP address and a port",
        ),
        ("# records = 262144", "records = 7", "agent.records: found `7`, allowed is 1024 to 16777216"),
        (
            "# health_timeout_ms = 300",
            "health_timeout_ms = 900",
            "agent.health_timeout_ms: found `900`, allowed is 20 to 400",
        ),
        ("# health_interval_ms = 150", "health_interval_ms = 0", "agent.health_interval_ms: found `0`"),
        (
            "# pin_dir = \"/sys/fs/bpf/baton\"",
            "pin_dir = \"pins\"",
            "agent.pin_dir: found `pins`, allowed is an absolute",
        ),
        (
            "# health = \"tcp\"",
            "health = \"udp\"",
            "vip[0].health: found `udp`, allowed is \"tcp\", or \"http:\"",
        ),
        ("# health = \"tcp\"", "health = \"http:healthz\"", "vip[0].health: found `http:healthz`"),
        ("# health = \"tcp\"", "health = \"http:/a b\"", "vip[0].health"),
        ("port = 80", "port = 0", "vip[0].port: found `0`, allowed is 1 to 65535"),
        (
            "[[vip]]\naddress = \"10.60.0.100\"\nport = 80",
            "",
            "vip: found `0 tables`, allowed is 1 to 64 [[vip]] tables",
        ),
        (
            "port = 80",
            "port = 80\n[[vip]]\naddress = \"10.60.0.100\"\nport = 80",
            "vip[1].port: found `80`, allowed is an",
        ),
    ] {
        let message = files.fault(from, to);
        assert!(message.starts_with(want), "{message}\nis not\n{want}");
    }
}

#[test]
fn unknown_keys_and_other_types_are_refused_with_their_place() {
    let files = Files::new("types");
    let message = files.fault("port = 80", "prot = 80");
    assert!(message.contains("vip[0]") && message.contains("unknown field `prot`"), "{message}");
    assert!(message.contains("expected one of `address`, `port`, `health`"), "{message}");
    let message = files.fault("port = 80", "port = \"http\"");
    assert!(
        message.contains("vip[0].port (line ") && message.contains("invalid type: string \"http\""),
        "{message}"
    );
    let message = files.fault("port = 80", "port = 70000");
    assert!(message.contains("vip[0].port") && message.contains("70000"), "{message}");
    let message = files.fault("name = \"backend1\"\n", "");
    assert!(message.contains("agent") && message.contains("missing field `name`"), "{message}");
    let message = files.fault("[agent]", "[agent");
    assert!(message.starts_with("line 4"), "{message}");
    let missing = Config::read(&files.0.join("none.toml")).expect_err("no file").to_string();
    assert!(missing.contains("none.toml: No such file"), "{missing}");
}

#[test]
fn the_key_file_is_for_its_owner_only_and_its_secret_is_never_told() {
    let files = Files::new("keys");
    let good = key_file_text(KeyId(1), &[0xab; 32]);
    for mode in [0o400, 0o600] {
        files.write_keys(&good, mode);
        assert!(files.read("[agent]", "[agent]").is_ok(), "{mode:o}");
    }
    for mode in [0o644, 0o640, 0o604, 0o700, 0o4600] {
        files.write_keys(&good, mode);
        let message = files.fault("[agent]", "[agent]");
        assert!(message.contains(&format!("permissions {mode:04o}, allowed is 0600 or 0400")), "{message}");
    }
    files.write_keys(&good.replace("id = 1", "id = 1\ncolour = 2"), 0o600);
    let message = files.fault("[agent]", "[agent]");
    assert!(!message.contains("abab"), "{message}");
    let config = {
        files.write_keys(&good, 0o600);
        files.read("[agent]", "[agent]").expect("good")
    };
    assert!(!format!("{config:?}").contains("abab") && !format!("{config:?}").contains("171"));
}
