//! Which machine this is and what day: what a figure is worth nothing without.

use std::fmt;
use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::pid::kilobytes;

/// A machine, and the date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The model, as the CPU says.
    pub cpu: String,
    /// How many are online.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The kernel's release.
    pub kernel: String,
    /// The compiler on the path, which is what the servers in Rust were built with.
    pub rustc: String,
    /// Year, month and day of the system clock, in UTC.
    pub date: String,
}

impl Machine {
    /// This machine, today. What cannot be found out is empty.
    #[must_use]
    pub fn this() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            cpu: model.unwrap_or("").trim_start_matches(['\t', ' ', ':']).to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_mib: kilobytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: output("rustc", &["--version"]),
            date: output("date", &["--utc", "+%Y-%m-%d"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, memory_mib, kernel, rustc, date } = self;
        write!(f, "{date}, {cpu}, {cores} cores, {memory_mib} MiB, Linux {kernel}, {rustc}")
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_cpu_and_a_kernel() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_mib > 0);
        assert!(machine.kernel.contains('.'));
        assert_eq!(machine.date.len(), "2026-11-20".len());
    }
}
