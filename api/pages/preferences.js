// Runs before the app's own scripts: what the person prefers, where the app looks for it as it starts.
// No module: those run after the page is read, and the colours must be known before anything is drawn.
(() => {
  const { theme, zone } = document.currentScript.dataset;
  if (zone) document.documentElement.dataset.timeZone = zone;
  try {
    localStorage.setItem(`stActiveTheme-${location.pathname}-v2`, JSON.stringify(theme));
  } catch {
    // A browser that keeps nothing shows the system's colours.
  }
})();
