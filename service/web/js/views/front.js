/** The front: pick a budget, see the best subnet within it. */

import { Problem, ask, createSearch, followSearch, frontUrl, getFront, getSearch, isFinal, listModels, listSearches, queryFresh } from "../api.js";
import { choice, copy, debounced, download, errorNotice, h, segments, toast } from "../dom.js";
import { besideMeasured, count, duration, inUnits, interval, measuredOf, metricName, quantity, significant, valueOf, withUnit } from "../format.js";
import { FrontPlot, bestWithin, higherIsBetter, staircase } from "../frontplot.js";
import { geneText } from "../genes.js";
import { home } from "../home.js";
import { go, note } from "../place.js";
import { boundsOf, explained, objectivesText, searchTitle, waitingText, wholeTitle } from "../searchtext.js";
import { SubnetCard, SubnetDetails } from "../subnet.js";

/** @typedef {import("../types.js").Front} Front */
/** @typedef {import("../types.js").Subnet} Subnet */
/** @typedef {import("../types.js").Search} Search */

const AXES = ["latency_ms", "macs", "parameters", "memory_bytes", "energy_mj"];
const SETTLE_MS = 140;
const REFRESH_MS = 1000;
const MODELS_MS = 1500;

/** @type {import("../main.js").Mount} */
export function mount(root, place) {
  const view = new FrontView(root, place.query);
  view.start();
  return {
    leave: () => view.leave(),
    moved: (next) => view.moved(next.query),
  };
}

class FrontView {
  /** @param {HTMLElement} root @param {URLSearchParams} query */
  constructor(root, query) {
    this.root = root;
    this.searchId = query.get("search") ?? "default";
    this.x = query.get("x") ?? "";
    this.colour = query.get("colour") ?? "resolution";
    /** @type {string} what was given as a budget and is none */
    this.refused = "";
    /** @type {number|null} */
    this.budget = this.budgetOf(query.get("budget"));
    /** @type {string|null} a subnet that a person picked, instead of the best within the budget */
    this.picked = query.get("subnet");
    /** @type {Front|null} */
    this.front = null;
    /** @type {Search|null} */
    this.search = null;
    /** @type {Subnet[]} */
    this.steps = [];
    this.left = false;
    this.plot = new FrontPlot({
      onbudget: (budget, final) => this.setBudget(budget, final),
      onpick: (id) => this.pick(id),
    });
    this.card = new SubnetCard({ photo: query.get("photo"), onphoto: (photo) => note({ photo }) });
    this.details = new SubnetDetails();
    this.settle = debounced(() => this.settled(), SETTLE_MS);
    /** @type {HTMLInputElement} */
    this.field = h("input", { class: "budget-field", type: "text", inputmode: "decimal", autocomplete: "off", "aria-label": "Budget", "aria-describedby": "budget-fault", size: 5, onchange: () => this.typed(), onfocus: () => this.field.select() });
    this.unit = h("span", null, "ms");
    this.score = h("output", { class: "score" }, "…");
    this.facts = h("p", { class: "facts muted" }, "\u00a0");
    this.budgetFault = h("p", { class: "fault-text", id: "budget-fault", "aria-live": "polite" });
    this.axes = h("div", { class: "axes" });
    this.sources = h("div", { class: "sources" });
    this.tools = h("div", { class: "tools" });
    this.meta = h("p", { class: "quiet meta" }, "\u00a0");
    this.done = h("i");
    this.progress = h("div", { class: "progress", hidden: true }, this.done);
    this.notes = h("div", { class: "front-notes" });
    this.fresh = h("button", { type: "button", class: "button", onclick: () => this.searchNow() }, "Search now");
    this.build(root);
  }

  /** @private @param {HTMLElement} root */
  build(root) {
    root.append(
      h("div", { class: "answer" },
        h("div", { class: "answer-text" },
          h("h1", null, "Up to ", h("span", { class: "budget-words" }, this.field, this.unit), ", the best subnet scores ", this.score),
          this.facts, this.budgetFault),
        this.axes),
      h("div", { class: "front-grid" },
        h("section", { class: "card plot-card", "aria-label": "Front" },
          h("div", { class: "card-head" }, h("h2", null, "Pareto front"), this.sources, this.meta, this.tools),
          this.progress, this.plot.element, this.notes),
        this.card.element),
      this.details.element);
  }

  leave() {
    this.left = true;
    this.settle.cancel();
    this.unfollow?.();
    this.root.classList.remove("bare");
    this.plot.destroy();
    this.card.destroy();
    window.removeEventListener("salnas-online", this.retry);
  }

  /** Another address of the same view. @param {URLSearchParams} query */
  moved(query) {
    if ((query.get("search") ?? "default") !== this.searchId || (query.get("x") ?? this.x) !== this.x) return false;
    this.picked = query.get("subnet");
    if (query.has("budget")) this.budget = this.budgetOf(query.get("budget"));
    if (this.budget === null && this.front) this.budget = this.defaultBudget();
    this.show();
    return true;
  }

  /** The budget of an address, null where it has none. @private @param {string|null} text */
  budgetOf(text) {
    const budget = Number(text);
    const fits = Number.isFinite(budget) && budget > 0;
    this.refused = text === null || fits ? "" : text;
    return text !== null && fits ? budget : null;
  }

  retry = () => {
    if (!this.front && !this.left) this.start();
  };

  async start() {
    window.removeEventListener("salnas-online", this.retry);
    window.addEventListener("salnas-online", this.retry);
    this.notes.replaceChildren();
    this.models = this.showModels();
    try {
      const [known, search] = await Promise.all([home(), getSearch(this.searchId)]);
      if (this.left) return;
      this.home = known;
      this.search = search;
      if (isFinal(search.state)) await this.load();
      else this.follow();
    } catch (error) {
      if (!this.left) this.failed(error);
    }
    this.listSources();
  }

  /** Reference models, where there are any: asked for at once, since later they would move the axes. @private */
  async showModels() {
    try {
      const models = await listModels();
      if (!this.left && models.length) await this.plot.setModels(models);
    } catch {
      // The front itself is there; the models are for comparison.
    }
  }

  /** @private @param {unknown} error */
  failed(error) {
    const missing = error instanceof Problem && error.status === 404 && this.searchId === "default";
    this.root.classList.toggle("bare", !this.front);
    this.progress.hidden = true;
    if (missing) {
      this.notes.replaceChildren(h("div", { class: "empty" },
        h("h1", null, "There is no front yet"),
        h("p", null, "This supernet has no accuracy predictor, so there is nothing to trade off. Fit one with ", h("code", null, "make predictors"), ", or look at what subnets see on the ", h("a", { href: "#/photo" }, "Photo"), " page.")));
    } else {
      const ways = [
        this.searchId !== "default" && h("a", { class: "button", href: "#/front" }, "To the default front"), h("a", { class: "button", href: "#/searches" }, "All searches"),
        this.search && h("a", { class: "button", href: `#/searches/${this.search.id}` }, "This search"),
      ];
      this.notes.replaceChildren(
        this.front ? "" : h("h1", null, "No front to show"), errorNotice(explained(error, this.searchId), error instanceof Problem && error.status === 404 ? null : () => this.start()), this.front ? "" : h("p", { class: "ways" }, ways));
    }
  }

  /** A search whose front is still empty: how far it is. @private */
  wait() {
    const search = /** @type {Search} */ (this.search);
    this.root.classList.add("bare");
    if (!this.waiting?.isConnected) {
      this.waiting = h("p", { role: "status" });
      this.notes.replaceChildren(h("div", { class: "empty" },
        h("h1", null, `${objectivesText(search)}: the search is ${search.state === "queued" ? "waiting" : "running"}`), this.waiting,
        h("a", { class: "button", href: `#/searches/${search.id}` }, "Follow it on its page")));
    }
    this.waiting.textContent = waitingText(search);
  }

  /** Follow a search that still runs, its front growing. @private */
  follow() {
    let asked = 0;
    const grow = async () => {
      if (performance.now() - asked < REFRESH_MS) return;
      asked = performance.now();
      await this.load().catch(() => {});
    };
    this.showProgress();
    this.unfollow = followSearch(/** @type {Search} */ (this.search).id, {
      onchange: (search) => {
        this.search = search;
        this.showProgress();
        if (isFinal(search.state)) {
          this.load().catch((error) => this.failed(error));
          this.listSources(); // this search is one of them from now on
        } else grow();
      },
      onprogress: (progress) => {
        if (this.search) this.search = { ...this.search, progress };
        this.showProgress();
        grow();
      },
    });
  }

  /** @private */
  showProgress() {
    const { state, progress } = /** @type {Search} */ (this.search);
    this.progress.hidden = isFinal(state);
    this.progress.classList.toggle("unknown", !progress);
    this.done.style.width = `${100 * (progress?.fraction ?? 0.3)}%`;
    if (!isFinal(state) && !this.front) this.wait();
    if (!isFinal(state)) this.meta.textContent = progress ? `Searching: ${count(progress.evaluations)} subnets scored, ${count(progress.subnets)} on the front` : "Searching…";
  }

  /** @private */
  async load() {
    const front = await getFront(this.searchId);
    if (this.left) return;
    const search = /** @type {Search} */ (this.search);
    if (!front.subnets.length) {
      if (isFinal(search.state)) this.failed(Object.assign(new Error(search.error?.detail ?? "This search found no subnet."), { remedy: search.error?.remedy }));
      return;
    }
    if (valueOf(front.subnets[0], "accuracy") === null) {
      this.root.classList.add("bare");
      this.notes.replaceChildren(h("div", { class: "empty" }, h("h1", null, "This front says nothing of accuracy"),
        h("p", null, "The supernet has no accuracy predictor. ", h("a", { href: `#/searches/${search.id}` }, "The page of the search"), " shows what it traded off.")));
      return;
    }
    if (this.root.classList.contains("bare")) this.notes.replaceChildren();
    this.root.classList.remove("bare");
    this.front = front;
    this.card.metric = front.accuracy_metric;
    this.card.device = front.device;
    const axes = AXES.filter((name) => valueOf(front.subnets[0], name) !== null);
    const searched = front.objectives.map((text) => String(text.split(":").pop()));
    if (!axes.includes(this.x)) this.x = axes.find((name) => searched.includes(name)) ?? axes[0];
    this.axes.replaceChildren(segments({
      label: "Budget in", value: this.x, options: axes.map((name) => ({ value: name, text: quantity(name).short })), onchange: (x) => this.turnTo(x),
    }));
    const genes = this.home?.space?.genes ?? [];
    this.plot.tools.replaceChildren(choice({ label: "Colour by", value: this.colour, onchange: (colour) => this.paint(colour), options: [
      { value: "resolution", text: "resolution" }, ...genes.filter((gene) => gene.name !== "resolution").map((gene) => ({ value: gene.name, text: geneText(gene.name) })),
    ] }));
    if (!this.tools.firstChild) this.tools.append(this.menu());
    this.showMeta();
    this.progress.hidden = isFinal(search.state);
    await this.restack();
  }

  /** @private */
  showMeta() {
    const search = /** @type {Search} */ (this.search);
    const { subnets, device } = /** @type {Front} */ (this.front);
    if (!isFinal(search.state)) return this.showProgress();
    const result = search.result;
    const processor = this.home?.processors[device];
    const measured = subnets.filter((subnet) => measuredOf(subnet, "accuracy") !== null).length;
    const numbers = [
      `${count(subnets.length)} subnets${search.request.verify ? `, ${count(measured)} of them measured` : ""}`,
      result && `${count(result.evaluations)} scored in ${duration(result.seconds)}`,
      search.request.verify && `${count(result?.measurements ?? 0)} measured in all`,
      search.state !== "succeeded" && search.state, ...boundsOf(search),
    ].filter(Boolean).join(" · ");
    const where = processor ? `${device}: ${processor}` : device;
    this.meta.replaceChildren(h("span", { title: numbers }, numbers), h("span", { title: where }, where));
  }

  /** The axis, the budget and the plot from the front. @private */
  async restack() {
    const front = /** @type {Front} */ (this.front);
    this.steps = staircase(front, this.x);
    if (this.budget === null) this.budget = this.defaultBudget();
    this.show();
    try {
      await Promise.race([this.models, new Promise((done) => setTimeout(done, MODELS_MS))]);
      await this.plot.update(front, this.home?.space ?? null, { x: this.x, colour: this.colour });
      this.show();
    } catch (error) {
      this.notes.replaceChildren(errorNotice(error, () => this.restack()));
    }
    this.suggest();
  }

  /** The cost of the knee, rounded up. @private */
  defaultBudget() {
    const front = /** @type {Front} */ (this.front);
    const knee = front.subnets.find((subnet) => subnet.id === front.knee);
    const middle = this.steps[Math.floor(this.steps.length / 2)];
    const cost = valueOf(knee ?? middle, this.x) ?? 0;
    const { scale } = quantity(this.x);
    const step = 10 ** Math.floor(Math.log10(cost / scale) - 1);
    return Math.ceil(cost / scale / step) * step * scale;
  }

  /** @private @param {string} x */
  turnTo(x) {
    this.x = x;
    this.budget = null;
    this.refused = "";
    note({ x, budget: null });
    this.restack();
  }

  /** @private @param {string} colour */
  paint(colour) {
    this.colour = colour;
    note({ colour: colour === "resolution" ? null : colour });
    if (this.front) this.plot.update(this.front, this.home?.space ?? null, { colour });
  }

  /** @private @param {number} budget @param {boolean} final */
  setBudget(budget, final) {
    this.budget = budget;
    this.refused = "";
    this.picked = null;
    this.plot.setExtra(null);
    this.show();
    if (final) note({ budget: Number(budget.toPrecision(4)), subnet: null, x: this.x });
  }

  /** @private */
  typed() {
    const number = Number(this.field.value.replace(",", "."));
    if (Number.isFinite(number) && number > 0) return this.setBudget(number * quantity(this.x).scale, true);
    this.refused = this.field.value.trim();
    if (!this.refused && this.budget !== null) this.field.value = inUnits(this.x, this.budget);
    this.show();
  }

  /** @private @param {string} id */
  pick(id) {
    this.picked = id;
    note({ subnet: id, budget: this.budget ? Number(this.budget.toPrecision(4)) : null, x: this.x });
    this.show();
  }

  /** The answer in words at once; the card and the drawing when things are quiet. @private */
  show() {
    if (!this.front || this.budget === null) return;
    const best = bestWithin(this.steps, this.x, this.budget);
    this.best = best;
    this.budgetFault.textContent = this.refused && `“${this.refused}” is no budget: write a number above 0.`;
    this.field.setAttribute("aria-invalid", String(Boolean(this.refused)));
    if (this.refused) this.field.value = this.refused;
    else if (document.activeElement !== this.field) this.field.value = inUnits(this.x, this.budget);
    this.field.size = Math.max(4, this.field.value.length);
    this.field.setAttribute("aria-label", `Budget: ${quantity(this.x).label} in ${quantity(this.x).unit}`);
    this.unit.textContent = ` ${quantity(this.x).unit}${{ macs: " macs", parameters: " parameters", memory_bytes: " of memory" }[this.x] ?? ""}`;
    if (this.refused) {
      this.score.textContent = "–";
      this.facts.replaceChildren(h("span", null, `The line in the plot is still at ${withUnit(this.x, this.budget)}.`));
    } else if (best) {
      this.score.textContent = `${metricName(this.front.accuracy_metric)} ${inUnits("accuracy", valueOf(best, "accuracy"))}`;
      const others = ["latency_ms", "energy_mj", "macs", "parameters"].filter((name) => valueOf(best, name) !== null);
      const bounds = interval("accuracy", best.accuracy);
      const about = besideMeasured(best, "accuracy") || (bounds && `predicted ${bounds}`);
      this.facts.replaceChildren(
        h("code", null, best.id), ...[about, ...others.map((name) => `${withUnit(name, valueOf(best, name))}${{ macs: " macs", parameters: " parameters" }[name] ?? beside(best, name)}`)].filter(Boolean).map((text) => h("span", null, text)));
    } else {
      this.score.textContent = "–";
      const least = this.steps.length ? valueOf(this.steps[0], this.x) : null;
      this.facts.replaceChildren(h("span", null, `No subnet of this front is within ${withUnit(this.x, this.budget)}; the least is ${withUnit(this.x, least)}.`));
    }
    this.plot.setBudget(this.budget, this.picked ?? best?.id ?? null);
    this.settle();
  }

  /** @private */
  settled() {
    const id = this.picked ?? this.best?.id ?? null;
    const isBest = id !== null && id === this.best?.id;
    const badge = !id ? null : isBest ? { text: "best within budget", good: true } : { text: "picked", good: false };
    this.card.show(id, badge, this.front?.subnets.find((subnet) => subnet.id === id) ?? null);
    this.details.show(id);
  }

  /** A front searched for other objectives is not the best one for this axis. @private */
  suggest() {
    const { objectives } = /** @type {Front} */ (this.front);
    const searched = objectives.map((text) => text.split(":").pop());
    if (searched.includes(this.x)) {
      this.notes.replaceChildren();
      return;
    }
    const name = quantity(this.x).short.toLowerCase();
    const words = searched.filter((one) => one !== "accuracy").map((one) => quantity(String(one)).short.toLowerCase()).join(" and ");
    const button = h("button", { type: "button", class: "button small", onclick: async () => {
      button.disabled = true;
      try {
        const search = await createSearch({ objectives: ["accuracy", this.x], accuracy_metric: this.front?.accuracy_metric, device: this.front?.device });
        go(`#/front?search=${search.id}&x=${this.x}`);
      } catch (error) {
        this.notes.replaceChildren(errorNotice(error));
      }
    } }, `Search accuracy over ${name}`);
    this.notes.replaceChildren(h("div", { class: "notice suggest" }, h("span", null, `This front was searched for ${words}; there may be better subnets for ${name}.`), button));
  }

  /** A short search within the budget, as another answer beside the stored front. @private */
  async searchNow() {
    if (this.budget === null || !this.front) return;
    const { accuracy_metric, device } = this.front;
    this.fresh.disabled = true;
    const began = performance.now();
    try {
      const [found] = await queryFresh({ constraints: [`${this.x}<=${Number(this.budget.toPrecision(6))}`], accuracy_metric, device });
      if (this.left) return;
      const sign = higherIsBetter(this.front) ? 1 : -1;
      const gain = sign * ((valueOf(found, "accuracy") ?? 0) - (this.best ? (valueOf(this.best, "accuracy") ?? 0) : 0));
      this.plot.setExtra(found);
      const took = duration((performance.now() - began) / 1000);
      const verdict = !this.best ? "where the stored front has none" : gain > 0.0005 ? `${significant(gain, 1)} better than the stored front` : "no better than the stored front";
      this.notes.replaceChildren(h("div", { class: "notice suggest" },
        h("span", null, `A fresh search of ${took} found ${metricName(accuracy_metric)} ${inUnits("accuracy", valueOf(found, "accuracy"))} at ${withUnit(this.x, valueOf(found, this.x))}: ${verdict}.`),
        h("button", { type: "button", class: "button small", onclick: () => this.pick(found.id) }, "Show it")));
    } catch (error) {
      this.notes.replaceChildren(errorNotice(error));
    } finally {
      this.fresh.disabled = false;
    }
  }

  /** @private */
  menu() {
    const name = `salnas-front-${this.searchId}`;
    const save = (/** @type {"png"|"svg"} */ format) => this.plot.save(format, name, `Pareto front: ${wholeTitle(/** @type {Search} */ (this.search))}`);
    const item = (/** @type {string} */ text, /** @type {() => void} */ onclick) => h("button", { type: "button", onclick }, text);
    return h("span", { class: "tool-buttons" }, this.fresh,
      h("details", { class: "menu" }, h("summary", { class: "button" }, "Download"),
        h("div", { class: "menu-items" },
          item("Table (CSV)", async () => {
            try {
              const answer = await ask(frontUrl(this.searchId), { headers: { accept: "text/csv" } });
              download(await answer.blob(), `${name}.csv`);
            } catch (error) {
              toast(/** @type {Error} */ (error).message);
            }
          }),
          item("Picture (PNG)", () => save("png")),
          item("Drawing (SVG)", () => save("svg")),
          item("Link to this view", () => {
            note({ x: this.x, budget: this.budget === null ? null : Number(this.budget.toPrecision(4)) });
            copy(location.href, "Link copied");
          }))));
  }

  /** The searches whose front can be shown instead. @private */
  async listSources() {
    try {
      const { searches } = await listSearches({ state: "succeeded", pageSize: 30 });
      if (this.left || searches.length < 2) return;
      const current = this.search?.id ?? this.searchId;
      const options = searches.map((search) => ({ value: search.id, text: searchTitle(search) }));
      if (!options.some((option) => option.value === current)) options.unshift({ value: current, text: "this search" });
      this.sources.replaceChildren(choice({ label: "of", value: current, options, onchange: (id) => go(id.startsWith("default-") ? "#/front" : `#/front?search=${id}`) }));
    } catch {
      // The front itself is there; the list is a convenience.
    }
  }
}

/** ` measured (predicted 8.98 ms)` behind a cost that was measured. @param {Subnet} subnet @param {string} name */
function beside(subnet, name) {
  const about = besideMeasured(subnet, name);
  return about && ` ${about}`;
}
