//! Conditions that a test may depend on, and how they are made: the one list of `shake` and `audit`.

use camino::Utf8Path;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        personality::{self, Persona},
        stat::{Mode, umask},
    },
    unistd::Pid,
};
use std::{
    env, fs,
    hint::spin_loop,
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// A condition that a test may depend on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    OneCpu,
    Busy,
    Beside,
    TimeZone,
    Locale,
    TemporaryFolder,
    Home,
    Umask,
    FixedAddresses,
}

/// The folder for temporary files, below that of the trials.
const TEMPORARY: &str = "a folder with blanks";

/// The home folder, below the folder of the trials.
const HOME: &str = "home";

impl Condition {
    pub(super) const ALL: [Self; 9] = [
        Self::OneCpu,
        Self::Busy,
        Self::Beside,
        Self::TimeZone,
        Self::Locale,
        Self::TemporaryFolder,
        Self::Home,
        Self::Umask,
        Self::FixedAddresses,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::OneCpu => "on one CPU",
            Self::Busy => "on a busy machine",
            Self::Beside => "beside the other tests of its binary",
            Self::TimeZone => "in another time zone",
            Self::Locale => "in the locale C",
            Self::TemporaryFolder => "with another folder for temporary files",
            Self::Home => "with an empty home folder",
            Self::Umask => "with the umask 077",
            Self::FixedAddresses => "at fixed addresses (without ASLR)",
        }
    }

    /// Returns what a test depends on that differs under it.
    pub(super) fn subject(self) -> &'static str {
        match self {
            Self::OneCpu => "the number of CPUs",
            Self::Busy => "the load of the machine",
            Self::Beside => "other tests at the same time",
            Self::TimeZone => "the time zone (`TZ`)",
            Self::Locale => "the locale (`LC_ALL`, `LANG`)",
            Self::TemporaryFolder => "the folder for temporary files (`TMPDIR`)",
            Self::Home => "the home folder (`HOME`)",
            Self::Umask => "the umask",
            Self::FixedAddresses => "its addresses in memory (ASLR)",
        }
    }

    /// Returns the variables that make it.
    pub(super) fn env(self, scratch: &Utf8Path) -> io::Result<Vec<(&'static str, String)>> {
        Ok(match self {
            Self::OneCpu | Self::Busy | Self::Beside | Self::Umask | Self::FixedAddresses => {
                Vec::new()
            }
            // The first one to begin a day.
            Self::TimeZone => vec![("TZ", "Pacific/Kiritimati".to_owned())],
            Self::Locale => vec![("LC_ALL", "C".to_owned()), ("LANG", "C".to_owned())],
            Self::TemporaryFolder => {
                let folder = scratch.join(TEMPORARY);
                fs::create_dir_all(&folder)?;
                vec![("TMPDIR", folder.into_string())]
            }
            Self::Home => {
                let folder = scratch.join(HOME);
                // An earlier run may have left something in it.
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir_all(&folder)?;
                let mut env = vec![("HOME", folder.into_string())];
                // Cargo and rustup find their own files in the home folder.
                let own = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
                for (name, folder) in own {
                    let home = env::var("HOME").map(|home| format!("{home}/{folder}"));
                    if let Ok(value) = env::var(name).or(home) {
                        env.push((name, value));
                    }
                }
                env
            }
        })
    }

    /// Runs something under what it needs beside variables.
    pub(super) fn during<T>(self, run: impl FnOnce() -> T) -> T {
        match self {
            Self::OneCpu => on_one_cpu(run),
            Self::Busy => busily(run),
            Self::Umask => masked(run),
            Self::FixedAddresses => at_fixed_addresses(run),
            Self::Beside | Self::TimeZone | Self::Locale | Self::TemporaryFolder | Self::Home => {
                run()
            }
        }
    }
}

/// Returns the folder for temporary files and the home folder of trials in a folder.
pub(super) fn folders(scratch: &Utf8Path) -> [camino::Utf8PathBuf; 2] {
    [scratch.join(TEMPORARY), scratch.join(HOME)]
}

/// Runs something whose processes have one CPU. A process inherits the CPUs of the thread that starts it
/// (sched_setaffinity(2)).
fn on_one_cpu<T>(run: impl FnOnce() -> T) -> T {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this);
    let first = before.as_ref().ok().and_then(|set| {
        let mut cpus = 0..CpuSet::count();
        cpus.find(|cpu| set.is_set(*cpu).unwrap_or(false))
    });
    let mut one = CpuSet::new();
    if let Some(first) = first {
        // If that is not allowed, the result is that of the usual conditions.
        let _ = one.set(first).and_then(|()| sched_setaffinity(this, &one));
    }
    let result = run();
    if let Ok(before) = before {
        let _ = sched_setaffinity(this, &before);
    }
    result
}

/// Runs something while two threads a CPU do nothing but compute.
fn busily<T>(run: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let result = run();
        over.store(true, Ordering::Relaxed);
        result
    })
}

/// Runs something whose processes make files for their owner only. They inherit the mask (umask(2)).
fn masked<T>(run: impl FnOnce() -> T) -> T {
    let before = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let result = run();
    umask(before);
    result
}

/// Runs something whose programs are loaded at the same addresses each time. They inherit that (personality(2)).
fn at_fixed_addresses<T>(run: impl FnOnce() -> T) -> T {
    let before = personality::get();
    if let Ok(before) = before {
        // If that is not allowed, the result is that of the usual conditions.
        let _ = personality::set(before | Persona::ADDR_NO_RANDOMIZE);
    }
    let result = run();
    if let Ok(before) = before {
        let _ = personality::set(before);
    }
    result
}
