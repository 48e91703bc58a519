//! The driver under one worker's connections: io_uring, or epoll where the kernel refuses io_uring.

use ringwire::driver::{
    Completion, Driver, EpollDriver, KernelSocket, Key, Lease, Outbound, RingConfig, UringDriver,
    Wait,
};

/// Either driver, behind the calls that a worker makes.
pub(crate) enum WorkerDriver {
    IoUring(Box<UringDriver>),
    Epoll(Box<EpollDriver>),
}

macro_rules! either {
    ($driver:expr, $inner:ident => $call:expr) => {
        match $driver {
            WorkerDriver::IoUring($inner) => $call,
            WorkerDriver::Epoll($inner) => $call,
        }
    };
}

impl WorkerDriver {
    /// A driver on the calling thread. Figures of a load that runs on epoll differ from those of one
    /// that does not, so that one says so on standard error.
    ///
    /// # Errors
    ///
    /// Neither can be had.
    pub(crate) fn new() -> Result<Self, String> {
        let config = RingConfig::default();
        let refused = match UringDriver::new(&config, Vec::new()) {
            Ok(driver) => return Ok(Self::IoUring(Box::new(driver))),
            Err(error) => error,
        };
        eprintln!("this load runs on epoll, since io_uring is refused: {refused:?}");
        let driver = EpollDriver::new(&config, Vec::new());
        driver
            .map(|driver| Self::Epoll(Box::new(driver)))
            .map_err(|error| format!("no driver: {refused:?}; {error:?}"))
    }

    pub(crate) fn arm_receive(&mut self, key: Key, socket: &KernelSocket) {
        either!(self, driver => driver.arm_receive(key, socket));
    }

    pub(crate) fn send(&mut self, key: Key, socket: &KernelSocket, buffer: Vec<u8>, offset: usize) {
        let outbound = Outbound::Own(buffer);
        either!(self, driver => driver.send(key, socket, outbound, offset));
    }

    pub(crate) fn shut_down(&mut self, key: Key, socket: &KernelSocket) {
        either!(self, driver => driver.shut_down(key, socket));
    }

    pub(crate) fn close(&mut self, socket: KernelSocket) {
        either!(self, driver => driver.close(socket));
    }

    pub(crate) fn received<'a>(&'a mut self, lease: &'a Lease) -> &'a mut [u8] {
        either!(self, driver => driver.received(lease))
    }

    pub(crate) fn recycle(&mut self, lease: Lease) {
        either!(self, driver => driver.recycle(lease));
    }

    pub(crate) fn tick(&mut self, wait: Wait, completions: &mut Vec<Completion<KernelSocket>>) {
        either!(self, driver => driver.tick(wait, completions));
    }
}
