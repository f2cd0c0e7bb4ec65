//! The flags that are passed on to cargo.

use camino::Utf8PathBuf;
use clap::{ArgAction, Args};
use harness_metadata::event::RunMode;
use harness_runner::cargo::{CargoMessageFormat, CargoOptions, Color, MessageFormatError};

const PACKAGES: &str = "Package selection";
const TARGETS: &str = "Target selection";
const FEATURES: &str = "Feature selection";
const COMPILATION: &str = "Compilation options";
const MANIFEST: &str = "Manifest options";
const OTHER: &str = "Other Cargo options";

/// Options of the build.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub(crate) struct CargoArgs {
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    always: AlwaysArgs,
}

/// Options that matter only for a build. Clap leaves the group of a struct empty that flattens
/// another, so this one flattens none.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "cargo-opts", multiple = true)]
struct BuildArgs {
    /// Package to test.
    #[arg(short = 'p', long = "package", value_name = "SPEC", help_heading = PACKAGES)]
    package: Vec<String>,
    /// Test all packages in the workspace.
    #[arg(long, help_heading = PACKAGES)]
    workspace: bool,
    /// Exclude a package.
    #[arg(long, value_name = "SPEC", help_heading = PACKAGES)]
    exclude: Vec<String>,
    /// Alias for --workspace (deprecated).
    #[arg(long, help_heading = PACKAGES)]
    all: bool,

    /// Test only the library's unit tests.
    #[arg(long, help_heading = TARGETS)]
    lib: bool,
    /// Test only this executable.
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    bin: Vec<String>,
    /// Test all executables.
    #[arg(long, help_heading = TARGETS)]
    bins: bool,
    /// Test only this example.
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    example: Vec<String>,
    /// Test all examples.
    #[arg(long, help_heading = TARGETS)]
    examples: bool,
    /// Test only this test target.
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    test: Vec<String>,
    /// Test all targets that have `test = true`.
    #[arg(long, help_heading = TARGETS)]
    tests: bool,
    /// Test only this bench target.
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    bench: Vec<String>,
    /// Test all targets that have `bench = true`.
    #[arg(long, help_heading = TARGETS)]
    benches: bool,
    /// Test all targets.
    #[arg(long, help_heading = TARGETS)]
    all_targets: bool,

    /// Features to activate, separated by spaces or commas.
    #[arg(short = 'F', long, value_name = "FEATURES", help_heading = FEATURES)]
    features: Vec<String>,
    /// Activate all features.
    #[arg(long, help_heading = FEATURES)]
    all_features: bool,
    /// Do not activate the `default` feature.
    #[arg(long, help_heading = FEATURES)]
    no_default_features: bool,

    /// Number of build jobs.
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = COMPILATION)]
    build_jobs: Option<String>,
    /// Build in release mode, with optimizations.
    #[arg(short = 'r', long, help_heading = COMPILATION)]
    release: bool,
    /// Build with this Cargo profile.
    #[arg(long, value_name = "NAME", help_heading = COMPILATION)]
    cargo_profile: Option<String>,
    /// Build for this target triple.
    #[arg(long, value_name = "TRIPLE", help_heading = COMPILATION)]
    target: Vec<String>,
    /// Directory for all products of the build.
    #[arg(long, value_name = "DIR", help_heading = COMPILATION)]
    target_dir: Option<Utf8PathBuf>,
    /// Print the build graph as JSON (unstable).
    #[arg(long, help_heading = COMPILATION)]
    unit_graph: bool,
    /// Report the timings of the build, in these formats.
    #[arg(long, value_name = "FMTS", num_args = 0..=1, require_equals = true,
        help_heading = COMPILATION)]
    timings: Option<Option<String>>,

    /// Require Cargo.lock and the cache to be up to date.
    #[arg(long, help_heading = MANIFEST)]
    frozen: bool,
    /// Require Cargo.lock to be up to date.
    #[arg(long, help_heading = MANIFEST)]
    locked: bool,
    /// Run without accessing the network.
    #[arg(long, help_heading = MANIFEST)]
    offline: bool,

    /// The form of Cargo's messages: human, short, json, json-diagnostic-short,
    /// json-diagnostic-rendered-ansi, json-render-diagnostics. JSON goes to standard output.
    #[arg(long, value_name = "FMT", help_heading = OTHER)]
    cargo_message_format: Vec<String>,
    /// Print no Cargo log messages; twice for nothing from Cargo at all.
    #[arg(long, action = ArgAction::Count, help_heading = OTHER)]
    cargo_quiet: u8,
    /// Verbose Cargo output; twice for very verbose.
    #[arg(long, action = ArgAction::Count, help_heading = OTHER)]
    cargo_verbose: u8,
    /// Ignore `rust-version` in packages.
    #[arg(long, help_heading = OTHER)]
    ignore_rust_version: bool,
    /// Report future incompatibilities at the end of the build.
    #[arg(long, help_heading = OTHER)]
    future_incompat_report: bool,
    /// Unstable flag of Cargo.
    #[arg(short = 'Z', value_name = "FLAG", help_heading = OTHER)]
    unstable: Vec<String>,
}

/// Options that matter without a build too, and so may stand beside flags that reuse one.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "cargo-always", multiple = true)]
struct AlwaysArgs {
    /// Path to Cargo.toml.
    #[arg(long, value_name = "PATH", global = true, help_heading = MANIFEST)]
    manifest_path: Option<Utf8PathBuf>,
    /// Override a value of Cargo's configuration.
    #[arg(long, value_name = "KEY=VALUE|PATH", help_heading = OTHER)]
    config: Vec<String>,
}

impl CargoArgs {
    /// Returns the options for the build.
    ///
    /// # Errors
    ///
    /// When the message formats do not go together.
    pub(crate) fn into_options(self, color: Color) -> Result<CargoOptions, MessageFormatError> {
        let Self { build, always } = self;
        let formats = build.cargo_message_format.iter().map(String::as_str);
        Ok(CargoOptions {
            mode: RunMode::Test,
            message_format: CargoMessageFormat::parse(formats)?,
            package: build.package,
            workspace: build.workspace || build.all,
            exclude: build.exclude,
            lib: build.lib,
            bin: build.bin,
            bins: build.bins,
            example: build.example,
            examples: build.examples,
            test: build.test,
            tests: build.tests,
            bench: build.bench,
            benches: build.benches,
            all_targets: build.all_targets,
            features: build.features,
            all_features: build.all_features,
            no_default_features: build.no_default_features,
            build_jobs: build.build_jobs,
            release: build.release,
            cargo_profile: build.cargo_profile,
            target: build.target,
            target_dir: build.target_dir,
            unit_graph: build.unit_graph,
            timings: build.timings,
            manifest_path: always.manifest_path,
            frozen: build.frozen,
            locked: build.locked,
            offline: build.offline,
            cargo_quiet: build.cargo_quiet,
            cargo_verbose: build.cargo_verbose,
            ignore_rust_version: build.ignore_rust_version,
            future_incompat_report: build.future_incompat_report,
            config: always.config,
            unstable: build.unstable,
            color,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        cargo: CargoArgs,
        #[arg(long, conflicts_with = "cargo-opts")]
        archive_file: Option<String>,
    }

    #[test]
    fn flags_reach_cargo_as_they_were_given() {
        let line = "t --all -p a -p b -F x,y --timings=html -r --build-jobs 2 --config a.b=1 -Z z \
                    --cargo-profile p --cargo-verbose --cargo-verbose --target t";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let command = cli
            .cargo
            .into_options(Color::Never)
            .unwrap()
            .build_command();
        let args: Vec<_> = command
            .get_args()
            .map(|arg| arg.to_str().unwrap())
            .collect();
        assert_eq!(
            args.join(" "),
            "--color=never test --no-run --message-format json-render-diagnostics --workspace \
             --release --package a --package b --features x,y --target t --jobs 2 --profile p \
             --timings=html --config a.b=1 -Z z --verbose --verbose"
        );
    }

    #[test]
    fn flags_that_build_conflict_with_flags_that_reuse_a_build() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.archive_file);
        assert!(parse("t --archive-file f --release").is_err());
        assert!(parse("t --archive-file f --config a=1 --manifest-path p").is_ok());
    }
}
