// The frame of every page: keys that work alone, the list under Find, polling that rests while
// nobody looks. Without it the field leads to a page, and links say Refresh.
"use strict";
(() => {
  const field = document.getElementById("find");
  const form = field?.form;
  const list = document.getElementById("found-quick");

  // ---------- keys that work alone, if the account wants them ----------
  const typing = (target) =>
    target.isContentEditable || target.closest("input, textarea, select, [role=textbox], dialog");
  document.addEventListener("keydown", (event) => {
    if (!("shortcuts" in document.documentElement.dataset) || event.defaultPrevented) return;
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const wanted = [...document.querySelectorAll("[data-key]")]
      .find((one) => one.dataset.key === event.key.toLowerCase() && one.checkVisibility());
    if (!wanted) return;
    event.preventDefault();
    if (wanted.matches("input")) wanted.select();
    wanted.focus();
    if (!wanted.matches("input")) wanted.click();
  });

  // ---------- the list under Find ----------
  let coming = false;
  function load() {
    if (coming || window.htmx) return;
    coming = true;
    const begin = () => {
      const src = form.dataset.htmx;
      const script = document.querySelector(`script[src="${src}"]`) ?? document.createElement("script");
      // what was typed meanwhile; without it Enter still leads to the page
      script.addEventListener("load", () => htmx.trigger(form, "look"));
      script.addEventListener("error", () => ((coming = false), script.remove()));
      if (script.isConnected) return;
      script.src = src;
      document.head.append(script);
    };
    // while the page is being loaded, htmx would wait for an event that may be past
    if (document.readyState === "complete") begin();
    else addEventListener("load", begin, { once: true });
  }
  const links = () => [...list.querySelectorAll("a")];
  const close = () => list.replaceChildren();
  function move(step) {
    const stops = [field, ...links()];
    stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length].focus();
  }
  if (form) {
    field.addEventListener("focus", load);
    form.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "ArrowDown") move(1);
      else if (event.key === "ArrowUp") move(-1);
      else if (event.key === "Escape" && list.children.length) {
        close();
        field.focus();
      } else return;
      event.preventDefault();
    });
    field.addEventListener("input", () => {
      if (!field.value.trim()) close();
    });
    form.addEventListener("htmx:beforeRequest", (event) => {
      if (!field.value.trim()) event.preventDefault();
    });
    form.addEventListener("htmx:beforeSwap", ({ detail }) => { // what somebody chooses from stays
      if (list.contains(document.activeElement)) detail.shouldSwap = false;
    });
    form.addEventListener("htmx:afterSwap", () => {
      const say = list.firstElementChild?.dataset.say ?? "";
      document.getElementById("find-say").textContent = say;
    });
    document.addEventListener("focusin", ({ target }) => {
      if (!form.contains(target)) close();
    });
    document.addEventListener("pointerdown", ({ target }) => {
      if (!form.contains(target)) close();
    });
  }

  // ---------- Back ----------
  // A filter asks again once typing has paused: the same address twice would take two steps back.
  document.addEventListener("htmx:beforeHistoryUpdate", ({ detail: { history: update } }) => {
    if (new URL(update.path, location.href).href === location.href) update.type = "replace";
  });

  // ---------- polling ----------
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.target.matches("[data-poll]")) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", ({ detail }) => { // what is being pressed stays
    const polled = !detail.requestConfig.triggeringEvent;
    if (polled && document.querySelector(":active")) detail.shouldSwap = false;
  });
})();
