import assert from "node:assert/strict";
import test from "node:test";
import { delta, duration, formatted, parts, toneOf } from "../src/lib/format.js";

test("numbers by themselves", () => {
  assert.equal(formatted(1052), "1,052");
  assert.equal(formatted(1234567), "1.23M");
  assert.equal(formatted(21.4567), "21.5");
  assert.equal(formatted(0.012345), "0.0123");
  assert.equal(formatted(-4), "−4");
  assert.equal(formatted(0), "0");
  assert.equal(formatted(null), "–");
  assert.equal(formatted("EWR"), "EWR");
});

test("formats", () => {
  assert.equal(formatted(1234, "compact"), "1.23k");
  assert.equal(formatted(999999, "compact"), "1M");
  assert.equal(formatted(0.1234, "percent"), "12.3%");
  assert.equal(formatted(1, "percent"), "100%");
  assert.equal(formatted(1536, "bytes"), "1.54 kB");
  assert.equal(formatted(500e9, "bytes"), "500 GB");
  assert.equal(formatted(12.6, "integer", "min"), "13 min");
  assert.equal(formatted(42.1, "number", "/s"), "42.1/s");
  assert.equal(formatted(3.14159, "number", null, 3), "3.142");
  assert.equal(formatted(0.5, "percent", null, 2), "50.00%");
});

test("durations", () => {
  assert.equal(duration(0.0891), "89 ms");
  assert.equal(duration(4.2), "4.2 s");
  assert.equal(duration(200), "3 min 20 s");
  assert.equal(duration(7500), "2 h 5 min");
  assert.deepEqual(parts(4.2, "duration"), ["4.2", "s"]);
  assert.deepEqual(parts(200, "duration"), ["3 min 20 s", ""]);
});

test("changes", () => {
  assert.deepEqual(delta(110, 100), { text: "+10%", direction: "up", ratio: 0.1 });
  assert.equal(delta(99, 100).text, "−1%");
  assert.equal(delta(100.01, 100).direction, "flat");
  assert.equal(delta(5, 0), null, "nothing to compare with");
  assert.equal(delta(0, 0).direction, "flat");
  assert.equal(delta(null, 3), null);
  assert.equal(delta(0.55, 0.5, { points: true }).text, "+5 pt");
  assert.equal(delta(5000, 100).text, "50.0×");
});

test("the first rule that holds gives the tone", () => {
  const rules = [
    { column: "delay", op: "gte", value: 30, tone: "critical" },
    { column: "delay", op: "gte", value: 15, tone: "warning" },
  ];
  assert.equal(toneOf(rules, "delay", 31), "critical");
  assert.equal(toneOf(rules, "delay", 15), "warning");
  assert.equal(toneOf(rules, "delay", 3), null);
  assert.equal(toneOf(rules, "delay", null), null);
  assert.equal(toneOf(rules, "other", 99), null);
});
