// The card behind a widget's last line: how fresh, how trusted, where from. One for the whole canvas.
import { h, icon } from "./lib/dom.js";
import { provenance, trust } from "./lib/trust.js";

export class ProvenanceCard {
  #widget = null;
  #pinned = false;
  #timer = null;

  constructor(now) {
    this.now = now;
    this.element = h("div", { class: "prov", role: "status", popover: "manual" });
  }

  /** Show it for `widget`; `pin` keeps it until the next click elsewhere. */
  show(widget, pin) {
    clearTimeout(this.#timer);
    if (pin && this.#pinned && this.#widget === widget) {
      this.close();
      return;
    }
    this.#pinned = pin || (this.#pinned && this.#widget === widget);
    if (pin) this.#open(widget);
    else this.#timer = setTimeout(() => this.#open(widget), 180);
  }

  hide(widget) {
    clearTimeout(this.#timer);
    if (!this.#pinned && (!widget || widget === this.#widget)) this.#timer = setTimeout(() => this.close(), 120);
    if (this.#pinned && widget && widget === this.#widget && !widget.foot.matches(":hover, :focus")) this.close();
  }

  close() {
    clearTimeout(this.#timer);
    this.#pinned = false;
    this.#widget = null;
    if (this.element.matches(":popover-open")) this.element.hidePopover();
  }

  /** The numbers in it move on while it is open. */
  tick() {
    if (this.#widget) this.#fill(this.#widget);
  }

  #open(widget) {
    if (!widget.answer || !widget.element.isConnected) return;
    this.#widget = widget;
    this.#fill(widget);
    if (!this.element.matches(":popover-open")) this.element.showPopover();
    const from = widget.foot.getBoundingClientRect();
    const card = this.element.getBoundingClientRect();
    const left = Math.max(8, Math.min(from.left, innerWidth - card.width - 8));
    const above = from.top - card.height - 6;
    this.element.style.left = `${left}px`;
    this.element.style.top = `${above > 8 ? above : Math.min(from.bottom + 6, innerHeight - card.height - 8)}px`;
  }

  #fill(widget) {
    const badge = trust(widget.answer);
    this.element.replaceChildren(
      h("div", { class: "prov-head", "data-tone": badge.tone }, icon(badge.icon, 16), h("strong", {}, headline(badge))),
      ...provenance(widget.answer, this.now()).map((group) =>
        h("section", {},
          h("h4", {}, group.heading),
          group.note ? h("p", {}, group.note) : null,
          h("dl", {}, ...group.rows.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
        ),
      ),
    );
  }
}

const headline = (badge) =>
  ({ good: "Passed the quality gate", critical: "Held by the quality gate", quiet: "Not checked by a gate" })[badge.tone] ??
  (badge.icon === "shield-minus" ? "Some rows were set aside" : "Passed with a warning");
