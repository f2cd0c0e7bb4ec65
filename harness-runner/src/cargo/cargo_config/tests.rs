use super::*;
use std::fs;

/// A folder with configuration files, of which `work/inner` is where cargo runs.
struct Tree {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    variables: Variables,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tree = Self {
            folder,
            arguments: Vec::new(),
            variables: Variables::new(),
        };
        fs::create_dir_all(tree.path("work/inner")).unwrap();
        for (path, text) in files {
            let path = tree.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    fn path(&self, path: &str) -> Utf8PathBuf {
        let root = self.folder.path().canonicalize().unwrap();
        Utf8PathBuf::from_path_buf(root).unwrap().join(path)
    }

    fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn load(&self) -> Result<CargoConfig, ConfigError> {
        let cwd = self.path("work/inner");
        CargoConfig::load_with(&cwd, &self.arguments, self.variables.clone())
    }

    fn config(&self) -> CargoConfig {
        self.load().unwrap()
    }

    /// Returns what `[env]` makes of a variable.
    fn env(&self, name: &str) -> Option<String> {
        let inherited = self.inherited();
        let mut environment = inherited.clone();
        self.config()
            .apply_env(&mut environment, &inherited, |_| false);
        Some(environment.get(name)?.to_str().unwrap().to_owned())
    }

    fn inherited(&self) -> Environment {
        let mut environment = Environment::default();
        for (name, value) in &self.variables {
            environment.set(name, value);
        }
        environment
    }

    fn runner(&self, key: &str) -> Option<String> {
        let config = self.config();
        let set = config.runner(key).unwrap()?;
        let program = config.program(&set.value[0], &set.origin);
        let place = program.as_str().replace(self.path("").as_str(), "…/");
        Some(format!("{place} {:?}", &set.value[1..]))
    }
}

#[test]
fn nearer_files_win_and_the_home_of_cargo_comes_last() {
    let tree = Tree::new(&[
        (
            "home/config.toml",
            "env = { A = 'home', B = 'home', C = 'home' }",
        ),
        (
            "work/.cargo/config.toml",
            "env = { A = 'outer', B = 'outer' }",
        ),
        ("work/inner/.cargo/config.toml", "env = { A = 'inner' }"),
    ]);
    let home = tree.path("home").into_string();
    let tree = tree.variable("CARGO_HOME", &home);
    let all = ["A", "B", "C"].map(|name| tree.env(name).unwrap());
    assert_eq!(all, ["inner", "outer", "home"]);
}

#[test]
fn a_home_of_cargo_above_the_workspace_is_read_once() {
    let tree = Tree::new(&[("work/.cargo/config.toml", "build.rustflags = ['-a']")]);
    let home = tree.path("work/.cargo").into_string();
    let tree = tree.variable("CARGO_HOME", &home);
    assert_eq!(tree.config().rustflags("t", &[]), ["-a"]);
}

#[test]
fn a_file_without_extension_hides_the_one_with_it() {
    let tree = Tree::new(&[
        ("work/.cargo/config", "env.A = 'plain'"),
        (
            "work/.cargo/config.toml",
            "env = { A = 'toml', B = 'toml' }",
        ),
    ]);
    assert_eq!(tree.env("A").as_deref(), Some("plain"));
    assert_eq!(tree.env("B"), None);
}

#[test]
fn included_files_lose_to_the_file_that_includes_them_and_to_later_ones() {
    let tree = Tree::new(&[
        (
            "work/.cargo/config.toml",
            "include = ['one.toml', { path = 'sub/two.toml' }, { path = 'no.toml', optional = true }]\n\
             env.A = 'own'",
        ),
        (
            "work/.cargo/one.toml",
            "env = { A = 'one', B = 'one', C = 'one' }",
        ),
        (
            "work/.cargo/sub/two.toml",
            "include = ['three.toml']\nenv = { B = 'two' }",
        ),
        (
            "work/.cargo/sub/three.toml",
            "env = { B = 'three', D = { value = 'x/y', relative = true } }",
        ),
    ]);
    let all = ["A", "B", "C"].map(|name| tree.env(name).unwrap());
    assert_eq!(all, ["own", "two", "one"]);
    // Relative to the folder above the included file's own.
    assert_eq!(
        tree.env("D"),
        Some(tree.path("work/.cargo/x/y").into_string())
    );
}

#[test]
fn a_nearer_file_wins_over_what_a_farther_one_includes_and_the_other_way_round() {
    let tree = Tree::new(&[
        ("work/.cargo/config.toml", "include = ['more.toml']"),
        (
            "work/.cargo/more.toml",
            "env = { A = 'outer', B = 'outer' }",
        ),
        ("work/inner/.cargo/config.toml", "include = ['near.toml']"),
        ("work/inner/.cargo/near.toml", "env = { A = 'inner' }"),
    ]);
    let all = ["A", "B"].map(|name| tree.env(name).unwrap());
    assert_eq!(all, ["inner", "outer"]);
}

#[test]
fn a_file_that_is_missing_or_includes_itself_is_named() {
    let missing = Tree::new(&[("work/.cargo/config.toml", "include = ['no.toml']")]);
    let error = missing.load().unwrap_err().to_string();
    assert!(error.contains("work/.cargo/no.toml"), "{error}");
    let cycle = Tree::new(&[("work/.cargo/config.toml", "include = ['config.toml']")]);
    let error = cycle.load().unwrap_err().to_string();
    assert!(error.ends_with("config.toml` includes itself"), "{error}");
    let wrong = Tree::new(&[("work/.cargo/config.toml", "include = [1]")]);
    let error = wrong.load().unwrap_err().to_string();
    assert!(error.contains("is not a list of `.toml` files"), "{error}");
}

#[test]
fn arguments_win_over_the_environment_and_that_over_files() {
    let files = &[(
        "work/.cargo/config.toml",
        "build.target-dir = 'of/file'\nbuild.target = 'file'",
    )];
    let tree = Tree::new(files);
    let target_directory = |tree: &Tree| tree.config().target_directory().unwrap();
    assert_eq!(target_directory(&tree), tree.path("work/of/file"));
    assert_eq!(tree.config().build_targets().unwrap(), ["file"]);
    let tree = tree
        .variable("CARGO_BUILD_TARGET_DIR", "of/variable")
        .variable("CARGO_BUILD_TARGET", "variable");
    assert_eq!(target_directory(&tree), tree.path("work/inner/of/variable"));
    assert_eq!(tree.config().build_targets().unwrap(), ["variable"]);
    let tree = tree
        .argument("build.target-dir='of/argument'")
        .argument("build.target='./spec.json'");
    assert_eq!(target_directory(&tree), tree.path("work/inner/of/argument"));
    let spec = tree.path("work/inner/./spec.json").into_string();
    assert_eq!(tree.config().build_targets().unwrap(), [spec]);
    let tree = tree.variable("CARGO_TARGET_DIR", "special");
    assert_eq!(target_directory(&tree), tree.path("work/inner/special"));
}

#[test]
fn the_last_argument_wins_and_may_be_a_file_that_includes_others() {
    let tree = Tree::new(&[
        (
            "work/.cargo/config.toml",
            "env = { A = 'file', B = 'file' }",
        ),
        (
            "work/extra/deep/given.toml",
            "include = ['more.toml']\nenv.C = { value = 'x', relative = true }\nbuild.target-dir = 't'",
        ),
        ("work/extra/deep/more.toml", "env.B = 'included'"),
    ]);
    let tree = tree
        .argument("env.A='first'")
        .argument("../extra/deep/given.toml")
        .argument("env.A='last'");
    assert_eq!(tree.env("A").as_deref(), Some("last"));
    assert_eq!(tree.env("B").as_deref(), Some("included"));
    let folder = tree.path("work/inner/../extra");
    assert_eq!(tree.env("C"), Some(folder.join("x").into_string()));
    assert_eq!(tree.config().target_directory(), Some(folder.join("t")));
    let wrong = Tree::new(&[])
        .argument("no such = file")
        .load()
        .unwrap_err();
    assert!(wrong.to_string().contains("no such = file"), "{wrong}");
}

#[test]
fn inherited_variables_win_over_env_unless_it_forces_and_cargos_own_win_always() {
    let tree = Tree::new(&[(
        "work/.cargo/config.toml",
        "[env]\nA = 'a'\nB = { value = 'b', force = true }\nC = { value = 'c' }\nE = 'e'",
    )]);
    let tree = tree
        .variable("A", "inherited")
        .variable("B", "inherited")
        .variable("CARGO_ENV_E", "of the variable");
    let all = ["A", "B", "C", "E"].map(|name| tree.env(name).unwrap());
    assert_eq!(all, ["inherited", "b", "c", "of the variable"]);
    let mut environment = Environment::default();
    let is_cargos = |name: &str| name == "B";
    tree.config()
        .apply_env(&mut environment, &Environment::default(), is_cargos);
    assert!(environment.get("B").is_none());
}

#[test]
fn a_runner_is_split_into_words_and_found_from_where_it_is_set() {
    let key = "x86_64-unknown-linux-gnu";
    let string = format!("target.{key}.runner = 'scripts/run  -a b'");
    let tree = Tree::new(&[("work/.cargo/config.toml", &string)]);
    assert_eq!(
        tree.runner(key).unwrap(),
        r#"…/work/scripts/run ["-a", "b"]"#
    );
    let tree = tree.variable("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "./wrap x");
    assert_eq!(tree.runner(key).unwrap(), r#"…/work/inner/./wrap ["x"]"#);
    let tree = tree.argument(&format!("target.{key}.runner='qemu -L /x'"));
    assert_eq!(tree.runner(key).unwrap(), r#"qemu ["-L", "/x"]"#);

    let list = format!("target.{key}.runner = ['with space/run', 'a b']");
    let tree = Tree::new(&[
        ("work/inner/.cargo/config.toml", &list),
        ("work/.cargo/config.toml", &list),
    ]);
    assert_eq!(
        tree.runner(key).unwrap(),
        r#"…/work/inner/with space/run ["a b"]"#
    );
    let wrong = Tree::new(&[("work/.cargo/config.toml", "target.t.runner = 1")]);
    let error = wrong.config().runner("t").unwrap_err().to_string();
    assert!(error.starts_with("`target.t.runner` in `/"), "{error}");
}

#[test]
fn lists_are_joined_and_programs_are_not() {
    let tree = Tree::new(&[
        (
            "work/.cargo/config.toml",
            "build.rustflags = ['-far']\ntarget.t.runner = ['far', 'x']",
        ),
        (
            "work/inner/.cargo/config.toml",
            "build.rustflags = ['-near']\ntarget.t.runner = ['near']",
        ),
    ]);
    let tree = tree
        .variable("CARGO_BUILD_RUSTFLAGS", "-variable")
        .argument("build.rustflags=['-argument']");
    let flags = tree.config().rustflags("t", &[]);
    assert_eq!(flags, ["-far", "-near", "-variable", "-argument"]);
    assert_eq!(tree.runner("t").unwrap(), "near []");
}

#[test]
fn the_sources_of_flags_exclude_each_other() {
    let tree = Tree::new(&[(
        "work/.cargo/config.toml",
        "build.rustflags = ['-build']\ntarget.t.rustflags = '-a -b'\n\
         target.'cfg(unix)'.rustflags = ['-unix']",
    )]);
    assert_eq!(tree.config().rustflags("other", &[]), ["-build"]);
    assert_eq!(
        tree.config().rustflags("t", &["cfg(unix)"]),
        ["-a", "-b", "-unix"]
    );
    let tree = tree.variable("RUSTFLAGS", " -c  -d ");
    assert_eq!(tree.config().rustflags("t", &[]), ["-c", "-d"]);
    let tree = tree.variable("CARGO_ENCODED_RUSTFLAGS", "-e\x1f-f g");
    assert_eq!(tree.config().rustflags("t", &[]), ["-e", "-f g"]);
}

#[test]
fn values_of_different_kinds_are_named_with_their_places() {
    let tree = Tree::new(&[
        ("work/.cargo/config.toml", "env.A = { value = 'x' }"),
        ("work/inner/.cargo/config.toml", "env.A = 'x'"),
    ]);
    let error = tree.load().unwrap_err().to_string();
    assert!(
        error.starts_with("`env.A` is a single value in `/"),
        "{error}"
    );
    assert!(error.contains("and a table in `/"), "{error}");
}

#[test]
fn several_targets_are_a_list() {
    let tree = Tree::new(&[(
        "work/.cargo/config.toml",
        "build.target = ['a', 'spec/b.json']",
    )]);
    let spec = tree.path("work/spec/b.json").into_string();
    assert_eq!(tree.config().build_targets().unwrap(), ["a", &spec]);
}

#[test]
fn the_compiler_is_cargos() {
    let tree = Tree::new(&[("work/.cargo/config.toml", "build.rustc = 'bin/rustc'")]);
    assert_eq!(Tree::new(&[]).config().rustc().program, "rustc");
    assert_eq!(tree.config().rustc().program, tree.path("work/bin/rustc"));
    let tree = tree.variable("CARGO_BUILD_RUSTC", "of-variable");
    assert_eq!(tree.config().rustc().program, "of-variable");
    let tree = tree.variable("RUSTC", "special");
    assert_eq!(tree.config().rustc().program, "special");
}
