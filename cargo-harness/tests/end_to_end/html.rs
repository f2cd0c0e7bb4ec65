//! The HTML report, in a real browser, opened from disk.

use crate::{
    environment::installed,
    scene::{Finished, Scene, skip},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use harness_metadata::exit_code;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Tests whose names and output try to be markup, and one of each kind.
const SOURCE: &str = r#"
#[cfg(test)]
mod tests {
    use std::{fs, io::Write, path::Path, process::{Command, Stdio}};
    #[test] fn passes() { fs::read("Cargo.toml").unwrap(); }
    #[test] fn fails() {
        std::io::stderr().write_all(b"\x1b[31mred\x1b[0m \xff <b id=injected>\x07\n").unwrap();
        assert_eq!("</script><script>document.title='taken'</script> one", "two", "they differ");
    }
    #[test] fn is_flaky() {
        let again = Path::new("again").exists();
        fs::write("again", "").unwrap();
        assert!(again, "the first time");
    }
    #[test] fn leaks() {
        let mut sleep = Command::new("sleep");
        sleep.arg("300").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        sleep.spawn().unwrap();
    }
    #[test] #[ignore = "not today"] fn is_ignored() {}
}
"#;

/// A run with its report.
struct Reported {
    scene: Scene,
    package: PathBuf,
}

impl Reported {
    fn new() -> Self {
        let scene = Scene::new();
        let package = scene.package("hostile", SOURCE);
        let reported = Self { scene, package };
        let run = reported.harness(&[
            "run",
            "--no-fail-fast",
            "--retries",
            "1",
            "--html",
            "run.html",
        ]);
        run.assert_code(exit_code::TEST_RUN_FAILED);
        reported
    }

    fn harness(&self, args: &[&str]) -> Finished {
        self.scene.run(self.scene.harness_in(&self.package, args))
    }

    fn report(&self) -> PathBuf {
        self.package.join("run.html")
    }

    /// Returns the page as the browser has it, at a fragment of its address.
    fn page(&self, browser: &str, fragment: &str) -> String {
        let home = self.scene.path("browser");
        let mut command = Command::new("timeout");
        command.args([
            "120",
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
        ]);
        command.arg(format!("--user-data-dir={}", home.display()));
        command.args(["--virtual-time-budget=60000", "--dump-dom"]);
        command.arg(format!("file://{}#{fragment}", self.report().display()));
        let output = command.env("HOME", &home).output().expect("it starts");
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(page.contains("data-ready=\"true\""), "{page}\n{errors}");
        // The script of the page is in it too.
        let (page, _) = page.split_once("<noscript>").expect("it has one");
        page.to_owned()
    }
}

fn browser() -> Option<&'static str> {
    let known = ["chromium", "chromium-browser", "google-chrome"];
    known
        .into_iter()
        .find(|name| installed(name, &["--version"]))
}

#[test]
fn a_browser_shows_the_report_and_takes_no_output_for_markup() {
    let name = "a_browser_shows_the_report_and_takes_no_output_for_markup";
    let Some(browser) = browser() else {
        return skip(name, "there is no Chromium");
    };
    let reported = Reported::new();
    let list = reported.page(browser, "");
    for word in [
        "tests::fails",
        "tests::is_flaky",
        "ignored: not today",
        "FLAKY 2/2",
        "LEAK",
    ] {
        assert!(list.contains(word), "{word} in {list}");
    }
    let failed = reported.page(browser, "show=failed");
    assert!(
        failed.contains("1 of 5 tests") && !failed.contains("tests::passes"),
        "{failed}"
    );
    let found = reported.page(browser, "q=first+time&sort=time");
    assert!(
        !found.contains("tests::fails") && !found.contains("tests::passes"),
        "{found}"
    );

    let test = reported.page(browser, "test=hostile+tests::fails&attempt=1");
    assert!(
        test.contains("Attempt 2: FAIL") && test.contains("role=\"tabpanel\""),
        "{test}"
    );
    assert!(
        test.contains("<span class=\"a1\">red</span> \\xff &lt;b id=injected&gt;"),
        "{test}"
    );
    assert!(test.contains("<span class=\"ctl\">\\u{7}</span>"), "{test}");
    assert!(
        test.contains("<mark>two</mark>"),
        "the difference is marked: {test}"
    );
    assert!(
        !test.contains("id=\"injected\"") && !test.contains("<title>taken"),
        "{test}"
    );
    let passed = reported.page(browser, "test=hostile+tests::passes");
    assert!(
        passed.contains("Processes (1)") && passed.contains("Cargo.toml"),
        "{passed}"
    );
    let leaks = reported.page(browser, "test=hostile+tests::leaks");
    assert!(
        leaks.contains("sleep 300") && leaks.contains("Left behind"),
        "{leaks}"
    );
    let used = reported.page(browser, "q=path:cargo.toml");
    assert!(used.contains("1 of 5 tests"), "{used}");

    let alone = !passed.contains("class=\"before\"");
    assert!(alone, "there is no run before the first: {passed}");
    let again = reported.harness(&["run", "--no-fail-fast", "--html", "run.html"]);
    again.assert_code(exit_code::TEST_RUN_FAILED);
    let mended = reported.page(browser, "test=hostile+tests::is_flaky");
    assert!(
        mended.contains("class=\"before\"") && mended.contains("<td class=\"name\">FLAKY 2/2</td>"),
        "it is shown against the run before: {mended}"
    );

    let timeline = reported.page(browser, "view=timeline");
    assert!(timeline.contains("class=\"failed\" data-row=") && timeline.contains("slot 0"));
    let rankings = reported.page(browser, "view=rankings");
    assert!(
        rankings.contains("Flakiest") && rankings.contains("Most memory"),
        "{rankings}"
    );
}

/// Returns what a page has of its tests.
pub(crate) fn details(page: &Path) -> serde_json::Value {
    let page = fs::read_to_string(page).expect("it was written");
    let (_, rest) = page.split_once("id=\"details\">").expect("it has details");
    let (packed, _) = rest.split_once("</script>").expect("they end");
    let packed = STANDARD.decode(packed).expect("it is Base64");
    let details = decompress_to_vec_zlib(&packed).expect("it is compressed");
    serde_json::from_slice(&details).expect("it is JSON")
}

/// Returns the results of earlier runs that a page has, by the rows of their tests.
fn before(page: &Path) -> serde_json::Map<String, serde_json::Value> {
    let mut details = details(page);
    let results = details["before"]["results"].take();
    results.as_object().expect("it is a map").clone()
}

#[test]
fn a_report_has_the_last_result_of_each_test_before_the_run() {
    let reported = Reported::new();
    assert!(before(&reported.report()).is_empty(), "it is the first run");
    reported
        .harness(&["run", "passes", "--html", "run.html"])
        .assert_code(exit_code::OK);
    let found = before(&reported.report());
    assert_eq!(found.len(), 1, "{found:?}");
    let all = ["run", "--no-fail-fast", "--html", "run.html"];
    reported
        .harness(&all)
        .assert_code(exit_code::TEST_RUN_FAILED);
    let found = before(&reported.report());
    assert_eq!(
        found.len(),
        4,
        "the first run has those that the second has not"
    );
    reported
        .harness(&["report", "--html", "later.html"])
        .assert_code(exit_code::OK);
    assert_eq!(before(&reported.package.join("later.html")), found);
}

#[test]
fn the_report_of_a_recording_is_that_of_the_run_and_has_nothing_to_load() {
    let reported = Reported::new();
    reported
        .harness(&["report", "--html", "later/run.html"])
        .assert_code(exit_code::OK);
    // It has the same name: the page refers to files beside it.
    let read = |path: &Path| fs::read_to_string(path).expect("it was written");
    let page = read(&reported.report());
    assert_eq!(read(&reported.package.join("later/run.html")), page);
    assert!(page.contains("default-src 'none'; script-src 'sha256-"));
    for loads in [" src=", "<link", "@import", "url(", "http:", "fetch("] {
        let found = page.lines().find(|line| line.contains(loads));
        let only_name = |line: &str| line.contains("http://www.w3.org/2000/svg");
        assert!(found.is_none_or(only_name), "{loads}: {found:?}");
    }
    let config = "[profile.ci.html]\npath = \"report.html\"\n";
    let config = reported.scene.write("hostile/.config/harness.toml", config);
    reported
        .harness(&["run", "-P", "ci", "passes"])
        .assert_code(exit_code::OK);
    let written = reported.package.join("target/harness/ci/report.html");
    assert!(
        read(&written).contains("<title>1 passed"),
        "{config:?} asks for it"
    );
    let run = reported.harness(&["run", "passes", "--html", "src"]);
    run.assert_code(exit_code::WRITE_FAILED);
    run.assert_says("failed to write the HTML report")
        .assert_says("1 passed");
}
