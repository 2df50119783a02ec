/** Starts the page: views by address, theme, whether the service answers. */

import { Offline, isOnline, noticeAbsence } from "./api.js";
import { errorNotice, h } from "./dom.js";
import { count } from "./format.js";
import { home } from "./home.js";
import { currentPlace } from "./place.js";

/**
 * A view takes over the main element and gives back what ends it, and what it does when only its query changes.
 * @typedef {{leave?: () => void, moved?: (place: import("./place.js").Place) => boolean}} Mounted
 * @typedef {(root: HTMLElement, place: import("./place.js").Place) => Mounted|void} Mount
 */

/** @type {Object<string, {title: string, load: () => Promise<{mount: Mount}>}>} */
const VIEWS = {
  front: { title: "Front", load: () => import("./views/front.js") },
  subnet: { title: "Subnet", load: () => import("./views/subnet.js") },
  photo: { title: "Photo", load: () => import("./views/photo.js") },
  searches: { title: "Searches", load: () => import("./views/searches.js") },
  compare: { title: "Compare", load: () => import("./views/compare.js") },
  devices: { title: "Devices", load: () => import("./views/devices.js") },
};
const WITHIN = /** @type {Object<string, string>} */ ({ subnet: "front", compare: "searches" });

const main = /** @type {HTMLElement} */ (document.getElementById("main"));
/** @type {Mounted|void} */
let mounted;
let path = "";
let turn = 0;

async function show() {
  const place = currentPlace();
  const here = [place.view, ...place.parts].join("/");
  if (here === path && mounted?.moved?.(place)) return;
  const first = path === "";
  path = here;
  turn += 1;
  const mine = turn;
  const view = VIEWS[place.view];
  for (const link of document.querySelectorAll(".nav a")) {
    const active = /** @type {HTMLElement} */ (link).dataset.view === (WITHIN[place.view] ?? place.view);
    if (active) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view?.title ?? "Nothing here"} · SalNAS`;
  mounted?.leave?.();
  mounted = undefined;
  if (!view) {
    main.replaceChildren(h("div", { class: "empty" }, h("h1", null, "There is nothing here"), h("p", null, h("a", { href: "#/front" }, "To the front"))));
    return;
  }
  try {
    const module = await view.load();
    if (mine !== turn) return;
    main.replaceChildren();
    main.dataset.view = place.view;
    mounted = module.mount(main, place);
  } catch (error) {
    await noticeAbsence();
    if (mine === turn) main.replaceChildren(errorNotice(isOnline() ? error : new Offline(), () => location.reload()));
  }
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

async function showWhere() {
  const where = /** @type {HTMLElement} */ (document.getElementById("where"));
  where.classList.toggle("away", !isOnline());
  if (!isOnline()) return;
  try {
    const { supernet, space } = await home();
    where.textContent = supernet && space ? `${supernet.id}, ${count(space.size)} subnets` : "no supernet";
  } catch {
    where.textContent = "";
  }
}

/** @returns {"dark"|"light"} */
function theme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen) return chosen === "dark" ? "dark" : "light";
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function switchTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("salnas-theme", next);
  } catch {
    // It holds until the page is left.
  }
  window.dispatchEvent(new Event("salnas-theme"));
}

document.getElementById("theme")?.addEventListener("click", switchTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("salnas-theme")));
window.addEventListener("hashchange", show);
window.addEventListener("salnas-online", () => {
  /** @type {HTMLElement} */ (document.getElementById("offline")).hidden = isOnline();
  // A view whose code could not be fetched: begin anew, where the address says.
  if (isOnline() && VIEWS[currentPlace().view] && !mounted) location.reload();
  showWhere();
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(/** @type {Node} */ (event.target)) || /** @type {Element} */ (event.target).closest(".menu-items")) menu.removeAttribute("open");
  }
});
document.addEventListener("keydown", (event) => {
  const menu = event.key === "Escape" && document.querySelector("details.menu[open]");
  if (menu) {
    menu.removeAttribute("open");
    menu.querySelector("summary")?.focus();
  }
});
/** Fetch the code of the other views, so that they open at once, and also while the service is away. */
function prepare() {
  for (const view of Object.values(VIEWS)) view.load().catch(() => {});
}

show();
showWhere();
addEventListener("load", () => setTimeout(prepare, 1000));
