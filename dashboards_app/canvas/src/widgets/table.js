// A table: sortable by its headings, tones from rules, a faint bar behind the numbers where the spec asks for one.
import { formatted, toneOf } from "../lib/format.js";
import { h, icon, setText } from "../lib/dom.js";
import { clock, day, wholeDays } from "../lib/time.js";

const NUMBERS = new Set(["integer", "number"]);
const MAX_SHOWN = 500;

export class Table {
  minimumMs = 200;
  #answer = null;
  #sort = null; // {column, desc}
  #key = "";

  constructor(body, spec, context) {
    Object.assign(this, { body, spec, context });
    this.head = h("tr");
    this.rows = h("tbody");
    this.more = h("p", { class: "more", hidden: true });
    body.append(
      h("div", { class: "table", tabindex: "0", role: "region", "aria-label": spec.title ?? "Table" },
        h("table", {}, h("thead", {}, this.head), this.rows), this.more),
    );
  }

  reset() {}

  async fetch(run, time) {
    this.#answer = await run({ ...this.spec.query, time });
    return this.#answer;
  }

  isEmpty(answer) {
    return answer.rows.length === 0;
  }

  draw() {
    const answer = this.#answer;
    if (!answer) return;
    this.#drawHead(answer);
    const order = answer.rows.slice();
    if (this.#sort) {
      const at = answer.columns.findIndex((c) => c.name === this.#sort.column);
      order.sort((a, b) => compare(a[at], b[at]) * (this.#sort.desc ? -1 : 1));
    }
    const shown = order.slice(0, MAX_SHOWN);
    const tops = answer.columns.map((column, c) =>
      this.#shape(column).bar ? Math.max(0, ...shown.map((row) => Number(row[c]) || 0)) : 0,
    );
    // Rows are reused in place: no flicker, and a selection or scroll position survives.
    while (this.rows.childElementCount > shown.length) this.rows.lastElementChild.remove();
    shown.forEach((row, i) => {
      const line = this.rows.children[i] ?? this.rows.appendChild(h("tr"));
      while (line.childElementCount > row.length) line.lastElementChild.remove();
      answer.columns.forEach((column, c) => {
        const cell = line.children[c] ?? line.appendChild(h("td"));
        this.#cell(cell, column, row[c], answer, tops[c] > 0 ? Number(row[c]) / tops[c] : null);
      });
    });
    const left = answer.rows.length - shown.length;
    this.more.hidden = left <= 0;
    setText(this.more, left > 0 ? `and ${left} more` : "");
  }

  #cell(cell, column, value, answer, share) {
    const { rules } = this.spec;
    const number = NUMBERS.has(column.type);
    cell.className = number ? "number" : column.type === "timestamp" ? "time" : "";
    setText(cell, this.#text(column, value, answer));
    const tone = toneOf((rules ?? []).filter((rule) => rule.column), column.name, value);
    if (tone) cell.dataset.tone = tone;
    else delete cell.dataset.tone;
    if (share !== null && share > 0) cell.style.setProperty("--share", `${Math.round(share * 100)}%`);
    else cell.style.removeProperty("--share");
    cell.title = typeof value === "string" && value.length > 24 ? value : "";
  }

  /** How the spec wants a column: {title, format, decimals, unit, bar}. */
  #shape(column) {
    return this.spec.chart?.columns?.find((c) => c.name === column.name) ?? {};
  }

  #text(column, value, answer) {
    if (value === null || value === undefined) return "–";
    if (column.type === "timestamp") {
      const grain = answer.time?.grain;
      return column.role === "time" && wholeDays(grain) ? day(value, this.context.now()) : clock(value, this.context.now());
    }
    if (column.type === "boolean") return value ? "yes" : "no";
    if (NUMBERS.has(column.type)) {
      const { chart = {} } = this.spec;
      const shape = this.#shape(column);
      const plain = column.role === "dimension" ? "text" : "auto";
      return formatted(value, shape.format ?? chart.format ?? plain, shape.unit ?? column.unit, shape.decimals ?? chart.decimals);
    }
    return typeof value === "object" ? JSON.stringify(value) : String(value);
  }

  #drawHead(answer) {
    const key = JSON.stringify([answer.columns.map((c) => [c.name, c.title]), this.#sort]);
    if (key === this.#key) return;
    this.#key = key;
    this.head.replaceChildren(
      ...answer.columns.map((column) => {
        const sorted = this.#sort?.column === column.name ? (this.#sort.desc ? "descending" : "ascending") : "none";
        const title = this.#shape(column).title || column.title || column.name.replaceAll("_", " ");
        return h(
          "th",
          { scope: "col", "aria-sort": sorted, class: NUMBERS.has(column.type) ? "number" : null },
          h("button", { type: "button", onclick: () => this.#sortBy(column) }, title,
            icon(sorted === "none" ? "sort" : sorted === "descending" ? "down" : "up", 10)),
        );
      }),
    );
  }

  #sortBy(column) {
    const first = NUMBERS.has(column.type) || column.type === "timestamp";
    if (this.#sort?.column !== column.name) this.#sort = { column: column.name, desc: first };
    else if (this.#sort.desc === first) this.#sort = { column: column.name, desc: !first };
    else this.#sort = null;
    this.context.redraw();
  }

  resize() {}
  destroy() {}
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}
