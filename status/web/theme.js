// Runs before the first paint, so that a chosen look does not flash.
"use strict";
{
  let chosen = null;
  try { chosen = localStorage.getItem("dunlin-theme"); } catch { /* storage is off: the system decides */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
