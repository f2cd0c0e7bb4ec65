//! The processes of a scene, and waits for their ends.

use crate::scene::{LONGEST_RUN, Scene, wait_until};
use nix::{
    sys::signal::{self, Signal},
    unistd::{Pid, getpgid},
};
use std::{fs, time::Duration};

/// The time limit for anything that takes milliseconds on an idle machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Returns the processes of a scene whose command line contains this.
pub(crate) fn processes(scene: &Scene, part: &str) -> Vec<i32> {
    let found = scene.strays().into_iter();
    let found = found.filter(|(_, command)| command.contains(part));
    found.map(|(pid, _)| pid).collect()
}

/// Waits until so many processes are there whose command line contains this. Whatever they are of may
/// have to be built.
pub(crate) fn await_processes(scene: &Scene, part: &str, count: usize) -> Vec<i32> {
    let found = || Some(processes(scene, part)).filter(|found| found.len() >= count);
    wait_until(LONGEST_RUN, found).unwrap_or_else(|| panic!("no `{part}`: {:#?}", scene.strays()))
}

/// Returns the state letter of a process (proc_pid_stat(5)), if it exists.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Returns the parent of a process, if it exists.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// Returns whether a process leads its group, as a test does, and what it forks does not.
pub(crate) fn leads_group(pid: i32) -> bool {
    let group = getpgid(Some(Pid::from_raw(pid)));
    group.is_ok_and(|group| group.as_raw() == pid)
}

/// Waits until a test itself has ended and its stub has adopted the one process that it leaves
/// behind. Returns that one.
pub(crate) fn await_left(scene: &Scene, test: &str) -> i32 {
    let left = || {
        let all = scene.strays();
        let of = |part: &str| -> Vec<i32> {
            let found = all.iter().filter(|(_, command)| command.contains(part));
            found.map(|(pid, _)| *pid).collect()
        };
        // The test is alone, too, until it forks; but it leads its group.
        match of(&format!("--exact {test}"))[..] {
            [one] if !leads_group(one) && of("__double-spawn").contains(&parent(one)?) => Some(one),
            _ => None,
        }
    };
    wait_until(LONGEST_RUN, left).unwrap_or_else(|| panic!("nothing left: {:#?}", scene.strays()))
}

/// Waits until all of them are in such a state.
pub(crate) fn await_state(pids: &[i32], wanted: impl Fn(char) -> bool) {
    let all = || {
        let all = pids.iter().all(|pid| state(*pid).is_some_and(&wanted));
        all.then_some(())
    };
    let states: Vec<_> = pids.iter().map(|pid| state(*pid)).collect();
    assert!(
        wait_until(SOON, all).is_some(),
        "{pids:?} are in {states:?}"
    );
}

/// Returns whether a state letter is that of a stopped process.
pub(crate) fn is_stopped(state: char) -> bool {
    // In a group-stop, or in one that a tracer watches.
    matches!(state, 'T' | 't')
}

/// Sends a signal to a process of a scene.
pub(crate) fn send(pid: i32, number: Signal) {
    signal::kill(Pid::from_raw(pid), number).expect("it exists");
}
