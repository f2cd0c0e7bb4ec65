//! The keys of an interactive terminal: the mode in which they come one by one and are not echoed,
//! and the way back to the mode that was found.
//!
//! There is one terminal and so one state. The run, a panic hook, or, after a killed runner, a stub
//! by its [`Guard`] can put it back. Only changes by this module are put back, and a terminal of
//! another job is not touched: the mode is changed in the foreground only, and put back in the
//! foreground, or if it is still exactly the one that was set.

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{SigSet, SigmaskHow, Signal},
    },
};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, isatty,
    tcgetattr, tcgetpgrp, tcsetattr,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{FileExt, OpenOptionsExt},
    },
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::Duration,
};

/// The interval for checking whether the run is in the foreground: there is no signal for it.
const LOOK: Duration = Duration::from_millis(250);

/// Room for a [`Change`] in a note.
const NOTE: usize = 64;

/// The command of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// `t`: what is running.
    Status,
    /// Enter: how far the run is.
    Progress,
}

impl Key {
    fn of(byte: u8) -> Option<Self> {
        match byte {
            b't' | b'T' => Some(Self::Status),
            b'\r' | b'\n' => Some(Self::Progress),
            _ => None,
        }
    }
}

/// The changes to a terminal: the mode to put back, and the mode meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    /// Local modes, VMIN and VTIME, as they were found.
    found: (u32, u8, u8),
    /// The same as they were set.
    set: (u32, u8, u8),
    /// Input and output modes, which were left alone. A shell that edits lines has others.
    around: (u32, u32),
}

impl Change {
    /// Keys come one by one, unseen; Ctrl-C and Ctrl-Z are signals as before.
    fn of(mode: &Termios) -> Self {
        let found = changeable(mode);
        let unwanted = LocalModes::ICANON | LocalModes::ECHO;
        Self {
            found,
            set: (found.0 & !unwanted.bits(), 1, 0),
            around: around(mode),
        }
    }

    /// Returns whether the terminal is in exactly the mode that was set.
    fn is_in_force(&self, mode: &Termios) -> bool {
        changeable(mode) == self.set && around(mode) == self.around
    }
}

fn changeable(mode: &Termios) -> (u32, u8, u8) {
    let codes = &mode.special_codes;
    (
        mode.local_modes.bits(),
        codes[SpecialCodeIndex::VMIN],
        codes[SpecialCodeIndex::VTIME],
    )
}

fn around(mode: &Termios) -> (u32, u32) {
    let input: InputModes = mode.input_modes;
    let output: OutputModes = mode.output_modes;
    (input.bits(), output.bits())
}

/// Gives the terminal this mode, but for all that this module leaves alone.
fn apply(tty: &File, (local, min, time): (u32, u8, u8), mut mode: Termios) -> io::Result<()> {
    mode.local_modes = LocalModes::from_bits_retain(local);
    mode.special_codes[SpecialCodeIndex::VMIN] = min;
    mode.special_codes[SpecialCodeIndex::VTIME] = time;
    // In the background SIGTTOU would stop this process; blocked, it does not (tcsetattr(3)).
    let ttou = SigSet::from(Signal::SIGTTOU);
    let before = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // Not TCSADRAIN: output that is held by Ctrl-S would keep us waiting.
    let applied = tcsetattr(tty, OptionalActions::Now, &mode);
    before.thread_set_mask()?;
    Ok(applied?)
}

/// Returns true if this process is in the terminal's foreground. No process is if it is not the
/// controlling terminal.
fn in_foreground(tty: &File) -> bool {
    tcgetpgrp(tty).is_ok_and(|group| group.as_raw_pid() == nix::unistd::getpgrp().as_raw())
}

/// The terminal of this process, while keys are read from it.
struct Terminal {
    tty: File,
    /// Shared with stubs: the change in force, so that it can be undone when this process is gone.
    note: File,
    /// `None` while the terminal is as it was found.
    change: Option<Change>,
    /// Whether this process is about to stop or to end.
    given_back: bool,
}

static TERMINAL: Mutex<Option<Terminal>> = Mutex::new(None);

fn terminal() -> MutexGuard<'static, Option<Terminal>> {
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Terminal {
    /// Looks who is in the foreground: changes the mode if this process is, and forgets what it has
    /// changed if another one is that has a mode of its own.
    fn look(&mut self) -> io::Result<()> {
        if in_foreground(&self.tty) {
            // A mode that another program has changed since stays.
            if self.change.is_none() && !self.given_back {
                self.take()?;
            }
        } else if let Some(change) = &self.change
            && !change.is_in_force(&tcgetattr(&self.tty)?)
        {
            self.change = None;
            write_note(&self.note, None)?;
        }
        Ok(())
    }

    /// Changes the mode, if this process is in the foreground and the mode is not what it should be.
    fn take(&mut self) -> io::Result<()> {
        if !in_foreground(&self.tty) {
            return Ok(());
        }
        let mode = tcgetattr(&self.tty)?;
        let in_force = |change: &Change| change.is_in_force(&mode);
        if self.change.as_ref().is_some_and(in_force) {
            return Ok(());
        }
        let change = Change::of(&mode);
        // First the note: without the change it does nothing.
        write_note(&self.note, Some(&change))?;
        apply(&self.tty, change.set, mode)?;
        self.change = Some(change);
        Ok(())
    }

    fn give_back(&mut self) -> io::Result<()> {
        let Some(change) = self.change.take() else {
            return Ok(());
        };
        let mode = tcgetattr(&self.tty)?;
        if in_foreground(&self.tty) || change.is_in_force(&mode) {
            apply(&self.tty, change.found, mode)?;
        }
        write_note(&self.note, None)
    }
}

fn write_note(note: &File, change: Option<&Change>) -> io::Result<()> {
    let mut bytes = [0; NOTE];
    if let Some(change) = change {
        postcard::to_slice(&Some(change), &mut bytes).map_err(io::Error::other)?;
    }
    note.write_all_at(&bytes, 0)
}

fn read_note(note: &File) -> io::Result<Option<Change>> {
    let mut bytes = [0; NOTE];
    note.read_exact_at(&mut bytes, 0)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

/// The keys of this process's terminal. When this is dropped, the terminal is as it was found.
#[derive(Debug)]
pub struct Keys {
    reader: File,
}

impl Keys {
    /// Opens the terminal at standard input. Returns `None` where there is none that could be this
    /// process's own, or it is open already.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open() -> io::Result<Option<Self>> {
        let stdin = io::stdin();
        // It is the controlling terminal if it says who is in its foreground.
        if !isatty(&stdin) || tcgetpgrp(&stdin).is_err() {
            return Ok(None);
        }
        // Opened anew: the non-blocking flag must not affect other programs.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut open = File::options();
        open.read(true).write(true).custom_flags(flags);
        let tty = open.open("/dev/tty")?;
        let reader = tty.try_clone()?;
        let note = File::from(memfd_create(c"harness-terminal", MFdFlags::MFD_CLOEXEC)?);
        write_note(&note, None)?;
        let mut terminal = terminal();
        if terminal.is_some() {
            return Ok(None);
        }
        *terminal = Some(Terminal {
            tty,
            note,
            change: None,
            given_back: false,
        });
        Ok(Some(Self { reader }))
    }

    /// Listens to the keys from now on, whenever this process is in the foreground.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn listen(&self, mut heard: impl FnMut(Key) + Send + 'static) -> io::Result<()> {
        self.listen_to_all(move |byte| {
            if let Some(key) = Key::of(byte) {
                heard(key);
            }
        })
    }

    /// Listens to the bytes of all keys, as [`Self::listen`] does.
    ///
    /// # Errors
    ///
    /// When there is no thread to be had.
    pub fn listen_to_all(&self, mut heard: impl FnMut(u8) + Send + 'static) -> io::Result<()> {
        let reader = self.reader.try_clone()?;
        let listen = move || {
            // Read from in the background, the terminal answers with EIO instead of a stop.
            let _ = SigSet::from(Signal::SIGTTIN).thread_block();
            while let Some(keys) = wait_for_keys(&reader) {
                keys.into_iter().for_each(&mut heard);
            }
        };
        thread::Builder::new()
            .name("keys".to_owned())
            .spawn(listen)?;
        Ok(())
    }

    /// Returns what another process needs to put the terminal back when this one is gone: two
    /// descriptors for [`Guard::new`].
    pub fn guard() -> Option<[OwnedFd; 2]> {
        let terminal = terminal();
        let terminal = terminal.as_ref()?;
        let tty = terminal.tty.as_fd().try_clone_to_owned().ok()?;
        Some([tty, terminal.note.as_fd().try_clone_to_owned().ok()?])
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(mut terminal) = terminal().take() {
            // If it is gone there is nothing to put back.
            let _ = terminal.give_back();
        }
    }
}

/// Waits for some keys. `None` when the listener is gone, or the terminal.
fn wait_for_keys(mut reader: &File) -> Option<Vec<u8>> {
    let taken = {
        let mut terminal = terminal();
        let terminal = terminal.as_mut()?;
        let _ = terminal.look();
        terminal.change.is_some() && in_foreground(&terminal.tty)
    };
    let mut keys = Vec::new();
    if !taken {
        thread::sleep(LOOK);
        return Some(keys);
    }
    let limit = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
    let mut wait = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    if poll(&mut wait, limit).is_ok_and(|ready| ready == 0) {
        return Some(keys);
    }
    let mut bytes = [0; 64];
    // These keys may belong to another job, which came to the foreground meanwhile.
    let own = in_foreground(reader) && is_taken();
    match own.then(|| reader.read(&mut bytes)) {
        Some(Ok(0)) => None,
        Some(Ok(count)) => {
            keys.extend_from_slice(&bytes[..count]);
            Some(keys)
        }
        Some(Err(error)) => {
            let passing = [io::ErrorKind::WouldBlock, io::ErrorKind::Interrupted];
            let passes = passing.contains(&error.kind()) || !in_foreground(reader);
            passes.then_some(keys)
        }
        None => Some(keys),
    }
}

/// Returns whether keys are for this process: another one may have been lent the terminal meanwhile.
fn is_taken() -> bool {
    let terminal = terminal();
    terminal
        .as_ref()
        .is_some_and(|terminal| terminal.change.is_some())
}

/// Puts the terminal back for another process of the same job, which then has the keys, until [`resume`].
pub fn lend() {
    if let Some(terminal) = terminal().as_mut() {
        terminal.given_back = true;
        let _ = terminal.give_back();
    }
}

/// Puts the terminal back for now: before this process stops, or ends without more ado.
pub fn give_back() {
    // A thread may panic or end the process while the state is held.
    let mut terminal = match TERMINAL.try_lock() {
        Ok(terminal) => terminal,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(terminal) = terminal.as_mut() {
        terminal.given_back = true;
        let _ = terminal.give_back();
    }
}

/// Changes the mode again, if this process is in the foreground: it goes on after a stop.
pub fn resume() {
    if let Some(terminal) = terminal().as_mut() {
        terminal.given_back = false;
        let _ = terminal.take();
    }
}

/// Puts back the terminal of another process that is gone.
#[derive(Debug)]
pub struct Guard {
    tty: File,
    note: File,
}

impl Guard {
    /// A guard with the descriptors of [`Keys::guard`].
    pub fn new([tty, note]: [OwnedFd; 2]) -> Self {
        Self {
            tty: tty.into(),
            note: note.into(),
        }
    }

    /// Puts the terminal back if it is in exactly the mode that the other process has set.
    ///
    /// # Errors
    ///
    /// When the terminal is gone.
    pub fn put_back(&self) -> io::Result<()> {
        let Some(change) = read_note(&self.note)? else {
            return Ok(());
        };
        let mode = tcgetattr(&self.tty)?;
        if change.is_in_force(&mode) {
            apply(&self.tty, change.found, mode)?;
        }
        write_note(&self.note, None)
    }
}
