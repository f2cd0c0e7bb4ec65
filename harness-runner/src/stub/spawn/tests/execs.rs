//! The events of programs that a test executes: path, arguments, and changes of the environment.

use super::*;
use crate::{
    sys::{read_memory, stack_pointer},
    tracer::decode::Vectors,
};
use harness_metadata::RawString;
use std::os::unix::fs::symlink;

/// Tries to execute each of some paths in a child by vfork(2), one after the other, as execvp(3) does.
const EXECUTES: &str = "#define _GNU_SOURCE\n\
    #include <fcntl.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/wait.h>\n#include <unistd.h>\n\
    static int run(const char **paths, char **args, char **environment) {\n\
        pid_t pid = vfork(); int status;\n\
        if (pid == 0) {\n\
            for (; *paths; paths++) execve(*paths, args, environment);\n\
            _exit(127);\n\
        }\n\
        waitpid(pid, &status, 0);\n\
        return WIFEXITED(status) ? WEXITSTATUS(status) : 98;\n\
    }\n\
    int main(void) { BODY; }";

/// The levels that report programs: without their calls, and with them.
const LEVELS: [TraceLevel; 2] = [TraceLevel::Process, TraceLevel::Io];

impl Slot {
    /// Runs a program with this as its `main`, and returns what it executed.
    fn execs_of(&mut self, body: &str) -> (Exit, Vec<Exec>) {
        self.execs_of_and(body, |_| ())
    }

    fn execs_of_and(&mut self, body: &str, executed: impl FnMut(sys::Pid)) -> (Exit, Vec<Exec>) {
        let source = EXECUTES.replace("BODY", body);
        let program = self.compile("executes", &source, &["-static"]);
        let seen = self.run_and(&program, executed);
        let foreign = |doubt: &Doubt| *doubt == Doubt::ForeignArchitecture;
        assert!(seen.doubts.iter().all(foreign), "{:?}", seen.doubts);
        let (root, execs) = seen.execs.split_first().expect("the root's own");
        assert_eq!(root.program.asked, raw(&program));
        (seen.exit, execs.to_vec())
    }
}

fn raw(path: &Path) -> RawString {
    path.as_os_str().as_bytes().into()
}

fn texts(strings: &[RawString]) -> Vec<String> {
    strings.iter().map(ToString::to_string).collect()
}

fn set(exec: &Exec) -> Vec<(String, String)> {
    let variables = exec.environment.set.iter();
    variables
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn p8_p17_a_search_in_path_is_told_with_arguments_and_environment() {
    for level in LEVELS {
        let mut slot = Slot::new(level);
        let program = slot.compile("empty", EMPTY, &[]);
        let libraries = slot.environment.trim_end_matches('\0').to_owned();
        let data = slot.path("data");
        fs::write(&data, "no program").expect("it can be written");
        let (exit, execs) = slot.execs_of(&format!(
            "const char *paths[] = {{\"/none/empty\", {data:?}, \"missing\", {program:?}, 0}};\
             char *args[] = {{\"empty\", \"\", \"b c\", 0}};\
             char *environment[] = {{\"B=2\", \"A=x=y\", \"B=3\", {libraries:?}, 0}};\
             int status = run(paths, args, environment);\
             environment[3] = 0;\
             return status | run(paths, args, environment)"
        ));
        assert_eq!(exit, Exit::Code(0), "{execs:?}");
        let (failed, done): (Vec<_>, Vec<_>) =
            execs.iter().partition(|exec| exec.result.error().is_some());
        for exec in &execs {
            assert_eq!(texts(&exec.args), ["empty", "", "b c"]);
            assert_eq!(exec.cwd, raw(slot.folder.path()));
            assert!(!exec.truncated);
        }
        let [first, second] = done[..] else {
            panic!("{execs:?}");
        };
        let changed = [pair("A", "x=y"), pair("B", "2")];
        assert_eq!(
            (set(first), set(second)),
            (changed.to_vec(), changed.to_vec())
        );
        assert_eq!(texts(&first.environment.unset), [""; 0]);
        assert_eq!(texts(&second.environment.unset), ["LD_LIBRARY_PATH"]);
        if level == TraceLevel::Process {
            assert_eq!(failed.len(), 0);
            continue;
        }
        let missing = CallResult::Err(libc::ENOENT);
        let denied = CallResult::Err(libc::EACCES);
        let results: Vec<_> = failed.iter().map(|exec| exec.result).collect();
        assert_eq!(results, [missing, denied, missing].repeat(2));
        assert_eq!(failed[2].program.path(), &raw(&slot.path("missing")));
        for exec in failed {
            assert_eq!(exec.environment, Default::default());
        }
    }
}

/// Facts that are read from the stack, else from /proc.
#[test]
fn what_a_new_stack_says_is_what_proc_says() {
    let mut slot = Slot::new(TraceLevel::Process);
    let program = slot.compile("empty", EMPTY, &[]);
    let mut compared = 0;
    let body = format!(
        "const char *paths[] = {{{program:?}, 0}}; char *environment[] = {{\"A=1\", \"A=\", \"\", 0}};\
         char *some[] = {{\"empty\", \"\", \"b c\", 0}}; char *none[] = {{0}};\
         return run(paths, some, environment) | run(paths, none, environment + 3)"
    );
    let (exit, _) = slot.execs_of_and(&body, |pid| {
        let mut stack = vec![0; Vectors::STACK];
        let address = stack_pointer(Tid::new(pid)).expect("it is stopped");
        let read = read_memory(pid, address, &mut stack).expect("it is there");
        let proc = |name| fs::read(format!("/proc/{pid}/{name}")).expect("it can be read");
        assert_eq!(
            Vectors::on_stack(address, &stack[..read]),
            Some(Vectors::in_blocks(
                Some(&proc("cmdline")),
                Some(proc("environ"))
            ))
        );
        compared += 1;
    });
    assert_eq!((exit, compared), (Exit::Code(0), 3));
}

/// The observer makes the program as soon as it hears that it is missing, which is too late for the call.
#[test]
fn a_program_that_appears_after_its_exec_has_failed_is_still_missing() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let late = slot.path("late");
    let mut told = 0;
    let body = format!(
        "const char *paths[] = {{{late:?}, 0}}; char *args[] = {{\"late\", \"-x\", 0}};\
         char *environment[] = {{\"A=1\", 0}};\
         return run(paths, args, environment)"
    );
    let (exit, execs) = slot.execs_of_and(&body, |_| {
        told += 1;
        if told == 2 {
            fs::hard_link(&program, &late).expect("it can be made");
        }
    });
    assert_eq!(exit, Exit::Code(127));
    let [missing] = &execs[..] else {
        panic!("{execs:?}");
    };
    assert_eq!(missing.result, CallResult::Err(libc::ENOENT));
    assert_eq!(missing.program.asked, raw(&late));
    assert_eq!(texts(&missing.args), ["late", "-x"]);
    assert!(missing.inherited.is_empty() && set(missing).is_empty());
}

#[test]
fn p20_a_script_is_told_with_the_arguments_of_its_call() {
    let mut slot = Slot::new(TraceLevel::Io);
    let script = slot.script("exit 3");
    let (exit, execs) = slot.execs_of(&format!(
        "const char *paths[] = {{{script:?}, 0}}; char *args[] = {{\"zero\", \"-x\", 0}};\
         char *environment[] = {{\"A=1\", 0}};\
         return run(paths, args, environment)"
    ));
    assert_eq!(exit, Exit::Code(3));
    let [exec] = &execs[..] else {
        panic!("{execs:?}");
    };
    assert_eq!(texts(&exec.args), ["zero", "-x"]);
    assert_eq!(set(exec), [pair("A", "1")]);
    assert_eq!(texts(&exec.environment.unset), ["LD_LIBRARY_PATH"]);
}

#[test]
fn p21_of_what_fits_nowhere_the_beginning_is_told() {
    for level in LEVELS {
        let mut slot = Slot::new(level);
        let program = slot.compile("empty", EMPTY, &[]);
        let (exit, execs) = slot.execs_of(&format!(
            "const char *paths[] = {{{program:?}, 0}};\
             char *args[] = {{\"empty\", \"-x\", 0}}; char *environment[] = {{\"A=1\", 0, 0}};\
             char *large = malloc(100001); memset(large, 'x', 100000); large[100000] = 0;\
             args[1] = large; if (run(paths, args, environment)) return 1;\
             args[1] = \"-x\"; environment[1] = large; return run(paths, args, environment)"
        ));
        assert_eq!(exit, Exit::Code(0));
        let [large_args, large_environment] = &execs[..] else {
            panic!("{level:?}: {execs:?}");
        };
        let sizes: Vec<_> = large_args
            .args
            .iter()
            .map(|arg| arg.as_bytes().len())
            .collect();
        assert_eq!(sizes, [5, 64 * 1024 - 6], "{level:?}");
        assert!(large_args.truncated);
        assert_eq!(set(large_args), [pair("A", "1")]);
        assert_eq!(texts(&large_args.environment.unset), ["LD_LIBRARY_PATH"]);

        assert!(large_environment.truncated);
        assert_eq!(texts(&large_environment.args), ["empty", "-x"]);
        assert_eq!(
            large_environment.environment.set[0],
            ("A".into(), "1".into())
        );
        assert_eq!(texts(&large_environment.environment.unset), [""; 0]);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn p18_a_32_bit_program_is_told_with_its_arguments() {
    const EXITS: &str = "void _start(void) {\n\
        __asm__ volatile(\"int $0x80\" : : \"a\"(1), \"b\"(42)); for (;;);\n\
        }";
    let args = ["-m32", "-nostdlib", "-static", "-fno-pic", "-no-pie"];
    for level in LEVELS {
        let mut slot = Slot::new(level);
        let program = slot.compile("short", EXITS, &args);
        let (exit, execs) = slot.execs_of(&format!(
            "const char *paths[] = {{{program:?}, 0}}; char *args[] = {{\"short\", \"-x\", 0}};\
             char *environment[] = {{\"A=1\", 0}};\
             return run(paths, args, environment)"
        ));
        if exit == Exit::Code(127) {
            println!(
                "p18_a_32_bit_program_is_told_with_its_arguments: skipped, they are not run here"
            );
            return;
        }
        assert_eq!(exit, Exit::Code(42));
        let [exec] = &execs[..] else {
            panic!("{level:?}: {execs:?}");
        };
        assert_eq!(texts(&exec.args), ["short", "-x"]);
        assert_eq!(set(exec), [pair("A", "1")]);
        assert_eq!(texts(&exec.environment.unset), ["LD_LIBRARY_PATH"]);
    }
}

#[test]
fn a_link_to_a_descriptor_leads_to_that_of_the_task() {
    let mut slot = Slot::new(TraceLevel::Io);
    let program = slot.compile("empty", EMPTY, &[]);
    let link = slot.path("link");
    symlink("/proc/self/fd/99", &link).expect("it is new");
    let body = format!(
        "const char *paths[] = {{{link:?}, 0}}; char *args[] = {{\"empty\", 0}};\
         dup2(open({program:?}, O_RDONLY), 99);\
         return run(paths, args, args + 1)"
    );
    let (exit, execs) = slot.execs_of(&body);
    assert_eq!(exit, Exit::Code(0));
    let [exec] = &execs[..] else {
        panic!("{execs:?}");
    };
    assert_eq!(exec.program.asked, raw(&link));
    assert_eq!(exec.result, CallResult::Ok(0));
    assert_eq!(exec.interpreters.len(), 1, "the loader: {exec:?}");
}
