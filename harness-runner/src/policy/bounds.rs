//! A policy with the paths of this machine.

use super::{Ipc, IpcWay, Net, Policy, Right, net, roots::Roots};
use harness_metadata::{
    PolicyMode,
    trace::{Address, NetworkCall, NetworkOperation, Reach},
};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The files of `/dev` that every program may use, for reading and writing.
const DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];

/// The loaders that the kernel executes for a dynamic program.
const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux.so.2",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// A policy with the paths of this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Its effect.
    pub mode: PolicyMode,
    read: Option<Vec<PathBuf>>,
    write: Option<Vec<PathBuf>>,
    exec: Option<Vec<PathBuf>>,
    /// The ways out; `None` for all.
    pub ipc: Option<Vec<IpcWay>>,
    net: Option<Vec<net::Resolved>>,
    pub(super) roots: Roots,
}

impl Bounds {
    /// Returns a policy with these roots.
    pub fn new(policy: &Policy, roots: Roots) -> Self {
        let with = |paths: Option<Vec<PathBuf>>, more: &[&str]| {
            paths.map(|mut paths| {
                let more = more.iter().map(|path| super::roots::real(Path::new(path)));
                paths.extend(more);
                paths
            })
        };
        let readable = [DEVICES, LOADERS].concat();
        Self {
            mode: policy.mode,
            read: with(policy.read.resolved(&roots), &readable),
            write: with(policy.write.resolved(&roots), DEVICES),
            exec: with(policy.exec.resolved(&roots), LOADERS),
            ipc: match &policy.ipc {
                Ipc::All => None,
                Ipc::Only(ways) => Some(ways.clone()),
            },
            net: match &policy.net {
                Net::All => None,
                Net::Only(rules) => Some(rules.iter().map(net::Resolved::of).collect()),
            },
            roots,
        }
    }

    /// Returns whether it bounds the peers of a test.
    pub fn bounds_net(&self) -> bool {
        self.net.is_some()
    }

    /// Returns the peer of a call, if the call may not be made.
    pub fn denied_peer<'a>(&self, call: &'a NetworkCall) -> Option<&'a Address> {
        let reaches = matches!(
            call.operation,
            NetworkOperation::Connect | NetworkOperation::Send
        );
        let (rules, address) = (self.net.as_ref()?, call.address.as_ref()?);
        let outside = reaches && call.reach != Reach::Tree;
        (outside && !net::allows(rules, address)).then_some(address)
    }

    /// Allows a test's own program, which it has to be able to execute and to read.
    pub fn allow_program(&mut self, program: &Path) {
        let program = super::roots::real(program);
        for paths in [&mut self.read, &mut self.exec].into_iter().flatten() {
            paths.push(program.clone());
        }
    }

    /// Returns the files and folders for which a right is given; `None` for all.
    pub fn paths(&self, right: Right) -> Option<&[PathBuf]> {
        match right {
            Right::Read => self.read.as_deref(),
            Right::Write => self.write.as_deref(),
            Right::Exec => self.exec.as_deref(),
        }
    }

    /// Returns whether a right is given for a path that has no symbolic links.
    pub(super) fn allows(&self, right: Right, path: &Path) -> bool {
        let paths = self.paths(right);
        paths.is_none_or(|paths| paths.iter().any(|allowed| path.starts_with(allowed)))
    }

    /// Returns whether it keeps a test from a way to others.
    pub fn forbids(&self, way: IpcWay) -> bool {
        self.ipc.as_ref().is_some_and(|ways| !ways.contains(&way))
    }

    /// Returns whether it allows everything.
    pub fn is_empty(&self) -> bool {
        let unbounded = Right::ALL.iter().all(|right| self.paths(*right).is_none());
        unbounded && self.ipc.is_none() && self.net.is_none()
    }

    /// Returns it as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("a vector takes everything")
    }

    /// Returns the one that travelled as these bytes.
    ///
    /// # Errors
    ///
    /// When they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}
