//! `batonctl`: looks into a running Baton switch over its admin socket, and makes key files.
//!
//! It only asks: nothing here changes a running switch.

mod client;
mod keygen;
mod show;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use handoff_proto::KeyId;
use handoff_proto::admin::{FLOWS_MAX, Request, Response};
use serde::Serialize;
use thiserror::Error;

use client::AskFault;
use keygen::KeygenFault;

const SOCKET_DEFAULT: &str = "/run/baton/switch.sock";
const KEY_ID_DEFAULT: u8 = 1;
const EXIT_FAILURE: u8 = 1;

/// Looks into a running Baton switch and makes its keys.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Exit status: 0 done; 1 the switch does not answer or the file cannot be made; 2 wrong usage."
)]
struct Arguments {
    /// The switch's admin socket (admin_socket in switch.toml).
    #[arg(long, global = true, value_name = "PATH", default_value = SOCKET_DEFAULT)]
    socket: PathBuf,
    /// Write JSON instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The switch as a whole: VIPs, lcores, how busy they are.
    Status,
    /// Every backend: whether it gets new connections, and if not, why.
    Backends,
    /// The connections the switch knows.
    Flows(FlowsArguments),
    /// What was counted since the switch started.
    Counters(CountersArguments),
    /// Make a key file: one random key, mode 0600, for a new cluster or to change keys. An existing file is never
    /// overwritten.
    Keygen(KeygenArguments),
}

#[derive(Debug, Args)]
struct FlowsArguments {
    /// List at most this many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit)]
    limit: usize,
}

#[derive(Debug, Args)]
struct CountersArguments {
    /// Also list counters that are 0 (JSON always has all).
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct KeygenArguments {
    /// Where to write it. In a new cluster the switch and every backend need the same file.
    file: PathBuf,
    /// The key's id (0 to 255). A further key of a cluster needs one of its own, and goes behind the others in every key
    /// file [default: 1].
    #[arg(long)]
    id: Option<u8>,
}

fn limit(text: &str) -> Result<usize, String> {
    let limit: usize = text.parse().map_err(|_| "a number is needed".to_owned())?;
    if (1..=FLOWS_MAX).contains(&limit) { Ok(limit) } else { Err(format!("allowed are 1 to {FLOWS_MAX}")) }
}

/// Why a command was not done.
#[derive(Debug, Error)]
enum Fault {
    #[error(transparent)]
    Ask(#[from] AskFault),
    #[error(transparent)]
    Keygen(#[from] KeygenFault),
    #[error("the switch says: {0}")]
    Refused(String),
    #[error("the switch answered something else than asked; are switch and batonctl of the same release?")]
    OtherAnswer,
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

fn main() -> ExitCode {
    let outcome = run(&Arguments::parse());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough, as `head` does.
        Err(Fault::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("batonctl: {fault}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    let text = match &arguments.command {
        Command::Keygen(keygen) => {
            let made = keygen::make(&keygen.file, KeyId(keygen.id.unwrap_or(KEY_ID_DEFAULT)))?;
            if arguments.json { json(&made)? } else { show::made(&made, keygen.id.is_some()) }
        }
        Command::Status => asked(arguments, &Request::Status, false)?,
        Command::Backends => asked(arguments, &Request::Backends, false)?,
        Command::Flows(flows) => asked(arguments, &Request::Flows { limit: flows.limit }, false)?,
        Command::Counters(counters) => asked(arguments, &Request::Counters, counters.all)?,
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Asks the switch and returns what to print. `all` matters for counters only.
fn asked(arguments: &Arguments, request: &Request, all: bool) -> Result<String, Fault> {
    let response = client::ask(&arguments.socket, request)?;
    let text = match (request, &response) {
        (_, Response::Error(why)) => return Err(Fault::Refused(why.clone())),
        (Request::Status, Response::Status(status)) if arguments.json => json(status)?,
        (Request::Status, Response::Status(status)) => show::status(status),
        (Request::Backends, Response::Backends(backends)) if arguments.json => json(backends)?,
        (Request::Backends, Response::Backends(backends)) => show::backends(backends),
        (Request::Flows { .. }, Response::Flows(flows)) if arguments.json => json(flows)?,
        (Request::Flows { .. }, Response::Flows(flows)) => show::flows(flows),
        (Request::Counters, Response::Counters(counters)) if arguments.json => json(counters)?,
        (Request::Counters, Response::Counters(counters)) => show::counters(counters, all),
        _ => return Err(Fault::OtherAnswer),
    };
    Ok(text)
}

fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
