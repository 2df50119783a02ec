/** One subnet: its map of a photo, its numbers, its drawing, its layers, and its file to take home. */

import { describe } from "./api.js";
import { copyButton, errorNotice, h, toast } from "./dom.js";
import { ExportPart } from "./export.js";
import { count, inUnits, interval, metricName, quantity, resolutionText, significant, valueOf, withUnit } from "./format.js";
import { home } from "./home.js";
import { MapView, opacitySlider, thumbnails } from "./mapview.js";
import { acceptPhotos, addPhotos, allPhotos, choosePhotos } from "./photos.js";
import { drawStages } from "./stages.js";

/** @typedef {import("./types.js").Description} Description */
/** @typedef {import("./types.js").Estimate} Estimate */
/** @typedef {import("./photos.js").Photo} Photo */

const KEPT = 200;
/** @type {Map<string, Promise<Description>>} */
const known = new Map();

/** All that is known of a subnet; the last ones are kept. @param {string} id @returns {Promise<Description>} */
export function describeOnce(id) {
  let answer = known.get(id);
  if (!answer) {
    answer = describe(id);
    answer.catch(() => known.delete(id));
    known.set(id, answer);
    if (known.size > KEPT) known.delete(/** @type {string} */ (known.keys().next().value));
  }
  return answer;
}

/** What is predicted has changed. */
export function forgetDescriptions() {
  known.clear();
}

/** The card beside the plot. */
export class SubnetCard {
  /** @param {{photo?: string|null, onphoto: (id: string) => void}} options */
  constructor({ photo, onphoto }) {
    this.onphoto = onphoto;
    /** @type {string|null} the accuracy metric whose number comes first */
    this.metric = null;
    /** @type {string|null} the same of the devices */
    this.device = null;
    /** @type {import("./types.js").Subnet|null} the same subnet on the front that is shown, with what that search measured */
    this.found = null;
    /** @type {Description|null} */
    this.described = null;
    /** @type {string|null} */
    this.id = null;
    this.photoId = photo ?? null;
    this.map = new MapView({ opacity: 0.7, onready: (map) => (this.time.textContent = map.milliseconds ? `${significant(map.milliseconds, 2)} ms` : "") });
    this.title = h("h2", { class: "mono subnet-id" }, "–");
    this.badge = h("span", { class: "badge" });
    this.badge.hidden = true;
    this.copy = copyButton(() => this.id ?? "", "Copy the id");
    this.thumbs = h("div", { class: "thumbs-place" });
    this.time = h("span", { class: "quiet number map-time" });
    this.numbers = h("dl", { class: "numbers" });
    this.others = h("dl", { class: "numbers" });
    this.more = h("details", { class: "more-numbers", hidden: true }, h("summary", null, "Other metrics and devices"), this.others);
    /** @type {Object<string, string>} what each device is */
    this.processors = {};
    this.fault = h("div");
    this.take = new ExportPart();
    this.take.describe = async () => (this.id ? describeOnce(this.id) : null);
    this.compare = h("a", { class: "button", href: "#/photo" }, "Compare maps");
    this.element = h("section", { class: "card subnet-card", "aria-label": "Subnet" },
      h("div", { class: "subnet-look" },
        h("div", { class: "subnet-head" }, this.title, this.copy, this.badge),
        this.map.element,
        h("div", { class: "map-tools" }, this.thumbs, opacitySlider(0.7, (value) => this.map.setOpacity(value)), this.time)),
      h("div", { class: "subnet-facts" },
        this.fault,
        h("div", { class: "actions" }, this.take.button, this.take.timer, this.compare),
        this.take.element,
        this.numbers, this.more));
    this.stop = acceptPhotos(this.element, (files) => this.add(files));
    this.showThumbs();
  }

  /** Stop listening. */
  destroy() {
    this.stop();
    this.take.destroy();
  }

  /**
   * @param {string|null} id
   * @param {{text: string, good: boolean}|null} badge
   * @param {import("./types.js").Subnet|null} [found]  its point on the front
   */
  async show(id, badge, found = null) {
    this.badge.hidden = !badge;
    this.badge.textContent = badge?.text ?? "";
    this.badge.classList.toggle("good", Boolean(badge?.good));
    this.element.classList.toggle("none", !id);
    const same = id === this.id;
    if (same && found === this.found) return;
    this.found = found;
    if (same) {
      if (this.described) this.showNumbers(this.described);
      return;
    }
    this.id = id;
    this.described = null;
    this.title.textContent = id ?? "–";
    this.take.setArch(id);
    this.fault.replaceChildren();
    if (!id) return;
    this.compare.href = `#/photo?subnets=${encodeURIComponent(`min,${id},max`)}`;
    this.predict();
    await this.describe(id);
  }

  /** @private @param {string} id */
  async describe(id) {
    try {
      const [subnet, known] = await Promise.all([describeOnce(id), home()]);
      this.processors = known.processors;
      if (this.id === id) this.showNumbers(subnet);
    } catch (error) {
      if (this.id === id) this.fault.replaceChildren(errorNotice(error, () => this.describe(id)));
    }
  }

  /** @private @param {Description} subnet */
  showNumbers(subnet) {
    this.described = subnet;
    this.fault.replaceChildren();
    const { accuracy, latency_ms, energy_mj } = this.withMeasured(subnet.predictions);
    const on = (/** @type {string} */ device) => this.processors[device] ?? "";
    const metric = this.metric && accuracy[this.metric] ? this.metric : Object.keys(accuracy)[0];
    const device = this.device && latency_ms[this.device] ? this.device : Object.keys(latency_ms)[0];
    this.numbers.replaceChildren(
      ...(metric ? [accuracyRow(metric, accuracy[metric])] : []),
      ...(device ? [latencyRow(device, latency_ms[device], on(device))] : []),
      ...(device && energy_mj[device] ? [energyRow(device, energy_mj[device], on(device))] : []),
      ...["macs", "parameters", "memory_bytes"].map((name) => row(quantity(name).label, withUnit(name, valueOf(subnet, name)), "exact")),
      row("Resolution", resolutionText(subnet.resolution), "pixels"));
    const others = [
      ...Object.entries(accuracy).filter(([name]) => name !== metric).map(([name, estimate]) => accuracyRow(name, estimate)),
      ...Object.entries(latency_ms).filter(([name]) => name !== device).map(([name, estimate]) => latencyRow(name, estimate, on(name))),
      ...Object.entries(energy_mj).filter(([name]) => name !== device).map(([name, estimate]) => energyRow(name, estimate, on(name))),
    ];
    this.others.replaceChildren(...others);
    this.more.hidden = !others.length;
  }

  /** What is predicted, and what the search of the front measured. @private @param {Description["predictions"]} predictions */
  withMeasured(predictions) {
    const { found, metric, device } = this;
    const at = (/** @type {string|null} */ name, /** @type {Estimate|undefined} */ estimate) => (name && estimate ? { [name]: estimate } : {});
    return {
      accuracy: { ...predictions.accuracy, ...at(metric, found?.accuracy) },
      latency_ms: { ...predictions.latency_ms, ...at(device, found?.latency_ms) },
      energy_mj: { ...predictions.energy_mj, ...at(device, found?.energy_mj) },
    };
  }

  /** @private */
  async predict() {
    const photo = (await this.photos()).find((one) => one.id === this.photoId) ?? (await this.photos())[0];
    if (this.id && photo) await this.map.show(photo, this.id);
  }

  /** @private @returns {Promise<Photo[]>} */
  async photos() {
    try {
      return await allPhotos();
    } catch (error) {
      this.fault.replaceChildren(errorNotice(error));
      return [];
    }
  }

  /** @private */
  async showThumbs() {
    const photos = await this.photos();
    const chosen = photos.find((photo) => photo.id === this.photoId)?.id ?? photos[0]?.id;
    this.thumbs.replaceChildren(thumbnails({
      photos: photos.slice(-5), chosen, onchoose: (photo) => this.choose(photo), onadd: () => choosePhotos((files) => this.add(files)),
    }));
  }

  /** @private @param {Photo} photo */
  choose(photo) {
    this.photoId = photo.id;
    this.showThumbs();
    this.predict();
    this.onphoto(photo.id);
  }

  /** @private @param {File[]} files */
  async add(files) {
    try {
      const added = await addPhotos(files);
      if (added.length) this.choose(added[added.length - 1]);
    } catch (error) {
      toast(/** @type {Error} */ (error).message);
      this.fault.replaceChildren(errorNotice(error));
    }
  }
}

/** @param {string} metric @param {Estimate} estimate */
function accuracyRow(metric, estimate) {
  return estimateRow(`Accuracy (${metricName(metric)})`, "accuracy", estimate);
}

/** @param {string} device @param {Estimate} estimate @param {string} on  what the device is */
function latencyRow(device, estimate, on) {
  return estimateRow(`Latency, ${device}`, "latency_ms", estimate, on);
}

/** @param {string} device @param {Estimate} estimate @param {string} on  what the device is */
function energyRow(device, estimate, on) {
  return estimateRow(`Energy, ${device}`, "energy_mj", estimate, on);
}

/** @param {string} label @param {string} name @param {Estimate} estimate @param {string} [on]  what the device is */
function estimateRow(label, name, estimate, on = "") {
  const bounds = interval(name, estimate);
  if (estimate.measured !== null && estimate.measured !== undefined) {
    return row(label, withUnit(name, estimate.measured), "measured", `predicted ${inUnits(name, estimate.predicted)}${bounds ? `, ${bounds}` : ""}`, on);
  }
  return row(label, withUnit(name, estimate.predicted), "predicted", bounds ? `90 % interval ${bounds}` : "without an interval", on);
}

/** @param {string} label @param {string} value @param {string} note @param {string|null} [below]  a line of its own, so that rows never change their height @param {string} [on]  what the device is */
function row(label, value, note, below = null, on = "") {
  return h("div", null, h("dt", null, label), h("dd", null, h("b", null, value), h("span", null, note), below && h("span", { class: "below" }, below)), on && h("dd", { class: "on" }, on));
}

/** The drawing of the stages and the table of layers, for the width of the page. */
export class SubnetDetails {
  constructor() {
    /** @type {string|null} */
    this.id = null;
    this.drawing = h("div", { class: "drawing" });
    this.layers = h("div");
    this.summary = h("p", { class: "quiet" });
    this.element = h("section", { class: "card details-card", "aria-label": "Architecture" },
      h("div", { class: "card-head" }, h("h2", null, "Architecture"), this.summary),
      this.drawing,
      h("p", { class: "quiet key" },
        h("span", null, h("i", { class: "key-out" }), "output channels"), h("span", null, h("i", { class: "key-middle" }), "expanded middle"),
        h("span", null, "a bar is a block, as wide as its kernel; the boxes are feature maps; all to scale")),
      h("details", { class: "layers", ontoggle: () => this.fill() }, h("summary", null, "Layers"), this.layers));
  }

  /** @param {string|null} id */
  async show(id) {
    if (id === this.id) return;
    this.id = id;
    if (!id) {
      this.drawing.replaceChildren();
      return;
    }
    try {
      const subnet = await describeOnce(id);
      if (this.id !== id) return;
      const scrolled = this.drawing.firstElementChild?.scrollLeft ?? 0;
      const drawn = drawStages(subnet);
      this.drawing.replaceChildren(drawn);
      drawn.scrollLeft = scrolled;
      const depth = subnet.arch.stages.reduce((sum, stage) => sum + stage.depth, 0);
      this.summary.textContent = `${depth} blocks, ${resolutionText(subnet.resolution)} pixels in and out`;
      this.subnet = subnet;
      this.fill();
    } catch (error) {
      if (this.id === id) this.drawing.replaceChildren(errorNotice(error));
    }
  }

  /** The table is made when it is opened: it has hundreds of rows. @private */
  fill() {
    const open = this.layers.closest("details")?.open;
    if (open && this.subnet) this.layers.replaceChildren(layerTable(this.subnet));
  }
}

/** @param {Description} subnet */
function layerTable(subnet) {
  const layers = subnet.layers.filter((layer) => layer.macs > 0);
  return h("div", { class: "table-wrap layer-table", tabindex: 0, role: "region", "aria-label": "Layers" },
    h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Layer"), h("th", { scope: "col" }, "Kind"),
        ["In", "Out", "Kernel", "Stride", "Output", "Macs (M)", "Parameters"].map((text) => h("th", { scope: "col", class: "n" }, text)))),
      h("tbody", null, layers.map((layer) =>
        h("tr", null, h("td", { class: "mono" }, layer.name), h("td", null, layer.kind),
          [layer.c_in, layer.c_out, `${layer.kernel}×${layer.kernel}`, layer.stride, `${layer.width}×${layer.height}`, (layer.macs / 1e6).toFixed(2), count(layer.parameters)]
            .map((value) => h("td", { class: "n" }, String(value))))))));
}
