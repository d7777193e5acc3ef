//! Errors in place of an answer, in OpenAI's format.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use gallery_gpt::{GalleryError, model::GenerationError};
use serde_json::{Value, json};

use crate::request::Invalid;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    /// The field of the request that is wrong, if it is a single one.
    param: Option<String>,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            code: Some(kind),
            param: None,
            message: message.into(),
        }
    }

    /// The request is at fault.
    fn request(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            code,
            ..Self::new(status, "invalid_request_error", message)
        }
    }

    /// A field has a value that cannot be used.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::request(StatusCode::BAD_REQUEST, None, message)
        }
    }

    pub(crate) fn too_long(message: impl Into<String>) -> Self {
        Self {
            code: Some("context_length_exceeded"),
            ..Self::invalid("messages", message)
        }
    }

    pub(crate) fn no_such_model(name: &str, served: &str) -> Self {
        let message = format!("model: there is no {name:?} here, only {served:?}");
        Self {
            param: Some("model".to_owned()),
            ..Self::request(StatusCode::NOT_FOUND, Some("model_not_found"), message)
        }
    }

    pub(crate) fn no_such_path(method: &str, path: &str) -> Self {
        let message = format!("there is no {method} {path} here");
        Self::request(StatusCode::NOT_FOUND, Some("unknown_url"), message)
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self::request(status, Some("method_not_allowed"), message)
    }

    pub(crate) fn not_json(found: Option<&str>) -> Self {
        let found = found.map_or("none".to_owned(), |found| format!("{found:?}"));
        let message = format!("content-type: found {found}, expected application/json");
        Self::request(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, message)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let message =
            format!("the request has more than the {limit} bytes that this server accepts");
        Self::request(StatusCode::PAYLOAD_TOO_LARGE, None, message)
    }

    pub(crate) fn too_slow() -> Self {
        let message = "the rest of the request did not arrive in time";
        Self::request(StatusCode::REQUEST_TIMEOUT, Some("timeout"), message)
    }

    pub(crate) fn broken_off(reason: &str) -> Self {
        let message = format!("the request broke off: {reason}");
        Self::request(StatusCode::BAD_REQUEST, None, message)
    }

    pub(crate) fn foreign_host(host: &str) -> Self {
        let message =
            format!("host: {host:?} is not a name of this server; it can be given more names");
        Self::request(StatusCode::FORBIDDEN, Some("foreign_host"), message)
    }

    pub(crate) fn foreign_origin(origin: &str) -> Self {
        let message = format!(
            "origin: pages of {origin:?} may not use this server; it can be told to allow them"
        );
        Self::request(StatusCode::FORBIDDEN, Some("foreign_origin"), message)
    }

    pub(crate) fn no_key() -> Self {
        let message = "this server needs its API key, as `authorization: Bearer KEY`";
        Self::request(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn too_late() -> Self {
        let message = "the deadline passed before the answer was complete";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub(crate) fn busy(waiting: usize) -> Self {
        let message =
            format!("busy: {waiting} requests are waiting already; try again in a moment");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(crate) fn no_room(limit: usize) -> Self {
        let message = format!(
            "busy: other requests hold the {limit} bytes that this server has for them; try again in a moment"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    pub(crate) fn stopping() -> Self {
        let message = "the server is stopping";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", message)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "error": {
            "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
        } })
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        if invalid.too_long {
            return Self::too_long(invalid.message);
        }
        Self {
            param: invalid.param,
            ..Self::request(StatusCode::BAD_REQUEST, None, invalid.message)
        }
    }
}

impl From<GalleryError> for Refusal {
    fn from(error: GalleryError) -> Self {
        let message = error.to_string();
        match error {
            GalleryError::Generation(GenerationError::NotFinite { .. }) => Self::internal(message),
            GalleryError::Generation(GenerationError::PromptTooLong { .. }) => {
                Self::too_long(message)
            }
            GalleryError::NoPhrase { .. } => Self::invalid("phrase", message),
            _ => Self::invalid("messages", message),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}
