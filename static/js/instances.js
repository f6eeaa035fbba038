// Instances: copying, tags as chips, saying what was found, showing that something is waited for.
// Every page works without it.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const say = (text) => {
    if ($("say")) $("say").textContent = text;
  };

  $("errors")?.focus();
  if (!document.querySelector("#errors") && $("host-key")) $("host-key").scrollIntoView();

  // ---------- copying ----------
  if (!navigator.clipboard) document.documentElement.classList.add("no-clipboard"); // plain HTTP
  document.addEventListener("click", async ({ target }) => {
    const button = target.closest("[data-copies]");
    if (!button || !navigator.clipboard) return;
    const { copies, copied, failed } = button.dataset;
    const word = button.querySelector("span");
    const idle = word.dataset.idle ?? word.textContent;
    word.dataset.idle = idle;
    const text = document.querySelector(copies).textContent;
    word.textContent = await navigator.clipboard.writeText(text).then(() => copied, () => failed);
    say(word.textContent);
    setTimeout(() => (word.textContent = idle), 2000);
  });

  // ---------- tags ----------
  function addChip(field) {
    const chips = field.closest("fieldset").querySelector("[data-chips]");
    const known = [...chips.querySelectorAll("input")].map((input) => input.value);
    for (const word of field.value.split(",").map((part) => part.trim()).filter(Boolean)) {
      if (known.includes(word)) continue;
      const label = document.createElement("label");
      const input = document.createElement("input");
      Object.assign(input, { type: "checkbox", name: "tag", value: word, checked: true });
      label.className = "chip-tag";
      label.append(input, word);
      chips.append(label);
    }
    field.value = "";
  }
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    if (target.id !== "id_tags" || event.isComposing) return;
    if ((key === "Enter" || key === ",") && target.value.trim()) {
      event.preventDefault();
      addChip(target);
    }
  });

  // ---------- the name that an empty field stands for ----------
  const host = $("id_host");
  const name = $("id_name");
  host?.addEventListener("input", () => {
    const text = host.value.trim();
    name.placeholder = /[a-z]/i.test(text) && !text.includes(":") ? text.split(".")[0] : text;
  });

  // ---------- waiting ----------
  document.addEventListener("submit", ({ target }) => {
    if (target.matches("[data-busy]")) target.setAttribute("aria-busy", "true");
  });
  addEventListener("pageshow", () => { // also from the browser's cache, after Back
    for (const form of document.querySelectorAll("[data-busy][aria-busy]")) {
      form.removeAttribute("aria-busy");
    }
  });

  // ---------- the list ----------
  document.addEventListener("change", ({ target }) => {
    const menu = target.closest(".tags");
    if (!menu) return;
    const number = menu.querySelectorAll(":checked").length;
    menu.querySelector("[data-tags]").textContent = number || "";
  });
  document.addEventListener("htmx:afterSettle", ({ target }) => {
    if (target.id === "results") say($("found").textContent);
  });
  document.addEventListener("htmx:beforeRequest", (event) => {
    // A page that nobody looks at asks for nothing by itself.
    if (event.target.matches("#presence, .asks") && document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:responseError", ({ detail }) => {
    if (detail.requestConfig.verb !== "get") location.reload();
  });
})();
