/** Fronts of several searches in one plot. */

import { getFront, getSearch } from "../api.js";
import { choice, errorNotice, h } from "../dom.js";
import { ON_DEVICE, axisTitle, clock, count, inUnits, metricName, quantity, valueOf, withUnit } from "../format.js";
import { sharedHypervolumes, staircase } from "../frontplot.js";
import { home } from "../home.js";
import { CONFIG, baseLayout, loadPlotly, plotlyIfLoaded, seriesColour } from "../plotly.js";
import { note } from "../place.js";
import { explained, meaningText, objectivesText, boundsOf, searchTitle } from "../searchtext.js";

/** @typedef {import("../types.js").Front} Front */
/** @typedef {import("../types.js").Search} Search */

const AXES = ["latency_ms", "macs", "parameters", "memory_bytes", "energy_mj"];
const MOST = 6;
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];

/**
 * @typedef {{search: Search, front: Front, colour: number}} Found  `colour` is the number of its series
 * @typedef {{found: Found[], plot: HTMLElement}} Group  fronts whose numbers mean the same
 */

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
    /** @type {Found[]} */
    this.found = [];
    /** @type {Group[]} */
    this.groups = [];
    this.axis = h("div");
    this.rows = h("tbody");
    this.fault = h("div");
    this.apart = h("div");
    this.plots = h("div", { class: "compare-plots" }, h("section", { class: "card", "aria-label": "Fronts" }, h("div", { class: "compare-plot" })));
    this.note = h("p", { class: "quiet" });
    this.numbers = h("section", { class: "card table-card", "aria-label": "Numbers" },
      h("div", { class: "table-wrap" }, h("table", { class: "compared" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Search"), ["Subnets", "Shared hypervolume", "Best accuracy", "Least cost"].map((text) => h("th", { scope: "col", class: "n" }, text)), h("th", { scope: "col" }, "Knee"))),
        this.rows)),
      this.note);
    root.append(
      h("div", { class: "page-head" }, h("h1", null, "Compare fronts"), h("div", { class: "tools" }, this.axis, h("a", { class: "button", href: "#/searches" }, "Choose others"))),
      this.fault, this.apart, this.plots, this.numbers);
    this.redraw = () => this.draw();
    window.addEventListener("salnas-theme", this.redraw);
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.plots);
  }

  leave() {
    this.left = true;
    this.sizes.disconnect();
    window.removeEventListener("salnas-theme", this.redraw);
    this.purge();
  }

  async start() {
    this.fault.replaceChildren();
    try {
      const answers = await Promise.all(this.ids.map(async (id) => ({ search: await this.get(id), front: await getFront(id) })));
      this.processors = (await home()).processors;
      if (this.left) return;
      this.found = answers.filter(({ front }) => front.subnets.length).map((one, colour) => ({ ...one, colour }));
      const empty = answers.filter(({ front }) => !front.subnets.length).map(({ search }) => searchTitle(search));
      if (empty.length) this.fault.replaceChildren(h("p", { class: "notice apart" }, `Without a front, so not shown: ${empty.join("; ")}.`));
      this.plots.hidden = this.numbers.hidden = !this.found.length;
      const shared = AXES.filter((name) => this.found.every(({ front }) => valueOf(front.subnets[0], name) !== null));
      if (!shared.includes(this.x)) this.x = shared[0];
      this.axis.replaceChildren(choice({ label: "Over", class: "", value: this.x, options: shared.map((name) => ({ value: name, text: quantity(name).label })), onchange: (x) => this.turnTo(x) }));
      this.show();
    } catch (error) {
      if (this.left) return;
      this.plots.hidden = this.numbers.hidden = true;
      this.fault.replaceChildren(errorNotice(error, () => this.start()));
    }
  }

  /** @private @param {string} id */
  async get(id) {
    try {
      return await getSearch(id);
    } catch (error) {
      throw explained(error, id);
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
    this.purge();
    /** @type {Map<string, Found[]>} */
    const alike = new Map();
    for (const one of this.found) {
      const { front } = one;
      const key = axisTitle(this.x, front.accuracy_metric, front.device) + metricName(front.accuracy_metric);
      alike.set(key, [...(alike.get(key) ?? []), one]);
    }
    this.groups = [...alike.values()].map((found) => ({ found, plot: h("div", { class: "compare-plot", role: "img", "aria-label": `${titleOf(found[0].front, this.x)}: ${found.map(({ search }) => searchTitle(search)).join("; ")}. The table below has the numbers.` }) }));
    this.plots.replaceChildren(...this.groups.map(({ found, plot }) => h("section", { class: "card", "aria-label": titleOf(found[0].front, this.x) },
      this.groups.length > 1 && h("h2", null, titleOf(found[0].front, this.x)), plot)));
    this.apart.replaceChildren(...(this.groups.length > 1 ? [h("p", { class: "notice apart" }, apartText(this.found.map(({ front }) => front), this.x))] : []));
    this.rows.replaceChildren(...this.groups.flatMap(({ found }) => {
      const volumes = found.length > 1 ? sharedHypervolumes(found.map(({ front }) => front), this.x) : [];
      return found.map((one, index) => this.row(one, volumes[index]));
    }));
    this.note.textContent = this.groups.some(({ found }) => found.length > 1)
      ? `Shared hypervolume: of what the fronts of one plot dominate together in accuracy and ${quantity(this.x).label.toLowerCase()}, how much each one does. A front alone in its plot has none.`
      : "No two of these fronts share both axes, so their hypervolumes cannot be compared.";
    this.draw();
  }

  /** @private @param {Found} found @param {number} [volume] */
  row({ search, front, colour }, volume) {
    const steps = staircase(front, this.x);
    const best = steps.at(-1);
    const title = search.id.startsWith("default-") ? `${objectivesText(search)} (default)` : [objectivesText(search), ...boundsOf(search), clock(search.created_at)].join(", ");
    return h("tr", null,
      h("td", null, h("span", { class: "with-swatch" }, h("i", { class: "swatch", style: { background: seriesColour(colour) } }), h("a", { href: `#/searches/${search.id}` }, title)),
        h("div", { class: "quiet", title: this.processors?.[front.device] ?? "" }, meaningText(search))),
      h("td", { class: "n", "data-label": "Subnets" }, count(front.subnets.length)),
      h("td", { class: "n", "data-label": "Shared hypervolume" }, volume === undefined ? "–" : `${(100 * volume).toFixed(1)} %`),
      h("td", { class: "n", "data-label": "Best accuracy" }, best ? `${metricName(front.accuracy_metric)} ${inUnits("accuracy", valueOf(best, "accuracy"))}` : "–"),
      h("td", { class: "n", "data-label": "Least cost" }, steps[0] ? withUnit(this.x, valueOf(steps[0], this.x)) : "–"),
      h("td", { class: "mono", "data-label": "Knee" }, front.knee ? h("a", { href: `#/subnet/${front.knee}` }, front.knee) : "–"));
  }

  /** @private */
  purge() {
    for (const { plot } of this.groups) if (plot.firstChild) plotlyIfLoaded()?.purge(plot);
  }

  /** @private */
  async draw() {
    if (!this.groups.length) return;
    const plotly = await loadPlotly();
    if (this.left) return;
    for (const { found, plot } of this.groups) {
      const [{ front }] = found;
      const { width, height } = plot.getBoundingClientRect();
      const layout = { ...baseLayout({ x: axisTitle(this.x, front.accuracy_metric, front.device), y: axisTitle("accuracy", front.accuracy_metric, front.device) }), width: Math.round(width), height: Math.round(height), uirevision: this.x };
      layout.yaxis.automargin = true;
      plotly.react(plot, found.map((one) => this.trace(one)), layout, CONFIG);
    }
  }

  /** @private @param {Found} found */
  trace({ search, front, colour }) {
    const steps = staircase(front, this.x);
    const { scale } = quantity(this.x);
    return {
      x: steps.map((subnet) => (valueOf(subnet, this.x) ?? NaN) / scale), y: steps.map((subnet) => valueOf(subnet, "accuracy")), text: steps.map((subnet) => subnet.id),
      type: "scatter", mode: "lines", line: { shape: "hv", width: 2, color: seriesColour(colour), dash: DASHES[colour] }, name: searchTitle(search), hovertemplate: "%{text}<br>%{y:.4f} at %{x:.4g}<extra></extra>",
    };
  }
}

/** `CC over latency on cpu-1-thread`. @param {Front} front @param {string} x */
function titleOf(front, x) {
  const device = ON_DEVICE.includes(x) ? ` on ${front.device}` : "";
  return `${metricName(front.accuracy_metric)} over ${quantity(x).label.toLowerCase()}${device}`;
}

/** Why fronts are in plots of their own. @param {Front[]} fronts @param {string} x */
function apartText(fronts, x) {
  const metrics = [...new Set(fronts.map((front) => metricName(front.accuracy_metric)))];
  const devices = [...new Set(fronts.map((front) => front.device))];
  const reasons = [
    metrics.length > 1 && `their accuracies are ${metrics.join(" and ")}`,
    devices.length > 1 && ON_DEVICE.includes(x) && `they are of the devices ${devices.join(" and ")}`,
  ].filter(Boolean);
  return `These fronts cannot all be compared: ${reasons.join(", and ")}. Each plot holds those that can.`;
}
