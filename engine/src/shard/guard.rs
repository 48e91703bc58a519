//! The guard around the application's code: its panic ends with the callback.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::core::Core;

/// Runs a callback; `None` if it panicked. The message went to the panic hook. What the
/// handler holds may be half changed then, which is for the handler to care about: the
/// engine's own state is not lent out in pieces a panic could tear.
#[inline]
pub(crate) fn guard<R>(callback: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(callback)).ok()
}

/// Drops what the application has given, which is its code, too.
#[cold]
pub(crate) fn drop_guarded<S>(core: &mut Core, state: S) {
    if guard(|| drop(state)).is_none() {
        core.note_panic();
    }
}
