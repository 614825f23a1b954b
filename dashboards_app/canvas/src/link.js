// The page behind a dashboard's link: the same canvas, fed with what opening the link gave, in the system's theme.
import { linkSource } from "./lib/api.js";
import { mountDashboard } from "./mount.js";

// The page's own styles name Inter; its files lie beside this one.
for (const [file, range] of Object.entries(FONT_FILES)) {
  const url = new URL(file, import.meta.url).href;
  document.fonts.add(new FontFace("Inter", `url("${url}")`, { weight: "100 900", display: "swap", unicodeRange: range }));
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (dark.matches ? "dark" : "light");
const place = document.getElementById("board");
const { access, slug } = place.dataset;
const dashboard = mountDashboard(place.attachShadow({ mode: "open" }), {
  slug,
  theme: theme(),
  source: linkSource(access),
});
dark.addEventListener("change", () => dashboard.setTheme(theme()));
