//! A small engine in this process, for tests: it executes actions on this machine, and fails as the test wants.
//!
//! It is no sandbox: an action is a process in a temporary folder.

mod certificates;
mod storage;

pub use certificates::{Authority, Pair, ServerTls};

use crate::{
    api::{
        bytestream::byte_stream_server,
        execution::{
            self, capabilities_server, content_addressable_storage_server, execution_server,
            execution_stage,
        },
        longrunning::{self, Operation, operation, operations_server},
        protobuf::{Any, Empty},
    },
    digest::Digest,
};
use bazel_remote_apis::google::rpc;
use prost::Message;
use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};
use tokio::{net::TcpListener, runtime::Runtime, sync::watch};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Code, Request, Response, Status, transport::Server};

/// The ways in which the engine behaves. Numbers count down to zero.
#[derive(Debug, Default)]
pub struct Behaviour {
    /// The most bytes of a message that it says it takes, and holds others to; 0 for none.
    pub batch: u64,
    /// Whether it executes nothing.
    pub stores_only: bool,
    /// The token that it wants; `None` for none.
    pub token: Mutex<Option<String>>,
    /// The number of times that the stream of an execution breaks once its name is known.
    pub breaks: AtomicU32,
    /// Whether it has forgotten an action whose stream has broken.
    pub forgets: bool,
    /// The number of times that it has lost all that was uploaded when an action is to be executed.
    pub evicts: AtomicU32,
    /// The number of times that it sends other bytes than those of an output.
    pub garbles: AtomicU32,
    /// The number of times that it fails by itself.
    pub fails: AtomicU32,
    /// Outputs that it loses.
    pub loses: Vec<String>,
    /// The number of actions that it never finishes.
    pub hangs: AtomicU32,
    /// Whether it rejects properties.
    pub plain: bool,
    /// Its certificates; `None` for no TLS.
    pub tls: Option<ServerTls>,
}

/// Counts of what has been asked of the engine.
#[derive(Debug, Default)]
pub struct Counts {
    /// Actions that were submitted.
    pub accepted: AtomicU32,
    /// Actions that were executed to their ends.
    pub executed: AtomicU32,
    /// Actions that were cancelled.
    pub cancelled: AtomicU32,
    /// Bytes that were uploaded.
    pub uploaded: AtomicU64,
    /// Calls of uploads by streams.
    pub streams: AtomicU32,
}

/// The state of an engine, which outlives it.
#[derive(Debug, Default)]
pub struct State {
    /// The ways in which it behaves.
    pub behaviour: Behaviour,
    /// The counts of its requests.
    pub counts: Counts,
    blobs: Mutex<HashMap<Digest, Arc<[u8]>>>,
}

/// A running engine. It ends when it is dropped, and forgets the actions that it has.
#[derive(Debug)]
pub struct LocalEngine {
    runtime: Option<Runtime>,
    at: SocketAddr,
    scheme: &'static str,
}

impl LocalEngine {
    /// Starts an engine at a free port of this machine, or at this one.
    ///
    /// # Errors
    ///
    /// When there is no port to be had, or its certificates are none.
    pub fn start(state: &Arc<State>, at: Option<SocketAddr>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let at = at.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = runtime.block_on(TcpListener::bind(at))?;
        let at = listener.local_addr()?;
        let service = Service {
            state: Arc::clone(state),
            operations: Arc::default(),
        };
        let wanted = Arc::clone(state);
        let check = move |request: Request<()>| wanted.admit(request);
        let most = 64 << 20;
        let execution =
            execution_server::ExecutionServer::with_interceptor(service.clone(), check.clone());
        let cas = content_addressable_storage_server::ContentAddressableStorageServer::new(
            service.clone(),
        )
        .max_decoding_message_size(most);
        let mut server = Server::builder();
        let tls = &state.behaviour.tls;
        if let Some(tls) = tls {
            let with_tls = server.tls_config(tls.config());
            server = with_tls.map_err(io::Error::other)?;
        }
        let scheme = if tls.is_some() { "grpcs" } else { "grpc" };
        let serve = server
            .add_service(execution)
            .add_service(cas)
            .add_service(capabilities_server::CapabilitiesServer::with_interceptor(
                service.clone(),
                check,
            ))
            .add_service(byte_stream_server::ByteStreamServer::new(service.clone()))
            .add_service(operations_server::OperationsServer::new(service))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(serve);
        let runtime = Some(runtime);
        Ok(Self {
            runtime,
            at,
            scheme,
        })
    }

    /// Returns where it is.
    pub fn at(&self) -> SocketAddr {
        self.at
    }

    /// Returns its address.
    pub fn address(&self) -> String {
        format!("{}://{}", self.scheme, self.at)
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        }
    }
}

impl State {
    /// An engine that has nothing yet.
    pub fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            ..Self::default()
        }
    }

    fn blobs(&self) -> MutexGuard<'_, HashMap<Digest, Arc<[u8]>>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.blobs().insert(digest.clone(), bytes.into());
        digest
    }

    fn get(&self, digest: Option<&crate::api::Digest>) -> Result<Arc<[u8]>, Status> {
        let digest = digest.map(Digest::from_api);
        let found = digest.and_then(|digest| self.blobs().get(&digest).cloned());
        found.ok_or_else(|| Status::failed_precondition("a blob is missing"))
    }

    fn decode<M: Message + Default>(
        &self,
        digest: Option<&crate::api::Digest>,
    ) -> Result<M, Status> {
        let bytes = self.get(digest)?;
        M::decode(&*bytes).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    #[allow(clippy::result_large_err, reason = "as tonic has it")]
    fn admit(&self, request: Request<()>) -> Result<Request<()>, Status> {
        let wanted = self
            .behaviour
            .token
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = &*wanted else {
            return Ok(request);
        };
        let given = request.metadata().get("authorization");
        match given.is_some_and(|given| given.as_bytes() == format!("Bearer {wanted}").as_bytes()) {
            true => Ok(request),
            false => Err(Status::unauthenticated("it has expired")),
        }
    }

    fn takes(&self, bytes: usize) -> Result<(), Status> {
        match self.behaviour.batch {
            limit @ 1.. if bytes as u64 > limit => {
                Err(Status::invalid_argument("the message is too large"))
            }
            _ => Ok(()),
        }
    }
}

/// Counts down, and returns whether it was above zero.
fn take(count: &AtomicU32) -> bool {
    let less = |count: u32| count.checked_sub(1);
    count
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

type Finished = watch::Receiver<Option<operation::Result>>;

#[derive(Clone, Debug)]
struct Service {
    state: Arc<State>,
    operations: Arc<Mutex<BTreeMap<String, (Finished, tokio::task::AbortHandle)>>>,
}

type Operations = std::pin::Pin<Box<dyn Stream<Item = Result<Operation, Status>> + Send>>;

impl Service {
    fn follow(&self, name: String, mut finished: Finished) -> Operations {
        let (tx, rx) = tokio::sync::mpsc::channel(4);
        let breaks = take(&self.state.behaviour.breaks);
        tokio::spawn(async move {
            let metadata = execution::ExecuteOperationMetadata {
                stage: execution_stage::Value::Unknown as i32,
                ..Default::default()
            };
            let begun = Operation {
                name: name.clone(),
                metadata: Some(any("ExecuteOperationMetadata", &metadata)),
                ..Default::default()
            };
            let _ = tx.send(Ok(begun)).await;
            if breaks {
                let _ = tx
                    .send(Err(Status::unavailable("the connection is cut")))
                    .await;
                return;
            }
            let ended = tokio::select! {
                ended = finished.wait_for(Option::is_some) => ended.ok().and_then(|it| it.clone()),
                () = tx.closed() => return,
            };
            let result = ended.unwrap_or_else(|| operation::Result::Error(cancelled()));
            let done = Operation {
                name,
                done: true,
                result: Some(result),
                ..Default::default()
            };
            let _ = tx.send(Ok(done)).await;
        });
        Box::pin(ReceiverStream::new(rx))
    }

    async fn run(&self, action: execution::Action) -> Result<execution::ActionResult, Status> {
        let state = &self.state;
        let command: execution::Command = state.decode(action.command_digest.as_ref())?;
        let folder = tempdir()?;
        let root = folder.0.join("root");
        self.lay_out(action.input_root_digest.as_ref(), &root)?;
        if take(&state.behaviour.hangs) {
            std::future::pending::<()>().await;
        }
        let program = root.join(command.arguments.first().map_or("", String::as_str));
        let output = loop {
            let output = tokio::process::Command::new(&program)
                .args(command.arguments.iter().skip(1))
                .current_dir(&root)
                .env_clear()
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .output()
                .await;
            match output {
                // A process that is being started by another thread has it open for writing.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {}
                output => break output.map_err(|error| Status::not_found(error.to_string()))?,
            }
        };
        let mut result = execution::ActionResult {
            exit_code: output.status.code().unwrap_or(137),
            stderr_raw: output.stderr,
            ..Default::default()
        };
        for path in command.output_paths {
            let lost = state.behaviour.loses.contains(&path);
            let Some(bytes) = fs::read(root.join(&path)).ok().filter(|_| !lost) else {
                continue;
            };
            let digest = state.put(bytes);
            result.output_files.push(execution::OutputFile {
                path,
                digest: Some(digest.to_api()),
                ..Default::default()
            });
        }
        state.counts.executed.fetch_add(1, Ordering::SeqCst);
        Ok(result)
    }

    fn lay_out(&self, digest: Option<&crate::api::Digest>, to: &Path) -> Result<(), Status> {
        let failed = |error: io::Error| Status::internal(error.to_string());
        fs::create_dir_all(to).map_err(failed)?;
        let directory: execution::Directory = self.state.decode(digest)?;
        for file in directory.files {
            let path = to.join(&file.name);
            fs::write(&path, self.state.get(file.digest.as_ref())?).map_err(failed)?;
            let mode = if file.is_executable { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        }
        for folder in directory.directories {
            self.lay_out(folder.digest.as_ref(), &to.join(&folder.name))?;
        }
        Ok(())
    }
}

/// A temporary folder.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempdir() -> Result<Folder, Status> {
    let path = std::env::temp_dir().join(format!("harness-engine-{}", uuid::Uuid::new_v4()));
    fs::create_dir(&path).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Folder(path))
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/build.bazel.remote.execution.v2.{name}"),
        value: message.encode_to_vec(),
    }
}

fn cancelled() -> rpc::Status {
    rpc::Status {
        code: Code::Cancelled as i32,
        message: "it was cancelled".to_owned(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl capabilities_server::Capabilities for Service {
    async fn get_capabilities(
        &self,
        _: Request<execution::GetCapabilitiesRequest>,
    ) -> Result<Response<execution::ServerCapabilities>, Status> {
        let sha256 = execution::digest_function::Value::Sha256 as i32;
        Ok(Response::new(execution::ServerCapabilities {
            cache_capabilities: Some(execution::CacheCapabilities {
                digest_functions: vec![sha256],
                max_batch_total_size_bytes: i64::try_from(self.state.behaviour.batch).unwrap_or(0),
                ..Default::default()
            }),
            execution_capabilities: Some(execution::ExecutionCapabilities {
                digest_function: sha256,
                exec_enabled: !self.state.behaviour.stores_only,
                ..Default::default()
            }),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl execution_server::Execution for Service {
    type ExecuteStream = Operations;

    async fn execute(
        &self,
        request: Request<execution::ExecuteRequest>,
    ) -> Result<Response<Operations>, Status> {
        let behaviour = &self.state.behaviour;
        if take(&behaviour.evicts) {
            self.state.blobs().clear();
        }
        if take(&behaviour.fails) {
            return Err(Status::internal("a worker was lost"));
        }
        let action: execution::Action = self
            .state
            .decode(request.into_inner().action_digest.as_ref())?;
        if behaviour.plain && action.platform.is_some() {
            return Err(Status::invalid_argument(
                "there is no worker with these properties",
            ));
        }
        self.state.counts.accepted.fetch_add(1, Ordering::SeqCst);
        let name = format!("operations/{}", uuid::Uuid::new_v4());
        let (tell, finished) = watch::channel(None);
        let service = self.clone();
        let task = tokio::spawn(async move {
            let result = match service.run(action).await {
                Ok(result) => operation::Result::Response(any(
                    "ExecuteResponse",
                    &execution::ExecuteResponse {
                        result: Some(result),
                        ..Default::default()
                    },
                )),
                Err(status) => operation::Result::Error(rpc::Status {
                    code: status.code() as i32,
                    message: status.message().to_owned(),
                    ..Default::default()
                }),
            };
            tell.send_replace(Some(result));
        });
        let known = (finished.clone(), task.abort_handle());
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if !behaviour.forgets {
            operations.insert(name.clone(), known);
        }
        Ok(Response::new(self.follow(name, finished)))
    }

    type WaitExecutionStream = Operations;

    async fn wait_execution(
        &self,
        request: Request<execution::WaitExecutionRequest>,
    ) -> Result<Response<Operations>, Status> {
        let name = request.into_inner().name;
        let operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = operations.get(&name).map(|(finished, _)| finished.clone());
        let finished = known.ok_or_else(|| Status::not_found("there is no such operation"))?;
        Ok(Response::new(self.follow(name, finished)))
    }
}

#[tonic::async_trait]
impl operations_server::Operations for Service {
    async fn list_operations(
        &self,
        _: Request<longrunning::ListOperationsRequest>,
    ) -> Result<Response<longrunning::ListOperationsResponse>, Status> {
        Err(Status::unimplemented("ListOperations"))
    }

    async fn get_operation(
        &self,
        _: Request<longrunning::GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented("GetOperation"))
    }

    async fn delete_operation(
        &self,
        _: Request<longrunning::DeleteOperationRequest>,
    ) -> Result<Response<Empty>, Status> {
        Err(Status::unimplemented("DeleteOperation"))
    }

    async fn cancel_operation(
        &self,
        request: Request<longrunning::CancelOperationRequest>,
    ) -> Result<Response<Empty>, Status> {
        let name = request.into_inner().name;
        let operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, task)) = operations.get(&name) {
            task.abort();
        }
        self.state.counts.cancelled.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(Empty {}))
    }

    async fn wait_operation(
        &self,
        _: Request<longrunning::WaitOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        Err(Status::unimplemented("WaitOperation"))
    }
}
