//! A test process that handles SIGCHLD carelessly. A program of its own, since it is the whole process
//! that does so.

#![allow(unsafe_code)]

use harness_payload::{Payload, Status};

const SHELL: Payload = Payload::new("shell", "sh").args(&["-c"]);

fn every_status_is_right() {
    for code in [0, 3] {
        let report = SHELL
            .invoke()
            .arg(format!("exit {code}"))
            .any_exit()
            .run()
            .expect("it starts");
        assert_eq!(report.status, Status::Exited(code));
    }
    let error = SHELL
        .invoke()
        .program("/dev/null")
        .run()
        .expect_err("it is no program");
    assert!(error.to_string().contains("`/dev/null`"), "{error}");
    let folder = SHELL.invoke().arg("exit 0").cwd("/no/such/folder").run();
    assert!(folder.is_err());
}

#[test]
fn a_careless_parent_gets_every_status() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    every_status_is_right();
    // SAFETY: the default action runs no code.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    // Another thread reaps every child of the process.
    std::thread::spawn(|| {
        loop {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) };
        }
    });
    for _ in 0..20 {
        every_status_is_right();
    }
}
