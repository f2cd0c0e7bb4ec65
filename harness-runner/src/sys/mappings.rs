//! Mappings of a process, asked for one by one (proc_pid_maps(5), PROCMAP_QUERY; Linux 6.11).

use nix::errno::Errno;
use std::{fs::File, os::fd::AsRawFd};

/// A mapping of a file.
pub(crate) struct Mapping {
    pub(crate) end: u64,
    /// Its device's major and minor number.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

/// `struct procmap_query`.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    mapping_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    major: u32,
    minor: u32,
    /// The name and the build id are not asked for.
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

nix::ioctl_readwrite!(procmap_query, b'f', 17, Query);

/// PROCMAP_QUERY_COVERING_OR_NEXT_VMA.
const COVERING_OR_NEXT: u64 = 0x10;
/// PROCMAP_QUERY_FILE_BACKED_VMA.
const FILE_BACKED: u64 = 0x20;

/// Returns the mapping of a file that has this address or follows it. `maps` is the file of
/// proc_pid_maps(5).
///
/// # Errors
///
/// ENOENT if there is none, ENOTTY if the kernel cannot be asked.
pub(crate) fn next_file_mapping(maps: &File, address: u64) -> Result<Mapping, Errno> {
    let mut query = Query {
        size: size_of::<Query>() as u64,
        flags: COVERING_OR_NEXT | FILE_BACKED,
        address,
        ..Query::default()
    };
    // SAFETY: the kernel reads and writes `size` bytes, which is what the live local has. Since no
    // room for names is said to be there, it writes nowhere else.
    unsafe { procmap_query(maps.as_raw_fd(), &raw mut query) }?;
    Ok(Mapping {
        end: query.end,
        device: (query.major, query.minor),
        inode: query.inode,
    })
}
