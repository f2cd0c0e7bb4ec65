//! The CPU clocks of other processes.

use super::Pid;
use nix::time::ClockId;
use std::time::Duration;

/// Returns the CPU time that a process has used so far in user mode and in the kernel, without that
/// of its children: by its CPU clocks (clock_getcpuclockid(3)), which tell it to the nanosecond where
/// /proc tells hundredths of a second. `None` if it is gone.
pub(crate) fn cpu_time(process: Pid) -> Option<(Duration, Duration)> {
    // linux/posix-timers.h: the inverted id, and which clock of the process in the lowest bits.
    let [both, user, exact] = [0, 1, 2].map(|clock| {
        let clock = ClockId::from_raw((!process << 3) | clock);
        clock.now().ok().map(Duration::from)
    });
    let (both, user, exact) = (both?, user?, exact?);
    Some(divide_time(exact, user, both.saturating_sub(user)))
}

/// Divides the exact time into parts that are known by ticks only, as getrusage(2) does.
fn divide_time(exact: Duration, user: Duration, system: Duration) -> (Duration, Duration) {
    let ticks = (user + system).as_nanos();
    let system = match (user.as_nanos(), system.as_nanos()) {
        (_, 0) => 0,
        (0, _) => exact.as_nanos(),
        (_, system) => exact.as_nanos() * system / ticks,
    };
    let system = Duration::from_nanos(u64::try_from(system).unwrap_or(u64::MAX));
    (exact.saturating_sub(system), system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_time_is_divided_as_ticks_say() {
        let ms = Duration::from_millis;
        let divided = |exact, user, system| divide_time(ms(exact), ms(user), ms(system));
        assert_eq!(divided(7, 0, 0), (ms(7), ms(0)), "no tick has hit it");
        assert_eq!(divided(7, 0, 10), (ms(0), ms(7)));
        assert_eq!(divided(7, 10, 0), (ms(7), ms(0)));
        assert_eq!(divided(80, 30, 10), (ms(60), ms(20)));
    }

    #[test]
    fn the_clocks_of_a_process_tell_its_time_and_those_of_none_tell_nothing() {
        let own = std::process::id().cast_signed();
        let before = cpu_time(own).expect("this process exists");
        while cpu_time(own).expect("it still does") <= before {}
        assert_eq!(cpu_time(1 << 24), None, "no id is that large");
    }
}
