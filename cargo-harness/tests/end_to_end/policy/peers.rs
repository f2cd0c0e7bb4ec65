//! Tests that use the network.

pub(super) const PEERS: &str = r#"
use std::{
    env, io,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixListener, UnixStream},
    process::Command,
    thread,
};

fn port(name: &str) -> (&'static str, u16) {
    ("127.0.0.1", env::var(name).unwrap().parse().unwrap())
}

/// Fails unless a peer was reached, or was denied, as it is to be.
#[track_caller]
fn expect<T>(result: io::Result<T>) {
    let found = match result {
        Ok(_) => "reached",
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => "denied",
        Err(error) => panic!("{error}"),
    };
    assert_eq!(found, env::var("EXPECT").unwrap());
}

#[test]
fn by_tcp() {
    expect(TcpStream::connect(port("TCP")));
}

#[test]
fn by_tcp_in_a_thread() {
    thread::spawn(|| expect(TcpStream::connect(port("TCP")))).join().unwrap();
}

#[test]
fn by_tcp_in_a_grandchild() {
    let own = env::current_exe().unwrap();
    let script = "sh -c '\"$0\" --exact by_tcp && true' \"$0\"";
    assert!(Command::new("sh").arg("-c").arg(script).arg(own).status().unwrap().success());
}

#[test]
fn by_udp() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    expect(socket.send_to(b"x", port("UDP")));
    expect(UdpSocket::bind("127.0.0.1:0").unwrap().connect(port("UDP")));
}

#[test]
fn by_a_unix_socket() {
    expect(UnixStream::connect(env::var("SOCKET").unwrap()));
}

#[test]
fn within_its_own_tree() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(server.local_addr().unwrap()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    let path = env::temp_dir().join(format!("own-{}", std::process::id()));
    let _server = UnixListener::bind(&path).unwrap();
    UnixStream::connect(&path).unwrap();
    std::fs::remove_file(path).unwrap();
}
"#;
