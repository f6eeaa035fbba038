// htmx is the largest script and nothing needs it until the form is touched: then it is loaded, and
// what was asked of it meanwhile is asked again.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  if (!form) return;
  const ASKING = {
    click: "button[hx-get], button[hx-post]",
    input: "#id_q",
    change: "[data-facet], input[hx-get]",
  };
  let missed = []; // what happened before it was there: the kind of event, and where
  let coming = false;

  function there() {
    for (const [kind, target] of missed) {
      if (kind === "click") target.click();
      else target.dispatchEvent(new Event(kind, { bubbles: true }));
    }
    missed = [];
  }

  function failed() {
    const last = missed.at(-1)?.[1];
    coming = false;
    missed = [];
    last?.dispatchEvent(new Event("htmx:sendError", { bubbles: true }));
  }

  function load() {
    if (coming) return;
    coming = true;
    const script = document.createElement("script");
    Object.assign(script, { src: form.dataset.htmx, onload: there, onerror: failed });
    const begin = () => document.head.append(script);
    // while the page is being loaded, htmx would wait for an event that may be past
    if (document.readyState === "complete") begin();
    else addEventListener("load", begin);
  }

  for (const kind of ["focusin", "pointerdown"]) form.addEventListener(kind, load);
  for (const [kind, selector] of Object.entries(ASKING)) {
    form.addEventListener(kind, (event) => {
      const target = event.target.closest(selector);
      if (window.htmx || !target) return;
      if (kind === "click") {
        event.preventDefault();
        event.stopImmediatePropagation();
      }
      missed = [...missed.filter((one) => one[1] !== target), [kind, target]];
      load();
    }, true);
  }
})();
