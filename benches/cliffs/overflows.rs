//! What a crowd of 15,000 has complete at once. The completion queue must hold it: an overflow ends
//! multishot receives, each of which must be armed again.

use std::time::Duration;

use crate::crowd::Crowd;
use crate::figure::Figure;
use crate::server::{Control, ServerOptions};

const SUBSCRIBERS: usize = 15_000;
const PUBLISHES: usize = 24;

pub(crate) fn measure() -> Result<Vec<Figure>, String> {
    let options = ServerOptions { ping_interval_ms: Some(1_000), ..ServerOptions::default() };
    let overflows = |what: &str, count: u64| {
        Figure::new(format!("overflows after {what}"), count as f64, "").at_most(0.0)
    };
    let server = ServerOptions::default().start()?;
    let mut control = Control::open(&server)?;
    let mut crowd = Crowd::open(server.addr, SUBSCRIBERS, "0")?;
    let mut figures = vec![overflows("15,000 connects", control.overflows()?)];
    for _ in 0..PUBLISHES {
        control.publish(1, 64, 1)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    figures.push(overflows("24 publishes to 15,000", control.overflows()?));
    control.publish(PUBLISHES, 64, 1)?;
    std::thread::sleep(Duration::from_secs(2));
    figures.push(overflows("24 publishes of one callback", control.overflows()?));
    crowd.speak()?;
    figures.push(overflows("an echo of all 15,000", control.overflows()?));
    drop(crowd);
    while control.connections()? > 1 {
        std::thread::sleep(Duration::from_millis(100));
    }
    figures.push(overflows("15,000 resets", control.overflows()?));
    // Its status tells of overflows: there is nobody left to ask.
    figures.push(overflows("the end of all that", u64::from(server.stop().is_err())));

    let server = options.start()?;
    let mut control = Control::open(&server)?;
    let mut crowd = Crowd::open(server.addr, SUBSCRIBERS, "")?;
    crowd.speak()?;
    // Quiet for longer than the interval: each is pinged once, and the pings are not answered.
    std::thread::sleep(Duration::from_secs(3));
    figures.push(overflows("a ping of 15,000", control.overflows()?));
    figures.push(overflows("a stop with 15,000", u64::from(server.stop().is_err())));
    drop(crowd);
    Ok(figures)
}
