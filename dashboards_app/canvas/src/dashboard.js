// A dashboard on the screen: heading, time range, board of widgets, live changes. One instance per mounted canvas.
import { Board } from "./board.js";
import { ApiError, appSource } from "./lib/api.js";
import { h, icon, setText } from "./lib/dom.js";
import { FrameScheduler } from "./lib/scheduler.js";
import { THEMES } from "./lib/theme.js";
import { rangeFromQuery, rangeToQuery, sameRange } from "./lib/time.js";
import { LiveClient } from "./live/client.js";
import { ProvenanceCard } from "./provenance.js";
import { RangeControl } from "./range-control.js";
import { Widget } from "./widgets/widget.js";

const SLOW_REFRESH_MS = 20000;
const STATES = {
  connecting: ["quiet", "Connecting"],
  live: ["live", "Live"],
  reconnecting: ["late", "Reconnecting"],
  "signed-out": ["off", "Signed out"],
};

let ids = 0;

export class Dashboard {
  #widgets = new Map();
  #destroyed = false;
  #timers = [];
  #observers = [];
  #theme = "light";
  #board = null;
  #saving = Promise.resolve();

  /** @param options {slug, workerUrl, theme, plotlyDrawn, source}; source: `appSource` or a `linkSource` */
  constructor(root, { slug, workerUrl, theme, plotlyDrawn, source = appSource }) {
    Object.assign(this, { root, slug, workerUrl, plotlyDrawn, source });
    this.clientId = clientId();
    this.scheduler = new FrameScheduler();
    this.#theme = theme;
    this.connection = "connecting";
    this.#build();
    this.#load();
  }

  #build() {
    this.title = h("h1", {}, "");
    this.subtitle = h("p", {});
    this.liveDot = h("span", { class: "dot" });
    this.liveText = h("span", {});
    this.live = h("div", { class: "live", role: "status" }, this.liveDot, this.liveText);
    this.controls = h("div", { class: "controls" }, this.live);
    this.grid = h("div", { class: "grid-stack" });
    this.notice = h("div", { class: "notice", hidden: true });
    this.spoken = h("div", { class: "sr", "aria-live": "polite" });
    this.toast = h("div", { class: "toast", role: "status", popover: "manual" });
    this.card = new ProvenanceCard(() => Date.now());
    this.element = h("div", { class: "canvas loading", "data-theme": this.#theme },
      h("div", { class: "top" }, h("div", { class: "heading" }, this.title, this.subtitle), this.controls),
      this.notice, this.grid, this.spoken, this.toast, this.card.element);
    this.root.append(this.element);
    this.element.addEventListener("pointerdown", (event) => {
      if (!event.composedPath().some((n) => n.classList?.contains?.("w-foot") || n === this.card.element)) this.card.close();
    });
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && this.card.close());
    this.#skeleton();
    this.#say("connecting");
  }

  #skeleton() {
    const blocks = [3, 3, 3, 3, 8, 4].map((w, i) => h("div", { class: "ghost", style: `grid-column: span ${w}; height: ${i < 4 ? 132 : 300}px` }));
    this.ghosts = h("div", { class: "ghosts", "aria-hidden": "true" }, ...blocks);
    this.element.append(this.ghosts);
  }

  async #load() {
    let found;
    try {
      found = await this.source.getDashboard(this.slug);
    } catch (error) {
      if (!this.#destroyed) this.#failed(error);
      return;
    }
    if (this.#destroyed) return;
    this.spec = found;
    this.element.classList.remove("loading");
    this.ghosts.remove();
    this.notice.hidden = true;
    this.#start(found);
  }

  #failed(error) {
    const problem = error instanceof ApiError ? error : new ApiError(500, "The dashboard could not be shown", error.message);
    this.ghosts.remove();
    this.element.classList.remove("loading");
    const linked = this.source !== appSource;
    const out = problem.status === 401 || (linked && problem.status === 404);
    const signedOut = this.source.signedOut();
    const title = out ? signedOut.title : problem.status === 404 ? "There is no such dashboard" : problem.title;
    const detail = out ? signedOut.detail : problem.status === 404 ? `Nothing is named “${this.slug}” in this workspace.` : problem.detail;
    this.notice.hidden = false;
    this.notice.replaceChildren(
      icon("alert", 22), h("strong", {}, title), h("span", {}, detail ?? ""),
      out
        ? h("a", { class: "plain", href: signedOut.href }, signedOut.action)
        : h("button", { type: "button", class: "plain", onclick: () => this.#load() }, icon("retry", 12), "Try again"));
    if (problem.retryable) this.#timers.push(setTimeout(() => this.#load(), 4000));
  }

  #start(found) {
    setText(this.title, found.title);
    setText(this.subtitle, found.description);
    this.range = found.fixedTime ? found.range : rangeFromQuery(location.search, found.range);
    if (!found.fixedTime) {
      this.rangeControl = new RangeControl({ range: this.range, onChange: (range) => this.setRange(range), now: () => Date.now() });
      this.controls.prepend(this.rangeControl.element);
    }
    const context = this.#context();
    for (const spec of found.widgets) this.#widgets.set(spec.id, new Widget(spec, context));
    if (this.#widgets.size === 0) {
      this.notice.hidden = false;
      this.notice.replaceChildren(icon("inbox", 22), h("strong", {}, "No widgets yet"), h("span", {}, "Add some to the dashboard’s YAML and apply it."));
    }
    this.#board = new Board({
      element: this.grid,
      canEdit: found.canEdit,
      save: (layout) => this.#save(layout),
      onResize: (id) => this.#widgets.get(id)?.resized(),
      announce: (text) => setText(this.spoken, text),
    });
    this.#board.add([...this.#widgets.values()]);
    this.#observe();
    this.client = new LiveClient({
      workerUrl: this.workerUrl,
      url: this.source.liveUrl,
      probe: this.source.probe,
      onEvent: (type, data) => this.#onEvent(type, data),
      onState: (state, resumed) => this.#onState(state, resumed),
    });
    this.#timers.push(setInterval(() => this.#tick(), 1000));
    this.#timers.push(setInterval(() => this.#refreshAll(), SLOW_REFRESH_MS));
    this.onVisibility = () => !document.hidden && this.#refreshAll();
    document.addEventListener("visibilitychange", this.onVisibility);
    this.onPop = () => this.setRange(rangeFromQuery(location.search, found.range), { keepAddress: true });
    addEventListener("popstate", this.onPop);
  }

  /** The spec changed or went away: begin again with what is there now. */
  #reload() {
    this.#stop();
    this.#skeleton();
    this.element.classList.add("loading");
    this.#load();
  }

  #context() {
    return {
      range: () => this.range,
      runQuery: this.source.runQuery,
      theme: () => THEMES[this.#theme],
      now: () => Date.now(),
      connection: () => this.connection,
      scheduler: this.scheduler,
      setRange: (range) => this.setRange(range),
      showProvenance: (widget, pin) => this.card.show(widget, pin),
      hideProvenance: (widget) => this.card.hide(widget),
      uid: () => (ids += 1),
      plotlyDrawn: this.plotlyDrawn,
    };
  }

  #observe() {
    const seen = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) this.#widgets.get(entry.target.dataset.widget)?.setVisible(entry.isIntersecting);
      },
      { rootMargin: "120px" },
    );
    const sizes = new ResizeObserver((entries) => {
      for (const entry of entries) this.#widgets.get(entry.target.dataset.widget)?.resized();
    });
    for (const widget of this.#widgets.values()) {
      seen.observe(widget.element);
      sizes.observe(widget.element);
    }
    this.#observers = [seen, sizes];
  }

  setRange(range, { keepAddress = false } = {}) {
    if (this.spec.fixedTime || sameRange(range, this.range)) return;
    this.range = range;
    this.rangeControl.set(range);
    if (!keepAddress) history.replaceState(history.state, "", rangeToQuery(location.search, range) + location.hash);
    this.card.close();
    for (const widget of this.#widgets.values()) widget.rangeChanged();
  }

  #onEvent(type, data) {
    if (type === "change") {
      if (document.hidden) return;
      for (const widget of this.#widgets.values()) widget.onChange(data);
    } else if (type === "layout" && data.dashboard === this.slug) {
      if (data.client_id === this.clientId || data.layout_version <= this.spec.layoutVersion) return;
      if (!data.layout) {
        this.#fetchLayout();
        return;
      }
      this.spec.layoutVersion = data.layout_version;
      this.#board.apply(data.layout);
    } else if (type === "dashboard" && data.dashboard === this.slug && data.version !== this.spec.version) {
      this.#reload();
    } else if (type === "reset") this.#refreshAll();
  }

  #onState(state, resumed) {
    const before = this.connection;
    this.connection = state;
    this.#say(state);
    // What happened while nobody listened is fetched once.
    if (state === "live" && (resumed || before === "reconnecting")) this.#refreshAll();
    for (const widget of this.#widgets.values()) widget.tick();
  }

  #say(state) {
    const [tone, text] = STATES[state] ?? STATES.connecting;
    this.live.dataset.state = state;
    this.liveDot.dataset.tone = tone;
    setText(this.liveText, text);
    this.live.title = {
      live: "Changes arrive as they happen.",
      reconnecting: "The live connection was lost. It is tried again by itself; numbers may be old.",
      "signed-out": "What you see is no longer renewed.",
    }[state] ?? "";
    if (state === "signed-out") {
      const { title, action, href } = this.source.signedOut();
      this.notice.hidden = false;
      this.notice.replaceChildren(icon("alert", 22), h("strong", {}, title), h("span", {}, "What you see is no longer renewed."),
        h("a", { class: "plain", href }, action));
    }
  }

  #tick() {
    for (const widget of this.#widgets.values()) widget.tick();
    this.card.tick();
  }

  #refreshAll() {
    if (document.hidden) return;
    for (const widget of this.#widgets.values()) widget.refresh();
  }

  /** One save at a time, so that versions go up in the order of the moves. */
  #save(layout) {
    this.#saving = this.#saving.then(async () => {
      try {
        const answer = await this.source.putLayout(this.slug, this.spec.layoutVersion, this.clientId, layout);
        this.spec.layoutVersion = answer.layout_version;
        this.#flash("Layout saved");
      } catch (error) {
        await this.#saveFailed(error);
      }
    });
    return this.#saving;
  }

  async #saveFailed(error) {
    this.#flash(error.status === 409 ? "Someone else moved things meanwhile: theirs is shown" : `Layout not saved: ${error.message}`, true);
    await this.#fetchLayout();
  }

  async #fetchLayout() {
    try {
      const found = await this.source.getDashboard(this.slug);
      this.spec.layoutVersion = found.layoutVersion;
      this.#board.apply(Object.fromEntries(found.widgets.filter((w) => w.layout).map((w) => [w.id, w.layout])));
    } catch {
      // Without an answer the next change or reload brings the true layout.
    }
  }

  #flash(text, bad = false) {
    clearTimeout(this.toastTimer);
    setText(this.toast, text);
    this.toast.dataset.tone = bad ? "critical" : "good";
    if (!this.toast.matches(":popover-open")) this.toast.showPopover();
    this.toastTimer = setTimeout(() => this.toast.isConnected && this.toast.hidePopover(), bad ? 5000 : 1400);
  }

  setTheme(name) {
    if (name === this.#theme) return;
    this.#theme = name;
    this.element.dataset.theme = name;
    for (const widget of this.#widgets.values()) widget.themeChanged();
  }

  destroy() {
    this.#destroyed = true;
    this.#stop();
    this.element.remove();
  }

  #stop() {
    this.#timers.forEach((timer) => clearTimeout(timer));
    this.#timers = [];
    clearTimeout(this.toastTimer);
    this.#observers.forEach((observer) => observer.disconnect());
    document.removeEventListener("visibilitychange", this.onVisibility);
    removeEventListener("popstate", this.onPop);
    this.client?.close();
    this.card.close();
    this.#board?.destroy();
    for (const widget of this.#widgets.values()) widget.destroy();
    this.#widgets.clear();
    this.rangeControl?.element.remove();
    const fresh = h("div", { class: "grid-stack" });
    this.grid.replaceWith(fresh);
    this.grid = fresh;
  }
}

/** Names this page among others; crypto.randomUUID needs https, which a self-hosted address may lack. */
function clientId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");
}
