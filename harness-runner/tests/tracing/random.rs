//! Random programs of calls: of files, links and directories, in processes, threads and handlers. What they do depends
//! on their seed alone, so that two runs can be compared call by call.

use fixture_kit::{forks, random::Random};
use std::{
    env,
    ffi::{CString, OsStr},
    fs,
    os::unix::ffi::OsStrExt,
    process::Command,
    ptr, thread,
};

/// The calls of the first process; each further one has fewer.
const CALLS: u64 = 350;
/// The descriptors that are open at the same time.
const DESCRIPTORS: usize = 6;

/// The names that anything is done to. None leads out of the program's folder, whatever is a link: there is no `..`, and
/// a slash in front stands for that folder.
const INSIDE: &[&str] = &[
    "a", "b", "c", "./a", "d", "d/a", "d/e", "d//e/./b", ".", "l", "l/a", "m", "/a", "/d", "/d/a",
    "/d/e/f", "/l", "/./d/b", "", "none", "none/a", "a/b",
];
/// Names that are only asked about.
const OUTSIDE: &[&str] = &[
    "..",
    "../a",
    "d/../a",
    "/",
    "/dev/null",
    "/proc/self/cwd/a",
    "/proc/self/status",
    "//proc/self/exe",
    "/etc/passwd",
    "/none",
];

/// A process or a thread of a random program.
struct Caller {
    random: Random,
    /// The program's folder.
    folder: Vec<u8>,
    descriptors: Vec<i32>,
    /// The creators above it.
    depth: u64,
}

/// Makes the calls of a random program: `SEED`, or `SEED-DEPTH` of one that another has executed.
pub(crate) fn run(program: &str) {
    let (seed, depth) = program.split_once('-').unwrap_or((program, "0"));
    let handler: extern "C" fn(i32) = open_in_handler;
    for signal in [libc::SIGUSR1, libc::SIGALRM] {
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = match signal {
            libc::SIGALRM => nothing as extern "C" fn(i32) as usize,
            _ => handler as usize,
        };
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            unsafe { libc::sigaction(signal, &action, ptr::null_mut()) },
            0
        );
    }
    // It may have been removed before this was executed.
    let Ok(folder) = env::current_dir() else {
        return;
    };
    // As `tempfile` names it.
    let is_own = folder
        .components()
        .any(|part| part.as_os_str().as_bytes().starts_with(b".tmp"));
    assert!(is_own, "{folder:?} is no folder of its own");
    let mut caller = Caller {
        random: Random::new(seed.parse().unwrap()),
        folder: folder.into_os_string().into_encoded_bytes(),
        descriptors: Vec::new(),
        depth: depth.parse().unwrap(),
    };
    caller.calls(CALLS >> caller.depth);
}

extern "C" fn open_in_handler(_: i32) {
    unsafe { libc::open(c"in-handler".as_ptr(), libc::O_RDONLY) };
}

extern "C" fn nothing(_: i32) {}

impl Caller {
    fn calls(&mut self, count: u64) {
        for _ in 0..count {
            match self.random.below(40) {
                0..14 => self.ask(),
                14..16 => self.list(),
                16..24 => self.open(),
                24..28 => self.change_descriptors(),
                28..37 => self.change_names(),
                _ => self.live(),
            }
        }
    }

    /// A name within the program's folder, if the working directory is.
    fn inside(&mut self) -> CString {
        let name = match self.random.below(12) {
            0 => return CString::new("x/".repeat(self.random.below(600) as usize)).unwrap(),
            _ => self.random.pick(INSIDE),
        };
        assert!(name.split('/').all(|part| part != ".."));
        match name.strip_prefix('/') {
            Some(name) => CString::new([&self.folder, b"/".as_slice(), name.as_bytes()].concat()),
            None => CString::new(name),
        }
        .unwrap()
    }

    fn anywhere(&mut self) -> CString {
        match self.random.below(8) {
            0 => CString::new(self.random.pick(OUTSIDE)).unwrap(),
            _ => self.inside(),
        }
    }

    /// A descriptor of this process, the working directory, or none.
    fn directory(&mut self) -> i32 {
        match self.random.below(8) {
            0 => -1,
            1..5 if !self.descriptors.is_empty() => {
                let index = self.random.below(self.descriptors.len() as u64);
                self.descriptors[index as usize]
            }
            _ => libc::AT_FDCWD,
        }
    }

    fn ask(&mut self) {
        let (name, directory) = (self.anywhere(), self.directory());
        let (path, mut buffer) = (name.as_ptr(), [0_u8; 4096]);
        let into = buffer.as_mut_ptr();
        let flag = self.random.pick(&[0, libc::AT_SYMLINK_NOFOLLOW]);
        unsafe {
            match self.random.below(11) {
                0 => libc::stat(path, into.cast()),
                1 => libc::lstat(path, into.cast()),
                2 => libc::fstatat(directory, path, into.cast(), flag),
                3 => libc::statx(directory, path, flag, libc::STATX_BASIC_STATS, into.cast()),
                4 => libc::access(path, libc::R_OK),
                5 => libc::faccessat(directory, path, libc::W_OK, 0),
                6 => libc::readlink(path, into.cast(), 64) as i32,
                7 => libc::readlinkat(directory, path, into.cast(), 64) as i32,
                8 => libc::syscall(libc::SYS_faccessat2, directory, path, libc::F_OK, flag) as i32,
                9 => libc::fstat(directory, into.cast()),
                _ => libc::access(path, libc::F_OK),
            }
        };
    }

    /// Not under alarms: a signal cuts a list short.
    fn list(&mut self) {
        let name = self.inside();
        let _ = fs::read_dir(OsStr::from_bytes(name.as_bytes())).map(Iterator::count);
    }

    fn open(&mut self) {
        let (name, directory) = (self.inside(), self.directory());
        let flags = self.random.pick(&[
            libc::O_RDONLY,
            libc::O_RDONLY,
            libc::O_DIRECTORY,
            libc::O_DIRECTORY,
            libc::O_NOFOLLOW,
            libc::O_PATH,
            libc::O_PATH | libc::O_NOFOLLOW,
            libc::O_WRONLY | libc::O_CREAT,
            libc::O_RDWR | libc::O_CREAT | libc::O_EXCL,
            libc::O_WRONLY | libc::O_TRUNC,
        ]) | libc::O_CLOEXEC;
        let fd = unsafe {
            match self.random.below(3) {
                0 => libc::open(name.as_ptr(), flags, 0o600),
                _ => libc::openat(directory, name.as_ptr(), flags, 0o600),
            }
        };
        if fd >= 0 {
            self.keep(fd);
        }
    }

    fn keep(&mut self, fd: i32) {
        self.descriptors.push(fd);
        if self.descriptors.len() > DESCRIPTORS {
            unsafe { libc::close(self.descriptors.remove(0)) };
        }
    }

    fn change_descriptors(&mut self) {
        let fd = self.directory();
        match self.random.below(4) {
            0 => {
                let copy = unsafe { libc::dup(fd) };
                if copy >= 0 {
                    self.keep(copy);
                }
            }
            // Over another one: the same number means another file then.
            1 => {
                let over = self.directory();
                unsafe { libc::dup2(fd, over) };
            }
            2 => {
                unsafe { libc::fchdir(fd) };
            }
            _ => {
                if let Some(last) = self.descriptors.pop() {
                    unsafe { libc::close(last) };
                }
            }
        }
    }

    fn change_names(&mut self) {
        let (one, other) = (self.inside(), self.inside());
        let (from, to) = (self.directory(), self.directory());
        let (path, new) = (one.as_ptr(), other.as_ptr());
        unsafe {
            match self.random.below(16) {
                0 | 1 => libc::mkdir(path, 0o700),
                2 => libc::mkdirat(from, path, 0o700),
                3 => libc::rmdir(path),
                4 => libc::unlink(path),
                5 => libc::unlinkat(from, path, self.random.pick(&[0, libc::AT_REMOVEDIR])),
                6 | 7 => libc::rename(path, new),
                8 => libc::renameat(from, path, to, new),
                9 => libc::link(path, new),
                10 => libc::symlink(path, new),
                11 => libc::symlinkat(path, to, new),
                12 => libc::truncate(path, 1),
                13 => libc::chmod(path, 0o700),
                _ => libc::chdir(path),
            }
        };
    }

    /// Processes, threads, signals.
    fn live(&mut self) {
        let fewer = CALLS >> (self.depth + 3);
        match self.random.below(6) {
            0 | 1 if self.depth < 3 => self.in_child(|child| {
                child.calls(fewer);
                child.random.below(100) as i32
            }),
            2 if self.depth < 2 => {
                let program = format!("random-{}-{}", self.random.below(1 << 32), self.depth + 2);
                self.in_child(|_| crate::programs::execute(&program));
            }
            3 if self.depth == 0 => {
                let status = Command::new("/bin/true").status();
                assert!(status.is_ok_and(|status| status.success()) || self.depth > 0);
            }
            4 => {
                unsafe { libc::raise(libc::SIGUSR1) };
                self.under_alarms(fewer);
            }
            _ => self.on_threads(fewer),
        }
    }

    fn in_child(&mut self, act: impl FnOnce(&mut Self) -> i32) {
        let mut child = Self {
            random: Random::new(self.random.next()),
            folder: self.folder.clone(),
            descriptors: self.descriptors.clone(),
            depth: self.depth + 1,
        };
        forks::wait(forks::fork(|| act(&mut child)));
    }

    /// Makes calls while a timer interrupts them.
    fn under_alarms(&mut self, count: u64) {
        let set = |microseconds| {
            let every = libc::timeval {
                tv_sec: 0,
                tv_usec: microseconds,
            };
            let timer = libc::itimerval {
                it_interval: every,
                it_value: every,
            };
            unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
        };
        set(300);
        for _ in 0..count {
            self.ask();
        }
        set(0);
    }

    /// Two threads at the same time, of which one has a working directory of its own. Neither takes descriptors, which
    /// would depend on who is first.
    fn on_threads(&mut self, count: u64) {
        let seeds = [self.random.next(), self.random.next()];
        let of = |seed: u64| Caller {
            random: Random::new(seed),
            folder: self.folder.clone(),
            descriptors: self.descriptors.clone(),
            depth: self.depth + 1,
        };
        let mut callers = seeds.map(of);
        let [first, second] = &mut callers;
        thread::scope(|scope| {
            scope.spawn(|| first.ask_alone(count));
            scope.spawn(|| {
                // Else it would be that of all.
                assert_eq!(unsafe { libc::unshare(libc::CLONE_FS) }, 0);
                env::set_current_dir("/").unwrap();
                second.ask_alone(count);
            });
        });
    }

    fn ask_alone(&mut self, count: u64) {
        for _ in 0..count {
            let (name, directory) = (self.anywhere(), self.directory());
            let mut buffer = [0_u8; 256];
            let (path, into) = (name.as_ptr(), buffer.as_mut_ptr());
            unsafe {
                match self.random.below(3) {
                    0 => libc::fstatat(directory, path, into.cast(), 0),
                    1 => libc::readlink(path, into.cast(), 64) as i32,
                    _ => libc::access(path, libc::F_OK),
                }
            };
        }
    }
}
