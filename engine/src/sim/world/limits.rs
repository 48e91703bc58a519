//! The configuration of a world.

use crate::config::{Config, Overflow};
use crate::sim::client::HANDSHAKE_TIMEOUT_MS;
use crate::sim::dice::Dice;

pub(super) const IDLE_TIMEOUT_MS: u64 = 6_000;

/// Small limits, so that every one of them is met.
pub(super) fn draw_config(dice: &Dice) -> Config {
    let write_bytes_max = dice.between(600, 4_000);
    Config {
        handshake_timeout_ms: HANDSHAKE_TIMEOUT_MS as u32,
        message_timeout_ms: 3_000,
        idle_timeout_ms: *dice.pick(&[0, IDLE_TIMEOUT_MS as u32]),
        ping_interval_ms: *dice.pick(&[0, 1_500]),
        pong_timeout_ms: 1_000,
        // Before the drain is over, and behind it.
        close_timeout_ms: *dice.pick(&[1_500, 6_000]),
        write_timeout_ms: *dice.pick(&[0, 1_500]),
        write_rate_bytes_min: *dice.pick(&[0, 10]),
        control_frames_burst_max: *dice.pick(&[100, 1_000]),
        drain_timeout_ms: 4_000,
        // More than a polite client can have under way when it sees our Close.
        drain_bytes_max: 60_000,
        message_bytes_max: 1_500,
        write_bytes_mark: write_bytes_max / 3,
        write_bytes_max,
        forward_bytes_min: *dice.pick(&[0, 20, 10_000]),
        // One buffer may go out at a time: the simulated kernel has two at least.
        receive_buffers_max: 4,
        overflow: *dice.pick(&[Overflow::Close, Overflow::Close, Overflow::Drop]),
        connections_max: *dice.pick(&[3, 64]),
        subscriptions_max: *dice.pick(&[2, 8]),
        broadcast_entries: *dice.pick(&[2, 16, 128]),
        broadcast_bytes_max: *dice.pick(&[800, 100_000]),
        command_entries: *dice.pick(&[2, 64]),
        command_bytes_max: *dice.pick(&[300, 100_000]),
        timers_max: *dice.pick(&[2, 20]),
        ticket_timeout_ms: *dice.pick(&[1_200, 3_000]),
        early_bytes_max: *dice.pick(&[60, 2_000, 65_536]),
        body_bytes_max: *dice.pick(&[40, 700, 100_000]),
        body_timeout_ms: 2_500,
        keep_alive_timeout_ms: *dice.pick(&[1_500, 4_000]),
        ..Config::default()
    }
}
