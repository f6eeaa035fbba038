// The table of what a file means: counts what is ticked, and shows host keys once they were read.
"use strict";
(() => {
  const form = document.getElementById("import-form");
  document.getElementById("errors")?.focus();
  if (!form) return;

  const number = new Intl.NumberFormat(document.documentElement.lang);
  const boxes = [...form.querySelectorAll("tbody [name=rows]")];
  const all = document.getElementById("pick-all");
  const button = document.getElementById("import");

  function show() {
    const ticked = boxes.filter((box) => box.checked);
    const ready = ticked.filter((box) => !("keyless" in box.dataset)).length;
    all.disabled = boxes.length === 0;
    all.checked = boxes.length > 0 && ticked.length === boxes.length;
    all.indeterminate = ticked.length > 0 && !all.checked;
    if (!button) return;
    const { none, one, many } = button.dataset;
    button.setAttribute("aria-disabled", ready === 0);
    button.textContent = ready === 0 ? none
      : ready === 1 ? one : many.replace("{n}", number.format(ready));
  }

  all.addEventListener("click", () => {
    for (const box of boxes) box.checked = all.checked;
    show();
  });
  form.addEventListener("change", show);

  let sent = false;
  form.addEventListener("submit", (event) => {
    const idle = event.submitter?.getAttribute("aria-disabled") === "true";
    if (sent || idle) return event.preventDefault();
    sent = true;
  });

  // All hosts have answered: what is ticked goes along, so that nothing is lost.
  form.addEventListener("htmx:afterSwap", () => {
    if (document.querySelector("#reading[data-done]") && !sent) {
      form.requestSubmit(form.querySelector("[name=action][value=choose]"));
    }
  });

  addEventListener("pageshow", () => {
    sent = false;
    show();
  });
})();
