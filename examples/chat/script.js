// The chat's page. It connects, reconnects, and repeats what was typed until its own copy comes
// back from the server, which is how it knows a message was delivered. Everything from outside is
// shown as text, never as markup. Lists are bounded: a page may stay open for weeks.
"use strict";

const NAME_CHARS_MAX = 32;
const TEXT_CHARS_MAX = 2000;
// How many own messages may wait for a connection.
const UNSENT_MAX = 100;
// How many messages stay on the page, and how many ids are remembered to know repetitions:
// more than can be repeated, see REPEAT_MAX, and than fits a page anybody scrolls through.
const SHOWN_MAX = 500;
const SEEN_MAX = 2000;
const NEAR_END_PX = 80;
// Reconnecting: full jitter, so that a restarted server does not meet everyone at once.
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;
// A connection that lasted this long was a good one: the next retry is quick again.
const STEADY_MS = 5_000;
// Silence this long, while an answer is due, means that the connection is dead. Browsers would
// notice only after minutes.
const ANSWER_MS = 10_000;
// The server keeps nothing, so a page repeats its own last words when somebody comes (back).
const REPEAT_MS = 60_000;
const REPEAT_MAX = 5;
const REPEAT_PAUSE_MS = 1_000;

const $ = (id) => document.getElementById(id);
const charCount = (text) => [...text].length;
const isName = (name) =>
  name.trim() !== "" && charCount(name) <= NAME_CHARS_MAX && !/\p{Cc}/u.test(name);

// randomUUID would do, but exists only on https and localhost.
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Storage may be forbidden; then the name is typed again.
function rememberNick(nick) {
  try {
    localStorage.setItem("nick", nick);
  } catch {}
}

function rememberedNick() {
  try {
    return localStorage.getItem("nick") ?? "";
  } catch {
    return "";
  }
}

// --- What is on the page -------------------------------------------------------------------

class Log {
  #scroller = $("scroller");
  #list = $("log");
  // Whether the end is in sight and shall stay so; who scrolls up to read is left in peace.
  #following = true;

  constructor() {
    const scroller = this.#scroller;
    scroller.addEventListener("scroll", () => {
      this.#following =
        scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
    });
    // A phone's keyboard and a growing message box take room from the list.
    new ResizeObserver(() => this.#follow()).observe(scroller);
  }

  #follow() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  // An element, in its place at the end; the oldest one goes when there are too many.
  #append(element) {
    $("empty").hidden = true;
    this.#list.append(element);
    while (this.#list.childElementCount > SHOWN_MAX) this.#list.firstElementChild.remove();
    this.#following ||= element.classList.contains("own");
    this.#follow();
    return element;
  }

  event(text) {
    const item = document.createElement("li");
    item.className = "event";
    item.textContent = text;
    this.#append(item);
  }

  // `status` classes: "own", "pending".
  said({ id, nick, text }, ...status) {
    const item = document.createElement("li");
    item.classList.add("said", ...status);
    item.dataset.id = id;
    const name = document.createElement("bdi");
    name.className = "nick";
    name.textContent = nick;
    name.style.setProperty("--nick-hue", hueOf(nick));
    const words = document.createElement("span");
    words.className = "text";
    words.dir = "auto";
    words.textContent = text;
    const meta = document.createElement("span");
    meta.className = "meta";
    item.append(name, words, meta);
    return this.#append(item);
  }

  mark(item, text) {
    item.querySelector(".meta").textContent = text;
  }
}

function hueOf(nick) {
  let hash = 0;
  for (const char of nick) hash = (hash * 31 + char.codePointAt(0)) % 360;
  return String(hash);
}

function heard({ shard }) {
  const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return `${time}, shard ${shard}`;
}

// --- What was typed ------------------------------------------------------------------------

// Own messages from typing until acknowledged (unsent), and for a minute after (spoken).
class Outbox {
  #unsent = new Map(); // id -> { id, text, item }
  #spoken = []; // { id, text, at }

  get size() {
    return this.#unsent.size;
  }

  get full() {
    return this.#unsent.size >= UNSENT_MAX;
  }

  add(message) {
    this.#unsent.set(message.id, message);
  }

  unsent() {
    return [...this.#unsent.values()];
  }

  acknowledge(id) {
    const message = this.#unsent.get(id);
    if (!message) return null;
    this.#unsent.delete(id);
    this.#spoken.push({ id, text: message.text, at: Date.now() });
    if (this.#spoken.length > REPEAT_MAX) this.#spoken.shift();
    return message;
  }

  // The server refused one of these, and would again: none is repeated.
  giveUp() {
    const messages = this.unsent();
    this.#unsent.clear();
    return messages;
  }

  recent() {
    return this.#spoken.filter(({ at }) => Date.now() - at < REPEAT_MS);
  }
}

// Ids of messages already shown; the oldest are forgotten first.
class Seen {
  #ids = new Set();

  // Whether this id is new.
  add(id) {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > SEEN_MAX) this.#ids.delete(this.#ids.values().next().value);
    return true;
  }
}

// --- The room ------------------------------------------------------------------------------

class Room {
  #nick;
  #url;
  #log = new Log();
  #outbox = new Outbox();
  #seen = new Seen();
  #socket = null;
  #openedAt = 0;
  #failures = 0;
  #retryAt = 0;
  #ticker = 0;
  #answerTimer = 0;
  #repeatTimer = 0;

  constructor(room, nick) {
    this.#nick = nick;
    this.#url = new URL("/ws", location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#url.search = new URLSearchParams({ room, nick });
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
    this.#connect();
  }

  say(text) {
    const message = { id: newId(), nick: this.#nick, text };
    this.#seen.add(message.id);
    message.item = this.#log.said(message, "own", "pending");
    this.#log.mark(message.item, "waiting");
    this.#outbox.add(message);
    this.#send(message);
    this.#showWaiting();
  }

  get full() {
    return this.#outbox.full;
  }

  retryNow() {
    if (document.documentElement.dataset.state === "offline") this.#connect();
  }

  #connect() {
    clearInterval(this.#ticker);
    this.#show("connecting", "connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#openedAt = 0;
    this.#expectAnswer();
    socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    socket.onclose = ({ code, reason }) => this.#lost(code, reason);
  }

  #lost(code, reason) {
    // Left alone: a dead connection may take minutes to close, and must not speak again.
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
    clearTimeout(this.#answerTimer);
    clearTimeout(this.#repeatTimer);
    this.#repeatTimer = 0;
    if (code === 1003 || code === 1008 || code === 1009) {
      for (const { item } of this.#outbox.giveUp()) {
        item.classList.replace("pending", "refused");
        this.#log.mark(item, `not sent: ${reason || code}`);
      }
    }
    const steady = this.#openedAt !== 0 && Date.now() - this.#openedAt >= STEADY_MS;
    this.#failures = steady ? 0 : this.#failures + 1;
    const most = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#failures);
    this.#retryAt = Date.now() + Math.random() * most;
    this.#ticker = setInterval(() => this.#countDown(), 250);
    this.#countDown();
    this.#showWaiting();
  }

  #countDown() {
    const left = this.#retryAt - Date.now();
    if (left <= 0) return this.#connect();
    this.#show("offline", `offline, retry in ${Math.ceil(left / 1000)}s`);
  }

  #hear(notice) {
    switch (notice.kind) {
      case "welcome":
        this.#openedAt = Date.now();
        this.#answered();
        this.#show("connected", `connected (shard ${notice.shard})`);
        for (const message of this.#outbox.unsent()) this.#send(message);
        break;
      case "joined":
        this.#log.event(`${notice.nick} came in (shard ${notice.shard})`);
        this.#repeatSoon();
        break;
      case "left":
        this.#log.event(`${notice.nick} left`);
        break;
      case "said":
        this.#hearSaid(notice);
        break;
    }
  }

  #hearSaid(notice) {
    const own = this.#outbox.acknowledge(notice.id);
    if (own) {
      own.item.classList.remove("pending");
      this.#log.mark(own.item, heard(notice));
      this.#showWaiting();
      this.#answered();
    } else if (this.#seen.add(notice.id)) {
      this.#log.mark(this.#log.said(notice), heard(notice));
    }
  }

  #send({ id, text }) {
    if (document.documentElement.dataset.state !== "connected") return;
    this.#socket.send(JSON.stringify({ id, text }));
    this.#expectAnswer();
  }

  #expectAnswer() {
    clearTimeout(this.#answerTimer);
    this.#answerTimer = setTimeout(() => this.#lost(1006, ""), ANSWER_MS);
  }

  // The next answer is due if something is still unacknowledged.
  #answered() {
    if (this.#outbox.size > 0) this.#expectAnswer();
    else clearTimeout(this.#answerTimer);
  }

  // Once for all who come within the pause, at a moment of our own.
  #repeatSoon() {
    if (this.#repeatTimer !== 0) return;
    this.#repeatTimer = setTimeout(() => {
      this.#repeatTimer = 0;
      for (const { id, text } of this.#outbox.recent()) {
        this.#socket.send(JSON.stringify({ id, text }));
      }
    }, REPEAT_PAUSE_MS * (1 + Math.random()));
  }

  #show(state, text) {
    const root = document.documentElement;
    const changed = root.dataset.state !== state;
    root.dataset.state = state;
    $("state-text").textContent = text;
    $("retry").hidden = state !== "offline";
    // Spoken once per change; the seconds of a countdown are nobody's news.
    if (changed) $("state-spoken").textContent = state === "offline" ? "offline" : text;
  }

  #showWaiting() {
    const offline = document.documentElement.dataset.state !== "connected";
    const count = this.#outbox.size;
    let text = "";
    if (this.full) text = `${count} messages wait for a connection; there is no room for more.`;
    else if (offline && count === 1) text = "1 message waits for a connection.";
    else if (offline && count > 1) text = `${count} messages wait for a connection.`;
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
  $("say").querySelector("button").disabled = left < 0 || Boolean(room?.full);
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
  rememberNick(nick);
  history.replaceState(null, "", `/?${new URLSearchParams({ room: roomName, nick })}`);
  document.title = `${roomName} · Ringwire chat`;
  $("room-name").textContent = roomName;
  $("own-nick").textContent = nick;
  $("entrance").hidden = true;
  $("room-view").hidden = false;
  room = new Room(roomName, nick);
  updateComposer();
  $("text").focus();
}

function start() {
  const query = new URLSearchParams(location.search);
  const roomName = query.get("room") ?? "lobby";
  const nick = query.get("nick") ?? rememberedNick();
  $("enter").addEventListener("submit", (event) => {
    event.preventDefault();
    const names = { Room: $("room").value.trim(), Nickname: $("nick").value.trim() };
    const wrong = Object.keys(names).find((key) => !isName(names[key]));
    $("refusal").textContent = wrong ? `${wrong}: 1 to ${NAME_CHARS_MAX} characters.` : "";
    if (!wrong) enter(names.Room, names.Nickname);
  });
  $("say").addEventListener("submit", say);
  $("text").addEventListener("input", updateComposer);
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) say(event);
  });
  $("retry").addEventListener("click", () => room.retryNow());
  // A link that names both is a bookmark of the room.
  if (query.has("room") && query.has("nick") && isName(roomName) && isName(nick)) {
    enter(roomName, nick);
    return;
  }
  $("room").value = roomName;
  $("nick").value = nick;
  $("entrance").hidden = false;
  (nick === "" ? $("nick") : $("room")).focus();
}

start();
