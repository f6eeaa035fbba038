// Signed out while the page was open: a bar says so, and the page goes on after a sign-in in
// another tab. The server answers htmx with 401 and the event "signed-out".
"use strict";
(() => {
  const bar = document.getElementById("signed-out");
  if (!bar) return;

  document.addEventListener("signed-out", () => {
    bar.hidden = false;
    bar.scrollIntoView({ block: "nearest" });
  });
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    // The bar says it all: no error of the part of the page that asked.
    if (detail.xhr.getResponseHeader("HX-Trigger") === "signed-out") detail.isError = false;
  });
  document.addEventListener("htmx:afterOnLoad", ({ detail }) => {
    if (detail.xhr.status < 400) bar.hidden = true;
  });
  // Each sign-in changes the token, and the page still holds the one from before.
  document.addEventListener("htmx:configRequest", ({ detail }) => {
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1];
    if (token && detail.formData.has("csrfmiddlewaretoken")) {
      detail.parameters.csrfmiddlewaretoken = token;
    }
  });
})();
