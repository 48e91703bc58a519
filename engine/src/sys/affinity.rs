//! The CPUs that this process may use, and pinning the calling thread to one of them.

use std::io;
use std::mem;

/// The CPUs the calling thread may run on, in ascending order (sched_getaffinity(2)).
/// Containers and `taskset` are respected this way.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: `cpu_set_t` is a plain array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the pointer and the size name `set`, which lives across the call.
    let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let is_allowed = |&cpu: &usize| {
        // SAFETY: `cpu` is below CPU_SETSIZE, so the bit lies within the set.
        unsafe { libc::CPU_ISSET(cpu, &set) }
    };
    Ok((0..libc::CPU_SETSIZE as usize).filter(is_allowed).collect())
}

/// Pins the calling thread to `cpu` (sched_setaffinity(2)).
///
/// # Errors
///
/// What the kernel says, if the process may not run there.
///
/// # Panics
///
/// If `cpu` is not below `CPU_SETSIZE` (1,024).
pub fn pin_to(cpu: usize) -> io::Result<()> {
    assert!(cpu < libc::CPU_SETSIZE as usize);
    // SAFETY: `cpu_set_t` is a plain array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `cpu` is below CPU_SETSIZE, so the bit lies within the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the pointer and the size name `set`, which lives across the call.
    let result = unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_pinned_to_a_cpu_may_run_on_that_one_only() {
        let cpu = *allowed_cpus().unwrap().last().unwrap();
        let pinned = std::thread::spawn(move || {
            pin_to(cpu).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(pinned.join().unwrap(), [cpu]);
    }
}
