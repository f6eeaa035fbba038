// Following the end of a running output, until somebody looks elsewhere.
import { $, count, words } from "./page.js";
import { detached, log, newest, scroll } from "./log.js";

const button = $("follow");
const newLines = $("new-lines");

let following = !location.hash.startsWith("#L") && !detached();
let seen = newest();
let top = 0;
let selecting = false;
let ours = false;
let wanted = following; // also while the end is still being loaded
let coming = null; // the end that is being loaded
let comeBack;

export const isFollowing = () => following;
export const isPossible = () => Boolean(button) && !button.hidden;

// For every task, ended ones too: the end is what shows first.
export function show() {
  if (following) scroll.scrollTop = scroll.scrollHeight;
  if (!button) following = false;
  top = scroll.scrollTop;
}

// Follow a running task; `toEnd` brings the end back where other lines show, if what it is given
// still says so when the end has come.
export function begin(toEnd) {
  comeBack = toEnd;
  button.addEventListener("click", toggle);
  newLines.addEventListener("click", async () => {
    await set(true);
    log.focus({ preventScroll: true });
  });
  scroll.addEventListener("wheel", (event) => {
    if (event.deltaY < 0) set(false);
  }, { passive: true });
  scroll.addEventListener("scroll", scrolled);
  log.addEventListener("focus", focused);
  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    selecting = !selection.isCollapsed && scroll.contains(selection.anchorNode);
    if (following && selecting) set(false);
  });
  set(following);
}

export const toggle = () => set(!wanted);

export async function set(on) {
  if (!button || (on && button.hidden)) return;
  wanted = on;
  if (on && detached()) {
    coming ??= comeBack(() => wanted).finally(() => coming = null);
    wanted = (await coming) && wanted;
    if (!wanted) return;
  }
  if (following && !on) seen = newest();
  following = on;
  button.setAttribute("aria-pressed", on);
  update();
}

// Nothing more comes.
export function end() {
  button.hidden = newLines.hidden = true;
}

// Scroll as no person did, so that it decides nothing.
export function quietly(change) {
  const before = scroll.scrollTop;
  change();
  ours ||= scroll.scrollTop !== before;
  top = scroll.scrollTop;
}

// Go where the end is now, or say what has come there.
export function update() {
  if (following) {
    seen = newest();
    if (!selecting) quietly(() => scroll.scrollTop = scroll.scrollHeight);
  }
  $("line-count").textContent =
    newest() && !detached() ? count(newest(), words.one, words.many) : "";
  if (!newLines) return;
  const fresh = newest() - seen;
  newLines.hidden = fresh <= 0 || button.hidden;
  newLines.lastElementChild.textContent = count(fresh, words.newOne, words.newMany);
}

// Browsers scroll what gets the focus: nobody looked elsewhere by that.
function focused() {
  if (!following) return;
  ours = true;
  requestAnimationFrame(() => {
    ours = false;
    update();
  });
}

function scrolled() {
  if (ours) {
    ours = false;
    top = scroll.scrollTop;
    return;
  }
  const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 4;
  if (scroll.scrollTop < top && !atEnd) set(false);
  else if (scroll.scrollTop > top && atEnd && !following && !selecting && !detached()) set(true);
  top = scroll.scrollTop;
}
