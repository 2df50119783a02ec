/** Fronts of several searches in one plot. */

import { getFront, getSearch } from "../api.js";
import { choice, errorNotice, h } from "../dom.js";
import { axisTitle, count, inUnits, metricName, quantity, significant, valueOf, withUnit } from "../format.js";
import { staircase } from "../frontplot.js";
import { CONFIG, baseLayout, loadPlotly, seriesColour } from "../plotly.js";
import { note } from "../place.js";
import { searchTitle } from "../searchtext.js";

/** @typedef {import("../types.js").Front} Front */
/** @typedef {import("../types.js").Search} Search */

const AXES = ["latency_ms", "macs", "parameters", "memory_bytes", "energy_mj"];
const MOST = 6;

/** @type {import("../main.js").Mount} */
export function mount(root, place) {
  const view = new CompareView(root, (place.query.get("ids") ?? "default").split(",").filter(Boolean).slice(0, MOST), place.query.get("x"));
  view.start();
  return { leave: () => view.leave() };
}

class CompareView {
  /** @param {HTMLElement} root @param {string[]} ids @param {string|null} x */
  constructor(root, ids, x) {
    this.ids = ids;
    this.x = x ?? "latency_ms";
    /** @type {{search: Search, front: Front}[]} */
    this.found = [];
    this.plot = h("div", { class: "compare-plot", role: "img", "aria-label": "Fronts over each other; the table below has the numbers" });
    this.axis = h("div");
    this.rows = h("tbody");
    this.scored = h("th", { scope: "col", class: "n" }, "Best accuracy");
    this.fault = h("div");
    root.append(
      h("div", { class: "page-head" }, h("h1", null, "Compare fronts"), h("div", { class: "tools" }, this.axis, h("a", { class: "button", href: "#/searches" }, "Choose others"))),
      this.fault,
      h("section", { class: "card", "aria-label": "Fronts" }, this.plot),
      h("section", { class: "card table-card", "aria-label": "Numbers" }, h("div", { class: "table-wrap" }, h("table", null,
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Search"), ["Subnets", "Hypervolume"].map((text) => h("th", { scope: "col", class: "n" }, text)), this.scored, h("th", { scope: "col", class: "n" }, "Least cost"), h("th", { scope: "col" }, "Knee"))),
        this.rows))));
    this.redraw = () => this.draw();
    window.addEventListener("salnas-theme", this.redraw);
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.plot);
  }

  leave() {
    this.left = true;
    this.sizes.disconnect();
    window.removeEventListener("salnas-theme", this.redraw);
  }

  async start() {
    try {
      this.found = await Promise.all(this.ids.map(async (id) => ({ search: await getSearch(id), front: await getFront(id) })));
      if (this.left) return;
      this.found = this.found.filter(({ front }) => front.subnets.length);
      const shared = AXES.filter((name) => this.found.every(({ front }) => valueOf(front.subnets[0], name) !== null));
      if (!shared.includes(this.x)) this.x = shared[0];
      this.axis.replaceChildren(choice({ label: "Over", class: "", value: this.x, options: shared.map((name) => ({ value: name, text: quantity(name).label })), onchange: (x) => this.turnTo(x) }));
      this.show();
    } catch (error) {
      if (!this.left) this.fault.replaceChildren(errorNotice(error, () => this.start()));
    }
  }

  /** @private @param {string} x */
  turnTo(x) {
    this.x = x;
    note({ x });
    this.show();
  }

  /** @private */
  show() {
    this.rows.replaceChildren(...this.found.map(({ search, front }, index) => {
      const steps = staircase(front, this.x);
      const best = steps.at(-1);
      return h("tr", null,
        h("td", null, h("span", { class: "with-swatch" }, h("i", { class: "swatch", style: { background: seriesColour(index) } }), h("a", { href: `#/searches/${search.id}` }, searchTitle(search)))),
        h("td", { class: "n" }, count(front.subnets.length)), h("td", { class: "n" }, significant(front.hypervolume, 4)),
        h("td", { class: "n" }, best ? `${metricName(front.accuracy_metric)} ${inUnits("accuracy", valueOf(best, "accuracy"))}` : "–"),
        h("td", { class: "n" }, steps[0] ? withUnit(this.x, valueOf(steps[0], this.x)) : "–"),
        h("td", { class: "mono" }, front.knee ? h("a", { href: `#/subnet/${front.knee}` }, front.knee) : "–"));
    }));
    this.draw();
  }

  /** @private */
  async draw() {
    if (!this.found.length) return;
    const plotly = await loadPlotly();
    if (this.left) return;
    const [{ front }] = this.found;
    const { width, height } = this.plot.getBoundingClientRect();
    const layout = { ...baseLayout({ x: axisTitle(this.x, front.accuracy_metric, front.device), y: axisTitle("accuracy", front.accuracy_metric, front.device) }), width: Math.round(width), height: Math.round(height), uirevision: this.x };
    const { scale } = quantity(this.x);
    const traces = this.found.map(({ search, front: one }, index) => {
      const steps = staircase(one, this.x);
      return {
        x: steps.map((subnet) => (valueOf(subnet, this.x) ?? NaN) / scale), y: steps.map((subnet) => valueOf(subnet, "accuracy")), text: steps.map((subnet) => subnet.id),
        type: "scatter", mode: "lines", line: { shape: "hv", width: 2, color: seriesColour(index), dash: ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"][index] }, name: searchTitle(search), hovertemplate: "%{text}<br>%{y:.4f} at %{x:.4g}<extra></extra>",
      };
    });
    plotly.react(this.plot, traces, layout, CONFIG);
  }
}
