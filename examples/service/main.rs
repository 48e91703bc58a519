//! A service in one file. People with a JSON Web Token talk in rooms, and to each other by name on
//! whichever shard they are; and they look things up, which takes a while.
//!
//! `/` is a page, `/health` and `/metrics` are for machines, `POST /rooms/{room}` speaks in a room.
//! `/ws` is the WebSocket. A client sends an [`Order`] as JSON with a number `seq` of its own:
//! `{"kind":"join","room":"tea","seq":1}`. It gets an `ack` or an `error` with this `seq` back, and
//! hears what others do. The token comes as `Authorization: Bearer`, in the query or in a cookie.

use std::collections::{BTreeMap, HashSet};
use std::{borrow::Cow, process::ExitCode, thread, time::Duration};

use clap::{Parser, builder::NonEmptyStringValueParser};
use jsonwebtoken::{DecodingKey, Validation, decode};
use ringwire::{
    CloseCode, Conn, ConnId, Context, Handler, Message, Offer, Reply, Request, Response, Router,
    TimerId, Upgrade,
};
use ringwire_examples::{AllowedOrigin, Name, Options, Text, parse, serve};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{from_slice, json};
use threadpool::ThreadPool;

/// A connection may send so many messages in any ten seconds.
const MESSAGES_MAX: usize = 50;
const MESSAGES_WINDOW_MS: u64 = 10_000;
/// How long other services take to answer.
const SLOW: Duration = Duration::from_millis(200);
/// Jobs that wait for 16 threads: the last one for six seconds, while a ticket lasts for ten.
const JOBS_MAX: usize = 512;
/// The topic of everybody. That of a room has a slash.
const EVERYBODY: &str = "everybody";

/// What a client may ask for.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Order {
    Join { room: Name },
    Leave { room: Name },
    Say { room: Name, text: Text },
    Whisper { to: Name, text: Text },
    Find { key: Name },
}

/// A message of a client.
#[derive(Deserialize)]
struct Numbered<O = Order> {
    seq: u64,
    #[serde(flatten)]
    order: O,
}

/// What the server keeps of a connection: what its token says, and more.
#[derive(Deserialize)]
struct Guest {
    #[serde(rename = "sub")]
    name: Name,
    /// When its last messages came.
    #[serde(skip)]
    times_ms: Vec<u64>,
}

/// Somebody has come or gone.
struct News {
    name: Name,
    id: ConnId,
    is_here: bool,
}

/// The handler. Each shard has a clone.
#[derive(Clone)]
struct Service {
    key: DecodingKey,
    validation: Validation,
    origins: Vec<AllowedOrigin>,
    /// The patterns of all paths, each with itself.
    routes: Router<&'static str>,
    /// Threads for what blocks, the same for all shards.
    jobs: ThreadPool,
    /// One thread, so that all shards get all news in one order.
    courier: ThreadPool,
    /// The connections of each name, on all shards.
    directory: BTreeMap<Name, HashSet<ConnId>>,
    has_news: bool,
}

impl Service {
    /// Finds out who asks, by the token, and from a service that takes its time who is banned.
    fn authenticate(
        &self,
        request: &Request<'_>,
        then: impl FnOnce(Result<Guest, Response>) + Send + 'static,
    ) {
        // A page of another site must not act with its visitor's cookie.
        let is_own = AllowedOrigin::admit(&self.origins, request.origin(), request.host());
        let cookie = request.cookie("token").filter(|_| is_own);
        let token = request.bearer_token().or(cookie).map(Cow::from);
        let token = token.or_else(|| request.query_param("token")).unwrap_or_default();
        match decode::<Guest>(&*token, &self.key, &self.validation) {
            Err(error) => then(Err(Response::unauthorized("Bearer", error.to_string()))),
            Ok(_) if self.jobs.queued_count() >= JOBS_MAX => then(Err(Response::text(503, "busy"))),
            Ok(token) => self.jobs.execute(move || {
                thread::sleep(SLOW);
                let is_banned = token.claims.name.as_str() == "mallory";
                then(if is_banned { Err(Response::text(403, "banned")) } else { Ok(token.claims) });
            }),
        }
    }

    /// Says the body of a request in a room.
    fn post(&self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let found = self.routes.find(request.path());
        let room = found.and_then(|found| found.param("room")).unwrap_or_default();
        let text = String::from_utf8_lossy(request.body());
        let (Ok(room), Ok(text)) = (Name::try_from(&*room), Text::try_from(&*text)) else {
            return Response::text(400, "rooms have 32 characters, texts 2000 at most\n").into();
        };
        let (ticket, handle) = (cx.ticket(), cx.handle());
        let later = Reply::later(&ticket);
        self.authenticate(request, move |guest| {
            let response = guest.map(|guest| {
                // A server that has stopped has nobody to hear it.
                let said = said(&room, &guest.name, &text);
                let _ = handle.waiting().publish_blocking(&topic(&room), &said);
                Response::new(204)
            });
            ticket.respond(response.unwrap_or_else(|refusal| refusal));
        });
        later
    }

    /// Tells every shard, and waits where a queue is full. One that has stopped needs no news.
    fn tell_shards(&self, conn: &Conn<'_, Self>, guest: &Guest, is_here: bool) {
        let (name, id, handle) = (guest.name.clone(), conn.id(), conn.handle());
        self.courier.execute(move || {
            for shard in 0..handle.shards() {
                let news = News { name: name.clone(), id, is_here };
                let _ = handle.waiting().command_blocking(shard, news);
            }
        });
    }

    /// Does what a client asks for, or says why not.
    fn obey(&self, conn: &mut Conn<'_, Self>, name: &Name, asked: Numbered) -> Result<(), &str> {
        let (is_done, otherwise) = match asked.order {
            Order::Join { room } => (conn.subscribe(&topic(&room)).is_ok(), "too many rooms"),
            Order::Leave { room } => (conn.unsubscribe(&topic(&room)), "you are not there"),
            Order::Say { room, text } if conn.is_subscribed(&topic(&room)) => {
                conn.publish_all(&topic(&room), said(&room, name, &text));
                (true, "")
            }
            Order::Say { .. } => (false, "you are not there"),
            Order::Whisper { to, text } => {
                let whisper = json!({"kind": "whispered", "from": name, "text": text}).to_string();
                let ids = self.directory.get(&to).into_iter().flatten();
                let sent = ids.filter(|&&id| conn.send_to(id, &whisper).is_queued());
                (sent.count() > 0, "nobody of this name is here")
            }
            Order::Find { .. } if self.jobs.queued_count() >= JOBS_MAX => (false, "busy"),
            Order::Find { key } => {
                let (seq, id, handle) = (asked.seq, conn.id(), conn.handle());
                self.jobs.execute(move || {
                    thread::sleep(SLOW);
                    let value = key.as_str().to_uppercase();
                    let found = json!({"kind": "found", "seq": seq, "key": key, "value": value});
                    // Nothing happens if the one who asks has left.
                    let _ = handle.waiting().send_blocking(id, found.to_string());
                });
                (true, "")
            }
        };
        if is_done { Ok(()) } else { Err(otherwise) }
    }
}

impl Handler for Service {
    type State = Guest;
    type Command = News;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.set_interval(Duration::from_millis(100)).expect("the first timer");
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let pattern = self.routes.find(request.path()).map_or("", |found| *found.value());
        match (request.method().as_str(), pattern) {
            ("GET" | "HEAD", "/") => Response::html(200, include_str!("index.html")).into(),
            ("GET" | "HEAD", "/health") => Response::text(200, "ok\n").into(),
            ("GET" | "HEAD", "/metrics") => Response::text(200, cx.handle().metrics_text()).into(),
            ("POST", "/rooms/{room}") => self.post(cx, request),
            _ => Response::text(404, "there is nothing here\n").into(),
        }
    }

    fn on_upgrade(
        &mut self,
        cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Guest> {
        if self.routes.find(request.path()).is_none_or(|found| *found.value() != "/ws") {
            return Upgrade::refuse(Response::text(404, "the WebSocket is at /ws\n"));
        }
        let (ticket, origins) = (cx.ticket(), self.origins.clone());
        let later = Upgrade::later(&ticket);
        self.authenticate(request, move |guest| {
            let upgrade = guest.map_or_else(Upgrade::refuse, Upgrade::accept);
            ticket.upgrade(AllowedOrigin::allow(&origins, upgrade));
        });
        later
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, guest: &mut Guest) {
        conn.subscribe(EVERYBODY).expect("the first topic");
        let welcome = json!({"kind": "welcome", "name": guest.name, "shard": conn.shard()});
        conn.send(welcome.to_string());
        self.tell_shards(conn, guest, true);
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, guest: &mut Guest, message: Message<'_>) {
        let (now_ms, json) = (conn.now_ms(), message.payload());
        guest.times_ms.retain(|then_ms| now_ms - then_ms < MESSAGES_WINDOW_MS);
        let may_send = guest.times_ms.len() < MESSAGES_MAX;
        guest.times_ms.extend(may_send.then_some(now_ms));
        let seq = from_slice::<Numbered<IgnoredAny>>(json).ok().map(|asked| asked.seq);
        let outcome = match from_slice(json) {
            _ if !may_send => Err("at most 50 messages in ten seconds".into()),
            Ok(asked) => self.obey(conn, &guest.name, asked).map_err(Cow::from),
            Err(error) => Err(Cow::from(error.to_string())),
        };
        let answer = match outcome {
            Ok(()) => json!({"kind": "ack", "seq": seq}),
            Err(reason) => json!({"kind": "error", "seq": seq, "reason": reason}),
        };
        conn.send(answer.to_string());
    }

    fn on_close(&mut self, conn: &mut Conn<'_, Self>, guest: &mut Guest, _: CloseCode, _: &str) {
        self.tell_shards(conn, guest, false);
    }

    fn on_command(&mut self, _cx: &mut Context<'_, Self>, News { name, id, is_here }: News) {
        let ids = self.directory.entry(name).or_default();
        ids.remove(&id);
        ids.extend(is_here.then_some(id));
        self.has_news = true;
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, _beat: TimerId) {
        let mut state = json!({"kind": "state", "clock_ms": cx.now_ms()});
        if std::mem::take(&mut self.has_news) {
            self.directory.retain(|_, ids| !ids.is_empty());
            // For a crowd, tell who has come and who has gone instead.
            state["people"] = self.directory.keys().map(Name::as_str).take(1_000).collect();
        }
        // One shard speaks for all of them.
        if cx.shard() == 0 {
            cx.publish_all(EVERYBODY, state.to_string());
        }
    }
}

fn topic(room: &Name) -> String {
    format!("room/{room}")
}

fn said(room: &Name, from: &Name, text: &Text) -> String {
    json!({"kind": "said", "room": room, "from": from, "text": text}).to_string()
}

#[derive(Parser)]
struct ServiceOptions {
    #[command(flatten)]
    options: Options,

    /// What tokens are signed with (HS256)
    #[arg(long, env, hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    jwt_secret: String,
}

fn main() -> ExitCode {
    let ServiceOptions { options, jwt_secret } =
        parse("Rooms and messages by name", "127.0.0.1:8080");
    let mut routes = Router::new();
    for pattern in ["/", "/health", "/metrics", "/ws", "/rooms/{room}"] {
        routes.add(pattern, pattern).expect("they do not overlap");
    }
    let service = Service {
        key: DecodingKey::from_secret(jwt_secret.as_bytes()),
        // HS256, with a time at which it ends.
        validation: Validation { leeway: 0, validate_nbf: true, ..Validation::default() },
        origins: options.allow_origin.clone(),
        routes,
        jobs: ThreadPool::new(16),
        courier: ThreadPool::new(1),
        directory: BTreeMap::new(),
        has_news: false,
    };
    serve(&options, move |_shard| service.clone())
}
