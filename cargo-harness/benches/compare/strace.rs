//! Compares what tracing adds to a run with what strace(1) adds to it when it watches the same calls,
//! which it stops by a filter as well.

use crate::{contender::Contender, environment::installed, workload::Workload};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

pub(crate) const NAME: &str = "strace";

/// The tests that are run: strace takes its time.
const TESTS: &str = "test(/^empty_0[01]/)";
const COUNT: f64 = 200.0;

/// The calls that are watched at the level `io`. A question mark: where there is such a call.
const CALLS: &str = "trace=\
    ?open,openat,?openat2,?creat,execve,execveat,chdir,fchdir,chroot,?rename,?renameat,?renameat2,\
    ?link,linkat,?symlink,symlinkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?mknod,mknodat,\
    truncate,?chmod,fchmod,fchmodat,?chown,?lchown,fchown,fchownat,?utime,?utimes,?futimesat,\
    utimensat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,\
    mount,umount2,pivot_root,?move_mount,?mount_setattr,connect,bind,listen,accept,accept4,sendto,\
    sendmsg,sendmmsg,clone,?clone3,prctl,seccomp,ptrace,process_vm_readv,process_vm_writev,\
    unshare,setns,shmget,semget,msgget,?io_uring_setup,?pidfd_getfd,open_by_handle_at,bpf,\
    perf_event_open,?userfaultfd,keyctl,add_key,request_key,mq_open";

/// The tracer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Tracer {
    Nobody,
    Harness,
    /// One strace for every test, which is how every test gets a trace of its own.
    OfEach,
    /// One strace for the whole run, with all tests in one trace.
    OfAll,
}

impl Tracer {
    const ALL: [Self; 4] = [Self::Nobody, Self::Harness, Self::OfEach, Self::OfAll];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "harness, trace off",
            Self::Harness => "harness, trace io",
            Self::OfEach => "off, strace for each",
            Self::OfAll => "off, strace for all",
        }
    }

    fn command(self, workload: &Workload, traces: &Path) -> Command {
        let traces = traces.to_str().expect("the target folder is UTF-8");
        let options = ["-f", "--seccomp-bpf", "-qq", "-e", CALLS];
        let contender = match self {
            Self::Harness => Contender::Io,
            _ => Contender::Off,
        };
        let mut command = contender.command(workload).expect("it is no floor");
        match self {
            Self::Nobody | Self::Harness => {}
            Self::OfEach => {
                let options = options.join(" ");
                let runner = format!("strace {options} -ff -o {traces}/each");
                command.env(runner_variable(), runner);
            }
            Self::OfAll => {
                let mut strace = Command::new("strace");
                strace.args(options).args(["-o", &format!("{traces}/all")]);
                strace.arg(command.get_program()).args(command.get_args());
                strace.current_dir(&workload.folder);
                for (name, value) in command.get_envs() {
                    match value {
                        Some(value) => strace.env(name, value),
                        None => strace.env_remove(name),
                    };
                }
                strace.stdin(std::process::Stdio::null());
                strace.stdout(std::process::Stdio::null());
                strace.stderr(std::process::Stdio::null());
                command = strace;
            }
        }
        command
    }
}

/// Prints the cost of each, compared with an untraced run.
pub(crate) fn compare(rounds: usize) {
    if !installed("strace", &["--seccomp-bpf", "-f", "true"]) {
        println!("{NAME}: left out, it is not installed or may not trace\n");
        return;
    }
    let mut workload = Workload::prepare(Workload::THOUSAND).expect("it is generated");
    workload.filter = vec!["-E", TESTS];
    let traces = workload.folder.join("target/strace");
    let mut times = Tracer::ALL.map(|_| Vec::new());
    // One more, which warms up.
    for round in 0..=rounds {
        for (tracer, times) in Tracer::ALL.into_iter().zip(&mut times) {
            let _ = fs::remove_dir_all(&traces);
            fs::create_dir_all(&traces).expect("the target folder can be written");
            let started = Instant::now();
            let status = tracer.command(&workload, &traces).status();
            let elapsed = started.elapsed();
            assert!(
                status.is_ok_and(|status| status.success()),
                "{}",
                tracer.name()
            );
            let files = fs::read_dir(&traces).expect("it was made").count();
            let expected = match tracer {
                Tracer::Nobody | Tracer::Harness => 0..=0,
                Tracer::OfEach => COUNT as usize..=usize::MAX,
                Tracer::OfAll => 1..=1,
            };
            assert!(expected.contains(&files), "{}: {files}", tracer.name());
            if round > 0 {
                times.push(elapsed);
            }
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[times.len() / 2]
    });
    println!("{NAME}: what tracing adds, {COUNT} empty tests, {rounds} rounds");
    let added = |median: Duration| median.as_secs_f64() - medians[0].as_secs_f64();
    for (tracer, median) in Tracer::ALL.into_iter().zip(medians) {
        print!("  {:<24}{:>9.3} s", tracer.name(), median.as_secs_f64());
        if tracer != Tracer::Nobody {
            print!("{:>8.0} µs added per test", added(median) / COUNT * 1e6);
            let ratio = added(median) / added(medians[1]);
            print!("{ratio:>8.2} × what the harness adds");
        }
        println!();
    }
    println!();
}

/// The variable that names cargo's runner for tests.
fn runner_variable() -> String {
    let arch = std::env::consts::ARCH.to_uppercase();
    let libc = if cfg!(target_env = "musl") {
        "MUSL"
    } else {
        "GNU"
    };
    format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_{libc}_RUNNER")
}
