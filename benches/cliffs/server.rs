//! The server under test, a process of its own: it echoes, and does what a text message says.

use std::io::Write;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Args;
use ringwire::{
    Config, Conn, Context, DriverChoice, Handle, Handler, Message, Offer, Request, Server, Upgrade,
};
use ringwire_bench::client::{Client, Heard};
use ringwire_bench::process::Process;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What differs from the defaults; in milliseconds or bytes.
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct ServerOptions {
    #[arg(long)]
    pub(crate) idle_timeout_ms: Option<u32>,
    #[arg(long)]
    pub(crate) ping_interval_ms: Option<u32>,
    #[arg(long)]
    pub(crate) write_bytes_max: Option<usize>,
    /// As of the examples, which are measured too.
    #[arg(long, default_value_t, env = "RINGWIRE_DRIVER")]
    pub(crate) driver: DriverChoice,
}

impl ServerOptions {
    /// Starts such a server.
    pub(crate) fn start(self) -> Result<Process, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut words = vec!["serve".to_owned()];
        let mut option = |name: &str, value: Option<usize>| {
            words.extend(value.map(|value| format!("--{name}={value}")));
        };
        option("idle-timeout-ms", self.idle_timeout_ms.map(|ms| ms as usize));
        option("ping-interval-ms", self.ping_interval_ms.map(|ms| ms as usize));
        option("write-bytes-max", self.write_bytes_max);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Process::start_anywhere(&own, &words)
    }
}

/// A connection on which the server is told what to do.
pub(crate) struct Control(Client);

impl Control {
    pub(crate) fn open(server: &Process) -> Result<Self, String> {
        Client::connect(server.addr, PATIENCE).map(Self).map_err(|error| error.to_string())
    }

    /// Has the server publish a message of `bytes` bytes to each of the topics `0`, `1` and so on,
    /// `rounds` times, all in one callback; returns when it serves others again.
    pub(crate) fn publish(
        &mut self,
        rounds: usize,
        bytes: usize,
        topics: usize,
    ) -> Result<(), String> {
        self.ask(&format!("publish {rounds} {bytes} {topics}")).map(|_| ())
    }

    /// How many connections there are, this one included.
    pub(crate) fn connections(&mut self) -> Result<u64, String> {
        self.metric("connections")
    }

    /// How often the completion queue has overflowed.
    pub(crate) fn overflows(&mut self) -> Result<u64, String> {
        self.metric("overflows")
    }

    fn metric(&mut self, name: &str) -> Result<u64, String> {
        let answer = self.ask(name)?;
        answer.parse().map_err(|error| format!("{answer:?}: {error}"))
    }

    fn ask(&mut self, words: &str) -> Result<String, String> {
        self.0.send(words.as_bytes()).map_err(|error| error.to_string())?;
        match self.0.hear().map_err(|error| error.to_string())? {
            Heard::Message(answer) => Ok(String::from_utf8_lossy(&answer).into_owned()),
            other => Err(format!("the server answers {words:?} with {other:?}")),
        }
    }
}

/// Set before anybody can connect and ask.
static HANDLE: OnceLock<Handle> = OnceLock::new();

struct CliffHandler;

impl Handler for CliffHandler {
    /// The topic to which its messages are published from now on.
    type State = Option<String>;
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Option<String>> {
        Upgrade::accept(Default::default())
    }

    fn on_message(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut Option<String>,
        message: Message<'_>,
    ) {
        if let Some(topic) = state.clone() {
            return conn.publish_all(&topic, message);
        }
        let words = std::str::from_utf8(message.payload()).unwrap_or_default();
        let words: Vec<&str> = words.split_whitespace().collect();
        match words[..] {
            ["subscribe", ref topics @ ..] => {
                let is_done = topics.iter().all(|topic| conn.subscribe(topic).is_ok());
                conn.send(if is_done { "subscribed" } else { "refused" });
            }
            ["publish", rounds, bytes, topics] => {
                publish(conn, [rounds, bytes, topics]);
                conn.send("published");
            }
            ["forward", topic] => {
                *state = Some(topic.to_owned());
                conn.send("forwarding");
            }
            ["connections"] => {
                conn.send(metrics().connections_now.to_string().as_str());
            }
            ["overflows"] => {
                conn.send(metrics().completions_overflowed.to_string().as_str());
            }
            _ => {
                conn.send(message);
            }
        }
    }
}

fn metrics() -> ringwire::Metrics {
    HANDLE.get().map(Handle::metrics).unwrap_or_default()
}

fn publish(conn: &mut Conn<'_, CliffHandler>, numbers: [&str; 3]) {
    let [rounds, bytes, topics] = numbers.map(|number| number.parse().unwrap_or(0));
    let payload = vec![0x5A; bytes];
    for _ in 0..rounds {
        (0..topics).for_each(|topic: usize| conn.publish(&topic.to_string(), &payload[..]));
    }
}

/// Is such a server, until SIGTERM.
pub(crate) fn serve(options: &ServerOptions) -> Result<(), String> {
    let mut config = Config::new();
    config.write_bytes_max = options.write_bytes_max.unwrap_or(config.write_bytes_max);
    config.idle_timeout_ms = options.idle_timeout_ms.unwrap_or(config.idle_timeout_ms);
    config.ping_interval_ms = options.ping_interval_ms.unwrap_or(config.ping_interval_ms);
    let server =
        Server::builder().listen("127.0.0.1:0").shards(1).driver(options.driver).config(config);
    let running = server.start(|_| CliffHandler).map_err(|error| error.to_string())?;
    let handle = running.handle();
    let _ = HANDLE.set(handle.clone());
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM])
        .map_err(|error| error.to_string())?;
    std::thread::spawn(move || signals.forever().for_each(|_| handle.stop()));
    println!("listening on ws://{} (cliffs)", running.local_addr());
    std::io::stdout().flush().map_err(|error| error.to_string())?;
    running.join().map_err(|error| error.to_string())?;
    // The one figure that nobody can ask for any more.
    match metrics().completions_overflowed {
        0 => Ok(()),
        overflows => Err(format!("the completion queue has overflowed {overflows} times")),
    }
}
