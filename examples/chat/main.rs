//! Rooms where people talk: the page at `/`, the WebSocket at `/ws?room=R&nick=N`. A room is a
//! topic, so its people may be on any shard. The server keeps nothing that was said: a newcomer
//! sees what comes next, and a sender knows a message arrived when its own copy comes back.

mod admission;
mod line;
mod notice;
mod page;

use std::process::ExitCode;

use admission::Guest;
use line::Line;
use mimalloc::MiMalloc;
use notice::Notice;
use ringwire::{
    CloseCode, Conn, Context, Handler, ListenAddr, Message, Offer, Reply, Request, Response,
    Upgrade,
};
use ringwire_examples::{AllowedOrigin, Options, parse, serve_then};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

struct Chat {
    origins: Vec<AllowedOrigin>,
}

impl Handler for Chat {
    type State = Guest;
    type Command = ();

    fn on_request(&mut self, _cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        page::respond(request.path()).into()
    }

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<Guest> {
        match admit(request) {
            Ok(guest) => AllowedOrigin::allow(&self.origins, Upgrade::accept(guest)),
            Err(response) => Upgrade::refuse(response),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, state: &mut Guest) {
        let Guest { room, nick } = state;
        let shard = conn.shard();
        conn.subscribe(room).expect("one topic with a short name is within the limits");
        conn.send(Notice::Welcome { shard }.to_json());
        conn.publish(room, Notice::Joined { nick, shard }.to_json());
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, state: &mut Guest, message: Message<'_>) {
        let Message::Text(json) = message else {
            return conn.close(CloseCode::UNSUPPORTED_DATA, "messages are JSON text");
        };
        let line = match Line::parse(json) {
            Ok(line) => line,
            Err(reason) => return conn.close(CloseCode::POLICY_VIOLATION, reason),
        };
        let shard = conn.shard();
        let Guest { room, nick } = state;
        let said = Notice::Said { id: &line.id, nick, text: &line.text, shard };
        conn.publish_all(room, said.to_json());
    }

    fn on_close(
        &mut self,
        conn: &mut Conn<'_, Self>,
        state: &mut Guest,
        _code: CloseCode,
        _reason: &str,
    ) {
        let shard = conn.shard();
        let Guest { room, nick } = state;
        conn.publish(room, Notice::Left { nick, shard }.to_json());
    }
}

fn admit(request: &Request<'_>) -> Result<Guest, Response> {
    if request.path() != page::SOCKET_PATH {
        return Err(page::not_found());
    }
    let room = request.query_param("room").unwrap_or_default();
    let nick = request.query_param("nick").unwrap_or_default();
    Guest::new(&room, &nick).map_err(|reason| page::sentence(400, reason))
}

fn main() -> ExitCode {
    let options: Options = parse("Chat rooms with a page at /", "127.0.0.1:8080");
    let origins = options.allow_origin.clone();
    let chat = move |_shard| Chat { origins: origins.clone() };
    serve_then(&options, chat, |addresses| {
        if let Some(address) = addresses.iter().find_map(ListenAddr::tcp) {
            tracing::info!("open http://{address}/ in two tabs of a browser");
        }
    })
}
