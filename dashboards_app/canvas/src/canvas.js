// The component Streamlit mounts. It is called again on every rerun, so the dashboard is kept by its place.
import gridCss from "gridstack/dist/gridstack.min.css";
import css from "./canvas.css";
import { Dashboard } from "./dashboard.js";
import { themeOf } from "./lib/theme.js";

const workerUrl = new URL(WORKER_FILE, import.meta.url).href;
const mounted = new WeakMap(); // parentElement → {dashboard, slug, probe, sheet}

function sheetOf(text) {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(text);
  return sheet;
}

export default function canvas({ parentElement, data }) {
  let place = mounted.get(parentElement);
  if (place && place.slug !== data.slug) {
    place.unmount();
    place = null;
  }
  if (!place) {
    place = mount(parentElement, data);
    mounted.set(parentElement, place);
  } else place.readTheme();
  // A rerun cleans up before it calls again; only a place that has left the page is taken down.
  return () =>
    setTimeout(() => {
      if (!hostOf(parentElement).isConnected) {
        place.unmount();
        if (mounted.get(parentElement) === place) mounted.delete(parentElement);
      }
    }, 0);
}

const hostOf = (parent) => parent.host ?? parent;

function mount(parentElement, data) {
  const plotlySheet = new CSSStyleSheet();
  if (parentElement.adoptedStyleSheets !== undefined) {
    parentElement.adoptedStyleSheets = [sheetOf(gridCss), sheetOf(css), plotlySheet];
  }
  const probe = document.createElement("i");
  probe.className = "theme-probe";
  parentElement.append(probe);
  const theme = () => themeOf(getComputedStyle(probe).color, data.theme);

  // Plotly writes its rules into the document's head, where a shadow root does not see them.
  let copied = 0;
  const plotlyDrawn = () => {
    const rules = document.getElementById("plotly.js-style-global")?.sheet?.cssRules;
    if (!rules || rules.length === copied) return;
    copied = rules.length;
    plotlySheet.replaceSync([...rules].map((rule) => rule.cssText).join("\n"));
  };

  const dashboard = new Dashboard(parentElement, { slug: data.slug, workerUrl, theme: theme(), plotlyDrawn });
  const readTheme = () => dashboard.setTheme(theme());
  // The probe's color follows Streamlit's theme with a transition, so a change of theme is an event.
  probe.addEventListener("transitionend", readTheme);
  return {
    slug: data.slug,
    readTheme,
    unmount() {
      dashboard.destroy();
      probe.remove();
    },
  };
}
