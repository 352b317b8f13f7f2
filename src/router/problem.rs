//! What the router answers instead.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

/// Why a request was refused, as `error.code` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Code {
    /// 404: no such path.
    UnknownPath,
    /// 404: no such entity here.
    UnknownEntity,
    /// 404: no such operation here.
    UnknownOperation,
    /// 404: the application handed in no metrics.
    NoMetrics,
    /// 405: not with this method.
    WrongMethod,
    /// 400: the body is not what is expected.
    BadBody,
    /// 413: the body is too large.
    TooLarge,
    /// 401: without the token, or with a wrong one.
    Unauthorized,
    /// 403: no token is configured, so nothing can be changed.
    ReadOnly,
    /// 403: a page in a browser asks.
    ForeignPage,
    /// 409: a percentage above zero before a backfill and a clean verify are recorded.
    NotReady,
    /// 409: an environment variable sets the flag.
    Fixed,
    /// 500: a defect.
    Internal,
}

impl Code {
    const fn status(self) -> StatusCode {
        match self {
            Code::UnknownPath | Code::UnknownEntity | Code::UnknownOperation | Code::NoMetrics => {
                StatusCode::NOT_FOUND
            }
            Code::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Code::BadBody => StatusCode::BAD_REQUEST,
            Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Code::Unauthorized => StatusCode::UNAUTHORIZED,
            Code::ReadOnly | Code::ForeignPage => StatusCode::FORBIDDEN,
            Code::NotReady | Code::Fixed => StatusCode::CONFLICT,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Code::UnknownPath => "no such path: GET /status lists what there is",
            Code::UnknownEntity => "no such entity in this process: GET /status lists them",
            Code::UnknownOperation => "the application has no such operation",
            Code::NoMetrics => {
                "no metrics here: hand the exporter's handle to the console, or ask the exporter's own listener"
            }
            Code::WrongMethod => "not with this method: read with GET, change with POST",
            Code::BadBody => "the body is not what is expected",
            Code::TooLarge => "the body is too large: a reason in a few words will do",
            Code::Unauthorized => {
                "changing flags takes the token: send it as `Authorization: Bearer …`"
            }
            Code::ReadOnly => {
                "this console only reads, since no token is configured: give it one, or use the flags file or the signal, which need none"
            }
            Code::ForeignPage => {
                "a page in a browser may not change flags: ask without an Origin header"
            }
            Code::NotReady => "the new side is not ready",
            Code::Fixed => "the environment sets this flag",
            Code::Internal => "a defect: the log has the details",
        }
    }
}

/// An error answer.
#[derive(Debug)]
pub(super) struct Problem {
    code: Code,
    message: String,
}

impl Problem {
    pub(super) fn of(code: Code) -> Problem {
        Problem::because(code, code.message())
    }

    pub(super) fn because(code: Code, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem { code, message }
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": {"code": self.code, "message": self.message}}));
        let mut response = (self.code.status(), body).into_response();
        if self.code == Code::Unauthorized {
            let scheme = axum::http::HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
