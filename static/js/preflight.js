// Looking at instances before a task is created: says how many, goes on with those that pass, and
// tells when the form is no longer the one that was looked at.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const says = document.getElementById("preflight-says");
  if (!says) return;

  const panel = () => document.getElementById("preflight");
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const words = (text) => (text ?? "").split(" ").filter(Boolean);
  const DECIDES = /^(type|source|command|content|workdir|run_as|launcher|use_params|param-.*)$/;
  let chosen = []; // pairs of an id and what picker.js knows of it
  let changed = false; // something that was looked at

  function label() {
    const button = document.getElementById("check");
    const again = "asked" in panel().dataset;
    const { one, many, againOne, againMany, none } = button.dataset;
    const n = chosen.length;
    button.textContent = n === 0 ? none
      : n === 1 ? (again ? againOne : one)
        : (again ? againMany : many).replace("{n}", number.format(n));
    button.disabled = n === 0;
  }

  function stale() {
    const note = panel().querySelector(".stale");
    if (!note) return;
    const known = new Set(words(panel().dataset.all));
    note.hidden = !changed && chosen.every(([id]) => known.has(id));
  }

  function show() {
    label();
    stale();
  }

  form.addEventListener("picked", ({ detail }) => {
    chosen = detail.chosen;
    show();
  });

  for (const kind of ["input", "change"]) {
    form.addEventListener(kind, ({ target }) => {
      if (!DECIDES.test(target.name)) return;
      changed = true;
      stale();
    });
  }

  // What passes stays selected; picker.js shows it.
  function keep(button) {
    const failed = new Set(words(panel().dataset.failed));
    const passing = chosen.filter(([id]) => !failed.has(id));
    says.textContent = button.dataset.done;
    button.remove();
    form.dispatchEvent(new CustomEvent("pick", { detail: passing }));
    document.getElementById("create").focus();
  }

  form.addEventListener("click", (event) => {
    const button = event.target.closest("#check-keep");
    if (!button) return;
    event.preventDefault();
    keep(button);
  });

  const ours = (event) => event.target.closest?.("#preflight");

  form.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id === "check") changed = false;
  });
  form.addEventListener("htmx:afterSwap", (event) => {
    if (event.target.id !== "preflight" && !ours(event)) return;
    show();
    const told = document.getElementById("preflight-sum");
    if (told && !("active" in panel().dataset)) says.textContent = told.textContent;
  });
  for (const trouble of ["responseError", "sendError", "timeout"]) {
    form.addEventListener(`htmx:${trouble}`, (event) => {
      if (ours(event)) document.getElementById("preflight-lost").hidden = false;
    });
  }
})();
