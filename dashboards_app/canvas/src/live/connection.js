// One event stream to GET /v1/live: reconnects with growing waits and says what state it is in.
// Used by the shared worker, and by the page itself where there are no shared workers.

export const FIRST_WAIT_MS = 500;
export const LONGEST_WAIT_MS = 15000;
const TYPES = ["change", "layout", "dashboard", "catalog", "reset"];

/** Wait before the n-th try (0, 1, 2 …): doubles, at most LONGEST_WAIT_MS, less a random part of up to 30%. */
export function waitBefore(tries, random = Math.random) {
  const whole = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** tries);
  return Math.round(whole * (1 - 0.3 * random()));
}

export class LiveConnection {
  #source = null;
  #tries = 0;
  #timer = null;
  #closed = false;
  state = "connecting";

  /** @param {{url: string, onEvent: (type: string, data: object) => void, onState: (state: string, resumed: boolean) => void}} options */
  constructor({ url, onEvent, onState, Source = EventSource, probe = signedIn }) {
    Object.assign(this, { url, onEvent, onState, Source, probe });
    this.#open();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  /** Try at once, for example because the machine is online again. */
  retry() {
    if (this.state === "live" || this.#closed) return;
    clearTimeout(this.#timer);
    this.#open();
  }

  #open() {
    this.#source?.close();
    const source = new this.Source(this.url, { withCredentials: true });
    this.#source = source;
    source.onopen = () => {
      const resumed = this.#tries > 0 || this.state === "reconnecting";
      this.#tries = 0;
      this.#say("live", resumed);
    };
    source.onerror = () => {
      if (this.#source === source) this.#lost();
    };
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        let data = null;
        try {
          data = JSON.parse(event.data);
        } catch {
          return;
        }
        this.onEvent(type, data);
      });
    }
  }

  async #lost() {
    this.#source?.close();
    this.#source = null;
    if (this.#closed) return;
    this.#say("reconnecting", false);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), waitBefore(this.#tries));
    this.#tries += 1;
    if (this.#tries === 2 && (await this.probe()) === false && !this.#closed) this.#say("signed-out", false);
  }

  #say(state, resumed) {
    if (this.state === state && !resumed) return;
    this.state = state;
    this.onState(state, resumed);
  }
}

/** Whether the session still stands; null when the server cannot be asked. */
async function signedIn() {
  try {
    const answer = await fetch("/v1/session", { credentials: "same-origin", cache: "no-store" });
    return answer.status === 401 ? false : answer.ok ? true : null;
  } catch {
    return null;
  }
}
