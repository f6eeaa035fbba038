// What the modules of a task's page share: its elements, its words, and the voice of its status line.
export const $ = (id) => document.getElementById(id);
export const live = $("live");
export const words = live.dataset;
export const running = live.hasAttribute("sse-connect");

const number = new Intl.NumberFormat(document.documentElement.lang);

export const grouped = (n) => number.format(n);
export const count = (n, one, many) => (n === 1 ? one : many.replace("{n}", grouped(n)));

export function say(text) {
  $("say").textContent = text;
}
