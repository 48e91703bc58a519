//! What the simulated clients say, and what no client should.

use ringwire_proto::Message;

use super::{Client, Manners, RECEIVE_WINDOW_BYTES, Stage};

impl Client {
    pub(super) fn speak(&mut self) {
        if self.manners == Manners::Hostile && self.stage == Stage::Leaving {
            self.flood(40_000);
        }
        if self.stage == Stage::Opening {
            return self.ask_on();
        }
        if self.stage != Stage::Open || self.connection.outgoing.close_sent() {
            return;
        }
        if self.manners == Manners::Hostile && self.dice.chance(30) {
            return self.misbehave();
        }
        self.command();
    }

    /// Says something, and does not listen.
    pub(in crate::sim) fn speak_up(&mut self) {
        self.note_network();
        self.speak();
        let out = std::mem::take(&mut self.out);
        self.put(&out);
    }

    /// A numbered message with one to four commands, whole or in fragments.
    pub(super) fn command(&mut self) {
        const COMMANDS: [&str; 27] = [
            "r", "r", "e", "e", "e", "b", "pa", "pa", "pb", "Pa", "La", "rpaLaepa", "oa", "ob",
            "sa", "sa", "sa", "sb", "sc", "ua", "ub", "g", "pc", "e", "c", "Pac", "!",
        ];
        self.messages += 1;
        // Closing and panicking are rare.
        let last = if self.dice.chance(5) { COMMANDS.len() } else { COMMANDS.len() - 3 };
        let mut text = format!("{} ", self.messages);
        for _ in 0..self.dice.between(1, 4) {
            text.push_str(COMMANDS[self.dice.below(last)]);
        }
        text.push(' ');
        text.push_str(&"é".repeat(self.dice.below(*self.dice.pick(&[3, 80, 500]))));
        self.excused |= text.contains('!');
        let Self { connection, out, dice, .. } = self;
        if dice.chance(70) {
            connection.message(out, Message::Text(&text));
            return;
        }
        let bytes = text.as_bytes();
        let cut = dice.below(bytes.len());
        connection.outgoing.frame(out, false, ringwire_proto::Opcode::Text, &bytes[..cut]);
        let is_pinged = dice.chance(30);
        if is_pinged {
            self.ping();
        }
        let Self { connection, out, .. } = self;
        connection.outgoing.frame(out, true, ringwire_proto::Opcode::Continuation, &bytes[cut..]);
    }

    fn ping(&mut self) {
        self.pinged += 1;
        let payload = self.pinged.to_string();
        let _ = self.connection.ping(&mut self.out, payload.as_bytes());
    }

    /// Sends junk, as much as the server's kernel takes.
    fn flood(&mut self, bytes: usize) {
        let room = RECEIVE_WINDOW_BYTES.saturating_sub(self.wire.borrow().to_server.len());
        self.put(&vec![0x80; bytes.min(room)]);
    }

    fn misbehave(&mut self) {
        match self.dice.below(6) {
            5 => {
                // Does not stop, whatever it is told.
                self.flood(3_000);
            }
            0 => {
                let bytes = self.dice.between(1, 20);
                let bytes: Vec<u8> = (0..bytes).map(|_| self.dice.below(256) as u8).collect();
                self.out.extend_from_slice(&bytes);
            }
            1 => self.out.extend_from_slice(&[0x81, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]),
            2 => {
                for _ in 0..50 {
                    self.ping();
                }
            }
            3 => {
                let Self { connection, out, .. } = self;
                connection.outgoing.frame(
                    out,
                    false,
                    ringwire_proto::Opcode::Binary,
                    b"never ends",
                );
            }
            _ => self.wire.borrow_mut().client_fin = true,
        }
    }
}
