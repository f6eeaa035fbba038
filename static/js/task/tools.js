// The panel's buttons: times, wrapping, copying, the whole window, the list of keys.
import { $, grouped } from "./page.js";
import { detached, firstInSight, isLine, log, panel, scroll, tell, text, textOf } from "./log.js";
import * as follow from "./follow.js";

const root = document.documentElement;
const full = $("full");
const KEYS = { t: "times", w: "wrap", y: "copy", f: "follow", "?": "keys-open" };

let covered = [];

export function begin() {
  for (const name of ["times", "wrap"]) {
    $(name).setAttribute("aria-pressed", root.dataset[name] !== "off");
    $(name).addEventListener("click", () => toggle(name));
  }
  $("copy").hidden = !navigator.clipboard; // there is none on plain HTTP
  $("copy").addEventListener("click", copy);
  full.addEventListener("click", () => setWhole(!isWhole()));
  $("keys-open").addEventListener("click", () => $("keys").showModal());
  document.addEventListener("keydown", (event) => {
    const asked = document.querySelector("dialog[open]"); // it is closed first
    if (event.key === "Escape" && isWhole() && !asked) setWhole(false);
  });
  log.addEventListener("keydown", (event) => {
    if (event.target !== log || event.ctrlKey || event.metaKey || event.altKey) return;
    const button = $(KEYS[event.key.toLowerCase()]);
    if (!button || button.hidden) return;
    event.preventDefault();
    button.click();
  });
}

function toggle(name) {
  const on = root.dataset[name] === "off";
  const place = firstInSight();
  follow.quietly(() => {
    const before = place?.getBoundingClientRect().top;
    if (on) delete root.dataset[name];
    else root.dataset[name] = "off";
    if (place) scroll.scrollTop += place.getBoundingClientRect().top - before;
  });
  follow.update();
  $(name).setAttribute("aria-pressed", on);
  try {
    const kept = JSON.parse(localStorage.getItem("output") || "{}");
    localStorage.setItem("output", JSON.stringify({ ...kept, [name]: on }));
  } catch {
    // it holds for this page only
  }
}

// What shows, as it was printed: no numbers, no times, no colours.
function copy() {
  const lines = [...log.children].map((line) => `${textOf(line)}\n`);
  const part = detached() || !$("earlier").hidden;
  const count = grouped(log.querySelectorAll(".ln").length);
  navigator.clipboard.writeText(lines.join("")).then(
    () => tell(part ? text.copiedPart.replace("{n}", count) : text.copied),
    () => tell(text.failed),
  );
}

const isWhole = () => panel.classList.contains("whole");

// The panel covers the window and is all there is, for the keyboard and for screen readers too. It
// stays where it is in the document, so that what comes goes on coming.
function setWhole(on) {
  follow.quietly(() => panel.classList.toggle("whole", on));
  full.setAttribute("aria-pressed", on);
  for (const [name, value] of [["role", "dialog"], ["aria-modal", "true"]]) {
    if (on) panel.setAttribute(name, value);
    else panel.removeAttribute(name);
  }
  for (const element of covered) element.inert = false;
  covered = on ? [...around(panel)] : [];
  for (const element of covered) element.inert = true;
  full.focus({ preventScroll: true });
  follow.update();
}

// All beside an element, up to the page's body, but what speaks or opens above everything.
function* around(element) {
  for (; element !== document.body; element = element.parentElement) {
    for (const other of element.parentElement.children) {
      if (other !== element && !other.inert && !other.matches("dialog, [role=status], script")) yield other;
    }
  }
}
