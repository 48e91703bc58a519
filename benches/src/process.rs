//! Servers under test, as child processes on a core of their own.
//! A server is ended by its process id when its value is dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A running server.
pub struct Process {
    child: Child,
    /// Where it listens, from the line it printed.
    pub addr: SocketAddr,
}

impl Process {
    /// Starts `program` pinned to `cpu` (taskset(1)) and waits for its line
    /// `listening on SCHEME://ADDR:PORT …`.
    ///
    /// # Errors
    ///
    /// It does not start, or says something else.
    pub fn start(cpu: usize, program: &Path, arguments: &[&str]) -> Result<Self, String> {
        let mut taskset = Command::new("taskset");
        Self::spawn(taskset.args(["-c", &cpu.to_string()]).arg(program).args(arguments), program)
    }

    /// As [`start`](Self::start), on any core.
    ///
    /// # Errors
    ///
    /// It does not start, or says something else.
    pub fn start_anywhere(program: &Path, arguments: &[&str]) -> Result<Self, String> {
        Self::spawn(Command::new(program).args(arguments), program)
    }

    fn spawn(command: &mut Command, program: &Path) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
        let addr = line.split("://").nth(1).and_then(|rest| rest.split(' ').next());
        match addr.and_then(|addr| addr.parse().ok()) {
            Some(addr) => Ok(Self { child, addr }),
            None => Err(format!("{} did not say where it listens: {line:?}", program.display())),
        }
    }

    /// Ends it by SIGTERM, as an operator would, and waits for it.
    ///
    /// # Errors
    ///
    /// It ends with another status than 0.
    pub fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status();
        killed.map_err(|error| format!("kill: {error}"))?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the server ended with {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// CPU time used so far, in seconds, user and system together (/proc/PID/stat).
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        /// USER_HZ is 100 on every Linux that has io_uring.
        const TICKS_PER_SECOND: f64 = 100.0;
        let stat = self.read("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse().ok());
        (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / TICKS_PER_SECOND
    }

    /// Resident memory in bytes (VmRSS).
    ///
    /// # Panics
    ///
    /// If /proc has no such line.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("VmRSS of a running process") * 1024
    }

    /// Number of open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary or example of this workspace, built beside the running one.
///
/// # Errors
///
/// It has not been built.
pub fn sibling(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().ok_or("an executable lies in a folder")?;
    let found = [folder.join(name), folder.join("examples").join(name)];
    let found = found.into_iter().find(|path| path.exists());
    found.ok_or_else(|| {
        format!("{name} is not built: cargo build --release --workspace --bins --examples")
    })
}
