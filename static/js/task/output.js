// The output of one instance: its lines (blocks), the end (follow), and what can be done with them.
import { $, grouped, say, words } from "./page.js";
import { log } from "./log.js";
import * as blocks from "./blocks.js";
import * as cursor from "./cursor.js";
import * as follow from "./follow.js";
import * as search from "./search.js";
import * as tools from "./tools.js";

const SLOW_S = 10;

let started = log.childElementCount > 0;
let frame = 0;
let since = null;

// For every task, ended ones too.
export function show() {
  follow.show();
  blocks.begin(refresh);
  search.begin();
  tools.begin();
  cursor.begin();
}

// Follow a running task.
export function begin() {
  follow.begin(blocks.showEnd);
  setInterval(tellSlow, 1000);
}

// Lines have come.
export function arrived() {
  if (!started) say(words.first);
  started = true;
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    blocks.trim();
    refresh();
  });
}

// States have come: the note on what was dropped may say more now.
export function restate() {
  const gap = log.querySelector(".gap");
  const note = $("gap-note");
  if (gap) [gap.textContent, gap.title] = [note.textContent, note.title];
  tellSlow();
  follow.update();
}

export function end() {
  follow.end();
}

function refresh() {
  follow.update();
  search.refresh();
  cursor.refresh();
}

// Say how long an instance has not answered, once that is long.
function tellSlow() {
  const place = document.querySelector("[data-waits]");
  since = place ? (since ?? performance.now()) : null;
  const seconds = place ? Math.floor((performance.now() - since) / 1000) : 0;
  if (seconds < SLOW_S) return;
  place.lastElementChild.textContent = place.dataset.waits.replace("{n}", grouped(seconds));
}
