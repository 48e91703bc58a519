// Bun's own server. Its WebSocket part is uWebSockets in C++, and its publish goes from C++ to
// C++, without a callback for each receiver.

import { MESSAGE_BYTES_MAX, options, started } from "../process.mjs";

const EVERYONE = "everyone";

const { host, port, broadcasts } = options();

const server = Bun.serve({
  hostname: host,
  port,
  fetch(request, server) {
    return server.upgrade(request) ? undefined : new Response(null, { status: 426 });
  },
  websocket: {
    maxPayloadLength: MESSAGE_BYTES_MAX,
    // No peer pings or closes an idle connection: a load generator need not answer.
    idleTimeout: 0,
    sendPings: false,
    open(socket) {
      if (broadcasts) socket.subscribe(EVERYONE);
    },
    message: broadcasts
      ? (_socket, message) => {
          server.publish(EVERYONE, message);
        }
      : (socket, message) => {
          socket.send(message);
        },
  },
});

started(host, server.port, "bun", Bun.version);
