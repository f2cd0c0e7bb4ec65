//! Finds the program, and says why one could not be started.

use crate::guardian::Stage;
use std::{
    env::consts::ARCH,
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// Returns the file to execute: of a name without a slash the first executable one in the folders of
/// `PATH`.
pub(super) fn find(program: &OsStr, search: Option<&OsStr>) -> Result<PathBuf, String> {
    let text = program.to_string_lossy();
    if program.as_bytes().contains(&b'/') {
        // The program may start in another folder.
        return std::path::absolute(program)
            .map_err(|error| format!("the working directory of the test is unknown: {error}"));
    }
    let Some(search) = search else {
        return Err(format!(
            "`{text}` has no slash, and `PATH`, where it would be looked for, is not set"
        ));
    };
    let mut denied = None;
    for folder in std::env::split_paths(search) {
        let file = folder.join(program);
        match fs::metadata(&file) {
            Ok(meta) if meta.is_file() && is_executable(&meta) => {
                return std::path::absolute(file).map_err(|error| error.to_string());
            }
            Ok(meta) if meta.is_file() => denied = denied.or(Some(file)),
            _ => {}
        }
    }
    Err(match denied {
        Some(file) => format!(
            "`{}` is the only `{text}` in the folders of `PATH`, and is not marked as executable",
            file.display()
        ),
        None => format!(
            "there is no `{text}` in the folders of `PATH` (`{}`): install it, or give its path",
            search.to_string_lossy()
        ),
    })
}

fn is_executable(meta: &fs::Metadata) -> bool {
    meta.permissions().mode() & 0o111 != 0
}

/// Says why a step failed.
pub(super) fn failure(stage: Stage, errno: i32, program: &Path, folder: Option<&Path>) -> String {
    let error = io::Error::from_raw_os_error(errno);
    match stage {
        Stage::Guardian => format!("the process that supervises it could not be created: {error}"),
        Stage::Cgroup => format!("it could not enter its cgroup: {error}"),
        Stage::Folder => {
            let folder = folder.unwrap_or(Path::new("")).display();
            format!("its working directory `{folder}` cannot be entered: {error}")
        }
        Stage::Limits => {
            format!("its limits cannot be set: {error} (a limit cannot be above that of the test)")
        }
        Stage::Exec => execution(&error, errno, program),
    }
}

fn execution(error: &io::Error, errno: i32, program: &Path) -> String {
    let text = program.display();
    match errno {
        libc::ENOENT | libc::ENOTDIR if !program.exists() => {
            format!("`{text}` does not exist: was it built?")
        }
        libc::ENOENT => match interpreter(program) {
            Some(interpreter) => {
                format!("`{text}` needs the interpreter `{interpreter}`, which does not exist")
            }
            None => format!("`{text}` exists, but an interpreter that it needs does not"),
        },
        libc::EACCES => denied(program),
        libc::ENOEXEC => not_executable(program),
        libc::E2BIG => format!(
            "the arguments and the environment of `{text}` are larger than the system allows (see \
             `getconf ARG_MAX`)"
        ),
        libc::ETXTBSY => format!("`{text}` is open for writing in another process"),
        _ => format!("`{text}` cannot be executed: {error}"),
    }
}

fn denied(program: &Path) -> String {
    let text = program.display();
    match fs::metadata(program) {
        Ok(meta) if meta.is_dir() => format!("`{text}` is a folder, not a program"),
        Ok(meta) if !is_executable(&meta) => {
            format!(
                "`{text}` is not marked as executable: permission denied (`chmod +x` does that)"
            )
        }
        _ => format!(
            "permission denied for `{text}`: a folder on its path, its interpreter, or its file system \
             (`noexec`) does not allow it to be executed"
        ),
    }
}

/// ELF machine numbers (elf.h).
const MACHINES: &[(u16, &str)] = &[
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
    (258, "loongarch"),
];

fn not_executable(program: &Path) -> String {
    let text = program.display();
    let head = head(program);
    let Some(machine) = machine(&head) else {
        return match head.is_empty() {
            true => format!("`{text}` is empty"),
            false => format!(
                "`{text}` is neither a program nor a script: a script begins with `#!` and its interpreter"
            ),
        };
    };
    let named = MACHINES.iter().find(|(number, _)| *number == machine);
    let name = named.map_or_else(|| machine.to_string(), |(_, name)| (*name).to_owned());
    format!("`{text}` is built for another architecture: `{name}`, and this machine is `{ARCH}`")
}

fn head(program: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = File::open(program) {
        // A file that cannot be read explains nothing.
        let _ = file.take(4096).read_to_end(&mut head);
    }
    head
}

fn machine(head: &[u8]) -> Option<u16> {
    let bytes = <[u8; 2]>::try_from(head.get(18..20)?).ok()?;
    let is_little = head[5] == 1;
    head.starts_with(b"\x7fELF").then(|| match is_little {
        true => u16::from_le_bytes(bytes),
        false => u16::from_be_bytes(bytes),
    })
}

/// Returns the interpreter that a script (`#!`, execve(2)) or an ELF file of 64 bits (PT_INTERP, elf(5))
/// asks for.
fn interpreter(program: &Path) -> Option<String> {
    let head = head(program);
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next()?);
        return line.split_whitespace().next().map(str::to_owned);
    }
    machine(&head)?;
    if head[4] != 2 || head[5] != 1 {
        return None;
    }
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at + length)?;
        let number = bytes
            .iter()
            .rev()
            .fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    };
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for at in 0..count {
        let entry = table.checked_add(at.checked_mul(size)?)?;
        const INTERPRETER: usize = 3;
        if number(entry, 4)? == INTERPRETER {
            let (start, length) = (number(entry.checked_add(8)?, 8)?, number(entry + 32, 8)?);
            let name = head.get(start..start.checked_add(length)?)?;
            let name = name.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}
