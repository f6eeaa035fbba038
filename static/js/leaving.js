// Nothing typed is lost: the draft is loaded once there is something to keep or to give back, and
// whoever leaves with something new is asked. After editor.js, whose rows come first.
"use strict";
(() => {
  const form = document.querySelector("form[data-draft]");
  if (!form) return;

  const draft = () => import(form.dataset.draft);
  document.getElementById("command-card").addEventListener("input", () => {
    form.dataset.typed = "yes";
    draft();
  }, { once: true });
  // a draft that comes after that has nothing to keep
  form.addEventListener("submit", () => delete form.dataset.typed);
  if (history.state?.typed || Object.keys(sessionStorage).some((key) => /^draft /.test(key))) {
    draft();
  }

  const content = document.getElementById("id_content");
  if (!content) return;
  const starts = [...form.querySelectorAll("[data-start]")].map((one) => one.dataset.start.trim());
  const text = () => (starts.includes(content.value.trim()) ? "" : content.value);
  // In the library all is text that somebody may miss; a task's form goes to be sent at once.
  const state = () => (form.id === "run-form" ? text()
    : String(new URLSearchParams(new FormData(form))));
  let safe; // what came or went, or what a draft has
  const look = () => (safe = state());

  form.addEventListener("refill", look);
  form.addEventListener("submit", look);
  addEventListener("pageshow", look);
  addEventListener("beforeunload", (event) => {
    if (state() !== safe) event.preventDefault();
  });
})();
