//! Public packages have the same tests with the same outcomes under `cargo test`, cargo-nextest
//! and `cargo harness`, at every level of tracing.
//!
//! Each stands for something: see `because`. What differs between runners is explained here, test
//! by test, and a difference that is not explained fails.

use crate::packages_run::{Outcome, compare};

/// A package of the registry, at an exact version.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The purpose of the package.
    pub(crate) because: &'static str,
    /// Selects targets; the same for all runners.
    pub(crate) targets: &'static [&'static str],
    /// The least number of tests that it has: fewer are a mistake of ours.
    pub(crate) least: usize,
    /// Tests whose outcome under `cargo test` differs from that in a process of their own.
    pub(crate) differing: &'static [Differing],
    /// Tests that fail when they take long, under any runner: they are not compared.
    pub(crate) timed: &'static [&'static str],
    /// The reason why its tests must not run at the same time in processes of their own, if there
    /// is one.
    pub(crate) one_at_a_time: Option<&'static str>,
}

/// A test that behaves differently in a process of its own.
pub(crate) struct Differing {
    pub(crate) test: &'static str,
    pub(crate) in_one_process: Outcome,
    pub(crate) in_its_own: Outcome,
    /// The reason.
    pub(crate) why: &'static str,
}

const fn package(name: &'static str, version: &'static str, least: usize) -> Package {
    Package {
        name,
        version,
        because: "",
        targets: &["--tests"],
        least,
        differing: &[],
        timed: &[],
        one_at_a_time: None,
    }
}

/// All packages.
pub(crate) const PACKAGES: [Package; 12] = [
    Package {
        because: "has more than a thousand tests",
        ..package("typenum", "1.20.1", 1700)
    },
    Package {
        because: "starts processes and waits for them with and without limits",
        ..package("subprocess", "0.2.15", 100)
    },
    Package {
        because: "starts pipelines, and builds the programs that it starts",
        ..package("duct", "1.1.2", 40)
    },
    Package {
        because: "shares children between threads and kills them",
        ..package("shared_child", "1.1.2", 10)
    },
    Package {
        because: "copies and moves folders next to its sources",
        ..package("fs_extra", "1.3.0", 150)
    },
    Package {
        because: "makes trees of files and links",
        one_at_a_time: Some("a counter in the process names the temporary folders"),
        ..package("walkdir", "2.5.0", 40)
    },
    Package {
        because: "makes and removes temporary files",
        ..package("tempfile", "3.27.0", 50)
    },
    Package {
        because: "has a build script",
        ..package("num-traits", "0.2.19", 60)
    },
    Package {
        because: "starts the compiler",
        ..package("autocfg", "1.5.1", 20)
    },
    Package {
        because: "has a harness of its own that makes tests from files",
        targets: &["--lib", "--test", "example"],
        ..package("datatest-stable", "0.3.3", 10)
    },
    Package {
        because: "is a harness itself",
        // Those of `threads` print past the capture of `cargo test`, into its results.
        targets: &[
            "--lib",
            "--test",
            "all_passing",
            "--test",
            "mixed_bag",
            "--test",
            "panic",
        ],
        // They expect `finished in 0.00s` in their own output.
        timed: &[
            "libtest-mimic::all_passing terse_output",
            "libtest-mimic::mixed_bag terse_output",
        ],
        ..package("libtest-mimic", "0.8.2", 25)
    },
    Package {
        because: "looks at PATH and permissions",
        ..package("which", "8.0.6", 25)
    },
];

macro_rules! same_results {
    ($($test:ident: $package:literal;)*) => {
        $(
            #[test]
            fn $test() {
                compare(stringify!($test), $package);
            }
        )*
    };
}

same_results! {
    typenum_has_the_same_results: "typenum";
    subprocess_has_the_same_results: "subprocess";
    duct_has_the_same_results: "duct";
    shared_child_has_the_same_results: "shared_child";
    fs_extra_has_the_same_results: "fs_extra";
    walkdir_has_the_same_results: "walkdir";
    tempfile_has_the_same_results: "tempfile";
    num_traits_has_the_same_results: "num-traits";
    autocfg_has_the_same_results: "autocfg";
    datatest_stable_has_the_same_results: "datatest-stable";
    libtest_mimic_has_the_same_results: "libtest-mimic";
    which_has_the_same_results: "which";
}
