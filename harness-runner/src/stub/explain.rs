//! Says why a program could not be started, in words that help.

use super::sys::Stage;
use nix::errno::Errno;
use std::{
    ffi::{CStr, OsStr},
    fs::{self, File},
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Returns a C string as a path.
pub(super) fn path(string: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(string.to_bytes()))
}

/// Returns a sentence fragment for a failure with this errno.
pub(super) fn failure(stage: Stage, errno: i32, program: &Path, cwd: &Path) -> String {
    let errno = Errno::from_raw(errno);
    let (program_text, cwd_text) = (program.display(), cwd.display());
    match stage {
        Stage::Stdio => format!("its standard streams could not be set up: {}", errno.desc()),
        Stage::Cgroup => format!("it could not enter its cgroup: {}", errno.desc()),
        Stage::Orphaned => "its stub ended before it could start".to_owned(),
        Stage::Chdir => {
            format!(
                "its working directory `{cwd_text}` cannot be entered: {}",
                errno.desc()
            )
        }
        Stage::Policy if errno == Errno::EPERM => {
            "its policy cannot be enforced: without privileges a process enters a Landlock domain \
             only with no_new_privs, which `trace.no-new-privs = false` forbids"
                .to_owned()
        }
        Stage::Policy => format!("its policy cannot be enforced: Landlock: {}", errno.desc()),
        Stage::Image => format!(
            "`{program_text}` was rebuilt or replaced after its tests were listed; start another run \
             to list and run the tests that it holds now"
        ),
        // What the child saw: it was in its working directory by then.
        Stage::Exec => match errno {
            Errno::ENOENT => missing(program, &cwd.join(program)),
            Errno::EACCES => denied(program, &cwd.join(program)),
            Errno::ENOEXEC => not_executable(program, &cwd.join(program)),
            Errno::E2BIG => format!(
                "the arguments and the environment of `{program_text}` are larger than the \
                 system allows (see `getconf ARG_MAX` and `ulimit -s`)"
            ),
            Errno::ETXTBSY => format!("`{program_text}` is being written to by another process"),
            errno => format!("`{program_text}` cannot be executed: {}", errno.desc()),
        },
    }
}

fn missing(program: &Path, seen: &Path) -> String {
    let text = program.display();
    if !seen.exists() {
        return if program.components().count() == 1 {
            format!("`{text}` was not found in the directories of `PATH`")
        } else {
            format!("`{text}` does not exist (was it deleted after the build?)")
        };
    }
    // The file is there, so what it needs is not.
    match interpreter(seen) {
        Some(interpreter) => {
            format!("`{text}` needs the interpreter `{interpreter}`, which does not exist")
        }
        None => format!("`{text}` exists, but an interpreter that it needs does not"),
    }
}

fn denied(program: &Path, seen: &Path) -> String {
    let text = program.display();
    match fs::metadata(seen) {
        Ok(meta) if meta.is_dir() => format!("`{text}` is a directory, not a program"),
        Ok(meta) if !is_executable(&meta) => {
            format!("`{text}` is not marked as executable (permission denied)")
        }
        _ => format!(
            "permission denied for `{text}`: a directory on its path, or its file system \
             (`noexec`), does not allow it to be executed"
        ),
    }
}

fn is_executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o111 != 0
}

/// ELF machine numbers (elf.h), for those that a Rust program is likely built for.
const MACHINES: [(u16, &str); 9] = [
    (3, "x86"),
    (8, "MIPS"),
    (20, "PowerPC"),
    (21, "PowerPC64"),
    (22, "S390"),
    (40, "ARM"),
    (62, "x86-64"),
    (183, "AArch64"),
    (243, "RISC-V"),
];

fn not_executable(program: &Path, seen: &Path) -> String {
    let text = program.display();
    let head = head(seen);
    let machine = elf_machine(&head).map(|machine| {
        MACHINES
            .iter()
            .find(|(number, _)| *number == machine)
            .map_or_else(
                || format!("machine {machine}"),
                |(_, name)| (*name).to_owned(),
            )
    });
    match machine {
        Some(machine) => format!(
            "`{text}` is built for another architecture ({machine}); set a runner for its \
             target, such as `CARGO_TARGET_<TRIPLE>_RUNNER`"
        ),
        None if head.is_empty() => format!("`{text}` is empty"),
        None => format!("`{text}` is not a program that this system can execute"),
    }
}

fn head(program: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = File::open(program) {
        // What could be read is enough; a file that cannot be read explains nothing.
        let _ = file.take(4096).read_to_end(&mut head);
    }
    head
}

fn elf_machine(head: &[u8]) -> Option<u16> {
    let little = *head.get(5)? == 1;
    let bytes = <[u8; 2]>::try_from(head.get(18..20)?).ok()?;
    head.starts_with(b"\x7fELF").then(|| match little {
        true => u16::from_le_bytes(bytes),
        false => u16::from_be_bytes(bytes),
    })
}

/// Returns the interpreter that a script (`#!`, execve(2)) or an ELF file (PT_INTERP, elf(5))
/// asks for.
fn interpreter(program: &Path) -> Option<String> {
    let head = head(program);
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = String::from_utf8_lossy(line);
        return line.split_whitespace().next().map(str::to_owned);
    }
    elf_machine(&head)?;
    // The loader's path is a NUL-ended absolute path near the start of the file.
    let start = head
        .windows(5)
        .position(|window| window == b"/lib/" || window == b"/lib6")?;
    let path = head[start..].split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(path).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn explained(content: &[u8], mode: u32, errno: Errno) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, content).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let text = failure(Stage::Exec, errno as i32, &file, Path::new("/"));
        text.replace(&folder.path().display().to_string(), "DIR")
    }

    #[test]
    fn a_missing_interpreter_of_a_script_is_named() {
        assert_eq!(
            explained(b"#!/no/such/python -u\nx", 0o755, Errno::ENOENT),
            "`DIR/program` needs the interpreter `/no/such/python`, which does not exist"
        );
    }

    #[test]
    fn another_architecture_is_named() {
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 183;
        assert!(explained(&elf, 0o755, Errno::ENOEXEC).contains("another architecture (AArch64)"));
    }

    #[test]
    fn a_file_without_the_executable_bit_is_named() {
        assert_eq!(
            explained(b"x", 0o644, Errno::EACCES),
            "`DIR/program` is not marked as executable (permission denied)"
        );
    }

    #[test]
    fn a_deleted_program_is_said_to_be_missing() {
        let text = failure(
            Stage::Exec,
            libc::ENOENT,
            Path::new("/no/such"),
            Path::new("/"),
        );
        assert_eq!(
            text,
            "`/no/such` does not exist (was it deleted after the build?)"
        );
    }

    #[test]
    fn a_relative_program_is_looked_for_in_the_working_directory_of_the_test() {
        let own = std::env::current_exe().unwrap();
        let (folder, name) = (own.parent().unwrap(), own.file_name().unwrap());
        let relative = Path::new(".").join(name);
        let text = failure(Stage::Exec, libc::ENOENT, &relative, folder);
        assert!(text.contains("needs the interpreter"), "{text}");
        let text = failure(Stage::Exec, libc::ENOENT, &relative, Path::new("/"));
        assert!(text.contains("does not exist"), "{text}");
    }

    #[test]
    fn the_loader_of_an_elf_file_is_found() {
        assert!(interpreter(Path::new("/proc/self/exe")).is_some());
    }
}
