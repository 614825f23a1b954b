// How fresh and how trusted a number is, in words. Pure: the widget frame only shows what this returns.
import { age, clock } from "./time.js";
import { formatted } from "./format.js";

/**
 * Freshness of an answer.
 * @returns {{tone: "live"|"late"|"quiet"|"off", label: string}} one short label; it changes with `now`.
 */
export function freshness(answer, connection, now) {
  const fresh = answer?.freshness;
  if (!fresh) return { tone: "quiet", label: "no data" };
  const at = Date.parse(fresh.last_received_at ?? fresh.last_event_time ?? "");
  const since = Number.isFinite(at) ? now - at : null;
  if (connection !== "live") {
    return { tone: "off", label: since === null ? "not live" : `as of ${clock(fresh.as_of ?? at, now, { seconds: true }).replace(/^.* /, "")}` };
  }
  if (fresh.state === "empty" || since === null) return { tone: "quiet", label: "waiting for data" };
  const ago = since < 1000 ? "just now" : `${age(since)} ago`;
  return fresh.state === "late" ? { tone: "late", label: `late · ${ago}` } : { tone: "live", label: `live · ${ago}` };
}

const VERDICTS = {
  pass: { tone: "good", icon: "shield-check", label: "trusted", text: "Every expectation held." },
  warn: { tone: "warning", icon: "shield-alert", label: "warning", text: "An expectation failed and only warns: the numbers include these rows." },
  quarantine: { tone: "warning", icon: "shield-minus", label: "quarantined", text: "Rows that failed an expectation are set aside and not in this number." },
  hold: { tone: "critical", icon: "shield-x", label: "on hold", text: "A batch failed as a whole: its rows wait and are not in this number." },
  none: { tone: "quiet", icon: "shield", label: "no gate", text: "No expectation suite guards this pipeline." },
};

/** The gate's verdict as a badge: {tone, icon, label, text, count}. */
export function trust(answer) {
  const quality = answer?.quality;
  const verdict = VERDICTS[quality?.verdict ?? "none"] ?? VERDICTS.none;
  const count = quality?.dead_letters ?? 0;
  // Events that could not be read are missing from the number too, whatever the gate said of the rest.
  if (count > 0 && verdict.tone !== "critical" && verdict !== VERDICTS.warn) {
    const { tone, icon } = VERDICTS.quarantine;
    const text = verdict === VERDICTS.quarantine ? verdict.text : "Events that could not become rows are set aside and not in this number.";
    return { tone, icon, text, count, label: `${formatted(count, "compact")} set aside` };
  }
  return { ...verdict, count };
}

const SOURCES = [
  [/samples_1m$/, "gold, by minute"],
  [/samples_1h$/, "gold, by hour"],
  [/samples_1d$/, "gold, by day"],
  [/^silver\./, "silver rows"],
  [/^marts\./, "dbt model"],
  [/^gold\./, "gold"],
];

/** "gold, by hour" for "gold.samples_1h". */
export function sourceName(source) {
  const found = SOURCES.find(([pattern]) => pattern.test(source ?? ""));
  return found ? found[1] : (source ?? "unknown");
}

/** Which columns a rule shows changed. */
function masked(answer) {
  const names = (answer?.columns ?? []).filter((column) => column.masked).map((column) => column.title ?? column.name);
  return names.length ? [["Masked", names.join(", ")]] : [];
}

/** The lines of the provenance card: [[name, value], …], grouped by heading. */
export function provenance(answer, now) {
  const fresh = answer?.freshness ?? {};
  const quality = answer?.quality ?? {};
  const badge = trust(answer);
  const when = (iso) => (iso ? clock(iso, now) : "–");
  const lag = typeof fresh.lag_s === "number" ? formatted(fresh.lag_s, "duration") : "–";
  return [
    {
      heading: "How fresh",
      rows: [
        ["Last event happened", when(fresh.last_event_time)],
        ["Last event received", when(fresh.last_received_at)],
        ["Lag", lag],
        ...(fresh.seq ? [["Sequence", formatted(fresh.seq, "integer")]] : []),
      ],
    },
    {
      heading: "How trusted",
      note: badge.text,
      rows: [
        ["Set aside in this range", quality.dead_letters === undefined ? "–" : formatted(quality.dead_letters ?? 0, "integer")],
        ["Duplicates dropped", quality.duplicates === undefined ? "–" : formatted(quality.duplicates ?? 0, "integer")],
        ...(quality.as_of ? [["Last checked", when(quality.as_of)]] : []),
      ],
    },
    {
      heading: "Where from",
      rows: [
        ["Source", sourceName(answer?.source)],
        ["Table", answer?.source ?? "–"],
        ["Rows", formatted(answer?.row_count ?? 0, "integer") + (answer?.truncated ? " (cut off)" : "")],
        ...(answer?.restricted ? [["Kept from you", "rows that a rule does not show you"]] : []),
        ...masked(answer),
        ["Answered in", typeof answer?.elapsed_ms === "number" ? formatted(answer.elapsed_ms / 1000, "duration") : "–"],
      ],
    },
  ];
}
