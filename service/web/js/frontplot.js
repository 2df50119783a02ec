/** The plot of a front, and over it the budget line, the best subnet under it and the chosen one. */

import { h, svg } from "./dom.js";
import { axisTitle, besideMeasured, countsMeasured, interval, inUnits, measuredOf, metricName, quantity, resolutionText, valueOf, withUnit } from "./format.js";
import { choiceText, geneText, genesOf } from "./genes.js";
import { CONFIG, baseLayout, colour, faded, loadPlotly, plotlyIfLoaded, seriesColour, stepColours } from "./plotly.js";

/** @typedef {import("./types.js").Front} Front */
/** @typedef {import("./types.js").Subnet} Subnet */
/** @typedef {import("./types.js").Space} Space */
/** @typedef {import("./types.js").Model} Model */

/**
 * @typedef {Object} View
 * @property {string} x  name of the column to the right
 * @property {string} colour  "resolution" or the name of a gene
 * @property {boolean} intervals
 */

const MANY = 2500; // points from which WebGL draws them
const MARGIN = { l: 62, r: 18, t: 30, b: 50 };
const REACH = 2; // a model at more than so many times what the dearest subnet costs would press the front into a line
const THUMB = 22;
const PICTURE = { width: 1200, height: 760 };

/** Whether more of the accuracy metric is better. @param {Front} front */
export function higherIsBetter(front) {
  return front.accuracy_metric !== "kld";
}

/**
 * Subnets that no other one beats in accuracy and `x`, from the left.
 * @param {Front} front
 * @param {string} x
 * @returns {Subnet[]}
 */
export function staircase(front, x) {
  const sign = higherIsBetter(front) ? 1 : -1;
  const order = front.subnets
    .map((subnet) => ({ subnet, at: valueOf(subnet, x) ?? NaN, score: sign * (valueOf(subnet, "accuracy") ?? NaN) }))
    .filter(({ at, score }) => Number.isFinite(at) && Number.isFinite(score))
    .sort((a, b) => a.at - b.at || b.score - a.score);
  const kept = [];
  let best = -Infinity;
  for (const { subnet, score } of order) {
    if (score > best) {
      best = score;
      kept.push(subnet);
    }
  }
  return kept;
}

/**
 * The most accurate subnet within a budget, null where there is none.
 * @param {Subnet[]} steps as `staircase` gives them
 * @param {string} x
 * @param {number} budget
 */
export function bestWithin(steps, x, budget) {
  let found = null;
  for (const subnet of steps) {
    if (/** @type {number} */ (valueOf(subnet, x)) > budget) break;
    found = subnet;
  }
  return found;
}

/**
 * How much of what all fronts dominate together each one dominates, in the plane of accuracy and `x`. The box reaches
 * from the best to the worst value of all of them and 1 % beyond the worst, as in `search.front.compare`.
 * @param {Front[]} fronts  of one accuracy metric, and of one device where `x` is known on devices only
 * @param {string} x
 * @returns {number[]}
 */
export function sharedHypervolumes(fronts, x) {
  const points = fronts.map((front) => front.subnets
    .map((subnet) => ({ cost: valueOf(subnet, x) ?? NaN, loss: (higherIsBetter(front) ? -1 : 1) * (valueOf(subnet, "accuracy") ?? NaN) }))
    .filter(({ cost, loss }) => Number.isFinite(cost) && Number.isFinite(loss))
    .sort((a, b) => a.cost - b.cost || a.loss - b.loss));
  const all = points.flat().sort((a, b) => a.cost - b.cost || a.loss - b.loss);
  const limit = (/** @type {number[]} */ values) => Math.max(...values) + 0.01 * (Math.max(...values) - Math.min(...values) || 1);
  const corner = { cost: limit(all.map(({ cost }) => cost)), loss: limit(all.map(({ loss }) => loss)) };
  const area = (/** @type {{cost: number, loss: number}[]} */ sorted) => {
    let [sum, best] = [0, corner.loss];
    for (const { cost, loss } of sorted) {
      if (loss >= best) continue;
      sum += (best - loss) * (corner.cost - cost);
      best = loss;
    }
    return sum;
  };
  const whole = area(all);
  return points.map((sorted) => area(sorted) / whole);
}

/** The plot as an element of its own; `update` and `setBudget` change it. */
export class FrontPlot {
  /**
   * @param {{onbudget: (budget: number, final: boolean) => void, onpick: (id: string) => void}} handlers
   */
  constructor(handlers) {
    this.handlers = handlers;
    /** @type {Front|null} */
    this.front = null;
    /** @type {Space|null} */
    this.space = null;
    /** @type {Model[]} */
    this.models = [];
    /** @type {View} */
    this.view = { x: "latency_ms", colour: "resolution", intervals: true };
    /** @type {number|null} */
    this.budget = null;
    /** @type {string|null} */
    this.chosen = null;
    /** @type {Subnet|null} */
    this.extra = null;
    this.plot = /** @type {HTMLDivElement & import("./plotly.js").Drawn} */ (h("div", { class: "plot-canvas" }));
    this.overlay = svg("svg", { class: "plot-overlay", "aria-hidden": "true" });
    this.handle = h("div", { class: "budget-handle", hidden: true });
    this.slider = h("input", { type: "range", class: "budget-slider", "aria-label": "Budget", min: 0, max: 1000, step: 1, hidden: true });
    this.legend = h("ul", { class: "legend-row" });
    this.tools = h("div", { class: "plot-tools" });
    this.whole = h("button", { type: "button", class: "button small reset-zoom", hidden: true, onclick: () => this.zoomOut() }, "Show all");
    this.box = h("div", { class: "plot-box", role: "group", "aria-label": "Plot of the front" }, this.plot, this.overlay, this.handle, this.slider, this.whole);
    this.element = h("div", { class: "front-plot" }, this.box, h("div", { class: "plot-foot" }, this.legend, this.tools));
    this.slider.addEventListener("input", () => this.slid(false));
    this.slider.addEventListener("change", () => this.slid(true));
    this.dragHandle();
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.box);
    this.recolour = () => this.draw();
    window.addEventListener("salnas-theme", this.recolour);
  }

  /** Forget everything that outlives the element. */
  destroy() {
    this.sizes.disconnect();
    window.removeEventListener("salnas-theme", this.recolour);
    if (this.drawn) plotlyIfLoaded()?.purge(this.plot);
  }

  /**
   * @param {Front} front
   * @param {Space|null} space
   * @param {Partial<View>} view
   */
  async update(front, space, view) {
    this.front = front;
    this.space = space;
    this.view = { ...this.view, ...view };
    this.steps = staircase(front, this.view.x);
    await this.draw();
  }

  /** @param {number|null} budget @param {string|null} chosen id of the subnet that is shown */
  setBudget(budget, chosen) {
    this.budget = budget;
    this.chosen = chosen;
    this.place();
  }

  /** Show a subnet that is not of this front. @param {Subnet|null} subnet */
  setExtra(subnet) {
    this.extra = subnet;
    this.place();
  }

  /** Reference models to draw beside the subnets. @param {Model[]} models */
  setModels(models) {
    this.models = models;
    return this.draw();
  }

  /** @private */
  async draw() {
    if (!this.front) return;
    const plotly = await loadPlotly();
    if (!this.plot.isConnected) return;
    const { width, height } = this.box.getBoundingClientRect();
    const narrow = width < 480;
    const { traces, legend, beyond } = this.traces(narrow);
    const titles = { x: axisTitle(this.view.x, this.front.accuracy_metric, this.front.device), y: axisTitle("accuracy", this.front.accuracy_metric, this.front.device) };
    if (narrow) titles.y = metricName(this.front.accuracy_metric);
    const layout = { ...baseLayout({ ...titles, margin: MARGIN }), annotations: beyond };
    this.key = `${this.view.x} ${this.front.subnets.length} ${this.front.hypervolume}`;
    Object.assign(layout, { width: Math.round(width), height: Math.round(height), uirevision: this.key });
    await plotly.react(this.plot, traces, layout, CONFIG);
    if (!this.drawn) {
      this.drawn = true;
      this.plot.on("plotly_click", (event) => {
        const id = event.points[0]?.customdata;
        if (id) this.handlers.onpick(id);
      });
      this.plot.on("plotly_relayout", () => this.place());
      this.plot.on("plotly_relayouting", () => this.place());
    }
    this.legend.replaceChildren(...legend);
    this.place();
  }

  /** Undo a zoom. @private */
  zoomOut() {
    plotlyIfLoaded()?.relayout(this.plot, { "xaxis.autorange": true, "yaxis.autorange": true });
    this.slider.focus({ preventScroll: true });
  }

  /** @private */
  resize() {
    if (!this.drawn) return;
    const { width, height } = this.box.getBoundingClientRect();
    if (!width) return;
    plotlyIfLoaded()?.relayout(this.plot, { width: Math.round(width), height: Math.round(height) });
  }

  /** @private @param {boolean} narrow */
  traces(narrow) {
    const front = /** @type {Front} */ (this.front);
    const { x } = this.view;
    const { scale } = quantity(x);
    const at = (/** @type {Subnet} */ subnet) => /** @type {number} */ (valueOf(subnet, x)) / scale;
    const steps = this.steps ?? [];
    const onStairs = new Set(steps.map((subnet) => subnet.id));
    const kinds = colouring(front, this.space, this.view.colour);
    const type = front.subnets.length > MANY ? "scattergl" : "scatter";
    const traces = [];
    if (this.view.intervals) traces.push(...band(steps, at));
    traces.push({
      x: steps.map(at), y: steps.map((subnet) => valueOf(subnet, "accuracy")), type: "scatter", mode: "lines",
      line: { shape: "hv", width: 1.2, color: faded(colour("ink-2"), 0.45) }, hoverinfo: "skip", showlegend: false,
    });
    for (const kind of kinds) {
      const size = kind.subnets.map((subnet) => (onStairs.has(subnet.id) ? 7 : 5));
      traces.push({
        x: kind.subnets.map(at), y: kind.subnets.map((subnet) => valueOf(subnet, "accuracy")), type, mode: "markers",
        marker: { color: kind.colour, size, opacity: kind.subnets.map((subnet) => (onStairs.has(subnet.id) ? 0.95 : 0.5)), line: { width: 0 } }, name: kind.text,
        text: kind.subnets.map((subnet) => hoverText(subnet, front)), customdata: kind.subnets.map((subnet) => subnet.id),
        hovertemplate: "%{text}<extra></extra>",
      });
    }
    const measured = front.subnets.filter((subnet) => typeof measuredOf(subnet, "accuracy") === "number");
    if (measured.length) {
      traces.push({
        x: measured.map(at), y: measured.map((subnet) => measuredOf(subnet, "accuracy")), type: "scatter", mode: "markers", name: "measured",
        marker: { symbol: "diamond-open", size: 8, color: colour("ink"), line: { width: 1.2 } },
        text: measured.map((subnet) => hoverText(subnet, front)), customdata: measured.map((subnet) => subnet.id),
        hovertemplate: "%{text}<extra></extra>",
      });
    }
    const dearest = Math.max(...front.subnets.map((subnet) => valueOf(subnet, x) ?? 0));
    const all = placed(this.models, x, front).sort((a, b) => a.x - b.x);
    const [models, far] = [all.filter((model) => model.x <= REACH * dearest), all.filter((model) => model.x > REACH * dearest)];
    const rightmost = Math.max(dearest, ...models.map((model) => model.x));
    if (models.length) {
      traces.push({
        x: models.map((model) => model.x / scale), y: models.map((model) => model.y), type: "scatter", mode: "markers+text", name: "reference model",
        marker: { symbol: "square-open", size: 9, color: colour("series-4"), line: { width: 1.8 } },
        // Above and below in turns, so that the names of neighbours stay apart on a phone; at the right edge, to the left.
        text: models.map((model) => model.title), textposition: models.map((model, index) => `${index % 2 ? "bottom" : "top"} ${model.x > 0.75 * rightmost ? "left" : "center"}`), textfont: { color: colour("series-4"), size: 12 }, cliponaxis: false,
        hovertemplate: models.map((model) => `<b>${model.title}</b><br>${metricName(front.accuracy_metric)} ${inUnits("accuracy", model.y)} · ${withUnit(x, model.x)}<br>measured<extra></extra>`),
      });
    }
    // Where models stretch the chart to the right of the front, the middle of that side is free; else the corner below.
    const lowest = rightmost > dearest ? 0.45 : 0.02;
    const score = (/** @type {{y: number}} */ model) => (narrow ? "" : `${metricName(front.accuracy_metric)} ${inUnits("accuracy", model.y)} at `);
    const beyond = far.map((model, index) => ({
      text: `${model.title}: ${score(model)}${withUnit(x, model.x)} →`, showarrow: false,
      xref: "paper", yref: "paper", x: 1, xanchor: "right", y: lowest + 0.06 * index, yanchor: "bottom", font: { color: colour("series-4"), size: 12 },
    }));
    return { traces, legend: legendOf(kinds, measured.length > 0, models.length > 0, this.view, front), beyond };
  }

  /** The axes as they are drawn. @private */
  get axes() {
    if (!this.plot._fullLayout) throw new Error("nothing is drawn yet");
    return this.plot._fullLayout;
  }

  /** Pixels of a value on an axis, from the corner of the box. @private @param {"x"|"y"} which @param {number} value in units of the axis */
  pixel(which, value) {
    const axis = this.axes[`${which}axis`];
    return axis._offset + axis.d2p(value);
  }

  /** Put the budget line, its handle and the rings where they belong. @private */
  place() {
    if (!this.drawn || !this.front || !this.plot._fullLayout) return;
    const { xaxis, yaxis } = this.plot._fullLayout;
    const [left, right] = [xaxis._offset, xaxis._offset + xaxis._length];
    const [top, bottom] = [yaxis._offset, yaxis._offset + yaxis._length];
    Object.assign(this.slider.style, { left: `${left - THUMB / 2}px`, width: `${xaxis._length + THUMB}px`, top: `${bottom - THUMB / 2}px` });
    this.whole.hidden = xaxis.autorange && yaxis.autorange;
    const scale = quantity(this.view.x).scale;
    const parts = [];
    const inside = (/** @type {number} */ x, /** @type {number} */ y) => x >= left - 1 && x <= right + 1 && y >= top - 1 && y <= bottom + 1;
    const { budget } = this;
    const budgetAt = budget === null ? null : this.pixel("x", budget / scale);
    if (budget !== null && budgetAt !== null) {
      const edge = Math.min(Math.max(budgetAt, left), right);
      parts.push(svg("rect", { x: edge, y: top, width: right - edge, height: bottom - top, class: "beyond" }));
      if (budgetAt >= left - 1 && budgetAt <= right + 1) parts.push(svg("line", { x1: budgetAt, x2: budgetAt, y1: top - 2, y2: bottom, class: "budget-line" }));
      this.slider.value = String(Math.round((1000 * (edge - left)) / (right - left)));
      this.slider.setAttribute("aria-valuetext", this.valueText(budget));
      this.slider.setAttribute("aria-label", `Budget: ${quantity(this.view.x).label}`);
      Object.assign(this.handle.style, { left: `${edge}px`, top: "0px", height: `${bottom}px` });
      const [before, after] = [budgetAt < left - 1, budgetAt > right + 1];
      this.handle.dataset.text = `${before ? "← " : ""}≤ ${withUnit(this.view.x, budget)}${after ? " →" : ""}`;
      this.handle.classList.toggle("away", before || after);
      this.handle.classList.toggle("left", edge > (left + right) / 2 && edge > right - 60);
      this.handle.classList.toggle("right", edge < left + 50);
    }
    this.handle.hidden = this.slider.hidden = budgetAt === null;
    const knee = this.front.subnets.find((subnet) => subnet.id === this.front?.knee);
    const kneeAt = knee && this.where(knee);
    if (kneeAt && inside(kneeAt.x, kneeAt.y)) {
      parts.push(svg("circle", { cx: kneeAt.x, cy: kneeAt.y, r: 8, class: "knee-ring" }));
      parts.push(svg("text", { x: kneeAt.x - 11, y: kneeAt.y + (higherIsBetter(this.front) ? -9 : 19), class: "knee-text" }, "knee"));
    }
    const extraAt = this.extra && this.where(this.extra);
    if (extraAt && inside(extraAt.x, extraAt.y)) parts.push(svg("rect", { x: extraAt.x - 5, y: extraAt.y - 5, width: 10, height: 10, class: "extra-mark" }));
    const chosen = this.front.subnets.find((subnet) => subnet.id === this.chosen);
    const chosenAt = chosen && this.where(chosen);
    if (chosen && chosenAt && inside(chosenAt.x, chosenAt.y)) {
      const bounds = chosen.accuracy;
      if (bounds && bounds.low !== null && bounds.high !== null) {
        const clamp = (/** @type {number} */ value) => Math.min(Math.max(this.pixel("y", value), top), bottom);
        parts.push(svg("line", { x1: chosenAt.x, x2: chosenAt.x, y1: clamp(bounds.low), y2: clamp(bounds.high), class: "chosen-bar" }));
      }
      parts.push(svg("circle", { cx: chosenAt.x, cy: chosenAt.y, r: 7, class: "chosen-ring" }), svg("circle", { cx: chosenAt.x, cy: chosenAt.y, r: 3.5, class: "chosen-dot" }));
    }
    this.overlay.replaceChildren(...parts);
  }

  /** @private @param {Subnet} subnet */
  where(subnet) {
    const [x, y] = [valueOf(subnet, this.view.x), valueOf(subnet, "accuracy")];
    if (x === null || y === null) return null;
    return { x: this.pixel("x", x / quantity(this.view.x).scale), y: this.pixel("y", y) };
  }

  /** @private @param {number} budget */
  valueText(budget) {
    const best = bestWithin(this.steps ?? [], this.view.x, budget);
    const text = withUnit(this.view.x, budget);
    return best ? `${text}, best accuracy ${inUnits("accuracy", valueOf(best, "accuracy"))}` : `${text}, no subnet`;
  }

  /** @private @param {boolean} final */
  slid(final) {
    if (!this.drawn) return;
    const [low, high] = this.axes.xaxis.range;
    const budget = (low + ((high - low) * Number(this.slider.value)) / 1000) * quantity(this.view.x).scale;
    this.handlers.onbudget(Math.max(budget, 0), final);
  }

  /** @private */
  dragHandle() {
    const at = (/** @type {PointerEvent} */ event) => {
      const { xaxis } = this.axes;
      const x = event.clientX - this.box.getBoundingClientRect().left - xaxis._offset;
      return Math.max(xaxis.p2d(Math.min(Math.max(x, 0), xaxis._length)), 0) * quantity(this.view.x).scale;
    };
    this.handle.addEventListener("pointerdown", (/** @type {PointerEvent} */ event) => {
      event.preventDefault();
      this.handle.setPointerCapture(event.pointerId);
      this.slider.focus({ preventScroll: true, focusVisible: false });
    });
    this.handle.addEventListener("pointermove", (/** @type {PointerEvent} */ event) => {
      if (this.handle.hasPointerCapture(event.pointerId)) this.handlers.onbudget(at(event), false);
    });
    this.handle.addEventListener("pointerup", (/** @type {PointerEvent} */ event) => this.handlers.onbudget(at(event), true));
  }

  /** The plot as a picture that stands by itself. @param {"png"|"svg"} format @param {string} name @param {string} title */
  async save(format, name, title) {
    const plotly = await loadPlotly();
    await plotly.downloadImage(this.picture(title), { format, filename: name, ...PICTURE, scale: format === "png" ? 2 : 1 });
  }

  /** The plot with all that the page draws around and over it. @private @param {string} title */
  picture(title) {
    const front = /** @type {Front} */ (this.front);
    const { x } = this.view;
    const { scale } = quantity(x);
    const { xaxis, yaxis } = this.axes;
    const layout = baseLayout({ x: axisTitle(x, front.accuracy_metric, front.device), y: axisTitle("accuracy", front.accuracy_metric, front.device), margin: { l: 92, r: 30, t: 96, b: 110 } });
    layout.xaxis.range = [...xaxis.range];
    layout.yaxis.range = [...yaxis.range];
    const ink = colour("ink");
    const { traces, beyond } = this.traces(false);
    /** @type {Object<string, unknown>[]} */
    const notes = [...beyond];
    /** @type {Object<string, unknown>[]} */
    const shapes = [];
    const point = (/** @type {Subnet|undefined} */ subnet, /** @type {string} */ text, /** @type {[number, number]} */ [ax, ay]) => {
      const [at, up] = subnet ? [valueOf(subnet, x), valueOf(subnet, "accuracy")] : [null, null];
      if (at !== null && up !== null) notes.push({ x: at / scale, y: up, text, ax, ay, showarrow: true, arrowhead: 2, arrowcolor: ink, font: { color: ink, size: 13 } });
    };
    point(front.subnets.find((subnet) => subnet.id === front.knee), "knee", [-50, -36]);
    if (this.budget !== null) {
      shapes.push({ type: "line", x0: this.budget / scale, x1: this.budget / scale, yref: "paper", y0: 0, y1: 1, line: { color: ink, width: 1.6 } });
      notes.push({ x: this.budget / scale, yref: "paper", y: 1, yanchor: "bottom", text: `≤ ${withUnit(x, this.budget)}`, showarrow: false, font: { color: ink, size: 14 } });
      const best = bestWithin(this.steps ?? [], x, this.budget);
      if (best) point(best, `${best.id}: ${metricName(front.accuracy_metric)} ${inUnits("accuracy", valueOf(best, "accuracy"))}`, [130, 70]);
    }
    const by = this.view.colour === "resolution" ? "resolution" : geneText(this.view.colour);
    return {
      data: traces,
      layout: {
        ...layout, title: { text: title, x: 0.02, xanchor: "left", font: { size: 18, color: ink } }, paper_bgcolor: colour("surface"), plot_bgcolor: colour("surface"),
        showlegend: true, legend: { orientation: "h", title: { text: `${by}: ` }, x: 0, y: -0.13, yanchor: "top", font: { color: ink } }, shapes, annotations: notes,
      },
    };
  }
}

/** The models that have both numbers of this plot. @param {Model[]} models @param {string} x @param {Front} front */
function placed(models, x, front) {
  // What finds objects was never trained for fixations: far below, it would press the front into a line.
  return models.filter((model) => model.task !== "salient object").flatMap((model) => {
    const across = x === "latency_ms" ? model.latency_ms[front.device] : /** @type {Object<string, unknown>} */ (/** @type {unknown} */ (model))[x];
    const up = model.held_out_accuracy?.[front.accuracy_metric];
    return typeof across === "number" && typeof up === "number" ? [{ title: model.title, x: across, y: up }] : [];
  });
}

/** The intervals of the steps as one filled band. @param {Subnet[]} steps @param {(subnet: Subnet) => number} at */
function band(steps, at) {
  const bounded = steps.filter((subnet) => subnet.accuracy && subnet.accuracy.low !== null && subnet.accuracy.high !== null);
  if (bounded.length < 2) return [];
  const up = bounded.map((subnet) => [at(subnet), subnet.accuracy?.high]);
  const down = bounded.map((subnet) => [at(subnet), subnet.accuracy?.low]).reverse();
  const outline = [...up, ...down];
  return [{
    x: outline.map(([x]) => x), y: outline.map(([, y]) => y), type: "scatter", mode: "lines", fill: "toself",
    line: { width: 0 }, fillcolor: faded(colour("ink-2"), 0.1), hoverinfo: "skip", name: "interval of the prediction",
  }];
}

/**
 * The subnets by what colours them.
 * @param {Front} front
 * @param {Space|null} space
 * @param {string} by
 * @returns {{text: string, colour: string, subnets: Subnet[]}[]}
 */
function colouring(front, space, by) {
  const gene = space?.genes.find((one) => one.name === by);
  /** @type {Map<string, Subnet[]>} */
  const groups = new Map();
  for (const subnet of front.subnets) {
    const value = by === "resolution" || !space ? subnet.resolution : genesOf(space, subnet.id)?.[by] ?? "?";
    const key = JSON.stringify(value);
    groups.set(key, [...(groups.get(key) ?? []), subnet]);
  }
  const order = (/** @type {string} */ key) => [JSON.parse(key)].flat()[0];
  const keys = [...groups.keys()].sort((a, b) => order(a) - order(b));
  const nominal = by === "resolution" || !gene;
  const choices = gene ? gene.choices.map((value) => JSON.stringify(value)) : keys;
  const colours = nominal ? null : stepColours(choices.length);
  return keys.map((key, index) => ({
    text: by === "resolution" ? resolutionText(JSON.parse(key)) : choiceText(JSON.parse(key)),
    colour: colours ? colours[Math.max(choices.indexOf(key), 0)] : seriesColour(index),
    subnets: groups.get(key) ?? [],
  }));
}

/** @param {{text: string, colour: string}[]} kinds @param {boolean} measured @param {boolean} models @param {View} view @param {Front} front */
function legendOf(kinds, measured, models, view, front) {
  const entries = kinds.map((kind) => h("li", null, h("i", { class: "swatch", style: { background: kind.colour } }), kind.text));
  if (view.colour !== "resolution") entries.unshift(h("li", null, `${geneText(view.colour)}:`));
  if (measured) entries.push(h("li", null, h("i", { class: "swatch diamond" }), "measured"));
  if (models) entries.push(h("li", null, h("i", { class: "swatch model" }), "reference model"));
  if (view.intervals && front.subnets.some((subnet) => subnet.accuracy && subnet.accuracy.low !== null)) entries.push(h("li", null, h("i", { class: "swatch band" }), "interval of the prediction"));
  return entries;
}

/** @param {Subnet} subnet @param {Front} front */
function hoverText(subnet, front) {
  const about = besideMeasured(subnet, "accuracy") || interval("accuracy", subnet.accuracy);
  const lines = [`<b>${metricName(front.accuracy_metric)} ${inUnits("accuracy", valueOf(subnet, "accuracy"))}</b>${about ? ` (${about})` : ""}`];
  const costs = ["latency_ms", "energy_mj", "macs", "parameters"].filter((name) => valueOf(subnet, name) !== null);
  lines.push(costs.map((name) => `${withUnit(name, valueOf(subnet, name))}${name === "macs" ? " macs" : name === "parameters" ? " parameters" : countsMeasured(subnet, name) ? " measured" : ""}`).join(" · "));
  lines.push(`${subnet.id} · ${resolutionText(subnet.resolution)}`);
  return lines.join("<br>");
}
