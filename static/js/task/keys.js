// Single keys in the list of instances: they work while it has the focus, nowhere else.
const links = (list) => [...list.querySelectorAll(".inst, .grp .view")].filter((link) => link.offsetParent);

// The first link of the list.
export const first = (list) => links(list)[0];

// J and K (or arrows) go to the next and the previous one, 1 to 7 press chips, V changes the view.
export function begin(list, progress) {
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
    const key = event.key.toLowerCase();
    const chip = /^[1-7]$/.test(key) && progress.querySelectorAll("a.chip")[key - 1];
    if (chip) chip.click();
    else if (key === "v") list.querySelector(".seg a:not([aria-current])").click();
    else if (["j", "arrowdown"].includes(key)) step(list, 1);
    else if (["k", "arrowup"].includes(key)) step(list, -1);
    else return;
    event.preventDefault();
  });
}

function step(list, by) {
  const all = links(list);
  const at = all.indexOf(list.ownerDocument.activeElement);
  all[at < 0 ? 0 : Math.min(Math.max(at + by, 0), all.length - 1)]?.focus();
}
