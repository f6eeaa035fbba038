// What is typed stays in this tab: at the page's entry in the history, for Back, and what is written
// also as a draft for a fresh form, until it was created or saved. Hidden values are never kept.
// A module, loaded once there is something to keep or to give back.
"use strict";
(() => {
  const form = document.querySelector("form[data-draft]");
  const says = document.getElementById("draft");
  const card = document.getElementById("command-card");
  const { name, content, command } = form.elements;
  const KEY = `draft ${form.dataset.key}`;
  const clock = new Intl.DateTimeFormat(document.documentElement.lang,
    { timeStyle: "medium", hourCycle: "h23" });
  const say = (text, at) => (says.textContent = text.replace("{time}", clock.format(at)));
  const of = content ? "new" : command.value; // whose fields are on the page

  const fields = () => [...card.querySelectorAll("input, textarea, select")].filter((field) =>
    field.name && !field.disabled && !/^(source|command|version|shown-|kept-|new-|old-)/.test(field.name));
  const ticked = (field) => (/radio|checkbox/.test(field.type) ? field.checked : true);
  const secret = (field) => /^(param|about-default)-/.test(field.name)
    && field.closest(".param")?.querySelector("[data-hide]").checked;
  const snapshot = () => fields().filter((field) => ticked(field) && !secret(field))
    .map((field) => [field.name, field.value]);

  // whether the page came with it
  const came = (field) => field.defaultValue
    ?? (field.querySelector("[selected]") ?? field.options[0]).value;
  const usual = (field) => (/radio|checkbox/.test(field.type)
    ? field.checked === field.defaultChecked : field.value === came(field));

  function put(values, but) {
    for (const field of fields()) {
      if (but.has(field.name)) continue;
      const key = field.closest(".param")?.dataset.key;
      if (key && !values.has(`seen-${key}`)) continue; // there was no such row
      const value = values.get(field.name);
      if (/radio|checkbox/.test(field.type)) field.checked = value === field.value;
      else field.value = value ?? field.value;
      const fold = field.closest(".more");
      if (fold && !usual(field)) fold.open = true;
    }
    form.dispatchEvent(new Event("refill"));
  }

  function refill(pairs, but = new Set()) {
    put(new Map(pairs), but); // the text makes the rows
    put(new Map(pairs), but); // and the rows take their values
  }

  // ---------- keeping ----------
  let timer;
  const read = () => JSON.parse(sessionStorage.getItem(KEY));
  const remember = (typed) => history.replaceState({ ...history.state, typed }, "");

  function write(draft) {
    clearTimeout(timer);
    timer = undefined;
    if (draft) sessionStorage.setItem(KEY, JSON.stringify(draft));
    else sessionStorage.removeItem(KEY);
  }

  function keep(sent) {
    const { picked } = history.state ?? {}; // what picker.js has selected
    const draft = { at: Date.now(), of, sent, picked, fields: snapshot() };
    remember(draft);
    if (content) {
      write(draft);
      say(says.dataset.kept, draft.at);
    } else timer = undefined;
  }

  const change = () => (timer ??= setTimeout(keep, 2000));
  card.addEventListener("input", change);
  card.addEventListener("change", change);
  form.addEventListener("picked", () => read() && change());
  addEventListener("pagehide", () => timer && keep());
  form.addEventListener("submit", ({ defaultPrevented, submitter }) => {
    if (defaultPrevented) return;
    const ends = submitter?.name !== "action" || submitter.value === "save";
    keep(ends ? window.navigation?.currentEntry.key ?? "sent" : undefined);
  });

  // ---------- giving back ----------
  // What was sent is done if a page about a task or a command answered: it is next in the
  // history, or where this one was reached from.
  function done(sent) {
    const entries = window.navigation?.entries() ?? [];
    const place = entries.findIndex((entry) => entry.key === sent);
    const next = sent === "sent" ? document.referrer : place >= 0 && entries[place + 1]?.url;
    return next && /^\/(tasks|commands)\/(?!new\/)[^/]+\/$/.test(new URL(next).pathname);
  }

  function offer(draft) {
    const before = snapshot();
    const type = () => form.querySelector("[name=type]:checked");
    const old = type();
    // what was typed before this module had come is newer
    const newer = fields().filter((field) => !usual(field));
    refill(draft.fields, new Set(newer.map((field) => field.name)));
    // for another type other rows can be chosen
    if (type() !== old) type().dispatchEvent(new Event("change", { bubbles: true }));
    const { picked } = history.state ?? {}; // before that too
    if (draft.picked && !picked?.length) {
      form.dispatchEvent(new CustomEvent("pick", { detail: draft.picked }));
    }
    say(says.dataset.restored, draft.at);
    const discard = document.createElement("button");
    Object.assign(discard, { type: "button", textContent: says.dataset.discard });
    discard.addEventListener("click", () => {
      write();
      remember();
      refill(before);
      says.textContent = "";
      name.focus();
    });
    says.append(" ", discard);
  }

  function settle() {
    const draft = read();
    if (!draft?.sent || !done(draft.sent)) return draft;
    write();
    return null;
  }

  function begin() {
    const draft = settle();
    const typed = history.state?.typed;
    // a link to this very page keeps the entry's state, yet asks for a fresh form
    const again = performance.getEntriesByType("navigation")[0]?.type !== "navigate";
    if (again && typed?.of === of) return refill(typed.fields);
    if (!draft || !content) return;
    const { fresh } = form.dataset; // "no" where a link asks for something else
    if (fresh === "yes") offer(draft);
    else if (!fresh) write({ ...draft, sent: undefined }); // it came back: nothing was created
  }

  addEventListener("pageshow", ({ persisted }) => persisted && settle());
  const kept = read() || history.state?.typed;
  const start = () => {
    if (kept) begin();
    if (form.dataset.typed) change(); // what was typed while this was coming
  };
  if (!kept || document.readyState === "complete") start();
  else addEventListener("load", () => setTimeout(start)); // after what the browser fills in
})();
