// A command's fields, in the wizard and the library: paints the text, counts bytes, keeps a row for
// each parameter. Tells the form "edited"; "refill" asks to look again. The server decides.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.(".esum a[href^='#']");
    const target = link && $(link.hash.slice(1));
    if (!target) return;
    event.preventDefault();
    for (let fold = target; (fold = fold.parentElement?.closest("details")); ) fold.open = true;
    const radio = target.matches(".seg") && target.querySelector(":checked, input");
    (radio || target).focus();
    target.scrollIntoView({ block: "center" });
  });

  const area = $("parameters");

  function mask(row) {
    const field = row.querySelector("[name^=param-]");
    if (field?.tagName !== "INPUT") return; // what may be chosen is no secret
    field.type = row.querySelector("[data-hide]").checked ? "password" : "text";
  }

  area?.addEventListener("change", ({ target }) => {
    if ("hide" in target.dataset) mask(target.closest(".param"));
  });

  const content = $("id_content");
  if (!content) return;
  const { form } = content;

  // as commands.rules.grammar.scan
  const editor = $("editor");
  const { placeholder, name: word, whiteSpace: space, sensitive, nameBytes } = editor.dataset;
  const PLACEHOLDER = new RegExp(placeholder, "g");
  const NAME = new RegExp(`^${word}$`);
  const EDGES = new RegExp(`^[${space}]+|[${space}]+$`, "g");
  const BUILTIN = new RegExp(`^acs[${space}]*::[${space}]*(.*)$`, "is");
  const SECRET = new RegExp(sensitive, "i");
  const builtin = new Map(
    editor.dataset.builtins.split(" ").map((name) => [name.toLowerCase(), `ACS::${name}`]));

  function scan(text) {
    const parameters = new Map(); // name and number of uses, by key
    const builtins = new Set();
    const marks = [...text.matchAll(PLACEHOLDER)].map((match) => {
      const name = match[1].replace(EDGES, "");
      const own = BUILTIN.exec(name);
      const filled = own && builtin.get(own[1].toLowerCase());
      const valid = !own && NAME.test(name) && name.length <= nameBytes;
      const key = name.toLowerCase();
      const first = parameters.get(key) ?? { name, uses: 0 };
      if (valid) parameters.set(key, { ...first, uses: first.uses + 1 });
      if (filled) builtins.add(filled);
      const kind = valid ? "k" : filled ? "k own" : "k wrong";
      return { kind, from: match.index, to: match.index + match[0].length };
    });
    return { parameters, builtins, marks, any: parameters.size + builtins.size > 0 };
  }

  const paper = editor.querySelector("pre");
  const foot = $("content-size");
  const limit = Number(foot.dataset.limit);
  const room = foot.querySelector("[data-room]");
  const toggle = $("id_use_params");
  const encoder = new TextEncoder();

  function paint() {
    const text = content.value;
    const marks = toggle.checked ? scan(text).marks : [];
    let [at, next] = [0, 0];
    paper.replaceChildren(...text.split("\n").map((line) => {
      const row = document.createElement("i");
      if (/^\s*#/.test(line)) row.className = "com";
      const end = at + line.length;
      for (let mark; (mark = marks[next]) && mark.from < end; next++) {
        const chip = document.createElement("b");
        chip.className = mark.kind;
        chip.textContent = text.slice(Math.max(mark.from, at), Math.min(mark.to, end));
        row.append(text.slice(at, Math.max(mark.from, at)), chip);
        at = Math.min(mark.to, end);
        if (mark.to > end) break; // it goes on in the next line
      }
      row.append(text.slice(at, end));
      at = end + 1;
      return row;
    }));
    measure(encoder.encode(text).length);
  }

  function measure(raw) {
    const size = Math.ceil(raw / 3) * 4;
    const level = size > limit ? "over" : size >= limit * 0.8 ? "warn" : "";
    const meter = foot.querySelector("progress");
    const { near, over } = $("size-said").dataset;
    if (foot.dataset.level !== undefined && foot.dataset.level !== level) {
      $("size-said").textContent = { over, warn: near }[level] ?? "";
    }
    meter.value = size;
    meter.dataset.level = foot.dataset.level = level;
    foot.querySelector("[data-size]").textContent = number.format(size);
    room.textContent = level === "over"
      ? fill(room.dataset.over, { n: number.format(size - limit) })
      : fill(room.dataset.room, { n: number.format((limit / 4) * 3 - raw) });
  }

  const rows = $("parameter-rows");
  const said = $("parameters-said");
  const leaving = new Map(); // timers, by row

  function make(template, key, name) {
    const made = document.createElement("template");
    made.innerHTML = $(template).innerHTML
      .replace(/__(key|name)__/g, (_, what) => (what === "key" ? key : name));
    return made.content.firstElementChild;
  }

  function add(key, name) {
    const row = make("parameter-template", key, name);
    row.querySelector("[data-hide]").checked = SECRET.test(name);
    recall(row, key);
    mask(row);
    return row;
  }

  // What was typed before parameters were switched off came back with the page.
  function recall(row, key) {
    const old = new Map([...area.querySelectorAll("[data-carried]")].map((one) => [one.name, one]));
    const seen = old.has(`seen-${key}`);
    for (const field of row.querySelectorAll("[name]")) {
      const from = old.get(field.name);
      if (field.type === "checkbox") field.checked = seen ? Boolean(from) : field.checked;
      else if (from) field.value = from.value;
      from?.remove();
    }
  }

  function keep(row, kept) {
    row.classList.toggle("gone", !kept);
    for (const field of row.querySelectorAll("[name]")) field.disabled = !kept;
    clearTimeout(leaving.get(row));
    leaving.delete(row);
  }

  function leave(row) {
    keep(row, false);
    row.querySelector(".uses").textContent = rows.dataset.gone;
    leaving.set(row, setTimeout(() => row.remove(), 30000));
  }

  function update(parameters, quiet) {
    const changes = [];
    const say = (text, name) => changes.push(fill(text, { name }));
    for (const row of [...rows.children]) {
      if (parameters.has(row.dataset.key) || leaving.has(row)) continue;
      if (quiet) row.remove();
      else leave(row);
      say(said.dataset.gone, nameOf(row));
    }
    let place = rows.firstElementChild;
    for (const [key, { name, uses }] of parameters) {
      let row = rows.querySelector(`[data-key="${key}"]`);
      if (!row || leaving.has(row)) say(said.dataset.added, name);
      row ??= add(key, name);
      if (leaving.has(row)) keep(row, true);
      const old = nameOf(row);
      for (const part of row.querySelectorAll(".k, summary")) {
        if (old !== name) part.textContent = part.textContent.replace(old, name);
      }
      row.querySelector(".uses").textContent = fill(rows.dataset.uses, { n: number.format(uses) });
      while (leaving.has(place)) place = place.nextElementSibling;
      if (row === place) place = place.nextElementSibling;
      else rows.insertBefore(row, place);
    }
    if (!quiet && changes.length) said.textContent = changes.join(". ");
  }

  const nameOf = (row) => row.querySelector(".k").textContent.slice(2, -2);

  function sync(quiet) {
    const on = toggle.checked;
    const found = scan(on ? content.value : "");
    area.toggleAttribute("data-off", !on);
    if (on || quiet) { // rows that are switched off wait with their values
      update(found.parameters, quiet);
      $("builtin-rows").replaceChildren(
        ...[...found.builtins].map((name) => make("builtin-template", "", name)));
    }
    area.querySelector("[data-count]").textContent = number.format(found.parameters.size);
    const nothing = area.querySelector(".nothing");
    nothing.hidden = found.any || leaving.size > 0;
    nothing.textContent = on ? nothing.dataset.noneText : nothing.dataset.offText;
    form.dispatchEvent(new Event("edited"));
  }

  const note = $("params-note");
  let may = true;
  let idle;

  function turn(on) {
    may = false;
    toggle.checked = on;
    note.replaceChildren();
    paint();
    sync();
  }

  function offer() {
    turn(true);
    const text = document.createElement("p");
    const undo = document.createElement("button");
    Object.assign(undo, { type: "button", className: "undo", textContent: note.dataset.undo });
    undo.addEventListener("click", () => {
      turn(false);
      content.focus();
    });
    text.append(note.dataset.text, " ", undo);
    note.append(text);
  }

  function settle() {
    clearTimeout(idle);
    idle = 0;
    const first = may && !toggle.checked && scan(content.value).any;
    if (first) offer();
    else sync();
    return first;
  }

  toggle.addEventListener("change", () => turn(toggle.checked));
  content.addEventListener("input", () => {
    paint();
    clearTimeout(idle);
    idle = setTimeout(settle, 150);
  });
  // Who sends the form within that moment must not run the braces as they stand.
  form.addEventListener("submit", (event) => {
    if (!idle || !settle()) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    rows.querySelector("input")?.focus();
  }, true);

  content.addEventListener("keydown", (event) => {
    const { key, ctrlKey, altKey, metaKey } = event;
    if (!ctrlKey || altKey || metaKey || (key !== "[" && key !== "]")) return;
    event.preventDefault();
    const { value, selectionStart: from, selectionEnd: to } = content;
    const start = from && value.lastIndexOf("\n", from - 1) + 1;
    const stop = value.indexOf("\n", Math.max(from, to - 1));
    const old = value.slice(start, stop < 0 ? value.length : stop);
    const fresh = key === "["
      ? old.replace(/^(\t| {1,4})/gm, "") : old.replace(/\n/.test(old) ? /^(?=.)/gm : /^/, "    ");
    if (fresh === old) return;
    content.setSelectionRange(start, start + old.length);
    // the one way that Undo knows of
    document.execCommand(fresh ? "insertText" : "delete", false, fresh);
    const more = fresh.length - old.length;
    if (from === to) content.setSelectionRange(...Array(2).fill(Math.max(start, from + more)));
    else content.setSelectionRange(start, start + fresh.length);
  });

  const about = $("id_description");
  const count = $("description-count");

  function counted() {
    const n = [...about.value].length;
    const { most, text } = count.dataset;
    count.hidden = n < 400;
    count.textContent = fill(text, { n: number.format(n), most: number.format(most) });
    count.dataset.level = n > most ? "over" : "";
  }

  about.addEventListener("input", counted);

  function look() {
    if (scan(content.value).any) may = false; // whoever wrote these has decided already
    paint();
    sync(true);
    for (const row of rows.children) mask(row);
    counted();
  }

  // What a command begins with is another for another type, until somebody writes on.
  form.addEventListener("change", ({ target }) => {
    const types = [...form.querySelectorAll("[name=type][data-start]")];
    const bare = content.value.trim();
    if (!types.includes(target) || !types.some((one) => one.dataset.start.trim() === bare)) return;
    content.value = target.dataset.start;
    paint();
    sync();
  });

  paint();
  editor.classList.add("painted");
  // what was written before this script had come
  const way = performance.getEntriesByType("navigation")[0]?.type;
  if (way === "navigate" && content.value !== content.defaultValue) settle();
  form.addEventListener("refill", look);
  addEventListener("pageshow", () => {
    look();
    for (const row of rows.children) mask(row);
  });
})();
