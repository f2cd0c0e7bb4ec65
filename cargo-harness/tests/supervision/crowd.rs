//! As many tests as the name of the binary tells, that do nothing.

use std::{env, io::Write, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    if has("--list") && !has("--ignored") {
        let (_, count) = env!("CARGO_CRATE_NAME").split_once('_').expect("there is one");
        let count: u32 = count.parse().expect("it is a number");
        let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
        for number in 0..count {
            let listed = writeln!(stdout, "one::of::very::many::tests_{number:06}: test");
            listed.expect("it has a reader");
        }
    }
    ExitCode::SUCCESS
}
