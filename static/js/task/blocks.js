// Which lines are in the page: so many at most, and others in their place when they are asked for.
//
// While the end is followed, lines leave the page at its beginning. Else they leave at its end: from
// then on what comes is not shown (data-later), until the end is asked for. It is loaded as it is
// stored; what the stream brings meanwhile is held, and of that only what is later is added.
// Loads take turns: the answer of an older one would put away what a newer one has shown.
import { $, grouped, running } from "./page.js";
import { on } from "./stream.js";
import * as follow from "./follow.js";
import { detached, heard, last, log, numberOf, panel, scroll, tell, text } from "./log.js";

const MOST_LINES = 5000;
const DROP = 250;
const PATIENCE = 20000; // a load that takes longer must not hold up the next one

const earlier = $("earlier");
const later = $("later");
let shown = -1; // output up to that sequence shows already
let held = null; // what has come while lines are loaded
let turn = Promise.resolve(); // over once no load is under way
let changed = () => {};

// `then` is called whenever other lines are in the page.
export function begin(then) {
  changed = then;
  link("show-earlier", showEarlier);
  link("show-later", showLater);
  link("show-end", () => (follow.isPossible() ? follow.set(true) : showEnd()));
  if (!running) return;
  on("earlier", passedOver);
  log.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (!isWanted(event.detail)) event.preventDefault();
  });
}

// Lines have come: of too many, some go.
export function trim() {
  const extra = log.childElementCount - MOST_LINES;
  if (extra <= 0) return;
  if (follow.isFollowing()) dropFirst(extra + DROP);
  else dropLast(extra);
}

// Show a line that is not in the page; whether it is there then.
export function showAround(number) {
  return inTurn(async () => {
    if ($(`L${number}`)) return true;
    held = [];
    const block = await load(`&after=${Math.max(0, number - 200)}`);
    if (block?.childElementCount) replaceAll(block);
    else release();
    return Boolean($(`L${number}`));
  });
}

async function showEarlier() {
  await follow.set(false);
  await inTurn(async () => {
    const before = firstHere();
    const block = await load(`&before=${before}`);
    if (!block || firstHere() !== before) return; // other lines are first now
    follow.quietly(() => {
      const below = scroll.scrollHeight - scroll.scrollTop;
      log.prepend(...fresh(block));
      scroll.scrollTop = scroll.scrollHeight - below;
    });
    tellEarlier(Number(block.dataset.earlier));
    if (log.childElementCount > MOST_LINES) dropLast(log.childElementCount - MOST_LINES);
    changed();
  });
}

function showLater() {
  return inTurn(async () => {
    if (!detached()) return;
    held = [];
    const block = await load(`&after=${last()}`);
    if (!block) {
      release();
      return;
    }
    log.append(...fresh(block));
    if (log.childElementCount > MOST_LINES) dropFirst(log.childElementCount - MOST_LINES);
    settle(block);
    changed();
  });
}

// The end of what is stored, if it is still `wanted` when it has come; whether it shows now.
export function showEnd(wanted = () => true) {
  return inTurn(async () => {
    if (!wanted() || !detached()) return wanted();
    held = [];
    const block = await load("");
    if (!block || !wanted()) return release();
    replaceAll(block);
    follow.quietly(() => scroll.scrollTop = scroll.scrollHeight);
    return true;
  });
}

// Do it once the loads before it are over.
function inTurn(act) {
  const done = turn.then(act);
  turn = done.catch(() => {});
  return done;
}

function replaceAll(block) {
  follow.quietly(() => log.replaceChildren(...block.children));
  tellEarlier(Number(block.dataset.earlier));
  settle(block);
  changed();
}

// Behind a block there is more, or the stream goes on.
function settle(block) {
  tellLater("later" in block.dataset);
  if (!detached()) shown = sequenceOf(block.dataset.cursor);
  release();
}

// What was held comes now, where the end shows.
function release() {
  const came = (!detached() && held) || [];
  held = null;
  let passed = null;
  for (const { lines, sequence, missing } of came) {
    if (missing !== undefined) passed = missing;
    else if (sequence > shown) {
      if (passed !== null) forget(passed);
      passed = null;
      log.append(...fresh(parsed(lines)));
    }
  }
  return false;
}

async function load(query) {
  const headers = { "HX-Request": "true", "HX-Target": "log" };
  const signal = AbortSignal.timeout(PATIENCE);
  let block = null;
  let status = 0;
  try {
    const answer = await fetch(panel.dataset.url + query, { headers, signal });
    status = answer.status;
    if (answer.ok) block = parsed(await answer.text()).querySelector("#block");
  } catch {
    // there is no answer, or not the whole of it
  }
  if (!block) tell(status === 401 ? text.gone : text.unloaded);
  return block;
}

function link(id, act) {
  let busy = false;
  $(id).addEventListener("click", async (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (busy) return;
    busy = true;
    $(id).setAttribute("aria-busy", "true");
    await act();
    $(id).removeAttribute("aria-busy");
    busy = false;
    if (!$(id).offsetParent) log.focus({ preventScroll: true });
  });
}

// Whether a message's lines are to be added; if not, those that are in the page change all the same.
function isWanted(message) {
  const sequence = sequenceOf(message.lastEventId);
  if (sequence <= shown) return false;
  if (!follow.isFollowing() && log.childElementCount >= MOST_LINES) tellLater(true);
  if (!detached() && !held) return true;
  const lines = parsed(message.data);
  for (const line of lines.children) heard(numberOf(line));
  if (held) held.push({ lines: message.data, sequence });
  fresh(lines);
  changed();
  return false;
}

// The server passes over n lines; what is shown is older, but who reads it may go on reading.
function passedOver(event) {
  const missing = Number(event.data);
  if (held) held.push({ missing });
  else if (detached()) return;
  else if (follow.isFollowing() || !log.childElementCount) forget(missing);
  else tellLater(true);
}

function forget(missing) {
  follow.quietly(() => log.replaceChildren());
  tellEarlier(missing);
}

// Lines of `block` that are not in the page; those that are replace what is there.
function fresh(block) {
  return [...block.children].filter((line) => {
    const present = $(line.id);
    present?.replaceWith(line);
    return !present;
  });
}

function parsed(html) {
  return new DOMParser().parseFromString(html, "text/html").body;
}

function sequenceOf(cursor) {
  const digits = cursor.split(":").pop();
  return digits ? Number(digits) : Infinity;
}

function dropFirst(extra) {
  follow.quietly(() => {
    const below = scroll.scrollHeight - scroll.scrollTop;
    remove(log.firstElementChild, log.children[extra - 1]);
    if (!follow.isFollowing()) scroll.scrollTop = scroll.scrollHeight - below;
  });
  const first = log.querySelector(".ln");
  if (first) tellEarlier(numberOf(first) - 1);
}

function dropLast(extra) {
  heard(last());
  follow.quietly(() => remove(log.children[log.childElementCount - extra], log.lastElementChild));
  tellLater(true);
}

function remove(first, lastOne) {
  const range = document.createRange();
  range.setStartBefore(first);
  range.setEndAfter(lastOne);
  range.deleteContents();
}

// The number of the first line that is in the page.
function firstHere() {
  return new URL($("show-earlier").href).searchParams.get("before");
}

function tellEarlier(n) {
  earlier.hidden = !n;
  earlier.querySelector("b").textContent = grouped(n);
  $("show-earlier").href = `${panel.dataset.url}&before=${n + 1}`;
}

function tellLater(more) {
  log.toggleAttribute("data-later", more);
  later.hidden = !more;
  $("show-later").href = `${panel.dataset.url}&after=${last()}`;
}
