// Making matches visible: as highlights, which leave the lines alone, or as <mark> where there are none.
import { log, textNodes } from "./log.js";

const HIGHLIGHTS = Boolean(globalThis.CSS?.highlights);

// Text of a line from `start` to `end`.
export function match(line, start, end) {
  return { line, start, end, range: null, marks: [], rect, rangeOf };
}

export function all(matches, current) {
  if (HIGHLIGHTS) {
    const ranges = matches.map((one) => one.rangeOf());
    CSS.highlights.set("found", new Highlight(...ranges));
  } else {
    for (const one of matches) if (!one.marks.length) mark(one);
  }
  now(current);
}

export function now(current) {
  if (HIGHLIGHTS) {
    const highlight = new Highlight(...(current ? [current.rangeOf()] : []));
    highlight.priority = 1;
    CSS.highlights.set("found-now", highlight);
    return;
  }
  for (const old of log.querySelectorAll("mark.now")) old.classList.remove("now");
  for (const part of current?.marks || []) part.classList.add("now");
}

export function clear() {
  if (HIGHLIGHTS) {
    CSS.highlights.delete("found");
    CSS.highlights.delete("found-now");
    return;
  }
  for (const part of log.querySelectorAll("mark")) {
    const parent = part.parentNode;
    part.replaceWith(...part.childNodes);
    parent.normalize();
  }
}

function rangeOf() {
  if (this.range) return this.range;
  const range = document.createRange();
  let passed = 0;
  for (const node of textNodes(this.line)) {
    const [from, to] = [this.start - passed, this.end - passed];
    if (from >= 0 && from < node.length) range.setStart(node, from);
    if (to > 0 && to <= node.length) range.setEnd(node, to);
    passed += node.length;
  }
  return (this.range = range);
}

function rect() {
  return (this.marks[0] || this.rangeOf()).getBoundingClientRect();
}

// Wrap the text of a match, part by part where it has several colours.
function mark(one) {
  let passed = 0;
  for (const node of [...textNodes(one.line)]) {
    const [from, to] = [Math.max(0, one.start - passed), Math.min(node.length, one.end - passed)];
    passed += node.length;
    if (from >= to) continue;
    const rest = node.splitText(from);
    rest.splitText(to - from);
    const part = document.createElement("mark");
    rest.replaceWith(part);
    part.append(rest);
    one.marks.push(part);
  }
}
