//! Which path asks or orders what.

use core::convert::Infallible;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use handoff_proto::admin::{
    CAPTURE_FRAMES_TRAILER, CAPTURE_LOST_TRAILER, CONFIGURATION_BYTES_MAX, CaptureRequest, Changes, Class,
    ConfigurationText, Counter, EVENTS_WAIT_MS_MAX, Events, FLOWS_MAX, Flows, NewBackend, NewWeight,
    PCAP_MEDIA_TYPE, Route, RouteQuestion, Status,
};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRAILER};
use hyper::{Method, Request, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task;

use super::refused::Refused;
use super::request::{BODY_BYTES_MAX, bad, json, nothing, numbers, pairs};
use crate::control::capture::{self, Part};
use crate::control::operate::Operations;
use crate::control::reload::ConfigPart;
use crate::control::shared::Shared;

/// How many flows are listed where no limit is given.
const FLOWS_DEFAULT: usize = 50;
/// Longest body with a configuration in it, in bytes: one of TOML takes two of JSON where it is a quote or the end of a line, and
/// mostly one.
const CONFIGURATION_BODY_BYTES_MAX: usize = CONFIGURATION_BYTES_MAX + (CONFIGURATION_BYTES_MAX >> 2);

type Answer<T> = Result<Json<T>, Refused>;

/// What the paths work with.
#[derive(Clone)]
struct Api {
    operations: Operations,
    shared: Arc<Shared>,
}

/// Makes the API of a switch.
pub(in crate::control) fn api(shared: &Arc<Shared>) -> Router {
    let api = Api { operations: Operations::new(Arc::clone(shared)), shared: Arc::clone(shared) };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/backends", get(backends).post(add_backend))
        .route("/v1/backends/{name}", delete(remove_backend))
        .route("/v1/backends/{name}/drain", post(drain_backend))
        .route("/v1/backends/{name}/enable", post(enable_backend))
        .route("/v1/backends/{name}/weight", post(weigh_backend))
        .route("/v1/pools", get(pools))
        .route("/v1/rules", get(rules))
        .route("/v1/classes", get(classes))
        .route("/v1/flows", get(flows))
        .route("/v1/counters", get(counters))
        .route("/v1/config", get(configuration))
        .route("/v1/config/check", post(check))
        .route("/v1/config/apply", post(apply))
        .route("/v1/config/{part}", get(part))
        .route("/v1/config/{part}/check", post(check_part))
        .route("/v1/config/{part}/apply", post(apply_part))
        .route("/v1/reload", post(reload))
        .route("/v1/route", get(route))
        .route("/v1/events", get(events))
        .route("/v1/capture", post(capture))
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api)
}

/// Writes an answer that grows with the configuration beside the control thread.
async fn long<T: Serialize + Send + 'static>(answer: T) -> Result<Response, Refused> {
    let written = task::spawn_blocking(move || Json(answer).into_response()).await;
    written.map_err(|error| Refused::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

async fn no_such_path(uri: Uri) -> Refused {
    let why = format!("there is nothing at {}; docs/ADMIN.md lists the paths", uri.path());
    Refused::new(StatusCode::NOT_FOUND, why)
}

async fn wrong_method(method: Method, uri: Uri) -> Refused {
    let why = format!("{} is not for {method}; the header Allow says what it is for", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, why)
}

async fn status(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Status> {
    numbers(query.as_deref(), [])?;
    Ok(Json(api.operations.status()))
}

async fn backends(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    numbers(query.as_deref(), [])?;
    long(api.operations.backends().await).await
}

async fn pools(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    numbers(query.as_deref(), [])?;
    long(api.operations.pools().await?).await
}

async fn rules(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    numbers(query.as_deref(), [])?;
    long(api.operations.rules().await?).await
}

async fn classes(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Vec<Class>> {
    numbers(query.as_deref(), [])?;
    Ok(Json(api.operations.classes()))
}

async fn flows(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Flows> {
    let [limit] = numbers(query.as_deref(), ["limit"])?;
    let limit = match limit.map(usize::try_from) {
        None => FLOWS_DEFAULT,
        Some(Ok(limit)) if (1..=FLOWS_MAX).contains(&limit) => limit,
        Some(_) => return Err(bad(format!("limit: allowed are 1 to {FLOWS_MAX}"))),
    };
    Ok(Json(api.operations.flows(limit).await?))
}

async fn counters(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Vec<Counter>> {
    numbers(query.as_deref(), [])?;
    Ok(Json(api.operations.counters()))
}

async fn configuration(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    numbers(query.as_deref(), [])?;
    long(api.operations.configuration().await?).await
}

async fn check(State(api): State<Api>, request: Request<Body>) -> Answer<Changes> {
    let text = configuration_text(request).await?;
    Ok(Json(api.operations.check(&text.toml).await?))
}

async fn apply(State(api): State<Api>, request: Request<Body>) -> Answer<Changes> {
    let text = configuration_text(request).await?;
    Ok(Json(api.operations.apply(&text.toml).await?))
}

async fn part(State(api): State<Api>, name: Name, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    numbers(query.as_deref(), [])?;
    long(api.operations.part(part_named(name)?).await?).await
}

async fn check_part(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    let part = part_named(name)?;
    let text = configuration_text(request).await?;
    Ok(Json(api.operations.check_part(part, &text.toml).await?))
}

async fn apply_part(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    let part = part_named(name)?;
    let text = configuration_text(request).await?;
    Ok(Json(api.operations.apply_part(part, &text.toml).await?))
}

/// Finds the part of the configuration that a path names.
fn part_named(name: Name) -> Result<ConfigPart, Refused> {
    let name = named(name)?;
    ConfigPart::ALL.into_iter().find(|part| part.name() == name).ok_or_else(|| {
        let known = ConfigPart::ALL.map(ConfigPart::name).join(", ");
        let why = format!("the configuration has no part {name:?} that may stand alone; there are {known}");
        Refused::new(StatusCode::NOT_FOUND, why)
    })
}

async fn configuration_text(request: Request<Body>) -> Result<ConfigurationText, Refused> {
    let text: ConfigurationText = json(request, CONFIGURATION_BODY_BYTES_MAX).await?;
    match text.toml.len() {
        0..=CONFIGURATION_BYTES_MAX => Ok(text),
        _ => {
            let why = format!("the configuration is longer than {CONFIGURATION_BYTES_MAX} bytes");
            Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
    }
}

async fn reload(State(api): State<Api>, request: Request<Body>) -> Answer<Changes> {
    nothing(request).await?;
    Ok(Json(api.operations.reload().await?))
}

async fn add_backend(State(api): State<Api>, request: Request<Body>) -> Answer<Changes> {
    let new: NewBackend = json(request, BODY_BYTES_MAX).await?;
    Ok(Json(api.operations.add_backend(&new).await?))
}

/// The name in a path; not text if its escapes are no UTF-8.
type Name = Result<Path<String>, PathRejection>;

fn named(name: Name) -> Result<String, Refused> {
    match name {
        Ok(Path(name)) => Ok(name),
        Err(rejection) => Err(bad(format!("the name in the path is no text: {rejection}"))),
    }
}

async fn remove_backend(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    nothing(request).await?;
    Ok(Json(api.operations.remove_backend(&named(name)?).await?))
}

async fn drain_backend(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    nothing(request).await?;
    Ok(Json(api.operations.drain_backend(&named(name)?).await?))
}

async fn enable_backend(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    nothing(request).await?;
    Ok(Json(api.operations.enable_backend(&named(name)?).await?))
}

async fn weigh_backend(State(api): State<Api>, name: Name, request: Request<Body>) -> Answer<Changes> {
    let weight: NewWeight = json(request, BODY_BYTES_MAX).await?;
    Ok(Json(api.operations.weigh_backend(&named(name)?, &weight).await?))
}

async fn route(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Route> {
    let question =
        RouteQuestion::from_pairs(pairs(query.as_deref())).map_err(|fault| bad(fault.to_string()))?;
    Ok(Json(api.operations.route(&question).await?))
}

async fn events(State(api): State<Api>, RawQuery(query): RawQuery) -> Answer<Events> {
    let [after, wait_ms] = numbers(query.as_deref(), ["after", "wait_ms"])?;
    let wait_ms = wait_ms.unwrap_or(0);
    if wait_ms > EVENTS_WAIT_MS_MAX {
        return Err(bad(format!("wait_ms: allowed are 0 to {EVENTS_WAIT_MS_MAX}")));
    }
    let patience = Duration::from_millis(wait_ms);
    Ok(Json(api.shared.chronicle.await_since(after.unwrap_or(0), patience).await))
}

async fn capture(State(api): State<Api>, request: Request<Body>) -> Result<Response, Refused> {
    let wanted: CaptureRequest = json(request, BODY_BYTES_MAX).await?;
    let parts = capture::begin(&api.shared, &wanted).await?;
    let mut response = Response::new(Body::new(Growing(parts)));
    for trailer in [CAPTURE_FRAMES_TRAILER, CAPTURE_LOST_TRAILER] {
        response.headers_mut().append(TRAILER, HeaderValue::from_static(trailer));
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PCAP_MEDIA_TYPE));
    Ok(response)
}

/// A file that grows; its trailers tell what is in it and what is not.
struct Growing(mpsc::Receiver<Part>);

impl HttpBody for Growing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match ready!(self.0.poll_recv(context)) {
            None => return Poll::Ready(None),
            Some(Part::Bytes(bytes)) => Frame::data(bytes.into()),
            Some(Part::End(tally)) => Frame::trailers(HeaderMap::from_iter([
                (HeaderName::from_static(CAPTURE_FRAMES_TRAILER), tally.frames.into()),
                (HeaderName::from_static(CAPTURE_LOST_TRAILER), tally.lost.into()),
            ])),
        };
        Poll::Ready(Some(Ok(frame)))
    }
}
