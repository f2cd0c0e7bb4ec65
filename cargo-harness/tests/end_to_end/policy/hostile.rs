//! Tests that try to reach a file that their policy keeps from them. Each passes if it does not.

pub(super) const HOSTILE: &str = r#"
use std::{
    env,
    ffi::{CString, c_char, c_int, c_long, c_void},
    fs,
    io::Read,
    os::{fd::AsRawFd, unix::ffi::OsStrExt, unix::fs::symlink},
    path::{Path, PathBuf},
    process::Command,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

unsafe extern "C" {
    fn chroot(path: *const c_char) -> c_int;
    fn getppid() -> c_int;
    fn mmap(
        at: *mut c_void,
        len: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: c_long,
    ) -> *mut c_void;
    fn mount(
        from: *const c_char,
        to: *const c_char,
        kind: *const c_char,
        flags: u64,
        data: *const c_void,
    ) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn ptrace(request: c_long, ...) -> c_long;
    fn read(fd: c_int, to: *mut c_void, len: usize) -> isize;
    fn close(fd: c_int) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn unshare(flags: c_int) -> c_int;
}

fn folder() -> PathBuf {
    PathBuf::from(env::var_os("SECRETS").unwrap())
}

fn secret() -> PathBuf {
    folder().join("secret")
}

/// Returns a new folder in which the test may write.
fn own(name: &str) -> PathBuf {
    let own = env::temp_dir().join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&own).unwrap();
    own
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

#[track_caller]
fn unreachable(path: &Path) {
    assert!(fs::read(path).is_err(), "{path:?} was read");
}

#[test]
fn by_other_names_of_the_file() {
    let own = own("names");
    unreachable(&secret());
    symlink(secret(), own.join("link")).unwrap();
    unreachable(&own.join("link"));
    unreachable(Path::new(&format!("/proc/self/root{}", secret().display())));
    unreachable(Path::new(&format!("/proc/self/cwd/../home/secret")));
    assert!(fs::hard_link(secret(), own.join("hard")).is_err());
    assert!(fs::rename(secret(), own.join("moved")).is_err());
    assert!(fs::rename(folder(), own.join("moved")).is_err());
    let handle = fs::File::open(own.join("link"));
    assert!(handle.is_err());
    fs::remove_dir_all(own).unwrap();
}

#[test]
fn by_a_descriptor_without_rights() {
    const O_PATH: c_int = 0o10_000_000;
    let file = unsafe { open(text(&secret()).as_ptr(), O_PATH) };
    assert!(file >= 0, "looks are free");
    unreachable(Path::new(&format!("/proc/self/fd/{file}")));
    let mut byte = 0u8;
    assert_eq!(unsafe { read(file, (&raw mut byte).cast(), 1) }, -1);
    unsafe { close(file) };
}

#[test]
fn by_rewriting_the_path_while_it_is_read() {
    let own = own("rewriting");
    fs::write(own.join("harmless"), "harmless").unwrap();
    // Two paths of one length in one buffer, which another thread changes all the time.
    let (one, other) = (own.join("harmless"), secret());
    let width = one.as_os_str().len().max(other.as_os_str().len()) + 2;
    let padded = |path: &Path| {
        let mut bytes = vec![b'/'; width - path.as_os_str().len()];
        bytes.extend_from_slice(path.as_os_str().as_bytes());
        bytes.push(0);
        bytes
    };
    let (one, other) = (padded(&one), padded(&other));
    let buffer = one.clone().leak().as_mut_ptr() as usize;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for from in [&other, &one] {
                    unsafe {
                        ptr::copy_nonoverlapping(from.as_ptr(), buffer as *mut u8, from.len())
                    };
                }
            }
        });
        for _ in 0..3_000 {
            let file = unsafe { open(buffer as *const c_char, 0) };
            if file >= 0 {
                let mut bytes = [0u8; 8];
                unsafe { read(file, bytes.as_mut_ptr().cast(), 8) };
                unsafe { close(file) };
                assert_eq!(&bytes, b"harmless");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    fs::remove_dir_all(own).unwrap();
}

#[test]
fn by_a_mount_or_another_root() {
    const CLONE_NEWNS: c_int = 0x20000;
    const CLONE_NEWUSER: c_int = 0x1000_0000;
    const MS_BIND: u64 = 4096;
    let own = own("mount");
    let mounts = || unsafe {
        mount(
            text(&folder()).as_ptr(),
            text(&own).as_ptr(),
            ptr::null(),
            MS_BIND,
            ptr::null(),
        )
    };
    assert_eq!(mounts(), -1);
    // In a thread, for this changes what the others see.
    thread::scope(|scope| {
        scope.spawn(|| {
            if unsafe { unshare(CLONE_NEWNS) } == 0
                || unsafe { unshare(CLONE_NEWUSER | CLONE_NEWNS) } == 0
            {
                assert_eq!(mounts(), -1);
            }
        });
    });
    let status = Command::new("unshare")
        .args(["-Urm", "mount", "--bind"])
        .args([&folder(), &own])
        .output();
    assert!(!status.is_ok_and(|it| it.status.success()));
    unreachable(&own.join("secret"));
    if unsafe { chroot(text(&folder()).as_ptr()) } == 0 {
        unreachable(Path::new("/secret"));
    }
}

#[test]
fn by_a_file_handle() {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        data: [u8; 128],
    }
    let mut handle = Handle {
        bytes: 128,
        kind: 0,
        data: [0; 128],
    };
    let mut mount = 0;
    let (path, folder) = (text(&secret()), fs::File::open(env::temp_dir()));
    // name_to_handle_at(2), open_by_handle_at(2)
    let named = unsafe {
        syscall(
            if cfg!(target_arch = "x86_64") {
                303
            } else {
                264
            },
            -100,
            path.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    };
    let Ok(folder) = folder else { return };
    if named == 0 {
        let opened = unsafe {
            syscall(
                if cfg!(target_arch = "x86_64") {
                    304
                } else {
                    265
                },
                folder.as_raw_fd(),
                &raw mut handle,
                0,
            )
        };
        assert_eq!(opened, -1);
    }
}

#[test]
fn by_a_process_outside() {
    const PTRACE_ATTACH: c_long = 16;
    const PTRACE_SEIZE: c_long = 0x4206;
    let outside = unsafe { getppid() };
    for request in [PTRACE_ATTACH, PTRACE_SEIZE] {
        assert_eq!(unsafe { ptrace(request, outside, 0, 0) }, -1);
    }
    let memory = fs::File::open(format!("/proc/{outside}/mem"));
    let mut byte = [0];
    assert!(!memory.is_ok_and(|mut it| it.read(&mut byte).is_ok_and(|read| read > 0)));
    unreachable(Path::new(&format!(
        "/proc/{outside}/root{}",
        secret().display()
    )));
}

#[test]
fn by_a_static_program() {
    // It has no loader that could be denied.
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("static");
    if Path::new(&program).exists() {
        let read = Command::new(&program).arg(secret()).output().unwrap();
        assert_eq!(read.status.code(), Some(1), "{read:?}");
        let read = Command::new(&program)
            .arg(program.with_extension("rs"))
            .output()
            .unwrap();
        assert_eq!(read.status.code(), Some(0), "{read:?}");
    }
}

#[repr(C)]
#[derive(Default)]
struct Params {
    entries: [u32; 2],
    flags: u32,
    others: [u32; 7],
    /// Offsets: head, tail, mask, entries, flags, dropped, array.
    submission: [u32; 10],
    /// Offsets: head, tail, mask, entries, overflow, entries.
    completion: [u32; 10],
}

#[test]
fn by_a_ring_of_the_kernel() {
    const OPENAT: u8 = 18;
    let mut params = Params::default();
    let ring = unsafe { syscall(425, 4, &raw mut params) } as c_int;
    if ring < 0 {
        // Switched off here.
        return;
    }
    let map =
        |offset: c_long| unsafe { mmap(ptr::null_mut(), 4096, 3, 1, ring, offset).cast::<u8>() };
    let (submission, completion, entries) = (map(0), map(0x800_0000), map(0x1000_0000));
    let path = text(&secret());
    unsafe {
        *entries = OPENAT;
        entries.add(4).cast::<i32>().write(-100);
        entries.add(16).cast::<u64>().write(path.as_ptr() as u64);
        submission
            .add(params.submission[6] as usize)
            .cast::<u32>()
            .write(0);
        submission
            .add(params.submission[1] as usize)
            .cast::<u32>()
            .write_volatile(1);
        assert_eq!(syscall(426, ring, 1, 1, 1, 0, 0), 1);
        let result = completion
            .add(params.completion[5] as usize + 8)
            .cast::<i32>()
            .read_volatile();
        assert_eq!(result, -13, "EACCES");
        close(ring);
    }
}
"#;
