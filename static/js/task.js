// One task, live: a stream that resumes where it was cut, follow, the cap on lines, clocks, titles.
// htmx's SSE extension does the swapping; finished tasks only use what is below "always".
"use strict";
(() => {
  const MOST_LINES = 5000;
  const DROP = 250;
  const WAITS = [1, 2, 4, 8, 10];
  const SILENCE = 35000; // the server says something every 15 s at least
  const $ = (id) => document.getElementById(id);
  const live = $("live");
  const scroll = $("scroll");
  const log = $("log");
  const rows = $("rows");
  const words = live.dataset;
  const number = new Intl.NumberFormat(document.documentElement.lang);
  const count = (n, one, many) => (n === 1 ? one : many.replace("{n}", number.format(n)));

  function say(text) {
    $("say").textContent = text;
  }

  // ---------- always ----------
  const copy = document.querySelector("[data-copy]");
  copy.hidden = !navigator.clipboard; // there is none on plain HTTP
  copy.addEventListener("click", () => {
    const { copy: text, copied, failed } = copy.dataset;
    navigator.clipboard.writeText(text).then(() => say(copied), () => say(failed));
  });
  const current = rows.querySelector("[aria-current]");
  const below = current ? current.offsetTop - rows.offsetTop : 0;
  if (below + 60 > rows.clientHeight) rows.scrollTop = below - rows.clientHeight / 3;
  if (!location.hash.startsWith("#L")) scroll.scrollTop = scroll.scrollHeight;
  if (!live.hasAttribute("sse-connect")) return;

  // ---------- the stream ----------
  // The extension sees one source that never closes by itself: this one opens the next
  // EventSource behind it, with the cursor of the last event in the URL, also when nothing comes.
  class Stream {
    constructor(url) {
      this.url = new URL(url, location.href);
      this.listeners = new Map(["hello", "beat"].map((type) => [type, new Set()]));
      this.listeners.set("earlier", new Set([skip]));
      this.readyState = EventSource.CONNECTING;
      this.tries = 0;
      this.open();
    }

    open() {
      clearTimeout(this.timer);
      this.heard = performance.now();
      const source = new EventSource(this.url);
      this.source = source;
      for (const type of this.listeners.keys()) this.attach(type);
      source.onopen = (event) => {
        this.heard = performance.now();
        this.readyState = EventSource.OPEN;
        connected(this);
        this.onopen?.(event);
      };
      source.onerror = () => {
        const refused = source.readyState === EventSource.CLOSED; // there was an answer
        if (this.source === source) this.fail(refused);
      };
    }

    async fail(refused) {
      this.source.close();
      if (this.readyState === EventSource.CLOSED) return;
      this.readyState = EventSource.CONNECTING;
      const wait = WAITS[Math.min(this.tries++, WAITS.length - 1)] * (0.85 + 0.3 * Math.random());
      this.at = performance.now() + wait * 1000;
      this.timer = setTimeout(() => this.open(), wait * 1000);
      lost(this);
      if (!refused) return;
      const { status } = await fetch(this.url, { method: "HEAD" }).catch(() => ({}));
      const why = $(`gone-${status}`);
      if (!why || this.readyState !== EventSource.CONNECTING) return;
      this.close();
      gone(why);
    }

    check() {
      const open = this.source.readyState !== EventSource.CLOSED;
      if (open && performance.now() - this.heard > SILENCE) this.fail(false);
    }

    attach(type) {
      const source = this.source;
      source.addEventListener(type, (event) => {
        if (this.source !== source || this.readyState === EventSource.CLOSED) return;
        this.tries = 0;
        this.heard = performance.now();
        for (const listener of [...this.listeners.get(type)]) listener.call(this, event);
        if (event.lastEventId) this.url.searchParams.set("after", event.lastEventId);
      });
    }

    addEventListener(type, listener) {
      if (!this.listeners.has(type)) {
        this.listeners.set(type, new Set());
        this.attach(type);
      }
      this.listeners.get(type).add(listener);
    }

    removeEventListener(type, listener) {
      this.listeners.get(type)?.delete(listener);
    }

    retry() {
      if (this.readyState !== EventSource.CONNECTING || !this.at) return;
      this.source.close();
      this.open();
    }

    close() {
      this.readyState = EventSource.CLOSED;
      this.at = 0;
      clearTimeout(this.timer);
      this.source.close();
    }
  }

  let stream;
  htmx.createEventSource = (url) => (stream = new Stream(url));

  const state = $("link-state");
  const tryNow = $("try-now");

  function connected(source) {
    if (source.at) say(words.back);
    source.at = 0;
    live.classList.remove("stale");
    state.className = "on";
    state.textContent = words.live;
    tryNow.hidden = true;
  }

  function lost(source) {
    if (source.tries === 1) say(words.lost.replace("{n}", waiting(source)));
    live.classList.add("stale");
    state.className = "lost";
    tryNow.hidden = false;
    tick();
  }

  function gone(why) {
    state.hidden = tryNow.hidden = true;
    why.hidden = false;
    say(why.textContent);
  }

  const waiting = (source) => Math.max(1, Math.ceil((source.at - performance.now()) / 1000));

  tryNow.addEventListener("click", () => stream.retry());
  addEventListener("online", () => stream?.retry());

  // ---------- follow ----------
  const follow = $("follow");
  const newLines = $("new-lines");
  let following = !location.hash.startsWith("#L");
  let seen = 0;
  let top = 0;
  let selecting = false;
  let ours = false;

  const newest = () => Number(log.lastElementChild?.id.slice(1) || 0);
  const atEnd = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 4;

  function setFollow(on) {
    if (following && !on) seen = newest();
    following = on;
    follow.setAttribute("aria-pressed", on);
    show();
  }

  function show() {
    if (following) {
      seen = newest();
      const before = top;
      if (!selecting) scroll.scrollTop = scroll.scrollHeight;
      top = scroll.scrollTop;
      ours = top !== before;
    }
    const fresh = newest() - seen;
    newLines.hidden = fresh <= 0;
    newLines.lastElementChild.textContent = count(fresh, words.newOne, words.newMany);
    $("line-count").textContent = newest() ? count(newest(), words.one, words.many) : "";
  }

  follow.addEventListener("click", () => setFollow(!following));
  newLines.addEventListener("click", () => {
    setFollow(true);
    log.focus({ preventScroll: true });
  });
  scroll.addEventListener("wheel", (event) => {
    if (event.deltaY < 0) setFollow(false);
  }, { passive: true });
  scroll.addEventListener("scroll", () => {
    if (ours) {
      ours = false;
      return;
    }
    if (scroll.scrollTop < top && !atEnd()) setFollow(false);
    else if (scroll.scrollTop > top && atEnd() && !following && !selecting) setFollow(true);
    top = scroll.scrollTop;
  });
  scroll.addEventListener("keydown", (event) => {
    if (["PageUp", "ArrowUp", "Home"].includes(event.key)) setFollow(false);
    if (event.key === "End") setFollow(true);
  });
  document.addEventListener("selectionchange", () => {
    const selection = getSelection();
    selecting = !selection.isCollapsed && scroll.contains(selection.anchorNode);
    if (following && selecting) setFollow(false);
  });

  // ---------- what arrives ----------
  let started = log.childElementCount > 0;
  let failures = problems();
  let unsorted = false;
  let frame = 0;

  function problems() {
    return [...document.querySelectorAll("[data-count=bad], [data-count=warn]")]
      .map((place) => place.textContent).join();
  }

  const summary = () => $("progress").querySelector(".stackbar").getAttribute("aria-label");

  function tellEarlier(n) {
    $("earlier").hidden = !n;
    $("earlier").querySelector("b").textContent = number.format(n);
  }

  // The server passes over n lines; what is shown is older.
  function skip(event) {
    log.replaceChildren();
    top = scroll.scrollTop;
    tellEarlier(Number(event.data));
  }

  function drop() {
    if (log.childElementCount <= MOST_LINES) return;
    const extra = log.childElementCount - MOST_LINES + DROP;
    const range = document.createRange();
    range.setStartBefore(log.firstElementChild);
    range.setEndAfter(log.children[extra - 1]);
    const below = following || scroll.scrollHeight - scroll.scrollTop;
    range.deleteContents();
    tellEarlier(Number(log.querySelector(".ln").id.slice(1)) - 1);
    if (!following) scroll.scrollTop = top = scroll.scrollHeight - below;
  }

  live.addEventListener("htmx:sseMessage", (event) => {
    if (event.detail.type === "out") {
      if (!started) say(words.first);
      started = true;
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        drop();
        show();
      });
      return;
    }
    const { title } = $("task-head-state").dataset;
    document.title = `${title} · ${document.title.split(" · ").pop()}`;
    const gap = log.querySelector(".gap");
    const note = $("gap-note");
    if (gap) [gap.textContent, gap.title] = [note.textContent, note.title];
    if (problems() !== failures) say(summary());
    failures = problems();
    show();
  });

  // A row keeps its link, so that focus and a press in progress survive a redraw.
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    const { target, fragment } = event.detail;
    if (!target.id.startsWith("row-")) return;
    const [before, after] = [target.firstElementChild, fragment.firstElementChild];
    event.detail.shouldSwap = false;
    if (target.dataset.rank !== after.dataset.rank) unsorted = true;
    target.dataset.rank = after.dataset.rank;
    before.replaceChildren(...after.firstElementChild.childNodes);
  });

  live.addEventListener("htmx:sseClose", () => {
    live.classList.remove("stale");
    state.className = "";
    state.textContent = words.finished;
    tryNow.hidden = follow.hidden = true;
    say(`${words.finished}: ${summary()}`);
    recount();
  });

  // The navigation counts running tasks: one fewer now, and others may have begun.
  async function recount() {
    const answer = await fetch(document.querySelector(".crumb a").href);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector(".nav .cnt");
    for (const place of document.querySelectorAll(".nav .cnt, #menu-nav .cnt")) {
      if (fresh) place.replaceWith(document.importNode(fresh, true));
      else place.remove();
    }
  }

  // ---------- clocks, and the order of rows ----------
  let beats = 0;

  function tick() {
    stream?.check();
    if (stream?.at) state.textContent = words.lost.replace("{n}", waiting(stream));
    for (const place of document.querySelectorAll("[data-elapsed]")) {
      place.since ??= performance.now() - place.dataset.elapsed * 1000;
      const all = Math.floor((performance.now() - place.since) / 1000);
      const [hours, minutes, seconds] = [all / 3600, (all / 60) % 60, all % 60]
        .map((part) => String(Math.floor(part)).padStart(2, "0"));
      const text = all < 3600 ? `${minutes}:${seconds}` : `${Number(hours)}:${minutes}:${seconds}`;
      if (place.textContent !== text) place.textContent = text;
    }
    if (beats++ % 2 || !unsorted || rows.matches(":hover, :focus-within")) return;
    unsorted = false;
    rows.append(...[...rows.children].sort((a, b) => a.dataset.rank - b.dataset.rank));
  }

  setInterval(tick, 1000);
  tick();
  setFollow(following);
})();
