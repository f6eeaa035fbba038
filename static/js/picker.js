// Selecting instances: keeps the selection over pages, searches and types, and refreshes what
// is known of each connection. What the server swaps in never changes what is selected here.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const picker = document.getElementById("id_instances");
  const bar = picker?.querySelector(".selbar");
  if (!bar) return;

  const $ = (selector) => picker.querySelector(selector);
  const $$ = (selector) => [...picker.querySelectorAll(selector)];
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, key) => number.format(values[key]));
  const limit = Number(bar.dataset.limit);
  const over = $("#over");
  const lost = $(".lost");
  const unfit = (item) => "unfit" in item.dataset;
  const boxes = () => $$("tbody [name=instances]");
  const free = () => boxes().filter((box) => !unfit(box));

  let chosen = new Map(); // what is selected: name and whether it is unfit, by id
  let last = null; // where a range begins
  let asked = null; // the button whose answer is awaited or was the last to fail
  let busy = false;

  function keep(item) {
    chosen.set(item.value, { name: item.dataset.name, unfit: unfit(item) });
  }

  const take = () => $$("#others input, tbody [name=instances]:checked").forEach(keep);

  // What is selected may fit no longer, or fit again.
  function learn() {
    for (const item of $$("[name=instances]")) if (chosen.has(item.value)) keep(item);
  }

  // showing the selection
  function hidden([id, { name, unfit }]) {
    const item = document.createElement("input");
    Object.assign(item, { type: "hidden", name: "instances", value: id });
    item.dataset.name = name;
    if (unfit) item.dataset.unfit = "";
    return item;
  }

  function showBoxes() {
    const here = boxes();
    for (const box of here) {
      box.checked = chosen.has(box.value);
      box.disabled = unfit(box) && !box.checked;
      if (unfit(box)) continue;
      const shut = chosen.size >= limit && !box.checked;
      box.setAttribute("aria-disabled", shut);
      box.setAttribute("aria-describedby", shut ? "over" : "");
    }
    const ids = here.map((box) => box.value);
    const away = [...chosen].filter(([id]) => !ids.includes(id));
    $("#others").replaceChildren(...away.map(hidden));
    $(".away").textContent = away.length ? fill($(".away").dataset.text, { n: away.length }) : "";
  }

  function showHead() {
    const all = $("#pick-all");
    if (!all) return;
    const open = free();
    const ticked = open.filter((box) => box.checked).length;
    all.disabled = open.length === 0;
    all.checked = ticked > 0 && ticked === open.length;
    all.indeterminate = ticked > 0 && !all.checked;
    $(".all")?.classList.toggle("on", all.checked);
  }

  function showCounts(refused) {
    const n = chosen.size;
    const bad = [...chosen.values()].filter((one) => one.unfit).length;
    const note = $("#unfit");
    note.hidden = bad === 0;
    note.querySelector("span").textContent = fill(note.dataset[bad === 1 ? "one" : "many"], { n: bad });
    $("[data-picked]").textContent = number.format(n);
    const meter = $("progress");
    meter.value = n;
    meter.dataset.level = n > limit ? "over" : "";
    const words = refused ? "refused" : n > limit ? "over" : n === limit ? "full" : "";
    over.textContent = words && fill(over.dataset[words], { n: refused || limit, limit });
    $("[value=clear]").classList.toggle("off", n === 0);
    if (n > 0 && bar.hasAttribute("data-wrong")) {
      bar.removeAttribute("data-wrong");
      $("#e-instances").hidden = true;
    }
  }

  // ``refused`` is how many would have been too many.
  function show(refused) {
    showBoxes();
    showHead();
    showCounts(refused);
    const detail = {
      count: chosen.size,
      names: [...chosen.values()].slice(0, 4).map((one) => one.name),
      chosen: [...chosen],
    };
    history.replaceState({ ...history.state, picked: detail.chosen }, "");
    form.dispatchEvent(new CustomEvent("picked", { detail }));
  }

  // selecting
  function select(items, on) {
    const news = items.filter((item) => !chosen.has(item.value));
    const sum = chosen.size + news.length;
    if (on && news.length && sum > limit) return show(sum);
    for (const item of items) {
      if (on) keep(item);
      else chosen.delete(item.value);
    }
    show();
  }

  function pick(box, range) {
    const all = free();
    const [from, to] = [all.findIndex((item) => item.value === last), all.indexOf(box)];
    last = box.value;
    select(range && from >= 0 && to >= 0
      ? all.slice(Math.min(from, to), Math.max(from, to) + 1) : [box], box.checked);
  }

  function reset() {
    for (const item of $$("#id_q, [data-facet]")) {
      if (item.type === "checkbox") item.checked = false;
      else item.value = "";
    }
    tags();
  }

  // The list was wrong as it was; the server looks again.
  function settle() {
    const wrong = $("#e-paste");
    if (wrong) wrong.hidden = true;
    $("#id_paste").removeAttribute("aria-invalid");
  }

  function tags() {
    const number = $("[data-tags]");
    if (number) number.textContent = $$("[name=tag]:checked").length || "";
  }

  picker.addEventListener("click", (event) => {
    const { target } = event;
    if (target.matches("tbody [name=instances]")) return pick(target, event.shiftKey);
    if (target.id === "pick-all") return select(free(), target.checked);
    const action = target.closest("button")?.value;
    if (!/^(clear|remove-unfit|reset)$/.test(action)) return;
    event.preventDefault();
    if (action === "reset") reset();
    else for (const [id, one] of chosen) if (action === "clear" || one.unfit) chosen.delete(id);
    show();
    ($("#pick-all") ?? $("#rows")).focus();
    if (action === "clear") $("[name=shown]").checked = false;
    if (action !== "remove-unfit") $("[value=search]").click();
  });
  picker.addEventListener("input", ({ target }) => {
    if (target.id === "id_paste") settle();
  });
  picker.addEventListener("keydown", (event) => {
    if (event.target.id === "id_q" && event.key === "Enter") {
      event.preventDefault(); // Enter would create the task
      $("[value=search]").click();
    } else if (event.key === "a" && (event.ctrlKey || event.metaKey)
      && event.target.closest("#rows")) {
      event.preventDefault();
      select(free(), true);
    } else if (event.key === "Escape") {
      const menu = event.target.closest(".tags[open]");
      if (menu) menu.open = false;
      menu?.firstElementChild.focus();
    }
  });
  document.addEventListener("click", (event) => {
    for (const menu of $$(".tags[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
  form.addEventListener("change", (event) => {
    if (/^(scope|type|source|command)$/.test(event.target.name)) $("[value=reload]").click();
    tags();
  });

  // asking the server
  function token() {
    return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";
  }

  function wait(on) {
    busy = on;
    $("#rows").setAttribute("aria-busy", on);
  }

  const fail = () => (lost.hidden = false);

  picker.addEventListener("htmx:configRequest", ({ detail }) => {
    asked = detail.elt;
    if (detail.verb === "get" && chosen.size > 100) { // too long for an address
      Object.assign(detail, { verb: "post", path: form.getAttribute("action"), useUrlParams: false });
      detail.headers["Content-Type"] = "application/x-www-form-urlencoded";
    }
    if (detail.verb === "post") detail.headers["X-CSRFToken"] = token();
  });
  picker.addEventListener("htmx:beforeRequest", () => wait(true));
  picker.addEventListener("htmx:afterRequest", () => wait(false));
  for (const trouble of ["responseError", "sendError", "timeout"]) {
    picker.addEventListener(`htmx:${trouble}`, fail);
  }
  picker.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.xhr.status !== 200 || detail.xhr.response.includes('id="rows"')) return;
    detail.shouldSwap = false; // not from here: a proxy's page, say
    fail();
  });
  picker.addEventListener("htmx:afterSwap", () => {
    lost.hidden = true;
    if (/^(add|select-matching)$/.test(asked.value)) take();
    if (asked.value === "add") settle();
    learn();
    show();
    if (document.activeElement === document.body && !asked.isConnected) $("#rows").focus();
    const told = $("[data-told]") ?? $("#pick-range") ?? $("#rows h2");
    $("#picker-says").textContent = told.textContent;
  });

  // connections change while people look
  function renew(row) {
    const old = document.getElementById(row.id);
    if (!old) return;
    const [box, fresh] = [old, row].map((one) => one.querySelector("input"));
    old.className = row.className;
    old.lastElementChild.replaceWith(row.lastElementChild);
    box.toggleAttribute("data-unfit", unfit(fresh));
    if (unfit(fresh)) box.setAttribute("aria-describedby", fresh.getAttribute("aria-describedby"));
  }

  // What says which type the command has.
  const kind = () => [...new FormData(form)].filter(([name]) => /^(type|source|command)$/.test(name));

  async function refresh() {
    if (document.hidden || busy || !boxes().length) return;
    const about = kind();
    const query = new URLSearchParams(about);
    for (const box of boxes()) query.append("on", box.value);
    const answer = await fetch(`${picker.dataset.rows}?${query}`, { redirect: "manual" })
      .catch(() => null);
    if (!answer?.ok || busy || String(about) !== String(kind())) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    fresh.querySelectorAll("tr[id]").forEach(renew);
    learn();
    show();
  }

  setInterval(refresh, 15000);

  function restore(picked) {
    chosen = new Map(picked);
    show();
    $("[value=reload]").click();
  }

  // A draft that is restored brings its selection: ``chosen`` of an earlier "picked".
  form.addEventListener("pick", ({ detail }) => restore(detail));

  // Back and a reload bring what was selected then, on whatever page it stands. What was ticked
  // before this script had come is selected, and what is ticked before the page has loaded adds to it.
  const way = performance.getEntriesByType("navigation")[0]?.type;
  const back = /back|reload/.test(way) && history.state?.picked;
  if (back) chosen = new Map(back);
  else take();
  if (!back && $("#pick-all")?.checked) select(free(), true);
  else show();
  addEventListener("pageshow", ({ persisted }) => {
    if (back && !persisted) return restore(chosen);
    take();
    show();
  });
})();
