// A stat card: one number, how it changed against the period before, and its course as a sparkline.
import { delta, parts, toneOf, formatted } from "../lib/format.js";
import { columnIndex, sparkline, toSeries } from "../lib/figure.js";
import { h, icon, setText, svg } from "../lib/dom.js";
import { bounds, grainFor, previous, spanName } from "../lib/time.js";

const COURSE_EVERY_MS = 1000;
const BEFORE_EVERY_MS = 30000;

export class Stat {
  minimumMs = 100;
  #course = null;
  #before = null;
  #courseAt = 0;
  #beforeAt = 0;
  #answer = null;

  constructor(body, spec, context) {
    Object.assign(this, { body, spec, context });
    this.number = h("span", { class: "stat-number" });
    this.unit = h("span", { class: "stat-unit" });
    this.deltaMark = h("span", { class: "delta", hidden: true });
    this.spark = svg("svg", { class: "spark", preserveAspectRatio: "none", "aria-hidden": "true" });
    this.value = h("div", { class: "stat-value" }, this.number, this.unit);
    body.append(h("div", { class: "stat" }, h("div", { class: "stat-row" }, this.value, this.deltaMark), this.spark));
  }

  /** Forget what belongs to another range. */
  reset() {
    this.#courseAt = 0;
    this.#beforeAt = 0;
  }

  async fetch(run, time, now) {
    const { query, chart = {} } = this.spec;
    const whole = { ...query, time };
    delete whole.grain;
    const jobs = [run(whole)];
    const course = chart.sparkline && now - this.#courseAt >= COURSE_EVERY_MS;
    if (course) jobs.push(run({ ...query, time, grain: query.grain ?? this.#grain(now) }));
    const [answer, found] = await Promise.all(jobs);
    this.#answer = answer;
    if (course) {
      this.#course = found;
      this.#courseAt = now;
    }
    if (chart.compare && answer.time?.from && now - this.#beforeAt >= BEFORE_EVERY_MS) {
      this.#before = await run({ ...whole, time: previous(answer.time.from, answer.time.to) });
      this.#beforeAt = now;
    }
    return answer;
  }

  #grain(now) {
    const [from, to] = bounds(this.spec.query.time ?? this.context.range(), now);
    return grainFor((to - from) / 1000);
  }

  isEmpty(answer) {
    return this.#value(answer) === null;
  }

  #column(answer) {
    const wanted = this.spec.chart?.y?.[0];
    return wanted ?? answer.columns.find((c) => c.role === "measure")?.name ?? answer.columns[0]?.name;
  }

  #value(answer) {
    const at = columnIndex(answer).get(this.#column(answer));
    return answer.rows[0]?.[at] ?? null;
  }

  draw() {
    const answer = this.#answer;
    if (!answer) return;
    const { chart = {}, rules } = this.spec;
    const column = this.#column(answer);
    const value = this.#value(answer);
    const unit = chart.unit ?? answer.columns.find((c) => c.name === column)?.unit;
    const [text, suffix] = parts(value, chart.format ?? "auto", unit, chart.decimals);
    setText(this.number, text);
    setText(this.unit, suffix);
    const tone = toneOf(rules, column, value);
    if (tone) this.value.dataset.tone = tone;
    else delete this.value.dataset.tone;
    this.#drawDelta(value, column, unit);
    this.#drawCourse();
  }

  #drawDelta(value, column, unit) {
    const { chart = {} } = this.spec;
    const before = this.#before ? (this.#before.rows[0]?.[columnIndex(this.#before).get(column)] ?? null) : null;
    const change = chart.compare ? delta(value, before, { points: chart.format === "percent" }) : null;
    this.deltaMark.hidden = change === null;
    const range = this.spec.query.time ?? this.context.range();
    const span = spanName(range);
    this.context.note(change === null ? "" : `vs prior ${range.last ?? span}`);
    if (change === null) return;
    this.deltaMark.title = `${formatted(before, chart.format, unit, chart.decimals)} in the ${span} before`;
    const good = chart.good ?? "none";
    const tone = change.direction === "flat" || good === "none" ? "neutral" : change.direction === good ? "good" : "critical";
    this.deltaMark.dataset.tone = tone;
    if (this.deltaMark.dataset.text !== change.text + change.direction) {
      this.deltaMark.dataset.text = change.text + change.direction;
      this.deltaMark.replaceChildren(icon(change.direction, 11), change.text);
    }
  }

  #drawCourse() {
    if (!this.spec.chart?.sparkline || !this.#course) return;
    const { series } = toSeries(this.#course, {}, this.spec.query);
    const { clientWidth: width, clientHeight: height } = this.spark;
    const path = width > 20 && height > 12 ? sparkline(series[0]?.y ?? [], width - 4, height, 4) : null;
    if (!path) {
      this.spark.replaceChildren();
      return;
    }
    this.spark.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.spark.firstChild) {
      const id = `g${this.context.uid()}`;
      this.fade = svg("path", { class: "spark-area", fill: `url(#${id})` });
      this.line = svg("path", { class: "spark-line" });
      this.dot = svg("circle", { class: "spark-dot", r: 2.5 });
      this.spark.append(
        svg("defs", {}, svg("linearGradient", { id, x1: 0, y1: 0, x2: 0, y2: 1 },
          svg("stop", { offset: 0, class: "spark-from" }), svg("stop", { offset: 1, class: "spark-to" }))),
        this.fade, this.line, this.dot,
      );
    }
    this.line.setAttribute("d", path.line);
    this.fade.setAttribute("d", path.area);
    this.dot.setAttribute("cx", path.last[0]);
    this.dot.setAttribute("cy", path.last[1]);
  }

  resize() {
    this.draw();
  }

  destroy() {}
}
