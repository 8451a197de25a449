//! Asking the switch: HTTP/1.1 over its admin socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use handoff_proto::admin::Fault;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, TE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the switch may take for an answer beyond the time it was given.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long it may take to do something: to check a long configuration, above all.
const ORDER_MAX: Duration = Duration::from_secs(60);
/// Longest answer, in bytes: more than the longest list of rules.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum AskFault {
    /// No socket.
    #[error(
        "there is no socket {}. Is baton-switch running on this host? If it has another admin_socket in switch.toml, \
         name that with --socket PATH",
        .0.display()
    )]
    NoSocket(PathBuf),
    /// Nobody listens.
    #[error(
        "nobody answers at {}: the switch that made this socket has ended. Start baton-switch; it replaces the socket",
        .0.display()
    )]
    NobodyThere(PathBuf),
    /// Not ours to ask.
    #[error(
        "no permission to use {}: ask as root, or as the user that runs baton-switch",
        .0.display()
    )]
    NotAllowed(PathBuf),
    /// It takes too long.
    #[error("the switch took more than {} s to answer; is it stopped or overloaded?", .0.as_secs())]
    TooLate(Duration),
    /// Something else with the socket.
    #[error("{}: {error}", path.display())]
    System {
        /// The socket.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The connection ended, or no HTTP came.
    #[error("the switch gave no answer: {0}; its log may tell why")]
    Http(#[from] hyper::Error),
    /// The question cannot be written.
    #[error("this cannot be asked: {0}")]
    Question(#[from] hyper::http::Error),
    /// The answer is endless.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// The answer cannot be read.
    #[error(
        "the switch answered something else than asked ({0}); are switch and batonctl of the same release?"
    )]
    Form(#[from] serde_json::Error),
    /// The switch says no.
    #[error("the switch says: {0}")]
    Refused(String),
}

/// A connection to a switch.
pub(crate) struct Client {
    path: PathBuf,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Will ask the switch whose admin socket is `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), sender: None }
    }

    /// Asks for something.
    ///
    /// # Errors
    /// See [`AskFault`].
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, AskFault> {
        self.get_within(path, Duration::ZERO).await
    }

    /// Asks for something the switch was told to wait for, at most for `wait`.
    ///
    /// # Errors
    /// See [`AskFault`].
    pub(crate) async fn get_within<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<T, AskFault> {
        self.exchange(Method::GET, path, Bytes::new(), wait + ANSWER_MAX).await
    }

    /// Orders something that needs no more words than its path.
    ///
    /// # Errors
    /// See [`AskFault`].
    pub(crate) async fn order<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
    ) -> Result<T, AskFault> {
        self.exchange(method, path, Bytes::new(), ORDER_MAX).await
    }

    /// Orders something that needs more words than its path.
    ///
    /// # Errors
    /// See [`AskFault`].
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AskFault> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        self.exchange(Method::POST, path, body, ORDER_MAX).await
    }

    /// Orders something that is answered by and by; the answer's body is still to be read.
    ///
    /// # Errors
    /// See [`AskFault`].
    pub(crate) async fn stream(
        &mut self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response<Incoming>, AskFault> {
        let body = Bytes::from(serde_json::to_vec(body)?);
        let send = self.send(Method::POST, path, body);
        let response = timeout(ANSWER_MAX, send).await.map_err(|_| AskFault::TooLate(ANSWER_MAX))??;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refusal(status, &whole(response).await?)),
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<T, AskFault> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            let answer = whole(response).await?;
            match status.is_success() {
                true => Ok(serde_json::from_slice(&answer)?),
                false => Err(refusal(status, &answer)),
            }
        };
        timeout(within, exchange).await.map_err(|_| AskFault::TooLate(within))?
    }

    /// Sends a request, on a new connection where there is none any more.
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, AskFault> {
        let mut sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        sender.ready().await?;
        // Every HTTP/1.1 request names a host; a socket has none.
        let mut request =
            Request::builder().method(method).uri(path).header(HOST, "baton").header(TE, "trailers");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let response = sender.send_request(request.body(Full::new(body))?).await?;
        self.sender = Some(sender);
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, AskFault> {
        let path = || self.path.clone();
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => AskFault::NoSocket(path()),
            io::ErrorKind::ConnectionRefused => AskFault::NobodyThere(path()),
            io::ErrorKind::PermissionDenied => AskFault::NotAllowed(path()),
            _ => AskFault::System { path: path(), error },
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its end is seen by whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, AskFault> {
    let collected = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(AskFault::TooLong),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(AskFault::Http(*error)),
            Err(_) => Err(AskFault::TooLong),
        },
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> AskFault {
    match serde_json::from_slice::<Fault>(body) {
        Ok(fault) => AskFault::Refused(fault.error),
        Err(_) => AskFault::Refused(format!("status {status}, without a reason")),
    }
}
