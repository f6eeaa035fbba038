// A square for each of many instances, as one control: arrow keys move, Enter opens the output.
import { $ } from "./page.js";

const grid = $("dots");
const told = $("dot-told");
let names = [];
let words = {};
let at = 0;

// For every task of many instances.
export function show() {
  if (!grid) return;
  names = grid.dataset.names.split("\n");
  for (const part of $("legend").querySelectorAll("[data-letter]")) {
    words[part.dataset.letter] = part.parentElement.textContent;
  }
  at = Math.max(0, names.indexOf($("shown-name").textContent));
  [...grid.children].forEach((square, place) => {
    square.id = `dot-${place}`;
    square.setAttribute("role", "option");
    square.setAttribute("aria-selected", place === at);
    square.setAttribute("aria-label", label(place));
  });
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-orientation", "horizontal");
  grid.tabIndex = 0;
  grid.addEventListener("focus", () => move(at));
  grid.addEventListener("blur", () => grid.children[at].classList.remove("at"));
  grid.addEventListener("keydown", press);
  grid.addEventListener("mouseover", ({ target }) => target !== grid && tell(place(target)));
  grid.addEventListener("mouseleave", () => tell(grid.matches(":focus") ? at : -1));
  grid.addEventListener("click", ({ target }) => target !== grid && open(place(target)));
}

// States have come: a letter for each square.
export function news() {
  const states = $("squares-now")?.dataset.states;
  if (!states) return;
  [...states].forEach((letter, place) => {
    const square = grid.children[place];
    if (!square || square.classList.contains(letter)) return;
    square.className = square.classList.contains("at") ? `${letter} at` : letter;
    square.setAttribute("aria-label", label(place));
  });
}

const place = (square) => [...grid.children].indexOf(square);

function label(place) {
  return `${names[place]}: ${words[grid.children[place].className[0]]}`;
}

function tell(place) {
  told.textContent = place < 0 ? "" : label(place);
}

function columns() {
  return getComputedStyle(grid).gridTemplateColumns.split(" ").length;
}

function press(event) {
  const last = grid.children.length - 1;
  const to = {
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
    ArrowUp: at - columns(),
    ArrowDown: at + columns(),
    Home: 0,
    End: last,
  }[event.key];
  if (event.key === "Enter" || event.key === " ") open(at);
  else if (to === undefined) return;
  else if (to >= 0 && to <= last) move(to);
  event.preventDefault();
}

function move(to) {
  grid.children[at].classList.remove("at");
  at = to;
  grid.children[at].classList.add("at");
  grid.setAttribute("aria-activedescendant", grid.children[at].id);
  tell(at);
}

function open(place) {
  const url = new URL(location.href);
  url.searchParams.delete("instance");
  url.searchParams.set("at", place);
  location.assign(url);
}
