//! Look-ups that fail in every process: the search of the dynamic loader, of the
//! C library for locales, time zones and name services, of the standard library for limits, of its
//! panics for debug information, and of the test harness for the terminal's description. And [`Names`], without
//! what is made up anew each time.

mod names;

pub use names::Names;

/// The first of the ports that the kernel gives to those who ask for any (`ip_local_port_range` of ip(7)).
/// Tests that look for a free port themselves choose among these, too.
pub const FIRST_CHOSEN_PORT: u16 = 32_768;

/// Beginnings of paths that are asked for in vain on many machines.
const PREFIXES: &[&[u8]] = &[
    b"/etc/ld.so.",
    b"/usr/lib/locale/",
    b"/usr/share/locale",
    b"/usr/share/locale-langpack/",
    b"/run/nscd/",
    b"/var/run/nscd/",
    b"/sys/fs/cgroup",
    b"/sys/fs/selinux",
    b"/sys/kernel/mm/transparent_hugepage/",
    b"/sys/devices/system/cpu/",
    b"/selinux",
    b"/etc/selinux/",
    b"/etc/gai.conf",
    b"/etc/malloc.conf",
    b"/etc/host.conf",
    b"/etc/localtime",
    b"/etc/nsswitch.conf",
    b"/etc/resolv.conf",
    b"/proc/sys/",
    b"/usr/lib/debug/",
    // terminfo(5); the first one is Haiku's.
    b"/boot/system/data/terminfo",
    b"/etc/terminfo",
    b"/lib/terminfo",
    b"/usr/lib/terminfo",
    b"/usr/local/share/terminfo",
    b"/usr/share/terminfo",
];

/// Endings of names that are asked for in vain: caches, and debug information beside a library.
const SUFFIXES: &[&[u8]] = &[
    b"/gconv-modules.cache",
    b"/.terminfo",
    b".dwp",
    b".dwo",
    b".debug",
    b".gnu_debugdata",
];

/// A user's own descriptions of terminals, in the home directory.
const OWN_TERMINFO: &[u8] = b"/.terminfo/";

/// Names of directories that the dynamic loader looks into for a library made for this processor.
const HARDWARE: &[&[u8]] = &[b"glibc-hwcaps", b"tls", b"haswell", b"avx512_1"];

/// Directories of such a directory, and of themselves (AT_PLATFORM of getauxval(3)).
const PLATFORMS: &[&[u8]] = &[b"x86_64", b"aarch64"];

/// Returns true if a process that lacks this file has not noticed.
pub fn is_noise(path: &[u8]) -> bool {
    if PREFIXES.iter().any(|prefix| path.starts_with(prefix)) {
        return true;
    }
    if SUFFIXES.iter().any(|suffix| path.ends_with(suffix)) {
        return true;
    }
    // Two folders below it, by the first letter or its code.
    if let Some(at) = find(path, OWN_TERMINFO) {
        let below = &path[at + OWN_TERMINFO.len()..];
        return below.iter().filter(|byte| **byte == b'/').count() <= 1;
    }
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else {
        return false;
    };
    let (folder, name) = (&path[..slash], &path[slash + 1..]);
    let parent = file_name(folder);
    if PLATFORMS.contains(&name) && (PLATFORMS.contains(&parent) || HARDWARE.contains(&parent)) {
        return true;
    }
    let mut components = folder.split(|byte| *byte == b'/');
    let in_hardware = components.any(|component| HARDWARE.contains(&component));
    in_hardware && (is_library(name) || name.starts_with(b"x86-64-v") || name.is_empty())
        || HARDWARE[..1].contains(&name)
}

/// Returns true for the name of a shared library: `libc.so.6`, `libz.so`.
pub fn is_library(name: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = find(&name[from..], b".so") {
        let rest = &name[from + at + 3..];
        if rest.is_empty() || rest[0] == b'.' && rest.get(1).is_some_and(u8::is_ascii_digit) {
            return true;
        }
        from += at + 3;
    }
    false
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Returns the last name of a path.
pub fn file_name(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => &path[slash + 1..],
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_of_the_loader_is_noise_and_what_a_test_lacks_is_not() {
        for path in [
            "/etc/ld.so.preload",
            "/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libc.so.6",
            "/opt/app/lib/glibc-hwcaps",
            "/opt/app/tls/libz.so",
            "/opt/app/tls/x86_64",
            "/opt/app/x86_64/x86_64",
            "/usr/lib/locale/locale-archive",
            "/sys/fs/cgroup/cpu.max",
            "/etc/terminfo/x/xterm",
            "/usr/share/terminfo/78/xterm-256color",
            "/home/me/.terminfo",
            "/home/me/.terminfo/x/xterm",
            "/usr/lib/debug/.build-id/16/bd.debug",
            "/work/target/debug/deps/out-f5a7.dwp",
        ] {
            assert!(is_noise(path.as_bytes()), "{path}");
        }
        for path in [
            "/etc/hosts",
            "/work/tests/tls/cert.pem",
            "fixture.json",
            "/lib/libmissing.so.1",
            "/srv/tls",
            "/srv/x86_64",
            "/srv/tls/x86_64/cert.pem",
            "",
        ] {
            assert!(!is_noise(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn libraries_are_known_by_their_names() {
        for name in ["libc.so.6", "libz.so", "a.so.b.so.1"] {
            assert!(is_library(name.as_bytes()), "{name}");
        }
        for name in ["notes.soon", ".something", "so", "libc.a", "x.so.txt"] {
            assert!(!is_library(name.as_bytes()), "{name}");
        }
    }
}
