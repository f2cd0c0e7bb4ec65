//! The table of decisions, and what each rests on.

use super::*;
use harness_metadata::trace::Disturbance;

const NOTHING: Circumstances = Circumstances {
    known: None,
    privileged_runner: None,
    breaks: false,
};

fn setting(level: TraceLevel) -> TraceSetting {
    TraceSetting {
        level,
        ..TraceSetting::default()
    }
}

fn means(no_ptrace: bool, no_filter: bool, no_notify: bool) -> Means {
    let why = |missing: bool, why: Missing| missing.then_some(why);
    Means {
        available: Available {
            no_ptrace: why(no_ptrace, Missing::PtraceUntrue),
            no_filter: why(no_filter, Missing::FilterUntrue),
            no_notify: why(no_notify, Missing::NotifyUntrue),
            ..Available::default()
        },
        privileges: Privileges::default(),
        no_proc: None,
    }
}

fn chosen(choice: &Choice) -> (TraceLevel, Backend) {
    (choice.tracing.level, choice.tracing.backend)
}

#[test]
fn where_all_works_a_test_gets_what_it_asks_for() {
    let all = means(false, false, false);
    for (level, backend) in [
        (TraceLevel::Off, Backend::None),
        (TraceLevel::Process, Backend::Lifecycle),
        (TraceLevel::Io, Backend::Ptrace),
        (TraceLevel::Full, Backend::Ptrace),
    ] {
        let choice = all.choose(&setting(level), &NOTHING);
        assert_eq!(chosen(&choice), (level, backend));
        assert_eq!(choice.lost, None);
    }
}

#[test]
fn files_are_seen_by_the_best_backend_that_works_and_the_loss_is_told() {
    let choose = |means: Means| means.choose(&setting(TraceLevel::Full), &NOTHING);
    let notify = choose(means(true, false, false));
    assert_eq!(chosen(&notify), (TraceLevel::Full, Backend::Notify));
    assert!(
        less::less(&notify.lost.unwrap())
            .starts_with("ptrace does not report what it should here; seccomp")
    );
    let lifecycle = choose(means(false, true, true));
    assert_eq!(
        chosen(&lifecycle),
        (TraceLevel::Process, Backend::Lifecycle)
    );
    assert_eq!(
        less::less(&lifecycle.lost.unwrap()),
        "a seccomp filter does not stop what it should here; seccomp notification does not tell what it should here; processes are followed, but files and the network are not seen"
    );
    let nothing = choose(means(true, true, true));
    assert_eq!(chosen(&nothing), (TraceLevel::Off, Backend::None));
    // A reason that two backends share is reported once.
    assert_eq!(
        nothing.lost.unwrap().because,
        [Missing::PtraceUntrue, Missing::NotifyUntrue].map(Reason::Unavailable)
    );
}

#[test]
fn a_run_that_is_traced_has_its_tests_traced_by_its_tracer() {
    let mut means = means(true, true, false);
    means.available.outer = Some(TraceLevel::Io);
    let choose = |level, backend| {
        let setting = TraceSetting {
            backend,
            ..setting(level)
        };
        let choice = means.choose(&setting, &NOTHING);
        (chosen(&choice), choice.lost.is_some())
    };
    use TraceLevel::*;
    for (level, backend, expected) in [
        (Off, TraceBackend::Auto, ((Off, Backend::None), false)),
        (
            Process,
            TraceBackend::Auto,
            ((Process, Backend::Outer), false),
        ),
        (Io, TraceBackend::Auto, ((Io, Backend::Outer), false)),
        (Io, TraceBackend::Ptrace, ((Io, Backend::Outer), false)),
        (Full, TraceBackend::Auto, ((Io, Backend::Outer), true)),
        (Io, TraceBackend::Notify, ((Io, Backend::Notify), false)),
    ] {
        assert_eq!(choose(level, backend), expected);
    }
}

#[test]
fn a_backend_that_is_named_is_not_replaced_by_one_that_uses_something_else() {
    let notify_only = TraceSetting {
        backend: TraceBackend::Notify,
        ..setting(TraceLevel::Io)
    };
    let choice = means(false, false, true).choose(&notify_only, &NOTHING);
    assert_eq!(chosen(&choice), (TraceLevel::Off, Backend::None));
    assert!(choice.lost.is_some());
    let ptrace_only = TraceSetting {
        backend: TraceBackend::Ptrace,
        ..setting(TraceLevel::Io)
    };
    let choice = means(false, true, false).choose(&ptrace_only, &NOTHING);
    assert_eq!(chosen(&choice), (TraceLevel::Process, Backend::Lifecycle));
    let none = TraceSetting {
        backend: TraceBackend::None,
        ..setting(TraceLevel::Full)
    };
    let choice = means(true, true, true).choose(&none, &NOTHING);
    assert_eq!(
        (chosen(&choice), choice.lost),
        ((TraceLevel::Off, Backend::None), None)
    );
}

/// The table of all decisions: what is asked for, what works, what is known → how it begins, and the
/// steps that may follow.
#[test]
fn each_test_has_a_ladder_from_its_settings_what_works_and_what_is_known() {
    use Backend::{Lifecycle, None as Nothing, Notify, Outer, Ptrace};
    use Disturbance::{ListenerRefused, PtraceRefused, SeccompAsked, StatusRead};
    use TraceLevel::{Full, Io, Off, Process};
    let all = means(false, false, false);
    let no_notify = means(false, false, true);
    let no_filter = means(false, true, true);
    let mut outer = means(true, true, true);
    outer.available.outer = Some(Io);
    let auto = TraceBackend::Auto;
    let named = TraceBackend::Ptrace;
    const NO: &[Disturbance] = &[];
    for (row, (means, level, backend, met, untraced, expected, climbs)) in [
        (&all, Io, auto, NO, false, (Io, Ptrace), true),
        (
            &all,
            Full,
            auto,
            &[PtraceRefused],
            false,
            (Full, Notify),
            true,
        ),
        (
            &all,
            Io,
            auto,
            &[ListenerRefused],
            false,
            (Io, Ptrace),
            true,
        ),
        (
            &all,
            Io,
            auto,
            &[SeccompAsked],
            false,
            (Process, Lifecycle),
            true,
        ),
        (&all, Io, auto, &[StatusRead], false, (Off, Nothing), true),
        (&all, Io, auto, &[PtraceRefused], true, (Off, Nothing), true),
        (
            &no_notify,
            Io,
            auto,
            &[PtraceRefused],
            false,
            (Off, Nothing),
            true,
        ),
        (&no_filter, Io, auto, NO, false, (Process, Lifecycle), true),
        (&all, Process, auto, NO, false, (Process, Lifecycle), true),
        (
            &all,
            Process,
            auto,
            &[PtraceRefused],
            false,
            (Off, Nothing),
            true,
        ),
        // What the settings name is taken as it is.
        (&all, Io, named, &[PtraceRefused], true, (Io, Ptrace), false),
        (
            &all,
            Io,
            TraceBackend::Notify,
            NO,
            false,
            (Io, Notify),
            false,
        ),
        (&all, Off, auto, NO, false, (Off, Nothing), false),
        (
            &outer,
            Io,
            auto,
            &[PtraceRefused],
            false,
            (Io, Outer),
            false,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let setting = TraceSetting {
            backend,
            ..setting(level)
        };
        let known = (!met.is_empty()).then(|| Lesson::new(met.to_vec(), untraced));
        let test = Circumstances {
            known,
            ..Circumstances::default()
        };
        let choice = means.choose(&setting, &test);
        assert_eq!(chosen(&choice), expected, "row {row}");
        assert_eq!(choice.tracing.ladder.is_some(), climbs, "row {row}");
    }
    assert_eq!(of_listing().level, Off);
}

#[test]
fn what_a_privileged_runner_would_lose_it_keeps() {
    let test = Circumstances {
        privileged_runner: Some("sudo".to_owned()),
        ..Circumstances::default()
    };
    let mut means = means(false, false, false);
    let choice = means.choose(&setting(TraceLevel::Io), &test);
    assert_eq!(chosen(&choice), (TraceLevel::Off, Backend::None));
    assert!(less::less(&choice.lost.unwrap()).starts_with("`sudo`, which"));
    means.privileges = Privileges {
        filters: true,
        traces: true,
    };
    let choice = means.choose(&setting(TraceLevel::Io), &test);
    assert_eq!(chosen(&choice), (TraceLevel::Io, Backend::Ptrace));
    assert_eq!(choice.lost, None);
}

#[test]
fn without_no_new_privs_only_the_privileged_get_a_filter() {
    let setting = TraceSetting {
        no_new_privs: false,
        ..setting(TraceLevel::Io)
    };
    let mut means = means(false, false, false);
    let choice = means.choose(&setting, &NOTHING);
    assert_eq!(chosen(&choice), (TraceLevel::Process, Backend::Lifecycle));
    assert!(less::less(&choice.lost.unwrap()).contains("no_new_privs"));
    means.privileges.filters = true;
    let choice = means.choose(&setting, &NOTHING);
    assert_eq!(chosen(&choice), (TraceLevel::Io, Backend::Ptrace));
    assert!(!choice.tracing.no_new_privs);
}

#[test]
fn where_processes_are_stopped_there_is_no_filter_and_what_is_off_stays_off() {
    use {TraceBackend::*, TraceLevel::*};
    let breaks = Circumstances {
        breaks: true,
        ..Circumstances::default()
    };
    for (level, backend, expected) in [
        (Full, Auto, (Process, Backend::Lifecycle)),
        (Io, Ptrace, (Process, Backend::Lifecycle)),
        (Off, Auto, (Off, Backend::None)),
        (Io, Notify, (Off, Backend::None)),
        (Io, None, (Off, Backend::None)),
    ] {
        let setting = TraceSetting {
            backend,
            ..setting(level)
        };
        let choice = means(false, false, false).choose(&setting, &breaks);
        assert_eq!(chosen(&choice), expected, "{level:?} {backend:?}");
    }
}

#[test]
fn what_is_in_force_in_a_run_is_its_highest_level() {
    let all = means(false, false, false);
    let choices = [TraceLevel::Off, TraceLevel::Io, TraceLevel::Process]
        .map(|level| all.choose(&setting(level), &NOTHING));
    let force = in_force(&choices, None);
    assert_eq!(
        (force.level, force.backend, force.degraded),
        (TraceLevel::Io, Backend::Ptrace, None)
    );
    assert!(in_force(&choices, Some(&Missing::Proc)).degraded.is_some());
    assert_eq!(in_force(&[], None).level, TraceLevel::Off);
}

#[test]
fn a_program_is_privileged_by_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    let set = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode));
    set(0o755).unwrap();
    assert_eq!(privileged_program(file.path()), None);
    set(0o4755).unwrap();
    let name = file.path().display().to_string();
    assert_eq!(privileged_program(file.path()), Some(name));
    assert_eq!(privileged_program(Path::new("no-such-program")), None);
}

#[test]
fn privileges_are_read_from_the_effective_set() {
    let privileges = |filters, traces| Privileges { filters, traces };
    assert_eq!(
        privileges_in(b"CapPrm:\t0\nCapEff:\t000001ffffffffff\n"),
        privileges(true, true)
    );
    assert_eq!(
        privileges_in(b"CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n"),
        privileges(false, false)
    );
    assert_eq!(
        privileges_in(b"CapEff:\t0000000000080000\n"),
        privileges(false, true)
    );
}
