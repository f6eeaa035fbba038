// The library: copying, selecting all, asking in a dialog before deleting, saying what was found.
// Every page works without it: the dialog is a page of its own then.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const say = (text) => {
    if ($("say")) $("say").textContent = text;
  };

  $("errors")?.focus();

  const copy = document.querySelector("[data-copy]");
  if (copy && navigator.clipboard) { // there is none on plain HTTP
    copy.hidden = false;
    const word = copy.querySelector("span");
    const idle = word.textContent;
    copy.addEventListener("click", async () => {
      const lines = [...document.querySelector(copy.dataset.copy).children];
      const text = lines.map((line) => line.textContent).join("\n");
      const { copied, failed } = copy.dataset;
      word.textContent = await navigator.clipboard.writeText(text).then(() => copied, () => failed);
      say(word.textContent);
      setTimeout(() => (word.textContent = idle), 2000);
    });
  }

  // ---------- selecting ----------
  const ticks = () => [...document.querySelectorAll("[name=uid][form=bulk]")];
  document.addEventListener("change", ({ target }) => {
    if (target.id === "tick-all") for (const tick of ticks()) tick.checked = target.checked;
    const all = $("tick-all");
    if (!all) return;
    const number = ticks().filter((tick) => tick.checked).length;
    all.checked = number > 0 && number === ticks().length;
    all.indeterminate = number > 0 && number < ticks().length;
  });
  if ($("tick-all")?.checked) { // before this script was there to act on it
    $("tick-all").dispatchEvent(new Event("change", { bubbles: true }));
  }

  // ---------- asking ----------
  const ask = $("ask");
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.id !== "bulk" || ticks().some((tick) => tick.checked)) return;
    event.preventDefault();
    say("");
    requestAnimationFrame(() => say(document.querySelector(".bulk").dataset.none));
    ticks()[0]?.focus();
  });
  document.addEventListener("htmx:afterSettle", ({ target }) => {
    if (target.id === "asked") ask.showModal();
    if (target.id === "results") say($("found").textContent);
  });
  document.addEventListener("htmx:responseError", ({ detail }) => {
    if (detail.requestConfig.verb !== "get") location.reload();
    else location.assign(detail.pathInfo.finalRequestPath); // that page says what is wrong
  });
  ask?.addEventListener("click", (event) => {
    if (!event.target.closest("[data-close]")) return;
    event.preventDefault();
    ask.close();
  });
})();
