//! The files that a configuration is read from: ours, that of cargo-nextest, those of tools.

use super::*;
use crate::filter::fixture;
use expect_test::expect;
use nextest_filtering::ParseContext;
use nextest_metadata::TestCaseName;
use std::fs;
use target_spec::{Platform, TargetFeatures};
use tempfile::TempDir;

/// A workspace with these files, relative to its root.
fn workspace(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    fs::create_dir(folder.path().join(".config")).expect("the folder is empty");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("the folder is writable");
    }
    folder
}

fn root(folder: &TempDir) -> &Utf8Path {
    folder
        .path()
        .try_into()
        .expect("the folder has a UTF-8 name")
}

fn load(folder: &TempDir, sources: &Sources) -> Result<(Config, Vec<ConfigWarning>), ConfigError> {
    Config::load(root(folder), sources)
}

fn report_name(config: &Config) -> String {
    let profile = config.profile(DEFAULT_PROFILE).expect("it is built in");
    let (settings, _) = profile.run_settings(&CliOverrides::default());
    settings.junit_report_name
}

#[test]
fn the_file_of_cargo_nextest_counts_if_there_is_none_of_ours() {
    const OURS: (&str, &str) = (DEFAULT_PATH, "profile.ours.retries = 1");
    const THEIRS: (&str, &str) = (PEER_PATH, "profile.theirs.retries = 1");
    let profiles = |files: &[(&str, &str)]| {
        let folder = workspace(files);
        let (config, _) = load(&folder, &Sources::default()).expect("the files are right");
        let names: Vec<String> = config.profile_names().map(str::to_owned).collect();
        (config.dialect(), names.join(" "))
    };
    let expected = |dialect, names: &str| (dialect, names.to_owned());
    assert_eq!(
        profiles(&[]),
        expected(Dialect::Harness, "default default-miri")
    );
    assert_eq!(
        profiles(&[OURS]),
        expected(Dialect::Harness, "default default-miri ours")
    );
    assert_eq!(
        profiles(&[THEIRS]),
        expected(Dialect::Peer, "default default-miri theirs")
    );
    assert_eq!(
        profiles(&[OURS, THEIRS]),
        expected(Dialect::Harness, "default default-miri ours")
    );
}

#[test]
fn with_the_file_of_cargo_nextest_reports_are_where_it_writes_them() {
    let reports = |files: &[(&str, &str)]| {
        let folder = workspace(files);
        let (config, _) = load(&folder, &Sources::default()).expect("the files are right");
        let reports = config.reports("/ws".into()).map(Utf8PathBuf::into_string);
        (reports, report_name(&config))
    };
    let named = |folder: &str, name: &str| (Some(folder.to_owned()), name.to_owned());
    assert_eq!(reports(&[]), (None, "harness-run".to_owned()));
    assert_eq!(
        reports(&[(PEER_PATH, "")]),
        named("/ws/target/nextest", "nextest-run")
    );
    assert_eq!(
        reports(&[(
            PEER_PATH,
            "store.dir = 'out'\nprofile.default.junit.report-name = 'x'"
        )]),
        named("/ws/out", "x")
    );
    assert_eq!(
        reports(&[(DEFAULT_PATH, "[store]\ndir = '/abs'\n")]),
        named("/abs", "harness-run")
    );
}

#[test]
fn mistakes_in_the_file_of_cargo_nextest_have_their_places_there() {
    let folder = workspace(&[(PEER_PATH, "[profile.ci]\nretries = { backoff = 'fixed' }\n")]);
    let error = load(&folder, &Sources::default()).expect_err("there is no count");
    expect![".config/nextest.toml:2:11: `profile.ci.retries` lacks `count`"]
        .assert_eq(&error.to_string());
}

#[test]
fn a_version_that_is_too_old_is_found_before_all_else() {
    let tried = |text: &str, override_version_check| {
        let folder = workspace(&[(PEER_PATH, text)]);
        let sources = Sources {
            override_version_check,
            ..Sources::default()
        };
        match load(&folder, &sources) {
            Err(error) => format!("error: {error}"),
            Ok((_, warnings)) => {
                let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
                warnings.join("\n")
            }
        }
    };
    assert_eq!(tried("nextest-version = '0.9.143'", false), "");
    assert_eq!(
        tried("nextest-version = { required = '0.9.50' }", false),
        ""
    );
    let later = "harness-version = '900.0.0'\nprofile.default.retries = 'from the future'\n";
    expect!["error: .config/nextest.toml:1:19: this workspace requires cargo harness 900.0.0 or later, but this is VERSION; update it"].assert_eq(&tried(later, false).replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    let both = "nextest-version = { required = '1.0.0', recommended = '2.0.0' }";
    expect!["error: .config/nextest.toml:1:32: this workspace requires cargo-nextest 1.0.0 or later, but cargo harness stands for 0.9.143; update it"].assert_eq(&tried(both, false));
    expect![[r#"
        .config/nextest.toml:1:32: this workspace requires cargo-nextest 1.0.0 or later, but cargo harness stands for 0.9.143; update it; `--override-version-check` ignores that
        .config/nextest.toml:1:55: this workspace recommends cargo-nextest 2.0.0 or later, but cargo harness stands for 0.9.143; update it"#]].assert_eq(&tried(both, true));
    expect![[r#"error: .config/nextest.toml:1:19: `nextest-version` is not a version such as `"1.2.3"`: unexpected end of input while parsing minor version number"#]].assert_eq(&tried("nextest-version = '0.9'", false));
    expect!["error: .config/nextest.toml:1:19: `nextest-version` must be a version or a table with `required` and `recommended`, but is the integer 9"].assert_eq(&tried("nextest-version = 9", false));
    expect![".config/nextest.toml:1:21: unknown key `harness-version.require` (did you mean `required`?)"].assert_eq(&tried("harness-version = { require = '0.1.0' }", false));
}

#[test]
fn a_file_of_a_tool_is_named_with_the_tool() {
    let parsed = |text: &str| text.parse::<ToolFile>().map_err(|error| error.to_string());
    let file = |tool: &str, path: &str| {
        Ok(ToolFile {
            tool: tool.to_owned(),
            path: path.into(),
        })
    };
    assert_eq!(
        parsed("my-tool:/a/b:c.toml"),
        file("my-tool", "/a/b:c.toml")
    );
    for wrong in ["/a.toml", "tool:a.toml", ":/a.toml", "to ol:/a", ""] {
        assert_eq!(
            parsed(wrong),
            Err(format!(
                "`{wrong}` is not of the form `TOOL:/ABSOLUTE/PATH`"
            ))
        );
    }
}

/// Returns the sources of a workspace with the files of two tools.
fn with_tools(folder: &TempDir) -> Sources {
    let tool = |tool: &str| ToolFile {
        tool: tool.to_owned(),
        path: root(folder).join(format!("{tool}.toml")),
    };
    Sources {
        tool_files: vec![tool("first"), tool("second")],
        ..Sources::default()
    }
}

#[test]
fn files_of_tools_come_after_that_of_the_workspace_in_each_profile() {
    let folder = workspace(&[
        (
            DEFAULT_PATH,
            "[profile.ci]\n\
             retries = 1\n\
             [[profile.default.overrides]]\n\
             filter = 'test(=a)'\n\
             priority = 1\n\
             [[profile.default.overrides]]\n\
             filter = 'test(=b)'\n\
             test-group = '@tool:first:g'\n",
        ),
        (
            "first.toml",
            "[test-groups]\n\
             '@tool:first:g' = { max-threads = 2 }\n\
             [profile.ci]\n\
             inherits = 'base'\n\
             retries = 2\n\
             slow-timeout = '2s'\n\
             [profile.base]\n\
             leak-timeout = '2s'\n\
             [[profile.default.overrides]]\n\
             filter = 'test(=a) | test(=c)'\n\
             priority = 2\n",
        ),
        (
            "second.toml",
            "[profile.ci]\n\
             retries = 3\n\
             slow-timeout = '3s'\n\
             run-extra-args = ['x']\n\
             [profile.default]\n\
             leak-timeout = '3s'\n\
             [[profile.default.overrides]]\n\
             filter = 'all()'\n\
             priority = 3\n\
             test-group = '@tool:first:g'\n",
        ),
    ]);
    // The second file is read before the first, so it does not know its groups.
    let error = load(&folder, &with_tools(&folder)).expect_err("the group is unknown");
    assert!(
        error.to_string().starts_with("second.toml:10:14: "),
        "{error}"
    );
    let second = fs::read_to_string(folder.path().join("second.toml")).expect("it was written");
    let second = second.replace("test-group = '@tool:first:g'\n", "");
    fs::write(folder.path().join("second.toml"), second).expect("the folder is writable");

    let (config, warnings) = load(&folder, &with_tools(&folder)).expect("the files are right");
    assert_eq!(warnings, []);
    let profile = config.profile("ci").expect("it is there");
    assert_eq!(
        profile.chain().collect::<Vec<_>>(),
        ["ci", "base", "default"]
    );
    let graph = fixture::graph();
    let platforms = Platforms {
        host: Platform::new("x86_64-unknown-linux-gnu", TargetFeatures::Unknown)
            .expect("the triple is known"),
        targets: Vec::new(),
    };
    let compiled = profile
        .compile(
            &ParseContext::new(&graph),
            &platforms,
            CliOverrides::default(),
        )
        .expect("the filtersets are right");
    let binary = fixture::alpha();
    let explained = |name: &str| -> String {
        let test = TestCaseName::new(name);
        let resolved = compiled.settings_for(&binary.test(&test));
        let set = resolved.explain().into_iter().filter_map(|setting| {
            let place = setting.place?;
            Some(format!("{} = {} # {place}\n", setting.key, setting.value))
        });
        set.collect()
    };
    expect![[r#"
        retries = 1 # .config/harness.toml:2:11
        slow-timeout = { period = "2s", grace-period = "10s", on-timeout = "fail" } # first.toml:6:16
        leak-timeout = { period = "2s", result = "pass" } # first.toml:8:16
        priority = 1 # .config/harness.toml:5:12
        run-extra-args = ["x"] # second.toml:4:18
    "#]].assert_eq(&explained("a"));
    expect![[r#"
        retries = 1 # .config/harness.toml:2:11
        slow-timeout = { period = "2s", grace-period = "10s", on-timeout = "fail" } # first.toml:6:16
        leak-timeout = { period = "2s", result = "pass" } # first.toml:8:16
        test-group = "@tool:first:g" # .config/harness.toml:8:14
        priority = 3 # second.toml:9:12
        run-extra-args = ["x"] # second.toml:4:18
    "#]].assert_eq(&explained("b"));
    expect![[r#"
        retries = 1 # .config/harness.toml:2:11
        slow-timeout = { period = "2s", grace-period = "10s", on-timeout = "fail" } # first.toml:6:16
        leak-timeout = { period = "2s", result = "pass" } # first.toml:8:16
        priority = 2 # first.toml:11:12
        run-extra-args = ["x"] # second.toml:4:18
    "#]].assert_eq(&explained("c"));
}

#[test]
fn what_a_tool_names_carries_its_name() {
    let tried = |text: &str| {
        let folder = workspace(&[("first.toml", text), ("second.toml", "")]);
        let error = load(&folder, &with_tools(&folder)).expect_err("the file is wrong");
        error.to_string()
    };
    expect!["first.toml:1:13: `test-groups.g` is not a name for a test group of a tool: it must be `@tool:first:` and a name"].assert_eq(&tried("test-groups.g.max-threads = 1"));
    expect![[r#"first.toml:1:13: `test-groups."@tool:second:g"` is not a name for a test group of a tool: it must be `@tool:first:` and a name"#]].assert_eq(&tried("test-groups.'@tool:second:g'.max-threads = 1"));
    expect!["first.toml:1:16: `experimental` must not stand in a file of `--tool-config-file`"]
        .assert_eq(&tried("experimental = ['setup-scripts']"));
    let folder = workspace(&[]);
    let error = load(&folder, &with_tools(&folder)).expect_err("there is no such file");
    assert_eq!(
        error.to_string(),
        "the config file `first.toml` does not exist"
    );
}
