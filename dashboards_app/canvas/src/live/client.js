// The page's end of the live stream: the shared worker where there is one, else a stream of its own.
import { LiveConnection } from "./connection.js";

const HEARTBEAT_MS = 15000;

export class LiveClient {
  #port = null;
  #own = null;
  #beat = null;
  state = "connecting";

  /**
   * @param {{workerUrl: string, onEvent: (type, data) => void, onState: (state, resumed) => void,
   *   url: ?string, probe: ?Function}} options url: a stream of this page's own instead of the workspace's
   */
  constructor({ workerUrl, onEvent, onState, url = null, probe = undefined }) {
    this.url = url;
    this.probe = probe;
    this.onEvent = onEvent;
    this.onState = onState;
    this.onPageHide = () => this.#port?.postMessage("bye");
    this.onPageShow = (event) => event.persisted && this.#port?.postMessage("here");
    this.onOnline = () => (this.#port ? this.#port.postMessage("retry") : this.#own?.retry());
    if (url === null && typeof SharedWorker === "function") this.#shared(workerUrl);
    else this.#alone();
    addEventListener("pagehide", this.onPageHide);
    addEventListener("pageshow", this.onPageShow);
    addEventListener("online", this.onOnline);
  }

  #shared(workerUrl) {
    let worker;
    try {
      worker = new SharedWorker(workerUrl, { name: "sluiceway-live" });
    } catch {
      this.#alone();
      return;
    }
    // A worker that cannot be loaded (a proxy, a policy) must not cost the page its live data.
    worker.onerror = () => {
      if (this.#own) return;
      this.#port = null;
      clearInterval(this.#beat);
      this.#alone();
    };
    this.#port = worker.port;
    this.#port.onmessage = ({ data }) => {
      if (data.kind === "state") this.#say(data.state, data.resumed);
      else this.onEvent(data.type, data.data);
    };
    this.#port.start();
    this.#beat = setInterval(() => this.#port?.postMessage("here"), HEARTBEAT_MS);
  }

  #alone() {
    this.#own = new LiveConnection({
      url: new URL(this.url ?? "/v1/live", location.origin).href,
      onEvent: this.onEvent,
      onState: (state, resumed) => this.#say(state, resumed),
      probe: this.probe,
    });
  }

  #say(state, resumed) {
    this.state = state;
    this.onState(state, resumed);
  }

  close() {
    removeEventListener("pagehide", this.onPageHide);
    removeEventListener("pageshow", this.onPageShow);
    removeEventListener("online", this.onOnline);
    clearInterval(this.#beat);
    this.#port?.postMessage("bye");
    this.#port?.close();
    this.#own?.close();
  }
}
