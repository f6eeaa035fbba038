// Create or run a command: paints the editor, counts bytes, raises short timeouts,
// counts instances, keeps the review in step, and submits once. The form works without it.
// What the browser fills in again after Back is painted and counted anew (pageshow).
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

  $("errors")?.focus();
  if (!form) return;

  const [name, content, workdir, timeout] =
    ["id_name", "id_content", "id_workdir", "id_timeout"].map($);
  const boxes = [...form.querySelectorAll("[name=instances]:enabled")];
  const all = $("pick-all");

  function review(id, main, small) {
    const [first, second] = $(id).children;
    first.textContent = main;
    if (second) second.textContent = small || "";
  }

  // ---------- the editor and its meter ----------
  const editor = $("editor");
  const paper = editor.querySelector("pre");
  const foot = $("content-size");
  const limit = Number(foot.dataset.limit);
  const room = foot.querySelector("[data-room]");
  const encoder = new TextEncoder();

  function paint() {
    const lines = content.value.split("\n");
    paper.replaceChildren(...lines.map((line) => {
      const row = document.createElement("i");
      row.textContent = line;
      if (/^\s*#/.test(line)) row.className = "com";
      return row;
    }));
    const raw = encoder.encode(content.value).length;
    const size = Math.ceil(raw / 3) * 4;
    const level = size > limit ? "over" : size >= limit * 0.8 ? "warn" : "";
    const meter = foot.querySelector("progress");
    meter.value = size;
    meter.dataset.level = foot.dataset.level = level;
    foot.querySelector("[data-size]").textContent = number.format(size);
    room.textContent = level === "over"
      ? fill(room.dataset.over, { n: number.format(size - limit) })
      : fill(room.dataset.room, { n: number.format((limit / 4) * 3 - raw) });
    const about = $("r-name").dataset;
    const count = content.value.replace(/\n+$/, "").split("\n").length;
    const type = form.querySelector("[name=type]:checked").dataset.word;
    const facts = { type, lines: number.format(count), bytes: number.format(raw) };
    review("r-name", name.value.trim() || about.empty,
      raw ? fill(count === 1 ? about.sizeOne : about.size, facts) : type);
  }

  paint();
  editor.classList.add("painted");
  content.addEventListener("input", paint);
  name.addEventListener("input", paint);

  // ---------- path and timeout ----------
  function path() {
    const { empty, default: word } = $("r-workdir").dataset;
    review("r-workdir", workdir.value.trim() || empty, workdir.value.trim() ? "" : word);
  }

  const note = $("timeout-note");

  // The note is written, unseen, while people type: showing it on the way to another field must
  // not move what they are about to press.
  function seconds(raised) {
    const asked = timeout.value.trim();
    const least = Number(timeout.dataset.min);
    const short = /^-?\d+$/.test(asked) && Number(asked) < least;
    note.querySelector("span").textContent =
      fill(note.dataset.text, { from: short ? asked : 0, to: least });
    if (short && raised) timeout.value = least;
    note.parentElement.classList.toggle("raised", short && raised);
    review("r-timeout", fill($("r-timeout").dataset.text, { n: timeout.value.trim() || "–" }));
  }

  const raise = () => seconds(true);

  workdir.addEventListener("input", path);
  timeout.addEventListener("input", () => seconds(false));
  timeout.addEventListener("change", raise);
  timeout.addEventListener("keydown", (event) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!way || !/^\d+$/.test(timeout.value)) return;
    event.preventDefault();
    const next = Number(timeout.value) + way * (event.shiftKey ? 10 : 1);
    timeout.value = Math.min(Math.max(next, timeout.dataset.min), timeout.dataset.max);
    raise();
  });

  // ---------- instances ----------
  function count() {
    const picked = boxes.filter((box) => box.checked);
    for (const place of form.querySelectorAll("[data-picked]")) {
      place.textContent = number.format(picked.length);
    }
    const words = $("r-instances").dataset;
    const names = picked.map((box) => box.dataset.name);
    const few = names.slice(0, 4).join(", ");
    review("r-instances",
      names.length === 0 ? words.empty
        : names.length === 1 ? words.one : fill(words.many, { n: number.format(names.length) }),
      names.length > 4 ? fill(words.more, { names: few, n: number.format(names.length - 4) }) : few);
    if (!all) return;
    all.checked = picked.length > 0 && picked.length === boxes.length;
    all.indeterminate = picked.length > 0 && !all.checked;
    all.disabled = boxes.length === 0;
    const bar = form.querySelector(".selbar");
    const most = Number(bar.dataset.limit);
    const over = picked.length > most;
    const meter = bar.querySelector("progress");
    meter.value = picked.length;
    meter.dataset.level = over ? "over" : "";
    if (picked.length > 0 && bar.hasAttribute("data-wrong")) {
      bar.removeAttribute("data-wrong");
      $("e-instances").hidden = true;
    }
    bar.querySelector("[data-clear]").classList.toggle("off", picked.length === 0);
    bar.querySelector(".over").textContent =
      over ? fill($("picked").dataset.over, { n: number.format(most) }) : "";
  }

  let last = null;
  form.addEventListener("click", (event) => {
    const here = boxes.indexOf(event.target);
    if (here >= 0) {
      if (event.shiftKey && last !== null) {
        const [from, to] = [Math.min(here, last), Math.max(here, last)];
        for (const box of boxes.slice(from, to + 1)) box.checked = event.target.checked;
      }
      last = here;
      count();
    } else if (event.target === all || event.target.closest("[data-clear]")) {
      for (const box of boxes) box.checked = event.target === all && all.checked;
      count();
      if (event.target !== all) all.focus();
    }
  });

  // ---------- sending ----------
  const create = $("create");
  const late = form.querySelector(".late");
  const word = create.firstElementChild;
  const idle = word.textContent;
  let timer;

  function ready() {
    clearTimeout(timer);
    create.removeAttribute("aria-disabled");
    word.textContent = idle;
  }

  form.addEventListener("submit", (event) => {
    if (create.hasAttribute("aria-disabled")) return event.preventDefault();
    raise();
    // a sign-in in another tab has changed the token since this page was made
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
    if (token) form.elements.csrfmiddlewaretoken.value = token[1];
    if (event.submitter?.name === "action") return; // asks for more fields, creates nothing
    create.setAttribute("aria-disabled", "true");
    word.textContent = create.dataset.busy;
    late.textContent = "";
    timer = setTimeout(() => {
      ready();
      late.textContent = late.dataset.text;
    }, 10000);
  });
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit(create);
  });
  if (/Mac|iP/.test(navigator.platform)) create.querySelector("kbd").textContent = "⌘ ↵";

  addEventListener("pageshow", () => {
    ready();
    paint();
    path();
    raise();
    count();
  });
})();
