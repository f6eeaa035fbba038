// One task. While it runs, htmx's SSE extension swaps what the stream brings; this says and does
// what is beside that: copying, the title, clocks, the order of rows, following the output,
// telling who looks elsewhere.
import { $, live, running, say, words } from "./task/page.js";
import * as grid from "./task/grid.js";
import * as list from "./task/list.js";
import * as notify from "./task/notify.js";
import * as output from "./task/output.js";
import * as quiet from "./task/quiet.js";
import * as stream from "./task/stream.js";

let decision = document.querySelector("#approval:not(.waiting) h2");
const copy = document.querySelector("[data-copy]");
copy.hidden = !navigator.clipboard; // there is none on plain HTTP
copy.addEventListener("click", () => {
  const { copy: text, copied, failed } = copy.dataset;
  navigator.clipboard.writeText(text).then(() => say(copied), () => say(failed));
});

// What was decided comes in the place of what waited: who does not see it hears it.
document.addEventListener("htmx:afterSwap", () => {
  const decided = document.querySelector("#approval:not(.waiting) h2");
  if (decided && decided !== decision) say(decided.textContent);
  decision = decided;
});

list.show();
grid.show();
output.show();
notify.show();
if (running) begin();
setInterval(list.tick, 1000);

function begin() {
  output.begin();
  notify.begin();
  list.begin();
  stream.begin();
  live.addEventListener("htmx:sseMessage", (event) => {
    if (event.detail.type === "out") arrived();
    else restate();
  });
  live.addEventListener("htmx:sseClose", end);
  const tick = () => {
    stream.tick();
    clocks();
    quiet.tick();
  };
  setInterval(tick, 1000);
  tick();
}

function arrived() {
  output.arrived();
  quiet.arrived();
}

let failures = problems();

function problems() {
  return [...document.querySelectorAll("[data-count=bad], [data-count=warn]")]
    .map((place) => place.textContent).join();
}

function summary() {
  return $("progress").querySelector(".stackbar").getAttribute("aria-label");
}

function restate() {
  const { title } = $("task-head-state").dataset;
  document.title = `${title} · ${document.title.split(" · ").pop()}`;
  if (problems() !== failures) say(summary());
  failures = problems();
  list.news();
  grid.news();
  output.restate();
  notify.show();
  quiet.tick();
}

function end() {
  stream.end();
  output.end();
  quiet.tick();
  list.end();
  notify.end(summary());
  say(`${words.finished}: ${summary()}`);
  recount();
}

// The navigation counts running tasks: one fewer now, and others may have begun.
async function recount() {
  const answer = await fetch(document.querySelector(".crumb a").href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const link of document.querySelectorAll(".nav .item, #menu-nav .item")) {
    const fresh = page.querySelector(`.nav .item[href="${link.getAttribute("href")}"] .cnt`);
    const shown = link.querySelector(".cnt");
    if (shown && fresh) shown.replaceWith(document.importNode(fresh, true));
    else if (shown) (link.matches("[data-counted]") ? link : shown).remove();
    else if (fresh) link.append(document.importNode(fresh, true));
  }
}

function clocks() {
  for (const place of document.querySelectorAll("[data-elapsed]")) {
    place.since ??= performance.now() - place.dataset.elapsed * 1000;
    const all = Math.floor((performance.now() - place.since) / 1000);
    const [hours, minutes, seconds] = [all / 3600, (all / 60) % 60, all % 60]
      .map((part) => String(Math.floor(part)).padStart(2, "0"));
    const text = all < 3600 ? `${minutes}:${seconds}` : `${Number(hours)}:${minutes}:${seconds}`;
    if (place.textContent !== text) place.textContent = text;
  }
}
