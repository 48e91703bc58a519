//! What connections cost that do nothing: memory of the server and of the kernel, apart. They
//! are opened one after the other, each echoes one message, and then all are left alone.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use crate::fleet::Workers;
use crate::kernel_memory::KernelMemory;
use crate::pid::Pid;

/// What each quantity is called, in the order of [`IdleCost::each`].
const NAMES: [&str; 3] = ["server, resident", "server, private and dirty", "kernel, both ends"];

/// By how much memory has grown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdleCost {
    connections: usize,
    /// In bytes: resident memory of the server, what of it is private and dirty, the kernel's.
    grown_bytes: [f64; 3],
}

impl IdleCost {
    /// Opens `connections` (at least 2) and measures the processes `pids` after `rest`. The
    /// first connection is opened before: what a process needs at all is not charged.
    ///
    /// # Errors
    ///
    /// Connecting failed, or a process is gone.
    pub fn measure(
        workers: &mut Workers,
        pids: &[Pid],
        connections: usize,
        rest: Duration,
    ) -> Result<Self, String> {
        if connections < 2 {
            return Err("memory is measured from the second connection on".to_owned());
        }
        workers.connect(1, true)?;
        std::thread::sleep(rest);
        let before = used_bytes(pids)?;
        workers.connect(connections - 1, true)?;
        std::thread::sleep(rest);
        let after = used_bytes(pids)?;
        let grown_bytes = std::array::from_fn(|index| after[index] - before[index]);
        Ok(Self { connections, grown_bytes })
    }

    /// Bytes per connection: resident memory of the server, what of it is private and dirty,
    /// and the kernel's, which is for both ends if both are on this machine.
    #[must_use]
    pub fn each(&self) -> [f64; 3] {
        self.grown_bytes.map(|bytes| bytes / (self.connections - 1) as f64)
    }

    /// For people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        let title = format!("{} connections after one echo each", self.connections);
        table.load_style(presets::ASCII_MARKDOWN).set_header([&title[..], "bytes each"]);
        for (name, bytes) in NAMES.iter().zip(self.each()) {
            table.add_row([(*name).to_owned(), format!("{bytes:.0}")]);
        }
        let value = table.column_mut(1).expect("a row has two cells");
        value.set_cell_alignment(CellAlignment::Right);
        format!("{table}\nThe kernel's memory is for both ends if the server is on this machine.")
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let [resident, private_dirty, kernel] = self.each();
        json!({
            "connections": self.connections,
            "resident_bytes_each": resident,
            "private_dirty_bytes_each": private_dirty,
            "kernel_bytes_each_both_ends": kernel,
        })
    }
}

fn used_bytes(pids: &[Pid]) -> Result<[f64; 3], String> {
    let sum = |bytes: fn(Pid) -> Result<u64, String>| pids.iter().map(|pid| bytes(*pid)).sum();
    let (resident, private_dirty): (Result<u64, String>, Result<u64, String>) =
        (sum(Pid::resident_bytes), sum(Pid::private_dirty_bytes));
    let kernel = KernelMemory::now()?.bytes();
    Ok([resident? as f64, private_dirty? as f64, kernel as f64])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_connection_is_not_charged() {
        let cost = IdleCost { connections: 11, grown_bytes: [3_000.0, 2_000.0, -10.0] };
        assert_eq!(cost.each(), [300.0, 200.0, -1.0]);
        assert_eq!(cost.to_json()["resident_bytes_each"], 300.0);
        assert!(cost.to_table().contains("| server, private and dirty"), "{}", cost.to_table());
    }
}
