// Finding a saved command by typing a part of its name or description. The select stays the
// form's control; this sets it.
"use strict";
(() => {
  const select = document.querySelector("select[name=command]");
  if (!select) return;
  const make = (tag, properties, attributes) => {
    const made = Object.assign(document.createElement(tag), properties);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const copied = ["aria-invalid", "aria-describedby"].filter((name) => select.hasAttribute(name))
    .map((name) => [name, select.getAttribute(name)]);
  const label = select.labels[0];
  label.id = "command-label";
  const list = make("ul", { id: "command-list", hidden: true },
    { role: "listbox", "aria-labelledby": label.id });
  const input = make("input",
    { className: "in", id: select.id, autocomplete: "off", spellcheck: false,
      placeholder: select.dataset.find },
    { role: "combobox", "aria-autocomplete": "list", "aria-controls": list.id,
      "aria-expanded": "false", ...Object.fromEntries(copied) });
  const wrap = make("div", { className: "combo" }, {});
  const commands = [...select.options].filter((option) => option.value).map((option) => ({
    value: option.value,
    name: option.text,
    about: option.dataset.about,
    words: `${option.text} ${option.dataset.about}`.toLowerCase(),
  }));
  let active = null;

  const current = () => (select.value ? select.selectedOptions[0].text : "");
  const choices = () => [...list.querySelectorAll("[data-value]")];

  function activate(item) {
    active?.setAttribute("aria-selected", "false");
    active = item ?? null;
    active?.setAttribute("aria-selected", "true");
    active?.scrollIntoView({ block: "nearest" });
    if (active) input.setAttribute("aria-activedescendant", active.id);
    else input.removeAttribute("aria-activedescendant");
  }

  function show(text) {
    const words = text.toLowerCase().split(/\s+/);
    const found = commands.filter((one) => words.every((word) => one.words.includes(word)));
    list.replaceChildren(...found.map((one, place) => {
      const item = make("li", { id: `command-${place}`, textContent: one.name },
        { role: "option", "aria-selected": "false", "data-value": one.value });
      if (one.about) item.append(make("small", { textContent: one.about }, {}));
      return item;
    }));
    if (!found.length) {
      list.append(make("li", { textContent: select.dataset.none },
        { role: "option", "aria-disabled": "true", "aria-selected": "false" }));
    }
    activate();
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    activate();
  }

  function choose(item) {
    const before = select.value;
    select.value = item.dataset.value;
    input.value = current();
    close();
    if (select.value !== before) select.dispatchEvent(new Event("change", { bubbles: true }));
  }

  function move(way) {
    if (list.hidden) show(input.value === current() ? "" : input.value);
    const all = choices();
    const place = all.indexOf(active) + way;
    activate(all.at(place < -1 ? -1 : place % (all.length || 1)));
  }

  input.addEventListener("input", () => show(input.value));
  input.addEventListener("click", () => list.hidden && show(""));
  input.addEventListener("focus", () => input.select());
  input.addEventListener("blur", () => {
    close();
    input.value = current();
  });
  input.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return;
    const way = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (way) move(way);
    else if (event.key === "Enter") { // it would create the task
      const all = list.hidden ? [] : choices();
      const typed = input.value.trim().toLowerCase();
      const item = active ?? (all.length === 1 ? all[0]
        : all.find((one) => one.firstChild.data.toLowerCase().replace(/^★ /, "") === typed));
      if (item) choose(item);
    } else if (event.key === "Escape") {
      if (list.hidden) input.value = "";
      close();
    } else return;
    event.preventDefault();
  });
  list.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
  list.addEventListener("click", ({ target }) => {
    const item = target.closest("[data-value]");
    if (item) choose(item);
  });

  select.removeAttribute("id");
  select.hidden = true;
  input.value = current();
  select.before(wrap);
  wrap.append(input, list, select);
  addEventListener("pageshow", () => {
    if (list.hidden) input.value = current(); // else somebody types already
  });
})();
