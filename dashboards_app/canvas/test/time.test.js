import assert from "node:assert/strict";
import test from "node:test";
import {
  age, axisTime, bounds, clock, durationSeconds, fromAxisTime, fromInput, fromWall, grainFor, previous, rangeFromQuery, rangeToQuery,
  sameRange, toInput, touches, wall,
} from "../src/lib/time.js";

const NOW = Date.parse("2026-11-21T12:00:00Z");

test("durations", () => {
  assert.equal(durationSeconds("24h"), 86400);
  assert.equal(durationSeconds("1y"), 31536000);
  for (const wrong of ["", null, "0h", "24", "h", "1.5h", "24 h", "-1h"]) assert.equal(durationSeconds(wrong), null);
});

test("a range survives the address, and what else is there stays", () => {
  const search = "?slug=flights-operations&range=24h";
  const custom = { from: "2026-11-01T00:00:00.000Z", to: "2026-11-02T12:30:00.000Z" };
  const query = rangeToQuery(search, custom);
  assert.match(query, /slug=flights-operations/);
  assert.doesNotMatch(query, /range=/);
  assert.deepEqual(rangeFromQuery(query, { last: "1h" }), custom);
  assert.deepEqual(rangeFromQuery(rangeToQuery(query, { last: "7d" }), { last: "1h" }), { last: "7d" });
});

test("an address that makes no sense gives the dashboard's own range", () => {
  for (const search of ["", "?range=soon", "?from=2026-11-02&to=2026-11-01", "?from=x&to=y", "?from=2026-11-02"]) {
    assert.deepEqual(rangeFromQuery(search, { last: "1h" }), { last: "1h" });
  }
});

test("bounds and the range before", () => {
  assert.deepEqual(bounds({ last: "1h" }, NOW), [NOW - 3600000, NOW]);
  assert.deepEqual(previous("2026-11-21T00:00:00Z", "2026-11-21T06:00:00Z"), {
    from: "2026-11-20T18:00:00.000Z",
    to: "2026-11-21T00:00:00.000Z",
  });
  assert.ok(sameRange({ last: "1h" }, { last: "1h" }) && !sameRange({ last: "1h" }, { last: "6h" }));
});

test("a change matters only where it touches the range", () => {
  const custom = { from: "2026-11-01T00:00:00Z", to: "2026-11-02T00:00:00Z" };
  assert.ok(touches(custom, "2026-11-01T10:00:00Z", "2026-11-01T11:00:00Z", NOW));
  assert.ok(!touches(custom, "2026-11-03T10:00:00Z", "2026-11-03T11:00:00Z", NOW));
  assert.ok(!touches({ last: "1h" }, "2026-11-01T10:00:00Z", "2026-11-01T11:00:00Z", NOW));
  assert.ok(touches({ last: "1h" }, null, null, NOW), "unknown times may matter");
});

test("axes: whole days stay UTC, the rest is local and comes back as it went", () => {
  const t = Date.parse("2026-07-01T00:00:00Z");
  assert.equal(axisTime(t, "1d"), t);
  const text = new Date(axisTime(t, "1h")).toISOString().replace("T", " ").replace("Z", "");
  assert.equal(fromAxisTime(text, "1h"), t);
  assert.equal(fromAxisTime("2026-07-01", "1d"), t);
});

test("a preferred zone shows its own wall clock, and comes back", () => {
  const winter = Date.parse("2026-01-15T12:00:00Z");
  const summer = Date.parse("2026-07-15T12:00:00Z");
  assert.equal(wall(winter, "Europe/Vienna") - winter, 3600e3);
  assert.equal(wall(summer, "Europe/Vienna") - summer, 2 * 3600e3);
  assert.equal(wall(winter, "Asia/Kathmandu") - winter, 5.75 * 3600e3);
  for (const zone of ["Europe/Vienna", "America/New_York", "Asia/Kathmandu", "UTC", "No/Such"]) {
    for (let t = Date.parse("2026-03-28T12:00:00Z"); t < Date.parse("2026-03-30T12:00:00Z"); t += 600e3) {
      assert.equal(fromWall(wall(t, zone), zone), t, `${zone} ${new Date(t).toISOString()}`);
    }
  }
  const back = Date.parse("2026-10-25T01:30:00Z"); // 02:30 for the second time that night
  assert.equal(fromWall(wall(back, "Europe/Vienna"), "Europe/Vienna"), back);
});

test("clocks and fields read in the zone that the page says", (t) => {
  globalThis.document = { documentElement: { dataset: { timeZone: "Europe/Vienna" } } };
  t.after(() => delete globalThis.document);
  assert.equal(clock("2026-07-01T22:30:00Z", NOW), "2 Jul 00:30:00");
  assert.equal(clock("2025-12-31T23:30:00Z", NOW, { seconds: false }), "1 Jan 00:30");
  assert.equal(toInput(Date.parse("2026-07-01T22:30:00Z")), "2026-07-02T00:30");
  assert.equal(fromInput("2026-07-02T00:30"), Date.parse("2026-07-01T22:30:00Z"));
});

test("grains of small curves", () => {
  assert.deepEqual(["1h", "6h", "24h", "7d", "30d", "1y"].map((r) => grainFor(durationSeconds(r))), ["1m", "15m", "1h", "1h", "1d", "1w"]);
});

test("ages", () => {
  assert.deepEqual([400, 2000, 61000, 3 * 3600e3, 5 * 86400e3].map(age), ["now", "2 s", "1 min", "3 h", "5 d"]);
});
