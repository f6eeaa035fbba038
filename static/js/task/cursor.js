// The line cursor, links to lines, and the line that the address names.
import { $, say } from "./page.js";
import { firstInSight, isLine, log, numberOf, panel, scroll, tell, text, textOf } from "./log.js";
import * as blocks from "./blocks.js";
import * as follow from "./follow.js";

const LINES = /^#L(\d+)(?:-L(\d+))?$/;

let at = 0; // number of the line with the cursor
let from = 0; // the other end of what is taken with it
let aimed = []; // the lines that a link names

export function begin() {
  log.addEventListener("keydown", pressed);
  log.addEventListener("mousedown", (event) => {
    if (event.shiftKey && event.target.closest(".n")) event.preventDefault(); // selects no text
  });
  log.addEventListener("click", (event) => {
    const line = event.target.closest(".n")?.parentElement;
    if (!line) return;
    put(line, event.shiftKey);
    log.focus({ preventScroll: true });
    copyLink();
  });
  $("link-line").addEventListener("click", () => {
    if (!$(`L${at}`)) put(lineFrom(firstInSight()), false);
    copyLink();
  });
  addEventListener("hashchange", aim);
  aim();
}

// Other elements may stand for the lines now.
export function refresh() {
  for (const old of log.querySelectorAll(".cur, .aim")) old.classList.remove("cur", "aim");
  $(`L${at}`)?.classList.add("cur");
  const [first, end] = aimed;
  for (let line = $(`L${first}`); line && numberOf(line) <= end; line = line.nextElementSibling) {
    line.classList.add("aim");
  }
}

// Show what the address names, also where it is not in the page yet.
async function aim() {
  const named = LINES.exec(location.hash);
  if (!named) return;
  const [first, end] = [Number(named[1]), Number(named[2] || named[1])].sort((a, b) => a - b);
  await follow.set(false);
  if (!$(`L${first}`) && !(await blocks.showAround(first))) return;
  aimed = [first, end];
  from = first;
  at = end;
  refresh();
  follow.quietly(() => $(`L${first}`).scrollIntoView({ block: "center" }));
}

async function copyLink() {
  if (!at) return;
  const ends = [...new Set([from, at])].sort((a, b) => a - b);
  aimed = [ends[0], ends.at(-1)];
  const url = `${panel.dataset.url}#${ends.map((n) => `L${n}`).join("-")}`;
  history.replaceState(history.state, "", url);
  refresh();
  try {
    await navigator.clipboard.writeText(location.href);
    tell(text.linked);
  } catch { // there is none on plain HTTP, or it is not allowed
    tell(text.inBar);
  }
}

function put(line, taking) {
  if (!line) return;
  at = numberOf(line);
  if (!taking || !from) from = at;
  aimed = from === at ? [] : [Math.min(from, at), Math.max(from, at)];
  refresh();
}

function pressed(event) {
  if (event.target !== log || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key.toLowerCase() === "l") copyKey(event);
  else if (MOVES[event.key]) move(event);
}

function copyKey(event) {
  event.preventDefault();
  if (!$(`L${at}`)) put(lineFrom(firstInSight()), false);
  copyLink();
}

const MOVES = {
  ArrowUp: (line) => steps(line, -1),
  ArrowDown: (line) => steps(line, 1),
  PageUp: (line) => steps(line, -page()),
  PageDown: (line) => steps(line, page()),
  Home: () => lineFrom(log.firstElementChild),
  End: () => lineFrom(log.lastElementChild, "previousElementSibling"),
};

async function move(event) {
  event.preventDefault();
  const { key, shiftKey } = event;
  await follow.set(key === "End");
  const present = $(`L${at}`);
  const line = present || key === "Home" || key === "End"
    ? MOVES[key](present)
    : lineFrom(firstInSight());
  if (!line) return;
  put(line, shiftKey);
  if (key !== "End" || !follow.isFollowing()) {
    follow.quietly(() => line.scrollIntoView({ block: "nearest" }));
  }
  say(text.line.replace("{n}", at).replace("{text}", () => textOf(line)));
}

function steps(line, by) {
  const way = by < 0 ? "previousElementSibling" : "nextElementSibling";
  for (let left = Math.abs(by); left > 0; left--) {
    const next = lineFrom(line[way], way);
    if (!next) break;
    line = next;
  }
  return line;
}

function lineFrom(element, way = "nextElementSibling") {
  while (element && !isLine(element)) element = element[way];
  return element;
}

function page() {
  return Math.max(1, Math.floor(scroll.clientHeight / 20) - 1);
}
