//! Keeps foreign web pages out.
//!
//! The console has no passwords, and listens on loopback by default. But every page that the user's browser shows can
//! send requests to loopback: a form's POST needs no permission, and a name of the page's own domain can be made to
//! mean 127.0.0.1 ("DNS rebinding"). Hence two checks: a request that names another site as its origin is refused, and
//! while only loopback is listened on, so is a request for a host that is not loopback.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

/// What the console takes itself for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    loopback_only: bool,
}

impl Site {
    /// The site of a listener.
    pub(crate) fn of(local_addr: SocketAddr) -> Site {
        Site { loopback_only: local_addr.ip().is_loopback() }
    }

    /// Why a request with these headers is refused, if it is.
    pub(crate) fn objection(self, headers: &HeaderMap) -> Option<&'static str> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let host = text(header::HOST).unwrap_or_default();
        if self.loopback_only && !host.is_empty() && !is_loopback(host) {
            return Some("this host is not served: only loopback is listened on, and requests must name it");
        }
        match text(header::ORIGIN) {
            Some(origin) if origin.split_once("://").is_none_or(|(_, site)| site != host) => {
                Some("requests on behalf of another web site are refused")
            }
            _ => None,
        }
    }
}

/// Whether `host` or `host:port` is this machine for itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let localhost = name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    localhost || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn refused(local: &str, host: &'static str, origin: Option<&'static str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        Site::of(local.parse().expect("an address")).objection(&headers).is_some()
    }

    #[test]
    fn foreign_pages_are_kept_out() {
        let loopback = "127.0.0.1:9644";
        for host in ["localhost:9644", "127.0.0.1:9644", "[::1]:9644", "LOCALHOST"] {
            assert!(!refused(loopback, host, None), "{host}");
        }
        assert!(refused(loopback, "rebound.example:9644", None));
        assert!(refused(loopback, "localhost:9644", Some("https://evil.example")));
        assert!(refused(loopback, "localhost:9644", Some("null")));
        assert!(!refused(loopback, "localhost:9644", Some("http://localhost:9644")));
        assert!(!refused("0.0.0.0:9644", "pond.example:9644", None));
        assert!(refused("0.0.0.0:9644", "pond.example:9644", Some("http://evil.example")));
    }
}
