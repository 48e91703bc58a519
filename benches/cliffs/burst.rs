//! Several of the largest messages, published at one moment with the default limits: a subscriber
//! that reads must get all of them.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;

use ringwire_bench::client::{Client, Heard};

use crate::figure::Figure;
use crate::server::{PATIENCE, ServerOptions};

const READERS: usize = 8;
const MESSAGE_BYTES: usize = 700_000;

pub(crate) fn measure(rounds: usize) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    for publishers in [3, 5] {
        let mut lost = 0;
        for _ in 0..rounds {
            lost += readers_that_miss(publishers)?;
        }
        let what =
            format!("readers of {READERS} × {rounds} that miss one of {publishers} × 700 kB");
        figures.push(Figure::new(what, lost as f64, "").at_most(0.0));
    }
    Ok(figures)
}

fn readers_that_miss(publishers: usize) -> Result<usize, String> {
    let server = ServerOptions::default().start()?;
    let readers: Vec<_> = (0..READERS)
        .map(|_| Ok(read(open(server.addr, "subscribe 0")?, publishers)))
        .collect::<Result<_, String>>()?;
    let start = Arc::new(Barrier::new(publishers));
    let publishers: Vec<_> = (0..publishers)
        .map(|number| {
            let mut client = open(server.addr, "forward 0")?;
            let start = Arc::clone(&start);
            Ok(std::thread::spawn(move || {
                let payload = vec![number as u8; MESSAGE_BYTES];
                start.wait();
                client.send(&payload).map(|()| client)
            }))
        })
        .collect::<Result<_, String>>()?;
    let mut clients = Vec::new();
    for publisher in publishers {
        let sent = publisher.join().map_err(|_| "a publisher has panicked".to_owned())?;
        clients.push(sent.map_err(|error| error.to_string())?);
    }
    let missed = readers.into_iter().map(JoinHandle::join);
    let missed = missed.filter(|got_all| !matches!(got_all, Ok(true))).count();
    drop(clients);
    server.stop()?;
    Ok(missed)
}

fn open(addr: SocketAddr, words: &str) -> Result<Client, String> {
    let mut client = Client::connect(addr, PATIENCE).map_err(|error| error.to_string())?;
    client.send(words.as_bytes()).map_err(|error| error.to_string())?;
    client.hear().map_err(|error| error.to_string())?;
    Ok(client)
}

/// Reads all the time; whether one message of each publisher came, whole and right.
fn read(mut client: Client, publishers: usize) -> JoinHandle<bool> {
    std::thread::spawn(move || {
        let mut heard = vec![false; publishers];
        for _ in 0..publishers {
            let Ok(Heard::Message(payload)) = client.hear() else { return false };
            let number = usize::from(payload[0]);
            let is_right =
                payload.len() == MESSAGE_BYTES && payload.iter().all(|&b| b == payload[0]);
            if !is_right || heard.get(number) != Some(&false) {
                return false;
            }
            heard[number] = true;
        }
        true
    })
}
