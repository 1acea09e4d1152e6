//! Who may write to a backup.
//!
//! A bucket knows no locks that end with a process. So the lock is an object that is made where there is none. It stays when its
//! process is killed; then somebody who knows has to say so, and names the very lock that is meant.

use std::time::Duration;

use millpond_disk::FolderLock;
use serde::{Deserialize, Serialize};

use super::Found;
use super::bucket::{Bucket, Created, SMALL_BYTES_MAX, Writing};
use crate::BackupError;

/// The object that locks a backup in a bucket. A folder's lock, `.lock`, means nothing there: it may have been copied along.
pub const LOCK_OBJECT: &str = "locked-by";
/// How long a lock's removal may take. Whoever waits for this has often an error to hear of.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
/// Digits of a lock's id.
const ID_DIGITS: usize = 12;
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Holds a backup for this process until dropped.
#[derive(Debug)]
pub(crate) enum Lock<'a> {
    Folder(#[expect(dead_code, reason = "it is held")] FolderLock),
    Bucket(#[expect(dead_code, reason = "it is held")] BucketLock<'a>),
}

/// Holds a bucket.
#[derive(Debug)]
pub(crate) struct BucketLock<'a> {
    bucket: &'a Bucket,
}

/// What a lock's object says.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    host: String,
    process: u32,
    /// Makes each lock another one.
    nonce: String,
}

/// Who holds a lock, for people.
fn holder(bytes: &[u8]) -> String {
    match serde_json::from_slice::<Holder>(bytes) {
        Ok(Holder { host, process, .. }) => format!("process {process} on {host}"),
        Err(_) => "somebody who did not say who".to_owned(),
    }
}

/// What a lock is called.
fn id(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().chars().take(ID_DIGITS).collect()
}

impl Bucket {
    pub(super) fn lock(&self) -> Result<BucketLock<'_>, BackupError> {
        let host = millpond_disk::read_file(HOST_NAME.as_ref()).ok().flatten().unwrap_or_default();
        let host = match String::from_utf8_lossy(&host).trim() {
            "" => "an unknown machine".to_owned(),
            name => name.to_owned(),
        };
        let holder = Holder { host, process: std::process::id(), nonce: uuid::Uuid::new_v4().to_string() };
        let mut bytes = serde_json::to_vec(&holder).expect("a lock is JSON");
        bytes.push(b'\n');
        if let Created::Taken(found, since) = self.wait(self.begin_create(LOCK_OBJECT, &bytes))? {
            return Err(self.locked(&found, since));
        }
        *self.writing.lock() = Writing { held: Some(bytes.clone()), ..Writing::default() };
        let lock = BucketLock { bucket: self };
        // A server that does not know the condition takes a second one, too, and would let two backups write at a time.
        if !self.refuses_a_second(&bytes)? {
            return Err(BackupError::NoConditions { place: self.at("") });
        }
        Ok(lock)
    }

    fn refuses_a_second(&self, bytes: &[u8]) -> Result<bool, BackupError> {
        use object_store::{Error, PutMode, PutOptions};
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.wait(self.store.put_opts(&self.key(LOCK_OBJECT), bytes.to_vec().into(), options)) {
            Err(Error::AlreadyExists { .. }) => Ok(true),
            Err(error) => Err(self.failed("write", LOCK_OBJECT, &error)),
            Ok(_) => Ok(false),
        }
    }

    fn locked(&self, found: &[u8], since: String) -> BackupError {
        BackupError::Locked { place: self.at(""), holder: holder(found), since, id: id(found) }
    }

    pub(super) fn break_lock(&self, wanted: &str) -> Result<Option<String>, BackupError> {
        let (found, since) = match self.wait(self.begin_read(LOCK_OBJECT, SMALL_BYTES_MAX))? {
            (Found::Missing, _) => return Ok(None),
            (Found::Bytes(found), since) => (found, since),
            (Found::TooLong(_), since) => (Vec::new(), since),
        };
        if id(&found) != wanted {
            return Err(self.locked(&found, since));
        }
        self.remove(&[LOCK_OBJECT.to_owned()])?;
        Ok(Some(format!("{} since {since}", holder(&found))))
    }

    pub(super) fn check_lock(&self) -> Result<(), BackupError> {
        let held = self.writing.lock().held.clone();
        match self.read(LOCK_OBJECT, SMALL_BYTES_MAX)? {
            Found::Bytes(found) if Some(&found) == held.as_ref() => Ok(()),
            _ => Err(BackupError::LockBroken { place: self.at("") }),
        }
    }
}

impl Drop for BucketLock<'_> {
    fn drop(&mut self) {
        let bucket = self.bucket;
        let Writing { held, mut uploads, .. } = std::mem::take(&mut *bucket.writing.lock());
        bucket.wait(async {
            // Nothing may arrive after it.
            uploads.shutdown().await;
            // Whoever comes next is told of a lock that stays. One that was broken may be another's now.
            let release = async {
                let found = bucket.begin_read(LOCK_OBJECT, SMALL_BYTES_MAX).await;
                if matches!((found, held), (Ok((Found::Bytes(found), _)), Some(held)) if found == held) {
                    use object_store::ObjectStoreExt;
                    let _ = bucket.store.delete(&bucket.key(LOCK_OBJECT)).await;
                }
            };
            let _ = tokio::time::timeout(RELEASE_TIMEOUT, release).await;
        });
    }
}
