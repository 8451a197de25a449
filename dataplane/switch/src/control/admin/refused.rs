//! Answers that say why not.

use axum::Json;
use axum::response::{IntoResponse, Response};
use handoff_proto::admin::Fault;
use hyper::StatusCode;

use crate::control::operate::OperateFault;

/// An answer with a status of 4xx or 5xx and the reason as its body.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Fault { error: self.error })).into_response()
    }
}

impl From<OperateFault> for Refused {
    fn from(fault: OperateFault) -> Self {
        let status = match fault {
            OperateFault::Invalid(_) => StatusCode::BAD_REQUEST,
            OperateFault::Unknown(_) => StatusCode::NOT_FOUND,
            OperateFault::Conflict(_) => StatusCode::CONFLICT,
            OperateFault::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OperateFault::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            OperateFault::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, fault.to_string())
    }
}
