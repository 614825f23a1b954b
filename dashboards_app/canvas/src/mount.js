// A dashboard in a place of its own: a shadow root with the canvas' styles, and the theme it is drawn in.
import gridCss from "gridstack/dist/gridstack.min.css";
import css from "./canvas.css";
import { Dashboard } from "./dashboard.js";

const workerUrl = new URL(WORKER_FILE, import.meta.url).href;

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

/** Put a dashboard into `parent` (a shadow root, or an element in one). @param options {slug, theme, source} */
export function mountDashboard(parent, { slug, theme, source }) {
  const plotlySheet = new CSSStyleSheet();
  if (parent.adoptedStyleSheets !== undefined) {
    parent.adoptedStyleSheets = [sheetOf(gridCss), sheetOf(css), plotlySheet];
  }
  // Plotly writes its rules into the document's head, where a shadow root does not see them.
  let copied = 0;
  const plotlyDrawn = () => {
    const rules = document.getElementById("plotly.js-style-global")?.sheet?.cssRules;
    if (!rules || rules.length === copied) return;
    copied = rules.length;
    plotlySheet.replaceSync([...rules].map((rule) => rule.cssText).join("\n"));
  };
  return new Dashboard(parent, { slug, workerUrl, theme, plotlyDrawn, source });
}
