use super::*;
use crate::filter::fixture;

/// Returns the names of the packages that changes of these files select, with the reasons.
fn selected(paths: &[&str]) -> Vec<String> {
    let graph = fixture::graph();
    let places = Places::new(&graph, Some(Utf8Path::new("/elsewhere/settings.toml")));
    let affected = places.select(paths.iter().map(Path::new), None);
    let selected = affected.packages.values();
    let mut selected: Vec<_> = selected
        .filter_map(|(name, why)| Some(format!("{name}: {:?}", why.as_ref()?)))
        .collect();
    selected.sort();
    selected
}

#[test]
fn a_file_selects_its_package_and_those_that_depend_on_it() {
    assert_eq!(
        selected(&["/ws/alpha/src/lib.rs", "/ws/alpha/data/gone"]),
        [
            r#"alpha: Changed("/ws/alpha/src/lib.rs", 2)"#,
            r#"beta: DependsOn("alpha")"#,
        ]
    );
    assert_eq!(
        selected(&["/ws/beta/Cargo.toml"]),
        [r#"beta: Changed("/ws/beta/Cargo.toml", 1)"#]
    );
    // As git names a submodule.
    assert_eq!(
        selected(&["/ws/macros"]),
        [r#"macros: Changed("/ws/macros", 1)"#]
    );
    assert_eq!(selected(&[]), [""; 0]);
}

#[test]
fn each_file_has_the_effect_that_the_page_says() {
    let graph = fixture::graph();
    let places = Places::new(&graph, Some(Utf8Path::new("/elsewhere/settings.toml")));
    let outside = Effect::Nothing("it is outside of the workspace");
    let rule = Effect::All("it is a rule of the build");
    for (path, effect) in [
        (
            "/ws/Cargo.toml",
            Effect::All("it is the manifest of the workspace"),
        ),
        ("/ws/Cargo.lock", Effect::Lock),
        ("/ws/.cargo/config.toml", rule.clone()),
        ("/ws/alpha/.cargo/config", rule.clone()),
        ("/.cargo/config.toml", rule.clone()),
        ("/ws/rust-toolchain.toml", rule.clone()),
        ("/rust-toolchain", rule),
        ("/other/rust-toolchain", outside.clone()),
        (
            "/ws/.config/nextest.toml",
            Effect::All("it has the settings of the tests"),
        ),
        (
            "/elsewhere/settings.toml",
            Effect::All("it has the settings of the tests"),
        ),
        (
            "/ws/.github/workflows/ci.yml",
            Effect::Nothing("no test can depend on it"),
        ),
        (
            "/ws/LICENSE-MIT",
            Effect::Nothing("no test can depend on it"),
        ),
        (
            "/ws/testdata/input.json",
            Effect::All("it is in no package"),
        ),
        ("/ws/README.md", Effect::All("it is in no package")),
        ("/readme", outside),
    ] {
        assert_eq!(places.effect(Path::new(path)), effect, "{path}");
    }
    let alpha = fixture::alpha();
    let owner = Effect::Packages([alpha.query().package_id.clone()].into());
    for path in [
        "/ws/alpha/LICENSE-MIT",
        "/ws/alpha/Cargo.lock",
        "/ws/alpha/Cargo.toml",
    ] {
        assert_eq!(places.effect(Path::new(path)), owner, "{path}");
    }
}

#[test]
fn all_is_all_and_still_says_which_packages_have_changed() {
    let all = selected(&["/ws/README.md", "/ws/beta/src/lib.rs"]);
    assert_eq!(
        all,
        [
            "alpha: All",
            r#"beta: Changed("/ws/beta/src/lib.rs", 1)"#,
            "macros: All"
        ]
    );
    // Without its former state a lock file may have changed in any way.
    assert_eq!(selected(&["/ws/Cargo.lock"]).len(), 3);
}
