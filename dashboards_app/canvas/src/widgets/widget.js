// The frame every widget has: heading, body, and the line that says how fresh and how trusted its number is.
import { ApiError } from "../lib/api.js";
import { h, icon, setText } from "../lib/dom.js";
import { Pace } from "../lib/scheduler.js";
import { bounds, touches } from "../lib/time.js";
import { freshness, trust } from "../lib/trust.js";
import { Chart } from "./chart.js";
import { Stat } from "./stat.js";
import { Table } from "./table.js";
import { Text } from "./text.js";

const KINDS = { stat: Stat, line: Chart, bar: Chart, table: Table, text: Text };
const RETRY_MS = [2000, 5000, 10000, 30000];

export class Widget {
  #visible = false;
  #stale = true;
  #generation = 0;
  #abort = null;
  #failures = 0;
  #retryTimer = null;
  answer = null;

  /** @param context {range, runQuery, theme, now, connection, scheduler, setRange, showProvenance, uid, plotlyDrawn} */
  constructor(spec, context) {
    Object.assign(this, { spec, context, id: spec.id });
    this.title = h("h3", { class: "w-title" }, spec.title ?? "");
    this.note = h("span", { class: "w-note" });
    this.head = h("header", { class: "w-head" }, this.title, this.note);
    this.body = h("div", { class: "w-body" });
    this.state = h("div", { class: "w-state", hidden: true });
    this.element = h("article", { class: `w w-${spec.type}`, "data-widget": spec.id, tabindex: "0" }, this.head, this.body, this.state);
    const Kind = KINDS[spec.type];
    if (!Kind) {
      this.#show("alert", "Unknown widget", `This version cannot draw “${spec.type}”.`);
      return;
    }
    this.kind = new Kind(this.body, spec, { ...context, redraw: () => this.#draw(), note: (text) => setText(this.note, text) });
    if (spec.query) this.#dataParts();
    else this.element.setAttribute("aria-label", spec.title || "Text");
  }

  #dataParts() {
    const unit = this.spec.type === "line" || this.spec.type === "bar" ? this.spec.chart?.unit : null;
    const own = this.spec.query.time?.last;
    setText(this.note, [unit, own && `last ${own}`].filter(Boolean).join(" · "));
    this.dot = h("span", { class: "dot" });
    this.fresh = h("span", { class: "fresh" });
    this.badge = h("span", { class: "badge" });
    this.foot = h("button", {
      class: "w-foot", type: "button", "aria-label": "How fresh and how trusted this is",
      onclick: () => this.context.showProvenance(this, true),
      onpointerenter: (event) => event.pointerType === "mouse" && this.context.showProvenance(this, false),
      onpointerleave: () => this.context.hideProvenance(this),
      onblur: () => this.context.hideProvenance(this),
    }, this.dot, this.fresh, this.badge);
    this.element.append(this.foot);
    this.skeleton = h("div", { class: "skeleton", "aria-hidden": "true" }, ...Array.from({ length: 12 }, () => h("i")));
    this.element.append(this.skeleton);
    this.element.setAttribute("aria-busy", "true");
    this.pace = new Pace(() => this.#load(), 100);
  }

  get pipeline() {
    return this.spec.query?.pipeline ?? null;
  }

  #range() {
    return this.spec.query.time ?? this.context.range();
  }

  /** Data of `pipeline` changed: ask again if it can matter to what is shown. */
  onChange(change) {
    if (!this.pace || change.pipeline !== this.pipeline) return;
    if (!touches(this.#range(), change.min, change.max, this.context.now())) return;
    this.refresh();
  }

  /** There may be news. Off screen it is only noted. */
  refresh() {
    if (!this.pace) return;
    this.#stale = true;
    if (this.#visible) {
      this.pace.minimumMs = this.kind.minimumMs;
      this.pace.poke();
    }
  }

  /** The range changed: what is on its way belongs to another one. */
  rangeChanged() {
    if (!this.pace || this.spec.query.time) {
      this.kind?.reset?.();
      this.#draw();
      return;
    }
    this.kind.reset();
    this.#generation += 1;
    this.#abort?.abort();
    this.#stale = true;
    this.element.setAttribute("aria-busy", "true");
    if (this.#visible) this.pace.force();
    else this.pace.stop();
  }

  setVisible(visible) {
    this.#visible = visible;
    if (visible && this.#stale) this.refresh();
  }

  async #load() {
    const generation = this.#generation;
    this.#stale = false;
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const query = this.spec.query;
    const range = this.#range();
    const time = range.last ? { last: range.last } : { from: range.from, to: range.to };
    try {
      const answer = await this.kind.fetch((q) => this.context.runQuery(this.id, q, signal), time, Date.now());
      if (generation !== this.#generation) return;
      this.#failures = 0;
      this.answer = answer;
      this.element.removeAttribute("aria-busy");
      this.skeleton?.remove();
      if (this.kind.isEmpty(answer)) this.#show("inbox", "No data in this range", this.#emptyHint(answer, query));
      else this.#show(null);
      this.#draw();
    } catch (error) {
      if (error.name === "AbortError" || generation !== this.#generation) return;
      this.#failed(error);
    }
  }

  #emptyHint(answer, query) {
    const last = answer.freshness?.last_event_time;
    if (!last) return query.pipeline ? `Nothing has arrived on ${query.pipeline} yet.` : "The model has no rows yet.";
    const [from] = bounds(this.#range(), this.context.now());
    return Date.parse(last) < from ? "Choose a longer time: the last event is older." : "No event matches the filters.";
  }

  #failed(error) {
    const problem = error instanceof ApiError ? error : new ApiError(500, "Could not be drawn", error.message);
    if (!(error instanceof ApiError)) console.error("canvas:", error);
    this.element.removeAttribute("aria-busy");
    this.skeleton?.remove();
    // Numbers that were right a moment ago stay; that they are not renewed is said below them.
    if (this.answer && problem.retryable) this.element.dataset.outdated = problem.title;
    else this.#show("alert", problem.title, problem.detail ?? "", () => this.pace.force());
    if (problem.retryable) {
      clearTimeout(this.#retryTimer);
      this.#retryTimer = setTimeout(() => this.refresh(), RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)]);
      this.#failures += 1;
    }
    this.tick();
  }

  #show(symbol, title, detail, retry) {
    this.state.hidden = symbol === null;
    this.body.classList.toggle("veiled", symbol !== null);
    delete this.element.dataset.outdated;
    if (symbol === null) return;
    this.state.dataset.kind = symbol;
    this.state.replaceChildren(
      icon(symbol, 20),
      h("strong", {}, title),
      h("span", {}, detail),
      ...(retry ? [h("button", { type: "button", class: "plain", onclick: retry }, icon("retry", 12), "Try again")] : []),
    );
  }

  #draw() {
    this.context.scheduler.draw(this, () => {
      this.kind?.draw();
      this.tick();
    });
  }

  /** Once a second: the words that change with time alone. */
  tick() {
    if (!this.foot) return;
    const outdated = this.element.dataset.outdated;
    const fresh = outdated ? { tone: "off", label: `not renewed · ${outdated.toLowerCase()}` } : freshness(this.answer, this.context.connection(), this.context.now());
    const badge = trust(this.answer);
    const waiting = this.answer === null;
    this.foot.classList.toggle("waiting", waiting);
    this.dot.dataset.tone = waiting ? "quiet" : fresh.tone;
    setText(this.fresh, waiting ? "" : fresh.label);
    this.fresh.dataset.tone = fresh.tone;
    if (!waiting && this.badge.dataset.key !== badge.icon + badge.label) {
      this.badge.dataset.key = badge.icon + badge.label;
      this.badge.dataset.tone = badge.tone;
      this.badge.replaceChildren(icon(badge.icon, 13), h("span", {}, badge.label));
    }
  }

  themeChanged() {
    this.#draw();
  }

  resized() {
    this.context.scheduler.draw(this, () => this.kind?.resize());
  }

  destroy() {
    this.#generation += 1;
    this.#abort?.abort();
    this.pace?.stop();
    clearTimeout(this.#retryTimer);
    this.context.scheduler.drop(this);
    this.kind?.destroy();
    this.element.remove();
  }
}
