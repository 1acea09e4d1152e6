//! How the user says where a backup lies, and what the environment says of the server that has it.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::BackupError;

/// The region that is signed with when none is named: servers that are not Amazon's take any.
const REGION_DEFAULT: &str = "us-east-1";

/// Where a backup lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a folder.
    Folder(PathBuf),
    /// In a bucket of an S3-compatible server.
    Bucket(BucketLocation),
}

/// A part of a bucket, and the server that has it.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketLocation {
    /// The bucket's name.
    pub(crate) bucket: String,
    /// What the names of all its objects begin with, without a stroke at either end; may be empty.
    pub(crate) prefix: String,
    /// The server's URL. Plain HTTP where it says so, and only there.
    pub(crate) endpoint: String,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: Option<String>,
}

impl fmt::Debug for BucketLocation {
    // Not the key.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.url(), self.endpoint)
    }
}

impl BucketLocation {
    /// `s3://bucket/prefix`.
    pub(crate) fn url(&self) -> String {
        if self.prefix.is_empty() {
            format!("s3://{}", self.bucket)
        } else {
            format!("s3://{}/{}", self.bucket, self.prefix)
        }
    }
}

impl Location {
    /// Reads `s3://bucket/prefix`, `file:///path`, or the path of a folder. Which server has the bucket, and by which key it is
    /// read and written, stands in variables of the `environment`: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, `AWS_REGION` (or `AWS_DEFAULT_REGION`), `AWS_ENDPOINT_URL` (or `AWS_ENDPOINT_URL_S3`, which goes first).
    pub fn parse(text: &OsStr, environment: &dyn Fn(&str) -> Option<String>) -> Result<Location, BackupError> {
        let Some((scheme, rest)) = text.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(Location::Folder(text.into()));
        };
        let refused = |why: &str| BackupError::Location { text: text.to_string_lossy().into(), why: why.to_owned() };
        match scheme {
            "file" => {
                let url = Url::parse(&text.to_string_lossy()).map_err(|error| refused(&error.to_string()))?;
                if url.query().is_some() || url.fragment().is_some() {
                    return Err(refused("a file's URL has no ? and no # (write them as %3F and %23)"));
                }
                let path = url.to_file_path().map_err(|()| refused("it is not file:///path"))?;
                Ok(Location::Folder(path))
            }
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                let is_of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                if bucket.is_empty() || !bucket.bytes().all(is_of_a_name) {
                    return Err(refused("a bucket's name has letters, digits, dots and dashes"));
                }
                let prefix = prefix.trim_matches('/');
                if let Err(error) = object_store::path::Path::parse(prefix) {
                    return Err(refused(&error.to_string()));
                }
                bucket_at(bucket, prefix, environment).map(Location::Bucket)
            }
            _ => Err(refused("nothing of that kind is known")),
        }
    }
}

fn bucket_at(
    bucket: &str,
    prefix: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<BucketLocation, BackupError> {
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let needed = |name: &'static str| {
        let why = "a bucket is read and written with a key: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and \
                   AWS_SESSION_TOKEN where the key is a temporary one";
        variable(name).ok_or(BackupError::Environment { variable: name, what: "is not set", why })
    };
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let endpoint = match variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")) {
        None => format!("https://s3.{region}.amazonaws.com"),
        Some(given) => {
            let is_web =
                Url::parse(&given).is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
            if !is_web {
                let why = "name the server like https://s3.example.org, or http://127.0.0.1:9000 for one without TLS";
                return Err(BackupError::Environment { variable: "AWS_ENDPOINT_URL", what: "is no URL", why });
            }
            given.trim_end_matches('/').to_owned()
        }
    };
    Ok(BucketLocation {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint,
        region,
        access_key_id: needed("AWS_ACCESS_KEY_ID")?,
        secret_access_key: needed("AWS_SECRET_ACCESS_KEY")?,
        session_token: variable("AWS_SESSION_TOKEN"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Location, BackupError> {
        let value =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Location::parse(OsStr::new(text), &value)
    }

    const KEY: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hidden")];

    fn bucket(text: &str, variables: &[(&str, &str)]) -> BucketLocation {
        match parse(text, &[&KEY, variables].concat()).unwrap() {
            Location::Bucket(bucket) => bucket,
            Location::Folder(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn a_path_and_a_file_url_are_folders() {
        let folder = |path: &str| Location::Folder(PathBuf::from(path));
        assert_eq!(parse("backups/pond", &[]).unwrap(), folder("backups/pond"));
        assert_eq!(parse("/a b%20", &[]).unwrap(), folder("/a b%20"));
        assert_eq!(parse("file:///a%20b/c", &[]).unwrap(), folder("/a b/c"));
        for wrong in ["file://host/path", "file:///a?b", "file:///a#b", "gs://b/p", "http://x/y", "://"] {
            assert!(matches!(parse(wrong, &KEY), Err(BackupError::Location { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_bucket_has_the_server_and_the_key_of_the_environment() {
        let plain = bucket("s3://pond/a/b/", &[]);
        assert_eq!((plain.bucket.as_str(), plain.prefix.as_str()), ("pond", "a/b"));
        assert_eq!(
            (plain.region.as_str(), plain.endpoint.as_str()),
            ("us-east-1", "https://s3.us-east-1.amazonaws.com")
        );
        assert_eq!((plain.url().as_str(), bucket("s3://pond", &[]).url().as_str()), ("s3://pond/a/b", "s3://pond"));
        let own = bucket("s3://pond", &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/"), ("AWS_SESSION_TOKEN", "t")]);
        assert_eq!((own.endpoint.as_str(), own.session_token.as_deref()), ("http://127.0.0.1:9000", Some("t")));
        assert!(!format!("{own:?}").contains("hidden"));
        assert_eq!(bucket("s3://pond", &[("AWS_DEFAULT_REGION", "eu-1")]).endpoint, "https://s3.eu-1.amazonaws.com");
        assert_eq!(bucket("s3://pond", &[("AWS_DEFAULT_REGION", "eu-1"), ("AWS_REGION", "eu-2")]).region, "eu-2");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for wrong in ["s3://", "s3:///x", "s3://a b/x", "s3://user@host/x", "s3://b/a//c", "s3://b/../c"] {
            assert!(matches!(parse(wrong, &KEY), Err(BackupError::Location { .. })), "{wrong}");
        }
        let error = parse("s3://b/p", &[]).unwrap_err().to_string();
        assert!(error.starts_with("AWS_ACCESS_KEY_ID is not set"), "{error}");
        let error = parse("s3://b/p", &[KEY[0], ("AWS_SECRET_ACCESS_KEY", "")]).unwrap_err().to_string();
        assert!(error.starts_with("AWS_SECRET_ACCESS_KEY is not set"), "{error}");
        let error = parse("s3://b/p", &[KEY[0], KEY[1], ("AWS_ENDPOINT_URL", "127.0.0.1:9000")]).unwrap_err();
        assert!(error.to_string().starts_with("AWS_ENDPOINT_URL is no URL"), "{error}");
    }
}
