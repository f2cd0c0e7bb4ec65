//! Tests that use what a policy allows or does not.

pub(super) const SUITE: &str = r#"
use std::{
    env, fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{fs::PermissionsExt, net::{SocketAddr, UnixListener, UnixStream}},
    },
    path::PathBuf,
    process::Command,
    thread,
};

fn secret(name: &str) -> PathBuf {
    PathBuf::from(env::var_os("SECRETS").unwrap()).join(name)
}

fn source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn uses_what_is_allowed() {
    assert_eq!(fs::read(source("data.txt")).unwrap(), b"data");
    let own = env::temp_dir().join(format!("own-{}", std::process::id()));
    fs::create_dir(&own).unwrap();
    fs::write(own.join("a"), "a").unwrap();
    fs::rename(own.join("a"), own.join("b")).unwrap();
    fs::remove_dir_all(&own).unwrap();
    assert!(Command::new("true").status().unwrap().success());
    assert!(
        Command::new("sh")
            .args(["-c", "cat /etc/passwd >/dev/null"])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn reads_a_secret() {
    fs::read(secret("secret")).unwrap();
}

#[test]
fn a_denied_read_may_be_ignored() {
    let _ = fs::read(secret("secret"));
}

#[test]
fn a_thread_reads_a_secret() {
    thread::spawn(|| fs::read(secret("secret")))
        .join()
        .unwrap()
        .unwrap();
}

#[test]
fn a_grandchild_reads_a_secret() {
    let script = "sh -c 'cat \"$SECRETS/secret\" && true'";
    assert!(
        Command::new("sh")
            .args(["-c", script])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn writes_to_the_source() {
    let new = source("new.txt");
    fs::write(&new, "new").unwrap();
    fs::remove_file(&new).unwrap();
}

#[test]
fn renames_a_source() {
    let (old, new) = (source("data.txt"), source("other.txt"));
    fs::rename(&old, &new).unwrap();
    fs::rename(&new, &old).unwrap();
}

#[test]
fn lists_a_folder() {
    assert!(fs::read_dir(secret("")).unwrap().count() > 0);
}

#[test]
fn runs_a_program() {
    assert!(Command::new(secret("tool")).status().unwrap().success());
}

#[test]
fn changes_a_mode() {
    let changed = fs::set_permissions(secret("secret"), fs::Permissions::from_mode(0o644));
    // Another user's file is out of reach with and without a policy.
    assert!(changed.is_ok() || changed.unwrap_err().kind() == io::ErrorKind::PermissionDenied);
}

fn connects_to(name: &str) {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
}

#[test]
fn connects_to_an_abstract_name_outside() {
    connects_to(&env::var("OUTSIDE").unwrap());
}

#[test]
fn connects_to_an_abstract_name_of_its_own() {
    let name = format!("own-{}", std::process::id());
    let _listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    connects_to(&name);
}

#[test]
fn ends_a_process_outside() {
    unsafe extern "C" {
        fn getppid() -> i32;
        fn kill(pid: i32, signal: i32) -> i32;
    }
    // Signal 0 only asks whether a signal could be sent.
    assert_eq!(unsafe { kill(getppid(), 0) }, -1);
    assert_eq!(unsafe { kill(std::process::id() as i32, 0) }, 0);
}
"#;
