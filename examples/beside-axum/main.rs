//! Ringwire beside axum, in one process. axum has the port, its routes and its own way to tell who
//! asks: an API key. It answers the opening handshake too, and then hands the socket to Ringwire,
//! which serves it from there on. What is posted to axum is published by Ringwire.
//!
//! - `GET /ws/{room}` opens a WebSocket. Each message goes to everybody in the room, its sender
//!   included.
//! - `POST /rooms/{room}` publishes its body in the room; `GET /me` says who asks.
//! - `/`, `/health` and `/metrics` need no key.
//!
//! The key comes as `Authorization: Bearer` or as `key` in the query. An address of `--listen` that
//! is a name means the first of its addresses that can be had.

use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use hyper::upgrade::OnUpgrade;
use hyper_util::{rt::TokioIo, server::conn::auto::upgrade::downcast};
use mimalloc::MiMalloc;
use ringwire::{
    Conn, Context, Handle, Handler, ListenAddr, Message, Offer, Upgrade, accept_for_key,
};
use ringwire_examples::{AllowedOrigin, Options, announce, on_signal, parse, run_as_process};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Ringwire's part.
struct Rooms;

/// Somebody whom axum has let in.
struct Member {
    topic: String,
}

impl Handler for Rooms {
    type State = Member;
    type Command = ();

    /// Ringwire listens nowhere, so nobody asks here.
    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &ringwire::Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Member> {
        Upgrade::refuse(ringwire::Response::new(404))
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, member: &mut Member) {
        conn.subscribe(&member.topic).expect("one topic, whose length has been checked");
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, member: &mut Member, message: Message<'_>) {
        conn.publish_all(&member.topic, message);
    }
}

/// Longer topics are refused by the engine ([`Config::topic_bytes_max`](ringwire::Config)).
const ROOM_BYTES_MAX: usize = 128;

/// axum's part.
struct Gate {
    /// Names by their keys.
    names: HashMap<String, String>,
    origins: Vec<AllowedOrigin>,
    handle: Handle,
}

/// Who asks, for the routes behind [`authenticate`].
#[derive(Clone)]
struct User(String);

/// A refusal.
type Refused = (StatusCode, &'static str);

fn routes(gate: Gate) -> axum::Router {
    let gate = Arc::new(gate);
    axum::Router::new()
        .route("/me", get(async |Extension(User(name)): Extension<User>| name))
        .route("/rooms/{room}", post(publish))
        .route("/ws/{room}", get(open_socket))
        .route_layer(from_fn_with_state(Arc::clone(&gate), authenticate))
        .route("/", get("axum has this page, and Ringwire the WebSockets at /ws/{room}\n"))
        .route("/health", get("ok\n"))
        .route("/metrics", get(async |State(gate): State<Arc<Gate>>| gate.handle.metrics_text()))
        .with_state(gate)
}

/// Lets nobody through whose key is not known.
async fn authenticate(
    State(gate): State<Arc<Gate>>,
    Query(query): Query<HashMap<String, String>>,
    mut request: Request,
    next: Next,
) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme_and_token = header.and_then(|value| value.split_once(' '));
    let bearer = scheme_and_token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
    let key = bearer.map(|(_, token)| token).or_else(|| query.get("key").map(String::as_str));
    match key.and_then(|key| gate.names.get(key)) {
        Some(name) => {
            request.extensions_mut().insert(User(name.clone()));
            next.run(request).await
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "a key is needed\n").into_response()
        }
    }
}

async fn publish(
    State(gate): State<Arc<Gate>>,
    Path(room): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Refused> {
    let topic = topic(&room)?;
    let text = str::from_utf8(&body).map_err(|_| (StatusCode::BAD_REQUEST, "send UTF-8\n"))?;
    // It waits where a queue is full.
    let published = gate.handle.waiting().publish(&topic, text).await;
    published.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "the server stops\n"))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Answers the opening handshake (RFC 6455 §4.2), and has the socket handed over when the answer is
/// out.
async fn open_socket(
    State(gate): State<Arc<Gate>>,
    Path(room): Path<String>,
    mut request: Request,
) -> Result<Response, Refused> {
    let topic = topic(&room)?;
    let no_handshake = (StatusCode::BAD_REQUEST, "this is a WebSocket\n");
    let is_http_1_1 = request.version() == Version::HTTP_11;
    let accept = accept(request.headers()).filter(|_| is_http_1_1).ok_or(no_handshake)?;
    if !is_admitted(&gate.origins, request.headers()) {
        return Err((
            StatusCode::FORBIDDEN,
            "pages of this origin may not open a WebSocket here\n",
        ));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Err(error) = hand_over(upgrade, &gate.handle, Member { topic }).await {
            tracing::warn!(error, "a connection was not handed over");
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

/// Gives Ringwire the socket, and what hyper has read of it behind the request.
async fn hand_over(
    upgrade: OnUpgrade,
    handle: &Handle,
    member: Member,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let parts = downcast::<TokioIo<TcpStream>>(upgrade.await?)
        .map_err(|_| "axum has served something else than a TcpStream")?;
    let socket = parts.io.into_inner().into_std()?;
    Ok(handle.adopt(None, socket, parts.read_buf.to_vec(), member)?)
}

/// Sec-WebSocket-Accept, if these are the headers of an opening handshake.
fn accept(headers: &HeaderMap) -> Option<HeaderValue> {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    };
    let is_handshake = has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    HeaderValue::from_bytes(&accept_for_key(key.as_bytes())?).ok()
}

/// The keys are in no cookie, so a page of another site has none. This is for one that has found
/// a key.
fn is_admitted(origins: &[AllowedOrigin], headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match headers.get(header::ORIGIN).map(HeaderValue::to_str) {
        Some(Err(_)) => false,
        Some(Ok(origin)) => AllowedOrigin::admit(origins, Some(origin), host.unwrap_or_default()),
        None => true,
    }
}

fn topic(room: &str) -> Result<String, Refused> {
    if room.len() > ROOM_BYTES_MAX {
        return Err((StatusCode::BAD_REQUEST, "a room's name has at most 128 bytes\n"));
    }
    Ok(format!("room/{room}"))
}

/// A value of `--api-key`.
#[derive(Clone)]
struct ApiKey {
    name: String,
    key: String,
}

impl FromStr for ApiKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, key)) if !name.is_empty() && !key.is_empty() => {
                Ok(Self { name: name.to_owned(), key: key.to_owned() })
            }
            _ => Err("not a name and its key, NAME=KEY"),
        }
    }
}

#[derive(Parser)]
struct GateOptions {
    #[command(flatten)]
    options: Options,

    /// Who may come in, and the key to show for it; repeatable, or with commas between
    #[arg(long, value_name = "NAME=KEY", required = true, value_delimiter = ',')]
    #[arg(env = "API_KEYS", hide_env_values = true)]
    api_key: Vec<ApiKey>,
}

fn main() -> ExitCode {
    let about = "Rooms whose port, routes and keys are axum's";
    let options: GateOptions = parse(about, "127.0.0.1:8080");
    run_as_process(|| run(options))
}

fn run(GateOptions { options, api_key }: GateOptions) -> Result<(), Box<dyn Error>> {
    let running = options.server().no_listener().start(|_shard| Rooms)?;
    let gate = Gate {
        names: api_key.into_iter().map(|ApiKey { name, key }| (key, name)).collect(),
        origins: options.allow_origin.clone(),
        handle: running.handle(),
    };
    let (stop, stopped) = watch::channel(false);
    let handle = running.handle();
    on_signal(move || {
        let _ = stop.send(true);
        handle.stop();
    })?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listeners = listen(&options.listen).await?;
        let addresses = listeners.iter().map(|listener| listener.local_addr().map(Into::into));
        let addresses = addresses.collect::<Result<Vec<ListenAddr>, _>>()?;
        announce(&addresses, running.shards(), running.driver());
        serve(listeners, &routes(gate), stopped).await
    })?;
    Ok(running.join()?)
}

async fn listen(addresses: &[String]) -> Result<Vec<TcpListener>, Box<dyn Error>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|error| {
            format!("cannot listen on {address:?}, an ADDR:PORT whose port is free: {error}")
        })?);
    }
    Ok(listeners)
}

/// How long requests may take that were there when the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves until it is told to stop and every request has been answered.
async fn serve(
    listeners: Vec<TcpListener>,
    routes: &axum::Router,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Box<dyn Error>> {
    let servers = listeners.into_iter().map(|listener| {
        let mut stopped = stopped.clone();
        let stop = async move { drop(stopped.wait_for(|&is_stopped| is_stopped).await) };
        tokio::spawn(
            axum::serve(listener, routes.clone()).with_graceful_shutdown(stop).into_future(),
        )
    });
    let servers: Vec<_> = servers.collect();
    stopped.wait_for(|&is_stopped| is_stopped).await?;
    let all = async {
        for server in servers {
            server.await??;
        }
        Ok(())
    };
    // Who has not asked by then, is not answered.
    tokio::time::timeout(DRAIN, all).await.unwrap_or(Ok(()))
}
