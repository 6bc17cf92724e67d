"use strict";
// Filters the kept pairs by what is typed and by kind; without scripts the whole list stays readable.
const form = document.querySelector("form.filter");
const text = document.getElementById("filter");
const kind = document.getElementById("kind");
const more = document.getElementById("more-pairs");
const pairs = Array.from(document.querySelectorAll("li.pair"), (item) => [item, item.textContent.toLowerCase()]);

function filter() {
  const wanted = text.value.trim().toLowerCase();
  const wantedKind = kind ? kind.value : "";
  const active = wanted !== "" || wantedKind !== "";
  let shown = 0;
  for (const [item, content] of pairs) {
    const match = content.includes(wanted) && (wantedKind === "" || item.dataset.kind === wantedKind);
    item.hidden = !match;
    shown += match;
  }
  if (active && more) more.open = true;
  form.querySelector("output").value = active ? `${shown} of ${pairs.length}` : "";
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
