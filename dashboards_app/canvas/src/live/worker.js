// The shared worker: holds the one event stream of all tabs of this browser and hands its events to each.
import { LiveConnection } from "./connection.js";

const ports = new Map(); // port → when it was last heard from
let connection = null;
const GONE_MS = 60000;

const tell = (message) => {
  for (const port of ports.keys()) port.postMessage(message);
};

function start() {
  connection ??= new LiveConnection({
    url: new URL("/v1/live", self.location.origin).href,
    onEvent: (type, data) => tell({ kind: "event", type, data }),
    onState: (state, resumed) => tell({ kind: "state", state, resumed }),
  });
}

function leave(port) {
  ports.delete(port);
  if (ports.size === 0) {
    connection?.close();
    connection = null;
  }
}

self.onconnect = ({ ports: [port] }) => {
  ports.set(port, Date.now());
  port.onmessage = ({ data }) => {
    if (data === "bye") leave(port);
    else {
      ports.set(port, Date.now());
      start();
      if (data === "retry") connection.retry();
    }
  };
  start();
  port.postMessage({ kind: "state", state: connection.state, resumed: false });
};

// A tab that was killed says no goodbye.
setInterval(() => {
  for (const [port, heard] of ports) if (Date.now() - heard > GONE_MS) leave(port);
}, 20000);
