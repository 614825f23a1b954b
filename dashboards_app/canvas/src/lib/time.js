// Time ranges: what the control offers, how the address keeps them, and how instants are written.
// Pure: "now" is always passed in, in milliseconds.

const UNIT_S = { m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 };
export const PRESETS = ["1h", "6h", "24h", "7d", "30d", "1y"];
const NAMES = { "1h": "1 hour", "6h": "6 hours", "24h": "24 hours", "7d": "7 days", "30d": "30 days", "1y": "1 year" };

/** "24h" → seconds, or null if it is not a duration. */
export function durationSeconds(text) {
  const match = /^(\d{1,5})(m|h|d|w|y)$/.exec(text ?? "");
  return match && Number(match[1]) > 0 ? Number(match[1]) * UNIT_S[match[2]] : null;
}

/** "PT" of the API's grains ("5m", "1h", "1d", "1w") in seconds, or null. */
export const grainSeconds = (grain) => durationSeconds(grain);

/** A range is {last} or {from, to} (ISO, UTC). Read it from the page's query; `fallback` if there is none. */
export function rangeFromQuery(search, fallback) {
  const query = new URLSearchParams(search);
  const last = query.get("range");
  if (durationSeconds(last)) return { last };
  const from = Date.parse(query.get("from") ?? "");
  const to = Date.parse(query.get("to") ?? "");
  if (Number.isFinite(from) && Number.isFinite(to) && from < to) {
    return { from: new Date(from).toISOString(), to: new Date(to).toISOString() };
  }
  return fallback;
}

/** The page's query with this range in it and everything else as it was. */
export function rangeToQuery(search, range) {
  const query = new URLSearchParams(search);
  for (const name of ["range", "from", "to"]) query.delete(name);
  if (range.last) query.set("range", range.last);
  else {
    query.set("from", range.from.replace(/\.000Z$/, "Z"));
    query.set("to", range.to.replace(/\.000Z$/, "Z"));
  }
  return `?${query}`;
}

const GRAINS = ["1m", "5m", "15m", "1h", "1d", "1w"];

/** The grain that gives a small curve about `points` values over a range of `seconds`. */
export function grainFor(seconds, points = 40) {
  const away = (grain) => Math.abs(Math.log(seconds / durationSeconds(grain) / points));
  return GRAINS.reduce((best, grain) => (away(grain) < away(best) ? grain : best));
}

export const sameRange = (a, b) => a?.last === b?.last && a?.from === b?.from && a?.to === b?.to;

/** [from, to] in milliseconds. */
export function bounds(range, now) {
  if (range.last) return [now - durationSeconds(range.last) * 1000, now];
  return [Date.parse(range.from), Date.parse(range.to)];
}

/** The range of the same length just before, as the API takes it. */
export function previous(from, to) {
  const a = Date.parse(from);
  const b = Date.parse(to);
  return { from: new Date(a - (b - a)).toISOString(), to: new Date(a).toISOString() };
}

/** Does a change of events between `min` and `max` (ISO, either may be missing) touch the range? */
export function touches(range, min, max, now) {
  const [from, to] = bounds(range, now);
  const low = Date.parse(min ?? "");
  const high = Date.parse(max ?? "");
  if (!Number.isFinite(low) || !Number.isFinite(high)) return true;
  return range.last ? high >= from : high >= from && low <= to;
}

/** How long a range is, in words: "24 hours". */
export function spanName(range) {
  if (range.last) return NAMES[range.last] ?? range.last;
  return age(Date.parse(range.to) - Date.parse(range.from));
}

/** How long, in one unit: "2 s", "14 min", "3 h", "5 d". */
export function age(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 1) return "now";
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400 * 2) return `${Math.floor(s / 3600)} h`;
  if (s < 86400 * 730) return `${Math.floor(s / 86400)} d`;
  return `${Math.floor(s / 31536000)} y`;
}

/** The zone that times are shown in: what the person prefers, if the page says so; undefined: the browser's. */
const preferredZone = () => globalThis.document?.documentElement?.dataset.timeZone || undefined;

const QUARTER = 900_000; // no zone changes its offset but at a quarter of an hour
const MOST_OFFSETS = 5000;
const offsets = new Map();
const formats = new Map();

/** How far a zone's wall clock is ahead of UTC at an instant, in ms; the browser's own zone without one. */
function offset(t, zone) {
  const quarter = Math.floor(t / QUARTER) * QUARTER;
  const key = `${zone ?? ""} ${quarter}`;
  let found = offsets.get(key);
  if (found === undefined) {
    if (offsets.size >= MOST_OFFSETS) offsets.clear();
    found = zone ? zoneOffset(quarter, zone) : -new Date(quarter).getTimezoneOffset() * 60000;
    offsets.set(key, found);
  }
  return found;
}

function zoneOffset(t, zone) {
  if (!formats.has(zone)) {
    const fields = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
    try {
      formats.set(zone, new Intl.DateTimeFormat("en-US", { timeZone: zone, hourCycle: "h23", era: "short", ...fields }));
    } catch {
      formats.set(zone, null); // a zone that this browser does not know: its own is shown
    }
  }
  const format = formats.get(zone);
  if (format === null) return -new Date(t).getTimezoneOffset() * 60000;
  const p = Object.fromEntries(format.formatToParts(t).map(({ type, value }) => [type, value]));
  const year = p.era === "BC" ? 1 - Number(p.year) : Number(p.year);
  return Date.UTC(year, p.month - 1, p.day, p.hour, p.minute, p.second) - Math.floor(t / 1000) * 1000;
}

/** An instant's wall clock, as the UTC milliseconds that read the same. */
export const wall = (t, zone = preferredZone()) => t + offset(t, zone);

/** The other way round; in the hour that a clock is put back, the later of the two instants. */
export function fromWall(w, zone = preferredZone()) {
  const t = w - offset(w, zone);
  return w - offset(t, zone);
}

/** Wall clock for axes: Plotly reads numbers as UTC, so the zone's offset is added, but not to whole days. */
export function axisTime(iso, grain) {
  const t = typeof iso === "number" ? iso : Date.parse(iso);
  return wholeDays(grain) ? t : wall(t);
}

/** The other way round: what a person dragged over on an axis, as an instant. */
export function fromAxisTime(text, grain) {
  const t = Date.parse(text.includes("T") ? `${text}Z` : `${text.replace(" ", "T").padEnd(11, "T").replace(/T$/, "T00:00")}Z`);
  return wholeDays(grain) ? t : fromWall(t);
}

/** Buckets of a day or more begin at midnight UTC and are shown as such. */
export const wholeDays = (grain) => (grainSeconds(grain) ?? 0) >= 86400;

const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** "21 Nov 14:03:07", in the preferred zone; the year only when it is another one. */
export function clock(iso, now, { seconds = true } = {}) {
  const t = new Date(iso).getTime();
  if (Number.isNaN(t)) return "–";
  const d = new Date(wall(t));
  const year = d.getUTCFullYear() === new Date(wall(new Date(now).getTime())).getUTCFullYear() ? "" : ` ${d.getUTCFullYear()}`;
  const time = `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}${seconds ? `:${two(d.getUTCSeconds())}` : ""}`;
  return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}${year} ${time}`;
}

/** "21 Nov", UTC, for whole-day buckets. */
export function day(iso, now) {
  const d = new Date(iso);
  if (Number.isNaN(d.getTime())) return "–";
  const year = d.getUTCFullYear() === new Date(now).getUTCFullYear() ? "" : ` ${d.getUTCFullYear()}`;
  return `${d.getUTCDate()} ${MONTHS[d.getUTCMonth()]}${year}`;
}

/** Value of a datetime-local input for an instant, and back. */
export const toInput = (ms) => new Date(wall(ms)).toISOString().slice(0, 16);
export const fromInput = (text) => fromWall(Date.parse(`${text}Z`));
