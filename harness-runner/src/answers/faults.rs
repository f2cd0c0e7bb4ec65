//! The calls of a test that could fail: one failure for each, from the trace of a run in which it passed.
//!
//! A call counts once for each place that it names, under the name that lasts from run to run. Calls that failed
//! anyway are left aside, and so is noise. `read`, `write` and `fsync` are not traced: they are tried for each file that
//! was opened so.

#[cfg(test)]
mod tests;

use super::{
    audit::Places,
    hermetic::is_left,
    rules::{Roots, noise},
    uses::{Thing, Uses},
};
use crate::{store::Found, tracer::record::file::ReadError};
use globset::escape;
use harness_metadata::{
    RawString, TraceEvent, TraceEventKind,
    noise::FIRST_CHOSEN_PORT,
    trace::{Access, Address, CallResult, FileOperation, NetworkOperation},
};
use std::collections::{BTreeMap, BTreeSet};

/// A call that can be made to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The system call.
    pub call: String,
    /// The place that it names, under the name that lasts.
    pub name: String,
    /// The error.
    pub errno: i32,
    /// The weight, for the order: what changes something comes first.
    weight: u8,
    /// The number of the calls before it, in the run that passed.
    order: usize,
    /// The pattern of the place.
    pattern: String,
}

impl Fault {
    /// Returns the request that has the first such call fail, with this name of the error.
    pub fn request(&self, errno: &str) -> String {
        format!("{}({}):{errno}@1", self.call, self.pattern)
    }
}

/// Returns the failures to try, the most telling ones first.
///
/// # Errors
///
/// When the trace cannot be read.
pub fn faults(found: &Found, roots: &Roots, places: &Places) -> Result<Vec<Fault>, ReadError> {
    let mut all = BTreeMap::new();
    let mut program = Vec::new();
    let wanted = |thing: &Thing| noise(thing, roots).is_none();
    Uses::with_events(found, &wanted, &mut |root, event| {
        if let TraceEventKind::Exec(exec) = &event.kind
            && event.pid == root
        {
            program = exec.program.path().as_bytes().to_vec();
        }
        for (call, place, errno, weight) in of_event(root, event, &wanted) {
            // The standard library looks for the program itself, to name the places of a panic.
            if is_above(&place, &program) {
                continue;
            }
            let order = all.len();
            let name = named(&place, places);
            let pattern = pattern(&name, roots);
            all.entry((call.clone(), name.clone())).or_insert(Fault {
                call,
                name,
                errno,
                weight,
                order,
                pattern,
            });
        }
    })?;
    let mut all: Vec<Fault> = all.into_values().collect();
    all.sort_by_key(|fault| (fault.weight, fault.order));
    Ok(all)
}

/// Returns whether a place is a file, or a folder that it is in.
fn is_above(place: &[u8], file: &[u8]) -> bool {
    let rest = file.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// A call, its place, the error that it is likely to fail with, and its weight.
type Candidate = (String, Vec<u8>, i32, u8);

/// The weights.
const CHANGES: u8 = 0;
const STARTS: u8 = 1;
const READS: u8 = 2;
const ASKS: u8 = 3;

fn worked(result: CallResult) -> bool {
    matches!(result, CallResult::Ok(_) | CallResult::Found)
        || result == CallResult::Err(libc::EINPROGRESS)
}

fn of_event(root: i32, event: &TraceEvent, wanted: &dyn Fn(&Thing) -> bool) -> Vec<Candidate> {
    match &event.kind {
        TraceEventKind::File(call) if worked(call.result) => {
            let path = call.path.path();
            if !wanted(&Thing::Path(path.clone())) {
                return Vec::new();
            }
            let (errno, weight) = of_operation(call.operation, call.access.unwrap_or_default());
            let place = path.as_bytes().to_vec();
            let mut all = vec![(call.call.clone(), place.clone(), errno, weight)];
            if call.operation == FileOperation::Open {
                let is_folder = call.file.is_some_and(|file| file.directory);
                let own = of_content(call.access.unwrap_or_default(), is_folder);
                all.extend(own.iter().map(|(name, errno, weight)| {
                    ((*name).to_owned(), place.clone(), *errno, *weight)
                }));
            }
            all
        }
        // The test itself has to start.
        TraceEventKind::Exec(exec) if worked(exec.result) && event.pid != root => {
            let place = exec.program.path().as_bytes().to_vec();
            vec![("execve".to_owned(), place, libc::ENOENT, STARTS)]
        }
        TraceEventKind::Network(call) if worked(call.result) => {
            let errno = match call.operation {
                NetworkOperation::Connect => libc::ECONNREFUSED,
                NetworkOperation::Bind => libc::EADDRINUSE,
                NetworkOperation::Send => libc::EPIPE,
                // Their arguments have no address.
                NetworkOperation::Listen | NetworkOperation::Accept => return Vec::new(),
            };
            let address = call
                .address
                .as_ref()
                .filter(|it| !matches!(it, Address::UnixUnnamed | Address::Netlink));
            let of = |it: &Address| (call.call.clone(), lasting(it).into_bytes(), errno, STARTS);
            address.map(of).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// Returns an address as it is shown, without a port that the kernel has chosen.
fn lasting(address: &Address) -> String {
    match address {
        Address::Ip { ip, port } if *port >= FIRST_CHOSEN_PORT || *port == 0 => {
            let any = Address::Ip { ip: *ip, port: 0 }.to_string();
            any.strip_suffix('0')
                .map_or(any.clone(), |ip| format!("{ip}*"))
        }
        other => other.to_string(),
    }
}

/// Returns the name of a place that lasts from run to run.
fn named(place: &[u8], places: &Places) -> String {
    match place {
        [b'/', ..] => places.name(place),
        address => RawString::from(address.to_vec()).to_string(),
    }
}

/// Returns the error that such a call is likely to fail with, and its weight.
fn of_operation(operation: FileOperation, access: Access) -> (i32, u8) {
    use FileOperation::*;
    match operation {
        Open if access.write || access.create || access.truncate => (libc::ENOSPC, CHANGES),
        Open => (libc::EACCES, READS),
        MakeDirectory | MakeNode | Rename | Link | SymbolicLink => (libc::ENOSPC, CHANGES),
        Remove | RemoveDirectory => (libc::EBUSY, CHANGES),
        Truncate => (libc::EIO, CHANGES),
        ChangeMetadata | ChangeRoot | Mount => (libc::EPERM, CHANGES),
        ChangeDirectory => (libc::ENOENT, READS),
        List => (libc::EIO, READS),
        Stat | Access | ReadLink | Watch => (libc::EACCES, ASKS),
    }
}

/// Returns the calls on the content of a file that was opened.
fn of_content(access: Access, is_folder: bool) -> &'static [(&'static str, i32, u8)] {
    const WRITES: &[(&str, i32, u8)] = &[
        ("write", libc::ENOSPC, CHANGES),
        ("fsync", libc::EIO, CHANGES),
    ];
    const READ: &[(&str, i32, u8)] = &[("read", libc::EIO, READS)];
    match access.write {
        _ if is_folder || access.path_only || access.directory => &[],
        true => WRITES,
        false => READ,
    }
}

/// Returns the pattern of the places that have this name.
fn pattern(name: &str, roots: &Roots) -> String {
    let home = roots.home.as_deref().map(camino::Utf8Path::as_str);
    let folders = [
        ("{workspace}", roots.workspace.as_str()),
        ("{temp}", roots.temp.as_str()),
        ("~", home.unwrap_or("~")),
    ];
    let mut folders = folders.into_iter();
    let placed = folders.find_map(|(short, folder)| {
        let rest = name.strip_prefix(short)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| (escape(folder), rest))
    });
    let (folder, rest) = placed.unwrap_or((String::new(), name));
    let rest = rest.replace("{hash}", "*").replace("{pid}", "*");
    let mut parts = rest.split(['*', '#']).map(escape);
    let first = parts.next().unwrap_or_default();
    let rest: Vec<String> = std::iter::once(first).chain(parts).collect();
    folder + &rest.join("*")
}

/// Returns the files and folders that a test has made in the folder for temporary files, and that are still there,
/// under names that last.
///
/// # Errors
///
/// When the trace cannot be read.
pub fn left(found: &Found, roots: &Roots, places: &Places) -> Result<BTreeSet<String>, ReadError> {
    let wanted = |thing: &Thing| noise(thing, roots).is_none();
    let uses = Uses::of(found, &wanted)?;
    let left = uses.things.iter().filter_map(|(thing, ways)| {
        let path = RawString::from(thing.path()?.to_vec()).to_string();
        let stays = roots.root_of(&path) == Some("temp") && is_left(thing, ways, &uses);
        stays.then(|| places.name(path.as_bytes()))
    });
    Ok(left.collect())
}
