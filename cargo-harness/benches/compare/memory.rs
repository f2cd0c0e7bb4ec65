//! The memory of a runner while a test prints much: its own process and the stubs that
//! run the same executable, without the tests.

use crate::{contender::Contender, workload::Workload};
use std::{collections::BTreeMap, fs, path::Path, process::Command, thread, time::Duration};

pub(crate) const NAME: &str = "memory";

const MEBIBYTES: usize = 256;

/// Prints the peak of each contender, for a test that passes and for one that fails.
pub(crate) fn compare(contenders: &[Contender]) {
    let mut workload = Workload::printing(MEBIBYTES);
    for (selection, what) in [("test(=passes)", "passes"), ("test(=fails)", "fails")] {
        workload.filter = vec!["-E", selection];
        println!("{NAME}: the peak while a test prints {MEBIBYTES} MiB and {what}");
        for contender in contenders.iter().filter(|contender| contender.is_patient()) {
            let Some(command) = contender.command(&workload) else {
                continue;
            };
            let peak = peak(command);
            println!(
                "  {:<24}{:>9.1} MiB",
                contender.name(),
                peak as f64 / 1024.0
            );
        }
        println!();
    }
}

/// Runs a command and returns the largest sum of its processes' peaks, in KiB.
fn peak(mut command: Command) -> u64 {
    let mut child = command.spawn().expect("the contender starts");
    let pid = child.id();
    let executable = fs::read_link(format!("/proc/{pid}/exe")).expect("the child is not reaped");
    let mut peak = 0;
    loop {
        peak = peak.max(sum(pid, &executable));
        if child.try_wait().expect("it is a child").is_some() {
            return peak;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the sum of the peaks of a process and of those below it that run the same executable.
fn sum(root: u32, executable: &Path) -> u64 {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("/proc is mounted").flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes come and go: what cannot be read is not counted.
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if let Some(parent) = field(&status, "PPid:") {
            parents.insert(pid, (parent, field(&status, "VmHWM:").unwrap_or_default()));
        }
    }
    let below = |mut pid: u32| loop {
        match parents.get(&pid) {
            _ if pid == root => break true,
            Some((parent, _)) => pid = u32::try_from(*parent).unwrap_or_default(),
            None => break false,
        }
    };
    let own = parents.iter().filter(|(pid, _)| {
        below(**pid)
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|path| path == executable)
    });
    own.map(|(_, (_, peak))| peak).sum()
}

/// Returns the number of a line of `/proc/PID/status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
