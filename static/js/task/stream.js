// The stream of a task: it resumes where it was cut, and the foot of the output says how it is.
import { $, live, say, words } from "./page.js";
import { ask } from "./poll.js";

const WAITS = [1, 2, 4, 8, 10];
const SILENCE = 35000; // the server says something every 15 s at least
const FAILURES = 5; // as many in a row, and it is tried without a stream
const REFRESH = 5000;
const REFRESH_HIDDEN = 15000;
const REST_AFTER = 30000; // hidden: a browser has six connections for all tabs together
const TRIAL_AFTER = 12; // so many refreshes, and the stream is tried again
const TRIAL = 10000;

const state = $("link-state");
const tryNow = $("try-now");
const always = new Map([["hello", []], ["beat", []]]);
let stream;

// Call `listener` at each event of `type`, beside what htmx swaps. To be said before `begin`.
export function on(type, listener) {
  always.set(type, [...(always.get(type) || []), listener]);
}

// Let htmx read its events from a stream that resumes.
export function begin() {
  htmx.createEventSource = (url) => (stream = new Stream(url));
  tryNow.addEventListener("click", () => stream.retry());
  addEventListener("online", () => stream?.retry());
  document.addEventListener("visibilitychange", () => stream?.look());
}

// Once a second: notice a silent connection, count down to the next try.
export function tick() {
  stream?.check();
  if (stream?.at) state.textContent = words.lost.replace("{n}", waiting(stream));
}

// What the foot says once nothing more comes.
export function end() {
  live.classList.remove("stale");
  state.className = "";
  state.textContent = words.finished;
  tryNow.hidden = true;
}

// The extension sees one source that never closes by itself: this one opens the next
// EventSource behind it, with the cursor of the last event in the URL, also when nothing comes.
// Where none gets through, and while the page is hidden, it asks for the same events instead.
class Stream {
  constructor(url) {
    this.url = new URL(url, location.href);
    this.listeners = new Map([...always].map(([type, listeners]) => [type, new Set(listeners)]));
    this.tries = 0; // failures in a row
    this.refreshes = 0; // since streams are given up, 0 while they are not
    this.resting = false; // because nobody looks
    this.open();
    this.look();
  }

  open() {
    clearTimeout(this.timer);
    this.readyState = EventSource.CONNECTING;
    this.heard = performance.now();
    const source = new EventSource(this.url);
    this.source = source;
    for (const type of this.listeners.keys()) this.attach(type);
    source.onopen = (event) => {
      this.heard = performance.now();
      this.readyState = EventSource.OPEN;
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
    if (this.refreshes || ++this.tries >= FAILURES) {
      this.refresh();
      return;
    }
    this.wait();
    if (!refused) return;
    const { status } = await fetch(this.url, { method: "HEAD" }).catch(() => ({}));
    if (this.readyState === EventSource.CONNECTING) this.refused(status);
  }

  wait() {
    const wait = WAITS[Math.min(this.tries, WAITS.length) - 1] * (0.85 + 0.3 * Math.random());
    this.at = performance.now() + wait * 1000;
    this.later(() => this.open(), wait * 1000);
    lost(this);
  }

  later(what, wait) {
    clearTimeout(this.timer);
    this.timer = setTimeout(what, wait);
  }

  // Whether the answer was that nothing will ever come; then that is said.
  refused(status) {
    const why = $(`gone-${status}`);
    if (!why) return false;
    this.close();
    gone(why);
    return true;
  }

  // Ask for what the stream would have brought, and do so again later.
  async refresh() {
    const { source } = this;
    source.close(); // one of both at most, or lines would come twice
    const { status, events } = await ask(this.url);
    if (this.source !== source || this.readyState === EventSource.CLOSED) return;
    if (this.refused(status)) return;
    for (const event of events) this.hear(event);
    if (this.readyState === EventSource.CLOSED) return;
    if (this.resting) this.later(() => this.refresh(), REFRESH_HIDDEN);
    else if (events.length) this.goOn();
    else {
      this.refreshes = 0;
      this.wait();
    }
  }

  goOn() {
    const trial = ++this.refreshes % TRIAL_AFTER === 0;
    this.later(() => (trial ? this.open() : this.refresh()), REFRESH);
    blocked(this);
  }

  // Rest when nobody has looked for a while, go on when somebody does.
  look() {
    clearTimeout(this.sleepy);
    if (this.readyState === EventSource.CLOSED) return;
    if (document.hidden) this.sleepy = setTimeout(() => this.rest(), REST_AFTER);
    else if (this.resting) {
      this.resting = false;
      this.open();
    }
  }

  rest() {
    this.resting = true;
    this.at = 0;
    this.source.close();
    this.readyState = EventSource.CONNECTING;
    this.later(() => this.refresh(), REFRESH_HIDDEN);
  }

  check() {
    const open = this.source.readyState !== EventSource.CLOSED;
    const patience = this.refreshes ? TRIAL : SILENCE;
    if (open && performance.now() - this.heard > patience) this.fail(false);
  }

  attach(type) {
    const source = this.source;
    source.addEventListener(type, (event) => {
      if (this.source !== source || this.readyState === EventSource.CLOSED) return;
      if (this.tries || this.refreshes || type === "hello") connected(this);
      this.tries = this.refreshes = 0;
      this.heard = performance.now();
      this.hear(event);
    });
  }

  hear(event) {
    for (const listener of [...(this.listeners.get(event.type) || [])]) listener.call(this, event);
    if (event.lastEventId) this.url.searchParams.set("after", event.lastEventId);
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
    if (this.readyState !== EventSource.CONNECTING || !(this.at || this.refreshes)) return;
    this.source.close();
    this.open();
  }

  close() {
    this.readyState = EventSource.CLOSED;
    this.at = 0;
    clearTimeout(this.timer);
    clearTimeout(this.sleepy);
    this.source.close();
  }
}

function connected(source) {
  if (source.at || source.refreshes) say(words.back);
  source.at = 0;
  live.classList.remove("stale");
  state.className = "on";
  state.textContent = words.live;
  tryNow.hidden = true;
}

function blocked(source) {
  if (source.refreshes === 1) say(words.blocked);
  source.at = 0;
  live.classList.remove("stale");
  state.className = "on";
  state.textContent = words.blocked;
  tryNow.hidden = false;
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

function waiting(source) {
  return Math.max(1, Math.ceil((source.at - performance.now()) / 1000));
}
