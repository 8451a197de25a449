//! The configuration file: the example is good, and each fault is told with file, key, what was found, what is allowed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use handoff_agent::config::{Config, ConfigError, HealthProbe, Places};
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
fn a_control_group_is_found_or_named() {
    let files = Files::new("cgroup");
    let read = |to| files.read("# cgroup = \"auto\"", to).expect("good").cgroup;
    assert_eq!([read(""), read("cgroup = \"auto\"")], [None, None]);
    assert_eq!(read("cgroup = \"/sys/fs/cgroup/web/\""), Some(PathBuf::from("/sys/fs/cgroup/web")));
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
            "agent.interface: found `an-interface-name-too-long`, allowed is the name of an interface, up to 15 characters",
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
        ("# records = 262144", "records = -1", "agent.records: found `-1`, allowed is 1024"),
        ("\"10.70.0.1:7170\"", "\"10.70.0.1:0\"", "agent.switch: found `10.70.0.1:0`"),
        (
            "# cgroup = \"auto\"",
            "cgroup = \"nginx.service\"",
            "load.cgroup: found `nginx.service`, allowed is \"auto\", or the absolute path of a control group's directory",
        ),
        ("# cgroup = \"auto\"", "cgroup = \"\"", "load.cgroup: found ``"),
        (
            "# cgroup = \"auto\"",
            "cgroup = \"/sys/fs/cgroup/../..\"",
            "load.cgroup: found `/sys/fs/cgroup/../..`",
        ),
        (
            "# pin_dir = \"/sys/fs/bpf/baton\"",
            "pin_dir = \"/sys/fs/bpf\"",
            "agent.pin_dir: found `/sys/fs/bpf`, allowed is an absolute path of a directory of the agent's own, as \
             /sys/fs/bpf/baton: `baton-agent detach` removes it",
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
            "vip: missing, allowed is 1 to 64 [[vip]] tables",
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
fn directories_that_others_use_are_no_pin_or_state_directory() {
    let files = Files::new("directories");
    for path in [
        "/",
        "//",
        "/.",
        "/sys",
        "/sys/fs",
        "/sys/fs/bpf",
        "/sys/fs/bpf/",
        "/sys//fs/./bpf",
        "/sys/fs/bpf/a/..",
        "baton",
        "",
    ] {
        let message = files.fault("# pin_dir = \"/sys/fs/bpf/baton\"", &format!("pin_dir = \"{path}\""));
        assert!(message.starts_with(&format!("agent.pin_dir: found `{path}`")), "{path}: {message}");
    }
    for path in ["/", "/.", "/run/..", "state"] {
        let message = files.fault("# state_dir = \"/run/baton-agent\"", &format!("state_dir = \"{path}\""));
        assert!(message.starts_with(&format!("agent.state_dir: found `{path}`")), "{path}: {message}");
    }
    let config = files.read("# pin_dir = \"/sys/fs/bpf/baton\"", "pin_dir = \"/sys/fs/bpf/b/a/\"");
    assert_eq!(config.expect("below").places.pin_dir, PathBuf::from("/sys/fs/bpf/b/a"));
}

#[test]
fn all_that_is_missing_is_told_at_once() {
    let files = Files::new("missing");
    let file = files.0.join("agent.toml");
    let keys = |text: &str| -> Vec<String> {
        std::fs::write(&file, text).expect("writable");
        let message = Config::read(&file).expect_err("faults").to_string();
        let start = format!("{}: ", file.display());
        let key = |line: &str| {
            let fault = line.strip_prefix(&start).expect("each line names the file");
            let (key, rest) = fault.split_once(": missing, allowed is ").expect("missing");
            assert!(rest.len() > 5, "{line}");
            key.to_owned()
        };
        message.lines().map(key).collect()
    };
    let agent = ["agent.name", "agent.interface", "agent.address", "agent.switch", "agent.key_file"];
    assert_eq!(keys(""), [&agent[..], &["vip"]].concat());
    assert_eq!(
        keys("[agent]\n[[vip]]\nhealth = \"tcp\"\n[[vip]]\nport = 80\n"),
        [&agent[..], &["vip[0].address", "vip[0].port", "vip[1].address"]].concat()
    );
}

#[test]
fn several_faults_are_told_at_once_in_the_order_of_the_file() {
    let files = Files::new("several");
    let file = files.0.join("agent.toml");
    let text = "[agent]\nname = \"back end\"\ninterface = \"data0\"\naddress = \"10.60.0\"\nkey_file = \"/nowhere/k\"\n\
                pin_dir = \"/\"\nrecords = 1\nswitch = \"10.70.0.1:7170\"\n[[vip]]\naddress = \"10.60.0.100\"\nport = 0\n\
                [[vip]]\naddress = \"10.60.0.100\"\nhealth = \"udp\"\n";
    std::fs::write(&file, text).expect("writable");
    let message = Config::read(&file).expect_err("faults").to_string();
    let faults: Vec<&str> = message
        .lines()
        .map(|line| line.strip_prefix(&*format!("{}: ", file.display())).expect("file"))
        .collect();
    let wanted = [
        "agent.name: found `back end`, allowed is ",
        "agent.address: found `10.60.0`, allowed is ",
        "agent.key_file = `/nowhere/k`: cannot be read: No such file or directory (os error 2); copy the switch's key file ",
        "agent.pin_dir: found `/`, allowed is ",
        "agent.records: found `1`, allowed is ",
        "vip[0].port: found `0`, allowed is ",
        "vip[1].port: missing, allowed is ",
        "vip[1].health: found `udp`, allowed is ",
    ];
    assert_eq!(faults.len(), wanted.len(), "{message}");
    for (fault, want) in faults.iter().zip(wanted) {
        assert!(fault.starts_with(want), "{fault}\nis not\n{want}");
    }
}

#[test]
fn unknown_keys_and_other_types_are_refused_with_their_place() {
    let files = Files::new("types");
    for (from, to, want) in [
        (
            "port = 80",
            "prot = 80",
            "vip[0].prot (line LINE): unknown field `prot`, expected one of `address`, `port`, `health`",
        ),
        (
            "[agent]",
            "[agnet]",
            "agnet (line LINE): unknown field `agnet`, expected one of `agent`, `load`, `vip`",
        ),
        (
            "port = 80",
            "port = \"http\"",
            "vip[0].port (line LINE): invalid type: string \"http\", expected a whole number",
        ),
        (
            "port = 80",
            "port = 80.5",
            "vip[0].port (line LINE): invalid type: floating point `80.5`, expected a whole number",
        ),
        ("[[vip]]", "[vip]", "vip (line LINE): invalid type: map, expected tables in double brackets"),
        (
            "# manage_host = true",
            "manage_host = \"yes\"",
            "agent.manage_host (line LINE): invalid type: string \"yes\", expected a boolean",
        ),
        (
            "name = \"backend1\"",
            "name = 1",
            "agent.name (line LINE): invalid type: integer `1`, expected a string",
        ),
    ] {
        let above = EXAMPLE.split(from).next().expect("even if it is nowhere");
        let line = (above.matches('\n').count() + 1).to_string();
        assert_eq!(files.fault(from, to), want.replace("LINE", &line));
    }
    let message = files.fault("port = 80", "port = 70000");
    assert_eq!(message, "vip[0].port: found `70000`, allowed is 1 to 65535");
    let message = files.fault("[agent]", "[agent");
    assert!(message.starts_with("line 4"), "{message}");
    let missing = Config::read(&files.0.join("none.toml")).expect_err("no file").to_string();
    assert!(missing.contains("none.toml: cannot be read: No such file"), "{missing}");
}

#[test]
fn the_places_are_read_without_the_rest() {
    let files = Files::new("places");
    let file = files.0.join("agent.toml");
    std::fs::write(&file, "[agent]\nkey_file = \"/nowhere/k\"\npin_dir = \"/sys/fs/bpf/b7\"\n")
        .expect("writable");
    let places = Places::read(&file).expect("good enough");
    assert_eq!(places.pin_dir, PathBuf::from("/sys/fs/bpf/b7"));
    assert_eq!(places.state_dir, PathBuf::from("/run/baton-agent"));
    std::fs::write(&file, "[agent]\npin_dir = \"/sys/fs/bpf\"\n").expect("writable");
    let message = Places::read(&file).expect_err("everybody's").to_string();
    assert!(message.contains("agent.pin_dir: found `/sys/fs/bpf`"), "{message}");
}

#[test]
fn the_key_file_is_for_its_owner_only_and_its_secret_is_never_told() {
    let files = Files::new("keys");
    let good = key_file_text(KeyId(1), &[0xab; 32]);
    for mode in [0o400, 0o600] {
        files.write_keys(&good, mode);
        assert!(files.read("[agent]", "[agent]").is_ok(), "{mode:o}");
    }
    let fault = || {
        let message = files.fault("[agent]", "[agent]");
        let start = format!("agent.key_file = `{}`: ", files.0.join("keys.toml").display());
        message
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{message}\ndoes not begin with\n{start}"))
            .to_owned()
    };
    for mode in [0o644, 0o640, 0o604, 0o700, 0o4600] {
        files.write_keys(&good, mode);
        let wanted = format!(
            "mode {mode:04o}; 0600 or 0400 is needed: chmod 600 and, if others may have read it, new keys"
        );
        assert_eq!(fault(), wanted);
    }
    // One sentence for each fault, and none of the secret.
    files.write_keys("", 0o600);
    assert_eq!(fault(), "no [[key]] in the file; `batonctl keygen FILE` makes one");
    files.write_keys(&good.replace("abab", "abax"), 0o600);
    assert_eq!(fault(), "the secret of key 1 must be 64 hex digits (32 bytes)");
    files.write_keys(&good.replace("id = 1", "id = 1\ncolour = 2"), 0o600);
    assert_eq!(fault(), "unknown field `colour`, expected `id` or `secret`");
    files.write_keys(&"#".repeat((64 << 10) + 1), 0o600);
    assert_eq!(fault(), "longer than 65536 bytes: this is no key file");
    std::fs::remove_file(files.0.join("keys.toml")).expect("removable");
    assert_eq!(
        fault(),
        "cannot be read: No such file or directory (os error 2); copy the switch's key file here (`batonctl keygen FILE` \
         makes the first one)"
    );
    std::fs::create_dir(files.0.join("keys.toml")).expect("writable");
    assert_eq!(fault(), "not a regular file");
    std::fs::remove_dir(files.0.join("keys.toml")).expect("removable");
    let config = {
        files.write_keys(&good, 0o600);
        files.read("[agent]", "[agent]").expect("good")
    };
    assert!(!format!("{config:?}").contains("abab") && !format!("{config:?}").contains("171"));
}
