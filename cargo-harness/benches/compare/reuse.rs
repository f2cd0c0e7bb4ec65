//! The cost and the gain of reuse: runs of a real suite that record what passes rest on, and runs that leave out what
//! cannot have changed, against runs without.

use crate::{
    before::{Compared, Cost, cost_of},
    contender::Contender,
    workload::Workload,
};

pub(crate) const NAME: &str = "reuse";

/// The kinds of runs, which take turns. The first is what the others are compared with. The second runs all tests, and
/// so does what the third rests on.
const KINDS: [(&str, &[&str]); 3] = [
    ("without", &["--no-cached"]),
    ("recording", &["--cached", "--audit", "100%"]),
    ("nothing changed", &["--cached", "--audit", "0%"]),
];

/// Prints what recording adds to the suite at `full`, and what a run takes in which nothing has changed.
pub(crate) fn compare(rounds: usize) {
    let Some(workload) = Workload::prepare(Workload::SUITE) else {
        println!("{NAME}: left out, its sources cannot be fetched\n");
        return;
    };
    println!(
        "{NAME}: {} tests, {rounds} rounds at full; against runs without reuse",
        workload.tests()
    );
    let mut costs: [Vec<Cost>; KINDS.len()] = Default::default();
    // One more, which warms up.
    for round in 0..=rounds {
        for (kind, (_, flags)) in KINDS.iter().enumerate() {
            let mut command = Contender::Full.command(&workload).expect("it has one");
            let cost = cost_of(command.args(*flags), workload.may_fail);
            if round > 0 {
                costs[kind].push(cost);
            }
        }
    }
    let [without, others @ ..] = &costs;
    for ((name, _), costs) in KINDS[1..].iter().zip(others) {
        let cpu = Compared::of(costs, without, |cost| cost.cpu);
        let passed = Compared::of(costs, without, |cost| cost.passed);
        println!("  {name:<24}CPU  {cpu}");
        println!("  {:<24}time {passed}", "");
    }
    println!();
}
