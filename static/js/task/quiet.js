// How long the shown instance has printed nothing, while it runs: by this computer's clock.
import { $ } from "./page.js";

const AFTER = 60000;
const note = $("quiet");
const clock = note?.querySelector("[data-elapsed]");

// Output has come.
export function arrived() {
  if (clock) clock.since = performance.now();
}

// Once a second, after the clocks.
export function tick() {
  if (!clock || clock.since === undefined) return;
  const { status } = $("log-note").dataset;
  const told = $("log-note").querySelector("[data-stall]") || !$("log").childElementCount;
  note.hidden = status !== "Running" || told || performance.now() - clock.since < AFTER;
}
