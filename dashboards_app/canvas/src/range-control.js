// The time range of the whole dashboard: presets, or a stretch of one's own. Kept in the page's address.
import { h, icon } from "./lib/dom.js";
import { PRESETS, bounds, clock, fromInput, toInput } from "./lib/time.js";

export class RangeControl {
  constructor({ range, onChange, now }) {
    Object.assign(this, { onChange, now });
    this.presets = PRESETS.map((last) =>
      h("button", { type: "button", class: "seg", "data-range": last, onclick: () => this.#choose({ last }) }, last),
    );
    this.customLabel = h("span", {}, "Custom");
    this.custom = h(
      "button",
      { type: "button", class: "seg custom", "aria-haspopup": "dialog", onclick: () => this.#toggle() },
      icon("calendar", 13),
      this.customLabel,
    );
    this.from = h("input", { type: "datetime-local", required: true });
    this.to = h("input", { type: "datetime-local", required: true });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.dialog = h(
      "form",
      { class: "range-form", popover: "auto", "aria-label": "Custom time range", onsubmit: (event) => this.#apply(event) },
      h("label", {}, h("span", {}, "From"), this.from),
      h("label", {}, h("span", {}, "To"), this.to),
      this.problem,
      h("button", { type: "submit", class: "primary" }, "Show"),
    );
    this.element = h("div", { class: "range", role: "group", "aria-label": "Time range" }, ...this.presets, this.custom, this.dialog);
    this.set(range);
  }

  set(range) {
    this.range = range;
    for (const button of this.presets) button.setAttribute("aria-pressed", String(button.dataset.range === range.last));
    const own = !range.last || !PRESETS.includes(range.last);
    this.custom.setAttribute("aria-pressed", String(own));
    this.customLabel.textContent = !own
      ? "Custom"
      : range.last
        ? `Last ${range.last}`
        : `${clock(range.from, this.now(), { seconds: false })} – ${clock(range.to, this.now(), { seconds: false })}`;
  }

  #choose(range) {
    this.dialog.hidePopover();
    this.onChange(range);
  }

  #toggle() {
    if (this.dialog.matches(":popover-open")) {
      this.dialog.hidePopover();
      return;
    }
    const [from, to] = bounds(this.range, this.now());
    this.from.value = toInput(from);
    this.to.value = toInput(to);
    this.problem.textContent = "";
    this.dialog.showPopover();
    const anchor = this.custom.getBoundingClientRect();
    const width = this.dialog.offsetWidth;
    this.dialog.style.left = `${Math.max(8, Math.min(anchor.right - width, innerWidth - width - 8))}px`;
    this.dialog.style.top = `${anchor.bottom + 6}px`;
    this.from.focus();
  }

  #apply(event) {
    event.preventDefault();
    const [from, to] = [fromInput(this.from.value), fromInput(this.to.value)];
    if (!(from < to)) {
      this.problem.textContent = "“From” should be before “To”.";
      return;
    }
    this.#choose({ from: new Date(from).toISOString(), to: new Date(to).toISOString() });
  }
}
