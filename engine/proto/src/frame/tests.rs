//! Headers: every length boundary, every rule, and the sample frames of the RFC.

use alloc::{vec, vec::Vec};

use super::*;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn header(opcode: Opcode, mask: Option<[u8; 4]>, payload_bytes: u64) -> Header {
    Header { fin: true, rsv: 0, opcode, mask, payload_bytes }
}

#[test]
fn a_header_survives_the_wire_at_every_length_boundary() {
    let lengths = [
        0,
        1,
        125,
        126,
        127,
        65535,
        65536,
        u64::from(u32::MAX),
        1 << 32,
        (1 << 53) + 1,
        (1 << 63) - 1,
    ];
    for length in lengths {
        for mask in [None, Some(KEY), Some([0; 4])] {
            for fin in [true, false] {
                let sent = Header { fin, ..header(Opcode::Binary, mask, length) };
                let mut wire = vec![];
                sent.append(&mut wire);
                assert_eq!(Header::decode(&wire), Ok(Some((sent, wire.len()))));
                for end in 0..wire.len() {
                    assert_eq!(Header::decode(&wire[..end]), Ok(None), "{sent:?} to {end}");
                }
                wire.extend([0xff; 20]);
                assert_eq!(Header::decode(&wire), Ok(Some((sent, wire.len() - 20))));
            }
        }
    }
}

#[test]
fn a_frame_of_a_server_is_what_its_header_says() {
    for length in [0, 1, 125, 126, 127, 65535, 65536, 70000] {
        let payload = vec![0x5a; length];
        let mut frame = vec![];
        append_frame(&mut frame, Opcode::Text, &payload);
        let expected = header(Opcode::Text, None, length as u64);
        assert_eq!(Header::decode(&frame), Ok(Some((expected, frame_header_bytes(length)))));
        assert_eq!(frame[frame_header_bytes(length)..], payload);
        let mut twin = vec![];
        append_any_frame(&mut twin, true, Opcode::Text, None, &payload);
        assert_eq!(frame, twin);
    }
    assert_eq!([125, 126, 65535, 65536].map(frame_header_bytes), [2, 4, 4, 10]);
}

#[test]
fn the_samples_of_the_rfc_are_written_byte_for_byte() {
    // RFC 6455 §5.7
    let mut wire = vec![];
    append_any_frame(&mut wire, true, Opcode::Text, Some(KEY), b"Hello");
    assert_eq!(wire, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    wire.clear();
    append_any_frame(&mut wire, false, Opcode::Text, None, b"Hel");
    append_any_frame(&mut wire, true, Opcode::Continuation, None, b"lo");
    assert_eq!(wire, b"\x01\x03Hel\x80\x02lo");
    wire.clear();
    append_frame(&mut wire, Opcode::Ping, b"Hello");
    assert_eq!(wire, b"\x89\x05Hello");
    wire.clear();
    append_frame(&mut wire, Opcode::Binary, &[0; 256]);
    assert_eq!(wire[..4], *b"\x82\x7e\x01\x00");
    wire.clear();
    append_frame(&mut wire, Opcode::Binary, &[0; 65536]);
    assert_eq!(wire[..10], *b"\x82\x7f\0\0\0\0\0\x01\0\0");
}

#[test]
fn every_broken_rule_is_known_at_the_byte_that_breaks_it() {
    use ProtocolError::*;
    // Each start of a frame is fine until its last byte, and broken with it.
    let table: &[(&[u8], ProtocolError)] = &[
        (b"\xc1", ReservedBits),
        (b"\xa1", ReservedBits),
        (b"\x91", ReservedBits),
        (b"\xf9", ReservedBits),
        (b"\x40", ReservedBits),
        (b"\x08", FragmentedControl),
        (b"\x09", FragmentedControl),
        (b"\x0a", FragmentedControl),
        (b"\x88\x7e", ControlTooLong),
        (b"\x89\xfe", ControlTooLong),
        (b"\x8a\xff", ControlTooLong),
        (b"\x81\x7e\x00\x00", LengthNotMinimal),
        (b"\x81\xfe\x00\x7d", LengthNotMinimal),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x00", LengthNotMinimal),
        (b"\x82\x7f\x80", LengthOutOfRange),
        (b"\x00\xff\xff", LengthOutOfRange),
    ];
    for &(wire, error) in table {
        for end in 0..wire.len() {
            assert_eq!(Header::decode(&wire[..end]), Ok(None), "{wire:x?} to {end}");
        }
        assert_eq!(Header::decode(wire), Err(error), "{wire:x?}");
        let longer = [wire, &[0xff; 12]].concat();
        assert_eq!(Header::decode(&longer), Err(error), "{longer:x?}");
    }
}

#[test]
fn every_opcode_is_known_or_reserved() {
    for bits in 0..16 {
        let expected = match bits {
            0 => Ok(Opcode::Continuation),
            1 => Ok(Opcode::Text),
            2 => Ok(Opcode::Binary),
            8 => Ok(Opcode::Close),
            9 => Ok(Opcode::Ping),
            10 => Ok(Opcode::Pong),
            _ => Err(ProtocolError::ReservedOpcode),
        };
        assert_eq!(check_first(0x80 | bits), expected);
        assert_eq!(expected.is_ok_and(Opcode::is_control), (8..=10).contains(&bits));
    }
}

#[test]
fn a_mask_is_required_of_clients_and_forbidden_to_servers() {
    for second in 0..=u8::MAX {
        let masked = second >= 128;
        let at_server = if masked { Ok(()) } else { Err(ProtocolError::Unmasked) };
        let at_client = if masked { Err(ProtocolError::Masked) } else { Ok(()) };
        assert_eq!(check_mask(Role::Server, second), at_server);
        assert_eq!(check_mask(Role::Client, second), at_client);
    }
}

#[test]
fn reserved_bits_can_be_written_for_tests() {
    let mut wire = vec![];
    Header { rsv: 5, ..header(Opcode::Text, None, 0) }.append(&mut wire);
    assert_eq!(wire, [0xd1, 0]);
}

#[test]
fn the_short_path_takes_whole_messages_and_leaves_the_rest_untouched() {
    for role in [Role::Server, Role::Client] {
        let key = (role == Role::Server).then_some(KEY);
        for length in [0, 1, 7, 125, 126, 127, 65535, 65536] {
            let mut wire = vec![];
            append_any_frame(&mut wire, true, Opcode::Binary, key, &vec![9; length]);
            let whole = wire.clone();
            wire.extend(b"next");
            let taken = split_whole(&mut wire, role, 65536);
            if length == 65536 {
                assert_eq!(taken.err(), Some(&mut [&whole[..], b"next"].concat()[..]));
                continue;
            }
            let taken = taken.ok().unwrap();
            assert_eq!((&*taken.payload, &*taken.rest), (&vec![9; length][..], &b"next"[..]));
            let (unfinished, mut small) = (&whole[..whole.len() - 1], whole.clone());
            let mut cut = unfinished.to_vec();
            assert_eq!(split_whole(&mut cut, role, 65536).err().unwrap(), unfinished);
            let mut exact = whole.clone();
            let taken = split_whole(&mut exact, role, length).ok().unwrap();
            assert_eq!((taken.payload.len(), taken.rest.len()), (length, 0));
            if length > 0 {
                let refused = split_whole(&mut small, role, length - 1).err();
                assert_eq!(refused.unwrap(), &whole[..]);
            }
        }
    }
}

#[test]
fn the_short_path_refuses_everything_else() {
    let table: [&[u8]; 10] = [
        b"",
        b"\x82",
        b"\x02\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
        b"\x89\x80\0\0\0\0",
        b"\xc2\x80\0\0\0\0",
        b"\x82\x00\0\0\0\0",
        b"\x82\xfe\0",
        b"\x82\xfe\0\x01\0\0\0\0\0",
        b"\x82\xff\0\0\0\0\0\0\0\x01\0\0\0\0\0",
    ];
    for wire in table {
        let mut input: Vec<u8> = wire.to_vec();
        assert_eq!(split_whole(&mut input, Role::Server, 100).err().unwrap(), wire);
    }
}
