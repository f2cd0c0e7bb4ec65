//! The actions of one try: one, and a copy if that takes long.

use crate::run::engine::{Action, Done, Engine, Failed};
use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

type Told = oneshot::Receiver<Result<Done, Failed>>;

/// Copies of an action that an engine executes. Those that have not ended are cancelled when this is dropped.
pub(super) struct Copies<'a> {
    engine: &'a dyn Engine,
    /// The channel by which each tells its end, and the value that cancels it.
    running: Vec<(Told, Box<dyn Send>)>,
    /// The reasons of those that have failed beside another.
    failed: Vec<String>,
}

impl<'a> Copies<'a> {
    pub(super) fn new(engine: &'a dyn Engine) -> Self {
        Self {
            engine,
            running: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(super) fn start(&mut self, action: Action) {
        let (tell, told) = oneshot::channel();
        let answer = Box::new(move |done| drop(tell.send(done)));
        let executing = self.engine.execute(action, answer);
        self.running.push((told, executing));
    }

    /// Waits for the first result, or for the last failure if there is none.
    pub(super) async fn end(&mut self) -> Result<Done, Failed> {
        poll_fn(|context| self.poll_end(context)).await
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<Done, Failed>> {
        let mut at = 0;
        while let Some((told, _)) = self.running.get_mut(at) {
            let Poll::Ready(end) = Pin::new(told).poll(context) else {
                at += 1;
                continue;
            };
            drop(self.running.remove(at));
            let lost = |_| {
                Err(Failed {
                    message: "the client of the engine has ended".to_owned(),
                    earlier: Vec::new(),
                })
            };
            match end.unwrap_or_else(lost) {
                Ok(mut done) => {
                    done.place.earlier.append(&mut self.failed);
                    return Poll::Ready(Ok(done));
                }
                Err(mut failed) if self.running.is_empty() => {
                    failed.earlier.append(&mut self.failed);
                    return Poll::Ready(Err(failed));
                }
                Err(failed) => {
                    self.failed.extend(failed.earlier);
                    self.failed.push(failed.message);
                    // What is still running has been looked at, or is next.
                }
            }
        }
        Poll::Pending
    }
}
