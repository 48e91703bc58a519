//! Tickets of a shard in memory.

use super::*;

#[test]
fn a_handshake_is_answered_by_its_ticket() {
    let (mut shard, notes) = actor();
    let orders: [fn(String) -> Order; 2] = [Order::Accept, Order::AcceptFromAfar];
    for order in orders {
        let mut ada = shard.begin("/ada?later", &[]);
        shard.run();
        assert!(!ada.is_open() && ada.response().is_none());
        shard.handle().command(0, order("ada".into())).unwrap();
        shard.run();
        assert_eq!(told(&mut shard, &mut ada, "who"), ["ada"]);
        ada.leave();
        shard.run();
    }
    assert_eq!(notes.borrow()[1..], ["open ada", "close ada 1006", "open ada", "close ada 1006"]);
}

#[test]
fn frames_that_come_before_the_answer_are_kept() {
    let (mut shard, _) = actor();
    let mut ada = shard.begin("/ada?later", &[]);
    shard.run();
    // "who", masked with zeros.
    let early = [0x81, 0x83, 0, 0, 0, 0, b'w', b'h', b'o'];
    ada.send_bytes(&early[..4]);
    shard.run();
    ada.send_bytes(&early[4..]);
    shard.handle().command(0, Order::Accept("ada".into())).unwrap();
    shard.run();
    assert_eq!(ada.texts(), ["ada"]);
    // But not without a bound.
    let mut bob = shard.begin("/bob?later", &[]);
    shard.run();
    bob.send_bytes(&[0; 65_537]);
    shard.run();
    assert_eq!(bob.received(), [Received::End]);
    shard.handle().command(0, Order::Accept("bob".into())).unwrap();
    shard.run();
    assert_eq!(shard.handle().metrics().tickets_late, 1);
}

#[test]
fn a_ticket_refuses_expires_or_is_dropped() {
    let (mut shard, notes) = actor();
    let status_of = |shard: &mut TestShard<Actor>, order: Option<fn(String) -> Order>| {
        let mut ada = shard.begin("/ada?later", &[]);
        shard.run();
        match order {
            Some(order) => shard.handle().command(0, order("ada".into())).unwrap(),
            None => shard.advance(Duration::from_secs(11)),
        }
        shard.run();
        ada.response().expect("an answer").status
    };
    assert_eq!(status_of(&mut shard, Some(Order::Refuse)), 401);
    assert_eq!(status_of(&mut shard, Some(Order::Forget)), 500);
    assert_eq!(status_of(&mut shard, None), 503);
    // The ticket that expired is answered all the same.
    shard.handle().command(0, Order::Accept("ada".into())).unwrap();
    shard.run();
    let metrics = shard.handle().metrics();
    assert_eq!((metrics.tickets_expired, metrics.tickets_late), (1, 1));
    assert_eq!(notes.borrow()[..], ["start"], "nobody was opened");
}

#[test]
fn a_ticket_of_a_peer_that_has_gone_is_harmless() {
    let (mut shard, notes) = actor();
    let mut ada = shard.begin("/ada?later", &[]);
    shard.run();
    ada.leave();
    shard.run();
    shard.handle().command(0, Order::Accept("ada".into())).unwrap();
    shard.run();
    assert_eq!(notes.borrow()[..], ["start"]);
    assert_eq!(shard.handle().metrics().connections_now, 0);
}

#[test]
fn a_request_is_answered_by_its_ticket() {
    let (mut shard, _) = actor();
    let wire = shard.world.connect();
    client::write_request(&wire, "GET", "/later", &[]);
    shard.run();
    assert_eq!(client::read_response(&wire), None);
    shard.handle().command(0, Order::Respond("later".into())).unwrap();
    shard.run();
    let response = client::read_response(&wire).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, b"late".as_slice()));
    assert_eq!(shard.request("GET", "/nowhere", &[]).status, 404);
}
