//! The files that a process has mapped.

use crate::{
    proc,
    sys::{self, Pid},
};
use nix::errno::Errno;
use std::{collections::BTreeSet, fs::File, os::unix::fs::MetadataExt};

/// A file that is mapped.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MappedFile {
    /// Its device's major and minor number.
    device: (u32, u32),
    inode: u64,
}

impl MappedFile {
    /// Returns the file at a path, as its mappings have it on most file systems.
    pub(crate) fn at(path: &str) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
        Some(Self {
            device,
            inode: metadata.ino(),
        })
    }
}

/// Returns the files that a process has mapped.
pub(crate) fn mapped(process: Pid) -> Option<BTreeSet<MappedFile>> {
    let maps = File::open(proc::path(process, "maps")).ok()?;
    // Whatever the reason that it cannot be queried: what can be read is good as well.
    queried(&maps).ok().or_else(|| listed(maps))
}

/// Asks for one mapping after the other (proc_pid_maps(5), PROCMAP_QUERY).
fn queried(maps: &File) -> Result<BTreeSet<MappedFile>, Errno> {
    let mut files = BTreeSet::new();
    let mut last = None;
    let mut address = 0;
    loop {
        let query = match sys::next_file_mapping(maps, address) {
            Ok(query) => query,
            Err(Errno::ENOENT) => return Ok(files),
            Err(error) => return Err(error),
        };
        // The mappings of a file mostly follow each other.
        let file = MappedFile {
            device: query.device,
            inode: query.inode,
        };
        if last.replace(file) != Some(file) && file.inode != 0 {
            files.insert(file);
        }
        address = query.end;
    }
}

/// Reads all that proc_pid_maps(5) tells. `None` if it makes no sense.
fn listed(maps: File) -> Option<BTreeSet<MappedFile>> {
    let text = proc::read_all(maps).ok()?;
    let mut files = BTreeSet::new();
    // A path at the end of a line need not be UTF-8.
    for line in text.split(|byte| *byte == b'\n') {
        let mut words = line.split(|byte| *byte == b' ').skip(3);
        let (Some(device), Some(inode)) = (words.next(), words.next()) else {
            continue;
        };
        let (major, minor) = str::from_utf8(device).ok()?.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        let file = MappedFile {
            device: (number(major)?, number(minor)?),
            inode: str::from_utf8(inode).ok()?.parse().ok()?,
        };
        if file.inode != 0 {
            files.insert(file);
        }
    }
    Some(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        process::{Command, Stdio},
    };

    fn maps(process: Pid) -> File {
        File::open(proc::path(process, "maps")).expect("it is our own or a child")
    }

    /// Returns what is found either way. `None` if the kernel has but one.
    fn both(process: Pid) -> Option<[BTreeSet<MappedFile>; 2]> {
        let queried = match queried(&maps(process)) {
            Err(Errno::ENOTTY) => return None,
            queried => queried.expect("the kernel has it"),
        };
        Some([queried, listed(maps(process)).expect("it is as documented")])
    }

    fn own() -> Pid {
        std::process::id().cast_signed()
    }

    #[test]
    fn our_own_program_is_among_the_files_that_we_have_mapped() {
        let program = std::fs::metadata("/proc/self/exe").expect("we are a program");
        let files = mapped(own()).expect("they can be asked for");
        // Its device may be another one than that of its mapping (btrfs).
        assert!(files.iter().any(|file| file.inode == program.ino()));
        assert!(files.len() > 1, "there are libraries, too: {files:?}");
    }

    #[test]
    fn what_is_queried_is_what_is_listed() {
        let Some([queried, listed]) = both(own()) else {
            return;
        };
        assert_eq!(queried, listed);

        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is cat");
        // Once it answers, all of it is mapped.
        let mut stdin = child.stdin.take().expect("it is a pipe");
        stdin.write_all(b"!").expect("it reads");
        let mut answer = [0];
        let stdout = child.stdout.as_mut().expect("it is a pipe");
        stdout.read_exact(&mut answer).expect("it answers");
        let found = both(child.id().cast_signed());
        drop(stdin);
        child.wait().expect("it ends at the end of its input");
        let [queried, listed] = found.expect("the kernel has just had it");
        assert_eq!(queried, listed);
        assert!(queried.len() > 1);
    }

    #[test]
    fn who_is_gone_has_mapped_nothing() {
        let mut child = Command::new("true").spawn().expect("there is true");
        let maps = maps(child.id().cast_signed());
        child.wait().expect("it ends");
        assert!(queried(&maps).is_err());
        assert_eq!(mapped(i32::MAX), None);
    }

    /// Measures: `cargo test --release -p harness-runner --lib -- --ignored --nocapture the_cost_of`.
    #[test]
    #[ignore = "it measures"]
    fn the_cost_of_asking_what_is_mapped() {
        const TIMES: u32 = 10_000;
        let start = std::time::Instant::now();
        for _ in 0..TIMES {
            queried(&maps(own())).expect("the kernel has it");
        }
        eprintln!("queried: {:?}", start.elapsed() / TIMES);
        let start = std::time::Instant::now();
        for _ in 0..TIMES {
            listed(maps(own())).expect("it is as documented");
        }
        eprintln!("listed: {:?}", start.elapsed() / TIMES);
    }
}
