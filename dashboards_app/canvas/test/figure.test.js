import assert from "node:assert/strict";
import test from "node:test";
import { barTraces, bucketsOf, lineTraces, openBucket, sparkline, toSeries } from "../src/lib/figure.js";

const time = { from: "2026-11-21T00:00:00Z", to: "2026-11-21T04:00:00Z", grain: "1h" };
const column = (name, role, type = "number") => ({ name, role, type, unit: null, title: null });

function answer(rows, dimensions = [], measures = ["flights"]) {
  return {
    columns: [column("time", "time", "timestamp"), ...dimensions.map((d) => column(d, "dimension", "string")), ...measures.map((m) => column(m, "measure"))],
    rows,
    time,
  };
}
const count = { measures: [{ agg: "count", as: "flights" }] };

test("missing buckets are nought for counts and gaps for averages", () => {
  const rows = [["2026-11-21T00:00:00Z", 3], ["2026-11-21T02:00:00Z", 5]];
  assert.deepEqual(toSeries(answer(rows), {}, count).series[0].y, [3, 0, 5, 0]);
  const average = { measures: [{ field: "delay", agg: "avg", as: "flights" }] };
  assert.deepEqual(toSeries(answer(rows), {}, average).series[0].y, [3, null, 5, null]);
  const unnamed = { measures: [{ field: "delay", agg: "sum" }] };
  assert.deepEqual(toSeries(answer([["2026-11-21T00:00:00Z", 3]], [], ["delay_sum"]), {}, unnamed).series[0].y, [3, 0, 0, 0]);
});

test("series of a dimension, the biggest first", () => {
  const rows = [["2026-11-21T00:00:00Z", "LGA", 1], ["2026-11-21T00:00:00Z", "EWR", 7], ["2026-11-21T01:00:00Z", "EWR", 2]];
  const { series } = toSeries(answer(rows, ["origin"]), { series: "origin" }, count);
  assert.deepEqual(series.map((s) => [s.name, s.y]), [["EWR", [7, 2, 0, 0]], ["LGA", [1, 0, 0, 0]]]);
});

test("two measures are two series with their titles", () => {
  const found = answer([["2026-11-21T00:00:00Z", 1, 2]], [], ["departure", "arrival"]);
  found.columns[1].title = "Departure delay";
  assert.deepEqual(toSeries(found, {}, { measures: [] }).series.map((s) => s.name), ["Departure delay", "arrival"]);
});

test("buckets of weeks begin on Mondays", () => {
  const weeks = bucketsOf({ time: { from: "2026-11-02T00:00:00Z", to: "2026-11-21T00:00:00Z", grain: "1w" } });
  assert.deepEqual(weeks.map((t) => new Date(t).getUTCDay()), [1, 1, 1]);
});

test("the bucket that is still filling is known", () => {
  assert.equal(openBucket({ time }, Date.parse("2026-11-21T03:20:00Z")), Date.parse("2026-11-21T03:00:00Z"));
  assert.equal(openBucket({ time }, Date.parse("2026-11-22T00:00:00Z")), null);
});

test("lines: names make safe uids, and a value between gaps is seen", () => {
  const found = answer([["2026-11-21T01:00:00Z", 4]], [], ["x y"]);
  const [trace] = lineTraces(found, { query: { measures: [{ field: "a", agg: "avg", as: "x y" }] } }, ["#112233"], new Set(), { fill: 0.2 });
  assert.match(trace.uid, /^[A-Za-z0-9_]+$/);
  assert.deepEqual(trace.marker.size, [0, 4.5, 0, 0]);
});

test("bars: horizontal ones swap the axes, tones color single bars", () => {
  const found = { columns: [column("carrier", "dimension", "string"), column("delay", "measure")], rows: [["UA", 31], ["B6", 2]], time: {} };
  const tone = (_, value) => (value > 30 ? "#c8401e" : undefined);
  const [trace] = barTraces(found, { chart: { x: "carrier", horizontal: true } }, ["#112233"], new Set(), tone);
  assert.deepEqual([trace.orientation, trace.x, trace.y], ["h", [31, 2], ["UA", "B6"]]);
  assert.deepEqual(trace.marker.color, ["#c8401e", "#112233"]);
});

test("no rows are no series", () => {
  assert.deepEqual(toSeries(answer([]), {}, count).series, []);
});

test("sparklines stay in their box and need two values", () => {
  assert.equal(sparkline([1], 100, 20), null);
  assert.equal(sparkline([null, 2, null], 100, 20), null);
  const { line, last } = sparkline([0, null, 10, 5], 90, 20, 2);
  assert.equal(line, "M0 18L60 2L90 10");
  assert.deepEqual(last, [90, 10]);
  assert.doesNotMatch(sparkline([3, 3, 3], 90, 20).line, /NaN/);
});

test("a stack is not drawn where nothing is known", () => {
  const rows = [["2026-11-21T02:00:00Z", "web", 5], ["2026-11-21T03:00:00Z", "loader", 7]];
  const query = { measures: [{ field: "memory", agg: "avg", as: "flights" }] };
  const traces = lineTraces(answer(rows, ["process"]), { query, chart: { series: "process", stack: true } }, ["#112233"], new Set(), { fill: 0.2 });
  assert.deepEqual(traces.map((t) => t.y), [[null, 7], [5, null]]);
});
