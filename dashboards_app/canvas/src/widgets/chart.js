// Line and bar widgets: Plotly, drawn with `react` in place, with a legend of our own above it.
import { barTraces, lineTraces, openBucket, alpha } from "../lib/figure.js";
import { formatted, toneOf } from "../lib/format.js";
import { CHART_CONFIG, chartLayout } from "../lib/theme.js";
import { axisTime, fromAxisTime, grainSeconds, wholeDays } from "../lib/time.js";
import { h } from "../lib/dom.js";

let loading = null;

/** Plotly, fetched when the first chart is about to be drawn. */
export function loadPlotly() {
  loading ??= import("plotly.js-cartesian-dist-min").then((module) => module.default ?? module);
  return loading;
}

const TICKS = [
  { dtickrange: [null, 59999], value: "%H:%M:%S" },
  { dtickrange: [60000, 86399999], value: "%H:%M" },
  { dtickrange: [86400000, "M1"], value: "%-d %b" },
  { dtickrange: ["M1", "M12"], value: "%b %Y" },
  { dtickrange: ["M12", null], value: "%Y" },
];

const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");

export class Chart {
  #answer = null;
  #plotly = null;
  #hidden = new Set();
  #legendKey = "";
  #wired = false;

  constructor(body, spec, context) {
    Object.assign(this, { body, spec, context });
    this.legend = h("div", { class: "legend", role: "group", "aria-label": "Series" });
    this.plot = h("div", { class: "plot" });
    body.append(h("div", { class: "chart" }, this.legend, this.plot));
  }

  /** A bucket of a day changes its picture less often than one of a minute. */
  get minimumMs() {
    const grain = grainSeconds(this.#answer?.time?.grain);
    return grain ? Math.max(100, Math.min(1500, (grain * 1000) / 240)) : 250;
  }

  reset() {}

  async fetch(run, time) {
    const { query, type, chart = {} } = this.spec;
    const overTime = type === "line" && !query.grain && !query.rows && !query.model && (!chart.x || chart.x === "time");
    const [answer, plotly] = await Promise.all([run({ ...query, ...(overTime ? { grain: "auto" } : {}), time }), loadPlotly()]);
    this.#answer = answer;
    this.#plotly = plotly;
    return answer;
  }

  isEmpty(answer) {
    return answer.rows.length === 0;
  }

  draw() {
    const answer = this.#answer;
    if (!answer || !this.#plotly) return;
    const theme = this.context.theme();
    const { chart = {}, rules } = this.spec;
    const traces =
      this.spec.type === "bar"
        ? barTraces(answer, this.spec, theme.palette, this.#hidden, (column, value) => theme.tones[toneOf(rules, column, value)])
        : lineTraces(answer, this.spec, theme.palette, this.#hidden, theme);
    this.#drawLegend(traces, theme);
    const width = this.plot.clientWidth;
    const height = this.plot.clientHeight;
    if (width < 40 || height < 30) return;
    const layout = this.#layout(answer, traces, theme, width, height);
    for (const trace of traces) this.#describe(trace, answer, chart, traces.length);
    this.#plotly.react(this.plot, traces, layout, CHART_CONFIG);
    this.context.plotlyDrawn();
    if (!this.#wired) this.#wire();
  }

  #describe(trace, answer, chart, count) {
    const values = trace.orientation === "h" ? trace.x : trace.y;
    const column = answer.columns.find((c) => c.role === "measure");
    const unit = chart.unit ?? column?.unit;
    trace.customdata = values.map((v) => formatted(v, chart.format, unit, chart.decimals));
    const name = count > 1 ? `${plain(trace.name)}  ` : "";
    trace.hovertemplate =
      trace.orientation === "h" ? "%{y}  <b>%{customdata}</b><extra></extra>" : `${name}<b>%{customdata}</b><extra></extra>`;
  }

  #layout(answer, traces, theme, width, height) {
    const { chart = {}, rules, type } = this.spec;
    const layout = chartLayout(theme);
    const grain = answer.time?.grain;
    const timed = answer.columns.some((c) => c.role === "time" && (!chart.x || chart.x === c.name));
    const flat = traces[0]?.orientation === "h";
    Object.assign(layout, { width, height, uirevision: "kept", datarevision: Math.random() });
    if (timed) {
      const size = (grainSeconds(grain) ?? 0) * 1000;
      const from = axisTime(answer.time.from, grain);
      const to = axisTime(answer.time.to, grain);
      // Lines end where their last bucket begins; bars need room for their whole width.
      const range = type === "bar" ? [from, to] : [from, Math.max(from + 1, to - (to - from > 3 * size ? size : 0))];
      Object.assign(layout.xaxis, {
        type: "date",
        range,
        fixedrange: false,
        tickformatstops: TICKS,
        nticks: Math.max(3, Math.floor(width / 90)),
        hoverformat: wholeDays(grain) ? "%a %-d %b %Y" : "%a %-d %b, %H:%M",
      });
      const open = openBucket(answer, this.context.now());
      if (open !== null) layout.shapes = [this.#openBand(axisTime(open, grain), to, theme)];
    } else if (flat) {
      const longest = Math.max(0, ...traces.flatMap((t) => t.y.map((name) => String(name).length)));
      layout.margin = { ...layout.margin, l: Math.min(150, 16 + longest * 6.2), r: 16 };
      layout.xaxis = { ...layout.yaxis, showgrid: true };
      layout.yaxis = { ...chartLayout(theme).xaxis, type: "category", autorange: "reversed", nticks: 0 };
      layout.hovermode = "closest";
    } else {
      Object.assign(layout.xaxis, { type: "category", nticks: Math.max(3, Math.floor(width / 46)) });
    }
    const values = flat ? layout.xaxis : layout.yaxis;
    if (chart.format === "percent") values.tickformat = ".0%";
    if (chart.format === "duration") Object.assign(values, ticks(traces, DURATION_STEPS, "duration"));
    if (chart.format === "bytes") Object.assign(values, ticks(traces, BYTE_STEPS, "bytes"));
    if (typeof chart.min === "number" || typeof chart.max === "number") {
      values.autorange = false;
      values.autorangeoptions = { minallowed: chart.min, maxallowed: chart.max };
      values.range = [chart.min ?? null, chart.max ?? null];
    }
    layout.barmode = chart.stack ? "stack" : "group";
    if (type === "line" && !flat) layout.shapes = [...(layout.shapes ?? []), ...this.#limits(rules, theme)];
    return layout;
  }

  /** The bucket that is still filling is marked: its number is not final. */
  #openBand(from, to, theme) {
    return { type: "rect", layer: "below", xref: "x", yref: "paper", x0: from, x1: to, y0: 0, y1: 1, fillcolor: theme.band, line: { width: 0 } };
  }

  #limits(rules, theme) {
    return (rules ?? [])
      .filter((rule) => /^(l|g)te?$/.test(rule.op) && typeof rule.value === "number")
      .map((rule) => ({
        type: "line", layer: "above", xref: "paper", yref: "y", x0: 0, x1: 1, y0: rule.value, y1: rule.value,
        line: { color: alpha(theme.tones[rule.tone] ?? theme.muted, 0.75), width: 1, dash: "4px,3px" },
      }));
  }

  #drawLegend(traces, theme) {
    const names = traces.length > 1 && this.spec.chart?.legend !== false ? traces.map((t) => t.name) : [];
    const key = JSON.stringify([names, [...this.#hidden], theme.palette[0]]);
    if (key === this.#legendKey) return;
    this.#legendKey = key;
    this.legend.hidden = names.length === 0;
    this.legend.replaceChildren(
      ...names.map((name, i) =>
        h(
          "button",
          {
            class: "legend-item",
            type: "button",
            title: `${name}: click to show or hide`,
            "aria-pressed": String(!this.#hidden.has(name)),
            onclick: () => this.#toggle(name),
          },
          h("span", { class: "swatch", style: `background:${theme.palette[i % theme.palette.length]}` }),
          name,
        ),
      ),
    );
  }

  #toggle(name) {
    if (this.#hidden.has(name)) this.#hidden.delete(name);
    else this.#hidden.add(name);
    this.context.redraw();
  }

  // Dragging over a stretch of time makes it the range of the whole dashboard.
  #wire() {
    this.#wired = true;
    this.plot.on("plotly_relayout", (change) => {
      const from = change["xaxis.range[0]"];
      const to = change["xaxis.range[1]"];
      if (typeof from !== "string" || typeof to !== "string") return;
      const grain = this.#answer?.time?.grain;
      const [a, b] = [fromAxisTime(from, grain), fromAxisTime(to, grain)];
      if (Number.isFinite(a) && Number.isFinite(b) && b - a > 30000) {
        this.context.setRange({ from: new Date(a).toISOString(), to: new Date(b).toISOString() });
      }
    });
  }

  resize() {
    this.draw();
  }

  destroy() {
    this.#plotly?.purge(this.plot);
  }
}

const DURATION_STEPS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400,
  21600, 43200, 86400, 172800, 604800,
];
const BYTE_STEPS = Array.from({ length: 48 }, (_, n) => [1, 2, 5][n % 3] * 10 ** Math.floor(n / 3));

/** About four ticks on whole steps of the unit, instead of "3.6k" seconds. */
function ticks(traces, steps, format) {
  const top = Math.max(0, ...traces.flatMap((t) => (t.orientation === "h" ? t.x : t.y).map((v) => Number(v) || 0)));
  if (top === 0) return {};
  const step = steps.find((s) => top / s <= 5) ?? steps.at(-1);
  const found = Array.from({ length: Math.floor((top * 1.15) / step) + 2 }, (_, i) => i * step);
  return { tickvals: found, ticktext: found.map((v) => formatted(v, format)) };
}
