// Create or run a command: keeps the review in step, raises short timeouts, submits once.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const $ = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => values[key]);

  ($("errors") ?? $("preview"))?.focus();
  if (!form) return;

  const { name, content, workdir, timeout, save, client_token } = form.elements;
  const asked = form.elements.timeout_asked;

  function review(id, main, ...small) {
    const [first, second] = $(id).children;
    first.textContent = main;
    if (second) second.textContent = small.filter(Boolean).join(" · ");
  }

  const encoder = new TextEncoder();

  function command() {
    const words = $("r-name").dataset;
    const saved = $("saved-name");
    if (!content && !saved) return review("r-name", words.empty);
    const raw = content?.value ?? "";
    const lines = saved ? $("saved-content").childElementCount
      : raw.replace(/\n+$/, "").split("\n").length;
    const type = saved?.dataset.type ?? form.querySelector("[name=type]:checked")?.dataset.word;
    const bytes = number.format(encoder.encode(raw).length);
    const size = fill(lines === 1 ? words.sizeOne : words.size,
      { type, lines: number.format(lines), bytes });
    const title = (saved?.textContent ?? name.value).trim();
    review("r-name", title || words.empty, raw || saved ? size : type);
  }

  const empty = (row) =>
    ![...row.querySelectorAll("[name^=param-], [name^=kept-], [name^=about-default-]")]
      .some((field) => field.value);

  function parameters() {
    const on = document.querySelector("#parameters:not([data-off])");
    const rows = on ? [...on.querySelectorAll("[data-key]:not(.gone)")] : [];
    const builtin = on ? $("builtin-rows").childElementCount : 0;
    const words = $("r-params").dataset;
    const some = (n, text) => n > 0 && fill(text, { n: number.format(n) });
    const open = rows.filter(empty);
    const main = [some(rows.length - open.length, words.filled), some(open.length, words.empty)];
    const hidden = rows.filter((row) => row.querySelector("[data-hide]").checked).length;
    $("r-params-row").hidden = rows.length + builtin === 0;
    review("r-params", main.filter(Boolean).join(", "),
      open.map((row) => row.querySelector(".k").textContent.slice(2, -2)).join(", "),
      some(hidden, words.hidden), some(builtin, words.builtin));
  }

  function path() {
    const { empty: none, default: word } = $("r-workdir").dataset;
    const typed = workdir?.value.trim();
    review("r-workdir", typed || none, !typed && word);
  }

  function pace() {
    const set = [...form.querySelectorAll(".f > [data-pace]")].filter(({ value }) => value.trim());
    $("r-pace").parentElement.hidden = !set.length;
    review("r-pace", set.map((field) => fill(
      field.selectedOptions?.[0].dataset.pace ?? field.dataset.pace, { n: field.value.trim() },
    )).join(", "));
  }

  function quota() {
    const only = $("save-only");
    if (only) only.hidden = !save?.checked;
    const { used, limit, text, same } = $("q-saved").dataset;
    if (Number(used) >= Number(limit)) return;
    const [now, next, most] = [used, Number(used) + 1, limit].map((n) => number.format(n));
    $("q-saved").querySelector("b").textContent =
      fill(save?.checked ? text : same, { used: now, next, limit: most });
  }

  // The note is written, unseen, while people type: it must not move what they press next.
  function seconds(leaves) {
    if (!timeout) return;
    const note = $("timeout-note");
    const typed = timeout.value.trim();
    const least = Number(timeout.dataset.min);
    const short = /^-?\d+$/.test(typed) && Number(typed) < least;
    if (short && leaves) {
      asked.value = typed; // for the task to tell
      timeout.value = least;
    }
    const raised = asked.value !== "" && Number(timeout.value) === least;
    note.querySelector("span").textContent =
      fill(note.dataset.text, { from: short ? typed : asked.value || 0, to: number.format(least) });
    note.parentElement.classList.toggle("raised", raised);
    review("r-timeout", fill($("r-timeout").dataset.text, { n: timeout.value.trim() || "–" }));
  }

  const raise = () => seconds(true);

  timeout?.addEventListener("input", () => {
    asked.value = "";
    seconds(false);
  });
  timeout?.addEventListener("change", raise);
  timeout?.addEventListener("keydown", (event) => {
    const way = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!way || !/^\d+$/.test(timeout.value)) return;
    event.preventDefault();
    const next = Number(timeout.value) + way * (event.shiftKey ? 10 : 1);
    timeout.value = Math.min(Math.max(next, timeout.dataset.min), timeout.dataset.max);
    asked.value = "";
    raise();
  });

  // from the picker
  form.addEventListener("picked", ({ detail: { count, names } }) => {
    for (const place of form.querySelectorAll("[data-picked]")) {
      place.textContent = number.format(count);
    }
    const words = $("r-instances").dataset;
    const few = names.join(", ");
    review("r-instances",
      count === 0 ? words.empty
        : count === 1 ? words.one : fill(words.many, { n: number.format(count) }),
      count > names.length
        ? fill(words.more, { names: few, n: number.format(count - names.length) }) : few);
  });

  function all() {
    command();
    parameters();
    path();
    pace();
    quota();
  }

  form.addEventListener("input", all);
  form.addEventListener("edited", all);
  form.addEventListener("refill", () => {
    all();
    raise();
  });

  const ACTIONS = { source: "source", command: "load" };
  const FOCUS = "focus after " + location.pathname;

  form.addEventListener("change", ({ target }) => {
    all();
    const action = ACTIONS[target.name];
    if (!action) return;
    sessionStorage.setItem(FOCUS, target.name);
    form.requestSubmit(form.querySelector(`[name=action][value=${action}]`));
  });

  // Whether the browser brought the page back, with what was typed in it
  const again = performance.getEntriesByType("navigation")[0]?.type !== "navigate";

  // After Back the browser ticks what was chosen, not what the page is about. The address is there
  // from the start: what is kept at the page's entry makes a GET of it, for Back and Reload.
  function shown() {
    const { elements } = form;
    elements.source.value = elements["shown-source"].value;
    if (content) return;
    const uid = elements.command.value = elements["shown-command"].value;
    if (uid) history.replaceState(history.state, "", `?command=${encodeURIComponent(uid)}`);
  }

  const chose = sessionStorage.getItem(FOCUS);
  sessionStorage.removeItem(FOCUS);
  const chosen = { source: "[name=source]:checked", command: "#id_command" }[chose];
  if (chosen && !$("errors")) {
    addEventListener("load", () => { // not away from where somebody types already
      if (document.activeElement === document.body) form.querySelector(chosen)?.focus();
    });
  }

  // After Back the form is the one that was sent: creating again must not make a second task.
  function sameRequest() {
    const { token, ...state } = history.state ?? {};
    if (!token) return;
    if (again) client_token.value = token;
    else history.replaceState(state, "");
  }

  const create = $("create");
  const late = form.querySelector(".late");
  const word = create.firstElementChild;
  const idle = word.textContent;
  let pressed = null; // the button whose answer is awaited
  let timer;

  function ready() {
    clearTimeout(timer);
    pressed?.removeAttribute("aria-disabled");
    pressed = null;
    word.textContent = idle;
  }

  form.addEventListener("submit", (event) => {
    if (pressed) return event.preventDefault();
    raise();
    // a sign-in in another tab has changed it
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/);
    if (token) form.elements.csrfmiddlewaretoken.value = token[1];
    const creates = event.submitter?.name !== "action";
    pressed = creates ? create : event.submitter;
    if (creates) history.replaceState({ ...history.state, token: client_token.value }, "");
    pressed.setAttribute("aria-disabled", "true");
    late.textContent = "";
    if (creates) word.textContent = create.dataset.busy;
    timer = setTimeout(() => {
      ready();
      if (creates) late.textContent = late.dataset.text;
    }, 10000);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    if ((event.target.closest("form") ?? form) !== form) return;
    event.preventDefault();
    form.requestSubmit(create);
  });
  if (/Mac|iP/.test(navigator.platform)) create.querySelector("kbd").textContent = "⌘ ↵";

  sameRequest();
  if (!again) { // chosen before the scripts were there to act on it
    const early = (name) => form.querySelector(`[name=${name}]:checked:not(:default)`)
      ?.dispatchEvent(new Event("change", { bubbles: true }));
    early("source");
    addEventListener("DOMContentLoaded", () => early("type")); // other scripts act on it too
  }
  shown();
  all();
  addEventListener("pageshow", () => {
    ready();
    shown();
    all();
    raise();
  });
})();
