//! What a server's refusal means for who wants a backup: what, where, what to do.
//!
//! object_store keeps the status and the server's answer in its text only: `… status code: 403 Forbidden: <Error><Code>…`.

use std::error::Error as _;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::bucket::{CONNECT_TIMEOUT, REQUEST_TIMEOUT};
use crate::BackupError;

/// No more of what a server says is shown.
const SHOWN_CHARACTERS_MAX: usize = 300;

const KEY: &str = "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "Get a new temporary key (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)";
const CLOCK: &str = "Set this machine's clock";
const RIGHTS: &str = "The key must be allowed to list the bucket, and to read, write and delete its objects; \
                      to restore, list and verify, reading and listing are enough";
const BUCKET: &str = "Make the bucket, or correct the URL";
const REGION: &str = "Set AWS_REGION to the bucket's region";
const NETWORK: &str = "Check AWS_ENDPOINT_URL, and that the server runs and can be reached; then do it again";
const LATER: &str = "Do it again later: what was copied is not copied again";
const UNKNOWN: &str = "Do it again; if it stays, ask who runs the server";

/// Whether the bucket is there, and the object is not. Servers say 404 of other things, too: of buckets, and of users.
pub(super) fn is_missing_object(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && matches!(tag(&error.to_string(), "Code"), None | Some("NoSuchKey"))
}

/// Whether there was an object where one was to be made.
pub(super) fn is_taken(error: &Error) -> bool {
    matches!(error, Error::AlreadyExists { .. })
}

/// The error for a request to `endpoint` that was to `action` what is `at`.
pub(super) fn of(action: &'static str, at: &str, endpoint: &str, error: &Error) -> BackupError {
    let text = error.to_string();
    let (what, advice) = match network(error) {
        Some((HttpErrorKind::Timeout, _)) => {
            let (connect, request) = (CONNECT_TIMEOUT.as_secs(), REQUEST_TIMEOUT.as_secs());
            (format!("{endpoint} did not answer in time ({connect} s to connect, {request} s for a request)"), NETWORK)
        }
        Some((_, cause)) => (format!("no answer from {endpoint}{}: {cause}", repetitions(&text)), NETWORK),
        None => answer(&text, endpoint),
    };
    BackupError::Bucket { action, at: at.to_owned(), what, advice }
}

/// What happened below HTTP, and the innermost reason.
fn network(error: &Error) -> Option<(HttpErrorKind, String)> {
    let (mut kind, mut innermost, mut next) = (None, String::new(), error.source());
    while let Some(error) = next {
        kind = error.downcast_ref::<HttpError>().map(HttpError::kind).or(kind);
        innermost = error.to_string();
        next = error.source();
    }
    Some((kind?, innermost))
}

/// How often a request was repeated, if it was: `…, after 7 retries, …`.
fn repetitions(text: &str) -> String {
    let count = text.split_once(", after ").and_then(|(_, rest)| rest.split_once(" retries"));
    count.map_or_else(String::new, |(count, _)| format!(", asked {count} times again"))
}

/// What the server said.
fn answer(text: &str, endpoint: &str) -> (String, &'static str) {
    let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    let code = tag(text, "Code").unwrap_or_default();
    let said = match (code, tag(text, "Message")) {
        ("", _) => shortened(text),
        (code, None) => code.to_owned(),
        (code, Some(message)) => format!("{code}, {}", shortened(message).trim_end_matches('.')),
    };
    let advice = match (status, code) {
        (_, "NoSuchBucket") => return ("there is no such bucket".to_owned(), BUCKET),
        // The third is what versitygw says instead of the first.
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "XAdminUserNotFound") => KEY,
        (_, "ExpiredToken" | "InvalidToken") => TOKEN,
        (_, "RequestTimeTooSkewed") => CLOCK,
        (_, "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException") => REGION,
        (Some(301 | 307 | 308), _) => REGION,
        (Some(401 | 403), _) => RIGHTS,
        (Some(429 | 500..), _) => LATER,
        _ if text.contains("redirect without LOCATION") => REGION,
        _ => UNKNOWN,
    };
    let status = status.map_or_else(String::new, |status| format!(" with {status}"));
    (format!("{endpoint} refuses{status}: {said}"), advice)
}

/// What stands in the first element of a name.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

fn shortened(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN_CHARACTERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let error = Error::Generic { store: "S3", source: text.to_owned().into() };
        of("read", "s3://b/p/x", "http://host", &error).to_string()
    }

    fn refused(status: &str, code: &str) -> String {
        shown(&format!(
            "Error performing GET u in 1ms - Server returned non-2xx status code: {status}: <?xml version=\"1.0\"?>\n\
             <Error><Code>{code}</Code><Message>the\n   message</Message></Error>"
        ))
    }

    #[test]
    fn each_says_what_where_and_what_to_do() {
        for (status, code, advice) in [
            ("403 Forbidden", "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
            ("400 Bad Request", "ExpiredToken", "AWS_SESSION_TOKEN"),
            ("403 Forbidden", "RequestTimeTooSkewed", "clock"),
            ("403 Forbidden", "AccessDenied", "allowed to list"),
            ("400 Bad Request", "AuthorizationHeaderMalformed", "AWS_REGION"),
            ("503 Service Unavailable", "SlowDown", "again later"),
            ("418 I'm a teapot", "Other", "ask who runs the server"),
        ] {
            let text = refused(status, code);
            let start =
                format!("cannot read s3://b/p/x: http://host refuses with {}: {code}, the message. ", &status[..3]);
            assert!(text.starts_with(&start) && text.contains(advice), "{text}");
        }
        let text = refused("404 Not Found", "NoSuchBucket");
        assert_eq!(text, format!("cannot read s3://b/p/x: there is no such bucket. {BUCKET}"));
        assert!(shown("Received redirect without LOCATION, this").ends_with(REGION));
        assert!(shown(&"long ".repeat(1000)).len() < 500);
    }

    #[test]
    fn a_missing_object_is_no_missing_bucket() {
        let missing =
            |code: &str| Error::NotFound { path: "x".to_owned(), source: format!("<Code>{code}</Code>").into() };
        assert!(is_missing_object(&missing("NoSuchKey")) && !is_missing_object(&missing("NoSuchBucket")));
        assert!(!is_missing_object(&missing("XAdminUserNotFound")));
        assert!(is_missing_object(&Error::NotFound { path: "x".to_owned(), source: "".into() }));
        assert!(!is_missing_object(&Error::AlreadyExists { path: "x".to_owned(), source: "".into() }));
    }
}
