//! The execution of an action: submitted, waited for, found again after a broken connection.

use crate::{
    action::{Action, Content, Done, Times},
    api::{
        execution::{
            self, ActionResult, ExecuteRequest, ExecuteResponse, WaitExecutionRequest, command,
            execution_client::ExecutionClient, platform,
        },
        longrunning::{
            CancelOperationRequest, Operation, operation, operations_client::OperationsClient,
        },
        protobuf::{Duration as ApiDuration, Timestamp},
    },
    cas::{self, Known, Source},
    connect::Connection,
    digest::{Digest, Files},
    failure::{Failure, Lasts},
    fetch,
    tree::Tree,
};
use prost::Message;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::{Code, Status, Streaming};

/// The pauses before further tries: the first and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The time that an engine has to take note that an action is not wanted any more.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// All that executions share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) known: Known,
    pub(crate) files: Files,
    /// One for each execution and for each cancellation that has not ended.
    pub(crate) busy: Arc<AtomicUsize>,
}

/// Something that has not ended.
#[derive(Debug)]
pub(crate) struct Busy(Arc<AtomicUsize>);

impl Busy {
    pub(crate) fn with(shared: &Shared) -> Self {
        shared.busy.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&shared.busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An action on its way, which is cancelled when it is dropped before its end.
struct Submitted {
    shared: Arc<Shared>,
    operation: String,
}

impl Drop for Submitted {
    fn drop(&mut self) {
        if self.operation.is_empty() {
            return;
        }
        let (shared, name) = (
            Arc::clone(&self.shared),
            std::mem::take(&mut self.operation),
        );
        let busy = Busy::with(&shared);
        tokio::spawn(async move {
            let _busy = busy;
            let mut client = OperationsClient::new(shared.connection.calls.clone());
            let cancel = client.cancel_operation(CancelOperationRequest { name });
            // Some engines cannot do it: the action goes on there, and nothing waits for it.
            let _ = tokio::time::timeout(CANCEL_LIMIT, cancel).await;
        });
    }
}

/// Executes an action, again as long as only the engine is at fault and tries are left.
pub(crate) async fn execute(shared: &Arc<Shared>, action: &Action) -> Result<Done, Failure> {
    let mut earlier = Vec::new();
    let mut pause = FIRST_PAUSE;
    let mut renewed = false;
    loop {
        let tried = once(shared, action, &mut earlier).await;
        let failure = match tried {
            Ok(done) => return Ok(Done { earlier, ..done }),
            Err(failure) => failure,
        };
        let bearer = &shared.connection.bearer;
        let expired = failure.message.contains("does not accept the token");
        let renews = expired && !renewed && bearer.can_renew();
        if renews {
            renewed = true;
            let bearer = bearer.clone();
            let read = tokio::task::spawn_blocking(move || bearer.renew()).await;
            if let Ok(Err(error)) = read {
                let message = format!("{}; {error}", failure.message);
                return Err(Failure {
                    message,
                    earlier,
                    ..failure
                });
            }
        } else if failure.lasts == Lasts::Always {
            return Err(Failure { earlier, ..failure });
        }
        earlier.push(failure.message.clone());
        if earlier.len() >= action.tries.max(1) as usize {
            earlier.pop();
            return Err(Failure { earlier, ..failure });
        }
        if !renews && failure.lasts != Lasts::UntilUploaded {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Submits an action once, and waits for its end.
async fn once(
    shared: &Arc<Shared>,
    action: &Action,
    earlier: &mut Vec<String>,
) -> Result<Done, Failure> {
    let begun = Instant::now();
    let prepared = prepare(shared, action).await?;
    let uploaded = cas::ensure(&shared.connection, &shared.known, &prepared.blobs).await?;
    let upload = begun.elapsed();
    let submitted = Instant::now();
    let waited =
        tokio::time::timeout(action.patience, wait(shared, action, &prepared, earlier)).await;
    let result = match waited {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) => {
            if failure.lasts == Lasts::UntilUploaded {
                shared.known.forget(prepared.blobs.keys());
            }
            return Err(failure);
        }
        Err(_) => {
            let seconds = action.patience.as_secs_f64();
            let message = format!(
                "the engine has not finished the action within {seconds} s; it may have no worker that is free \
                 or that has the wanted properties"
            );
            return Err(Failure::new(Lasts::NotNecessarily, message));
        }
    };
    let waited = submitted.elapsed();
    let fetched_from = Instant::now();
    let outputs = fetch::outputs(&shared.connection, &action.outputs, &result).await?;
    let stderr = match result.exit_code {
        0 => Vec::new(),
        _ => fetch::stderr(&shared.connection, &result).await,
    };
    let mut times = times(&result, waited);
    times.upload = upload;
    times.fetch = fetched_from.elapsed();
    let worker = result.execution_metadata.map(|of| of.worker);
    Ok(Done {
        exit_code: result.exit_code,
        outputs,
        stderr,
        worker: worker.unwrap_or_default(),
        times,
        uploaded,
        earlier: Vec::new(),
    })
}

/// An action as messages.
struct Prepared {
    digest: Digest,
    blobs: BTreeMap<Digest, Source>,
}

async fn prepare(shared: &Arc<Shared>, action: &Action) -> Result<Prepared, Failure> {
    let (tree, mut blobs) = root(shared, action).await?;
    let mut messages = BTreeMap::new();
    let input_root = tree.encode(&mut messages);
    let mut add = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        messages.insert(digest.clone(), bytes);
        digest
    };
    let properties = (!action.properties.is_empty()).then(|| execution::Platform {
        properties: (action.properties.iter())
            .map(|(name, value)| platform::Property {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
    });
    let mut outputs = action.outputs.clone();
    outputs.sort();
    // An engine knows one of the two fields, by its age.
    #[allow(deprecated)]
    let command = execution::Command {
        arguments: action.arguments.clone(),
        environment_variables: Vec::<command::EnvironmentVariable>::new(),
        output_files: outputs.clone(),
        output_paths: outputs,
        platform: properties.clone(),
        ..Default::default()
    };
    let command = add(command.encode_to_vec());
    let message = execution::Action {
        command_digest: Some(command.to_api()),
        input_root_digest: Some(input_root.to_api()),
        timeout: action.timeout.map(|timeout| ApiDuration {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(timeout.subsec_nanos()).unwrap_or(0),
        }),
        do_not_cache: true,
        salt: action.salt.clone(),
        platform: properties,
    };
    let digest = add(message.encode_to_vec());
    blobs.extend(
        (messages.into_iter()).map(|(digest, bytes)| (digest, Source::Bytes(bytes.into()))),
    );
    Ok(Prepared { digest, blobs })
}

/// Returns the input root, and where its files are.
async fn root(
    shared: &Arc<Shared>,
    action: &Action,
) -> Result<(Tree, BTreeMap<Digest, Source>), Failure> {
    let (shared, inputs) = (Arc::clone(shared), action.inputs.clone());
    let built = tokio::task::spawn_blocking(move || {
        let (mut tree, mut blobs) = (Tree::default(), BTreeMap::new());
        for input in inputs {
            match input.content {
                Content::Folder => drop(tree.add_folder(&input.path)),
                Content::Bytes(bytes) => {
                    let digest = Digest::of(&bytes);
                    tree.add_file(&input.path, digest.clone(), false);
                    blobs.insert(digest, Source::Bytes(bytes));
                }
                Content::File { from, executable } => {
                    let digest = shared.files.digest(&from).map_err(|error| {
                        let message =
                            format!("failed to read the input `{}`: {error}", from.display());
                        Failure::new(Lasts::Always, message)
                    })?;
                    tree.add_file(&input.path, digest.clone(), executable);
                    blobs.insert(digest, Source::File(from));
                }
            }
        }
        Ok((tree, blobs))
    });
    let panicked = |_| Failure::new(Lasts::Always, "the inputs could not be read");
    built.await.map_err(panicked)?
}

/// Waits for the end of an action: by the first stream, or by another one when that breaks.
async fn wait(
    shared: &Arc<Shared>,
    action: &Action,
    prepared: &Prepared,
    earlier: &mut Vec<String>,
) -> Result<ActionResult, Failure> {
    let mut submitted = Submitted {
        shared: Arc::clone(shared),
        operation: String::new(),
    };
    let connection = &shared.connection;
    let mut client = ExecutionClient::new(connection.calls.clone());
    let request = ExecuteRequest {
        instance_name: connection.instance.clone(),
        skip_cache_lookup: true,
        action_digest: Some(prepared.digest.to_api()),
        inline_output_files: action.outputs.clone(),
        ..Default::default()
    };
    let stream = client.execute(request).await;
    let mut stream = stream.map_err(|status| refused(&status))?.into_inner();
    let mut pause = FIRST_PAUSE;
    loop {
        let broken = match follow(&mut stream, &mut submitted.operation).await {
            Ok(finished) => {
                submitted.operation.clear();
                return result(finished);
            }
            Err(broken) => broken,
        };
        // Without a name it cannot be found again.
        if submitted.operation.is_empty() || !is_broken(&broken) {
            return Err(refused(&broken));
        }
        stream = loop {
            let note = format!("the connection broke: {}", crate::failure::words(&broken));
            if earlier.len() + 1 >= action.tries.max(1) as usize {
                return Err(Failure::new(Lasts::NotNecessarily, note));
            }
            earlier.push(note);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            let name = submitted.operation.clone();
            match client.wait_execution(WaitExecutionRequest { name }).await {
                Ok(stream) => break stream.into_inner(),
                Err(status) if is_broken(&status) => {}
                Err(status) => {
                    // Lost with the engine that had it: it is submitted again.
                    submitted.operation.clear();
                    return Err(Failure::of("the engine has lost the action", &status)).map_err(
                        |failure| Failure {
                            lasts: Lasts::NotNecessarily,
                            ..failure
                        },
                    );
                }
            }
        };
    }
}

/// Returns whether a connection is broken rather than a request refused.
fn is_broken(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
    )
}

/// Returns what it means that an engine does not take an action.
fn refused(status: &Status) -> Failure {
    match status.code() {
        Code::NotFound | Code::FailedPrecondition => {
            Failure::said(status.code() as i32, status.message())
        }
        _ => Failure::of("executing the action", status),
    }
}

/// Reads a stream to the end of the action. Notes the name of its operation.
async fn follow(
    stream: &mut Streaming<Operation>,
    name: &mut String,
) -> Result<operation::Result, Status> {
    while let Some(operation) = stream.message().await? {
        if !operation.name.is_empty() {
            name.clone_from(&operation.name);
        }
        if operation.done {
            let nothing = || Status::internal("the action is done and has no result");
            return operation.result.ok_or_else(nothing);
        }
    }
    Err(Status::unavailable("the stream ended before the action"))
}

/// Returns the result of an action that is done.
fn result(finished: operation::Result) -> Result<ActionResult, Failure> {
    let response = match finished {
        operation::Result::Error(status) => {
            return Err(Failure::said(status.code, &status.message));
        }
        operation::Result::Response(any) => ExecuteResponse::decode(any.value.as_slice()),
    };
    let response = response.map_err(|error| {
        let message = format!("the engine sent a result that cannot be read: {error}");
        Failure::new(Lasts::NotNecessarily, message)
    })?;
    if let Some(status) = response.status.filter(|status| status.code != 0) {
        return Err(Failure::said(status.code, &status.message));
    }
    let nothing = || {
        Failure::new(
            Lasts::NotNecessarily,
            "the action is done and has no result",
        )
    };
    response.result.ok_or_else(nothing)
}

/// Returns the times that an engine names. All that it does not name is in the queue.
fn times(result: &ActionResult, waited: Duration) -> Times {
    let Some(of) = &result.execution_metadata else {
        return Times {
            queue: waited,
            ..Times::default()
        };
    };
    let between = |from: &Option<Timestamp>, to: &Option<Timestamp>| {
        let nanos = |at: &Timestamp| i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos);
        let (Some(from), Some(to)) = (from, to) else {
            return Duration::ZERO;
        };
        let nanos = u64::try_from(nanos(to) - nanos(from)).unwrap_or(0);
        Duration::from_nanos(nanos).min(waited)
    };
    let staging = between(
        &of.input_fetch_start_timestamp,
        &of.input_fetch_completed_timestamp,
    );
    let execution = between(
        &of.execution_start_timestamp,
        &of.execution_completed_timestamp,
    );
    Times {
        queue: waited.saturating_sub(staging + execution),
        staging,
        execution,
        ..Times::default()
    }
}
