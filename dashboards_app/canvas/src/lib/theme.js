// Colors of charts in light and dark, and which of the two the page is in.
// The palette is Okabe and Ito's (distinct for every common kind of color blindness), deepened for a white
// ground and lifted for a dark one; tones are never told by color alone.

export const THEMES = {
  light: {
    palette: ["#1f6fd6", "#e08a00", "#0d9373", "#c2569f", "#3fa9e0", "#c8501f", "#7b61d9", "#8a7a1f"],
    tones: { good: "#0d9373", warning: "#b7740a", critical: "#c8401e", neutral: "#67707f" },
    ink: "#12161c",
    muted: "#67707f",
    grid: "#edeff2",
    line: "#d9dde3",
    card: "#ffffff",
    faint: "#c3c9d2",
    fill: 0.2,
    band: "rgba(18,22,28,0.035)",
  },
  dark: {
    palette: ["#5aa2ff", "#f0a93b", "#35c79a", "#e08ac4", "#7fd0ff", "#ff8352", "#a996ff", "#d6c95a"],
    tones: { good: "#35c79a", warning: "#f0a93b", critical: "#ff8352", neutral: "#8b96a6" },
    ink: "#e8ecf2",
    muted: "#8b96a6",
    grid: "#1d232c",
    line: "#2b323d",
    card: "#12161d",
    faint: "#3a4350",
    fill: 0.26,
    band: "rgba(255,255,255,0.04)",
  },
};

/** "light" or "dark" by the luminance of a CSS color ("rgb(…)", "#…"); `fallback` if it cannot be read. */
export function themeOf(color, fallback = "light") {
  const numbers = color?.startsWith("#")
    ? [1, 3, 5].map((i) => Number.parseInt(color.length === 4 ? color[(i + 1) / 2].repeat(2) : color.slice(i, i + 2), 16))
    : (color?.match(/[\d.]+/g) ?? []).slice(0, 3).map(Number);
  if (numbers.length < 3 || numbers.some(Number.isNaN)) return fallback;
  const [r, g, b] = numbers;
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 128 ? "light" : "dark";
}

const FONT = 'Inter, ui-sans-serif, system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/** Plotly's layout, the same for every chart of a theme. */
export function chartLayout(theme) {
  const axis = {
    gridcolor: theme.grid,
    gridwidth: 1,
    linecolor: theme.line,
    zerolinecolor: theme.line,
    zerolinewidth: 1,
    tickfont: { color: theme.muted, size: 10.5 },
    ticks: "",
    ticklabelstandoff: 4,
    automargin: false,
    fixedrange: true,
    title: { text: "" },
  };
  return {
    autosize: false,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 11, color: theme.muted },
    showlegend: false,
    hovermode: "x unified",
    hoverdistance: 40,
    spikedistance: -1,
    hoverlabel: {
      bgcolor: theme.card,
      bordercolor: theme.line,
      font: { family: FONT, size: 11.5, color: theme.ink },
      namelength: 28,
      align: "left",
    },
    dragmode: "zoom",
    selectdirection: "h",
    margin: { l: 44, r: 10, t: 6, b: 24 },
    xaxis: { ...axis, showgrid: false, nticks: 6 },
    yaxis: { ...axis, nticks: 5, rangemode: "tozero", tickformat: "~s" },
    bargap: 0.28,
    bargroupgap: 0.08,
  };
}

export const CHART_CONFIG = {
  displayModeBar: false,
  displaylogo: false,
  responsive: false,
  doubleClick: false,
  scrollZoom: false,
  showTips: false,
  staticPlot: false,
  locale: "en-US",
};
