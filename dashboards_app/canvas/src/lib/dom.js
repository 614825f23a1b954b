// Small helpers to make elements. Text is always set as text, never as markup.

/** h("div", {class: "x", onclick: f, "aria-label": "…"}, child, "text", null) */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set text only when it differs: no needless style and layout work. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const SHIELD = "M8 1.6 13.2 3.5v4.2c0 3.3-2.2 5.7-5.2 6.8-3-1.1-5.2-3.5-5.2-6.8V3.5z";
const ICONS = {
  shield: [SHIELD],
  "shield-check": [SHIELD, "m5.6 7.9 1.7 1.7 3.2-3.3"],
  "shield-alert": [SHIELD, "M8 5v3.2", "M8 10.6v.1"],
  "shield-minus": [SHIELD, "M5.8 7.9h4.4"],
  "shield-x": [SHIELD, "m6.2 6.1 3.6 3.6", "m9.8 6.1-3.6 3.6"],
  calendar: ["M3 4h10v9.5H3z", "M3 7h10", "M5.8 2.5v2.6", "M10.2 2.5v2.6"],
  alert: ["M8 2 14.5 13.5h-13z", "M8 6.5v3.2", "M8 11.7v.1"],
  inbox: ["M2.5 9.5 4.6 3.5h6.8l2.1 6v3.5h-11z", "M2.5 9.5h3.2l.8 1.6h3l.8-1.6h3.2"],
  retry: ["M13 8a5 5 0 1 1-1.6-3.7", "M13 2.5v2.8h-2.8"],
  up: ["M8 12.5v-9", "m4.3 7.2 3.7-3.7 3.7 3.7"],
  down: ["M8 3.5v9", "m4.3 8.8 3.7 3.7 3.7-3.7"],
  flat: ["M3.5 8h9"],
  sort: ["m5 6.5 3-3 3 3", "m5 9.5 3 3 3-3"],
};

export function icon(name, size = 14) {
  const mark = svg("svg", {
    viewBox: "0 0 16 16",
    width: size,
    height: size,
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 1.4,
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
    "aria-hidden": "true",
    class: "icon",
  });
  for (const d of ICONS[name] ?? []) mark.append(svg("path", { d }));
  return mark;
}
