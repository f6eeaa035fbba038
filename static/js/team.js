// The team portal: what is wrong or new gets the focus, and links can be copied.
// Every page works without it.
"use strict";
(() => {
  (document.getElementById("errors") ?? document.getElementById("given"))?.focus();

  if (!navigator.clipboard) return; // there is none on plain HTTP
  for (const button of document.querySelectorAll("[data-copies]")) {
    button.hidden = false;
    const { copies, copied, failed } = button.dataset;
    const word = button.querySelector("span");
    const idle = word.textContent;
    button.addEventListener("click", async () => {
      const text = document.querySelector(copies).textContent;
      word.textContent = await navigator.clipboard.writeText(text).then(() => copied, () => failed);
      document.getElementById("say").textContent = word.textContent;
      setTimeout(() => (word.textContent = idle), 2000);
    });
  }
})();
