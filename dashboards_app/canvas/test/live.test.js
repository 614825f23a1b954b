import assert from "node:assert/strict";
import test from "node:test";
import { FrameScheduler, Pace } from "../src/lib/scheduler.js";
import { freshness, sourceName, trust } from "../src/lib/trust.js";
import { FIRST_WAIT_MS, LONGEST_WAIT_MS, LiveConnection, waitBefore } from "../src/live/connection.js";

const NOW = Date.parse("2026-11-21T12:00:00Z");

test("waits grow, have a ceiling and differ", () => {
  assert.equal(waitBefore(0, () => 0), FIRST_WAIT_MS);
  assert.equal(waitBefore(3, () => 0), FIRST_WAIT_MS * 8);
  assert.equal(waitBefore(30, () => 0), LONGEST_WAIT_MS);
  assert.ok(waitBefore(30, () => 1) < LONGEST_WAIT_MS);
});

class FakeSource {
  static made = [];
  listeners = {};
  constructor(url) {
    this.url = url;
    FakeSource.made.push(this);
  }
  addEventListener(type, f) {
    this.listeners[type] = f;
  }
  close() {
    this.closed = true;
  }
}

test("a lost stream is opened again and says so", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  FakeSource.made = [];
  const said = [];
  const events = [];
  const connection = new LiveConnection({
    url: "/v1/live", Source: FakeSource, probe: async () => true,
    onEvent: (type, data) => events.push([type, data]), onState: (state, resumed) => said.push([state, resumed]),
  });
  FakeSource.made[0].onopen();
  FakeSource.made[0].listeners.change({ data: '{"pipeline":"p"}' });
  FakeSource.made[0].listeners.change({ data: "not json" });
  FakeSource.made[0].onerror();
  t.mock.timers.tick(FIRST_WAIT_MS);
  FakeSource.made[1].onopen();
  assert.deepEqual(said, [["live", false], ["reconnecting", false], ["live", true]]);
  assert.deepEqual(events, [["change", { pipeline: "p" }]]);
  connection.close();
  FakeSource.made[1].onerror();
  t.mock.timers.tick(LONGEST_WAIT_MS);
  assert.equal(FakeSource.made.length, 2, "closed is closed");
});

test("a session that ended is said, not only tried again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  FakeSource.made = [];
  const said = [];
  const connection = new LiveConnection({
    url: "/v1/live", Source: FakeSource, probe: async () => false, onEvent: () => {}, onState: (state) => said.push(state),
  });
  FakeSource.made[0].onerror();
  t.mock.timers.tick(FIRST_WAIT_MS);
  FakeSource.made[1].onerror();
  await Promise.resolve();
  await Promise.resolve();
  assert.deepEqual(said, ["reconnecting", "signed-out"]);
  connection.close();
});

function pace(t, work, minimumMs = 100) {
  let now = 0;
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const found = new Pace(work, minimumMs, { clock: () => now, later: setTimeout, cancel: clearTimeout });
  return [found, (ms) => { now += ms; t.mock.timers.tick(ms); }];
}

test("many pokes are few requests", async (t) => {
  let asked = 0;
  const [found, pass] = pace(t, async () => { asked += 1; });
  for (let i = 0; i < 100; i += 1) {
    found.poke();
    await Promise.resolve();
    await Promise.resolve();
    pass(10);
  }
  assert.ok(asked >= 9 && asked <= 11, `${asked} requests in a second`);
});

test("news during a request is fetched after it, one request at a time", async (t) => {
  const done = [];
  let running = 0;
  const [found, pass] = pace(t, () => {
    running += 1;
    assert.equal(running, 1);
    return new Promise((resolve) => done.push(() => { running -= 1; resolve(); }));
  });
  found.poke();
  found.poke();
  found.poke();
  assert.equal(done.length, 1);
  done[0]();
  await new Promise(setImmediate);
  pass(100);
  assert.equal(done.length, 2);
});

test("one frame draws the newest picture of each widget and leaves the rest for the next", () => {
  const frames = [];
  let now = 0;
  const scheduler = new FrameScheduler((f) => frames.push(f), () => now);
  const drawn = [];
  scheduler.draw("a", () => drawn.push("a1"));
  scheduler.draw("a", () => { drawn.push("a2"); now += 20; });
  scheduler.draw("b", () => drawn.push("b"));
  frames.shift()();
  assert.deepEqual(drawn, ["a2"]);
  frames.shift()();
  assert.deepEqual(drawn, ["a2", "b"]);
  assert.equal(frames.length, 0);
});

test("freshness in words", () => {
  const at = (seconds, state = "fresh") => ({ freshness: { state, last_received_at: new Date(NOW - seconds * 1000).toISOString(), as_of: new Date(NOW).toISOString() } });
  assert.deepEqual(freshness(at(2), "live", NOW), { tone: "live", label: "live · 2 s ago" });
  assert.deepEqual(freshness(at(7200, "late"), "live", NOW), { tone: "late", label: "late · 2 h ago" });
  assert.equal(freshness({ freshness: { state: "empty" } }, "live", NOW).label, "waiting for data");
  assert.equal(freshness(at(2), "reconnecting", NOW).tone, "off");
  assert.equal(freshness(null, "live", NOW).tone, "quiet");
});

test("trust in words", () => {
  assert.equal(trust({ quality: { verdict: "pass", dead_letters: 0 } }).tone, "good");
  assert.equal(trust({ quality: { verdict: "quarantine", dead_letters: 1200 } }).label, "1.2k set aside");
  assert.equal(trust({ quality: { verdict: "pass", dead_letters: 3 } }).label, "3 set aside");
  assert.equal(trust({ quality: { verdict: "hold", dead_letters: 3 } }).label, "on hold");
  assert.equal(trust({ quality: { verdict: "hold" } }).tone, "critical");
  assert.equal(trust({ quality: { verdict: null } }).label, "no gate");
  assert.equal(trust(null).label, "no gate");
  assert.equal(sourceName("gold.samples_1h"), "gold, by hour");
});
