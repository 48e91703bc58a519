//! Atomics, fences and cells of the standard library. With `--cfg ringwire_loom` they are loom's,
//! for the model checks of the broadcast ring and the sleep flag.

#[cfg(ringwire_loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU64, fence},
};
#[cfg(not(ringwire_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, fence};

/// The standard cell with loom's way of looking inside.
#[cfg(not(ringwire_loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(ringwire_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}
