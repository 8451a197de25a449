//! Reading what a request brings: its query and its body, both bounded.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::refused::Refused;

/// Longest body but a configuration's, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 10;
/// How long a body may take to arrive.
const BODY_MAX: Duration = Duration::from_secs(30);

/// Reads the numbers of a query: each name of `names` once at most, none else. Those that are left out are `None`.
pub(super) fn numbers<const COUNT: usize>(
    query: Option<&str>,
    names: [&str; COUNT],
) -> Result<[Option<u64>; COUNT], Refused> {
    let mut numbers = [None; COUNT];
    for (name, value) in pairs(query) {
        let place = names.iter().zip(&mut numbers).find(|(known, _)| **known == name);
        let Some((_, place)) = place else {
            let known = if COUNT == 0 { "it takes none".to_owned() } else { names.join(", ") };
            return Err(bad(format!("there is no parameter \"{name}\" here: {known}")));
        };
        let number = value.parse().map_err(|_| bad(format!("{name}={value:?} is no number")))?;
        if place.replace(number).is_some() {
            return Err(bad(format!("the parameter \"{name}\" comes twice")));
        }
    }
    Ok(numbers)
}

/// Cuts a query into its parameters and decodes them.
pub(super) fn pairs(query: Option<&str>) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query.unwrap_or_default().as_bytes())
}

/// Reads a JSON body of at most `bytes_max`. One that is announced to be longer is not waited for.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request<Body>,
    bytes_max: usize,
) -> Result<T, Refused> {
    let too_long = || {
        let why = format!("the body is longer than {bytes_max} bytes, which is the most this takes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    };
    if request.body().size_hint().lower() > bytes_max as u64 {
        return Err(too_long());
    }
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let collected = timeout(BODY_MAX, body).await.map_err(|_| {
        let why = format!("the body did not arrive within {} s", BODY_MAX.as_secs());
        Refused::new(StatusCode::REQUEST_TIMEOUT, why)
    })?;
    let bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_long()),
        Err(error) => return Err(bad(format!("the body cannot be read: {error}"))),
    };
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| bad(format!("the body is not what this takes: {error}")))?;
    reader.end().map_err(|error| bad(format!("there is more behind the body: {error}")))?;
    Ok(read)
}

/// Insists that there is no body, where one could only be a mistake.
pub(super) async fn nothing(request: Request<Body>) -> Result<(), Refused> {
    match Limited::new(request.into_body(), 0).collect().await {
        Ok(_) => Ok(()),
        Err(_) => Err(bad("this takes no body")),
    }
}

pub(super) fn bad(why: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, why)
}
