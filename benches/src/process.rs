//! Servers under test, as child processes on a core of their own.
//! A server is ended by its process id when its value is dropped.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid as NixPid;

use crate::pid::Pid;

/// A running server.
pub struct Process {
    child: Child,
    /// Where it listens, from the line it printed.
    pub addr: SocketAddr,
    /// What the line says of it, without the brackets.
    pub description: String,
}

impl Process {
    /// Starts `program`, pinned to `cpu` (taskset(1)) if there is one, and waits for its line
    /// `listening on SCHEME://ADDR:PORT …`. Its log is thrown away.
    ///
    /// # Errors
    ///
    /// It does not start, or says something else.
    pub fn start(program: &Path, arguments: &[&str], cpu: Option<usize>) -> Result<Self, String> {
        let mut command = pinned(program.as_os_str(), cpu);
        Self::spawn(command.args(arguments).stderr(Stdio::null()), program)
    }

    /// As [`start`](Self::start), on any core, with its log on standard error.
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
        let read = BufReader::new(stdout).read_line(&mut line);
        let started = parse_line(&line).filter(|_| read.is_ok());
        let Some((addr, description)) = started else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{} did not say where it listens: {line:?}", program.display()));
        };
        Ok(Self { child, addr, description: description.to_owned() })
    }

    /// Takes a server that says nothing when it starts, once it accepts connections on `addr`.
    ///
    /// # Errors
    ///
    /// It does not start, or accepts nothing within ten seconds.
    pub fn start_silent(command: &mut Command, addr: SocketAddr) -> Result<Self, String> {
        const TRIES: usize = 100;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| format!("{command:?}: {error}"))?;
        let mut process = Self { child, addr, description: String::new() };
        for _ in 0..TRIES {
            if TcpStream::connect(addr).is_ok() {
                return Ok(process);
            }
            if let Ok(Some(status)) = process.child.try_wait() {
                return Err(format!("{command:?} ended with {status}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("{command:?} accepts nothing on {addr}"))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.child.id())
    }

    /// Ends it by SIGTERM, as an operator would, and waits for it.
    ///
    /// # Errors
    ///
    /// It ends with another status than 0.
    pub fn stop(self) -> Result<(), String> {
        self.stop_timed().map(|_| ())
    }

    /// As [`stop`](Self::stop), and tells what CPU time it took from SIGTERM to the end. Nobody
    /// else may wait for a child process meanwhile.
    ///
    /// # Errors
    ///
    /// It ends with another status than 0.
    pub fn stop_timed(mut self) -> Result<Duration, String> {
        let ended_before = ended_children_cpu_time()?;
        let cpu_before = self.pid().cpu_time()?;
        let pid = NixPid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGTERM).map_err(|error| format!("kill: {error}"))?;
        match self.child.wait() {
            Ok(status) if status.success() => {
                Ok((ended_children_cpu_time()? - ended_before).saturating_sub(cpu_before))
            }
            Ok(status) => Err(format!("the server ended with {status}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Number of open descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
}

/// CPU time of all child processes that have ended and were waited for (getrusage(2)).
fn ended_children_cpu_time() -> Result<Duration, String> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    Ok([usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| Duration::from_micros(time.num_microseconds() as u64))
        .sum())
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs `program` on `cpu` only, or on any.
#[must_use]
pub fn pinned(program: &OsStr, cpu: Option<usize>) -> Command {
    let Some(cpu) = cpu else { return Command::new(program) };
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", &cpu.to_string()]).arg(program);
    taskset
}

/// The address and the description of `listening on SCHEME://ADDR:PORT (DESCRIPTION)`.
fn parse_line(line: &str) -> Option<(SocketAddr, &str)> {
    let (addr, rest) = line.trim().split_once("://")?.1.split_once(' ')?;
    Some((addr.parse().ok()?, rest.trim_start_matches('(').trim_end_matches(')')))
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
        format!("{name} is not built: cargo build --profile bench --workspace --bins --examples")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_and_what() {
        let line = "listening on ws://127.0.0.1:9001 (ws 8.1.0)\n";
        assert_eq!(parse_line(line), Some(("127.0.0.1:9001".parse().unwrap(), "ws 8.1.0")));
        assert_eq!(parse_line("error: no io_uring\n"), None);
        assert_eq!(parse_line(""), None);
    }
}
