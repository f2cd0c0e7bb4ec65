//! Small programs that do one thing that a tracer can get wrong. They panic if it went wrong for
//! them.

use fixture_kit::forks::{self, wait, wait_for};
use std::{
    ffi::CString,
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, exit},
    ptr,
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

pub(crate) const ARGUMENT: &str = "__program";
pub(crate) const THREADS: usize = 8;
pub(crate) const FORKS: usize = 60;
pub(crate) const CALLS: usize = 1_000;

/// Becomes another program of these. Returns an exit code if that fails.
pub(crate) fn execute(name: &str) -> i32 {
    let error = Command::new(std::env::current_exe().unwrap())
        .args([ARGUMENT, name])
        .exec();
    error.raw_os_error().unwrap_or(1)
}

pub(crate) fn run(name: &str) -> ! {
    match name {
        "empty" => {}
        random if random.starts_with("random-") => crate::random::run(&random["random-".len()..]),
        "calls" => calls(),
        "files" => files(),
        "forks" => on_threads(|_| {
            for _ in 0..FORKS {
                wait(fork(|| ()));
            }
        }),
        "spawns" => on_threads(|thread| {
            for number in 0..4 {
                let mut child = Command::new("/bin/true");
                child
                    .arg(format!("{thread}-{number}"))
                    .env_remove("KEPT")
                    .env("NEW", "1");
                assert!(child.status().unwrap().success());
            }
        }),
        "orphan" => {
            // The grandchild goes on when the others are gone.
            wait(fork(|| {
                let parent = unsafe { libc::getpid() };
                fork(|| {
                    while unsafe { libc::getppid() } == parent {
                        thread::yield_now();
                    }
                    File::create("by-orphan").unwrap();
                });
            }));
        }
        "thread-exec" => {
            thread::spawn(|| Command::new("/bin/true").arg("by-thread").exec());
            loop {
                thread::park();
            }
        }
        "failed-exec" => {
            let error = Command::new("/bin/there-is-no-such-program").exec();
            assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        }
        "real-time" => real_time(),
        "stops" => stops(),
        "restart" => restart(),
        "killed" => {
            make_pipe();
            let child = fork(|| drop(File::options().write(true).open("pipe")));
            while !fs::read_to_string(format!("/proc/{child}/wchan"))
                .unwrap()
                .contains("pipe")
                && !fs::read_to_string(format!("/proc/{child}/stat"))
                    .unwrap()
                    .contains(") S ")
            {
                thread::yield_now();
            }
            unsafe { libc::kill(child, libc::SIGKILL) };
            assert_eq!(wait(child), libc::SIGKILL);
        }
        "leader-first" => {
            let leader = unsafe { libc::getpid() };
            thread::spawn(move || {
                let stat = format!("/proc/{leader}/stat");
                while !fs::read_to_string(&stat).unwrap().contains(") Z ") {
                    thread::yield_now();
                }
                unsafe { libc::syscall(libc::SYS_exit_group, 7) }
            });
            unsafe { libc::syscall(libc::SYS_exit, 3) };
        }
        "untraced" => {
            let flags = libc::CLONE_UNTRACED | libc::SIGCHLD;
            match unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } {
                0 => unsafe { libc::_exit(0) },
                child => wait(child as i32),
            };
        }
        "clone-parent" => {
            wait(fork(|| {
                let flags = libc::CLONE_PARENT | libc::SIGCHLD;
                if unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } == 0 {
                    unsafe { libc::_exit(0) }
                }
            }));
            wait(-1);
        }
        "another-root" => {
            fs::create_dir("another").unwrap();
            File::create("another/inside").unwrap();
            std::os::unix::fs::symlink("/inside", "another/link").unwrap();
            std::os::unix::fs::chroot("another").unwrap();
            std::env::set_current_dir("/").unwrap();
            assert!(fs::metadata("/inside").is_ok());
            assert!(fs::metadata("/link").is_ok());
            assert!(fs::metadata("etc").is_err());
        }
        "waits" => loop {
            unsafe { libc::pause() };
        },
        other => panic!("there is no program {other}"),
    }
    exit(0)
}

fn on_threads(body: fn(usize)) {
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || body(thread));
        }
    });
}

/// Forks a child that exits with code 0 after that.
fn fork(child: impl FnOnce()) -> i32 {
    forks::fork(|| {
        child();
        0
    })
}

fn files() {
    fs::create_dir("below").unwrap();
    File::create("made").unwrap();
    std::env::set_current_dir("below").unwrap();
    assert!(File::open("missing").is_err());
    std::os::unix::fs::symlink("../made", "link").unwrap();
    fs::hard_link("../made", "hard").unwrap();
    fs::rename("hard", "through").unwrap();
    fs::remove_file("link").unwrap();
    // The only call that names it so.
    File::open("/proc/self/status").unwrap();
    assert!(fs::metadata("/etc/hostname-that-is-not").is_err());
}

static VALUE: AtomicI32 = AtomicI32::new(0);

fn handle(signal: i32, handler: usize, flags: i32) {
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    assert_eq!(
        unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) },
        0
    );
}

fn real_time() {
    extern "C" fn handler(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        let value = unsafe { (*info).si_value() };
        VALUE.store(value.sival_ptr as usize as i32, Ordering::SeqCst);
    }
    let signal = libc::SIGRTMIN() + 3;
    handle(signal, handler as *const () as usize, libc::SA_SIGINFO);
    let value = libc::sigval {
        sival_ptr: 4711 as *mut libc::c_void,
    };
    assert_eq!(unsafe { libc::sigqueue(libc::getpid(), signal, value) }, 0);
    assert_eq!(VALUE.load(Ordering::SeqCst), 4711);
}

fn stops() {
    for signal in [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU] {
        let child = fork(|| {
            // In an orphaned process group all but the first are ignored. What is continued has time
            // to be seen so before it is killed.
            unsafe { libc::raise(signal) };
            unsafe { libc::sleep(10) };
        });
        let status = wait_for(child, libc::WUNTRACED);
        if libc::WIFSTOPPED(status) {
            assert_eq!(libc::WSTOPSIG(status), signal);
            unsafe { libc::kill(child, libc::SIGCONT) };
            assert!(libc::WIFCONTINUED(wait_for(child, libc::WCONTINUED)));
            unsafe { libc::kill(child, libc::SIGKILL) };
            assert_eq!(wait(child), libc::SIGKILL);
        } else {
            assert_ne!(signal, libc::SIGSTOP);
        }
    }
}

fn make_pipe() {
    let name = CString::new("pipe").unwrap();
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

fn restart() {
    extern "C" fn handler(_: i32) {
        VALUE.fetch_add(1, Ordering::SeqCst);
    }
    make_pipe();
    handle(
        libc::SIGUSR1,
        handler as *const () as usize,
        libc::SA_RESTART,
    );
    let writer = unsafe { libc::getpid() };
    let child = fork(|| {
        // Interrupts the open below at least once before it lets it through.
        for _ in 0..3 {
            while !fs::read_to_string(format!("/proc/{writer}/stat"))
                .unwrap()
                .contains(") S ")
            {
                thread::yield_now();
            }
            unsafe { libc::kill(writer, libc::SIGUSR1) };
        }
        File::open("pipe").unwrap();
    });
    File::options().write(true).open("pipe").unwrap();
    wait(child);
    assert!(VALUE.load(Ordering::SeqCst) > 0);
}

/// Many calls, and then one that says whether a recorder is here.
fn calls() {
    for number in 0..CALLS {
        assert!(File::open(format!("/none-{number}")).is_err());
        assert!(fs::metadata("/").is_ok());
    }
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let recorded = maps.lines().any(|line| line.starts_with("70000000-"));
    let _ = File::open(if recorded { "/recorded" } else { "/stopped" });
}
