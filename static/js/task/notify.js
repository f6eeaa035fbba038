// Telling how the task is to somebody who looks elsewhere: the icon of the tab, and, if wanted,
// a notification of the browser when it has ended. Permission is asked for when the button is pressed.
import { $, running, say, words } from "./page.js";

const WANTED = "notify-when-tasks-end";
const ICONS = { ok: words.iconOk, bad: words.iconBad, warn: words.iconBad, run: words.iconRun, idle: words.iconRun };

const link = document.querySelector('link[rel="icon"]');
const plain = link.href;
const button = $("notify");
const note = $("notify-note");

// For every task, ended ones too; and again when states have come.
export function show() {
  const { state } = $("task-head-state").dataset; // htmx gives it its class a moment later
  const href = new URL(ICONS[state] || plain, location.href).href;
  if (link.href !== href) link.href = href;
}

export function begin() {
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => (wanted() ? stop() : start()));
  press(wanted());
}

// The task has ended: `summary` says how.
export function end(summary) {
  if (!running || !button || !wanted()) return;
  try {
    const told = new Notification(document.title.split(" · ")[0], {
      body: summary, icon: link.href, tag: location.pathname,
    });
    told.addEventListener("click", () => { focus(); told.close(); });
  } catch {
    tell(words.notifyNever); // browsers of telephones know the class and refuse it
  }
}

function wanted() {
  return possible() && Notification.permission === "granted" && remembered() === "yes";
}

function possible() {
  return isSecureContext && "Notification" in window;
}

async function start() {
  if (!isSecureContext) return tell(words.notifyInsecure);
  if (!possible()) return tell(words.notifyNever);
  const answer = await Notification.requestPermission();
  if (answer === "denied") return tell(words.notifyDenied);
  if (answer !== "granted") return press(false);
  remember("yes");
  press(true);
  tell(words.notifyOn);
}

function stop() {
  remember("no");
  press(false);
  tell(words.notifyOff);
}

function press(on) {
  button.setAttribute("aria-pressed", on);
}

function tell(text) {
  note.textContent = text;
  note.hidden = false;
  say(text);
}

// Storage may be forbidden; then the wish lasts as long as the page.
let here = "";

function remembered() {
  try {
    return localStorage.getItem(WANTED) || here;
  } catch {
    return here;
  }
}

function remember(answer) {
  here = answer;
  try {
    localStorage.setItem(WANTED, answer);
  } catch { /* as said above */ }
}
