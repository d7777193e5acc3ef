//! Who may use the server: under which host names, from which pages, and with which key.

use std::{collections::HashSet, fmt, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::refusal::Refusal;

/// Who may use the server. By default every program on this machine, and the server's own page.
#[derive(Clone, Default)]
pub struct Access {
    /// Host names of the server, beside those of this machine's loopback. The name of another site that was made to point here (DNS
    /// rebinding) is not among them.
    pub hosts: HashSet<String>,
    /// Whether every IP address is a name of the server, for one that listens on all of them. An address cannot be rebound.
    pub any_address: bool,
    /// Origins whose pages may use it, as browsers write them (`http://localhost:5173`); `*` is all.
    pub origins: Vec<String>,
    /// The key that requests must send as `authorization: Bearer`.
    pub key: Option<String>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("hosts", &self.hosts)
            .field("any_address", &self.any_address)
            .field("origins", &self.origins)
            .field("key", &self.key.as_ref().map(|_| "..."))
            .finish()
    }
}

impl Access {
    /// Whether `host`, without its port, is a name of this server.
    fn is_own(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host == "localhost" || host.ends_with(".localhost") || self.hosts.contains(&host) {
            return true;
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address
            .parse::<IpAddr>()
            .is_ok_and(|address| self.any_address || address.to_canonical().is_loopback())
    }

    fn lets(&self, origin: &str) -> bool {
        let mut origins = self.origins.iter();
        origins.any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        let headers = request.headers();
        let mut hosts = headers.get_all(header::HOST).iter();
        let mut own = None;
        // HTTP/1.0 does not require it, and every browser sends it.
        if let Some(host) = hosts.next() {
            let authority = Authority::try_from(host.as_bytes()).ok();
            let authority = authority.filter(|authority| {
                self.is_own(authority.host()) && !authority.as_str().contains('@')
            });
            let authority = authority.filter(|_| hosts.next().is_none());
            own = Some(authority.ok_or_else(|| Refusal::foreign_host(&shown(host)))?);
        }
        if let Some(host) = request.uri().host()
            && !self.is_own(host)
        {
            return Err(Refusal::foreign_host(host));
        }
        for origin in headers.get_all(header::ORIGIN) {
            let text = shown(origin);
            let same = text.split_once("://").is_some_and(|(_, authority)| {
                own.as_ref()
                    .is_some_and(|own| own.as_str().eq_ignore_ascii_case(authority))
            });
            if !same && !self.lets(&text) {
                return Err(Refusal::foreign_origin(&text));
            }
        }
        Ok(())
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(key) = &self.key else {
            return true;
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .map(HeaderValue::as_bytes);
        let given = given.filter(|given| {
            given
                .get(..7)
                .is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
        });
        given.is_some_and(|given| given[7..].trim_ascii().ct_eq(key.as_bytes()).into())
    }

    /// The layer that tells browsers which pages of other origins may use the server; `None` if none may.
    pub(crate) fn cross_origin(&self) -> Option<CorsLayer> {
        if self.origins.is_empty() {
            return None;
        }
        let access = self.clone();
        let origins = AllowOrigin::predicate(move |origin, _| access.lets(&shown(origin)));
        Some(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods(AllowMethods::mirror_request())
                .allow_headers(AllowHeaders::mirror_request())
                .allow_private_network(true),
        )
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Refuses what comes by a foreign name or from a foreign page.
pub(crate) async fn own_pages_only(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Refuses requests without the key.
pub(crate) async fn key_holders_only(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    if access.knows(request.headers()) {
        next.run(request).await
    } else {
        Refusal::no_key().into_response()
    }
}

/// Adds the headers that forbid browsers scripts, styles and pictures from elsewhere, frames around the page, and guessing of types.
pub(crate) async fn strict(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob: data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(access: &Access, host: Option<&str>, origin: Option<&str>) -> bool {
        let mut request = Request::builder().uri("/v1/models");
        if let Some(host) = host {
            request = request.header(header::HOST, host);
        }
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let request = request.body(Body::empty()).unwrap();
        access.check(&request).is_ok()
    }

    #[test]
    fn own_names_pass_and_foreign_ones_do_not() {
        let access = Access {
            hosts: ["gallery.example", "192.168.1.5"].map(str::to_owned).into(),
            ..Access::default()
        };
        for host in [
            "127.0.0.1:8000",
            "127.0.0.2",
            "localhost",
            "LocalHost.:9000",
            "[::1]:8000",
            "[::ffff:127.0.0.1]",
            "gallery.example:443",
            "192.168.1.5:8000",
        ] {
            assert!(asked(&access, Some(host), None), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:8000",
            "localhost@evil.example",
            "evil@localhost",
            "10.0.0.1",
            "",
            "local host",
        ] {
            assert!(!asked(&access, Some(host), None), "{host}");
        }
        assert!(asked(&access, None, None));
        let everywhere = Access {
            any_address: true,
            ..Access::default()
        };
        assert!(asked(&everywhere, Some("10.0.0.1:8000"), None));
        assert!(!asked(&everywhere, Some("evil.example"), None));
    }

    #[test]
    fn only_own_and_allowed_pages_may_ask() {
        let own = Access::default();
        let host = Some("localhost:8000");
        assert!(asked(&own, host, Some("http://localhost:8000")));
        for origin in [
            "http://localhost:5173",
            "http://127.0.0.1:8000",
            "https://evil.example",
            "null",
            "localhost:8000",
        ] {
            assert!(!asked(&own, host, Some(origin)), "{origin}");
            let open = Access {
                origins: vec!["*".to_owned()],
                ..Access::default()
            };
            assert!(asked(&open, host, Some(origin)), "{origin}");
        }
        let one = Access {
            origins: vec!["http://localhost:5173".to_owned()],
            ..Access::default()
        };
        assert!(asked(&one, host, Some("http://localhost:5173")));
        assert!(!asked(&one, host, Some("http://localhost:5174")));
    }
}
