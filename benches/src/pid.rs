//! What a process has used: CPU time and memory, as the kernel counts them. It never ends one.

use std::fs;
use std::str::FromStr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A process, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid(pub u32);

impl Pid {
    /// CPU time of all its threads so far, user and system together
    /// (clock_getcpuclockid(3)).
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn cpu_time(self) -> Result<Duration, String> {
        let pid = nix::unistd::Pid::from_raw(self.0 as i32);
        let time = ClockId::pid_cpu_clock_id(pid).and_then(clock_gettime);
        time.map(Duration::from).map_err(|error| format!("CPU time of process {}: {error}", self.0))
    }

    /// Resident memory in bytes (VmRSS of /proc/PID/status).
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn resident_bytes(self) -> Result<u64, String> {
        self.kilobytes("status", "VmRSS:")
    }

    /// The most that [`resident_bytes`](Self::resident_bytes) has been since the start or the last
    /// [`forget_height`](Self::forget_height) (VmHWM of /proc/PID/status).
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub fn resident_bytes_height(self) -> Result<u64, String> {
        self.kilobytes("status", "VmHWM:")
    }

    /// Has the height begin anew from what is resident now (proc_pid_clear_refs(5)).
    ///
    /// # Errors
    ///
    /// There is no such process, or it is somebody else's.
    pub fn forget_height(self) -> Result<(), String> {
        let path = format!("/proc/{}/clear_refs", self.0);
        fs::write(&path, "5").map_err(|error| format!("{path}: {error}"))
    }

    /// Memory in bytes that is this process's alone and written to (Private_Dirty of
    /// /proc/PID/smaps_rollup).
    ///
    /// # Errors
    ///
    /// There is no such process, or it is somebody else's.
    pub fn private_dirty_bytes(self) -> Result<u64, String> {
        self.kilobytes("smaps_rollup", "Private_Dirty:")
    }

    fn kilobytes(self, file: &str, name: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/{file}", self.0);
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let bytes = kilobytes(&text, name);
        bytes.ok_or_else(|| format!("{path} has no {name}"))
    }
}

impl FromStr for Pid {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// The bytes of a line `NAME: N kB`.
pub(crate) fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_kilobytes_is_found_by_its_name() {
        let text = "Rss:  12 kB\nPrivate_Dirty:       34 kB\n";
        assert_eq!(kilobytes(text, "Private_Dirty:"), Some(34 * 1024));
        assert_eq!(kilobytes(text, "Dirty:"), None);
    }

    #[test]
    fn this_process_has_used_something() {
        let own = Pid(std::process::id());
        assert!(own.resident_bytes().unwrap() > 100_000);
        own.forget_height().unwrap();
        assert!(own.resident_bytes_height().unwrap() > 100_000);
        assert!(own.private_dirty_bytes().unwrap() > 10_000);
        own.cpu_time().unwrap();
    }
}
