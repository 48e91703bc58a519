//! Resource limits of the process that rings are charged to.
//! Only the soft limit is ever raised, and never beyond the hard one.

use std::mem;

/// Raises the soft limit of locked memory to the hard one: rings are charged to it on recent
/// kernels, and the hard limit is what the administrator allows. Failing is no error here;
/// setting a ring up will say what is missing.
pub(crate) fn raise_locked_memory() {
    // SAFETY: `rlimit` is two integers, for which zero is a value.
    let mut limit: libc::rlimit = unsafe { mem::zeroed() };
    // SAFETY: the pointer names `limit`, which lives across the call.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if got == 0 && limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: the pointer names `limit`, which lives across the call.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    }
}
