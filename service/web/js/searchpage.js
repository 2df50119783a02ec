/** One search: how it goes, its curve, its front, and what can be done with it. */

import { Problem, changeSearch, followSearch, getFront, getSearch, isFinal, isOnline, listEvents, whenBack } from "./api.js";
import { errorNotice, h } from "./dom.js";
import { axisTitle, clock, countsMeasured, quantity, valueOf } from "./format.js";
import { home } from "./home.js";
import { staircase } from "./frontplot.js";
import { CONFIG, baseLayout, colour, loadPlotly } from "./plotly.js";
import { figureRow, figures, stateBadge } from "./searchcard.js";
import { boundsOf, explained, isRefusal, meaningText, objectivesText, waitingText } from "./searchtext.js";

/** @typedef {import("./types.js").Search} Search */
/** @typedef {import("./types.js").Front} Front */

const GROW_MS = 1000;

/** @param {HTMLElement} root @param {string} id */
export function mountSearch(root, id) {
  const page = new SearchPage(root, id);
  page.start();
  return { leave: () => page.leave() };
}

class SearchPage {
  /** @param {HTMLElement} root @param {string} id */
  constructor(root, id) {
    this.root = root;
    this.id = id;
    /** @type {{evaluations: number, hypervolume: number}[]} */
    this.curve = [];
    this.asked = -Infinity;
    /** @type {string} for which the actions are there */
    this.shown = "";
    this.title = h("h1", null, "Search");
    this.badge = h("span");
    this.actions = h("div", { class: "tools" });
    this.about = h("p", { class: "muted" }, "\u00a0");
    this.fault = h("div", { class: "fault" });
    this.done = h("i");
    this.bar = h("div", { class: "progress", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, this.done);
    this.figures = h("div", { class: "figures-place" });
    this.frontPlot = h("div", { class: "small-plot", role: "img", "aria-label": "The front so far" });
    this.curvePlot = h("div", { class: "small-plot", role: "img", "aria-label": "Hypervolume over subnets scored" });
    root.append(
      h("div", { class: "page-head" }, this.title, this.badge, this.actions), this.about, this.fault,
      h("section", { class: "card live-card", "aria-label": "Progress" }, this.bar, this.figures),
      h("div", { class: "pair" },
        h("section", { class: "card", "aria-label": "Front" }, h("h2", null, "Front"), this.frontPlot),
        h("section", { class: "card", "aria-label": "Hypervolume" }, h("div", { class: "plot-head" }, h("h2", null, "Hypervolume"), h("p", { class: "quiet" }, "in a box of its own, so not comparable between searches")), this.curvePlot)));
    this.redraw = () => this.draw();
    window.addEventListener("salnas-theme", this.redraw);
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.frontPlot);
  }

  leave() {
    this.left = true;
    this.root.classList.remove("bare");
    this.unfollow?.();
    this.sizes.disconnect();
    window.removeEventListener("salnas-theme", this.redraw);
  }

  async start() {
    try {
      const search = await getSearch(this.id);
      if (this.left) return;
      this.id = search.id;
      this.root.classList.remove("bare");
      this.show(search);
      home().then(({ processors }) => (this.about.title = processors[search.request.device] ?? ""), () => {});
      if (isFinal(search.state)) {
        this.curve = (await listEvents(search.id)).filter((event) => event.kind === "progress").map((event) => event.data);
        await this.grow();
      } else {
        this.draw(); // what it does until there is a front
        this.follow();
      }
    } catch (error) {
      if (!this.left) this.missing(error);
    }
  }

  /** There is no such search, or no answer: say so, and nothing else. @private @param {unknown} error */
  missing(error) {
    this.root.classList.add("bare");
    this.about.replaceChildren();
    this.fault.replaceChildren(
      errorNotice(explained(error, this.id), error instanceof Problem ? null : () => this.start()),
      h("p", { class: "ways" }, h("a", { class: "button", href: "#/searches" }, "All searches")));
    if (!isOnline()) whenBack(() => !this.left && this.start());
  }

  /** @private */
  follow() {
    this.unfollow?.();
    this.curve = [];
    this.unfollow = followSearch(this.id, {
      onchange: (search) => {
        this.show(search);
        if (isFinal(search.state)) this.grow();
      },
      onprogress: (progress) => {
        if (progress.evaluations > (this.curve.at(-1)?.evaluations ?? 0)) this.curve.push(progress);
        if (this.search && !isFinal(this.search.state)) this.show({ ...this.search, progress });
        if (performance.now() - this.asked > GROW_MS) this.grow();
      },
    });
  }

  /** @private @param {Search} search */
  show(search) {
    this.search = search;
    this.title.textContent = objectivesText(search);
    document.title = `${objectivesText(search)} · SalNAS`;
    this.badge.replaceChildren(stateBadge(search));
    const bounds = boundsOf(search);
    this.about.replaceChildren([
      bounds.length ? bounds.join(", ") : "No constraints", meaningText(search), `started ${clock(search.created_at)}`,
    ].join(" · "), search.parent ? h("span", null, " · forked from ", h("a", { href: `#/searches/${search.parent}` }, "this search")) : "");
    this.bar.hidden = isFinal(search.state);
    const percent = Math.round(100 * (search.progress?.fraction ?? 0));
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.done.style.width = `${percent}%`;
    this.bar.classList.toggle("unknown", !search.progress);
    this.figures.replaceChildren(figureRow(figures(search)));
    const waiting = this.frontPlot.querySelector(":scope > .empty");
    if (waiting) waiting.textContent = waitingText(search);
    this.showActions(search);
    // A search that failed before it found anything has nothing to show but why.
    this.root.classList.toggle("bare", search.state === "failed" && !search.result && !search.progress);
    if (search.error) this.fault.replaceChildren(errorNotice(Object.assign(new Error(search.error.detail), { remedy: search.error.remedy })));
    else this.fault.replaceChildren();
  }

  /** @private @param {Search} search */
  showActions(search) {
    const state = `${search.state} ${search.cancel_requested} ${Boolean(search.result ?? search.progress)}`;
    if (state === this.shown) return;
    this.shown = state;
    const act = (/** @type {"cancel"|"resume"} */ verb, /** @type {string} */ text) => h("button", { type: "button", class: "button", onclick: () => this.act(verb) }, text);
    const found = Boolean(search.result ?? search.progress);
    const resumable = search.state === "cancelled" || (search.state === "failed" && !(search.error && isRefusal(search.error)));
    this.actions.replaceChildren(...[
      !isFinal(search.state) && !search.cancel_requested && act("cancel", "Cancel"),
      resumable && act("resume", "Resume"),
      isFinal(search.state) && h("a", { class: "button", href: `#/searches/new?from=${search.id}` }, "Fork"),
      found && h("a", { class: "button primary", href: `#/front?search=${search.id}` }, "Open the front"),
    ].filter((one) => one !== false));
  }

  /** @private @param {"cancel"|"resume"} verb */
  async act(verb) {
    try {
      const search = await changeSearch(this.id, verb);
      this.show(search);
      if (!isFinal(search.state)) this.follow();
    } catch (error) {
      this.fault.replaceChildren(errorNotice(error));
    }
  }

  /** Fetch the front as it is now, and draw. @private */
  async grow() {
    this.asked = performance.now();
    try {
      this.front = await getFront(this.id);
    } catch {
      // The curve is worth drawing without it.
    }
    await this.draw();
  }

  /** @private */
  async draw() {
    if (this.left || !this.search || (!this.front && !this.curve.length && isFinal(this.search.state))) return;
    const plotly = await loadPlotly();
    if (this.left) return;
    if (this.front?.subnets.length) drawFront(plotly, this.frontPlot, this.front);
    else this.frontPlot.replaceChildren(h("div", { class: "empty" }, waitingText(this.search)));
    if (this.curve.length) drawCurve(plotly, this.curvePlot, this.curve, this.search.result);
    else this.curvePlot.replaceChildren(h("div", { class: "empty" }, isFinal(this.search.state) ? "This search kept no curve." : "The curve begins with the first report of the search."));
  }
}

/** @param {import("./plotly.js").Plotly} plotly @param {HTMLElement} place @param {Front} front */
function drawFront(plotly, place, front) {
  const names = front.objectives.map((text) => String(text.split(":").pop()));
  const x = names.find((name) => name !== "accuracy") ?? names[0];
  const { scale } = quantity(x);
  const steps = names.includes("accuracy") ? staircase(front, x) : front.subnets;
  const y = names.includes("accuracy") ? "accuracy" : names[1];
  const over = quantity(y).scale;
  const layout = { ...baseLayout({ x: axisTitle(x, front.accuracy_metric, front.device), y: axisTitle(y, front.accuracy_metric, front.device) }), ...size(place) };
  layout.yaxis.automargin = true;
  const isMeasured = (/** @type {import("./types.js").Subnet} */ subnet) => countsMeasured(subnet, "accuracy");
  const trace = {
    x: steps.map((subnet) => (valueOf(subnet, x) ?? NaN) / scale), y: steps.map((subnet) => (valueOf(subnet, y) ?? NaN) / over),
    type: steps.length > 1500 ? "scattergl" : "scatter", mode: "markers", text: steps.map((subnet) => (isMeasured(subnet) ? "measured" : "predicted")),
    marker: { color: colour("series-1"), size: steps.map((subnet) => (isMeasured(subnet) ? 7 : 5)), symbol: steps.map((subnet) => (isMeasured(subnet) ? "diamond" : "circle")) }, hovertemplate: "%{y:.4g} at %{x:.4g}, %{text}<extra></extra>",
  };
  tidy(place);
  plotly.react(place, [trace], layout, CONFIG);
}

/** @param {import("./plotly.js").Plotly} plotly @param {HTMLElement} place @param {{evaluations: number, hypervolume: number}[]} curve @param {Search["result"]} result */
function drawCurve(plotly, place, curve, result) {
  const points = [...curve];
  if (result && result.evaluations > (points.at(-1)?.evaluations ?? 0)) points.push(result);
  const layout = { ...baseLayout({ x: "Subnets scored", y: "Hypervolume" }), ...size(place) };
  Object.assign(layout.xaxis, { rangemode: "tozero" });
  layout.yaxis.automargin = true;
  const trace = {
    x: points.map((point) => point.evaluations), y: points.map((point) => point.hypervolume), type: "scatter", mode: points.length > 40 ? "lines" : "lines+markers",
    line: { color: colour("series-1"), width: 2 }, marker: { size: 5 }, hovertemplate: "%{y:.4f} after %{x:,}<extra></extra>",
  };
  tidy(place);
  plotly.react(place, [trace], layout, CONFIG);
}

/** Take away what was written where a plot comes. @param {HTMLElement} place */
function tidy(place) {
  place.querySelector(":scope > .empty")?.remove();
}

/** @param {HTMLElement} place */
function size(place) {
  const { width, height } = place.getBoundingClientRect();
  return { width: Math.round(width), height: Math.round(height) };
}
