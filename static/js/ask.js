// Asks in a dialog before a task is stopped or goes on. Without it that is a page of its own.
"use strict";
(() => {
  const ask = document.getElementById("ask");
  document.addEventListener("htmx:afterSettle", ({ target }) => {
    if (target.id === "asked" && !ask.open) ask.showModal();
  });
  // Whatever went wrong, the page itself says it.
  document.addEventListener("htmx:responseError", ({ detail }) => {
    if (detail.target?.id === "asked") location.assign(detail.pathInfo.finalRequestPath);
  });
  ask.addEventListener("click", (event) => {
    if (!event.target.closest("[data-close]")) return;
    event.preventDefault();
    ask.close();
  });
})();
