// One requestAnimationFrame loop for all redraws, and the pace at which a widget asks again.

const FRAME_BUDGET_MS = 12;

/** Runs queued work in animation frames, at most `FRAME_BUDGET_MS` of it a frame; a newer job replaces an older one. */
export class FrameScheduler {
  #jobs = new Map();
  #frame = null;

  constructor(raf = requestAnimationFrame, clock = () => performance.now()) {
    this.raf = raf;
    this.clock = clock;
  }

  /** Queue `work` for `owner`, instead of what was queued for it before. */
  draw(owner, work) {
    this.#jobs.set(owner, work);
    this.#frame ??= this.raf.call(globalThis, () => this.#run());
  }

  drop(owner) {
    this.#jobs.delete(owner);
  }

  #run() {
    this.#frame = null;
    const end = this.clock() + FRAME_BUDGET_MS;
    for (const [owner, work] of this.#jobs) {
      this.#jobs.delete(owner);
      try {
        work();
      } catch (error) {
        console.error("canvas: a widget failed to draw", error);
      }
      if (this.clock() >= end) break;
    }
    if (this.#jobs.size > 0) this.#frame = this.raf.call(globalThis, () => this.#run());
  }
}

/**
 * Asks at most once per interval and never twice at a time. `poke()` says that there may be news: news during a
 * request is fetched after it. The interval grows with how long answers take, so that slow ones are not piled up.
 */
export class Pace {
  #timer = null;
  #busy = false;
  #again = false;
  #last = -Infinity;
  #took = 0;

  /** @param {() => Promise<void>} work */
  constructor(work, minimumMs, { clock = () => performance.now(), later = setTimeout, cancel = clearTimeout } = {}) {
    this.work = work;
    this.minimumMs = minimumMs;
    this.clock = clock;
    this.later = (f, ms) => later(f, ms);
    this.cancel = (t) => cancel(t);
  }

  get intervalMs() {
    return Math.max(this.minimumMs, Math.min(4 * this.#took, 5000));
  }

  poke() {
    if (this.#busy) {
      this.#again = true;
      return;
    }
    if (this.#timer !== null) return;
    const wait = this.#last + this.intervalMs - this.clock();
    if (wait <= 0) this.#go();
    else
      this.#timer = this.later(() => {
        this.#timer = null;
        this.#go();
      }, wait);
  }

  /** Ask now, whatever the interval; news that comes meanwhile is still fetched after. */
  force() {
    this.stop();
    if (this.#busy) this.#again = true;
    else this.#go();
  }

  stop() {
    if (this.#timer !== null) this.cancel(this.#timer);
    this.#timer = null;
    this.#again = false;
  }

  async #go() {
    this.#busy = true;
    const started = this.clock();
    this.#last = started;
    try {
      await this.work();
    } finally {
      this.#took = this.clock() - started;
      this.#busy = false;
      if (this.#again) {
        this.#again = false;
        this.poke();
      }
    }
  }
}
