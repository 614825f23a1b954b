// A text widget: markdown. micromark escapes markup and drops unsafe addresses by itself.
import { micromark } from "micromark";
import { h } from "../lib/dom.js";

export class Text {
  constructor(body, spec) {
    const page = h("div", { class: "prose" });
    page.innerHTML = micromark(spec.text ?? "");
    for (const link of page.querySelectorAll("a")) {
      if (link.host !== location.host) Object.assign(link, { target: "_blank", rel: "noopener noreferrer" });
    }
    body.append(page);
  }

  draw() {}
  resize() {}
  destroy() {}
}
