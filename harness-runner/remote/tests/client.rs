//! The client against an engine in this process that fails as the test wants.

use harness_remote::{
    Action, Client, ConnectError, Content, Done, Failure, Input, Settings, Tls, Token,
    engine::{Authority, Behaviour, LocalEngine, ServerTls, State},
};
use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    time::Duration,
};

fn engine(behaviour: Behaviour) -> (Arc<State>, LocalEngine) {
    let state = Arc::new(State::new(behaviour));
    let engine = LocalEngine::start(&state, None).expect("there is a port");
    (state, engine)
}

fn settings(engine: &LocalEngine) -> Settings {
    Settings {
        address: engine.address(),
        ..Settings::default()
    }
}

/// An action whose command is a shell script.
fn action(script: &str) -> Action {
    let script = format!("#!/bin/sh\n{script}\n");
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("script");
    fs::write(&file, script).expect("it can be written");
    let from = file.clone();
    // It is read when the action is executed.
    std::mem::forget(folder);
    let script = Input {
        path: "bin/script".to_owned(),
        content: Content::File {
            from,
            executable: true,
        },
    };
    Action {
        arguments: vec!["bin/script".to_owned()],
        inputs: vec![script],
        outputs: vec!["out".to_owned()],
        patience: Duration::from_secs(60),
        tries: 3,
        ..Action::default()
    }
}

fn bytes(path: &str, content: &[u8]) -> Input {
    Input {
        path: path.to_owned(),
        content: Content::Bytes(content.into()),
    }
}

fn execute(client: &Client, action: Action) -> Result<Done, Failure> {
    let (tell, told) = mpsc::channel();
    let _execution = client.execute(action, move |done| drop(tell.send(done)));
    told.recv_timeout(Duration::from_secs(120))
        .expect("there is an answer")
}

fn connected(engine: &LocalEngine) -> Client {
    Client::connect(&settings(engine)).expect("it is there")
}

#[test]
fn an_action_has_its_inputs_and_leaves_its_outputs() {
    let (state, engine) = engine(Behaviour::default());
    let client = connected(&engine);
    let with_input = || {
        let mut action = action("test -d empty && cat deep/er/in > out; echo why >&2; exit 3");
        action.inputs.push(bytes("deep/er/in", b"hello"));
        action.inputs.push(Input {
            path: "empty".to_owned(),
            content: Content::Folder,
        });
        action
    };
    let done = execute(&client, with_input()).expect("it is executed");
    assert_eq!(
        (done.exit_code, done.outputs["out"].as_slice()),
        (3, &b"hello"[..])
    );
    assert_eq!(done.stderr, b"why\n");
    assert!(done.earlier.is_empty(), "{:?}", done.earlier);
    // Nothing of it is uploaded a second time.
    let uploaded = state.counts.uploaded.load(Ordering::SeqCst);
    let again = execute(&connected(&engine), with_input()).expect("it is executed");
    assert_eq!((again.uploaded, again.exit_code), (0, 3));
    assert_eq!(state.counts.uploaded.load(Ordering::SeqCst), uploaded);
    assert_eq!(
        state.counts.executed.load(Ordering::SeqCst),
        2,
        "no result is taken from a cache"
    );
}

#[test]
fn messages_keep_to_a_limit_of_64_kib_in_both_directions() {
    let (state, engine) = engine(Behaviour {
        batch: 65_536,
        ..Behaviour::default()
    });
    let mut large = action("cat big small-* > out");
    large.inputs.push(bytes("big", &vec![b'x'; 300_000]));
    for number in 0..40 {
        large.inputs.push(bytes(
            &format!("small-{number}"),
            format!("{number:>5000}").as_bytes(),
        ));
    }
    let done = execute(&connected(&engine), large).expect("it is executed");
    assert_eq!(done.outputs["out"].len(), 300_000 + 40 * 5000);
    assert_eq!(
        state.counts.streams.load(Ordering::SeqCst),
        1,
        "small ones go together"
    );
}

#[test]
fn a_broken_connection_is_taken_up_again_and_the_action_runs_once() {
    let (state, engine) = engine(Behaviour {
        breaks: 1.into(),
        ..Behaviour::default()
    });
    let done = execute(&connected(&engine), action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");
    assert_eq!(state.counts.executed.load(Ordering::SeqCst), 1);
    assert_eq!(done.earlier.len(), 1);
    assert!(
        done.earlier[0].starts_with("the connection broke: "),
        "{:?}",
        done.earlier
    );
}

#[test]
fn an_action_that_an_engine_has_forgotten_is_submitted_again() {
    let behaviour = Behaviour {
        breaks: 1.into(),
        forgets: true,
        ..Behaviour::default()
    };
    let (_, engine) = engine(behaviour);
    let done = execute(&connected(&engine), action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");
    assert!(
        done.earlier[1].starts_with("the engine has lost the action: "),
        "{:?}",
        done.earlier
    );
}

#[test]
fn inputs_that_an_engine_has_lost_are_uploaded_again() {
    let (state, engine) = engine(Behaviour {
        evicts: 1.into(),
        ..Behaviour::default()
    });
    let done = execute(&connected(&engine), action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");
    assert_eq!(done.earlier.len(), 1, "{:?}", done.earlier);
    assert_eq!(state.counts.executed.load(Ordering::SeqCst), 1);
}

#[test]
fn an_engine_that_fails_is_asked_again_up_to_the_limit() {
    let (_, twice) = engine(Behaviour {
        fails: 2.into(),
        ..Behaviour::default()
    });
    let done = execute(&connected(&twice), action("echo x > out")).expect("the third time");
    assert_eq!(done.earlier.len(), 2);
    let (_, always) = engine(Behaviour {
        fails: 9.into(),
        ..Behaviour::default()
    });
    let failure = execute(&connected(&always), action("echo x > out")).expect_err("never");
    assert_eq!(failure.earlier.len(), 2);
    let expected = "executing the action: the engine answered Internal (a worker was lost)";
    assert_eq!(failure.message, expected);
}

#[test]
fn other_bytes_than_those_of_an_output_are_no_result() {
    let (_, engine) = engine(Behaviour {
        garbles: 1.into(),
        ..Behaviour::default()
    });
    let done = execute(&connected(&engine), action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");
    assert_eq!(
        done.earlier,
        ["the engine sent other bytes than those of the output `out`"]
    );
}

#[test]
fn an_output_that_is_not_there_is_not_made_up() {
    let (_, engine) = engine(Behaviour {
        loses: vec!["out".to_owned()],
        ..Behaviour::default()
    });
    let done = execute(&connected(&engine), action("echo x > out")).expect("it is executed");
    assert!(done.outputs.is_empty());
}

#[test]
fn rejected_properties_are_told_at_once() {
    let (_, engine) = engine(Behaviour {
        plain: true,
        ..Behaviour::default()
    });
    let mut wants = action("echo x > out");
    wants
        .properties
        .insert("OSFamily".to_owned(), "linux".to_owned());
    let failure = execute(&connected(&engine), wants).expect_err("it is rejected");
    assert!(
        failure
            .message
            .contains("there is no worker with these properties"),
        "{failure}"
    );
    assert!(
        failure.earlier.is_empty(),
        "it is not tried again: {:?}",
        failure.earlier
    );
}

#[test]
fn an_action_that_never_ends_is_given_up_and_cancelled() {
    let (state, engine) = engine(Behaviour {
        hangs: 9.into(),
        ..Behaviour::default()
    });
    let mut hangs = action("true");
    (hangs.patience, hangs.tries) = (Duration::from_millis(300), 1);
    let failure = execute(&connected(&engine), hangs).expect_err("it has no end");
    assert!(
        failure
            .message
            .starts_with("the engine has not finished the action within 0.3 s"),
        "{failure}"
    );
    wait_for(|| state.counts.cancelled.load(Ordering::SeqCst) == 1);
}

/// Waits until something is so.
fn wait_for(mut holds: impl FnMut() -> bool) {
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(
            std::time::Instant::now() < limit,
            "it is not so within a minute"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_engine_that_is_killed_and_started_again_has_the_action_again() {
    let (state, first) = engine(Behaviour::default());
    let (at, client) = (first.at(), connected(&first));
    let mut patient = action("echo x > out");
    patient.tries = 30;
    execute(&client, patient.clone()).expect("it is executed");
    drop(first);
    let (tell, told) = mpsc::channel();
    let _execution = client.execute(patient, move |done| drop(tell.send(done)));
    let _second = LocalEngine::start(&state, Some(at)).expect("the port is free again");
    let done = told
        .recv_timeout(Duration::from_secs(120))
        .expect("there is an answer");
    assert_eq!(done.expect("it is executed").outputs["out"], b"x\n");
    assert_eq!(state.counts.executed.load(Ordering::SeqCst), 2);
}

#[test]
fn an_engine_that_is_none_says_why_and_what_to_do() {
    let message = |settings: &Settings| {
        Client::connect(settings)
            .expect_err("it is none")
            .to_string()
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let address = format!("grpc://{}", closed.expect("there is a port"));
    let none = message(&Settings {
        address: address.clone(),
        ..Settings::default()
    });
    assert!(
        none.starts_with(&format!("no engine can be reached at `{address}`: ")),
        "{none}"
    );
    assert!(none.contains("refused"), "{none}");

    let (_, stores) = engine(Behaviour {
        stores_only: true,
        ..Behaviour::default()
    });
    let stores = message(&settings(&stores));
    assert!(
        stores.ends_with(
            "it stores results and executes nothing; the address of one that executes is needed"
        ),
        "{stores}"
    );

    let (_, plain) = engine(Behaviour::default());
    let tls = message(&Settings {
        address: plain.address().replace("grpc:", "grpcs:"),
        ..Settings::default()
    });
    assert!(
        tls.starts_with("no engine can be reached at `grpcs://"),
        "{tls}"
    );
}

#[test]
fn an_expired_token_is_read_again_once_and_never_shown() {
    let folder = tempfile::tempdir().expect("there is room");
    let file = folder.path().join("token");
    fs::write(&file, "old-s3cret").expect("it can be written");
    let token = || Mutex::new(Some("old-s3cret".to_owned()));
    let (state, engine) = engine(Behaviour {
        token: token(),
        ..Behaviour::default()
    });
    let with_token = Settings {
        token: Token::File(file.clone()),
        ..settings(&engine)
    };
    let client = Client::connect(&with_token).expect("the token is right");
    *state.behaviour.token.lock().expect("nobody panics") = Some("new-s3cret".to_owned());
    fs::write(&file, "new-s3cret").expect("it can be written");
    let done = execute(&client, action("echo x > out")).expect("the new token is right");
    assert!(
        done.earlier[0].contains("the engine does not accept the token"),
        "{:?}",
        done.earlier
    );
    *state.behaviour.token.lock().expect("nobody panics") = Some("another".to_owned());
    let failure = execute(&client, action("echo x > out")).expect_err("the token is wrong");
    let told = format!("{failure} {:?} {client:?}", failure.earlier);
    assert!(
        told.contains("the engine does not accept the token (it has expired)"),
        "{told}"
    );
    assert!(!told.contains("s3cret"), "{told}");

    let error = Client::connect(&settings(&engine)).expect_err("there is no token");
    assert!(matches!(error, ConnectError::Unusable { .. }));
    assert!(
        error
            .to_string()
            .contains("it wants a token, and none is set"),
        "{error}"
    );
}

/// An engine with TLS at 127.0.0.1, and a folder with `ca.pem`, and `caller.pem` and `stranger.pem` with keys.
fn engine_with_tls(wants_callers: bool) -> (LocalEngine, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("there is room");
    let authority = Authority::new("the tests").expect("a key can be made");
    let other = Authority::new("nobody's").expect("a key can be made");
    let vouched = |by: &Authority, name: &str| by.vouch_for(name).expect("a name");
    let (of_caller, of_stranger) = (
        vouched(&authority, "caller.test"),
        vouched(&other, "caller.test"),
    );
    fs::write(folder.path().join("ca.pem"), authority.certificate()).expect("there is room");
    fs::write(folder.path().join("other.pem"), other.certificate()).expect("there is room");
    of_caller
        .write(folder.path(), "caller")
        .expect("there is room");
    of_stranger
        .write(folder.path(), "stranger")
        .expect("there is room");
    let tls = ServerTls {
        own: vouched(&authority, "127.0.0.1"),
        callers: wants_callers.then(|| authority.certificate().to_owned()),
    };
    let (_, engine) = engine(Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    });
    (engine, folder)
}

/// Settings with one of those authorities, and maybe the certificate of a caller.
fn with_tls(
    engine: &LocalEngine,
    folder: &Path,
    ca: Option<&str>,
    caller: Option<&str>,
) -> Settings {
    let file = |name: &str, ending: &str| folder.join(format!("{name}.{ending}"));
    Settings {
        tls: Tls {
            ca: ca.map(|name| file(name, "pem")),
            certificate: caller.map(|name| file(name, "pem")),
            key: caller.map(|name| file(name, "key")),
            name: None,
        },
        ..settings(engine)
    }
}

#[test]
fn an_engine_with_tls_is_trusted_if_the_authority_vouches_for_its_name() {
    let (engine, folder) = engine_with_tls(false);
    let folder = folder.path();
    let trusting = with_tls(&engine, folder, Some("ca"), None);
    assert!(trusting.address.starts_with("grpcs://127.0.0.1:"));
    let client = Client::connect(&trusting).expect("it is trusted");
    let done = execute(&client, action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");

    let message = |settings: &Settings| Client::connect(settings).expect_err("no").to_string();
    // Neither another authority nor those of the system vouch for it.
    for ca in [Some("other"), None] {
        let told = message(&with_tls(&engine, folder, ca, None));
        assert!(told.contains("UnknownIssuer"), "{told}");
    }
    let mut named = trusting.clone();
    named.tls.name = Some("engine.test".to_owned());
    let told = message(&named);
    assert!(told.contains("engine.test"), "{told}");
    // Who speaks without TLS is told what may be missing.
    let plain = Settings {
        address: trusting.address.replace("grpcs:", "grpc:"),
        ..Settings::default()
    };
    let told = message(&plain);
    assert!(
        told.contains(&format!("it may want TLS: `{}`", trusting.address)),
        "{told}"
    );
}

#[test]
fn an_engine_that_wants_to_know_its_callers_is_shown_a_certificate() {
    let (engine, folder) = engine_with_tls(true);
    let folder = folder.path();
    let known = with_tls(&engine, folder, Some("ca"), Some("caller"));
    let client = Client::connect(&known).expect("it knows this one");
    let done = execute(&client, action("echo x > out")).expect("it is executed");
    assert_eq!(done.outputs["out"], b"x\n");
    for (caller, says) in [
        (None, "; it may want a certificate, and none is set"),
        (Some("stranger"), "; it may not accept the certificate"),
    ] {
        let unknown = with_tls(&engine, folder, Some("ca"), caller);
        let told = Client::connect(&unknown)
            .expect_err("it does not")
            .to_string();
        assert!(told.ends_with(says), "{told}");
    }
}
