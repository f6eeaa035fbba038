// Says before a task is created whether it will wait for approval. The server says so too, with
// every form that it shows.
"use strict";
(() => {
  const form = document.getElementById("run-form");
  const note = document.getElementById("approval-note");
  if (!form || !note) return;
  const NAMES = ["scope", "source", "command", "run_as", "instances"];
  let timer;
  let asked = 0;

  async function ask() {
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(form)) {
      if (NAMES.includes(name)) query.append(name, value);
    }
    const turn = ++asked;
    const answer = await fetch(`${note.dataset.url}?${query}`).catch(() => null);
    if (turn !== asked || answer?.status !== 200 || answer.redirected) return;
    note.innerHTML = await answer.text();
  }

  function soon() {
    clearTimeout(timer);
    timer = setTimeout(ask, 250);
  }

  form.addEventListener("picked", soon);
  form.addEventListener("change", ({ target }) => NAMES.includes(target.name) && soon());
})();
