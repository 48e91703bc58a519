// Socket.IO on Node.js over WebSocket alone, with the advice of its page on performance tuning
// (bufferutil, no reference to the first request). Messages are events named "message".

import { createServer } from "node:http";
import { Server } from "socket.io";
import manifest from "socket.io/package.json" with { type: "json" };

import { BACKLOG, MESSAGE_BYTES_MAX, options, started } from "../process.mjs";

/** No ping reaches a load generator that does not answer any. */
const PING_INTERVAL_MS = 60 * 60 * 1000;

const { host, port, broadcasts } = options();

const http = createServer();
const io = new Server(http, {
  transports: ["websocket"],
  serveClient: false,
  pingInterval: PING_INTERVAL_MS,
  maxHttpBufferSize: MESSAGE_BYTES_MAX,
});

io.engine.on("connection", (connection) => {
  connection.request = null;
});

io.on("connection", (socket) => {
  socket.on("message", broadcasts ? publish : echo);
});

http.listen({ host, port, backlog: BACKLOG }, () => {
  started(host, http.address().port, "socket.io", manifest.version);
});

function echo(payload) {
  this.emit("message", payload);
}

function publish(payload) {
  io.emit("message", payload);
}
