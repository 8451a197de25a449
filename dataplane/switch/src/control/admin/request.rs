//! Reading what a request brings: its query and its body, both bounded.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
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
    let Some(bytes) = body(request, bytes_max).await? else {
        let why = format!("the body is longer than {bytes_max} bytes, which is the most this takes");
        return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, why));
    };
    let mut reader = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| bad(format!("the body is not what this takes: {error}")))?;
    reader.end().map_err(|error| bad(format!("there is more behind the body: {error}")))?;
    Ok(read)
}

/// Insists that there is no body, where one could only be a mistake.
pub(super) async fn nothing(request: Request<Body>) -> Result<(), Refused> {
    match body(request, 0).await? {
        Some(_) => Ok(()),
        None => Err(bad("this takes no body")),
    }
}

/// Reads a body, and waits for its end no longer than [`BODY_MAX`]; `None` if it is longer than `bytes_max`.
async fn body(request: Request<Body>, bytes_max: usize) -> Result<Option<Bytes>, Refused> {
    if request.body().size_hint().lower() > bytes_max as u64 {
        return Ok(None);
    }
    let body = Limited::new(request.into_body(), bytes_max).collect();
    let collected = timeout(BODY_MAX, body).await.map_err(|_| {
        let why = format!("the body did not arrive within {} s", BODY_MAX.as_secs());
        Refused::new(StatusCode::REQUEST_TIMEOUT, why)
    })?;
    match collected {
        Ok(collected) => Ok(Some(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(bad(format!("the body cannot be read: {error}"))),
    }
}

pub(super) fn bad(why: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, why)
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;
    use core::pin::Pin;
    use core::task::{Context, Poll};

    use axum::response::IntoResponse;
    use hyper::body::Frame;
    use tokio::runtime::Builder;

    use super::*;

    /// A body whose length nobody says before, piece by piece; one that has no end after the last piece if `is_endless`.
    struct Pieces {
        left: Vec<Bytes>,
        is_endless: bool,
    }

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.left.pop() {
                None if self.is_endless => Poll::Pending,
                piece => Poll::Ready(piece.map(|piece| Ok(Frame::data(piece)))),
            }
        }
    }

    fn pieces(left: &[usize], is_endless: bool) -> Request<Body> {
        let left = left.iter().map(|bytes| Bytes::from(vec![b' '; *bytes])).collect();
        Request::new(Body::new(Pieces { left, is_endless }))
    }

    /// The clock leaps to the next timer where nobody has something to do.
    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let within =
            async { timeout(10 * BODY_MAX, future).await.expect("nothing is waited for without end") };
        runtime.expect("a runtime").block_on(within)
    }

    #[test]
    fn a_body_may_be_as_long_as_said_and_no_byte_longer() {
        let length = |left: &[usize], bytes_max| {
            run(body(pieces(left, false), bytes_max)).expect("it arrives").map(|bytes| bytes.len())
        };
        assert_eq!(length(&[], 0), Some(0));
        assert_eq!(length(&[1], 0), None);
        assert_eq!(length(&[40, 60], 100), Some(100));
        assert_eq!(length(&[40, 61], 100), None);
        assert_eq!(length(&[101], 100), None);
    }

    #[test]
    fn nobody_waits_for_the_end_of_a_body_for_ever() {
        let status = |refused: Refused| refused.into_response().status();
        let read = run(json::<u8>(pieces(&[1], true), 100)).map_err(status);
        assert_eq!(read, Err(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(run(nothing(pieces(&[], true))).map_err(status), Err(StatusCode::REQUEST_TIMEOUT));
        // What is too long is known at once.
        assert_eq!(run(nothing(pieces(&[1], true))).map_err(status), Err(StatusCode::BAD_REQUEST));
    }
}
