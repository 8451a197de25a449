//! What an operator may write on the command line. Shell completion and manual pages are made of the same definitions.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use baton_pages::Pages;
use clap::{Args, Parser, Subcommand};
use handoff_proto::TlsSessionId;
use handoff_proto::admin::{CAPTURE_FRAMES_MAX, CAPTURE_SECONDS_MAX, FLOWS_MAX, SOCKET_DEFAULT};

/// Looks into a running Baton switch, operates it, and makes its keys.
#[derive(Debug, Parser)]
#[command(
    name = "batonctl",
    version,
    after_help = "Exit status: 0 done; 1 the switch does not answer, or a file cannot be read or written; 2 wrong usage; \
                  3 the switch says that it cannot or will not do it, such as a configuration with faults."
)]
pub(crate) struct Arguments {
    /// The switch's admin socket (admin_socket in switch.toml).
    #[arg(long, global = true, value_name = "PATH", default_value = SOCKET_DEFAULT)]
    pub(crate) socket: PathBuf,
    /// Write JSON instead of text for people.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The switch as a whole: VIPs, lcores, how busy they are.
    Status,
    /// Every backend: whether it gets new connections, and if not, why. With a further word: change one.
    Backends(BackendsArguments),
    /// Every pool: its policy, what keeps clients at their backends, its backends with their weights.
    /// With a further word: check or apply others.
    Pools(PartArguments),
    /// Every rule, in the order in which they are tried; the first that matches wins. With a further word: check or
    /// apply others.
    Rules(PartArguments),
    /// Every service class: at overload the one with the lowest priority is refused first.
    Classes,
    /// The running configuration: show it, check or apply another one, read the file again.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Make a configuration the running one: short for "config apply".
    Apply(FileArguments),
    /// Say what would become of a request: which rule, class, pool, policy and backend, how full the pool is, and why.
    /// Nothing is sent anywhere. Policies with a memory (turns, counts, what was learned) are asked at lcore 0 as they
    /// stand, which changes nothing in them; another lcore may choose otherwise.
    Route(RouteArguments),
    /// The connections the switch knows.
    Flows(FlowsArguments),
    /// What was counted since the switch started.
    Counters(CountersArguments),
    /// Watch the switch: rates, backends, their load, until q is pressed.
    Top(TopArguments),
    /// What happened: backends that came and went, agents refused, configurations applied.
    Events(EventsArguments),
    /// Write the frames of a client's connections, as the switch receives and sends them, to a pcap file.
    Capture(CaptureArguments),
    /// Make a key file: one random key, mode 0600, for a new cluster or to change keys. An existing file is never
    /// overwritten.
    Keygen(KeygenArguments),
    #[command(flatten)]
    Pages(Pages),
}

#[derive(Debug, Args)]
pub(crate) struct BackendsArguments {
    #[command(subcommand)]
    pub(crate) command: Option<BackendsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackendsCommand {
    /// List them; the same as no further word.
    List,
    /// Add a backend; it gets connections as soon as its agent reports that it is well.
    Add(AddArguments),
    /// Remove a backend from all pools; no connection of it is touched.
    Remove(NameArguments),
    /// Give a backend no new connections; those it has go on.
    Drain(NameArguments),
    /// Give a backend that drains new connections again.
    Enable(NameArguments),
    /// Give a backend another weight.
    Weight(WeightArguments),
}

#[derive(Debug, Args)]
pub(crate) struct NameArguments {
    /// The backend's name.
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Its name, the same as in its agent.toml.
    pub(crate) name: String,
    /// Its address on the data network.
    pub(crate) address: Ipv4Addr,
    /// Its weight.
    #[arg(long, value_name = "1-1000", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) weight: Option<u16>,
    /// A pool to put it into; may be given more than once.
    #[arg(long = "pool", value_name = "POOL")]
    pub(crate) pools: Vec<String>,
    /// Give it no new connections until it is enabled.
    #[arg(long)]
    pub(crate) drain: bool,
    /// With so many connections it counts as full.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) connections_max: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct WeightArguments {
    /// The backend's name.
    pub(crate) name: String,
    /// Its weight from now on.
    #[arg(value_name = "1-1000", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) weight: u16,
    /// In this pool only [default: in every pool that says no other].
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the running configuration as TOML, with everything that was changed since the switch started.
    Show,
    /// Say what is wrong with a configuration, or what it would change; nothing changes.
    Check(FileArguments),
    /// Make a configuration the running one: checked whole, applied at once or not at all. The switch's own file stays.
    Apply(FileArguments),
    /// Have the switch read its own configuration file again, as SIGHUP does.
    Reload,
}

#[derive(Debug, Args)]
pub(crate) struct PartArguments {
    #[command(subcommand)]
    pub(crate) command: Option<PartCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PartCommand {
    /// List them; the same as no further word.
    Show {
        /// As they stand in switch.toml: a file to change, and to check or apply.
        #[arg(long)]
        toml: bool,
    },
    /// Say what is wrong with others, or what they would change; nothing changes.
    Check(FileArguments),
    /// Put others in their place, all of them: the file has only these sections, `[[rule]]` or `[[pool]]`. All else goes on
    /// as it runs. Checked as a whole configuration, applied at once or not at all. The switch's own file stays.
    Apply(FileArguments),
}

#[derive(Debug, Args)]
pub(crate) struct FileArguments {
    /// The file; - is standard input.
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RouteArguments {
    /// The HTTP method, such as GET; without method and URL nothing of the request counts but VIP and client.
    #[arg(requires = "url")]
    pub(crate) method: Option<String>,
    /// http://HOST/PATH, or only /PATH.
    #[arg(value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The client's address [default: 0.0.0.0].
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<IpAddr>,
    /// A header of the request; may be given more than once.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", requires = "method")]
    pub(crate) headers: Vec<String>,
    /// A TLS connection that names this server (SNI).
    #[arg(long, value_name = "NAME", conflicts_with = "method")]
    pub(crate) sni: Option<String>,
    /// A TLS connection that offers this protocol (ALPN), such as h2; may be given more than once.
    #[arg(long, value_name = "PROTOCOL", conflicts_with = "method")]
    pub(crate) alpn: Vec<String>,
    /// A TLS connection that would resume this session (TLS 1.2): its id in hex digits, two a byte.
    #[arg(long, value_name = "HEX", conflicts_with = "method")]
    pub(crate) session_id: Option<TlsSessionId>,
    /// Name of the VIP the client connects to; may be left out where there is one only.
    #[arg(long, value_name = "NAME")]
    pub(crate) vip: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FlowsArguments {
    /// List at most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit)]
    pub(crate) limit: usize,
}

#[derive(Debug, Args)]
pub(crate) struct CountersArguments {
    /// Also list counters that are 0 (JSON always has all).
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopArguments {
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one view as plain text, of one interval, and end.
    #[arg(long)]
    pub(crate) once: bool,
    /// Columns of the view that --once prints.
    #[arg(long, value_name = "COLUMNS", default_value_t = 120, requires = "once",
          value_parser = clap::value_parser!(u16).range(40..=400))]
    pub(crate) width: u16,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArguments {
    /// Go on until interrupted; with --json, one event a line.
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// Only those behind the event with this number.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(crate) after: u64,
}

#[derive(Debug, Args)]
pub(crate) struct CaptureArguments {
    /// The client, or one connection of it.
    #[arg(value_name = "CLIENT_IP[:PORT]", value_parser = client)]
    pub(crate) client: (Ipv4Addr, Option<u16>),
    /// Only with this VIP.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) vip: Option<SocketAddrV4>,
    /// The file, which is overwritten; - is standard output.
    #[arg(long, short = 'w', value_name = "FILE")]
    pub(crate) write: PathBuf,
    /// End after so many frames.
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CAPTURE_FRAMES_MAX)))]
    pub(crate) frames: u32,
    /// End after so many seconds; an interrupt (ctrl-c) ends it at any time.
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(CAPTURE_SECONDS_MAX)))]
    pub(crate) seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct KeygenArguments {
    /// Where to write it. In a new cluster the switch and every backend need the same file.
    pub(crate) file: PathBuf,
    /// The key's id (0 to 255). A further key of a cluster needs one of its own, and goes behind the others in every key
    /// file [default: 1].
    #[arg(long)]
    pub(crate) id: Option<u8>,
}

fn limit(text: &str) -> Result<usize, String> {
    let limit: usize = text.parse().map_err(|_| "a number is needed".to_owned())?;
    if (1..=FLOWS_MAX).contains(&limit) { Ok(limit) } else { Err(format!("allowed are 1 to {FLOWS_MAX}")) }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number is needed".to_owned())?;
    match (0.1..=10.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err("allowed are 0.1 to 10".to_owned()),
    }
}

fn client(text: &str) -> Result<(Ipv4Addr, Option<u16>), String> {
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    match text.parse() {
        Ok(SocketAddr::V4(end)) => Ok((*end.ip(), Some(end.port()))),
        Ok(SocketAddr::V6(_)) => Err("the switch forwards IPv4 only".to_owned()),
        Err(_) => Err("an IPv4 address is needed, or address:port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_client_is_an_address_with_or_without_a_port() {
        let address = Ipv4Addr::new(10, 50, 0, 11);
        assert_eq!(client("10.50.0.11"), Ok((address, None)));
        assert_eq!(client("10.50.0.11:4000"), Ok((address, Some(4000))));
        for wrong in ["", "10.50.0", "10.50.0.11:", "10.50.0.11:70000", "[::1]:80", "::1"] {
            client(wrong).expect_err(wrong);
        }
    }
}
