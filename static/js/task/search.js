// Searching the lines that are in the page, also while more come. It never scrolls by itself: only
// somebody who types, or asks for the next match, is taken there.
import { $, grouped } from "./page.js";
import { firstInSight, isLine, log, scroll, text, textOf } from "./log.js";
import * as follow from "./follow.js";
import * as paint from "./paint.js";

const MOST_MATCHES = 10000;
const PAUSE_MS = 120;

const field = $("seek");
const told = $("found");
const steps = [$("find-back"), $("find-on")];

let query = "";
let found = new Map(); // line -> its matches
let matches = []; // all of them, in order
let now = null;
let timer;

export function begin() {
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, PAUSE_MS);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape" && field.value) {
      event.preventDefault();
      event.stopPropagation();
      field.value = "";
      search();
    }
  });
  steps[0].addEventListener("click", () => step(-1));
  steps[1].addEventListener("click", () => step(1));
}

// Other lines are in the page.
export function refresh() {
  if (query) gather();
}

function search() {
  clearTimeout(timer);
  const asked = field.value.toLowerCase();
  if (asked === query) return;
  query = asked;
  found = new Map();
  now = null;
  paint.clear();
  gather();
  if (!matches.length) return;
  const first = firstInSight();
  go(matches.find((match) => match.line === first || isAfter(match.line, first)) || matches[0]);
}

function step(by) {
  if (field.value.toLowerCase() !== query) search();
  else if (matches.length) {
    const at = matches.indexOf(now);
    const next = at < 0 && by < 0 ? -1 : at + by;
    go(matches[(next + matches.length) % matches.length]);
  }
}

function go(match) {
  now = match;
  follow.set(false);
  paint.now(match);
  follow.quietly(() => reveal(match.rect()));
  say();
}

// Lines that are known are not searched again; those that went are forgotten.
function gather() {
  const before = found;
  found = new Map();
  matches = [];
  for (const line of query ? log.children : []) {
    if (matches.length >= MOST_MATCHES) break;
    const those = before.get(line) || (isLine(line) ? matchesIn(line) : []);
    found.set(line, those);
    matches.push(...those.slice(0, MOST_MATCHES - matches.length));
  }
  if (now && found.get(now.line)?.includes(now) !== true) now = sameAs(now);
  paint.all(matches, now);
  say();
}

// A line that goes on is another element: what was found in it is found there again.
function sameAs(match) {
  const those = found.get($(match.line.id)) || [];
  return those.find((other) => other.start === match.start) || null;
}

function matchesIn(line) {
  const inside = textOf(line).toLowerCase();
  const those = [];
  let at = inside.indexOf(query);
  while (at >= 0 && those.length < MOST_MATCHES) {
    those.push(paint.match(line, at, at + query.length));
    at = inside.indexOf(query, at + query.length);
  }
  return those;
}

function isAfter(line, other) {
  return other && other.compareDocumentPosition(line) & Node.DOCUMENT_POSITION_FOLLOWING;
}

function reveal(rect) {
  const frame = scroll.getBoundingClientRect();
  if (rect.top < frame.top + 20 || rect.bottom > frame.bottom - 20) {
    scroll.scrollTop += rect.top - frame.top - frame.height / 2;
  }
  if (rect.left < frame.left + 20 || rect.right > frame.right - 20) {
    scroll.scrollLeft += rect.left - frame.left - frame.width / 2;
  }
}

function say() {
  for (const button of steps) button.hidden = !matches.length;
  told.textContent = sentence();
}

function sentence() {
  if (!query) return "";
  // of all lines only those that are in the page
  const part = !$("earlier").hidden || !$("later").hidden;
  if (!matches.length) return part ? text.noneHere : text.none;
  const most = matches.length >= MOST_MATCHES;
  const all = most ? text.more.replace("{n}", grouped(MOST_MATCHES)) : grouped(matches.length);
  const nth = part ? text.nthHere : text.nth;
  return nth.replace("{n}", grouped(matches.indexOf(now) + 1)).replace("{all}", all);
}
