//! The same of programs that a test starts. They have inherited its filter.

use super::*;
use crate::sys::{Options, set_options};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

/// Starts each of its arguments, one after the other, and ends as the last one has ended. What is to
/// happen before that is `FIRST`.
const STARTS: &str = "#define _GNU_SOURCE\n\
    #include <fcntl.h>\n#include <linux/filter.h>\n#include <linux/landlock.h>\n\
    #include <linux/seccomp.h>\n#include <signal.h>\n#include <sys/syscall.h>\n\
    #include <spawn.h>\n#include <sys/prctl.h>\n#include <sys/resource.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
    extern char **environ;\n\
    int main(int argc, char **argv) {\n\
        int status = 0; pid_t pid; FIRST;\n\
        for (int i = 0; i < 2; i++) {\n\
            char *args[] = {PROGRAM, 0};\n\
            if (posix_spawn(&pid, PROGRAM, 0, 0, args, environ)) return 99;\n\
            waitpid(pid, &status, 0);\n\
        }\n\
        return WIFEXITED(status) ? WEXITSTATUS(status) : 98;\n\
    }";

impl Slot {
    /// Compiles a program that starts another one twice. It has no loader, so that all that is known of
    /// loaders is of what it starts.
    fn starter(&self, program: &Path, first: &str) -> PathBuf {
        let source = format!(
            "#define FIRST {first}\n#define PROGRAM {:?}\n{STARTS}",
            program.display()
        );
        let name = program.file_name().expect("it has a name");
        self.compile(&format!("starts-{}", name.display()), &source, &["-static"])
    }

    /// Returns of how many programs it is known what their loaders do when tests start them.
    fn known_of_descendants(&self) -> usize {
        self.spawner.loads.borrow().of_tracees()
    }
}

/// Starts a program five times two times. The events of the later times must equal those of the
/// first. Returns the events.
fn assert_the_same_whenever_started(slot: &mut Slot, starter: &Path, known: usize) -> Seen {
    let first = slot.run(starter);
    first.assert_whole();
    for _ in 0..4 {
        let later = slot.run(starter);
        later.assert_whole();
        assert_eq!(later.exit, first.exit);
        assert_eq!(later.events, first.events);
    }
    assert_eq!(slot.known_of_descendants(), known);
    first
}

/// The number of known programs on an architecture with a hook.
const KNOWN: usize = HOOKED as usize;

#[test]
fn what_is_told_from_memory_of_a_child_is_what_was_seen() {
    for level in [TraceLevel::Io, TraceLevel::Full] {
        let mut slot = Slot::new(level);
        let program = slot.compile("empty", EMPTY, &[]);
        let starter = slot.starter(&program, "(void)0");
        let seen = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
        assert!(seen.of(&slot.path("first/libc.so.6")).len() >= 2);
        assert_eq!(seen.exit, Exit::Code(0));
    }
}

#[test]
fn it_is_the_same_for_who_may_not_suspend_filters() {
    let mut own = capabilities(None).expect("they can be asked for");
    own.effective.remove(CapabilitySet::SYS_ADMIN);
    set_capabilities(None, own).expect("they can be given up by this thread");
    let mut slot = Slot::new(TraceLevel::Full);
    let program = slot.compile("empty", EMPTY, &[]);
    let starter = slot.starter(&program, "(void)0");
    let mut suspended = Vec::new();
    slot.run_and(&starter, |pid| {
        let options = Options {
            filtered: true,
            suspended: true,
            ..Options::default()
        };
        suspended.push(set_options(Tid::new(pid), options));
    });
    assert_eq!(suspended, [Err(Errno::EPERM); 3]);
    let seen = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
    assert!(seen.of(&slot.path("first/libc.so.6")).len() >= 2);
}

#[test]
fn what_a_child_does_itself_is_seen_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let source = "#include <fcntl.h>\n#include <unistd.h>\n\
        __attribute__((constructor)) static void opens(void) { open(\"early\", O_RDONLY); }\n\
        int main(void) { open(\"late\", O_RDONLY); return fork() < 0; }";
    let program = slot.compile("opens", source, &[]);
    let starter = slot.starter(&program, "(void)0");
    for _ in 0..5 {
        let seen = slot.run(&starter);
        seen.assert_whole();
        for name in ["early", "late"] {
            assert_eq!(
                seen.of(&slot.path(name)).len(),
                2,
                "{name}: {:?}",
                seen.events
            );
        }
    }
    assert_eq!(slot.known_of_descendants(), KNOWN);
}

#[test]
fn a_library_that_appears_is_seen_in_a_child() {
    let mut slot = Slot::new(TraceLevel::Io);
    slot.compile_library("second", "int answer(void) { return 2; }");
    let program = slot.compile("uses", USES_LIBRARY, &["-Lsecond", "-lanswer"]);
    let starter = slot.starter(&program, "(void)0");
    let before = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
    assert_eq!(before.exit, Exit::Code(2));

    slot.compile_library("first", "int answer(void) { return 1; }");
    let after = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
    assert_eq!(after.exit, Exit::Code(1));
    assert!(after.of(&slot.path("second/libanswer.so")).is_empty());
}

#[test]
fn a_child_that_is_killed_in_its_loader_is_told_to_have_loaded() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let starter = slot.starter(&program, "(void)0");
    let first = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
    let mut executed = 0;
    let killed = slot.run_and(&starter, |pid| {
        executed += 1;
        if executed == 3 {
            // It takes effect when the process goes on.
            kill(pid, libc::SIGTERM).expect("it is a tracee of ours");
        }
    });
    assert_eq!(killed.exit, Exit::Code(98));
    killed.assert_whole();
    if HOOKED {
        assert_eq!(killed.files, first.files);
    }
}

#[test]
fn a_child_whose_loader_fails_has_an_incomplete_trace() {
    if !HOOKED {
        return;
    }
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let starter = slot.starter(&program, "(void)0");
    assert_the_same_whenever_started(&mut slot, &starter, 1);
    let limits = "setrlimit(RLIMIT_NOFILE, &(struct rlimit){3, 3})";
    let starter = slot.starter(&program, limits);
    let failed = slot.run(&starter);
    assert_eq!(failed.exit, Exit::Code(127));
    // The first time it was known what would happen, and the second time no longer.
    let [Doubt::Backend(missing)] = &failed.doubts[..] else {
        panic!("{:?}", failed.doubts);
    };
    assert!(missing.contains("ended before it was done"), "{missing}");
    assert_eq!(slot.known_of_descendants(), 0);
}

/// A loader runs code that picks an implementation. It may do anything.
#[test]
fn what_a_loader_creates_is_watched() {
    const SOURCE: &str = "#include <spawn.h>\n#include <stddef.h>\n#include <sys/syscall.h>\n\
        static long call(long n, long a, long b, long c) {\n\
            long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"0\"(n), \"D\"(a), \"S\"(b), \"d\"(c)\n\
                : \"rcx\", \"r11\", \"memory\"); return r;\n\
        }\n\
        static int picked(void) { return 0; }\n\
        static void *pick(void) {\n\
            if (call(SYS_fork, 0, 0, 0) == 0) {\n\
                call(SYS_open, (long)\"/missing-in-child\", 0, 0);\n\
                call(SYS_exit_group, 0, 0, 0);\n\
            }\n\
            call(SYS_wait4, -1, 0, 0);\n\
            return picked;\n\
        }\n\
        int answer(void) __attribute__((ifunc(\"pick\")));\n\
        int main(void) { return answer(); }";
    if !HOOKED {
        return;
    }
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("picks", SOURCE, &["-Wl,-z,now"]);
    let starter = slot.starter(&program, "(void)0");
    for (program, children) in [(&starter, 2), (&program, 1)] {
        for _ in 0..3 {
            let seen = slot.run(program);
            seen.assert_whole();
            assert_eq!(seen.exit, Exit::Code(0), "{:?}", seen.events);
            let asked = seen.of(Path::new("/missing-in-child"));
            assert_eq!(asked.len(), children, "{:?}", seen.events);
        }
    }
    assert_eq!(slot.known_of_descendants(), 0);
}

#[test]
fn a_child_finds_itself_as_it_would_be_unwatched() {
    for plain in [false, true] {
        #[cfg(target_arch = "x86_64")]
        crate::tracer::hook::PLAIN.set(plain);
        let mut slot = Slot::new(TraceLevel::Io);
        let program = slot.compile("looks", LOOKS, &["-fPIC"]);
        let starter = slot.starter(&program, "(void)0");
        let seen = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
        assert_eq!(seen.exit, Exit::Code(0), "{plain}");
    }
}

#[test]
fn a_script_has_the_loader_of_its_interpreter() {
    let mut slot = Slot::new(TraceLevel::Io);
    let script = slot.script("exit 3");
    let starter = slot.starter(&script, "(void)0");
    let seen = assert_the_same_whenever_started(&mut slot, &starter, KNOWN);
    assert_eq!(seen.exit, Exit::Code(3));
}

#[test]
fn a_child_without_a_loader_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("static", EMPTY, &["-static"]);
    let starter = slot.starter(&program, "(void)0");
    assert_the_same_whenever_started(&mut slot, &starter, 0);
}

#[test]
fn a_child_that_ignores_or_blocks_traps_goes_on_doing_so() {
    let looks = "#include <signal.h>\n\
        int main(void) {\n\
            sigset_t blocked; struct sigaction trap;\n\
            sigprocmask(SIG_SETMASK, 0, &blocked);\n\
            sigaction(SIGTRAP, 0, &trap);\n\
            return (trap.sa_handler == SIG_IGN) + 2 * sigismember(&blocked, SIGTRAP);\n\
        }";
    let ignores = "signal(SIGTRAP, SIG_IGN)";
    let blocks = "sigset_t set; sigemptyset(&set); sigaddset(&set, SIGTRAP); sigprocmask(SIG_BLOCK, &set, 0)";
    for (first, expected) in [(ignores, 1), (blocks, 2)] {
        let mut slot = Slot::new(TraceLevel::Io);
        let program = slot.compile("looks", looks, &[]);
        let starter = slot.starter(&program, first);
        let seen = assert_the_same_whenever_started(&mut slot, &starter, 0);
        assert_eq!(seen.exit, Exit::Code(expected));
    }
}

/// Its own filters would be suspended as well.
#[test]
fn a_child_with_filters_of_its_own_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let allows = "struct sock_filter allow = {BPF_RET, 0, 0, SECCOMP_RET_ALLOW}; \
        struct sock_fprog filter = {1, &allow}; \
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)";
    let starter = slot.starter(&program, allows);
    for _ in 0..5 {
        let seen = slot.run(&starter);
        assert_eq!(seen.exit, Exit::Code(0));
        assert!(seen.of(&slot.path("first/libc.so.6")).len() >= 2);
    }
    assert_eq!(slot.known_of_descendants(), 0);
}

/// Only it knows what it is refused.
#[test]
fn a_child_that_is_confined_is_watched_each_time() {
    let mut slot = Slot::new(TraceLevel::Io);
    let opens = "#include <errno.h>\n#include <fcntl.h>\n\
        int main(void) { open(\"/etc/passwd\", O_RDONLY); return errno; }";
    let program = slot.compile("opens", opens, &[]);
    // It may still execute, and read what is below /usr and /lib.
    let confines = "struct landlock_ruleset_attr what = {LANDLOCK_ACCESS_FS_READ_FILE}; \
        int rules = syscall(SYS_landlock_create_ruleset, &what, sizeof what, 0); \
        if (rules < 0) return 97; \
        const char *allowed[] = {\"/usr\", \"/lib64\", FOLDER}; \
        for (int i = 0; i < 3; i++) { \
            struct landlock_path_beneath_attr rule = \
                {LANDLOCK_ACCESS_FS_READ_FILE, open(allowed[i], O_PATH)}; \
            syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0); \
        } \
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); \
        if (syscall(SYS_landlock_restrict_self, rules, 0)) return 96";
    let confines = confines.replace("FOLDER", &format!("{:?}", slot.folder.path()));
    let starter = slot.starter(&program, &confines);
    let seen = slot.run(&starter);
    if seen.exit == Exit::Code(97) {
        println!("a_child_that_is_confined_is_watched_each_time: skipped, without landlock(7)");
        return;
    }
    for _ in 0..4 {
        let seen = slot.run(&starter);
        assert_eq!(seen.exit, Exit::Code(libc::EACCES));
        let asked = seen.of(Path::new("/etc/passwd"));
        let refused = |call: &&FileCall| call.result == CallResult::Err(libc::EACCES);
        assert_eq!(
            asked.iter().copied().filter(refused).count(),
            2,
            "{asked:?}"
        );
    }
    assert_eq!(slot.known_of_descendants(), 0);
}
