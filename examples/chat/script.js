// The chat's page. It connects, reconnects, and repeats what was typed until its own copy comes
// back from the server, which is how it knows a message was delivered. Everything from outside is
// shown as text, never as markup. Lists are bounded: a page may stay open for weeks.
"use strict";

const NAME_CHARS_MAX = 32;
const TEXT_CHARS_MAX = 2000;
// How many own messages may wait for a connection.
const UNSENT_MAX = 100;
// More than anybody scrolls back; a repetition of what is no longer shown is shown again.
const SHOWN_MAX = 500;
// Reconnecting: full jitter, so that a restarted server does not meet everyone at once.
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;
// A connection that lasted this long was a good one: the next retry is quick again.
const STEADY_MS = 5_000;
// Silence this long, while an answer is due, means that the connection is dead. Browsers would
// notice only after minutes.
const ANSWER_MS = 10_000;
// Unsupported data, policy violation, message too big (RFC 6455 §7.4.1): the same message would
// be refused again.
const REFUSAL_CODES = [1003, 1008, 1009];

const $ = (id) => document.getElementById(id);
const charCount = (text) => [...text].length;
const isName = (name) =>
  name.trim() !== "" && charCount(name) <= NAME_CHARS_MAX && !/\p{Cc}/u.test(name);

// randomUUID would do, but exists only on https and localhost.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// --- What is on the page -------------------------------------------------------------------

class Log {
  #scroller = $("scroller");
  #list = $("log");

  event(text) {
    this.#append("event").textContent = text;
  }

  said(id, nick, text, isOwn = false) {
    const item = this.#append(isOwn ? "said own" : "said");
    item.dataset.id = id;
    item.style.setProperty("--nick-hue", hueOf(nick));
    for (const [name, content] of Object.entries({ nick, text, meta: "" })) {
      const part = document.createElement("bdi");
      part.className = name;
      part.textContent = content;
      item.append(part);
    }
    // The style sheet keeps the end in sight, and who scrolls up to read is left in peace; but
    // who speaks wants to see it.
    if (isOwn) this.#scroller.scrollTop = 0;
    return item;
  }

  find(id) {
    return this.#list.querySelector(`[data-id="${CSS.escape(id)}"]`);
  }

  #append(className) {
    $("empty").hidden = true;
    const item = document.createElement("li");
    item.className = className;
    this.#list.append(item);
    while (this.#list.childElementCount > SHOWN_MAX) this.#list.firstElementChild.remove();
    return item;
  }
}

// `status` is "pending", "heard" or "refused".
function mark(item, status, meta) {
  item.classList.remove("pending");
  item.classList.add(status);
  item.querySelector(".meta").textContent = meta;
}

function hueOf(nick) {
  let hash = 0;
  for (const char of nick) hash = (hash * 31 + char.codePointAt(0)) % 360;
  return String(hash);
}

function now() {
  return new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// --- The room ------------------------------------------------------------------------------

class Room {
  #nick;
  #url;
  #log = new Log();
  // Own messages the server has not brought back yet: id -> text, oldest first.
  #unsent = new Map();
  #socket = null;
  #state = "";
  #openedAt = Infinity;
  #failures = 0;
  #retryAt = 0;
  #retryTimer = 0;
  #answerTimer = 0;

  constructor(room, nick) {
    this.#nick = nick;
    this.#url = new URL("/ws", location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#url.search = new URLSearchParams({ room, nick });
    this.#connect();
  }

  get full() {
    return this.#unsent.size >= UNSENT_MAX;
  }

  say(text) {
    const id = newId();
    mark(this.#log.said(id, this.#nick, text, true), "pending", "waiting");
    this.#unsent.set(id, text);
    if (this.#state === "connected") this.#send(id, text);
    this.#showWaiting();
  }

  retryNow() {
    if (this.#state === "offline") this.#connect();
  }

  #connect() {
    clearInterval(this.#retryTimer);
    this.#show("connecting", "connecting");
    this.#openedAt = Infinity;
    this.#socket = new WebSocket(this.#url);
    this.#socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#socket.onclose = ({ code, reason }) => this.#lost(code, reason);
    this.#expectAnswer();
  }

  #send(id, text) {
    this.#socket.send(JSON.stringify({ id, text }));
    this.#expectAnswer();
  }

  #hear(notice) {
    switch (notice.kind) {
      case "welcome":
        this.#openedAt = Date.now();
        this.#answered();
        this.#show("connected", `connected (shard ${notice.shard})`);
        for (const [id, text] of this.#unsent) this.#send(id, text);
        this.#showWaiting();
        break;
      case "joined":
        this.#log.event(`${notice.nick} came in (shard ${notice.shard})`);
        break;
      case "left":
        this.#log.event(`${notice.nick} left`);
        break;
      case "said":
        this.#hearSaid(notice);
        break;
    }
  }

  #hearSaid({ id, nick, text, shard }) {
    const own = this.#unsent.delete(id);
    const shown = this.#log.find(id);
    // A connection that died before it brought the sender's copy: said twice, shown once.
    if (shown && !own) return;
    mark(shown ?? this.#log.said(id, nick, text), "heard", `${now()}, shard ${shard}`);
    if (own) {
      this.#answered();
      this.#showWaiting();
    }
  }

  #expectAnswer() {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => this.#lost(1006, ""), ANSWER_MS);
  }

  // The next answer is due if something is still unsent.
  #answered() {
    if (this.#unsent.size > 0) this.#expectAnswer();
    else clearTimeout(this.#answerTimer);
  }

  #lost(code, reason) {
    // A dead connection may take minutes to close, and must not speak again.
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    clearTimeout(this.#answerTimer);
    if (REFUSAL_CODES.includes(code)) this.#giveUp(`not sent: ${reason || code}`);
    this.#failures = Date.now() - this.#openedAt >= STEADY_MS ? 0 : this.#failures + 1;
    const mostMs = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures);
    this.#retryAt = Date.now() + Math.random() * mostMs;
    this.#retryTimer = setInterval(() => this.#countDown(), 250);
    this.#countDown();
    this.#showWaiting();
  }

  #countDown() {
    const leftMs = this.#retryAt - Date.now();
    if (leftMs <= 0) this.#connect();
    else this.#show("offline", `offline, retry in ${Math.ceil(leftMs / 1000)}s`);
  }

  // Which of them was refused is not said. All stay on the page, to be read and typed again.
  #giveUp(why) {
    for (const id of this.#unsent.keys()) {
      const item = this.#log.find(id);
      if (item) mark(item, "refused", why);
    }
    this.#unsent.clear();
  }

  #show(state, text) {
    $("state-text").textContent = text;
    if (state === this.#state) return;
    this.#state = state;
    document.documentElement.dataset.state = state;
    $("retry").hidden = state !== "offline";
    // Spoken once per change; the seconds of a countdown are nobody's news.
    $("state-spoken").textContent = state === "offline" ? "offline" : text;
  }

  #showWaiting() {
    const count = this.#unsent.size;
    const waiting = count === 1 ? "1 message waits" : `${count} messages wait`;
    let text = "";
    if (this.full) text = `${waiting} for a connection; there is no room for more.`;
    else if (count > 0 && this.#state !== "connected") text = `${waiting} for a connection.`;
    $("waiting").textContent = text;
    updateComposer();
  }
}

// --- The forms -----------------------------------------------------------------------------

let room = null;

function updateComposer() {
  const text = $("text");
  const left = TEXT_CHARS_MAX - charCount(text.value);
  $("left-chars").textContent = left < 200 ? String(left) : "";
  $("left-chars").classList.toggle("over", left < 0);
  $("send").disabled = left < 0 || Boolean(room?.full);
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

function say(event) {
  event.preventDefault();
  const text = $("text").value.trim().toWellFormed();
  if (text === "" || charCount(text) > TEXT_CHARS_MAX || room.full) return;
  room.say(text);
  $("text").value = "";
  updateComposer();
}

function enter(roomName, nick) {
  history.replaceState(null, "", `/?${new URLSearchParams({ room: roomName, nick })}`);
  document.title = `${roomName} · Ringwire chat`;
  $("room-name").textContent = roomName;
  $("own-nick").textContent = nick;
  $("entrance").hidden = true;
  $("room-view").hidden = false;
  room = new Room(roomName, nick);
  $("say").addEventListener("submit", say);
  $("text").addEventListener("input", updateComposer);
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) say(event);
  });
  $("retry").addEventListener("click", () => room.retryNow());
  addEventListener("online", () => room.retryNow());
  document.addEventListener("visibilitychange", () => document.hidden || room.retryNow());
  updateComposer();
  $("text").focus();
}

function showEntrance(roomName, nick) {
  $("room").value = roomName;
  $("nick").value = nick;
  $("entrance").hidden = false;
  (nick === "" ? $("nick") : $("room")).focus();
  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const names = { Room: $("room").value.trim(), Nickname: $("nick").value.trim() };
    const wrong = Object.keys(names).find((key) => !isName(names[key]));
    $("refusal").textContent = wrong ? `${wrong}: 1 to ${NAME_CHARS_MAX} characters.` : "";
    if (!wrong) enter(names.Room, names.Nickname);
  });
}

// A link that names both is a bookmark of the room.
const query = new URLSearchParams(location.search);
const roomName = query.get("room") ?? "lobby";
const nick = query.get("nick") ?? "";
if (query.has("room") && isName(roomName) && isName(nick)) enter(roomName, nick);
else showEntrance(roomName, nick);
