// htmx is the largest script and nothing needs it until the page is touched: then it is loaded, after
// what tells that somebody was signed out, and what was asked of it meanwhile is asked again.
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
    known()?.remove();
    missed = [];
    last?.dispatchEvent(new Event("htmx:sendError", { bubbles: true }));
  }

  const known = () => document.querySelector(`script[src="${form.dataset.htmx}"]`);

  function load() {
    if (coming) return;
    coming = true;
    const begin = async () => {
      await import(form.dataset.signedOut).catch(() => {});
      const script = known() ?? document.createElement("script"); // Find asked for it, or nobody
      if (window.htmx) return there();
      script.addEventListener("load", there);
      script.addEventListener("error", failed);
      if (script.isConnected) return;
      script.src = form.dataset.htmx;
      document.head.append(script);
    };
    // while the page is being loaded, htmx would wait for an event that may be past
    if (document.readyState === "complete") begin();
    else addEventListener("load", begin, { once: true });
  }

  for (const kind of ["focusin", "pointerdown"]) document.addEventListener(kind, load);
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
