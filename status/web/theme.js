// Light or dark: what was chosen on this page, else what the system says. Runs
// before the first paint, so that nothing flashes.
"use strict";

const look = (() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null; // the system's
  try { chosen = localStorage.getItem("dunlin-theme"); } catch { /* no storage: the choice lasts as long as the page */ }
  if (chosen !== "light" && chosen !== "dark") chosen = null;
  const show = () => { document.documentElement.dataset.theme = chosen ?? (system.matches ? "dark" : "light"); };
  system.addEventListener("change", show);
  show();
  return {
    /** What was chosen: "light", "dark" or "system". */
    get name() { return chosen ?? "system"; },
    /** Chooses the next one: after the system's the other, then the same, then the system's again. */
    next() {
      const [same, other] = system.matches ? ["dark", "light"] : ["light", "dark"];
      chosen = chosen === null ? other : chosen === other ? same : null;
      try {
        if (chosen) localStorage.setItem("dunlin-theme", chosen);
        else localStorage.removeItem("dunlin-theme");
      } catch { /* as above */ }
      show();
    },
  };
})();
