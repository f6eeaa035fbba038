// The rows of the instances: they change in place, those that a filter leaves out are hidden, and
// the order changes only while nobody is in the list.
import { $ } from "./page.js";

let unsorted = false;

// For every task: the shown instance is to be seen in the list.
export function show() {
  const rows = $("rows");
  const current = rows?.querySelector("[aria-current]");
  const place = $("listed"); // the rows' offsets are from its top
  const below = current?.offsetTop || 0;
  if (below + 60 > place?.clientHeight) place.scrollTop = below - place.clientHeight / 3;
}

export function begin() {
  document.addEventListener("htmx:oobBeforeSwap", keepLink);
}

// Put the rows in order, problems first.
export function sort() {
  const rows = $("rows");
  if (!unsorted || !rows || rows.matches(":hover, :focus-within")) return;
  unsorted = false;
  rows.append(...[...rows.children].sort((a, b) => a.dataset.rank - b.dataset.rank));
}

// Show the rows in `status` that say all words of `q`; whether there are any.
export function filter(status, q) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  let found = false;
  for (const row of $("rows").children) {
    const fits = (!status || row.dataset.state === status) && words.every((word) => says(row, word));
    row.hidden = !fits && !row.contains(document.activeElement); // focus is not taken away
    found ||= !row.hidden;
  }
  return found;
}

function says(row, word) {
  const code = /^exit:(-?\d+)$/.exec(word);
  if (code) return row.dataset.exit === code[1];
  const text = ["nm", "ll"].map((part) => row.querySelector(`.${part}`).textContent);
  return [...text, row.id.slice(4), row.dataset.find].some((each) => each.toLowerCase().includes(word));
}

// A row keeps its link, so that focus and a press in progress survive a redraw.
function keepLink(event) {
  const { target, fragment } = event.detail;
  if (!target.id.startsWith("row-")) return;
  const [before, after] = [target.firstElementChild, fragment.firstElementChild];
  event.detail.shouldSwap = false;
  if (target.dataset.rank !== after.dataset.rank) unsorted = true;
  for (const name of ["rank", "state", "exit"]) target.dataset[name] = after.dataset[name];
  before.replaceChildren(...after.firstElementChild.childNodes);
}
