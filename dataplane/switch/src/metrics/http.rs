//! The HTTP around `/metrics`: one small answer per connection, bounded in number and time.

use core::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use crate::control::ACCEPT_PAUSE;

/// Makes the text of `/metrics`.
pub type Scrape = Arc<dyn Fn() -> prometheus::Result<String> + Send + Sync>;

/// How many scrapers are served at a time; further ones wait.
const CONNECTION_COUNT_MAX: usize = 16;
/// How long a scraper may take to ask, and how long all of it may take.
const HEAD_MAX: Duration = Duration::from_secs(5);
const CONNECTION_MAX: Duration = Duration::from_secs(10);
/// Longest request head, in bytes (hyper's least).
const HEAD_BYTES_MAX: usize = 8 << 10;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Answers scrapers until dropped.
pub async fn serve(listener: TcpListener, scrape: Scrape) {
    let seats = Arc::new(Semaphore::new(CONNECTION_COUNT_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let scrape = Arc::clone(&scrape);
                tokio::spawn(async move {
                    attend(stream, scrape).await;
                    drop(seat);
                });
            }
            Err(error) => {
                warn!(%error, "cannot take scrapers' connections");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn attend(stream: TcpStream, scrape: Scrape) {
    let service = service_fn(move |request| {
        let response = respond(&request, &scrape);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .keep_alive(false)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(CONNECTION_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "a scraper's connection ended"),
        Err(_) => debug!("a scraper took too long"),
    }
}

fn respond(request: &Request<Incoming>, scrape: &Scrape) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "Only /metrics is here.\n");
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are answered.\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match scrape() {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, TEXT);
            response
        }
        Err(error) => {
            error!(%error, "cannot write the metrics");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written; see the log.\n")
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, PLAIN);
    response
}
