//! `cargo harness` does as cargo says: each test runs both and compares, or has the case
//! from which a fault was learnt.

use crate::scene::{Finished, Scene, skip};
use harness_metadata::exit_code;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
};

/// A workspace in a scene.
struct Case {
    scene: Scene,
    variables: Vec<(String, String)>,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let scene = Scene::new();
        for (path, text) in files {
            scene.write(&format!("w/{path}"), text);
        }
        Self {
            scene,
            variables: Vec::new(),
        }
    }

    fn root(&self) -> PathBuf {
        let root = self.scene.path("w").canonicalize();
        root.expect("files were written there")
    }

    fn write(&self, path: &str, text: &str) {
        self.scene.write(&format!("w/{path}"), text);
    }

    fn executable(&self, path: &str, text: &str) {
        let path = self.scene.write(&format!("w/{path}"), text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("it is ours");
    }

    fn variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = self.scene.command(program);
        command.args(args).current_dir(self.root());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    fn harness(&self, args: &[&str]) -> Finished {
        let program = env!("CARGO_BIN_EXE_cargo-harness");
        self.scene.run(self.command(program, args))
    }

    fn cargo(&self, args: &[&str]) -> Finished {
        self.scene.run(self.command("cargo", args))
    }

    /// Runs with these arguments under cargo and under the runner; both have to pass.
    fn both_pass(&self, args: &[&str]) {
        let test = [&["test", "--offline"], args].concat();
        self.cargo(&test).assert_code(0);
        let run = [&["run", "--offline", "--no-fail-fast"], args].concat();
        self.harness(&run).assert_code(exit_code::OK);
    }

    /// Returns what the tests of this case wrote with [`DUMP`], by name, and forgets it.
    fn dumped(&self) -> BTreeMap<String, BTreeMap<String, String>> {
        let folder = self.scene.path("dump");
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(&folder).expect("tests wrote there") {
            let path = entry.expect("it can be read").path();
            let bytes = fs::read(&path).expect("it can be read");
            let text = String::from_utf8(bytes).expect("the environment is UTF-8");
            let variables = text
                .split_terminator('\0')
                .filter_map(|line| line.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()));
            let name = path.file_name().expect("it has one").to_string_lossy();
            all.insert(name.into_owned(), variables.collect());
        }
        fs::remove_dir_all(&folder).expect("it can be removed");
        all
    }

    fn dumping(files: &[(&str, &str)]) -> Self {
        let mut case = Self::new(files);
        let folder = case.scene.path("dump");
        case.variable("DUMP_TO", folder.to_str().expect("it is UTF-8"));
        case
    }
}

/// Writes the environment of a test into the folder of [`Case::dumped`].
const DUMP: &str = r#"
pub fn dump() {
    use std::os::unix::ffi::OsStrExt;
    let folder = std::env::var("DUMP_TO").unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let name = std::env::current_exe().unwrap().file_name().unwrap().to_owned();
    let mut all = Vec::new();
    for (name, value) in std::env::vars_os() {
        all.extend_from_slice(name.as_bytes());
        all.push(b'=');
        all.extend_from_slice(value.as_bytes());
        all.push(0);
    }
    std::fs::write(std::path::Path::new(&folder).join(name), all).unwrap();
}
"#;

const TEST_THAT_DUMPS: &str = "include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../dump.rs\")); #[test] fn dumps() { dump() }\n";
const MAIN_THAT_DUMPS: &str = "include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../dump.rs\")); #[test] fn dumps() { dump() }\nfn main() {}\n";

/// Packages with everything that an environment can depend on.
const EVERYTHING: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"3\"\nmembers = [\"full\", \"bare\", \"macros\"]\n",
    ),
    ("dump.rs", DUMP),
    (
        ".cargo/config.toml",
        "include = [\"more.toml\"]\n[env]\nPLAIN = \"plain\"\nKEPT = \"no\"\nFORCED = { value = \"yes\", \
         force = true }\nCARGO_PKG_NAME = { value = \"forced\", force = true }\n\
         FROM_BUILD = { value = \"forced\", force = true }\n",
    ),
    (
        ".cargo/more.toml",
        "[env]\nPLAIN = \"included\"\nMORE = { value = \"x/y\", relative = true }\n",
    ),
    (
        "full/Cargo.toml",
        "[package]\nname = \"full\"\nversion = \"1.2.3-beta.4+build.5\"\nedition = \"2024\"\n\
         authors = [\"Ann <ann@example.org>\", \"Bob\"]\ndescription = \"\"\"two\nlines\"\"\"\n\
         homepage = \"https://example.org/home\"\nrepository = \"https://example.org/code\"\n\
         license-file = \"../LICENSE\"\nrust-version = \"1.85\"\nreadme = \"../README.md\"\n\
         [build-dependencies]\nbare = { path = \"../bare\" }\n\
         [[bench]]\nname = \"speed\"\n[[example]]\nname = \"shown\"\ntest = true\n",
    ),
    ("LICENSE", ""),
    ("README.md", ""),
    (
        "full/build.rs",
        "fn main() {\nlet out = std::env::var(\"OUT_DIR\").unwrap();\n\
         println!(\"cargo::rustc-env=FROM_BUILD=yes\");\n\
         println!(\"cargo::rustc-env=CARGO_PKG_VERSION=9\");\n\
         println!(\"cargo::rustc-link-search=native={out}\");\n\
         println!(\"cargo::rustc-link-search={out}/other\");\n\
         println!(\"cargo::rustc-link-search=native=/usr/lib\");\n\
         println!(\"cargo::rerun-if-changed=build.rs\");\n}\n",
    ),
    ("full/src/lib.rs", TEST_THAT_DUMPS),
    ("full/src/bin/my-tool.rs", MAIN_THAT_DUMPS),
    ("full/src/bin/other.rs", MAIN_THAT_DUMPS),
    ("full/tests/it.rs", TEST_THAT_DUMPS),
    ("full/benches/speed.rs", TEST_THAT_DUMPS),
    ("full/examples/shown.rs", MAIN_THAT_DUMPS),
    (
        "bare/Cargo.toml",
        "[package]\nname = \"bare\"\nedition = \"2024\"\n",
    ),
    ("bare/README.md", ""),
    ("bare/src/lib.rs", TEST_THAT_DUMPS),
    (
        "macros/Cargo.toml",
        "[package]\nname = \"macros\"\nedition = \"2024\"\nlicense = \"MIT\"\n[lib]\nproc-macro = true\n",
    ),
    (
        "macros/src/lib.rs",
        "#[cfg(test)] mod tests { include!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/../dump.rs\")); #[test] fn dumps() { dump() } }\n",
    ),
    ("macros/tests/it.rs", TEST_THAT_DUMPS),
];

/// Compares what all tests saw under cargo and under the runner, variable by variable.
#[track_caller]
fn assert_same(
    cargos: &BTreeMap<String, BTreeMap<String, String>>,
    ours: &BTreeMap<String, BTreeMap<String, String>>,
) {
    let names = |all: &BTreeMap<String, _>| all.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(cargos), names(ours), "other binaries ran");
    for (binary, expected) in cargos {
        let mut found = ours[binary].clone();
        let mut expected = expected.clone();
        // Only what is the runner's own may come on top, and the page says so.
        let is_own = |name: &String| {
            ["HARNESS", "NEXTEST"]
                .iter()
                .any(|own| name.starts_with(own))
        };
        found.retain(|name, _| !is_own(name));
        expected.retain(|name, _| !is_own(name));
        found.retain(|name, value| match expected.get(name) == Some(value) {
            true => expected.remove(name).is_none(),
            false => true,
        });
        assert_eq!(
            (found, expected),
            Default::default(),
            "in {binary}, ours and cargo's"
        );
    }
}

#[test]
fn a_test_sees_exactly_the_environment_that_cargo_test_gives_it() {
    let mut case = Case::dumping(EVERYTHING);
    case.variable("KEPT", "inherited");
    case.variable("FORCED", "inherited");
    for args in [
        &["--workspace", "--all-targets"][..],
        &["--workspace", "--all-targets", "--release"],
        &["--workspace", "--all-targets", "--target", "host-tuple"],
        &["--workspace", "--config", "build.target-dir=\"elsewhere\""],
        &[
            "-p",
            "full",
            "--test",
            "it",
            "--config",
            "env.PLAIN=\"argument\"",
        ],
    ] {
        let test = [&["test", "--offline", "--no-fail-fast"], args].concat();
        case.cargo(&test).assert_code(0);
        let cargos = case.dumped();
        // Some of `cargo test` are no different from those before it, and were run all the same.
        let run = [&["run", "--offline", "--no-fail-fast"], args].concat();
        case.harness(&run).assert_code(exit_code::OK);
        assert_same(&cargos, &case.dumped());
    }
}

/// `gen` is built twice: by itself, and for a build script that wants another feature.
const TWO_UNITS: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[workspace]\nresolver = \"2\"\nmembers = [\"gen\", \"leaf\"]\n",
    ),
    (
        "gen/Cargo.toml",
        "[package]\nname = \"gen\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nbuild = []\n\
         [[test]]\nname = \"custom\"\nharness = false\n",
    ),
    (
        "gen/build.rs",
        "fn main() { let build = std::env::var_os(\"CARGO_FEATURE_BUILD\").is_some();\n\
         println!(\"cargo:rustc-env=GEN_FEATURES=build={build}\");\n\
         let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         std::fs::write(format!(\"{out}/f.txt\"), format!(\"build={build}\")).unwrap(); }\n",
    ),
    (
        "gen/src/lib.rs",
        "pub fn which() -> &'static str { env!(\"GEN_FEATURES\") }\n\
         #[test] fn out_dir() { assert_eq!(std::env::var(\"OUT_DIR\").unwrap(), env!(\"OUT_DIR\")); }\n\
         #[test] fn variable() { assert_eq!(std::env::var(\"GEN_FEATURES\").unwrap(), which()); }\n\
         #[test] fn file() { let out = std::env::var(\"OUT_DIR\").unwrap();\n\
         assert_eq!(std::fs::read_to_string(format!(\"{out}/f.txt\")).unwrap(), which()); }\n",
    ),
    // Lists what its build script says.
    (
        "gen/tests/custom.rs",
        "fn main() { let name = std::env::var(\"GEN_FEATURES\").unwrap();\n\
         assert_eq!(name, env!(\"GEN_FEATURES\"));\n\
         if std::env::args().any(|arg| arg == \"--list\") {\n\
         if !std::env::args().any(|arg| arg == \"--ignored\") { println!(\"{name}: test\") } } }\n",
    ),
    (
        "leaf/Cargo.toml",
        "[package]\nname = \"leaf\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
         [build-dependencies]\ngen = { path = \"../gen\", features = [\"build\"] }\n",
    ),
    (
        "leaf/build.rs",
        "fn main() { println!(\"cargo:rustc-env=X={}\", gen::which());\n\
         println!(\"cargo:rerun-if-changed=build.rs\"); }\n",
    ),
    (
        "leaf/src/lib.rs",
        "#[test] fn l() { assert_eq!(env!(\"X\"), \"build=true\"); }\n",
    ),
];

#[test]
fn a_package_that_is_built_twice_has_the_facts_of_the_binary_that_is_tested() {
    let case = Case::new(TWO_UNITS);
    for round in 0..5 {
        case.write("leaf/build.rs", &format!("// {round}\n{}", TWO_UNITS[6].1));
        let run = case.harness(&["run", "--offline", "--workspace", "--no-fail-fast"]);
        run.assert_code(exit_code::OK)
            .assert_says("5 tests run: 5 passed");
    }
    // Nothing is left to build, and a runner of another kind is in the way of asking.
    case.write("runner.sh", "exec \"$@\"\n");
    for runner in ["'sh runner.sh'", "['sh', 'runner.sh']"] {
        let root = case.root();
        let runner = runner.replace("runner.sh", &format!("{}/runner.sh", root.display()));
        let text = format!("[target.'cfg(unix)']\nrunner = {runner}\n");
        case.write(".cargo/config.toml", &text);
        case.both_pass(&["--workspace"]);
        let host = format!("target.{}.runner={runner}", host());
        case.both_pass(&["--workspace", "--config", &host]);
    }
    case.both_pass(&["--workspace", "--target", "host-tuple"]);
}

fn host() -> String {
    let output = crate::environment::command("rustc").arg("-vV").output();
    let text = String::from_utf8(output.expect("rustc runs").stdout).expect("it is UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("it names its host").to_owned()
}

/// A test that passes if it was run by the script that is expected.
const VIA_RUNNER: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[package]\nname = \"via\"\nedition = \"2024\"\n[workspace]\nmembers = [\"sub\"]\n",
    ),
    (
        "src/lib.rs",
        "#[test] fn via() { let v = |n| std::env::var(n).ok(); assert_eq!(v(\"VIA\"), v(\"EXPECT\")) }\n",
    ),
    (
        "sub/Cargo.toml",
        "[package]\nname = \"sub\"\nedition = \"2024\"\n",
    ),
    (
        "sub/src/lib.rs",
        "#[test] fn via() { let v = |n| std::env::var(n).ok(); assert_eq!(v(\"VIA\"), v(\"EXPECT\")) }\n",
    ),
];

#[test]
fn a_runner_is_the_one_that_cargo_takes() {
    let mut case = Case::new(VIA_RUNNER);
    let script = "#!/bin/sh\nVIA=\"$(basename \"$0\")$EXTRA\" exec \"$@\"\n";
    for name in ["one.sh", "two.sh", "with space.sh"] {
        case.executable(&format!("scripts/{name}"), script);
    }
    let variable = format!(
        "CARGO_TARGET_{}_RUNNER",
        host().to_uppercase().replace('-', "_")
    );
    let by_argument = format!("target.{}.runner=\"scripts/two.sh\"", host());
    // A path in a variable is relative to where cargo is started, although packages run elsewhere.
    case.variable(&variable, "scripts/one.sh");
    case.variable("EXPECT", "one.sh");
    case.both_pass(&["--workspace", "--lib"]);
    case.both_pass(&["--workspace", "--lib", "--target", "host-tuple"]);
    case.both_pass(&[
        "--workspace",
        "--lib",
        "--target",
        "host-tuple",
        "--target",
        &host(),
    ]);
    case.variable("EXPECT", "two.sh");
    case.both_pass(&["--workspace", "--lib", "--config", &by_argument]);
    case.variables.clear();

    case.variable("EXPECT", "with space.sh");
    case.write(
        ".cargo/config.toml",
        "include = [\"deep/more.toml\"]\n[target.'cfg(windows)']\nrunner = \"no\"\n",
    );
    // Relative to the folder above that of the included file.
    case.write(
        ".cargo/deep/more.toml",
        "[target.'cfg(all(unix, only_by_flag))']\nrunner = [\"../scripts/with space.sh\"]\n\
         [build]\nrustflags = [\"--cfg\", \"only_by_flag\"]\n",
    );
    case.both_pass(&["--workspace", "--lib"]);
}

/// A compiler that takes another target for the host's: what it builds for that can run here.
const COMPILER: &str = r#"#!/bin/sh
for word; do
    shift
    case $word in
    OTHER) word=HOST ;;
    esac
    set -- "$@" "$word"
done
exec rustc "$@"
"#;

/// Another target of the same family, whose `cfg`s the compiler then does not know either.
const OTHER: &str = "x86_64-unknown-linux-musl";

#[test]
fn tests_for_several_targets_run_each_with_the_runner_and_the_programs_of_its_target() {
    let mut case = Case::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"one\"\nedition = \"2024\"\n[workspace]\n",
        ),
        ("src/main.rs", "fn main() {}\n#[test] fn unit() {}\n"),
        (
            "tests/it.rs",
            "#[test] fn it() {\nlet (via, program) = (std::env::var(\"VIA\").unwrap(), \
             std::env::var(\"CARGO_BIN_EXE_one\").unwrap());\n\
             assert!(program.contains(&via), \"{via} {program}\");\n\
             assert!(std::env::current_exe().unwrap().to_str().unwrap().contains(&via));\n}\n",
        ),
    ]);
    let compiler = COMPILER.replace("OTHER", OTHER).replace("HOST", &host());
    case.executable("compiler.sh", &compiler);
    let compiler = case.root().join("compiler.sh");
    case.variable("RUSTC", compiler.to_str().expect("it is UTF-8"));
    let mut config = String::new();
    for target in [&host(), OTHER] {
        let script = format!("#!/bin/sh\nVIA={target} exec \"$@\"\n");
        case.executable(&format!("{target}.sh"), &script);
        config += &format!("[target.{target}]\nrunner = \"./{target}.sh\"\n");
    }
    case.write(".cargo/config.toml", &config);
    let targets = ["--target", OTHER, "--target", "host-tuple"];
    case.both_pass(&[&["--tests"], &targets[..]].concat());
    let listed = case.harness(&[&["list", "--offline", "-T", "oneline"], &targets[..]].concat());
    listed.assert_code(exit_code::OK);
    for target in [&host(), OTHER] {
        for test in ["one::bin/one@TARGET unit", "one::it@TARGET it"] {
            let line = test.replace("TARGET", target);
            assert!(listed.stdout.contains(&line), "{line}: {}", listed.stdout);
        }
    }
    // As the peer names them, where there is one target.
    let listed = case.harness(&["list", "--offline", "-T", "oneline", "--target", OTHER]);
    assert!(listed.stdout.contains("one::it it"), "{}", listed.stdout);
    // By `build.target` too, and a filterset chooses among them.
    case.write(
        ".cargo/config.toml",
        &format!("{config}[build]\ntarget = [\"{OTHER}\", \"host-tuple\"]\n"),
    );
    let run = case.harness(&["run", "--offline", "--tests", "-E", "binary_id(one::it)"]);
    run.assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
}

#[test]
fn trace_finds_the_runs_where_cargo_builds_and_no_others() {
    let case = Case::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"one\"\nedition = \"2024\"\n[workspace]\n",
        ),
        ("src/lib.rs", "#[test] fn t() {}\n"),
        ("extra.toml", "[build]\ntarget-dir = \"by-file\"\n"),
    ]);
    let shown = |variables: &[(&str, &str)], args: &[&str]| {
        let run_and_trace = ["run", "trace"].map(|subcommand| {
            let args = [&[subcommand], args, &["t"]].concat();
            let mut command = case.command(env!("CARGO_BIN_EXE_cargo-harness"), &args);
            command.envs(variables.iter().copied());
            case.scene.run(command)
        });
        let [run, trace] = run_and_trace;
        let id = run
            .stderr
            .lines()
            .find_map(|line| line.trim_start().strip_prefix("Run "));
        let id = id
            .expect("it has an id")
            .split(' ')
            .next()
            .expect("it begins the line");
        trace.assert_code(exit_code::OK);
        assert!(
            trace.stdout.contains(&format!("run {id}")),
            "{}",
            trace.stdout
        );
    };
    shown(&[], &[]);
    shown(&[("CARGO_BUILD_TARGET_DIR", "by-variable")], &[]);
    shown(&[("CARGO_TARGET_DIR", "by-other-variable")], &[]);
    shown(
        &[("CARGO_TARGET_DIR", "lost")],
        &["--target-dir", "by-flag"],
    );
    shown(&[], &["--config", "build.target-dir='by-argument'"]);
    shown(&[], &["--config", "extra.toml"]);
    case.write(".cargo/config.toml", "include = [\"more.toml\"]\n");
    case.write(".cargo/more.toml", "[build]\ntarget-dir = \"included\"\n");
    shown(&[], &[]);
    for folder in ["by-variable", "by-flag", "by-argument", "included"] {
        assert!(case.root().join(folder).is_dir(), "{folder}");
    }
    assert!(!case.root().join("lost").exists());

    // The manifest is being edited. The configuration still says where it is.
    case.write(
        "Cargo.toml",
        "[package]\nname = \"one\"\nedition = \"none\"\n[workspace]\n",
    );
    let trace = case.harness(&["trace", "t"]);
    trace
        .assert_code(exit_code::OK)
        .assert_says("are searched, though");
    case.write(
        "Cargo.toml",
        "[package]\nname = \"one\"\nedition = \"2024\"\n[workspace]\n",
    );

    // Another workspace with the same target directory, the same package and the same test.
    let other = case.scene.package("one", "#[test] fn t() {}\n");
    let mut command = case.scene.harness_in(&other, &["trace", "t"]);
    command.env("CARGO_TARGET_DIR", case.root().join("included"));
    let trace = case.scene.run(command);
    trace
        .assert_code(exit_code::NO_TESTS)
        .assert_says("only runs of `");
}

#[test]
fn an_edit_of_whatever_cargo_reads_is_seen_in_the_next_run() {
    let case = Case::new(&[
        (
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*/*\"]\n",
        ),
        (".cargo/config.toml", "include = [\"more.toml\"]\n"),
        (".cargo/more.toml", "[env]\nX = \"1\"\n"),
        (
            "crates/a/x/Cargo.toml",
            "[package]\nname = \"ax\"\nedition = \"2024\"\n",
        ),
        (
            "crates/a/x/src/lib.rs",
            "#[test] fn x() { println!(\"X={:?}\", std::env::var(\"X\")) }\n",
        ),
    ]);
    let run = || {
        case.harness(&[
            "run",
            "--offline",
            "--workspace",
            "--success-output",
            "final",
        ])
    };
    run().assert_code(exit_code::OK).assert_says("X=Ok(\"1\")");
    case.write(
        ".cargo/more.toml",
        "[env]\nX = \"2\"\n[build]\ntarget-dir = \"../elsewhere\"\n",
    );
    run().assert_code(exit_code::OK).assert_says("X=Ok(\"2\")");
    assert!(case.scene.path("elsewhere/debug").is_dir());
    case.write(
        "crates/b/y/Cargo.toml",
        "[package]\nname = \"by\"\nedition = \"2024\"\n",
    );
    case.write("crates/b/y/src/lib.rs", "#[test] fn y() {}\n");
    run()
        .assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
    // Dependencies are known where a filterset asks for them, wherever it stands.
    case.write(
        "crates/b/y/Cargo.toml",
        "[package]\nname = \"by\"\nedition = \"2024\"\n\
         [dependencies]\nax = { path = \"../../a/x\" }\n",
    );
    let list = case.harness(&[
        "list",
        "--offline",
        "--workspace",
        "-E",
        "rdeps(ax) - package(ax)",
    ]);
    list.assert_code(exit_code::OK);
    assert_eq!(list.stdout, "by y\n");
    case.write(
        ".config/harness.toml",
        "[profile.default]\ndefault-filter = \"deps(by) - package(by)\"\n",
    );
    let list = case.harness(&["list", "--offline", "--workspace"]);
    assert_eq!(list.stdout, "ax x\n");
    fs::remove_file(case.root().join(".config/harness.toml")).expect("it was written");
    let list = case.harness(&["list", "--offline", "-p", "b*"]);
    assert_eq!(list.stdout, "by y\n");
}

#[test]
fn artifact_dependencies_are_where_cargo_says() {
    const TEST: &str = "a_test_with_artifact_dependencies";
    let mut case = Case::new(&[
        (
            "Cargo.toml",
            "[workspace]\nresolver = \"2\"\nmembers = [\"main\", \"tool\"]\n",
        ),
        (
            "main/Cargo.toml",
            "[package]\nname = \"main\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [dev-dependencies]\nmy-alias = { path = \"../tool\", package = \"tool\", artifact = \"bin\" }\n",
        ),
        ("main/src/lib.rs", ""),
        (
            "main/tests/it.rs",
            "#[test] fn same() {\n\
             for (name, built) in [(\"CARGO_BIN_FILE_MY_ALIAS_my-tool\", env!(\"CARGO_BIN_FILE_MY_ALIAS_my-tool\")),\n\
             (\"CARGO_BIN_DIR_MY_ALIAS\", env!(\"CARGO_BIN_DIR_MY_ALIAS\"))] {\n\
             assert!(std::path::Path::new(built).exists());\n\
             assert_eq!(std::env::var(name).as_deref(), Ok(built)); } }\n",
        ),
        (
            "tool/Cargo.toml",
            "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [[bin]]\nname = \"my-tool\"\npath = \"src/main.rs\"\n",
        ),
        ("tool/src/main.rs", "fn main() {}\n"),
        (
            "tool/tests/own.rs",
            "#[test] fn own() { assert_eq!(std::env::var(\"CARGO_BIN_EXE_my-tool\").as_deref(), \
             Ok(env!(\"CARGO_BIN_EXE_my-tool\"))); }\n",
        ),
    ]);
    case.variable("RUSTC_BOOTSTRAP", "1");
    let test = case.cargo(&["test", "--offline", "--workspace", "-Zbindeps"]);
    if test.status.code() != Some(0) {
        return skip(TEST, "this cargo has no artifact dependencies");
    }
    let run = case.harness(&["run", "--offline", "--workspace", "-Zbindeps"]);
    run.assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
}

/// A shared library of Rust, one of C that a build script makes, and tests that load both.
const LIBRARIES: &[(&str, &str)] = &[
    (
        "Cargo.toml",
        "[package]\nname = \"top\"\nedition = \"2024\"\n[dependencies]\nshared = { path = \"shared\" }\n\
         [workspace]\nmembers = [\"native\"]\n",
    ),
    (
        "src/lib.rs",
        "#[test] fn calls() { assert_eq!(shared::one(), 1); }\n",
    ),
    (
        "native/tests/it.rs",
        "#[test] fn calls_too() { assert_eq!(native::two(), 2); \
         assert_eq!(std::env::var(\"OUT_DIR\").unwrap(), env!(\"OUT_DIR\")); }\n",
    ),
    (
        "shared/Cargo.toml",
        "[package]\nname = \"shared\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"dylib\"]\n",
    ),
    ("shared/src/lib.rs", "pub fn one() -> i32 { 1 }\n"),
    (
        "native/Cargo.toml",
        "[package]\nname = \"native\"\nedition = \"2024\"\nlinks = \"two\"\n",
    ),
    (
        "native/src/lib.rs",
        "unsafe extern \"C\" { fn native_two() -> i32; }\npub fn two() -> i32 { unsafe { native_two() } }\n\
         #[test] fn own() { assert_eq!(two(), 2); assert_eq!(std::env::var(\"OUT_DIR\").unwrap(), env!(\"OUT_DIR\")); }\n",
    ),
    (
        "native/build.rs",
        "use std::{env, fs, process::Command};\n\
         fn main() { let out = env::var(\"OUT_DIR\").unwrap(); let c = format!(\"{out}/two.c\");\n\
         fs::write(&c, \"int native_two(void) { return 2; }\").unwrap();\n\
         assert!(Command::new(\"cc\").args([\"-shared\", \"-fPIC\", \"-o\"])\n\
         .arg(format!(\"{out}/libnative_two.so\")).arg(&c).status().unwrap().success());\n\
         println!(\"cargo::rustc-link-search=native={out}\");\n\
         println!(\"cargo::rustc-link-lib=dylib=native_two\");\n\
         println!(\"cargo::rerun-if-changed=build.rs\"); }\n",
    ),
];

#[test]
fn shared_libraries_are_found_in_every_layout() {
    const TEST: &str = "shared_libraries_are_found_in_every_layout";
    let mut case = Case::new(LIBRARIES);
    // Cargo links a library in another way where it is a package that was asked for by name.
    let selections = [&["-p", "top"][..], &["-p", "native"]];
    let host = &["--target", "host-tuple"][..];
    for selected in selections {
        case.both_pass(selected);
        case.both_pass(&[selected, host].concat());
    }
    // Cargo itself looks in the target directory only, and does not find the library of C.
    let run = |case: &Case, args: &[&str]| {
        for (selected, passed) in selections.into_iter().zip([1, 2]) {
            let args = [&["run", "--offline", "--no-fail-fast"], selected, args].concat();
            let run = case.harness(&args);
            run.assert_code(exit_code::OK)
                .assert_says(&format!("{passed} passed, 0 skipped"));
        }
    };
    let elsewhere = &["--config", "build.build-dir='built'"][..];
    run(&case, elsewhere);

    case.variable("RUSTC_BOOTSTRAP", "1");
    let new = &["-Zbuild-dir-new-layout", "--target-dir", "new"][..];
    let test = case.cargo(&[&["test", "--offline", "--no-run"], new].concat());
    if test.status.code() != Some(0) {
        return skip(TEST, "this cargo has no other layout");
    }
    run(&case, new);
    run(&case, &[new, elsewhere, host].concat());
}

#[test]
fn a_benchmark_is_not_told_to_measure_as_under_cargo_test() {
    let mut case = Case::new(&[
        (
            "Cargo.toml",
            "[package]\nname = \"slow\"\nedition = \"2024\"\n[workspace]\n\
             [[bench]]\nname = \"custom\"\nharness = false\n",
        ),
        ("src/lib.rs", ""),
        // Like criterion: without `--bench` everything runs once.
        (
            "benches/custom.rs",
            "fn main() { let has = |a: &str| std::env::args().any(|arg| arg == a);\n\
             if has(\"--list\") { if !has(\"--ignored\") { println!(\"measured: benchmark\") } return }\n\
             assert!(!has(\"--bench\"), \"it measures\"); }\n",
        ),
        (
            "benches/of_libtest.rs",
            "#![feature(test)] extern crate test;\n\
             use std::sync::atomic::{AtomicU32, Ordering::Relaxed};\n\
             static TIMES: AtomicU32 = AtomicU32::new(0);\n\
             #[bench] fn once(b: &mut test::Bencher) { b.iter(|| TIMES.fetch_add(1, Relaxed));\n\
             assert_eq!(TIMES.load(Relaxed), 1); }\n",
        ),
    ]);
    case.variable("RUSTC_BOOTSTRAP", "1");
    for args in [
        &["--benches"][..],
        &["--all-targets"],
        &["--bench", "custom"],
    ] {
        case.both_pass(args);
    }
    let run = case.harness(&["run", "--offline", "--all-targets"]);
    run.assert_code(exit_code::OK)
        .assert_says("2 tests run: 2 passed");
}
