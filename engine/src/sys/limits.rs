//! Resource limits of the process: descriptors, and the locked memory that rings are charged to.
//! The soft limit is raised to the hard limit.

use std::mem;
use std::sync::Mutex;

use io_uring::IoUring;

/// Keeps two servers of one process from changing a limit under each other.
static LIMITS: Mutex<()> = Mutex::new(());

#[derive(Clone, Copy)]
enum Resource {
    Descriptors,
    LockedMemory,
}

impl Resource {
    fn get(self) -> Option<libc::rlimit> {
        // SAFETY: `rlimit` is two integers, for which zero is a value.
        let mut limit: libc::rlimit = unsafe { mem::zeroed() };
        // SAFETY: the pointer names `limit`, which lives across the call.
        let result = unsafe { libc::getrlimit(self.number(), &raw mut limit) };
        (result == 0).then_some(limit)
    }

    fn set(self, limit: &libc::rlimit) -> bool {
        // SAFETY: the pointer names a `limit` that lives across the call.
        unsafe { libc::setrlimit(self.number(), limit) == 0 }
    }

    #[cfg(target_env = "gnu")]
    fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }

    #[cfg(not(target_env = "gnu"))]
    fn number(self) -> libc::c_int {
        match self {
            Self::Descriptors => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        }
    }

    /// Raises the soft limit to the hard one, which is what the administrator allows, and returns
    /// the soft limit that holds then.
    fn raise(self) -> Option<u64> {
        let _guard = LIMITS.lock();
        let mut limit = self.get()?;
        let before = limit.rlim_cur;
        if limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            if !self.set(&limit) {
                return Some(before);
            }
        }
        Some(limit.rlim_cur)
    }
}

/// Raises the limit of locked memory, and of descriptors (`RLIMIT_MEMLOCK`, `RLIMIT_NOFILE`).
/// Failing is no error here: whoever needs more than there is says so.
pub(crate) fn raise_limits() {
    Resource::LockedMemory.raise();
    Resource::Descriptors.raise();
}

/// The soft limit of descriptors (`RLIMIT_NOFILE`).
pub(crate) fn descriptors_max() -> usize {
    let limit = Resource::Descriptors.get().map_or(libc::RLIM_INFINITY, |limit| limit.rlim_cur);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Runs `act` with another soft limit of descriptors. It is the whole process's.
#[cfg(test)]
pub(super) fn with_descriptors_max<R>(max: u64, act: impl FnOnce() -> R) -> R {
    let limit = Resource::Descriptors.get().expect("a limit that can be read");
    assert!(Resource::Descriptors.set(&libc::rlimit { rlim_cur: max, ..limit }));
    let result = act();
    assert!(Resource::Descriptors.set(&limit));
    result
}

/// The locked memory this user may have in all of its processes, if rings are charged to it.
///
/// `None` if there is no limit, if the process is exempt (`CAP_IPC_LOCK` in the first user
/// namespace), or if this kernel does not charge rings. Whether it does is tried: with a limit of
/// 0 for a moment, the smallest ring is refused or not. Versions are never parsed.
pub(crate) fn locked_memory_bytes_max() -> Option<usize> {
    let _guard = LIMITS.lock();
    let limit = Resource::LockedMemory.get()?;
    if limit.rlim_cur == libc::RLIM_INFINITY || is_exempt_from_locking() {
        return None;
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: limit.rlim_max };
    if !Resource::LockedMemory.set(&none) {
        return None;
    }
    let tried = IoUring::new(1);
    Resource::LockedMemory.set(&limit);
    let is_charged = tried.is_err_and(|error| error.raw_os_error() == Some(libc::ENOMEM));
    is_charged.then(|| usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX))
}

/// Whether the kernel would find `CAP_IPC_LOCK`, which it looks for in the first user namespace.
fn is_exempt_from_locking() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is_first_namespace = users.split_whitespace().eq(["0", "0", "4294967295"]);
    is_first_namespace && effective.is_some_and(|mask| mask >> CAP_IPC_LOCK & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_of_descriptors_becomes_the_hard_one() {
        let hard = Resource::Descriptors.get().unwrap().rlim_max;
        raise_limits();
        assert_eq!(Resource::Descriptors.get().unwrap().rlim_cur, hard);
        assert_eq!(descriptors_max() as u64, hard);
    }

    #[test]
    fn finding_out_leaves_the_limit_as_it_was() {
        let before = Resource::LockedMemory.get().unwrap();
        let found = locked_memory_bytes_max();
        assert_eq!(Resource::LockedMemory.get().unwrap().rlim_cur, before.rlim_cur);
        assert!(found.is_none_or(|bytes| bytes as u64 == before.rlim_cur));
    }
}
