"use strict";
// Keys press what is on the page: an element names its own keys in data-keys. After an exchange by htmx, the focus
// goes where the reader goes on reading, and what changed is said to those who cannot see it.
const ACTS = "a[href], button, summary, input, select, textarea, [contenteditable]";
const SWITCH = "smidgen-single-keys";
let returnTo = null;

// Who speaks to her machine, or hits keys by chance, can put single letters out: one spoken word would be many of them.
const single = document.getElementById("single-keys");
if (single !== null) {
  single.checked = localStorage.getItem(SWITCH) !== "off";
  single.addEventListener("change", () => localStorage.setItem(SWITCH, single.checked ? "on" : "off"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
  // Caps lock makes no other key of a letter.
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key.length === 1 && single !== null && !single.checked) return;
  const at = event.target.closest(ACTS);
  const types = at !== null && at.matches("input, select, textarea");
  // Typing is typing; and space or an arrow does what it always does on a control that has the focus.
  if (types && key !== "Escape") return;
  // Not to empty the search field, which is what browsers do.
  if (types) { event.preventDefault(); at.blur(); return; }
  if (at !== null && key === "Space") return;
  const wanted = Array.from(document.querySelectorAll("[data-keys]")).find(
    (element) => element.dataset.keys.split(" ").includes(key) && !element.disabled,
  );
  if (wanted === undefined) return;
  event.preventDefault();
  if (wanted.matches("input")) wanted.select(); else wanted.click();
});

// A point in a drawing stands for its line in the list, which htmx knows how to follow.
document.addEventListener("click", (event) => {
  const spot = event.target.closest("a[data-point]");
  if (spot === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  document.getElementById(`point-${spot.dataset.point}`).click();
});

// Fields left empty say nothing, and a feature has two: of many features, an address would be too long for a server.
document.addEventListener("htmx:configRequest", (event) => {
  const { parameters, verb } = event.detail;
  if (verb !== "get") return;
  for (const name of Object.keys(parameters)) if (parameters[name] === "") delete parameters[name];
});

document.addEventListener("htmx:beforeRequest", (event) => {
  returnTo = event.detail.elt.dataset.return || null;
});

document.addEventListener("htmx:afterSettle", () => {
  const typing = document.activeElement !== null && document.activeElement.closest("form.filters") !== null;
  const next = returnTo !== null ? document.getElementById(returnTo) : document.querySelector("[data-focus]");
  if (next !== null && !typing) next.focus({ preventScroll: false });
  returnTo = null;
  const here = document.querySelector("tr.here");
  if (here !== null) here.scrollIntoView({ block: "nearest" });
  const said = document.querySelector("[data-live]");
  if (said !== null) document.getElementById("live").textContent = said.textContent;
});

// An answer that is not the page we are on (a redirect, an error) is shown as the page that it is.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target, xhr } = event.detail;
  if (xhr.status === 200 && xhr.response.includes(`id="${target.id}"`)) return;
  event.detail.shouldSwap = false;
  window.location.assign(xhr.responseURL);
});

document.addEventListener("htmx:sendError", () => {
  document.getElementById("gone").hidden = false;
});
