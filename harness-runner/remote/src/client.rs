//! A connection with threads of its own.

use crate::{
    action::{Action, Done},
    cas::Known,
    connect::{ConnectError, Connection},
    digest::Files,
    execution::{Busy, Shared, execute},
    failure::Failure,
    settings::Settings,
};
use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::AbortHandle,
};

/// The time that cancellations have at the end, and the interval at which they are looked for.
const END_LIMIT: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// The properties of an engine that are of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// The address.
    pub address: String,
    /// The most bytes of one message.
    pub batch: u64,
}

/// A connection to an engine.
#[derive(Debug)]
pub struct Client {
    /// `None` only while dropping.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    engine: Engine,
}

impl Client {
    /// Connects, and asks the engine what it can do. It blocks.
    ///
    /// # Errors
    ///
    /// When there is no engine that can be used.
    pub fn connect(settings: &Settings) -> Result<Self, ConnectError> {
        settings.check()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("remote")
            .enable_all()
            .build()
            .map_err(ConnectError::Runtime)?;
        let connection = runtime.block_on(Connection::open(settings))?;
        let engine = Engine {
            address: settings.address.clone(),
            batch: connection.batch,
        };
        let shared = Shared {
            connection,
            known: Known::default(),
            files: Files::default(),
            busy: Arc::default(),
        };
        Ok(Self {
            runtime: Some(runtime),
            shared: Arc::new(shared),
            engine,
        })
    }

    /// Returns the engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Executes an action, and gives the answer to a function. The action is cancelled when what is returned is
    /// dropped before that.
    pub fn execute(
        &self,
        action: Action,
        answer: impl FnOnce(Result<Done, Failure>) + Send + 'static,
    ) -> Execution {
        let shared = Arc::clone(&self.shared);
        let busy = Busy::with(&shared);
        let task = self.runtime.as_ref().map(|runtime| {
            let task = runtime.spawn(async move {
                let _busy = busy;
                answer(execute(&shared, &action).await);
            });
            task.abort_handle()
        });
        Execution(task)
    }
}

/// An action that is being executed. It is cancelled when this is dropped.
#[derive(Debug)]
pub struct Execution(Option<AbortHandle>);

impl Drop for Execution {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

impl Drop for Client {
    /// Waits until all that is not wanted any more is cancelled, for a while.
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        let until = Instant::now() + END_LIMIT;
        while self.shared.busy.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(POLL);
        }
        runtime.shutdown_background();
    }
}
