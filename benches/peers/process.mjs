// A peer as a process, for those that run on Node.js and on Bun: its command line, the one line
// it prints and how it ends. The same as process/ is for Rust.

import { parseArgs } from "node:util";

/** Connections that wait to be accepted: as many as Ringwire's listener asks for. */
export const BACKLOG = 4096;

/** Largest message a client may send: Ringwire's default. */
export const MESSAGE_BYTES_MAX = 1 << 20;

/** What `--listen ADDR:PORT [--mode echo|broadcast]` asks for. */
export function options() {
  const { values } = parseArgs({
    options: { listen: { type: "string" }, mode: { type: "string", default: "echo" } },
  });
  const address = /^\[?(.+?)\]?:(\d+)$/.exec(values.listen ?? "");
  if (!address || !["echo", "broadcast"].includes(values.mode)) {
    console.error("options: --listen ADDR:PORT [--mode echo|broadcast]");
    process.exit(2);
  }
  return { host: address[1], port: Number(address[2]), broadcasts: values.mode === "broadcast" };
}

/** Says where the server listens, and from then on ends with 0 on SIGTERM. */
export function started(host, port, name, version) {
  process.on("SIGTERM", () => process.exit(0));
  const address = host.includes(":") ? `[${host}]` : host;
  process.stdout.write(`listening on ws://${address}:${port} (${name} ${version})\n`);
}
