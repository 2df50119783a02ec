/** All searches, newest first, with filters, and a choice of some to compare. */

import { isFinal, listSearches } from "./api.js";
import { errorNotice, h, segments } from "./dom.js";
import { clock, count } from "./format.js";
import { go, note } from "./place.js";
import { stateBadge } from "./searchcard.js";
import { boundsOf, meaningText, objectivesText } from "./searchtext.js";

/** @typedef {import("./types.js").Search} Search */

const REFRESH_MS = 2000;
const STATES = [
  { value: "", text: "All" }, { value: "running", text: "Running" }, { value: "succeeded", text: "Done" },
  { value: "cancelled", text: "Cancelled" }, { value: "failed", text: "Failed" },
];
const MOST = 6;

/** @param {HTMLElement} root @param {URLSearchParams} query */
export function mountList(root, query) {
  const list = new SearchTable(query.get("state") ?? "");
  root.append(
    h("div", { class: "page-head" },
      h("h1", null, "Searches"),
      h("div", { class: "tools" }, list.compare, h("a", { class: "button primary", href: "#/searches/new" }, "New search"))),
    list.element);
  list.load();
  return { leave: () => list.leave() };
}

class SearchTable {
  /** @param {string} state */
  constructor(state) {
    this.state = state;
    /** @type {Search[]} */
    this.searches = [];
    /** @type {string|null} */
    this.next = null;
    /** @type {Set<string>} */
    this.marked = new Set();
    this.timer = 0;
    this.compare = h("button", { type: "button", class: "button", disabled: true, onclick: () => go(`#/compare?ids=${[...this.marked].join(",")}`) }, "Compare fronts");
    this.body = h("tbody");
    this.table = h("div", { class: "table-wrap" }, h("table", { class: "searches" },
      h("thead", null, h("tr", null,
        h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Compare")), h("th", { scope: "col" }, "Search"), h("th", { scope: "col" }, "State"),
        h("th", { scope: "col", class: "n" }, "Subnets"), h("th", { scope: "col", class: "n" }, "Scored"), h("th", { scope: "col", class: "n" }, "Started"))),
      this.body));
    this.empty = h("div", { class: "empty", hidden: true }, h("h2", null, "No searches here"), h("p", null, "A search takes about a second."), h("a", { class: "button primary", href: "#/searches/new" }, "New search"));
    this.fault = h("div");
    this.more = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.loadMore() }, "Show older ones");
    this.element = h("section", { class: "card", "aria-label": "Searches" },
      h("div", { class: "list-tools" }, segments({ label: "State", value: state, options: STATES, onchange: (chosen) => this.filter(chosen) })),
      this.fault, this.table, this.empty, this.more);
    this.back = () => this.load();
    window.addEventListener("salnas-online", this.back);
  }

  leave() {
    clearTimeout(this.timer);
    this.left = true;
    window.removeEventListener("salnas-online", this.back);
  }

  /** @private @param {string} state */
  filter(state) {
    this.state = state;
    note({ state });
    this.searches = [];
    this.load();
  }

  async load() {
    clearTimeout(this.timer);
    const { state } = this;
    try {
      const page = await listSearches({ state, pageSize: Math.max(50, this.searches.length) });
      if (this.left || state !== this.state) return;
      this.searches = page.searches;
      this.next = page.next_page_token;
      this.fault.replaceChildren();
      this.show();
      // What runs changes; the page of a search has a stream for it, a list is asked again.
      if (this.searches.some((search) => !isFinal(search.state))) this.timer = setTimeout(() => this.load(), REFRESH_MS);
    } catch (error) {
      if (!this.left) this.fault.replaceChildren(errorNotice(error, () => this.load()));
    }
  }

  /** @private */
  async loadMore() {
    try {
      const page = await listSearches({ state: this.state, pageToken: this.next ?? undefined });
      this.searches.push(...page.searches);
      this.next = page.next_page_token;
      this.show();
    } catch (error) {
      this.fault.replaceChildren(errorNotice(error));
    }
  }

  /** @private */
  show() {
    const focused = document.activeElement?.getAttribute("data-key");
    this.body.replaceChildren(...this.searches.map((search) => this.row(search)));
    if (focused) /** @type {HTMLElement|null} */ (this.body.querySelector(`[data-key="${CSS.escape(focused)}"]`))?.focus();
    this.table.hidden = !this.searches.length;
    this.empty.hidden = this.searches.length > 0;
    this.more.hidden = !this.next;
  }

  /** @private @param {Search} search */
  row(search) {
    const bounds = boundsOf(search);
    const title = search.id.startsWith("default-") ? `${objectivesText(search)} (default)` : objectivesText(search);
    const result = search.result ?? search.progress;
    return h("tr", null,
      h("td", null, h("input", {
        type: "checkbox", "data-key": `mark ${search.id}`, "aria-label": `Compare ${title}`, checked: this.marked.has(search.id), disabled: !result,
        onchange: (/** @type {Event} */ event) => this.mark(search.id, /** @type {HTMLInputElement} */ (event.target)),
      })),
      h("td", null, h("a", { href: `#/searches/${search.id}`, "data-key": search.id }, title), h("div", { class: "quiet" }, `${bounds.length ? bounds.join(", ") : "no constraints"} · ${meaningText(search)}`)),
      h("td", null, stateBadge(search)),
      h("td", { class: "n", "data-label": "Subnets" }, result ? count(result.subnets) : "–"),
      h("td", { class: "n", "data-label": "Scored" }, result ? count(result.evaluations) : "–"),
      h("td", { class: "n" }, clock(search.created_at)));
  }

  /** @private @param {string} id @param {HTMLInputElement} box */
  mark(id, box) {
    if (box.checked && this.marked.size >= MOST) {
      box.checked = false;
      return;
    }
    if (box.checked) this.marked.add(id);
    else this.marked.delete(id);
    this.compare.disabled = this.marked.size < 2;
    this.compare.textContent = this.marked.size ? `Compare ${this.marked.size} fronts` : "Compare fronts";
  }
}
