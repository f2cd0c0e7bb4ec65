//! The cost of reports: a run that writes all of them against one that writes none.

use crate::{
    before::{Compared, Cost, cost_of},
    contender::Contender,
    workload::Workload,
};
use std::fs;

pub(crate) const NAME: &str = "reports";

/// The flags of all reports, and their files.
const REPORTS: [(&str, &str); 5] = [
    ("--junit", "junit.xml"),
    ("--events", "events.ndjson"),
    ("--html", "report.html"),
    ("--ctrf", "ctrf.json"),
    ("--allure", "allure"),
];

/// Prints what all reports add to 1,000 empty tests. The two kinds of runs take turns.
pub(crate) fn compare(rounds: usize) {
    let workload = Workload::prepare(Workload::THOUSAND).expect("it is generated");
    println!(
        "{NAME}: {} tests, {rounds} rounds; all reports against none",
        workload.tests()
    );
    let reports = workload.folder.join("target/reports");
    let _ = fs::remove_dir_all(&reports);
    for level in [Contender::Off, Contender::Io] {
        let mut costs: [Vec<Cost>; 2] = Default::default();
        // One more, which warms up.
        for round in 0..=rounds {
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for kind in order {
                let mut command = level.command(&workload).expect("every level has one");
                if kind == 0 {
                    // A folder for each run, deleted at the end: ext4 looks for a while through the inodes of files
                    // that were just deleted, for each new one.
                    let folder = reports.join(format!("{}-{round}", level.name()));
                    fs::create_dir_all(&folder).expect("there is room");
                    for (flag, file) in REPORTS {
                        command.arg(flag).arg(folder.join(file));
                    }
                    command.args(["--message-format", "libtest-json-plus"]);
                }
                let cost = cost_of(&mut command, workload.may_fail);
                if round > 0 {
                    costs[kind].push(cost);
                }
            }
        }
        let [with, without] = &costs;
        let cpu = Compared::of(with, without, |cost| cost.cpu);
        let passed = Compared::of(with, without, |cost| cost.passed);
        println!("  {:<24}CPU  {cpu}", level.name());
        println!("  {:<24}time {passed}", "");
    }
    let _ = fs::remove_dir_all(&reports);
    println!();
}
