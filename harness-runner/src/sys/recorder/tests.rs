//! The hook, in this very process: its memory is mapped once, and a place of our own is led to it.

use super::{
    hook::{FAULTS, after_fault, code, faults},
    place::{CALL, MOVE, write_code},
    *,
};
use crate::sys::arch::PAGE;
use std::{
    ffi::{CStr, CString, c_void},
    fs,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, symlink},
        },
    },
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock},
};

/// A function that makes one call with four arguments.
type Caller = extern "C" fn(u64, u64, u64, u64, u64) -> i64;

/// The hook of this process, for one test at a time.
struct Hooked {
    ring: Ring,
    /// A page whose code can be replaced, and how much of it is used.
    code: u64,
    used: u64,
    /// The page that leads to the hook.
    near: u64,
}

// SAFETY: its memory is never detached, and atomic where it is shared.
unsafe impl Send for Hooked {}

fn hooked() -> MutexGuard<'static, Hooked> {
    static HOOKED: OnceLock<Mutex<Hooked>> = OnceLock::new();
    let hooked = HOOKED.get_or_init(|| Mutex::new(Hooked::new()));
    let hooked = hooked.lock().unwrap_or_else(|broken| broken.into_inner());
    hooked.ring.front().enabled.store(1, Ordering::SeqCst);
    hooked
}

fn own() -> Tid {
    Tid::new(std::process::id().cast_signed())
}

fn memory() -> fs::File {
    let memory = fs::File::options().write(true).open("/proc/self/mem");
    memory.expect("/proc is mounted")
}

fn map(hint: u64, flags: i32) -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let hint = std::ptr::without_provenance_mut(hint as usize);
    let rights = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: nothing that is there is replaced.
    let page = unsafe { libc::mmap(hint, PAGE as usize, rights, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page.addr() as u64
}

impl Hooked {
    fn new() -> Self {
        let ring = Ring::new().expect("there is shared memory");
        assert_eq!(map(HOOK, libc::MAP_FIXED_NOREPLACE), HOOK);
        write_code(&memory(), HOOK, code()).expect("our own code");
        let at: *const c_void = std::ptr::without_provenance(RING as usize);
        // SAFETY: nothing that is there is replaced.
        let attached = unsafe { libc::shmat(ring.id, at, 0) };
        assert_eq!(attached.addr() as u64, RING);
        Self {
            ring,
            code: map(0, 0),
            used: 0,
            near: map(0, 0),
        }
    }

    /// Writes a function that makes a call as the library does.
    fn caller(&mut self, number: i64) -> (Caller, Place) {
        let [a, b, c, d, ..] = number.to_le_bytes();
        // mov %rcx, %r10; mov $number, %eax; syscall; ret
        let code = [0x49, 0x89, 0xca, MOVE, a, b, c, d, CALL[0], CALL[1], 0xc3];
        let at = self.code + self.used;
        self.used += 16;
        write_code(&memory(), at, &code).expect("our own code");
        let place = Place::of(own(), at + 10, number.cast_unsigned()).expect("it can be replaced");
        // SAFETY: that is a function of this signature, which follows the C calling convention.
        (unsafe { std::mem::transmute::<u64, Caller>(at) }, place)
    }

    /// Returns a function whose call is recorded.
    fn recorded(&mut self, number: i64) -> Caller {
        let (caller, place) = self.caller(number);
        assert!(place.reaches(self.near), "{place:?}");
        assert_eq!(place.lead(own(), &memory(), self.near), Ok(true));
        caller
    }

    fn records(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        self.ring.drain(&mut records);
        records
    }
}

fn text(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("it has no NUL")
}

fn identity(path: &Path) -> FileId {
    let metadata = fs::symlink_metadata(path).expect("it is there");
    FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
        directory: metadata.is_dir(),
    }
}

fn address<T: ?Sized>(value: &T) -> u64 {
    (&raw const *value).addr() as u64
}

#[test]
fn an_open_is_recorded_with_its_answer_and_what_the_descriptor_is() {
    let mut hooked = hooked();
    let open = hooked.recorded(libc::SYS_openat);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let link = folder.path().join("link");
    symlink("file", &link).unwrap();
    let cwd = libc::AT_FDCWD as u64;
    for (path, flags) in [
        (&file, 0),
        (&link, 0),
        (&folder.path().join("none"), 0),
        (&link, libc::O_NOFOLLOW),
    ] {
        let path = text(path);
        let result = open(cwd, path.as_ptr().addr() as u64, flags as u64, 0, 0);
        let [record] = &hooked.records()[..] else {
            panic!("one call was made");
        };
        let known = (record.number, record.path.as_slice(), record.result);
        let expected = (
            libc::SYS_openat as u64,
            path.as_bytes_with_nul(),
            Some(result),
        );
        assert_eq!(known, expected);
        assert!(!record.rewritten && record.time > 0);
        match result {
            0.. => {
                assert_eq!(record.file, Some(identity(&file)));
                assert_eq!(record.named, Some(Ok(identity(&file))));
                // SAFETY: the descriptor was opened above, and has no other owner.
                unsafe { libc::close(result as i32) };
            }
            _ => assert_eq!((record.file, record.named), (None, None)),
        }
    }
}

#[test]
fn questions_are_recorded_with_the_file_that_they_are_about() {
    let mut hooked = hooked();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    let link = folder.path().join("link");
    symlink("file", &link).unwrap();
    let (named, mut buffer) = (text(&link), [0_u64; 64]);
    let (path, into) = (
        named.as_ptr().addr() as u64,
        buffer.as_mut_ptr().addr() as u64,
    );
    let (cwd, nofollow) = (libc::AT_FDCWD as u64, libc::AT_SYMLINK_NOFOLLOW as u64);
    let mask = u64::from(libc::STATX_BASIC_STATS);
    let calls: [(i64, [u64; 5], &Path); 10] = [
        (libc::SYS_stat, [path, into, 0, 0, 0], &file),
        (libc::SYS_lstat, [path, into, 0, 0, 0], &link),
        (libc::SYS_newfstatat, [cwd, path, into, 0, 0], &file),
        (libc::SYS_newfstatat, [cwd, path, into, nofollow, 0], &link),
        (libc::SYS_statx, [cwd, path, 0, mask, into], &file),
        (libc::SYS_statx, [cwd, path, nofollow, mask, into], &link),
        (libc::SYS_access, [path, 0, 0, 0, 0], &file),
        (libc::SYS_faccessat2, [cwd, path, 0, nofollow, 0], &link),
        (libc::SYS_readlink, [path, into, 64, 0, 0], &link),
        (libc::SYS_readlinkat, [cwd, path, into, 64, 0], &link),
    ];
    for (number, [a, b, c, d, e], about) in calls {
        let (ask, place) = hooked.caller(number);
        let unrecorded = ask(a, b, c, d, e);
        assert_eq!(hooked.records(), [], "it has not been led to the hook");
        assert_eq!(place.lead(own(), &memory(), hooked.near), Ok(true));
        let before = buffer;
        assert_eq!(ask(a, b, c, d, e), unrecorded, "{number}");
        assert_eq!(buffer, before, "{number}");
        let [record] = &hooked.records()[..] else {
            panic!("one call was made: {number}");
        };
        assert_eq!(record.result, Some(unrecorded));
        assert_eq!(record.file, Some(identity(about)), "{number}");
        assert_eq!(record.args[..4], [a, b, c, d], "{number}");
    }
}

#[test]
fn a_relative_path_is_recorded_with_what_it_starts_with() {
    let mut hooked = hooked();
    let folder = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(folder.path()).unwrap();
    fs::write(folder.join("file"), "text").unwrap();
    let directory = fs::File::open(&folder).unwrap();
    let far = fcntl(&directory);
    let cwd = std::env::current_dir().unwrap();
    let (stat, fstatat, openat) = (
        hooked.recorded(libc::SYS_stat),
        hooked.recorded(libc::SYS_newfstatat),
        hooked.recorded(libc::SYS_openat),
    );
    let buffer = [0_u64; 64];
    let into = address(&buffer);
    let at = |text: &CStr| text.as_ptr().addr() as u64;
    let of_cwd = libc::AT_FDCWD as u64;
    for (fd, start) in [(directory.as_raw_fd(), &folder), (far.as_raw_fd(), &folder)] {
        let (fd, start) = (fd as u64, Some(start.as_os_str().as_bytes().to_vec()));
        for (name, result) in [(c"file", 0), (c"none", -2)] {
            assert_eq!(fstatat(fd, at(name), into, 0, 0), result);
            let [record] = &hooked.records()[..] else {
                panic!("one call was made");
            };
            assert_eq!((&record.start, record.result), (&start, Some(result)));
            assert!(!record.rewritten);
            let file = (result == 0).then(|| identity(&folder.join("file")));
            assert_eq!(record.file, file);
        }
        let opened = openat(fd, at(c"file"), 0, 0, 0);
        // SAFETY: the descriptor was opened above, and has no other owner.
        unsafe { libc::close(opened as i32) };
        let [record] = &hooked.records()[..] else {
            panic!("one call was made");
        };
        let file = identity(&folder.join("file"));
        assert_eq!((record.file, record.named), (Some(file), Some(Ok(file))));
    }
    let start = Some(cwd.as_os_str().as_bytes().to_vec());
    assert_eq!(stat(at(c"Cargo.toml"), into, 0, 0, 0), 0);
    assert_eq!(fstatat(of_cwd, at(c"Cargo.toml"), into, 0, 0), 0);
    for record in hooked.records() {
        assert_eq!((&record.start, record.rewritten), (&start, false));
        assert_eq!(record.file, Some(identity(&cwd.join("Cargo.toml"))));
    }
    // There is to be room for both, and for what it starts with once more.
    let room = (ROOM - 2 - 2 * cwd.as_os_str().len()) / 2;
    for (length, count) in [(room - 1, 1), (room + 3, 0)] {
        let long = text("x/".repeat(length));
        stat(at(&long), into, 0, 0, 0);
        assert_eq!(hooked.records().len(), count, "{length}");
    }
}

/// Returns a copy of a descriptor with a number of several digits.
fn fcntl(file: &fs::File) -> OwnedFd {
    // SAFETY: the command takes a number.
    let copy = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 190) };
    assert!(copy >= 190);
    // SAFETY: it is new, and has no other owner.
    unsafe { OwnedFd::from_raw_fd(copy) }
}

#[test]
fn a_list_is_recorded_with_its_directory() {
    let mut hooked = hooked();
    let list = hooked.recorded(libc::SYS_getdents64);
    let folder = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(folder.path()).unwrap();
    let directory = fs::File::open(&folder).unwrap();
    let mut entries = [0_u64; 512];
    let into = entries.as_mut_ptr().addr() as u64;
    let results = [(); 2].map(|()| list(directory.as_raw_fd() as u64, into, 4096, 0, 0));
    assert!(results[0] > 0 && results[1] == 0, "{results:?}");
    let records = hooked.records();
    assert_eq!(records.len(), 2);
    for (record, result) in records.iter().zip(results) {
        assert_eq!(record.result, Some(result));
        assert_eq!(record.start.as_deref(), Some(folder.as_os_str().as_bytes()));
        assert_eq!(record.file, Some(identity(&folder)));
        assert_eq!(
            (record.path.as_slice(), record.rewritten),
            (&b"\0"[..], false)
        );
    }
}

#[test]
fn a_directory_that_another_thread_leaves_is_a_doubt() {
    let mut hooked = hooked();
    let openat = hooked.recorded(libc::SYS_openat);
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let directories = [0, 1].map(|index| fs::File::open(folders[index].path()).unwrap());
    let far = fcntl(&directories[0]);
    let fd = far.as_raw_fd();
    let done = AtomicU32::new(0);
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_usize.. {
                if done.load(Ordering::SeqCst) == 1 {
                    break;
                }
                // SAFETY: both are open, and the second has no other owner than `far`.
                unsafe { libc::dup2(directories[turn % 2].as_raw_fd(), fd) };
            }
        });
        let path = c"none";
        while !records.iter().any(|record: &Record| record.rewritten) {
            openat(fd as u64, path.as_ptr().addr() as u64, 0, 0, 0);
            hooked.ring.drain(&mut records);
        }
        done.store(1, Ordering::SeqCst);
    });
}

#[test]
fn what_cannot_be_recorded_is_called_where_the_program_calls_it() {
    let mut hooked = hooked();
    let stat = hooked.recorded(libc::SYS_stat);
    let (long, buffer) = ("/x".repeat(400), [0_u64; 64]);
    let long = text(&long);
    let texts = [
        c"",
        c"/proc/self/status",
        c"//proc/self",
        c"/./dev/null",
        c"/dev/null",
    ];
    let texts = texts.into_iter().chain([long.as_c_str()]);
    let addresses = texts.map(|text| text.as_ptr().addr() as u64);
    for path in addresses.chain([0, 1, u64::MAX, 1 << 47]) {
        let (direct, _) = hooked.caller(libc::SYS_stat);
        let into = address(&buffer);
        assert_eq!(stat(path, into, 0, 0, 0), direct(path, into, 0, 0, 0));
        assert_eq!(hooked.records(), []);
    }
    // Relative to a directory below /proc, and to what is none.
    let (fstatat, list) = (
        hooked.recorded(libc::SYS_newfstatat),
        hooked.recorded(libc::SYS_getdents64),
    );
    let proc = fs::File::open("/proc/self/task").unwrap();
    let (pipe, _) = std::io::pipe().unwrap();
    let mut entries = [0_u64; 512];
    let removed = tempfile::tempfile().unwrap();
    for (fd, found) in [
        (proc.as_raw_fd(), true),
        (removed.as_raw_fd(), false),
        (pipe.as_raw_fd(), false),
        (-1, false),
    ] {
        let (fd, into) = (fd as u64, address(&buffer));
        let path = c".".as_ptr().addr() as u64;
        assert_eq!(fstatat(fd, path, into, 0, 0) == 0, found);
        let into = entries.as_mut_ptr().addr() as u64;
        assert_eq!(list(fd, into, 4096, 0, 0) > 0, found);
        assert_eq!(hooked.records(), []);
    }
    hooked.ring.disable();
    let path = c"/";
    assert_eq!(
        stat(path.as_ptr().addr() as u64, address(&buffer), 0, 0, 0),
        0
    );
    assert_eq!(hooked.records(), []);
}

#[test]
fn a_full_ring_sends_calls_to_where_they_stop_and_keeps_the_order() {
    let mut hooked = hooked();
    let access = hooked.recorded(libc::SYS_access);
    for turn in 0..3 {
        for call in 0..2 * SLOTS {
            let path = text(format!("/none {turn} {call}"));
            assert_eq!(access(path.as_ptr().addr() as u64, 0, 0, 0, 0), -2);
        }
        let records = hooked.records();
        let paths: Vec<_> = records.iter().map(|record| record.path.clone()).collect();
        let expected = |call| text(format!("/none {turn} {call}")).into_bytes_with_nul();
        assert_eq!(paths, (0..SLOTS).map(expected).collect::<Vec<_>>());
    }
}

#[test]
fn threads_that_record_at_the_same_time_lose_nothing() {
    const CALLS: usize = 20_000;
    let mut hooked = hooked();
    let access = hooked.recorded(libc::SYS_access);
    let start = hooked.ring.front().committed.load(Ordering::SeqCst);
    let call = move |name: &'static str| {
        move || {
            let path = text(name);
            for _ in 0..CALLS {
                access(path.as_ptr().addr() as u64, 0, 0, 0, 0);
            }
        }
    };
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        let threads = [
            scope.spawn(call("/none/one")),
            scope.spawn(call("/none/other")),
        ];
        while !threads.iter().all(|thread| thread.is_finished()) {
            hooked.ring.drain(&mut records);
        }
    });
    hooked.ring.drain(&mut records);
    let committed = hooked.ring.front().committed.load(Ordering::SeqCst) - start;
    assert_eq!(records.len() as u64, committed);
    assert!(!records.is_empty());
    for record in &records {
        assert!(record.path == b"/none/one\0" || record.path == b"/none/other\0");
        assert_eq!((record.result, record.rewritten), (Some(-2), false));
    }
}

/// The function that [`call_in_handler`] calls, and how often it did.
static IN_HANDLER: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn call_in_handler(_: i32) {
    // SAFETY: a function of this signature is put there before the signal is sent.
    let access = unsafe { std::mem::transmute::<u64, Caller>(IN_HANDLER.load(Ordering::SeqCst)) };
    let path = c"/none/handler";
    if access(path.as_ptr().addr() as u64, 0, 0, 0, 0) == -2 {
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_handler_on_top_of_a_recorded_call_records_its_own() {
    const SIGNALS: u64 = 500;
    let mut hooked = hooked();
    let access = hooked.recorded(libc::SYS_access);
    IN_HANDLER.store(access as usize as u64, Ordering::SeqCst);
    let handler: extern "C" fn(i32) = call_in_handler;
    // SAFETY: the handler makes a system call and counts, which a handler may do.
    unsafe { libc::signal(libc::SIGUSR2, handler as libc::sighandler_t) };
    let start = hooked.ring.front().committed.load(Ordering::SeqCst);
    let (done, thread) = (AtomicU32::new(0), AtomicU64::new(0));
    let mut records = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: it always succeeds.
            thread.store(unsafe { libc::pthread_self() }, Ordering::SeqCst);
            let path = text("/none/below");
            while done.load(Ordering::SeqCst) == 0 {
                assert_eq!(access(path.as_ptr().addr() as u64, 0, 0, 0, 0), -2);
            }
        });
        while thread.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        while HANDLED.load(Ordering::SeqCst) < SIGNALS {
            // SAFETY: the thread runs until `done` says so.
            unsafe { libc::pthread_kill(thread.load(Ordering::SeqCst), libc::SIGUSR2) };
            hooked.ring.drain(&mut records);
        }
        done.store(1, Ordering::SeqCst);
    });
    hooked.ring.drain(&mut records);
    let committed = hooked.ring.front().committed.load(Ordering::SeqCst) - start;
    assert_eq!(records.len() as u64, committed);
    let of = |path: &[u8]| records.iter().filter(|record| record.path == path).count();
    assert!(of(b"/none/handler\0") > 0);
    assert_eq!(of(b"/none/handler\0") + of(b"/none/below\0"), records.len());
    assert!(
        records
            .iter()
            .all(|record| record.result == Some(-2) && !record.rewritten)
    );
}

#[test]
fn a_call_that_has_not_returned_is_known_when_its_thread_is_gone() {
    let hooked = hooked();
    // SAFETY: no call is made meanwhile, and nothing else refers to the slot.
    let slot = unsafe { hooked.ring.slot(SLOTS - 1).as_mut() };
    (slot.tid, slot.number, slot.length) = (7, libc::SYS_access as u64, 3);
    slot.path[..3].copy_from_slice(b"/x\0");
    hooked.ring.state(SLOTS - 1).store(5, Ordering::SeqCst);
    let mut records = Vec::new();
    hooked.ring.abandon(|tid| tid.raw() == 8, &mut records);
    assert_eq!(records, []);
    hooked.ring.abandon(|tid| tid.raw() == 7, &mut records);
    let [record] = &records[..] else {
        panic!("there was one");
    };
    assert_eq!(
        (record.result, record.path.as_slice()),
        (None, &b"/x\0"[..])
    );
    records.clear();
    hooked.ring.abandon(|_| true, &mut records);
    assert_eq!(records, [], "it was given back");
}

/// As a library makes it that opens a directory: another register is the last to be set.
#[test]
fn a_place_whose_number_was_chosen_before_records_that_call_alone() {
    let mut hooked = hooked();
    let at = hooked.code + hooked.used;
    hooked.used += 32;
    // mov %edi, %eax; mov $AT_FDCWD, %edi; syscall; ret
    let mut code = vec![0x89, 0xf8, 0xbf];
    code.extend_from_slice(&libc::AT_FDCWD.to_le_bytes());
    code.extend_from_slice(&[CALL[0], CALL[1], 0xc3]);
    write_code(&memory(), at, &code).expect("our own code");
    let place = Place::of(own(), at + 9, libc::SYS_openat as u64).expect("it can be replaced");
    assert_eq!(place.lead(own(), &memory(), hooked.near), Ok(true));
    // SAFETY: that is a function of this signature, which follows the C calling convention.
    let call = unsafe { std::mem::transmute::<u64, Caller>(at) };
    let path = c"/none".as_ptr().addr() as u64;
    assert_eq!(call(libc::SYS_openat as u64, path, 0, 0, 0), -2);
    let records = hooked.records();
    assert_eq!((records.len(), records[0].result), (1, Some(-2)));
    assert_eq!(call(libc::SYS_faccessat as u64, path, 0, 0, 0), -2);
    assert_eq!(hooked.records(), []);
}

#[test]
fn only_what_can_be_replaced_is_a_place() {
    let mut hooked = hooked();
    let (_, place) = hooked.caller(libc::SYS_open);
    let open = libc::SYS_open.cast_unsigned();
    assert_eq!(
        Place::of(own(), place.behind, open + 1),
        None,
        "another call"
    );
    assert_eq!(Place::of(own(), place.behind + 1, open), None, "no call");
    assert_eq!(Place::of(own(), 3, open), None, "no memory");
    assert!(!place.reaches(place.behind.wrapping_add(1 << 40)));
    assert_eq!(place.lead(own(), &memory(), hooked.near), Ok(true));
    assert_eq!(
        Place::of(own(), place.behind, open),
        None,
        "it was replaced"
    );
}

#[test]
fn every_touch_of_a_program_s_memory_has_a_way_out() {
    let ends = HOOK + code().len() as u64;
    for place in faults()[..3 * FAULTS].chunks_exact(3) {
        let [from, to, then] = place else {
            unreachable!("three each");
        };
        assert!(from < to);
        let then = HOOK + u64::from(*then);
        assert!((HOOK..ends).contains(&then));
        assert_eq!(after_fault(HOOK + u64::from(*from)), Some(then));
        assert_ne!(after_fault(HOOK + u64::from(*to)), Some(then));
    }
    assert_eq!(after_fault(HOOK), None);
    assert_eq!(after_fault(behind_call()), None);
    assert!(code().len() < HOOK_SIZE as usize);
}
