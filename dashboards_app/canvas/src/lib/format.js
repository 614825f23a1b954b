// Numbers as people read them. Pure. Formats are those of a dashboard's spec, and "auto"; a unit is appended where
// the format has none; `decimals` goes before a format's own.

const grouped = (value, digits) =>
  value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");

/** Digits after the point that keep about three significant ones. */
function digitsFor(size) {
  if (size === 0 || size >= 100) return 0;
  if (size >= 10) return 1;
  if (size >= 1) return 2;
  return Math.min(6, 2 - Math.floor(Math.log10(size)));
}

function trimmed(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function scaled(value, steps, base) {
  let size = Math.abs(value);
  let step = 0;
  while (size >= base * 0.9995 && step < steps.length - 1) {
    size /= base;
    step += 1;
  }
  const digits = step === 0 ? 0 : size < 10 ? 2 : size < 100 ? 1 : 0;
  return [trimmed(grouped(Math.sign(value) * size, step === 0 ? digitsFor(size) : digits)), steps[step]];
}

/** Seconds as "820 ms", "4.2 s", "3 min 20 s", "2 h 5 min", "3 d 4 h". */
export function duration(seconds) {
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s === 0) return "0 s";
  if (s < 1) return `${sign}${trimmed(grouped(s * 1000, s < 0.01 ? 1 : 0))} ms`;
  if (s < 60) return `${sign}${trimmed(grouped(s, 1))} s`;
  const whole = Math.round(s);
  if (s < 3600) return `${sign}${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  const minutes = Math.round(s / 60);
  if (s < 172800) return `${sign}${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  const hours = Math.round(s / 3600);
  return `${sign}${Math.floor(hours / 24)} d${hours % 24 ? ` ${hours % 24} h` : ""}`;
}

/** [number, unit] of a value, kept apart so that a card can set them in different sizes. */
export function parts(value, format = "auto", unit = null, decimals = null) {
  if (value === null || value === undefined || value === "") return ["–", ""];
  const number = Number(value);
  if (!Number.isFinite(number) || format === "text") return [String(value), ""];
  if (decimals !== null && decimals !== undefined && !["bytes", "duration", "compact"].includes(format)) {
    return format === "percent" ? [grouped(number * 100, decimals), "%"] : [grouped(number, decimals), unit ?? ""];
  }
  const size = Math.abs(number);
  switch (format) {
    case "percent": {
      const shown = number * 100;
      return [grouped(shown, Math.abs(shown) >= 100 || shown === 0 ? 0 : 1), "%"];
    }
    case "bytes": {
      const [text, step] = scaled(number, ["B", "kB", "MB", "GB", "TB", "PB"], 1000);
      return [text, step];
    }
    case "duration":
      return splitUnit(duration(number));
    case "integer":
      return [grouped(Math.round(number), 0), unit ?? ""];
    case "number":
      return [trimmed(grouped(number, digitsFor(size))), unit ?? ""];
    case "compact": {
      const [text, step] = scaled(number, ["", "k", "M", "B", "T"], 1000);
      return [text + step, unit ?? ""];
    }
    default:
      if (unit === "%") return [trimmed(grouped(number, digitsFor(size))), "%"];
      if (size >= 100000) return parts(number, "compact", unit);
      return Number.isInteger(number) ? [grouped(number, 0), unit ?? ""] : parts(number, "number", unit);
  }
}

function splitUnit(text) {
  const at = text.indexOf(" ");
  // "3 min 20 s" reads as one; "4.2 s" has a unit that can stand smaller.
  return text.indexOf(" ", at + 1) > 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** The same in one string. */
export function formatted(value, format, unit, decimals) {
  const [number, suffix] = parts(value, format ?? "auto", unit, decimals);
  if (!suffix) return number;
  return suffix === "%" || suffix.startsWith("/") ? `${number}${suffix}` : `${number} ${suffix}`;
}

/** Change from `before` to `now`: {text, direction: up|down|flat, ratio} or null if there is nothing to compare. */
export function delta(now, before, { points = false } = {}) {
  if (now === null || now === undefined || before === null || before === undefined) return null;
  const a = Number(before);
  const b = Number(now);
  if (!Number.isFinite(a) || !Number.isFinite(b)) return null;
  if (points) {
    const change = (b - a) * 100;
    const shown = Math.abs(change) < 0.05 ? 0 : change;
    return { text: `${signed(shown, 1)} pt`, direction: direction(shown), ratio: change };
  }
  if (a === 0) return b === 0 ? { text: "0%", direction: "flat", ratio: 0 } : null;
  const ratio = (b - a) / Math.abs(a);
  const percent = ratio * 100;
  const shown = Math.abs(percent) < 0.05 ? 0 : percent;
  if (Math.abs(shown) >= 1000) {
    return { text: `${grouped(b / a, 1)}×`, direction: direction(shown), ratio };
  }
  return { text: `${signed(shown, Math.abs(shown) >= 100 ? 0 : 1)}%`, direction: direction(shown), ratio };
}

const direction = (x) => (x > 0 ? "up" : x < 0 ? "down" : "flat");
const signed = (x, digits) => (x === 0 ? "0" : `${x > 0 ? "+" : "−"}${trimmed(grouped(Math.abs(x), digits))}`);

/** The tone of the first rule that holds, or null. Rules: {column, op, value, tone}. */
export function toneOf(rules, column, value) {
  for (const rule of rules ?? []) {
    if (rule.column && rule.column !== column) continue;
    if (holds(rule.op, value, rule.value)) return rule.tone;
  }
  return null;
}

function holds(op, value, limit) {
  if (value === null || value === undefined) return false;
  switch (op) {
    case "lt": return value < limit;
    case "lte": return value <= limit;
    case "gt": return value > limit;
    case "gte": return value >= limit;
    case "eq": return value === limit;
    case "ne": return value !== limit;
    default: return false;
  }
}
