// The left half of a task: its filters, which stand in the address, and what they list. The rows of
// few instances are all here; of many, and of groups, the server is asked for what is to be seen.
import { $, running } from "./page.js";
import * as keys from "./keys.js";
import * as rows from "./rows.js";

const LEAST = 2000; // between two times that the list is asked for because something changed
const IDLE = 250; // after the last letter that is typed

const list = $("instances");
const find = $("sift")?.elements.q;
const here = list && !list.matches(".many, .same"); // all rows are in the page

let newest = 0;
let asked = performance.now();
let stale = false;
let typing;
let beats = 0;

// For every task.
export function show() {
  rows.show();
  if (!list) return;
  compared();
  stale = unfinished();
  if (!running && list.dataset.left > 0) end();
  find.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => go({ q: find.value.trim() }, "replaceState"), here ? 0 : IDLE);
  });
  find.form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    go({ q: find.value.trim() }, "replaceState");
  });
  document.addEventListener("click", follow);
  addEventListener("popstate", () => {
    find.value = asks().get("q") || "";
    restate(true);
  });
  keys.begin(list, $("progress"));
}

export function begin() {
  rows.begin();
  document.addEventListener("htmx:oobBeforeSwap", keepChips);
  document.addEventListener("htmx:oobBeforeSwap", keepRetry);
}

// The task has ended: its last runs are compared only now.
export async function end() {
  if (!list) return;
  if (list.matches(".same")) {
    stale = true;
    return;
  }
  const groups = (await fetched(new URL("?view=same", location.href)))?.querySelector("#groups");
  tell(groups);
  if (groups?.dataset.left > 0) setTimeout(end, LEAST);
}

// States have come.
export function news() {
  if (here) apply();
  else if (list && (!list.classList.contains("same") || compared())) stale = true;
}

// Every second: put rows in order (every other time), ask for what has changed.
export function tick() {
  if (here && beats++ % 2) rows.sort();
  if (!stale || performance.now() - asked < LEAST || $("listed").matches(":focus-within, :active")) return;
  if ($("rows")?.matches(":hover")) return;
  ask();
}

const asks = () => new URLSearchParams(location.search);

// Whether more runs were compared since the groups were listed.
function compared() {
  const { compared: now } = $("same-told").dataset;
  const more = now !== list.dataset.compared;
  list.dataset.compared = now;
  return more;
}

function unfinished() {
  return Number($("groups")?.dataset.left) > 0;
}

// Groups say how far all instances agree, also where no stream does.
function tell(groups) {
  if (!groups) return;
  const { told, results, compared: number } = groups.dataset;
  $("same-told").textContent = told;
  $("same-count").textContent = Number(results) || "";
  $("same-told").dataset.compared = list.dataset.compared = number;
}

// Chips, and pages of the list.
function follow(event) {
  const link = event.target.closest?.("a[data-status], a[data-page]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  if ("page" in link.dataset) {
    go({ page: new URL(link.href).searchParams.get("page") });
    list.scrollIntoView({ block: "nearest" });
  } else go({ status: link.dataset.status });
}

// Change the address, and show what it asks for.
function go(changes, how = "pushState") {
  const url = new URL(location.href);
  for (const [name, value] of Object.entries({ page: "", ...changes })) {
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  if (url.href !== location.href) history[how](history.state, "", url);
  restate(true);
}

// Show what the address asks for.
function restate(listed) {
  const status = asks().get("status") || "";
  for (const chip of document.querySelectorAll("[data-status]")) {
    if (chip.dataset.status === status) chip.setAttribute("aria-current", "true");
    else chip.removeAttribute("aria-current");
  }
  for (const link of document.querySelectorAll(".lh .seg a, #rows .inst")) carry(link);
  if (here) apply();
  else if (listed) ask();
}

// Links keep the filters of the address.
function carry(link) {
  const url = new URL(link.href);
  for (const name of ["status", "q"]) {
    const value = asks().get(name);
    if (value) url.searchParams.set(name, value);
    else url.searchParams.delete(name);
  }
  link.href = url;
}

function apply() {
  $("none").hidden = rows.filter(asks().get("status") || "", asks().get("q") || "");
}

// Ask the server for what is listed. The last one that was asked for counts.
async function ask() {
  const mine = ++newest;
  asked = performance.now();
  stale = false;
  const fresh = await fetched(location.href);
  if (mine !== newest || !fresh) return;
  const place = $("listed");
  if (place.matches(":active")) { // a press would be lost
    stale = true;
    return;
  }
  const inside = place.contains(document.activeElement);
  const top = place.scrollTop;
  place.replaceChildren(fresh);
  place.scrollTop = top;
  stale ||= unfinished(); // what has changed since it was asked for is not in the answer
  tell($("groups"));
  if (inside) keys.first(list)?.focus({ preventScroll: true });
}

// What is listed at an address. Nothing if one is signed out, say: the foot of the output tells.
async function fetched(url) {
  const headers = { "HX-Request": "true", "HX-Target": "listed" };
  const answer = await fetch(url, { headers }).catch(() => null);
  stale ||= !answer || answer.status >= 500; // it is asked for again
  if (!answer?.ok) return null;
  const holder = document.createElement("template");
  holder.innerHTML = await answer.text();
  return holder.content;
}

// The chips stay while their numbers change, so that focus and a press in progress survive.
function keepChips(event) {
  const { target, fragment } = event.detail;
  if (target.id !== "progress") return;
  event.detail.shouldSwap = false;
  const fresh = fragment.firstElementChild;
  for (const name of ["data-ended", "data-paused"]) {
    target.toggleAttribute(name, fresh.hasAttribute(name));
  }
  target.querySelector(".how-far").replaceChildren(...fresh.querySelector(".how-far").childNodes);
  for (const count of fresh.querySelectorAll("[data-count]")) {
    const place = target.querySelector(`[data-count=${count.dataset.count}]`);
    place.textContent = count.textContent;
    place.closest(".chip").classList.toggle("zero", count.closest(".chip").classList.contains("zero"));
  }
}

// So do the links that retry, where they lead to the same.
function keepRetry(event) {
  const { target, fragment } = event.detail;
  if (target.id !== "retry") return;
  const [before, after] = [target, fragment.firstElementChild].map((all) => [...all.children]);
  const leads = (links) => links.map((link) => link.getAttribute("href")).join(" ");
  if (!before.length || leads(before) !== leads(after)) return;
  event.detail.shouldSwap = false;
  before.forEach((link, place) => {
    link.classList.toggle("pri", after[place].classList.contains("pri"));
    if (link.textContent !== after[place].textContent) {
      link.replaceChildren(...after[place].childNodes);
    }
  });
}
