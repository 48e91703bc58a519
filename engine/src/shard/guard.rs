//! The application's code is called in here: its panic ends neither the shard nor the process.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the application's code; `None` if it panicked. The message went to the panic hook. What the
/// handler holds may be half changed then, which is for the handler to care about: the engine's own
/// state is not lent out in pieces a panic could tear.
#[inline]
pub(crate) fn guard<R>(code: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(code)).map_err(forget).ok()
}

/// A panic's payload is the application's as well, and so is its `Drop`.
#[cold]
fn forget(payload: Box<dyn std::any::Any + Send>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;

    use super::*;

    /// Panics when it is dropped, and again with a payload that does.
    struct Bomb(u32);

    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 > 0 {
                resume_unwind(Box::new(Bomb(self.0 - 1)));
            }
        }
    }

    #[test]
    fn panics_end_here() {
        assert_eq!(guard(|| 7), Some(7));
        for depth in 0..5 {
            assert_eq!(guard(|| resume_unwind(Box::new(Bomb(depth)))), None::<()>);
            let expected = (depth == 0).then_some(());
            assert_eq!(guard(|| drop(Bomb(depth))), expected);
        }
    }
}
