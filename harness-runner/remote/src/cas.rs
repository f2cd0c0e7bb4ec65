//! Uploads what an engine lacks: each blob once, however many actions need it.

use crate::{
    api::{
        bytestream::{WriteRequest, byte_stream_client::ByteStreamClient},
        execution::{
            BatchUpdateBlobsRequest, FindMissingBlobsRequest, batch_update_blobs_request,
            content_addressable_storage_client::ContentAddressableStorageClient,
        },
    },
    connect::Connection,
    digest::Digest,
    failure::{Failure, Lasts},
};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// The bytes of one message of a stream.
const CHUNK: u64 = 256 * 1024;

/// The digests of one question.
const MOST_ASKED: usize = 2_000;

/// The place of a blob's bytes.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Bytes(Arc<[u8]>),
    File(PathBuf),
}

/// The blobs that the engine is known to have, or is about to. The value is true once it has it.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<Digest, watch::Receiver<bool>>>);

/// Blobs that this task uploads. Those that are not there when it is dropped can be taken by another.
struct Claim<'a> {
    known: &'a Known,
    blobs: Vec<(Digest, watch::Sender<bool>)>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        for (digest, there) in &self.blobs {
            if !*there.borrow() {
                known.remove(digest);
            }
        }
    }
}

impl Known {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, watch::Receiver<bool>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine does not have all of these, whatever it has said.
    pub(crate) fn forget<'a>(&self, blobs: impl Iterator<Item = &'a Digest>) {
        let mut known = self.lock();
        for digest in blobs {
            known.remove(digest);
        }
    }

    /// Takes those that no other task has taken. The others are awaited.
    fn claim<'a>(
        &self,
        blobs: impl Iterator<Item = &'a Digest>,
    ) -> (Claim<'_>, Vec<watch::Receiver<bool>>) {
        let mut known = self.lock();
        let (mut mine, mut others) = (Vec::new(), Vec::new());
        for digest in blobs {
            match known.get(digest) {
                Some(there) if *there.borrow() => {}
                Some(there) => others.push(there.clone()),
                None => {
                    let (sender, receiver) = watch::channel(false);
                    known.insert(digest.clone(), receiver);
                    mine.push((digest.clone(), sender));
                }
            }
        }
        (
            Claim {
                known: self,
                blobs: mine,
            },
            others,
        )
    }
}

/// Makes sure that the engine has all of these. Returns how many bytes were uploaded.
pub(crate) async fn ensure(
    to: &Connection,
    known: &Known,
    blobs: &BTreeMap<Digest, Source>,
) -> Result<u64, Failure> {
    let mut uploaded = 0;
    loop {
        let (claim, others) = known.claim(blobs.keys());
        if claim.blobs.is_empty() && others.is_empty() {
            return Ok(uploaded);
        }
        let mine: Vec<&Digest> = claim.blobs.iter().map(|(digest, _)| digest).collect();
        let missing = missing(to, &mine).await?;
        uploaded += upload(to, blobs, missing).await?;
        for (_, there) in &claim.blobs {
            there.send_replace(true);
        }
        drop(claim);
        for mut there in others {
            // If the other task has failed, it is this one's turn.
            let _ = there.wait_for(|there| *there).await;
        }
    }
}

/// Returns those that the engine does not have.
async fn missing(to: &Connection, all: &[&Digest]) -> Result<HashSet<Digest>, Failure> {
    let mut client = ContentAddressableStorageClient::new(to.calls.clone());
    let mut missing = HashSet::new();
    for some in all.chunks(MOST_ASKED) {
        let request = FindMissingBlobsRequest {
            instance_name: to.instance.clone(),
            blob_digests: some.iter().map(|digest| digest.to_api()).collect(),
            ..Default::default()
        };
        let answer = client.find_missing_blobs(request).await;
        let answer = answer.map_err(|status| Failure::of("asking for missing inputs", &status))?;
        let found = answer.into_inner().missing_blob_digests;
        missing.extend(found.iter().map(Digest::from_api));
    }
    Ok(missing)
}

/// Uploads: small ones together, large ones by a stream each.
async fn upload(
    to: &Connection,
    blobs: &BTreeMap<Digest, Source>,
    missing: HashSet<Digest>,
) -> Result<u64, Failure> {
    let (mut batch, mut size, mut uploaded) = (Vec::new(), 0, 0);
    for digest in missing {
        let Some(source) = blobs.get(&digest) else {
            continue;
        };
        uploaded += digest.size;
        // The digest and the fields of the message count as well.
        let weight = digest.size + 150;
        if weight > to.batch {
            stream(to, &digest, source).await?;
            continue;
        }
        if size + weight > to.batch {
            send(to, std::mem::take(&mut batch)).await?;
            size = 0;
        }
        size += weight;
        batch.push((digest, source));
    }
    if !batch.is_empty() {
        send(to, batch).await?;
    }
    Ok(uploaded)
}

async fn send(to: &Connection, blobs: Vec<(Digest, &Source)>) -> Result<(), Failure> {
    let mut requests = Vec::new();
    for (digest, source) in blobs {
        let data = match source {
            Source::Bytes(bytes) => bytes.to_vec(),
            Source::File(path) => read(path, 0, digest.size)?,
        };
        requests.push(batch_update_blobs_request::Request {
            digest: Some(digest.to_api()),
            data,
            ..Default::default()
        });
    }
    let request = BatchUpdateBlobsRequest {
        instance_name: to.instance.clone(),
        requests,
        ..Default::default()
    };
    let mut client = ContentAddressableStorageClient::new(to.calls.clone());
    let answer = client.batch_update_blobs(request).await;
    let answer = answer.map_err(|status| Failure::of("uploading inputs", &status))?;
    for one in answer.into_inner().responses {
        if let Some(status) = one.status.filter(|status| status.code != 0) {
            let status = tonic::Status::new(status.code.into(), status.message);
            return Err(Failure::of("uploading an input", &status));
        }
    }
    Ok(())
}

async fn stream(to: &Connection, digest: &Digest, source: &Source) -> Result<(), Failure> {
    let id = uuid::Uuid::new_v4();
    let place = format!("uploads/{id}/blobs/{}/{}", digest.hash, digest.size);
    let resource_name = match to.instance.as_str() {
        "" => place,
        instance => format!("{instance}/{place}"),
    };
    let (tx, rx) = tokio::sync::mpsc::channel(4);
    let (source, size, chunk) = (source.clone(), digest.size, CHUNK.min(to.batch.max(1024)));
    let reader = async move {
        let mut offset = 0;
        while offset < size {
            let length = chunk.min(size - offset);
            let data = match &source {
                Source::Bytes(bytes) => {
                    let bytes = usize::try_from(offset).ok().and_then(|at| bytes.get(at..));
                    let bytes = bytes.unwrap_or_default().iter().copied();
                    bytes
                        .take(usize::try_from(length).unwrap_or(usize::MAX))
                        .collect()
                }
                Source::File(path) => read(path, offset, length)?,
            };
            let request = WriteRequest {
                resource_name: if offset == 0 {
                    resource_name.clone()
                } else {
                    String::new()
                },
                write_offset: i64::try_from(offset).unwrap_or(i64::MAX),
                finish_write: offset + length == size,
                data,
            };
            offset += length;
            // The engine may have it by now, and answer before the end.
            if tx.send(request).await.is_err() {
                break;
            }
        }
        drop(tx);
        Ok::<(), Failure>(())
    };
    let mut client = ByteStreamClient::new(to.calls.clone());
    let written = client.write(tokio_stream::wrappers::ReceiverStream::new(rx));
    let (read, written) = tokio::join!(reader, written);
    read?;
    written.map_err(|status| Failure::of("uploading a large input", &status))?;
    Ok(())
}

/// Reads a part of a file that is to have so many bytes.
fn read(path: &PathBuf, offset: u64, length: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("failed to read the input `{}`: {error}", path.display());
        Failure::new(Lasts::Always, message)
    };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 != length {
        let message = format!(
            "the input `{}` has become shorter while it was uploaded",
            path.display()
        );
        return Err(Failure::new(Lasts::Always, message));
    }
    Ok(bytes)
}
