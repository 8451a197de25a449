//! An agent as a process, on a host that is a network namespace of the test's own, and the switch it dials: only the
//! control channel and a wire.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use handoff_agent::sys::netlink::Netlink;
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{CONTROL_VERSION, FromAgent, FromSwitch, Report};
use handoff_proto::keys::key_file_text;
use handoff_proto::{KeyId, KeyRing};

use super::net::*;
use super::*;

pub const READY_WITHIN: Duration = Duration::from_secs(8);
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A host with an agent's files, and the switch it dials.
pub struct Lab {
    pub net: Net,
    pub switch: TcpListener,
    pub dir: PathBuf,
    pub pin_dir: PathBuf,
}

/// A running agent; killed when dropped.
pub struct Agent(pub Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended
        let _ = self.0.wait();
    }
}

impl Lab {
    pub fn new(options: &str) -> Self {
        let net = Net::new();
        let run = format!("agt-{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(&run);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let switch = TcpListener::bind("127.0.0.1:0").expect("a free namespace");
        switch.set_nonblocking(true).expect("settable");
        let lab = Self { net, switch, pin_dir: Path::new("/sys/fs/bpf").join(run), dir };
        lab.write_keys(&[0x41; 32]);
        lab.configure(options);
        lab
    }

    pub fn write_keys(&self, secret: &[u8; 32]) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.dir.join("keys.toml");
        std::fs::write(&file, key_file_text(KeyId(1), secret)).expect("writable");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("settable");
    }

    pub fn configure(&self, options: &str) {
        let text = format!(
            "[agent]\nname = \"backend1\"\ninterface = \"data0\"\naddress = \"{HOST}\"\nswitch = \"{}\"\n\
             key_file = \"{dir}/keys.toml\"\nstate_dir = \"{dir}/state\"\npin_dir = \"{}\"\n{options}\n\
             [[vip]]\naddress = \"{VIP}\"\nport = 80\n",
            self.switch.local_addr().expect("bound"),
            self.pin_dir.display(),
            dir = self.dir.display(),
        );
        std::fs::write(self.dir.join("agent.toml"), text).expect("writable");
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton-agent"));
        command.args(arguments).arg("--config").arg(self.dir.join("agent.toml")).env("BATON_LOG", "info");
        command
    }

    pub fn start(&self) -> Agent {
        Agent(self.command(&[]).stdin(Stdio::null()).spawn().expect("the agent runs"))
    }

    pub fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the agent runs")
    }

    /// Takes the agent's next connection and welcomes it.
    #[track_caller]
    pub fn welcome(&self) -> SwitchEnd {
        self.greet(SwitchEnd::accept(&self.switch))
    }

    /// Welcomes the agent on a connection that was taken before.
    #[track_caller]
    pub fn greet(&self, mut end: SwitchEnd) -> SwitchEnd {
        match end.next() {
            FromAgent::Hello { version, name, address, vips, .. } => {
                assert_eq!((version, name.as_str()), (CONTROL_VERSION, "backend1"));
                assert_eq!((address, vips), (IpAddr::V4(HOST), vec![vip()]));
            }
            other => panic!("not a hello: {other:?}"),
        }
        end.say(&FromSwitch::Welcome {
            version: CONTROL_VERSION,
            address: SWITCH.into(),
            time: switch_now(),
        });
        end
    }

    pub fn has_vip(&self) -> bool {
        let addresses = Netlink::open().and_then(|netlink| netlink.addresses()).expect("readable");
        addresses.iter().any(|found| found.address == IpAddr::V4(VIP))
    }

    /// Undoes everything, as an operator would.
    #[track_caller]
    pub fn detach(&self) {
        let output = self.output(&["detach"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(!self.pin_dir.exists() && !self.dir.join("state").exists() && !self.has_vip());
        let self_test = Netlink::open().and_then(|netlink| netlink.interface("baton-st0")).expect("readable");
        assert_eq!(self_test, None);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.output(&["detach"]); // a failed test may have left something
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The switch's end of a control connection: answers each report with the time.
pub struct SwitchEnd {
    pub stream: TcpStream,
    pub channel: Channel,
}

impl SwitchEnd {
    #[track_caller]
    pub fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = accept(listener);
        Self { stream, channel: Channel::accept(KeyRing::new(vec![super::control_key()]).expect("one key")) }
    }

    pub fn say(&mut self, message: &FromSwitch) {
        let bytes = self.channel.seal(message).expect("open");
        let _ = self.stream.write_all(&bytes); // the agent may be gone
    }

    pub fn try_next(&mut self) -> Result<Option<FromAgent>, ChannelError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(bytes) = self.channel.advance()? {
                self.stream.write_all(&bytes).expect("connected");
            }
            if let Some(message) = self.channel.take::<FromAgent>()? {
                if let FromAgent::Report(report) = &message {
                    self.say(&FromSwitch::Time { number: report.number, time: switch_now() });
                }
                return Ok(Some(message));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(read) => self.channel.feed(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
            assert!(Instant::now() < deadline, "the agent is silent");
        }
    }

    #[track_caller]
    pub fn next(&mut self) -> FromAgent {
        self.try_next().expect("authentic").expect("connected")
    }

    /// Answers reports for a while.
    #[track_caller]
    pub fn try_until(&mut self, end: Instant) {
        while Instant::now() < end {
            assert!(matches!(self.next(), FromAgent::Report(_)));
        }
    }

    /// Reads reports until one is as wanted.
    #[track_caller]
    pub fn await_report(&mut self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = Instant::now() + READY_WITHIN;
        let mut last = None;
        while Instant::now() < deadline {
            match self.next() {
                FromAgent::Report(report) if wanted(&report) => return report,
                FromAgent::Report(report) => last = Some(report),
                other => panic!("{other:?}"),
            }
        }
        panic!("no report that is {what} within {READY_WITHIN:?}; the last was {last:?}");
    }

    #[track_caller]
    pub fn await_ready(&mut self) -> Report {
        self.await_report("ready", |report| report.ready && report.health.iter().all(|vip| vip.healthy))
    }
}

impl Lab {
    #[track_caller]
    pub fn detach_after(&self, agent: Agent) {
        let refused = self.output(&["detach"]);
        let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && complaint.contains("another baton-agent is running"),
            "{complaint}"
        );
        drop(agent);
        std::fs::remove_file(self.dir.join("keys.toml")).expect("written before");
        self.detach(); // needs no key
    }
}
