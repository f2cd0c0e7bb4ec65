//! Control messages (cmsg(3)): descriptors in messages.

use super::memory::Memory;

/// `struct cmsghdr`: its length, itself included; the level; the type.
const HEADER: u64 = 16;
/// The room that one descriptor needs (CMSG_LEN(3)).
const SHORTEST: u64 = HEADER + 4;
/// The greatest number of control messages of a message to read. There are fewer kinds.
const CONTROLS: usize = 64;

/// The fields of `struct msghdr` that are of interest.
pub(super) struct Header {
    pub(super) name: u64,
    pub(super) name_length: u64,
    control: u64,
    control_length: u64,
}

impl Header {
    pub(super) fn read(memory: &Memory<'_>, at: u64) -> Option<Self> {
        let word = |offset| memory.u64(at.checked_add(offset)?).ok();
        Some(Self {
            name: word(0)?,
            // An int, and a gap.
            name_length: u64::from(word(8)? as u32),
            control: word(32)?,
            control_length: word(40)?,
        })
    }

    /// Whether a descriptor may arrive. Before the call this is how much room there is, and after it
    /// how much has come.
    pub(super) fn has_room(&self) -> bool {
        self.control != 0 && self.control_length >= SHORTEST
    }

    /// Whether one has arrived. What cannot be read may be one.
    pub(super) fn has_descriptors(&self, memory: &Memory<'_>) -> bool {
        let mut at = 0_u64;
        for _ in 0..CONTROLS {
            if self.control_length.saturating_sub(at) < SHORTEST {
                return false;
            }
            let word = |offset| {
                memory
                    .u64(self.control.checked_add(at)?.checked_add(offset)?)
                    .ok()
            };
            let (Some(length), Some(kind)) = (word(0), word(8)) else {
                return true;
            };
            let (level, kind) = (kind as u32 as i32, (kind >> 32) as i32);
            let (level, kind) = if cfg!(target_endian = "little") {
                (level, kind)
            } else {
                (kind, level)
            };
            if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                return true;
            }
            if length < HEADER {
                return false;
            }
            let Some(next) = length
                .checked_next_multiple_of(8)
                .and_then(|length| at.checked_add(length))
            else {
                return false;
            };
            at = next;
        }
        true
    }
}

/// Whether a message that is sent has descriptors, by its `struct msghdr`.
pub(super) fn has_descriptors(memory: &Memory<'_>, header: u64) -> bool {
    Header::read(memory, header)
        .is_some_and(|header| header.has_room() && header.has_descriptors(memory))
}
