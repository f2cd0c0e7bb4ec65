//! The settings of a policy.

use super::{precedence::compile, *};
use crate::filter::fixture;
use expect_test::expect;
use harness_metadata::PolicyMode;
use nextest_metadata::TestCaseName;

#[test]
fn what_the_kernel_cannot_enforce_is_refused_at_its_place() {
    line_error(
        "policy.fs.read = ['workspace', 'home/*.toml']",
        expect![
            "2:32: `profile.default.policy.fs.read[1]` has the wildcard `*`, and the kernel (Landlock) knows no patterns: name the folder, which stands for all that is in it"
        ],
    );
    line_error(
        "policy.fs.write = ['target', '!target/debug']",
        expect![
            "2:30: `profile.default.policy.fs.write[1]` begins with `!`, and the kernel (Landlock) cannot deny a part of an allowed folder: name the other parts of that folder instead"
        ],
    );
    line_error(
        "policy.fs.exec = ['sytem']",
        expect![
            "2:19: `profile.default.policy.fs.exec[0]` begins with `sytem`, which is no root: an entry is one of `workspace`, `target`, `tmp`, `home`, `toolchain`, `system`, `shm`, a path below one such as `home/.gitconfig`, or an absolute path"
        ],
    );
    line_error(
        "policy.fs.exec = 'target'",
        expect![[
            r#"2:18: `profile.default.policy.fs.exec` must be `"all"` or an array of paths, but is the string "target"; write `["target"]`"#
        ]],
    );
    line_error(
        "policy.ipc = ['sockets']",
        expect![
            "2:15: `profile.default.policy.ipc[0]` must be one of `abstract-sockets`, `signals`, not `sockets`"
        ],
    );
    override_error(
        "policy.mode = 'deny'",
        expect![
            "3:15: `profile.default.overrides[0].policy.mode` must be one of `observe`, `audit`, `enforce`, not `deny`"
        ],
    );
    override_error(
        "policy = 'enforce'",
        expect![[
            r#"3:10: `profile.default.overrides[0].policy` must be a table, but is the string "enforce""#
        ]],
    );
}

#[test]
fn a_rule_for_the_network_that_makes_no_sense_is_refused_at_its_place() {
    line_error(
        "policy.net = 'none'",
        expect![[
            r#"2:14: `profile.default.policy.net` must be `"all"` or an array of tables, but is the string "none""#
        ]],
    );
    line_error(
        "policy.net = [{ address = '10.0.0.0/33' }]",
        expect![
            "2:27: `profile.default.policy.net[0].address` must be an address or a network such as `10.0.0.0/8`, not `10.0.0.0/33`"
        ],
    );
    line_error(
        "policy.net = [{ port = '90-80' }]",
        expect![
            "2:24: `profile.default.policy.net[0].port` must be a port or a range such as `8000-8100`, not `90-80`"
        ],
    );
    line_error(
        "policy.net = [{ port = 70000 }]",
        expect![
            "2:24: `profile.default.policy.net[0].port` must be a port or a range such as `8000-8100`, not `70000`"
        ],
    );
    line_error(
        "policy.net = [{ unix = 'run/x' }]",
        expect![
            "2:24: `profile.default.policy.net[0].unix` must be an absolute path, which may be a glob"
        ],
    );
    line_error(
        "policy.net = [{ unix = '/run/*', port = 1 }]",
        expect![
            "2:15: `profile.default.policy.net[0]` has `unix` and `port`, and a unix socket has no port"
        ],
    );
    line_error(
        "policy.net = [{ host = 'a', address = '::1' }]",
        expect![
            "2:15: `profile.default.policy.net[0]` has two of `unix`, `address` and `host`: write a rule for each"
        ],
    );
    line_error(
        "policy.net = [{ hots = 'a' }]",
        expect!["2:17: `profile.default.policy.net[0].hots` is unknown (did you mean `host`?)"],
    );
}

#[test]
fn keys_that_mean_nothing_are_told_in_every_table() {
    warnings(
        "[profile.default.policy]\nmod = 'audit'\nfs.raed = []\n",
        expect![[r#"
            2:1: unknown key `profile.default.policy.mod` (did you mean `mode`?)
            3:4: unknown key `profile.default.policy.fs.raed` (did you mean `read`?)"#]],
    );
}

#[test]
fn an_override_says_only_what_is_different_for_its_tests() {
    let profile = compile(
        r#"
        [profile.default.policy]
        mode = "enforce"
        fs.read = ["workspace", "system"]
        fs.write = ["target"]
        [[profile.default.overrides]]
        filter = "test(cache)"
        policy.fs.write = ["target", "home/.cache"]
        policy.ipc = ["signals"]
        policy.net = [{ address = "10.1.0.0/16", port = "80-90" }, { action = "deny", host = "x.org", port = 443 }]
        "#,
        "default",
    );
    let shown = |test| {
        let query = TestCaseName::new(test);
        let resolved = profile.settings_for(&fixture::alpha().test(&query));
        assert_eq!(resolved.settings.policy.mode, PolicyMode::Enforce);
        let rows = resolved.explain().into_iter();
        let rows = rows.filter(|row| row.key.starts_with("policy."));
        rows.map(|row| format!("{} = {}", row.key, row.value))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        shown("a"),
        [
            "policy.mode = \"enforce\"",
            "policy.fs.read = [\"workspace\", \"system\"]",
            "policy.fs.write = [\"target\"]",
            "policy.fs.exec = \"all\"",
            "policy.net = \"all\"",
            "policy.ipc = \"all\"",
        ]
    );
    let cache = shown("cache");
    assert_eq!(cache[2], "policy.fs.write = [\"target\", \"home/.cache\"]");
    let rules = "policy.net = [{ address = \"10.1.0.0/16\", port = \"80-90\" }, \
                 { action = \"deny\", host = \"x.org\", port = 443 }]";
    assert_eq!(cache[4], rules);
    assert_eq!(cache[5], "policy.ipc = [\"signals\"]");
}
