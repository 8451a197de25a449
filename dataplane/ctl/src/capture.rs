//! Writing a capture down as it comes.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use handoff_proto::Vip;
use handoff_proto::admin::{CAPTURE_FRAMES_TRAILER, CAPTURE_LOST_TRAILER, CaptureRequest};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::{HeaderMap, Response};
use serde::Serialize;
use thiserror::Error;

use crate::arguments::CaptureArguments;
use crate::client::{AskFault, Client};

/// Instead of a file's name: standard output.
const STDOUT: &str = "-";

/// Why nothing, or not all, was captured.
#[derive(Debug, Error)]
pub(crate) enum CaptureFault {
    /// The switch did not do it.
    #[error(transparent)]
    Ask(#[from] AskFault),
    /// The file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The connection broke.
    #[error("the capture broke off: {0}; what came before is in the file")]
    Broken(#[from] hyper::Error),
}

/// What was captured.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Captured {
    /// The file.
    pub(crate) file: PathBuf,
    /// Frames in it; not known of a capture that was interrupted.
    pub(crate) frames: Option<u64>,
    /// Frames that belong in it and were lost for lack of room; not known of a capture that was interrupted.
    pub(crate) lost: Option<u64>,
}

/// Captures until a limit is reached or somebody interrupts. `begun` is called when frames are being captured.
///
/// # Errors
/// See [`CaptureFault`].
pub(crate) async fn capture(
    client: &mut Client,
    wanted: &CaptureArguments,
    begun: impl FnOnce(),
) -> Result<Captured, CaptureFault> {
    let (address, client_port) = wanted.client;
    let request = CaptureRequest {
        client: address,
        client_port,
        vip: wanted.vip.map(|vip| Vip { address: (*vip.ip()).into(), port: vip.port() }),
        frames_max: wanted.frames,
        seconds_max: wanted.seconds,
    };
    let response = client.stream("/v1/capture", &request).await?;
    let path = &wanted.write;
    let fault = |error| CaptureFault::Write { path: path.clone(), error };
    // Only now: a refused capture leaves an older file as it is.
    let mut out = open(path).map_err(fault)?;
    begun();
    tokio::select! {
        trailers = copy(response, &mut out, &fault) => {
            let trailers = trailers?;
            let number = |name| trailers.get(name).and_then(|value| value.to_str().ok()?.parse().ok());
            let (frames, lost) = (number(CAPTURE_FRAMES_TRAILER), number(CAPTURE_LOST_TRAILER));
            Ok(Captured { file: path.clone(), frames, lost })
        }
        // Every part was written when it came.
        _ = tokio::signal::ctrl_c() => Ok(Captured { file: path.clone(), frames: None, lost: None }),
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Write>> {
    if path == Path::new(STDOUT) { Ok(Box::new(io::stdout())) } else { Ok(Box::new(File::create(path)?)) }
}

/// Writes every part; returns the trailers.
async fn copy(
    response: Response<Incoming>,
    out: &mut dyn Write,
    fault: &impl Fn(io::Error) -> CaptureFault,
) -> Result<HeaderMap, CaptureFault> {
    let mut body = response.into_body();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame?.into_data().map_err(Frame::into_trailers) {
            Ok(part) => out.write_all(&part).and_then(|()| out.flush()).map_err(fault)?,
            Err(found) => trailers = found.unwrap_or_default(),
        }
    }
    Ok(trailers)
}
