//! Landlock rulesets: which files a process and its descendants may use (landlock(7)).

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use std::{
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};
use syscalls::{Sysno, syscall};

/// The first version of the interface that knows truncate(2): Linux 6.2.
pub(crate) const FOR_FILES: u32 = 3;

/// The first version that knows scopes: Linux 6.12.
pub(crate) const FOR_SCOPES: u32 = 6;

/// LANDLOCK_CREATE_RULESET_VERSION.
const VERSION: u32 = 1;

/// The bounds of a process. `None` is no bound.
#[derive(Copy, Clone, Default)]
pub(crate) struct Confinement<'a> {
    pub(crate) read: Option<&'a [PathBuf]>,
    pub(crate) write: Option<&'a [PathBuf]>,
    pub(crate) exec: Option<&'a [PathBuf]>,
    /// Whether it reaches no abstract unix socket of a process outside.
    pub(crate) no_abstract_sockets: bool,
    /// Whether it sends no signal to a process outside.
    pub(crate) no_signals: bool,
}

/// Returns the version of the kernel's Landlock; 0 for none.
pub(crate) fn version() -> u32 {
    let no_rules = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel reads nothing, and makes no ruleset.
    let version = unsafe { syscall!(Sysno::landlock_create_ruleset, no_rules, 0, VERSION) };
    version.unwrap_or(0) as u32
}

impl Confinement<'_> {
    /// Returns the version of Landlock that it needs; 0 if it bounds nothing.
    pub(crate) fn needs(&self) -> u32 {
        let files = self.read.or(self.write).or(self.exec).is_some();
        match (self.no_abstract_sockets || self.no_signals, files) {
            (true, _) => FOR_SCOPES,
            (false, true) => FOR_FILES,
            (false, false) => 0,
        }
    }

    /// Makes a ruleset. A file that is not there is left out.
    pub(crate) fn ruleset(&self) -> Result<OwnedFd, Refusal> {
        let (read, exec) = (
            AccessFs::ReadFile | AccessFs::ReadDir,
            AccessFs::Execute.into(),
        );
        let write = AccessFs::from_write(ABI::V3);
        let bounds: [(Option<&[PathBuf]>, BitFlags<AccessFs>); 3] =
            [(self.read, read), (self.write, write), (self.exec, exec)];
        let mut handled: BitFlags<AccessFs> = AccessFs::Refer.into();
        for (paths, rights) in bounds {
            if paths.is_some() {
                handled |= rights;
            }
        }
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(handled)?;
        if self.no_abstract_sockets {
            ruleset = ruleset.scope(Scope::AbstractUnixSocket)?;
        }
        if self.no_signals {
            ruleset = ruleset.scope(Scope::Signal)?;
        }
        let mut created = ruleset.create()?;
        for (paths, rights) in bounds {
            for path in paths.unwrap_or_default() {
                if let Some(rule) = rule(path, rights) {
                    created = created.add_rule(rule)?;
                }
            }
        }
        // A ruleset denies renames between folders unless it allows them.
        if self.write.is_none()
            && let Some(rule) = rule(Path::new("/"), AccessFs::Refer.into())
        {
            created = created.add_rule(rule)?;
        }
        Option::<OwnedFd>::from(created).ok_or(Refusal("Landlock is missing".to_owned()))
    }
}

/// Returns the rule for a file, or for a folder with all that is in it.
fn rule(path: &Path, rights: BitFlags<AccessFs>) -> Option<PathBeneath<PathFd>> {
    let file = PathFd::new(path).ok()?;
    let rights = match path.is_dir() {
        true => rights,
        // The others are rights to folders, which the kernel refuses for a file.
        false => rights & AccessFs::from_file(ABI::V3),
    };
    (!rights.is_empty()).then(|| PathBeneath::new(file, rights))
}

/// The reason why there is no ruleset.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl From<RulesetError> for Refusal {
    fn from(error: RulesetError) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_bounded_says_which_kernel_it_needs() {
        let nothing = Confinement::default();
        assert_eq!(nothing.needs(), 0);
        let files = Confinement {
            read: Some(&[]),
            ..nothing
        };
        assert_eq!(files.needs(), FOR_FILES);
        let scopes = Confinement {
            no_signals: true,
            ..files
        };
        assert_eq!(scopes.needs(), FOR_SCOPES);
    }

    #[test]
    fn a_file_that_is_not_there_has_no_rule() {
        assert!(rule(Path::new("/no/such/file"), AccessFs::ReadFile.into()).is_none());
        assert!(rule(Path::new("/dev/null"), AccessFs::ReadFile.into()).is_some());
        // A right to a folder only.
        assert!(rule(Path::new("/dev/null"), AccessFs::ReadDir.into()).is_none());
    }
}
