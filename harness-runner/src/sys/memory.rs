//! Memory of other tasks.

use super::{Pid, arch::PAGE};
use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_writev},
};
use std::{ffi::c_void, io::IoSlice, ptr};

/// Reads memory of a task (process_vm_readv(2)), up to the first page that cannot be read.
pub(crate) fn read_memory(
    task: impl Into<Pid>,
    address: u64,
    buffer: &mut [u8],
) -> Result<usize, Errno> {
    let task = task.into();
    // The kernel stops between two of these rather than within one.
    const PIECES: usize = 16;
    let mut remote = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; PIECES];
    let mut wanted = 0;
    let mut pieces = 0;
    for piece in &mut remote {
        let at = address.wrapping_add(wanted as u64);
        let to_page_end = (PAGE - at % PAGE) as usize;
        let len = to_page_end.min(buffer.len() - wanted);
        if len == 0 {
            break;
        }
        piece.iov_base = at as usize as *mut c_void;
        piece.iov_len = len;
        wanted += len;
        pieces += 1;
    }
    let local = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: wanted,
    };
    // SAFETY: the kernel writes to `buffer` no more than `wanted` bytes, which is no longer than
    // it; the other addresses are the task's and are checked by the kernel.
    let read =
        unsafe { libc::process_vm_readv(task, &raw const local, 1, remote.as_ptr(), pieces, 0) };
    Errno::result(read).map(isize::cast_unsigned)
}

/// Writes memory of a task (process_vm_writev(2)). Returns how much was written.
pub(crate) fn write_memory(
    task: impl Into<Pid>,
    address: u64,
    bytes: &[u8],
) -> Result<usize, Errno> {
    let there = RemoteIoVec {
        base: address as usize,
        len: bytes.len(),
    };
    let task = nix::unistd::Pid::from_raw(task.into());
    process_vm_writev(task, &[IoSlice::new(bytes)], &[there])
}
