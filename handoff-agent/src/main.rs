//! `baton-agent`: wiring only.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, bail};
use baton_pages::{Pages, PagesFault};
use clap::{CommandFactory as _, Parser, Subcommand};
use handoff_agent::bpf::{self, Attachment, Maps, Programs, SessionRing, Steering};
use handoff_agent::config::{Config, ConfigError, Places};
use handoff_agent::control::{Dialer, Identity};
use handoff_agent::health;
use handoff_agent::host::{self, Endpoint, Facts, Keeper, Outlook, Severity, Wanted};
use handoff_agent::load::{self, LoadMeter, Servers, Tree};
use handoff_agent::mending::Mending;
use handoff_agent::status::Status;
use handoff_agent::supervisor::{self, Beginning, Supervisor};
use handoff_proto::Vip;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Baton's agent on a backend: turns handoffs into connections of an unmodified server.
///
/// Without --check or a command it runs until SIGTERM or SIGINT.
#[derive(Parser)]
#[command(
    name = "baton-agent",
    version,
    after_help = "Exit status: 0 stopped by SIGTERM or SIGINT, --check found no error that stays when the agent starts, or the \
                  command did its work; 1 failed while starting or running, or --check found such an error of this host; 2 wrong usage or configuration.\n\
                  Environment: BATON_LOG sets what is logged, such as \"debug\" or \"warn\" (info)."
)]
struct Arguments {
    /// Configuration file [default: /etc/baton/agent.toml].
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// Say what is wrong with the configuration, the key file it names and this host, change nothing, and exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Undo everything the agent did on this host: programs, pins, VIPs, settings, rules.
    Detach,
    /// Print the counters of the programs, also of those that run without an agent.
    Counters {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Pages(Pages),
}

const CONFIG_DEFAULT: &str = "/etc/baton/agent.toml";
const LOG_DEFAULT: &str = "info";
const UNSEEN: &str = "the host cannot be looked at";
const EXIT_FAILURE: u8 = 1;
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = start_log() {
        eprintln!("BATON_LOG: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    bpf::log_to_tracing();
    // An agent without one of its threads would report what is no longer so.
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!("{panic}");
        std::process::abort();
    }));
    match act(&arguments) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            // Each of its lines begins with the file.
            Some(wrong) => {
                let nobody_named_it = arguments.config.is_none() && matches!(wrong, ConfigError::Read { .. });
                eprintln!("{wrong}{}", if nobody_named_it { "; --config names another file" } else { "" });
                ExitCode::from(EXIT_CONFIG)
            }
            None => {
                eprintln!("baton-agent: {error:#}");
                ExitCode::from(EXIT_FAILURE)
            }
        },
    }
}

/// Logs to standard error, what `BATON_LOG` says or else the usual.
fn start_log() -> Result<(), ParseError> {
    let filter = match std::env::var("BATON_LOG") {
        Ok(directives) => EnvFilter::try_new(directives)?,
        Err(_) => EnvFilter::new(LOG_DEFAULT),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let file = arguments.config.as_deref().unwrap_or(Path::new(CONFIG_DEFAULT));
    match &arguments.command {
        // Of a backend that is given up, key file and server may be gone already.
        Some(Command::Detach) => {
            let Places { state_dir, pin_dir } = Places::read(file)?;
            supervisor::detach(&state_dir, &pin_dir)?;
            println!(
                "baton-agent: detached: programs and pins at {} are gone, and what the agent changed on this host is changed \
                 back",
                pin_dir.display()
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Counters { json }) => print_counters(&Places::read(file)?.pin_dir, *json),
        Some(Command::Pages(pages)) => make(pages),
        None if arguments.check => check(&Config::read(file)?),
        None => run(&Config::read(file)?).map(|()| ExitCode::SUCCESS),
    }
}

fn make(pages: &Pages) -> anyhow::Result<ExitCode> {
    match pages.make(Arguments::command(), baton_pages::DAEMONS, std::io::stdout().lock()) {
        // Whoever reads us has seen enough.
        Err(PagesFault::Write(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        made => Ok(made.map(|()| ExitCode::SUCCESS)?),
    }
}

fn wanted(config: &Config) -> Wanted {
    Wanted {
        interface: config.interface.clone(),
        address: config.address,
        pin_dir: config.places.pin_dir.clone(),
        vips: config.vips.iter().map(|vip| Endpoint { address: vip.address, port: vip.port }).collect(),
    }
}

fn check(config: &Config) -> anyhow::Result<ExitCode> {
    let (findings, facts) =
        supervisor::survey(&wanted(config), None, host::gather_firewall()).context(UNSEEN)?;
    let outlooks: Vec<Outlook> = findings.iter().map(|finding| finding.outlook(config.manage_host)).collect();
    for (finding, outlook) in findings.iter().zip(&outlooks) {
        let (kind, remedy) = match outlook {
            Outlook::Stays(Severity::Error) => ("error", "remedy"),
            Outlook::Stays(Severity::Warning) => ("warning", "remedy"),
            Outlook::SetAtStart => ("will be set at start", "the agent does"),
        };
        println!("{kind}: {}\n  why: {}\n  {remedy}: {}", finding.what, finding.why, finding.remedy);
        if finding.mend.is_some() && *outlook != Outlook::SetAtStart {
            println!("  with manage_host = true, the agent does this");
        }
    }
    print_measured(config, &facts);
    let errors = outlooks.iter().filter(|outlook| **outlook == Outlook::Stays(Severity::Error)).count();
    if errors > 0 {
        return Ok(ExitCode::from(EXIT_FAILURE));
    }
    let then = if outlooks.contains(&Outlook::SetAtStart) { " once the agent is started" } else { "" };
    println!("{}: this host is fit for handoffs{then}", config.name);
    Ok(ExitCode::SUCCESS)
}

fn servers(config: &Config) -> Servers {
    let vips = config.vips.iter().map(|vip| vip.vip()).collect();
    Servers::new(Tree::host(), config.cgroup.clone(), vips)
}

/// Says whose processor time and memory pressure will be reported.
fn print_measured(config: &Config, facts: &Facts) {
    let servers = servers(config);
    servers.look(&facts.listeners);
    match servers.place() {
        Ok(dir) => println!("load: processor time and memory pressure of {} will be reported", dir.display()),
        Err(unknown) => {
            println!("load: no processor time of the servers alone will be reported: {}", unknown.why())
        }
    }
}

fn print_counters(pin_dir: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let pins = std::fs::read_dir(pin_dir).map(|mut entries| entries.next().is_some());
    match pins {
        Ok(true) => {}
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            bail!("{}: cannot be looked at: {error}; run it as root", pin_dir.display())
        }
        _ => bail!(
            "{}: no programs of Baton are here: either no agent was started with this pin_dir, or `baton-agent detach` \
             removed them",
            pin_dir.display()
        ),
    }
    let counters = Maps::pinned(pin_dir)?.counters()?;
    if json {
        let values: serde_json::Map<String, serde_json::Value> =
            counters.iter().map(|(counter, value)| (counter.name.to_owned(), value.into())).collect();
        println!("{}", serde_json::Value::Object(values));
    } else {
        for (counter, value) in counters.iter() {
            println!("{value:>12}  {:<22} {}", counter.name, counter.text);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(config: &Config) -> anyhow::Result<()> {
    let wanted = wanted(config);
    let Places { state_dir, pin_dir } = &config.places;
    let vips: Vec<Vip> = config.vips.iter().map(|vip| vip.vip()).collect();
    let keeper = Keeper::open(state_dir, wanted.vips.clone())?;
    // Without leave to change the host, it is still kept from other agents.
    let (mut keeper, _lock) = if config.manage_host { (Some(keeper), None) } else { (None, Some(keeper)) };
    keeper.as_mut().map_or(Ok(()), Keeper::drop_outdated)?;
    let mut mending = Mending::default();
    let (findings, facts) = {
        let keeper = keeper.as_mut().map(|keeper| (keeper, &mut mending));
        supervisor::survey(&wanted, keeper, host::gather_firewall()).context(UNSEEN)?
    };
    findings.iter().for_each(supervisor::log_finding);
    let Some(interface) = facts.interface else { bail!("there is no interface `{}`", config.interface) };

    let programs = Programs::load(config.records, Some(pin_dir))
        .context("the BPF programs cannot be loaded; baton-agent --check says what may be missing")?;
    let maps = programs.maps();
    let key_id = maps.set_keys(&config.keys)?;
    maps.set_vips(&vips)?;
    let afresh = !bpf::is_attached(pin_dir, interface.index);
    let steering = Steering::new(maps, config.address, interface.index, key_id, afresh)?;
    let attachment = Attachment::new(&programs, interface.index, pin_dir)?;
    steering.begin_records()?;
    let taken_over = attachment.taken_over;
    tracing::info!(name = config.name, interface = config.interface, taken_over, "the programs are attached");

    let status = Status::new(&vips);
    let servers = servers(config);
    servers.look(&facts.listeners);
    let mut supervisor = Supervisor::new(Beginning {
        wanted,
        keeper,
        mending,
        findings,
        programs: &programs,
        steering: &steering,
        status: &status,
        servers: &servers,
        attachment,
        firewall: facts.firewall,
    });
    let dialer = Dialer {
        switch: config.switch,
        key: config.keys.current().clone(),
        identity: Identity { name: config.name.clone(), address: config.address, vips: vips.clone() },
        status: &status,
        steering: &steering,
    };
    load::begin_counting(maps)?;
    let watch = bpf::watch_sockets(&programs);
    if let Err(error) = &watch {
        tracing::warn!(%error, "connections are counted by listing them, which takes longer");
    }
    let mut load = LoadMeter::new(maps, &servers, &config.interface, vips, watch.is_ok());
    let sessions = SessionRing::new(maps)?;
    let stop = AtomicBool::new(false);
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("signals cannot be waited for")?;
    thread::scope(|scope| {
        let mut stops = Vec::new();
        for vip in &config.vips {
            let (sender, stopped) = mpsc::channel();
            stops.push(sender);
            let status = &status;
            scope.spawn(move || {
                health::watch(vip, config.health_interval, config.health_timeout, status, &stopped)
            });
        }
        let (sender, stopped) = mpsc::channel();
        stops.push(sender);
        scope.spawn(move || supervisor.run(&stopped));
        let (dialer, load, stop) = (&dialer, &mut load, &stop);
        scope.spawn(move || dialer.run(load, &sessions, stop));
        // The programs stay attached and open: what the switch has already sent is still taken.
        signals.forever().next();
        tracing::info!("stopping; the programs stay at work until `baton-agent detach`");
        stop.store(true, Ordering::Relaxed);
    });
    Ok(())
}
