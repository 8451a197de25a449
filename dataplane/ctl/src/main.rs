//! `batonctl`: looks into a running Baton switch and operates it over its admin API, and makes key files.

mod arguments;
mod capture;
mod client;
mod keygen;
mod question;
mod show;
mod table;
mod top;
mod vitals;
mod wall;

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use baton_pages::PagesFault;
use clap::{CommandFactory, Parser};
use form_urlencoded::{Serializer, byte_serialize};
use handoff_proto::KeyId;
use handoff_proto::admin::{
    Backend, CONFIGURATION_BYTES_MAX, Changes, Class, Configuration, ConfigurationText, Counter,
    EVENTS_WAIT_MS_MAX, Events, Flows, NewBackend, NewWeight, Pool, Route, Rule, Status,
};
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use arguments::{
    Arguments, BackendsArguments, BackendsCommand, CaptureArguments, Command, ConfigCommand, EventsArguments,
    FileArguments, PartCommand,
};
use capture::CaptureFault;
use client::{AskFault, Client};
use keygen::KeygenFault;
use question::WordsFault;
use top::TopFault;

const KEY_ID_DEFAULT: u8 = 1;
/// Instead of a file's name: standard input.
const STDIN: &str = "-";

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;
const EXIT_REFUSED: u8 = 3;

/// Why a command was not done.
#[derive(Debug, Error)]
enum Fault {
    #[error(transparent)]
    Ask(#[from] AskFault),
    #[error(transparent)]
    Keygen(#[from] KeygenFault),
    #[error(transparent)]
    Capture(#[from] CaptureFault),
    #[error(transparent)]
    Top(#[from] TopFault),
    #[error(transparent)]
    Words(#[from] WordsFault),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} is longer than {CONFIGURATION_BYTES_MAX} bytes, the most a configuration may have", .0.display())]
    TooLong(PathBuf),
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Pages(PagesFault),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl From<PagesFault> for Fault {
    fn from(fault: PagesFault) -> Self {
        match fault {
            PagesFault::Write(error) => Self::Write(error),
            fault @ PagesFault::Directory { .. } => Self::Pages(fault),
        }
    }
}

impl Fault {
    const fn exit(&self) -> u8 {
        match self {
            Self::Ask(AskFault::Refused(_)) | Self::Capture(CaptureFault::Ask(AskFault::Refused(_))) => {
                EXIT_REFUSED
            }
            Self::Words(_) => EXIT_USAGE,
            _ => EXIT_FAILURE,
        }
    }
}

fn main() -> ExitCode {
    let outcome = run(&Arguments::parse());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough, as `head` does.
        Err(Fault::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("batonctl: {fault}");
            ExitCode::from(fault.exit())
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    let is_json = arguments.json;
    match &arguments.command {
        Command::Keygen(keygen) => {
            let made = keygen::make(&keygen.file, KeyId(keygen.id.unwrap_or(KEY_ID_DEFAULT)))?;
            print(&if is_json { json(&made)? } else { show::made(&made, keygen.id.is_some()) })
        }
        Command::Pages(pages) => {
            Ok(pages.make(Arguments::command(), baton_pages::COMMANDS, io::stdout().lock())?)
        }
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut asker = Asker { client: Client::new(&arguments.socket), is_json };
            match command {
                Command::Top(top) => Ok(top::run(&runtime, &mut asker.client, top)?),
                command => runtime.block_on(asker.run(command)),
            }
        }
    }
}

/// Asks one switch, and prints the answer as was wished.
struct Asker {
    client: Client,
    is_json: bool,
}

impl Asker {
    async fn run(&mut self, command: &Command) -> Result<(), Fault> {
        match command {
            Command::Status => self.show("/v1/status", |status: &Status| show::status(status)).await,
            Command::Backends(backends) => self.backends(backends).await,
            Command::Pools(part) => match &part.command {
                None | Some(PartCommand::Show { toml: false }) => {
                    self.show("/v1/pools", |pools: &Vec<Pool>| show::pools(pools)).await
                }
                Some(command) => self.part("pools", command).await,
            },
            Command::Rules(part) => match &part.command {
                None | Some(PartCommand::Show { toml: false }) => {
                    self.show("/v1/rules", |rules: &Vec<Rule>| show::rules(rules)).await
                }
                Some(command) => self.part("rules", command).await,
            },
            Command::Classes => self.show("/v1/classes", |classes: &Vec<Class>| show::classes(classes)).await,
            Command::Config(config) => self.config(config).await,
            Command::Apply(file) => self.send(file, "/v1/config/apply", true).await,
            Command::Route(words) => {
                let mut query = Serializer::new(String::new());
                query.extend_pairs(question::question(words)?.to_pairs());
                let path = format!("/v1/route?{}", query.finish());
                self.show(&path, |route: &Route| show::route(route)).await
            }
            Command::Flows(flows) => {
                let path = format!("/v1/flows?limit={}", flows.limit);
                self.show(&path, |flows: &Flows| show::flows(flows)).await
            }
            Command::Counters(wish) => {
                self.show("/v1/counters", |counters: &Vec<Counter>| show::counters(counters, wish.all)).await
            }
            Command::Events(events) => self.events(events).await,
            Command::Capture(capture) => self.capture(capture).await,
            Command::Top(_) | Command::Keygen(_) | Command::Pages(_) => {
                unreachable!("these do not only ask, and were done before")
            }
        }
    }

    /// Asks and prints.
    async fn show<T>(&mut self, path: &str, text: impl Fn(&T) -> String) -> Result<(), Fault>
    where
        T: Serialize + DeserializeOwned,
    {
        let answer: T = self.client.get(path).await?;
        print(&if self.is_json { json(&answer)? } else { text(&answer) })
    }

    async fn backends(&mut self, arguments: &BackendsArguments) -> Result<(), Fault> {
        let one = |name: &str| {
            let name: String = byte_serialize(name.as_bytes()).collect();
            // In a path a plus is a plus.
            format!("/v1/backends/{}", name.replace('+', "%20"))
        };
        let post = Method::POST;
        let changes: Changes = match &arguments.command {
            None | Some(BackendsCommand::List) => {
                return self.show("/v1/backends", |backends: &Vec<Backend>| show::backends(backends)).await;
            }
            Some(BackendsCommand::Add(add)) => {
                let new = NewBackend {
                    name: add.name.clone(),
                    address: add.address,
                    weight: add.weight,
                    pools: add.pools.clone(),
                    drain: add.drain,
                    connections_max: add.connections_max,
                };
                self.client.post("/v1/backends", &new).await?
            }
            Some(BackendsCommand::Remove(name)) => {
                self.client.order(Method::DELETE, &one(&name.name)).await?
            }
            Some(BackendsCommand::Drain(name)) => {
                self.client.order(post, &(one(&name.name) + "/drain")).await?
            }
            Some(BackendsCommand::Enable(name)) => {
                self.client.order(post, &(one(&name.name) + "/enable")).await?
            }
            Some(BackendsCommand::Weight(weight)) => {
                let new = NewWeight { weight: weight.weight, pool: weight.pool.clone() };
                self.client.post(&(one(&weight.name) + "/weight"), &new).await?
            }
        };
        self.changed(&changes, true)
    }

    async fn config(&mut self, command: &ConfigCommand) -> Result<(), Fault> {
        match command {
            ConfigCommand::Show => self.show("/v1/config", toml_of).await,
            ConfigCommand::Check(file) => self.send(file, "/v1/config/check", false).await,
            ConfigCommand::Apply(file) => self.send(file, "/v1/config/apply", true).await,
            ConfigCommand::Reload => {
                let changes = self.client.order(Method::POST, "/v1/reload").await?;
                self.changed(&changes, true)
            }
        }
    }

    /// Shows a part of the configuration as TOML, or checks or applies another one.
    async fn part(&mut self, part: &str, command: &PartCommand) -> Result<(), Fault> {
        let path = format!("/v1/config/{part}");
        match command {
            PartCommand::Show { .. } => self.show(&path, toml_of).await,
            PartCommand::Check(file) => self.send(file, &(path + "/check"), false).await,
            PartCommand::Apply(file) => self.send(file, &(path + "/apply"), true).await,
        }
    }

    /// Sends a file to be checked or applied, and prints what it changes.
    async fn send(&mut self, file: &FileArguments, path: &str, is_done: bool) -> Result<(), Fault> {
        let text = configuration(&file.file)?;
        let changes: Changes = self.client.post(path, &text).await?;
        self.changed(&changes, is_done)
    }

    fn changed(&self, changes: &Changes, is_done: bool) -> Result<(), Fault> {
        print(&if self.is_json { json(changes)? } else { show::changes(changes, is_done) })
    }

    async fn events(&mut self, arguments: &EventsArguments) -> Result<(), Fault> {
        let path = |after: u64, wait_ms: u64| format!("/v1/events?after={after}&wait_ms={wait_ms}");
        let mut after = arguments.after;
        if !arguments.follow {
            return self.show(&path(after, 0), events_text).await;
        }
        loop {
            let wait = Duration::from_millis(EVENTS_WAIT_MS_MAX);
            let events: Events = self.client.get_within(&path(after, EVENTS_WAIT_MS_MAX), wait).await?;
            after = events.events.last().map_or(after, |event| event.number);
            if !self.is_json {
                print(&events_text(&events))?;
                continue;
            }
            for event in &events.events {
                print(&(serde_json::to_string(event)? + "\n"))?;
            }
        }
    }

    async fn capture(&mut self, arguments: &CaptureArguments) -> Result<(), Fault> {
        let begun = || eprintln!("capturing; ctrl-c ends it");
        let captured = capture::capture(&mut self.client, arguments, begun).await?;
        // The file may be standard output.
        let text = if self.is_json { json(&captured)? } else { show::captured(&captured) };
        Ok(io::stderr().lock().write_all(text.as_bytes())?)
    }
}

fn toml_of(configuration: &Configuration) -> String {
    configuration.toml.clone()
}

fn events_text(events: &Events) -> String {
    let lost = if events.lost > 0 { show::lost(events.lost) } else { String::new() };
    lost + &events.events.iter().map(show::event).collect::<String>()
}

/// Reads a configuration, or as much of it as shows that it is none.
fn configuration(path: &Path) -> Result<ConfigurationText, Fault> {
    let fault = |error| Fault::File { path: path.to_owned(), error };
    let source: Box<dyn Read> = match path == Path::new(STDIN) {
        true => Box::new(io::stdin()),
        false => Box::new(fs::File::open(path).map_err(fault)?),
    };
    let mut toml = String::new();
    let most = CONFIGURATION_BYTES_MAX as u64 + 1;
    source.take(most).read_to_string(&mut toml).map_err(fault)?;
    if toml.len() > CONFIGURATION_BYTES_MAX {
        return Err(Fault::TooLong(path.to_owned()));
    }
    Ok(ConfigurationText { toml })
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

fn print(text: &str) -> Result<(), Fault> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
