/** The form for a new search, or for one that begins with the front of another. */

import { Problem, changeSearch, createSearch, getFront, getSearch, newKey, queryStored } from "./api.js";
import { errorNotice, h, uid } from "./dom.js";
import { ON_DEVICE, constraintText, inUnits, metricName, quantity, valueOf, withUnit } from "./format.js";
import { geneText, choiceText } from "./genes.js";
import { home } from "./home.js";
import { go } from "./place.js";
import { explained, objectivesText } from "./searchtext.js";
import { describeOnce } from "./subnet.js";

/** @typedef {import("./types.js").Description} Description */
/** @typedef {import("./types.js").Search} Search */
/** @typedef {import("./types.js").SearchRequest} SearchRequest */

const EFFORTS = [
  { value: "quick", text: "Quick", note: "20,000 subnets" },
  { value: "balanced", text: "Balanced", note: "until the front stops growing" },
  { value: "thorough", text: "Thorough", note: "a million subnets" },
];
const MOST_MEASURED = 200;
const COSTS = ["macs", "parameters", "memory_bytes"];
/**
 * @typedef {Object} Budget  a field that becomes a constraint
 * @property {string} name
 * @property {"<="|">="} relation
 * @property {HTMLInputElement} field
 * @property {HTMLLabelElement} label
 * @property {HTMLElement} note
 * @property {HTMLElement} element
 * @property {[number, number]} range
 * @property {string|null} constraint  null while the field is empty or wrong
 *
 * @typedef {{name: string, select: HTMLSelectElement}} GeneField
 */

const BOUND = /^\s*([\w.]+)\s*(<=|>=)\s*([\d.e+-]+)\s*$/;
const CHOICE = /^\s*([\w.]+)\s*==\s*(\S+)\s*$/;
const OBJECTIVES = { least: 2, most: 4 };
const ABOUT_OBJECTIVES = "Two to four; the search finds the subnets that are best in trading them off.";

/** @param {HTMLElement} root @param {URLSearchParams} query */
export function mountForm(root, query) {
  const form = new SearchForm(root, query.get("from"));
  form.start();
  return { leave: () => form.leave() };
}

/** The most accurate subnet of the stored front, null where there is no front. @returns {Promise<Description|null>} */
async function bestKnown() {
  try {
    const [best] = await queryStored({ constraints: [], k: 1 });
    return best ? await describeOnce(best.id) : null;
  } catch (error) {
    if (error instanceof Problem) return null;
    throw error;
  }
}

class SearchForm {
  /** @param {HTMLElement} root @param {string|null} from */
  constructor(root, from) {
    this.from = from;
    /** @type {string} what was sent last, and the name of that request */
    this.content = this.key = "";
    /** @type {Search|null} whose front the new search begins with */
    this.parent = null;
    /** @type {Search|null} whose settings the fields begin with */
    this.like = null;
    /** @type {HTMLInputElement[]} */
    this.objectives = [];
    /** @type {HTMLInputElement[]} */
    this.efforts = [];
    /** @type {Budget[]} */
    this.budgets = [];
    /** @type {GeneField[]} */
    this.genes = [];
    /** @type {string[]} constraints of the forked search that no field stands for */
    this.kept = [];
    /** @type {Description[]} */
    this.extremes = [];
    this.objectivesNote = h("p", { class: "quiet", id: uid("objectives") }, ABOUT_OBJECTIVES);
    this.metric = h("select", { onchange: () => this.showRanges() });
    this.processor = h("span", { class: "quiet", id: uid("processor") });
    this.device = h("select", { id: uid("device"), "aria-describedby": this.processor.id, onchange: () => this.changeDevice() });
    this.seed = h("input", { class: "input", type: "number", min: 0, max: 2 ** 53 - 1, step: 1, id: uid("seed") });
    this.verify = h("input", { class: "input", type: "number", min: 1, max: MOST_MEASURED, step: 1, id: uid("verify") });
    this.fields = h("div", { class: "form-fields" });
    this.fault = h("div");
    this.submit = h("button", { type: "submit", class: "button primary" }, "Start the search");
    this.form = h("form", { class: "card search-form", novalidate: true, oninput: () => this.ready && this.fault.replaceChildren(), onsubmit: (/** @type {Event} */ event) => this.send(event) }, this.fields, this.fault,
      h("div", { class: "actions" }, this.submit, h("a", { class: "button", href: "#/searches" }, "Back")));
    this.head = h("div", { class: "page-head" }, h("h1", null, from ? "Fork a search" : "New search"));
    root.append(this.head, this.form);
    this.retry = () => !this.ready && this.start();
    window.addEventListener("salnas-online", this.retry);
  }

  leave() {
    this.left = true;
    window.removeEventListener("salnas-online", this.retry);
  }

  async start() {
    this.fault.replaceChildren();
    this.submit.disabled = true;
    try {
      const [known, parent, ...extremes] = await Promise.all([home(), this.from ? getSearch(this.from) : null, describeOnce("min"), describeOnce("max"), bestKnown()]);
      if (this.left) return;
      this.home = known;
      this.extremes = extremes.filter((subnet) => subnet !== null);
      this.like = parent;
      this.parent = parent && (await getFront(parent.id)).subnets.length ? parent : null;
      if (this.left) return;
      this.ready = true;
      this.build();
      this.submit.disabled = false;
    } catch (error) {
      if (!this.left) this.fault.replaceChildren(errorNotice(this.from ? explained(error, this.from) : error, () => this.start()));
    }
  }

  /** @private */
  build() {
    const known = /** @type {import("./home.js").Home} */ (this.home);
    const columns = [...(known.metrics.length ? ["accuracy"] : []), ...(known.devices.length ? ["latency_ms"] : []), ...(known.energy.length ? ["energy_mj"] : []), ...COSTS];
    const request = this.like?.request ?? null;
    const chosen = request ? request.objectives.map((text) => String(text.split(":").pop())) : columns.slice(0, 2);
    this.kept = [...(request?.constraints ?? [])];
    const parts = [];
    if (this.parent) this.head.append(h("p", { class: "muted" }, `Begins with the front of ${objectivesText(this.parent)}; its objectives stay.`));
    else {
      if (this.like) this.head.append(h("p", { class: "muted" }, `Has the settings of ${objectivesText(this.like)}, which found no front to begin with.`));
      parts.push(this.buildObjectives(columns, chosen));
    }
    parts.push(this.buildMeaning(known, request), this.buildBudgets(columns), this.buildGenes(known), this.buildEffort(request));
    if (this.kept.length) parts.push(h("p", { class: "quiet" }, `Also kept: ${this.kept.map(constraintText).join(", ")}.`));
    this.fields.replaceChildren(...parts.filter(Boolean));
  }

  /** @private @param {string[]} columns @param {string[]} chosen */
  buildObjectives(columns, chosen) {
    this.objectives = columns.map((name) => h("input", { type: "checkbox", value: name, checked: chosen.includes(name), onchange: () => this.checkObjectives() }));
    return h("fieldset", { "aria-describedby": this.objectivesNote.id }, h("legend", null, "Objectives"),
      h("div", { class: "options" }, columns.map((name, index) => h("label", { class: "check" }, this.objectives[index], quantity(name).label))), this.objectivesNote);
  }

  /** What the words accuracy, latency and energy mean. @private @param {import("./home.js").Home} known @param {SearchRequest|null} request */
  buildMeaning(known, request) {
    this.metric.disabled = this.device.disabled = Boolean(this.parent);
    this.metric.append(...known.metrics.map((metric) => h("option", { value: metric, selected: metric === (request?.accuracy_metric ?? known.metrics[0]) }, metricName(metric))));
    this.device.append(...known.devices.map((device) => h("option", { value: device, selected: device === (request?.device ?? known.devices[0]) }, device)));
    return h("fieldset", null, h("legend", null, "Measured by"), h("div", { class: "columns" },
      known.metrics.length > 0 && h("label", { class: "field" }, h("span", null, "Accuracy by"), this.metric),
      known.devices.length > 0 && h("div", { class: "field" }, h("label", { for: this.device.id }, known.energy.length ? "Latency and energy on" : "Latency on"), this.device, this.processor)));
  }

  /** @private @param {string[]} columns */
  buildBudgets(columns) {
    this.budgets = columns.map((name) => this.buildBudget(name));
    this.changeDevice();
    return h("fieldset", null, h("legend", null, "Budgets"), h("p", { class: "quiet" }, "Empty means no limit. Below each field: from the least to the most that is known."), h("div", { class: "columns" }, this.budgets.map((budget) => budget.element)));
  }

  /** @private @param {string} name @returns {Budget} */
  buildBudget(name) {
    /** @type {Budget["relation"]} */
    const relation = name === "accuracy" && this.metric.value !== "kld" ? ">=" : "<=";
    const id = uid("budget");
    const before = this.taken((text) => {
      const match = BOUND.exec(text);
      return match?.[1] === name && match[2] === relation ? match[3] : null;
    });
    const field = h("input", { class: "input", id, type: "text", inputmode: "decimal", autocomplete: "off", "aria-describedby": `${id}-note`, value: before ? String(Number(before) / quantity(name).scale) : "", oninput: () => this.checkBudget(budget) });
    const note_ = h("span", { class: "quiet", id: `${id}-note` });
    const { unit } = quantity(name);
    const label = h("label", { for: id }, `${quantity(name).label} ${relation === "<=" ? "at most" : "at least"}${unit ? ` (${unit})` : ""}`);
    const element = h("div", { class: "field" }, label, field, note_);
    /** @type {Budget} */
    const budget = { name, relation, field, label, note: note_, element, range: [0, Infinity], constraint: null };
    return budget;
  }

  /** What `read` finds in a constraint of the forked search, which then a field stands for. @private @param {(text: string) => string|null} read */
  taken(read) {
    const text = this.kept.find((one) => read(one) !== null);
    if (text === undefined) return null;
    this.kept.splice(this.kept.indexOf(text), 1);
    return read(text);
  }

  /** Energy is known of some devices only. @private */
  changeDevice() {
    const known = this.knowsEnergy();
    this.processor.textContent = this.home?.processors[this.device.value] ?? "";
    for (const box of this.objectives) if (box.value === "energy_mj") box.checked &&= known;
    for (const budget of this.budgets.filter((one) => one.name === "energy_mj")) {
      budget.element.hidden = !known;
      if (!known) budget.field.value = "";
    }
    this.showRanges();
    this.checkObjectives();
  }

  /** Whether it was measured on the chosen device. @private */
  knowsEnergy() {
    return this.home?.energy.includes(this.device.value) ?? false;
  }

  /** Show what is possible, and check again what was typed. @private */
  showRanges() {
    for (const budget of this.budgets) {
      const ends = this.extremes.map((subnet) => this.valueIn(subnet, budget.name));
      budget.range = [Math.min(...ends), Math.max(...ends)];
      if (budget.name === "accuracy") {
        budget.relation = this.metric.value === "kld" ? "<=" : ">=";
        budget.label.textContent = `Accuracy at ${budget.relation === ">=" ? "least" : "most"}`;
      }
      this.checkBudget(budget);
    }
  }

  /** @private @param {Description} subnet @param {string} name @returns {number} */
  valueIn(subnet, name) {
    if (name === "accuracy") return subnet.predictions.accuracy[this.metric.value]?.predicted ?? NaN;
    if (name === "latency_ms" || name === "energy_mj") return subnet.predictions[name][this.device.value]?.predicted ?? NaN;
    return valueOf(subnet, name) ?? NaN;
  }

  /** Whether a budget can be met; says why not. @private @param {Budget} budget */
  checkBudget(budget) {
    const { name, relation, field } = budget;
    const [low, high] = budget.range;
    const text = field.value.trim().replace(",", ".");
    const value = Number(text) * quantity(name).scale;
    const about = name === "accuracy" || ON_DEVICE.includes(name) ? "about " : "";
    let fault = "";
    if (text && !(value > 0)) fault = "Write a number above 0.";
    else if (text && relation === "<=" && value < low * (about ? 0.8 : 1)) fault = `No subnet is within it; the least is ${about}${withUnit(name, low)}.`;
    else if (text && relation === ">=" && value > high * 1.2) fault = `No subnet reaches it; the best known has ${about}${withUnit(name, high)}.`;
    field.setAttribute("aria-invalid", String(Boolean(fault)));
    budget.note.classList.toggle("fault-text", Boolean(fault));
    budget.note.textContent = fault || `${about ? "about" : "from"} ${inUnits(name, low)} to ${withUnit(name, high)}`;
    budget.constraint = text && !fault ? `${name}${relation}${value}` : null;
    return !fault;
  }

  /** @private @param {import("./home.js").Home} known */
  buildGenes(known) {
    const genes = known.space?.genes ?? [];
    this.genes = genes.map((gene) => {
      const texts = gene.choices.map((value) => (Array.isArray(value) ? `${value[1]}x${value[0]}` : String(value)));
      const before = this.taken((text) => {
        const match = CHOICE.exec(text);
        return match?.[1] === gene.name && texts.includes(match[2]) ? match[2] : null;
      });
      const options = gene.choices.map((value, index) => h("option", { value: texts[index], selected: texts[index] === before }, choiceText(value)));
      return { name: gene.name, select: h("select", null, h("option", { value: "" }, "any"), options) };
    });
    const field = (/** @type {GeneField} */ gene) => h("label", { class: "field" }, h("span", null, geneText(gene.name)), gene.select);
    const [first, ...others] = this.genes;
    return h("fieldset", null, h("legend", null, "Choices"),
      h("div", { class: "columns" }, first && field(first)),
      h("details", { open: others.some((gene) => gene.select.value) }, h("summary", null, "Fix other genes"), h("div", { class: "columns narrow" }, others.map(field))));
  }

  /** @private @param {SearchRequest|null} request */
  buildEffort(request) {
    const name = uid("effort");
    this.seed.value = String(request?.seed ?? 0);
    this.verify.value = String(request?.verify ?? "");
    this.efforts = EFFORTS.map((effort) => h("input", { type: "radio", name, value: effort.value, checked: effort.value === "balanced" }));
    return h("fieldset", null, h("legend", null, "Effort"),
      h("div", { class: "options" }, EFFORTS.map((effort, index) => h("label", { class: "check" }, this.efforts[index], h("span", null, effort.text, " ", h("span", { class: "quiet" }, effort.note))))),
      h("div", { class: "columns" }, h("label", { class: "field" }, h("span", null, "Seed"), this.seed),
        !this.parent && h("label", { class: "field" }, h("span", null, "Measure the best (subnets)"), this.verify, h("span", { class: "quiet" }, "Empty: the front is predicted."))));
  }

  /** @private */
  checkObjectives() {
    if (this.parent) return true;
    const marked = this.objectives.filter((box) => box.checked).length;
    const fits = marked >= OBJECTIVES.least && marked <= OBJECTIVES.most;
    for (const box of this.objectives) box.disabled = (!box.checked && marked >= OBJECTIVES.most) || (box.value === "energy_mj" && !this.knowsEnergy());
    this.objectivesNote.classList.toggle("fault-text", !fits);
    this.objectivesNote.textContent = fits ? ABOUT_OBJECTIVES : "Choose at least two objectives.";
    return fits;
  }

  /** @private @param {Event} event */
  async send(event) {
    event.preventDefault();
    const wrong = this.budgets.filter((budget) => !this.checkBudget(budget));
    if (!this.checkObjectives()) return this.objectives[0]?.focus();
    if (wrong.length) return wrong[0].field.focus();
    if (!this.seed.checkValidity()) return this.seed.reportValidity();
    if (!this.verify.checkValidity()) return this.verify.reportValidity();
    const constraints = [
      ...this.kept,
      ...this.budgets.map((budget) => budget.constraint).filter(Boolean),
      ...this.genes.filter((gene) => gene.select.value).map((gene) => `${gene.name}==${gene.select.value}`),
    ];
    const effort = this.efforts.find((radio) => radio.checked)?.value ?? "balanced";
    const shared = { constraints, effort, seed: Number(this.seed.value) };
    const request = { ...shared, objectives: this.objectives.filter((box) => box.checked).map((box) => box.value), ...(this.metric.value ? { accuracy_metric: this.metric.value } : {}), ...(this.device.value ? { device: this.device.value } : {}), ...(this.verify.value ? { verify: Number(this.verify.value) } : {}) };
    // The same key as long as the same thing is asked, so that a second click makes no second search.
    const content = JSON.stringify(this.parent ? shared : request);
    if (content !== this.content) [this.content, this.key] = [content, newKey()];
    this.submit.disabled = true;
    this.fault.replaceChildren();
    try {
      const search = this.parent ? await changeSearch(this.parent.id, "fork", shared, this.key) : await createSearch(request, this.key);
      go(`#/searches/${search.id}`);
    } catch (error) {
      this.refused(error);
    } finally {
      this.submit.disabled = false;
    }
  }

  /** Say what the service did not like, at the field where there is one. @private @param {unknown} error */
  refused(error) {
    const budget = error instanceof Problem && this.budgets.find((one) => one.name === String(error.field).split("@")[0]);
    if (budget) {
      budget.field.setAttribute("aria-invalid", "true");
      budget.field.focus();
    }
    this.fault.replaceChildren(errorNotice(error));
  }
}
