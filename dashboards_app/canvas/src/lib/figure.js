// From an answer of /v1/query and a widget's spec to series, and from series to Plotly's traces. Pure.
import { axisTime, grainSeconds, wholeDays } from "./time.js";

const ADDITIVE = new Set(["count", "sum", "rate", "count_distinct"]);
export const MAX_SERIES = 8;

export const columnIndex = (answer) => new Map(answer.columns.map((column, i) => [column.name, i]));

const byRole = (answer, role) => answer.columns.filter((c) => c.role === role).map((c) => c.name);

/** Which columns play which part: {x, y: [...], series}, from the spec with the answer's roles as default. */
export function parts(answer, chart = {}) {
  const times = byRole(answer, "time");
  const dimensions = byRole(answer, "dimension");
  const x = chart.x ?? times[0] ?? dimensions[0] ?? answer.columns[0]?.name;
  const y = chart.y?.length ? chart.y : byRole(answer, "measure").filter((name) => name !== x);
  const series = chart.series ?? dimensions.find((name) => name !== x) ?? null;
  return { x, y, series };
}

/** Names of the measures whose missing buckets mean nought rather than unknown. */
export function additive(query) {
  return new Set(
    (query?.measures ?? []).filter((m) => ADDITIVE.has(m.agg)).map((m) => m.as ?? (m.field ? `${m.field}_${m.agg}` : m.agg)),
  );
}

/**
 * The answer as series: [{name, column, x: [...], y: [...], total}], biggest first when split by a dimension.
 * On a time axis, buckets without a row are there too: 0 for additive measures, null (a gap) for the rest.
 */
export function toSeries(answer, chart, query) {
  const index = columnIndex(answer);
  const { x, y, series } = parts(answer, chart);
  const timed = answer.columns[index.get(x)]?.role === "time";
  const groups = new Map();
  for (const row of answer.rows) {
    const split = series === null ? null : String(row[index.get(series)] ?? "–");
    for (const column of y) {
      const key = `${split ?? ""}\u0000${column}`;
      let group = groups.get(key);
      if (!group) {
        group = { name: nameOf(answer, index, split, column, y.length), column, x: [], y: [], total: 0 };
        groups.set(key, group);
      }
      const value = row[index.get(column)];
      group.x.push(timed ? Date.parse(row[index.get(x)]) : row[index.get(x)]);
      group.y.push(value);
      group.total += Math.abs(Number(value) || 0);
    }
  }
  let list = [...groups.values()];
  if (series !== null) list.sort((a, b) => b.total - a.total || a.name.localeCompare(b.name, "en"));
  if (timed) {
    const nought = additive(query);
    const buckets = bucketsOf(answer);
    list = list.map((group) => filled(group, buckets, nought.has(group.column) ? 0 : null));
  }
  return { series: list, timed, x, y, split: series };
}

function nameOf(answer, index, split, column, measures) {
  const title = answer.columns[index.get(column)]?.title || column.replaceAll("_", " ");
  if (split === null) return title;
  return measures > 1 ? `${split} · ${title}` : split;
}

/** Starts of all buckets of the answered range in ms, or null if there is no fixed grain or too many. */
export function bucketsOf(answer) {
  const size = grainSeconds(answer.time?.grain) * 1000;
  if (!size || !answer.time?.from) return null;
  const monday = answer.time.grain.endsWith("w") ? 4 * 86400000 : 0; // 1970-01-05 was a Monday
  const from = Math.floor((Date.parse(answer.time.from) - monday) / size) * size + monday;
  const to = Date.parse(answer.time.to);
  if ((to - from) / size > 3000) return null;
  const found = [];
  for (let t = from; t < to; t += size) found.push(t);
  return found;
}

function filled(group, buckets, missing) {
  if (!buckets) return group;
  const known = new Map(group.x.map((t, i) => [t, group.y[i]]));
  // Rows on other instants than the buckets (a coarser first one) are kept where they are.
  const all = buckets.every((t) => !known.has(t)) ? group.x : [...new Set([...buckets, ...group.x])].sort((a, b) => a - b);
  return { ...group, x: all, y: all.map((t) => known.get(t) ?? missing) };
}

/** Start of the bucket that is still filling, in ms, or null. */
export function openBucket(answer, now) {
  const size = grainSeconds(answer.time?.grain) * 1000;
  const buckets = size ? bucketsOf(answer) : null;
  const last = buckets?.at(-1);
  return last !== undefined && last + size > now && buckets.length > 2 ? last : null;
}

/** Plotly traces of a line widget. `colors` is the palette, `hidden` the names switched off in the legend. */
export function lineTraces(answer, spec, colors, hidden, tints) {
  const { series: all, timed } = toSeries(answer, spec.chart, spec.query);
  const stacked = Boolean(spec.chart?.stack);
  const series = stacked ? withoutSilence(all) : all;
  return series.map((group, i) => {
    const color = colors[i % colors.length];
    const faint = i >= MAX_SERIES;
    return {
      type: "scatter",
      mode: "lines+markers",
      uid: uidOf(group.name),
      name: group.name,
      visible: !hidden.has(group.name),
      x: timed ? group.x.map((t) => axisTime(t, answer.time?.grain)) : group.x,
      y: group.y,
      connectgaps: false,
      line: { color: faint ? tints.faint : color, width: faint ? 1 : 1.8, shape: "linear", simplify: true },
      // A value between two gaps has no line to show it.
      marker: { color, size: group.y.map((v, k) => (lonely(group.y, k) ? 4.5 : 0)), opacity: 1 },
      ...(stacked
        ? { stackgroup: "one", fillcolor: alpha(color, 0.22), line: { color, width: 1.2 } }
        : series.length === 1 || spec.chart?.area
          ? { fill: "tozeroy", fillgradient: { type: "vertical", colorscale: [[0, alpha(color, 0)], [1, alpha(color, tints.fill)]] } }
          : {}),
      hovertemplate: "%{y}<extra></extra>",
    };
  });
}

/** Plotly traces of a bar widget; `tones` maps a rule's tone to a color. */
export function barTraces(answer, spec, colors, hidden, toneAt) {
  const { series, timed } = toSeries(answer, spec.chart, spec.query);
  const flat = spec.chart?.horizontal === true;
  return series.map((group, i) => {
    const color = colors[i % colors.length];
    const places = timed ? group.x.map((t) => axisTime(t, answer.time?.grain)) : group.x.map((v) => String(v ?? "–"));
    const shades = group.y.map((value) => toneAt(group.column, value) ?? color);
    return {
      type: "bar",
      uid: uidOf(group.name),
      name: group.name,
      visible: !hidden.has(group.name),
      orientation: flat ? "h" : "v",
      x: flat ? group.y : places,
      y: flat ? places : group.y,
      marker: { color: shades.every((c) => c === color) ? color : shades, line: { width: 0 }, cornerradius: 3 },
      hovertemplate: flat ? "%{y}: %{x}<extra></extra>" : "%{y}<extra></extra>",
    };
  });
}

/** Without the times at which no series has a value: a stack would show nought there. */
function withoutSilence(series) {
  const spoke = new Set(series.flatMap((group) => group.x.filter((_, i) => !missing(group.y[i]))));
  return series.map((group) => {
    const kept = group.x.map((_, i) => i).filter((i) => spoke.has(group.x[i]));
    return { ...group, x: kept.map((i) => group.x[i]), y: kept.map((i) => group.y[i]) };
  });
}

const missing = (v) => v === null || v === undefined;
const lonely = (values, i) => !missing(values[i]) && missing(values[i - 1]) && missing(values[i + 1]);

/** Plotly builds addresses (`url(#…)`) from a trace's uid: letters and digits only. */
const uidOf = (name) => `s${name.replace(/[^A-Za-z0-9]/gu, (c) => `_${c.codePointAt(0).toString(36)}`)}`;

/** "#2563eb" with an opacity. */
export function alpha(hex, opacity) {
  const n = Number.parseInt(hex.slice(1), 16);
  return `rgba(${(n >> 16) & 255},${(n >> 8) & 255},${n & 255},${opacity})`;
}

/** A sparkline's path in a box of width × height: {line, area, last: [x, y]} or null when there is nothing to draw. */
export function sparkline(values, width, height, pad = 2) {
  const known = values.filter((v) => v !== null && Number.isFinite(v));
  if (known.length < 2) return null;
  const low = Math.min(...known);
  const high = Math.max(...known);
  const span = high - low || 1;
  const step = width / (values.length - 1);
  let line = "";
  let first = 0;
  let last = [0, 0];
  values.forEach((v, i) => {
    if (v === null || !Number.isFinite(v)) return;
    const px = round(i * step);
    const py = round(high === low ? height / 2 : height - pad - ((v - low) / span) * (height - 2 * pad));
    if (!line) first = px;
    line += `${line ? "L" : "M"}${px} ${py}`;
    last = [px, py];
  });
  return { line, area: `${line}L${last[0]} ${height}L${first} ${height}Z`, last };
}

const round = (x) => Math.round(x * 100) / 100;

export { wholeDays };
