//! A client of the Remote Execution API, version 2: uploads inputs, executes actions, fetches their outputs.
//!
//! It knows nothing of tests. A `Client` is a connection to an engine, an `Action` is a command with its
//! inputs, and `Done` is all that is believed of an engine: that the command ended with this code and left
//! these files. The contents of all files are compared with their digests.
//!
//! Only SHA-256 is used, which every engine knows. Without the feature `client` this crate is empty.

#![cfg(feature = "client")]

mod action;
mod cas;
mod client;
mod connect;
mod digest;
#[cfg(feature = "engine")]
pub mod engine;
mod execution;
mod failure;
mod fetch;
mod settings;
mod token;
mod tree;

pub use action::{Action, Content, Done, Input, Times};
pub use client::{Client, Engine, Execution};
pub use connect::ConnectError;
pub use failure::{Failure, Lasts};
pub use settings::{AddressError, Settings, Tls, Token};

/// Messages and services of the API.
pub(crate) mod api {
    pub(crate) use bazel_remote_apis::{
        build::bazel::remote::execution::v2::{self as execution, Digest},
        google::{bytestream, longrunning, protobuf},
    };
}
