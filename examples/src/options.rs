//! The command line that every example understands. It says what was asked for, in the engine's
//! terms; it never opens anything.

use std::num::NonZeroUsize;

use clap::Parser;
use ringwire::{Config, DriverChoice, Pin};

const SIGNALS: &str = "SIGTERM or SIGINT closes every connection in good order and ends with \
                       status 0; another one, a second later or more, ends at once, with status 1.";

/// The settings every example takes: done with `parse::<Options>(..)`, or flattened into an
/// example's own `clap` type.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Address or host name (all of its addresses) to listen on, port 0 picks a free one; or a Unix
    /// socket, `unix:PATH` or `unix:@NAME`; repeatable
    #[arg(long, value_name = "ADDR:PORT|unix:PATH")]
    pub listen: Vec<String>,

    /// Permissions of the files of Unix sockets, in octal; who may write may connect
    #[arg(long, value_name = "MODE", default_value = "660", value_parser = parse_mode)]
    pub unix_mode: u32,

    /// Threads, each with its own io_uring or epoll instance [default: one per core, by affinity and
    /// CPU quota]
    #[arg(long, value_name = "N")]
    pub shards: Option<NonZeroUsize>,

    /// Pin each thread to its own CPU: `off`, `auto` (CPUs that other servers use least), or a list
    /// such as 0,2,4-7
    #[arg(long, value_name = "off|auto|LIST", default_value = "off", value_parser = parse_pin)]
    pub pin: Pin,

    /// What the threads run on: io_uring, epoll, or `auto` (io_uring where it works, else epoll)
    #[arg(long, value_name = "auto|io_uring|epoll", default_value_t, env = "RINGWIRE_DRIVER")]
    pub driver: DriverChoice,

    /// Largest message from a client; a larger one closes its connection with 1009
    #[arg(long, value_name = "BYTES", default_value_t = Config::new().message_bytes_max)]
    pub max_message: usize,

    /// Silence after which a connection is closed; 0 disables it
    #[arg(long, value_name = "SECONDS", default_value_t = Config::new().idle_timeout_ms / 1000)]
    pub idle_timeout: u32,

    /// Silence after which a connection is pinged; 0 disables pings
    #[arg(long, value_name = "SECONDS", default_value_t = Config::new().ping_interval_ms / 1000)]
    pub ping_interval: u32,

    /// Most unsent bytes of a slow client; beyond it the client is closed with 1013
    #[arg(long, value_name = "BYTES", default_value_t = Config::new().write_bytes_max)]
    pub max_backpressure: usize,

    /// Other origin whose pages may connect, such as `https://app.example`, or `any`; repeatable
    #[arg(long, value_name = "ORIGIN|any")]
    pub allow_origin: Vec<crate::AllowedOrigin>,
}

impl Options {
    /// These settings as the engine's; what no option names keeps the engine's default.
    pub fn config(&self) -> Config {
        let config = Config::new()
            .message_bytes_max(self.max_message)
            .idle_timeout_ms(self.idle_timeout.saturating_mul(1000))
            .ping_interval_ms(self.ping_interval.saturating_mul(1000))
            .write_bytes_max(self.max_backpressure);
        let mark = config.write_bytes_mark.min(self.max_backpressure);
        config.write_bytes_mark(mark)
    }
}

/// As chmod(1) has it; what makes sense of it, the engine says.
fn parse_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| format!("`{text}` is no mode; give one such as 660"))
}

/// `off`, `auto`, or CPUs and ranges of them with commas between, as taskset(1) has them.
fn parse_pin(text: &str) -> Result<Pin, String> {
    match text {
        "off" => return Ok(Pin::Off),
        "auto" => return Ok(Pin::Auto),
        _ => {}
    }
    let number = |text: &str| {
        let cpu = text.parse().ok().filter(|&cpu: &usize| cpu < CPUS_MAX);
        cpu.ok_or_else(|| format!("`{text}` is no CPU; give off, auto, or a list such as 0,2,4-7"))
    };
    let mut cpus = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(format!("`{part}` is no range; the lower CPU comes first"));
                }
                cpus.extend(first..=last);
            }
            None => cpus.push(number(part)?),
        }
    }
    Ok(Pin::Cpus(cpus))
}

/// What a `cpu_set_t` can name.
const CPUS_MAX: usize = 1_024;

/// Reads the command line of an example that is described by `about` and listens on `listen`
/// unless told otherwise.
///
/// Leaves the process when the command line is wrong (status 2, with the reason on standard error)
/// or when it only asks for help (status 0).
#[must_use]
pub fn parse<C: Parser>(about: &'static str, listen: &'static str) -> C {
    let matches = command::<C>(about, listen).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command<C: Parser>(about: &'static str, listen: &'static str) -> clap::Command {
    C::command()
        .about(about)
        .after_help(SIGNALS)
        .mut_arg("listen", |argument| argument.required(false).default_value(listen))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    fn options(line: &str) -> Result<Options, clap::Error> {
        let words = ["example"].into_iter().chain(line.split_whitespace());
        command::<Options>("An example", "127.0.0.1:9001")
            .try_get_matches_from(words)
            .and_then(|matches| Options::from_arg_matches(&matches))
    }

    #[test]
    fn an_empty_line_asks_for_the_engines_defaults() {
        let options = options("").unwrap();
        assert_eq!(options.listen, ["127.0.0.1:9001"]);
        assert_eq!(options.unix_mode, 0o660);
        assert_eq!(options.pin, Pin::Off);
        assert_eq!(options.shards, None);
        let defaults = Config::new();
        let config = options.config();
        assert_eq!(config.message_bytes_max, defaults.message_bytes_max);
        assert_eq!(config.idle_timeout_ms, defaults.idle_timeout_ms);
        assert_eq!(config.ping_interval_ms, defaults.ping_interval_ms);
        assert_eq!(config.write_bytes_max, defaults.write_bytes_max);
    }

    #[test]
    fn seconds_become_milliseconds_and_bytes_stay_bytes() {
        let options = options(
            "--listen localhost:0 --listen unix:/run/a --unix-mode 666 --pin 3,0-1 --shards 3 --driver epoll --max-message 5 --idle-timeout 7 --ping-interval 0 \
             --max-backpressure 9",
        )
        .unwrap();
        assert_eq!(options.listen, ["localhost:0", "unix:/run/a"]);
        assert_eq!(options.unix_mode, 0o666);
        assert_eq!(options.pin, Pin::Cpus(vec![3, 0, 1]));
        assert_eq!(options.shards.unwrap().get(), 3);
        assert_eq!(options.driver, DriverChoice::Epoll);
        let config = options.config();
        assert_eq!(config.message_bytes_max, 5);
        assert_eq!(config.idle_timeout_ms, 7_000);
        assert_eq!(config.ping_interval_ms, 0);
        assert_eq!(config.write_bytes_max, 9);
        // The engine wants the mark below the limit.
        assert_eq!(config.write_bytes_mark, 9);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "--shards 0",
            "--shards -1",
            "--max-message many",
            "--unix-mode 888",
            "--unix-mode rw",
            "--pin on",
            "--driver kqueue",
            "--pin 3-1",
            "--pin 0,",
            "--pin 1024",
            "--idle-timeout 1.5",
            "--unknown",
            "echo",
        ] {
            assert!(options(line).is_err(), "{line}");
        }
    }
}
