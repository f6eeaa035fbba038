// The lines of the output that are in the page, and what the panel's own voice says.
import { $ } from "./page.js";

export const panel = $("panel");
export const scroll = $("scroll");
export const log = $("log");
export const text = panel.dataset;

let latest = 0; // number of a line that has come but is not shown
let telling;

// Whether lines come after those that show.
export const detached = () => log.hasAttribute("data-later");
export const isLine = (element) => element.classList.contains("ln");
export const numberOf = (element) => Number(element.id.slice(1));

export function last() {
  return log.lastElementChild ? numberOf(log.lastElementChild) : 0;
}

export function newest() {
  return Math.max(latest, last());
}

export function heard(number) {
  latest = Math.max(latest, number);
}

// The text of a line, node by node, without the word "stderr".
export function* textNodes(line) {
  const walker = document.createTreeWalker(line.querySelector(".tx"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    if (walker.currentNode.parentNode.className !== "is") yield walker.currentNode;
  }
}

export function textOf(element) {
  if (!isLine(element)) return element.textContent;
  let text = "";
  for (const node of textNodes(element)) text += node.data;
  return text;
}

// The first line that is in sight, found by halving: lines are in order.
export function firstInSight() {
  const top = scroll.getBoundingClientRect().top;
  const all = log.children;
  let [low, high] = [0, all.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle].getBoundingClientRect().bottom <= top + 1) low = middle + 1;
    else high = middle;
  }
  return all[low] || null;
}

// Say it where it can be read for two seconds.
export function tell(what) {
  $("told").textContent = what;
  clearTimeout(telling);
  telling = setTimeout(() => $("told").textContent = "", 2000);
}
