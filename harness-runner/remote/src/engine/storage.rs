//! The store of the engine: blobs, by batches and by streams.

use super::{Service, take};
use crate::{
    api::{
        bytestream::{self, byte_stream_server},
        execution::{
            self, batch_read_blobs_response, batch_update_blobs_response,
            content_addressable_storage_server,
        },
    },
    digest::Digest,
};
use bazel_remote_apis::google::rpc;
use prost::Message;
use std::sync::atomic::Ordering;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};

#[tonic::async_trait]
impl content_addressable_storage_server::ContentAddressableStorage for Service {
    async fn find_missing_blobs(
        &self,
        request: Request<execution::FindMissingBlobsRequest>,
    ) -> Result<Response<execution::FindMissingBlobsResponse>, Status> {
        let blobs = self.state.blobs();
        let asked = request.into_inner().blob_digests.into_iter();
        let missing = asked.filter(|digest| !blobs.contains_key(&Digest::from_api(digest)));
        Ok(Response::new(execution::FindMissingBlobsResponse {
            missing_blob_digests: missing.collect(),
        }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<execution::BatchUpdateBlobsRequest>,
    ) -> Result<Response<execution::BatchUpdateBlobsResponse>, Status> {
        let request = request.into_inner();
        self.state.takes(request.encoded_len())?;
        let mut responses = Vec::new();
        for one in request.requests {
            let size = one.data.len() as u64;
            self.state.counts.uploaded.fetch_add(size, Ordering::SeqCst);
            let stored = self.state.put(one.data);
            let right = one.digest.as_ref().map(Digest::from_api) == Some(stored);
            let code = if right {
                Code::Ok
            } else {
                Code::InvalidArgument
            };
            responses.push(batch_update_blobs_response::Response {
                digest: one.digest,
                status: Some(rpc::Status {
                    code: code as i32,
                    ..Default::default()
                }),
            });
        }
        Ok(Response::new(execution::BatchUpdateBlobsResponse {
            responses,
        }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<execution::BatchReadBlobsRequest>,
    ) -> Result<Response<execution::BatchReadBlobsResponse>, Status> {
        let mut responses = Vec::new();
        for digest in request.into_inner().digests {
            let mut data = self.state.get(Some(&digest))?.to_vec();
            if !data.is_empty() && take(&self.state.behaviour.garbles) {
                data[0] ^= 1;
            }
            responses.push(batch_read_blobs_response::Response {
                digest: Some(digest),
                data,
                ..Default::default()
            });
        }
        let response = execution::BatchReadBlobsResponse { responses };
        self.state.takes(response.encoded_len())?;
        Ok(Response::new(response))
    }

    type GetTreeStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<execution::GetTreeResponse, Status>> + Send>>;

    async fn get_tree(
        &self,
        _: Request<execution::GetTreeRequest>,
    ) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("GetTree"))
    }

    async fn split_blob(
        &self,
        _: Request<execution::SplitBlobRequest>,
    ) -> Result<Response<execution::SplitBlobResponse>, Status> {
        Err(Status::unimplemented("SplitBlob"))
    }

    type GetChunkMappingStream = std::pin::Pin<
        Box<dyn Stream<Item = Result<execution::GetChunkMappingResponse, Status>> + Send>,
    >;

    async fn get_chunk_mapping(
        &self,
        _: Request<execution::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented("GetChunkMapping"))
    }

    async fn splice_blob(
        &self,
        _: Request<execution::SpliceBlobRequest>,
    ) -> Result<Response<execution::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented("SpliceBlob"))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<execution::RegisterChunkMappingRequest>>,
    ) -> Result<Response<execution::RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented("RegisterChunkMapping"))
    }
}

#[tonic::async_trait]
impl byte_stream_server::ByteStream for Service {
    type ReadStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<bytestream::ReadResponse, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<bytestream::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let name = request.into_inner().resource_name;
        let digest = named(&name).ok_or_else(|| Status::invalid_argument("it names no blob"))?;
        let bytes = self.state.get(Some(&digest.to_api()))?;
        let parts = bytes.chunks(30_000).map(|part| {
            Ok(bytestream::ReadResponse {
                data: part.to_vec(),
            })
        });
        let parts: Vec<_> = parts.collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn write(
        &self,
        request: Request<Streaming<bytestream::WriteRequest>>,
    ) -> Result<Response<bytestream::WriteResponse>, Status> {
        self.state.counts.streams.fetch_add(1, Ordering::SeqCst);
        let (mut parts, mut bytes, mut name) = (request.into_inner(), Vec::new(), String::new());
        while let Some(part) = parts.message().await? {
            self.state.takes(part.data.len())?;
            if name.is_empty() {
                name = part.resource_name;
            }
            bytes.extend(part.data);
        }
        let size = bytes.len();
        self.state
            .counts
            .uploaded
            .fetch_add(size as u64, Ordering::SeqCst);
        let stored = self.state.put(bytes);
        match named(&name) == Some(stored) {
            true => Ok(Response::new(bytestream::WriteResponse {
                committed_size: i64::try_from(size).unwrap_or(i64::MAX),
            })),
            false => Err(Status::invalid_argument(
                "the bytes are others than those that are named",
            )),
        }
    }

    async fn query_write_status(
        &self,
        _: Request<bytestream::QueryWriteStatusRequest>,
    ) -> Result<Response<bytestream::QueryWriteStatusResponse>, Status> {
        Err(Status::unimplemented("QueryWriteStatus"))
    }
}

/// Returns the digest in the name of a resource.
fn named(name: &str) -> Option<Digest> {
    let (_, digest) = name.rsplit_once("blobs/")?;
    let (hash, size) = digest.split_once('/')?;
    let (hash, size) = (hash.to_owned(), size.parse().ok()?);
    Some(Digest { hash, size })
}
