//! Groups in the hierarchies of this machine, if it has any that this user may use.

use super::*;
use std::process::{Child, Command};

/// Says that a test is left out, and why.
fn skip(test: &str) {
    eprintln!("skipped: {test}: this user can make no cgroup here");
}

fn sleeper_in(group: &Path) -> Child {
    let child = Command::new("sleep").arg("50").spawn().unwrap();
    files::enter(group, child.id().cast_signed()).unwrap();
    child
}

#[test]
fn a_run_has_a_group_for_each_slot_and_takes_all_along_when_it_ends() {
    let wanted = BTreeSet::from([LimitKind::Memory, LimitKind::Pids, LimitKind::Cpu]);
    let made = Cgroups::make(&wanted);
    let Some(cgroups) = made.cgroups else {
        assert_eq!(made.missing.len(), wanted.len());
        return skip("a_run_has_a_group_for_each_slot");
    };
    let shared = cgroups.shared("slot-0.1");
    let limits = Limits {
        memory_max: Some(64 << 20),
        pids_max: Some(5),
        cpu_max: None,
    };
    let limited = cgroups.limited("slot-1.1", limits).unwrap();
    let enforced = [LimitKind::Memory, LimitKind::Pids];
    let enforced = enforced.iter().any(|kind| !made.missing.contains_key(kind));
    assert_eq!(limited.is_some(), enforced);
    for group in [&shared, &limited].into_iter().flatten() {
        assert_eq!(group.hits(), []);
    }
    let folders: Vec<PathBuf> = (cgroups.unified.iter())
        .chain(cgroups.separate.values())
        .cloned()
        .collect();
    let inside: Vec<_> = folders.iter().flat_map(|own| files::folders(own)).collect();
    let left = inside.iter().find(|group| group.ends_with("slot-0.1"));
    let mut child = left.map(|group| sleeper_in(group));
    std::mem::forget(shared);
    drop(limited);
    drop(cgroups);
    assert_eq!(folders.iter().find(|own| own.exists()), None);
    if let Some(child) = &mut child {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

#[test]
fn what_a_runner_that_is_gone_has_left_is_killed_and_removed() {
    const NAME: &str = "what_a_runner_that_is_gone_has_left";
    let Some(base) = Mounts::read().unified().into_iter().next() else {
        return skip(NAME);
    };
    // Of this machine's own first process, which is older than any run.
    let name = stale::own_name().unwrap();
    let (owner, _) = name.rsplit_once('-').unwrap();
    let (namespace, _) = owner.rsplit_once('-').unwrap();
    let abandoned = base.join(format!("{namespace}-1-99999999999"));
    if fs::create_dir(&abandoned).is_err() {
        return skip(NAME);
    }
    let slot = abandoned.join("slot-0.1");
    fs::create_dir(&slot).unwrap();
    let mut child = sleeper_in(&slot);
    stale::remove(&base);
    assert!(!abandoned.exists());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn what_is_not_enforced_is_told_with_its_reason_once() {
    let missing = BTreeMap::from([
        (LimitKind::Memory, "no cgroups".to_owned()),
        (LimitKind::Cpu, "no cgroups".to_owned()),
    ]);
    let made = Made {
        cgroups: None,
        missing,
    };
    assert_eq!(
        made.not_enforced().as_deref(),
        Some("memory-max and cpu-max are not enforced: no cgroups")
    );
    assert_eq!(Made::default().not_enforced(), None);
}
