//! Fetches the outputs of an action, and compares them with their digests.

use crate::{
    api::{
        bytestream::{ReadRequest, byte_stream_client::ByteStreamClient},
        execution::{
            ActionResult, BatchReadBlobsRequest,
            content_addressable_storage_client::ContentAddressableStorageClient,
        },
    },
    connect::Connection,
    digest::Digest,
    failure::{Failure, Lasts},
};
use std::collections::BTreeMap;

/// The most bytes of standard error that are of interest.
const MOST_OF_STDERR: usize = 4 * 1024;

/// Fetches those of the wanted files that are there.
pub(crate) async fn outputs(
    from: &Connection,
    wanted: &[String],
    result: &ActionResult,
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let (mut fetched, mut later) = (BTreeMap::new(), Vec::new());
    for file in result
        .output_files
        .iter()
        .filter(|file| wanted.contains(&file.path))
    {
        let Some(digest) = &file.digest else { continue };
        let digest = Digest::from_api(digest);
        if file.contents.len() as u64 == digest.size {
            let bytes = checked(&file.path, &digest, file.contents.clone())?;
            fetched.insert(file.path.clone(), bytes);
        } else {
            later.push((file.path.clone(), digest));
        }
    }
    let mut batch: Vec<(String, Digest)> = Vec::new();
    let mut size = 0;
    for (path, digest) in later {
        let weight = digest.size + 150;
        if weight > from.batch {
            let bytes = stream(from, &digest).await?;
            fetched.insert(path.clone(), checked(&path, &digest, bytes)?);
            continue;
        }
        if size + weight > from.batch {
            fetched.extend(together(from, std::mem::take(&mut batch)).await?);
            size = 0;
        }
        size += weight;
        batch.push((path, digest));
    }
    if !batch.is_empty() {
        fetched.extend(together(from, batch).await?);
    }
    Ok(fetched)
}

/// Returns the last bytes of standard error, if the engine has it. It is for people only.
pub(crate) async fn stderr(from: &Connection, result: &ActionResult) -> Vec<u8> {
    let mut bytes = result.stderr_raw.clone();
    if let Some(digest) = result.stderr_digest.as_ref().filter(|_| bytes.is_empty()) {
        let digest = Digest::from_api(digest);
        if digest.size > 0 && digest.size <= from.batch {
            bytes = stream(from, &digest).await.unwrap_or_default();
        }
    }
    let start = bytes.len().saturating_sub(MOST_OF_STDERR);
    bytes.split_off(start)
}

async fn together(
    from: &Connection,
    batch: Vec<(String, Digest)>,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let request = BatchReadBlobsRequest {
        instance_name: from.instance.clone(),
        digests: batch.iter().map(|(_, digest)| digest.to_api()).collect(),
        ..Default::default()
    };
    let mut client = ContentAddressableStorageClient::new(from.calls.clone());
    let answer = client.batch_read_blobs(request).await;
    let answer = answer.map_err(|status| Failure::of("fetching outputs", &status))?;
    let mut there = BTreeMap::new();
    for one in answer.into_inner().responses {
        let status = one.status.unwrap_or_default();
        if let (Some(digest), 0) = (&one.digest, status.code) {
            there.insert(Digest::from_api(digest), one.data);
        }
    }
    let fetched = batch
        .into_iter()
        .map(|(path, digest)| match there.get(&digest) {
            Some(bytes) => Ok((path.clone(), checked(&path, &digest, bytes.clone())?)),
            None => Err(lost(&path)),
        });
    fetched.collect()
}

async fn stream(from: &Connection, digest: &Digest) -> Result<Vec<u8>, Failure> {
    let place = format!("blobs/{}/{}", digest.hash, digest.size);
    let resource_name = match from.instance.as_str() {
        "" => place,
        instance => format!("{instance}/{place}"),
    };
    let request = ReadRequest {
        resource_name,
        ..Default::default()
    };
    let failed = |status| Failure::of("fetching a large output", &status);
    let mut client = ByteStreamClient::new(from.calls.clone());
    let mut parts = client.read(request).await.map_err(failed)?.into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await.map_err(failed)? {
        bytes.extend(part.data);
        // An engine that sends more than it has announced does not fill the memory.
        if bytes.len() as u64 > digest.size {
            break;
        }
    }
    Ok(bytes)
}

fn lost(path: &str) -> Failure {
    let message = format!("the engine does not have the output `{path}` any more");
    Failure::new(Lasts::NotNecessarily, message)
}

fn checked(path: &str, digest: &Digest, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match Digest::of(&bytes) == *digest {
        true => Ok(bytes),
        false => {
            let message = format!("the engine sent other bytes than those of the output `{path}`");
            Err(Failure::new(Lasts::NotNecessarily, message))
        }
    }
}
