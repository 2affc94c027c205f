// What all pages have: menus that close, the dialog, and polls that rest while nobody looks.
"use strict";

const dialog = document.getElementById("dialog");
const POLLS = ["board", "one", "host"];

function closeMenus(except) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== except) menu.open = false;
  }
}

document.addEventListener("click", (event) => {
  closeMenus(event.target.closest("details.menu"));
  if (event.target.closest("details.menu .items a, details.menu .items button")) {
    setTimeout(closeMenus); // after the form was sent
  }
  if (dialog.open && (event.target === dialog || event.target.closest("[data-close]"))) {
    event.preventDefault();
    dialog.close();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.activeElement && document.activeElement.closest("details.menu[open]");
  closeMenus();
  if (menu) menu.querySelector("summary").focus();
});

// In a tab that nobody sees, a poll would ask for nothing but work.
document.addEventListener("htmx:before:request", (event) => {
  const { sourceElement, sourceEvent } = event.detail.ctx;
  if (document.hidden && sourceEvent && sourceEvent.type === "every" && POLLS.includes(sourceElement.id)) {
    event.preventDefault();
  }
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) document.body.dispatchEvent(new CustomEvent("changed"));
});

let fading = 0;
document.addEventListener("htmx:after:swap", (event) => {
  const target = event.detail.ctx.target;
  const element = typeof target === "string" ? document.querySelector(target) : target;
  if (!element) return;
  if (element.id === "dialog-body" && !dialog.open) {
    dialog.showModal();
    const first = dialog.querySelector("select, input:not([type=hidden]), a.button");
    if (first) first.focus();
  }
  if (element.id === "said") {
    clearTimeout(fading);
    if (!element.querySelector(".bad")) fading = setTimeout(() => element.replaceChildren(), 6000);
  }
});
document.addEventListener("htmx:finally:request", (event) => {
  const source = event.detail.ctx.sourceElement;
  if (source && source.matches("[data-closes]")) dialog.close();
});
document.getElementById("said").addEventListener("click", (event) => event.currentTarget.replaceChildren());

// The control plane, or the network, is away: said once, and taken back with the next answer.
const said = document.getElementById("said");
document.addEventListener("htmx:error", () => {
  const line = document.createElement("p");
  line.className = "bad away";
  line.textContent = "The console does not answer. It is asked again.";
  said.replaceChildren(line);
});
document.addEventListener("htmx:after:request", () => {
  if (said.querySelector(".away")) said.replaceChildren();
});
