//! Settings that contradict each other are found before a thread is started.

use super::{Config, ENTRIES_CEILING, MESSAGE_BYTES_CEILING, SURPLUS_MAX, TIMEOUT_MS_CEILING};
use crate::error::StartError;

impl Config {
    /// Finds a rule that the settings break.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let rules = [
            (self.handshake_timeout_ms > 0, "handshake_timeout_ms must be above 0"),
            (self.close_timeout_ms > 0, "close_timeout_ms must be above 0"),
            (
                self.ping_interval_ms == 0 || self.pong_timeout_ms > 0,
                "pong_timeout_ms must be above 0 where pings are sent",
            ),
            (self.head_bytes_max >= 256, "head_bytes_max must be at least 256"),
            ((1..=128).contains(&self.headers_max), "headers_max must be between 1 and 128"),
            (
                self.message_bytes_max > 0 && self.message_bytes_max <= MESSAGE_BYTES_CEILING,
                "message_bytes_max must be between 1 and 1 GiB",
            ),
            (
                self.write_bytes_mark <= self.write_bytes_max,
                "write_bytes_mark must not be above write_bytes_max",
            ),
            (
                self.write_bytes_max <= MESSAGE_BYTES_CEILING,
                "write_bytes_max must be at most 1 GiB",
            ),
            (
                (1..=crate::driver::SLOTS_MAX - SURPLUS_MAX).contains(&self.connections_max),
                "connections_max must be between 1 and 2^28 - 8",
            ),
            (
                (1..=ENTRIES_CEILING).contains(&self.broadcast_entries),
                "broadcast_entries must be between 1 and 2^24",
            ),
            (
                (1..=ENTRIES_CEILING).contains(&self.command_entries),
                "command_entries must be between 1 and 2^24",
            ),
            (
                (1..=65_535).contains(&self.control_frames_burst_max),
                "control_frames_burst_max must be between 1 and 65,535",
            ),
            (
                (1..=32_768).contains(&self.submission_entries),
                "submission_entries must be between 1 and 32,768",
            ),
            (
                self.completion_entries >= self.submission_entries.saturating_mul(2),
                "completion_entries must be at least twice submission_entries",
            ),
            (
                self.timeouts_ms().into_iter().all(|ms| ms <= TIMEOUT_MS_CEILING),
                "a timeout must be at most 2^31 - 1 ms, 24 days; 0 is never",
            ),
            (
                (512..=1 << 20).contains(&self.receive_buffer_bytes),
                "receive_buffer_bytes must be between 512 and 1 MiB",
            ),
            (
                self.receive_buffers_max.is_power_of_two() && self.receive_buffers_max <= 32_768,
                "receive_buffers_max must be a power of two up to 32,768",
            ),
            (self.receive_buffers_min > 0, "receive_buffers_min must be above 0"),
        ];
        if self.write_bytes_max < self.message_bytes_max.saturating_mul(2) {
            tracing::warn!(
                write_bytes_max = self.write_bytes_max,
                message_bytes_max = self.message_bytes_max,
                "write_bytes_max is below twice message_bytes_max: two of the largest messages at \
                 one moment close a subscriber that reads"
            );
        }
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(StartError::Config { rule }),
            None => Ok(()),
        }
    }

    fn timeouts_ms(&self) -> [u32; 13] {
        [
            self.ticket_timeout_ms,
            self.body_timeout_ms,
            self.keep_alive_timeout_ms,
            self.handshake_timeout_ms,
            self.message_timeout_ms,
            self.idle_timeout_ms,
            self.ping_interval_ms,
            self.pong_timeout_ms,
            self.close_timeout_ms,
            self.write_timeout_ms,
            self.bind_timeout_ms,
            self.drain_timeout_ms,
            self.ping_interval_ms.saturating_add(self.pong_timeout_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_together() {
        Config::new().check().unwrap();
    }

    #[test]
    fn what_cannot_work_is_said_before_a_thread_starts() {
        let broken = [
            Config::new().handshake_timeout_ms(0),
            Config::new().pong_timeout_ms(0),
            Config::new().message_bytes_max(0),
            Config::new().write_bytes_mark(16 << 20),
            Config::new().connections_max(0),
            Config::new().completion_entries(1_024),
            Config::new().receive_buffers_max(1_000),
            Config::new().connections_max(usize::MAX),
            Config::new().broadcast_entries(usize::MAX),
            Config::new().command_entries(usize::MAX),
            Config::new().idle_timeout_ms(u32::MAX),
            Config::new().ping_interval_ms(1 << 30).pong_timeout_ms(1 << 30),
        ];
        for config in broken {
            assert!(matches!(config.check(), Err(StartError::Config { .. })), "{config:?}");
        }
    }
}
