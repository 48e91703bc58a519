// The `ws` package on Node.js, as its README's examples have it, with the native part for masks
// that its README recommends (bufferutil).

import { WebSocket, WebSocketServer } from "ws";
import manifest from "ws/package.json" with { type: "json" };

import { BACKLOG, MESSAGE_BYTES_MAX, options, started } from "../process.mjs";

const { host, port, broadcasts } = options();

const server = new WebSocketServer({
  host,
  port,
  backlog: BACKLOG,
  maxPayload: MESSAGE_BYTES_MAX,
  // The set of clients is kept only where it is used.
  clientTracking: broadcasts,
});

server.on("connection", (socket) => {
  socket.on("error", () => socket.terminate());
  socket.on("message", broadcasts ? publish : echo);
});

server.on("listening", () => started(host, server.address().port, "ws", manifest.version));

function echo(message, isBinary) {
  this.send(message, { binary: isBinary });
}

function publish(message, isBinary) {
  for (const client of server.clients) {
    if (client.readyState === WebSocket.OPEN) client.send(message, { binary: isBinary });
  }
}
