// What somebody chose for the output before: known before anything is painted, so nothing flashes.
"use strict";
try {
  const kept = JSON.parse(localStorage.getItem("output") || "{}");
  for (const name of ["times", "wrap"]) {
    if (kept[name] === false) document.documentElement.dataset[name] = "off";
  }
} catch {
  // nothing is kept here: all is as it comes
}
