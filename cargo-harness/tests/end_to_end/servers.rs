//! The examples of the page about scripts and services, each in a run: real servers among them.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use harness_metadata::exit_code;
use nix::unistd::geteuid;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// The example of the page that has this text.
fn example(part: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../site/docs/scripts.md");
    let page = fs::read_to_string(page).expect("it is there");
    let blocks = page.split("```toml\n").skip(1);
    let blocks: Vec<_> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    let found = blocks.iter().find(|block| block.contains(part));
    (*found.unwrap_or_else(|| panic!("no example has `{part}`"))).to_owned()
}

fn run(scene: &Scene, config: &str, tests: &str) -> Finished {
    let package = scene.package("examples", tests);
    scene.write("examples/.config/harness.toml", config);
    scene.run(scene.harness_in(&package, &["run"]))
}

#[test]
fn the_examples_of_the_page_run() {
    let scene = Scene::new();
    let examples = [
        "[scripts.setup.database]",
        "[scripts.wrapper.nice]",
        "RUST_LOG",
    ];
    let config: Vec<String> = examples.iter().map(|part| example(part)).collect();
    let tests = r#"
        #[test] fn db_is_there() {
            let folder = std::env::var("DB_PATH").unwrap();
            assert!(std::path::Path::new(&folder).is_dir());
        }
        #[test] fn slow_logs() { assert_eq!(std::env::var("RUST_LOG").as_deref(), Ok("debug")); }
    "#;
    run(&scene, &config.join("\n"), tests)
        .assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
    assert!(!scene.path("examples/db").exists(), "it is torn down");
}

#[test]
fn the_example_of_a_server_runs() {
    const NAME: &str = "the_example_of_a_server_runs";
    if !installed("python3", &["-c", "import http.server"]) {
        return skip(NAME, "there is no python3");
    }
    let scene = Scene::new();
    let tests = r#"
        use std::io::{Read, Write};
        #[test] fn web_answers() {
            let url = std::env::var("BASE_URL").unwrap();
            let mut server = std::net::TcpStream::connect(&url["http://".len()..]).unwrap();
            server.write_all(b"GET /src/ HTTP/1.0\r\n\r\n").unwrap();
            let mut page = String::new();
            server.read_to_string(&mut page).unwrap();
            assert!(page.contains("200 OK") && page.contains("lib.rs"), "{page}");
        }
    "#;
    run(&scene, &example("[scripts.service.web]"), tests).assert_code(exit_code::OK);
    scene.assert_no_strays();
}

#[test]
fn redis_serves_tests() {
    const NAME: &str = "redis_serves_tests";
    if !installed("redis-server", &["--version"]) || !installed("redis-cli", &["--version"]) {
        return skip(NAME, "there is no redis-server with redis-cli");
    }
    let scene = Scene::new();
    let tests = r#"
        use std::io::{BufRead, BufReader, Write};
        fn ask(question: &str) -> String {
            let url = std::env::var("REDIS_URL").unwrap();
            let mut server = std::net::TcpStream::connect(&url["redis://".len()..]).unwrap();
            server.write_all(question.as_bytes()).unwrap();
            let mut line = String::new();
            BufReader::new(server).read_line(&mut line).unwrap();
            line
        }
        #[test] fn redis_answers() { assert_eq!(ask("PING\r\n"), "+PONG\r\n"); }
        #[test] fn redis_keeps() {
            assert_eq!(ask("SET key 5\r\n"), "+OK\r\n");
            assert_eq!(ask("INCR key\r\n"), ":6\r\n");
        }
    "#;
    let config = example("[scripts.service.redis]");
    run(&scene, &config, tests)
        .assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
    scene.assert_no_strays();
    let crash = r#"#[test] fn redis_crashes() {
        use std::io::{Read, Write};
        let url = std::env::var("REDIS_URL").unwrap();
        let mut server = std::net::TcpStream::connect(&url["redis://".len()..]).unwrap();
        server.write_all(b"SHUTDOWN NOSAVE\r\n").unwrap();
        let _ = server.read_to_end(&mut Vec::new());
        loop { std::thread::sleep(std::time::Duration::from_secs(1)); }
    }"#;
    run(&scene, &config, crash)
        .assert_code(exit_code::TEST_RUN_FAILED)
        .assert_says("`redis` ended with exit code 0 while tests wanted it")
        .assert_says("bye bye");
}

/// The newest PostgreSQL of Debian's packages.
fn postgres() -> Option<String> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    let found = programs.filter(|bin| bin.join("initdb").exists()).max()?;
    Some(found.to_str()?.to_owned())
}

/// Makes `initdb` and `postgres` that run as another user: PostgreSQL refuses to run as root.
fn unprivileged(scene: &Scene, bin: &str) {
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups";
    let programs = [
        (
            "initdb",
            format!("chown 65534 \"${{2%/data}}\"; exec {user} {bin}/initdb \"$@\""),
        ),
        ("postgres", format!("exec {user} {bin}/postgres \"$@\"")),
    ];
    for (name, line) in programs {
        let file = scene.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{line}\n"));
        fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("it was written");
    }
}

#[test]
fn postgresql_serves_tests() {
    const NAME: &str = "postgresql_serves_tests";
    let Some(bin) = postgres() else {
        return skip(
            NAME,
            "PostgreSQL is not installed below /usr/lib/postgresql",
        );
    };
    if geteuid().is_root() && !installed("setpriv", &["--version"]) {
        return skip(NAME, "root needs setpriv to run it as another user");
    }
    let scene = Scene::new();
    let tests = r#"
        fn ask(sql: &str) -> String {
            let url = std::env::var("DATABASE_URL").unwrap();
            let psql = std::process::Command::new("psql").args([&url, "-Atc", sql]).output().unwrap();
            assert!(psql.status.success(), "{psql:?}");
            String::from_utf8(psql.stdout).unwrap()
        }
        #[test] fn db_counts() { assert_eq!(ask("select 20 + 22"), "42\n"); }
        #[test] fn db_keeps() {
            ask("create table kept (n int)");
            ask("insert into kept values (7)");
            assert_eq!(ask("select n from kept"), "7\n");
        }
    "#;
    let package = scene.package("examples", tests);
    scene.write(
        "examples/.config/harness.toml",
        &example("[scripts.service.postgres]"),
    );
    let mut command = scene.harness_in(&package, &["run"]);
    if geteuid().is_root() {
        unprivileged(&scene, &bin);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", scene.path("bin").display()));
    }
    scene
        .run(command)
        .assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
    scene.assert_no_strays();
}
