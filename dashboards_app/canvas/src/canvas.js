// The component Streamlit mounts. It is called again on every rerun, so the dashboard is kept by its place.
import { appSource, viewingSource } from "./lib/api.js";
import { themeOf } from "./lib/theme.js";
import { mountDashboard } from "./mount.js";

const mounted = new WeakMap(); // parentElement → {slug, view, readTheme, unmount}

export default function canvas({ parentElement, data }) {
  let place = mounted.get(parentElement);
  if (place && (place.slug !== data.slug || place.view !== (data.view ?? ""))) {
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
  const probe = document.createElement("i");
  probe.className = "theme-probe";
  parentElement.append(probe);
  const source = data.view ? viewingSource(data.view) : appSource;
  const theme = () => themeOf(getComputedStyle(probe).color, data.theme);
  const dashboard = mountDashboard(parentElement, { slug: data.slug, theme: theme(), source });
  const readTheme = () => dashboard.setTheme(theme());
  // The probe's color follows Streamlit's theme with a transition, so a change of theme is an event.
  probe.addEventListener("transitionend", readTheme);
  return {
    slug: data.slug,
    view: data.view ?? "",
    readTheme,
    unmount() {
      dashboard.destroy();
      probe.remove();
    },
  };
}
