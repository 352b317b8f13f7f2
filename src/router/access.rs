//! Who may change flags.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::problem::{Code, Problem};

/// The tokens, as digests.
///
/// A digest under a key that only this process knows: where a guess first differs from a token says
/// nothing about where their digests do, so the time that comparing takes tells nothing of how much
/// of the guess was right. And no token stands in memory.
#[derive(Debug, Clone)]
pub(super) struct Access {
    tokens: Arc<[u128]>,
    key: (u64, u64),
    open: bool,
}

impl Access {
    pub(super) fn new(tokens: &[String]) -> Access {
        let mut access = Access {
            tokens: Arc::default(),
            key: rand::random(),
            open: false,
        };
        access.tokens = tokens
            .iter()
            .map(|token| access.digest(token.trim()))
            .collect();
        access
    }

    /// Whether no token is asked for.
    pub(super) fn open(self, open: bool) -> Access {
        Access { open, ..self }
    }

    fn digest(&self, token: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        std::hash::Hasher::write(&mut hasher, token.as_bytes());
        hasher.finish128().as_u128()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if headers.contains_key(header::ORIGIN) {
            return Err(Problem::of(Code::ForeignPage));
        }
        if self.open {
            return Ok(());
        }
        if self.tokens.is_empty() {
            return Err(Problem::of(Code::ReadOnly));
        }
        let given = bearer(headers).map(|token| self.digest(token));
        // All of them, whichever it is.
        let known = self
            .tokens
            .iter()
            .fold(false, |known, token| known | (Some(*token) == given));
        if known {
            Ok(())
        } else {
            Err(Problem::of(Code::Unauthorized))
        }
    }
}

/// Lets a request through that may change flags, before anything of it is read.
pub(super) async fn guard(
    State(access): State<Access>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Err(problem) = access.check(request.headers()) {
        tracing::warn!(
            path = request.uri().path(),
            ?problem,
            "a change over HTTP was refused"
        );
        return Err(problem);
    }
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(access: &Access, headers: &[(header::HeaderName, &str)]) -> Option<Code> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("valid")));
        access
            .check(&HeaderMap::from_iter(headers))
            .err()
            .map(|problem| problem.code())
    }

    #[test]
    fn the_whole_token_and_nothing_else_opens() {
        let (first, second) = ("0123456789abcdef0123456789abcdef", "f".repeat(32));
        let access = Access::new(&[first.to_owned(), format!("{second}\n")]);
        let with = |value: &str| code(&access, &[(header::AUTHORIZATION, value)]);
        for good in [first, &second] {
            assert_eq!(with(&format!("Bearer {good}")), None);
            assert_eq!(with(&format!("bearer  {good}")), None);
        }
        let refused = Some(Code::Unauthorized);
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            first,
            "Basic Og==",
            &format!("Basic {first}"),
            &format!("Bearer {}", &first[1..]),
            &format!("Bearer {}", &first[..31]),
            &format!("Bearer {first}0"),
            &format!("Bearer {}", first.to_uppercase()),
            &format!("Bearer {first} {second}"),
        ] {
            assert_eq!(with(bad), refused, "{bad}");
        }
        assert_eq!(code(&access, &[]), refused);
        let twice = (header::AUTHORIZATION, &*format!("Bearer {first}"));
        let mut headers = HeaderMap::new();
        for (name, value) in [twice.clone(), twice] {
            headers.append(name, value.parse().expect("valid"));
        }
        assert!(access.check(&headers).is_err(), "which of two counts?");
    }

    #[test]
    fn without_a_token_nothing_opens_but_what_is_open() {
        let none = Access::new(&[]);
        assert_eq!(
            code(&none, &[(header::AUTHORIZATION, "Bearer ")]),
            Some(Code::ReadOnly)
        );
        let open = none.open(true);
        assert_eq!(code(&open, &[]), None);
        let page = [(header::ORIGIN, "http://127.0.0.1")];
        assert_eq!(code(&open, &page), Some(Code::ForeignPage));
    }
}
