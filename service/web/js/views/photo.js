/** Photos through the eyes of up to six subnets, side by side. */

import { getSearch, isOnline, whenBack } from "../api.js";
import { copyButton, errorNotice, h, segments, toast } from "../dom.js";
import { inUnits, metricName, resolutionText, withUnit } from "../format.js";
import { difference } from "../maps.js";
import { MapView, opacitySlider, thumbnails } from "../mapview.js";
import { acceptPhotos, addPhotos, allPhotos, choosePhotos } from "../photos.js";
import { note } from "../place.js";
import { describeOnce } from "../subnet.js";

/** @typedef {import("../photos.js").Photo} Photo */
/** @typedef {import("../types.js").Description} Description */

const MOST = 6;
const DEFAULT_SUBNETS = ["min", "knee", "max"];
const NAMES = /** @type {Object<string, string>} */ ({ min: "Smallest", max: "Largest", knee: "Knee of the front" });

/** @type {import("../main.js").Mount} */
export function mount(root, place) {
  const view = new PhotoView(root, place.query);
  view.start();
  return { leave: () => view.leave() };
}

/** One subnet of the comparison. */
class Tile {
  /** @param {string} name as it is in the address: min, knee, max, random:SEED or an id @param {PhotoView} view */
  constructor(name, view) {
    this.name = name;
    this.view = view;
    /** @type {string|null} */
    this.id = null;
    this.map = new MapView({ opacity: view.opacity, onready: () => view.compare() });
    this.title = h("h2", null, wordsOf(name) ?? "Subnet");
    this.code = h("code", null, "\u00a0");
    this.facts = h("p", { class: "quiet" }, "\u00a0");
    this.time = h("p", { class: "quiet tile-time" }, "\u00a0");
    this.remove = h("button", { type: "button", class: "icon-button small", "aria-label": `Remove ${this.title.textContent}`, title: "Remove", onclick: () => view.remove(this) }, "×");
    this.element = h("li", { class: "tile card" },
      h("div", { class: "tile-head" }, this.title, this.remove),
      this.map.element,
      h("div", { class: "tile-id" }, this.code, copyButton(() => this.id ?? "", "Copy the id")),
      this.facts, this.time);
  }

  async start() {
    try {
      const arch = this.name === "knee" ? await kneeOfDefault() : this.name;
      const subnet = await describeOnce(arch);
      this.id = subnet.id;
      this.code.replaceChildren(h("a", { href: `#/subnet/${subnet.id}` }, subnet.id));
      this.facts.textContent = factsOf(subnet);
      await this.show();
    } catch (error) {
      this.facts.replaceChildren(errorNotice(error, () => this.start()));
      if (!isOnline()) whenBack(() => this.element.isConnected && !this.id && this.start());
    }
  }

  async show() {
    if (!this.id || !this.view.photo) return;
    this.time.textContent = "\u00a0";
    await this.map.show(this.view.photo, this.id);
  }

  /** Say how long the map took and how far it is from that of `first`. @param {Tile|undefined} first */
  describe(first) {
    const { map } = this.map;
    const other = first?.map.map;
    this.time.textContent = map
      ? [
        map.milliseconds && `answered in ${Math.round(map.milliseconds)} ms`,
        first && first !== this && other?.values.length === map.values.length && `mean difference ${(100 * difference(map, other)).toFixed(1)} % from ${first.words}`,
      ].filter(Boolean).join(", ")
      : "\u00a0";
  }

  /** How sentences name this tile. */
  get words() {
    return wordsOf(this.name) ?? this.name;
  }
}

/** @param {string} name @returns {string|null} */
function wordsOf(name) {
  return NAMES[name] ?? (name.startsWith("random:") ? `Random ${name.slice(7)}` : null);
}

class PhotoView {
  /** @param {HTMLElement} root @param {URLSearchParams} query */
  constructor(root, query) {
    this.opacity = 0.7;
    this.mode = query.get("show") === "difference" ? "difference" : "map";
    this.wanted = query.get("photo");
    /** @type {Photo|null} */
    this.photo = null;
    const names = (query.get("subnets") ?? DEFAULT_SUBNETS.join(",")).split(",").filter(Boolean).slice(0, MOST);
    this.thumbs = h("div", { class: "thumbs-place" });
    this.fault = h("div");
    this.list = h("ul", { class: "tiles" });
    this.than = h("span", null, "looked at more");
    this.key = h("p", { class: "quiet key photo-key" }, h("span", null, h("i", { class: "key-more" }), this.than), h("span", null, h("i", { class: "key-less" }), "looked at less"));
    /** @type {Tile[]} */
    this.tiles = [...new Set(names)].map((name) => new Tile(name, this));
    this.field = h("input", { class: "input mono", type: "text", placeholder: "salnas-…", autocomplete: "off", spellcheck: "false", "aria-label": "Id of a subnet" });
    /** @type {HTMLElement[]} */
    this.quick = Object.entries(NAMES).map(([name, text]) => h("button", { type: "button", class: "button small", "data-name": name, onclick: () => this.extend(name) }, text));
    this.adder = this.buildAdder();
    root.append(
      h("div", { class: "page-head" },
        h("h1", null, "What subnets see"),
        h("p", { class: "muted" }, "Choose a photo, or drop or paste your own anywhere on this page. It goes to this service only and is not kept.")),
      h("section", { class: "photo-bar card", "aria-label": "Photo and display" }, this.thumbs, opacitySlider(this.opacity, (value) => this.setOpacity(value)),
        segments({ label: "Show", value: this.mode, options: [{ value: "map", text: "Maps" }, { value: "difference", text: "Difference" }], onchange: (mode) => this.setMode(mode) })),
      this.fault, this.key, this.list);
    this.stop = acceptPhotos(document.body, (files) => this.add(files));
    this.arrange();
  }

  async start() {
    try {
      const photos = await allPhotos();
      this.photo = photos.find((photo) => photo.id === this.wanted) ?? photos[0] ?? null;
      this.showThumbs();
    } catch (error) {
      this.fault.replaceChildren(errorNotice(error, () => this.start()));
    }
    for (const tile of this.tiles) tile.start();
  }

  leave() {
    this.stop();
  }

  /** @private */
  async showThumbs() {
    this.thumbs.replaceChildren(thumbnails({
      photos: await allPhotos(), chosen: this.photo?.id, onchoose: (photo) => this.choose(photo), onadd: () => choosePhotos((files) => this.add(files)),
    }));
  }

  /** @private @param {Photo} photo */
  choose(photo) {
    this.photo = photo;
    if (!photo.own) note({ photo: photo.id });
    this.showThumbs();
    for (const tile of this.tiles) tile.show();
  }

  /** @private @param {File[]} files */
  async add(files) {
    this.fault.replaceChildren();
    try {
      const added = await addPhotos(files);
      if (added.length) this.choose(added[added.length - 1]);
      if (added.length > 1) toast(`${added.length} photos added`);
    } catch (error) {
      this.fault.replaceChildren(errorNotice(error));
      this.showThumbs();
    }
  }

  /** @private @param {number} value */
  setOpacity(value) {
    this.opacity = value;
    for (const tile of this.tiles) tile.map.setOpacity(value);
  }

  /** @private @param {string} mode */
  setMode(mode) {
    this.mode = mode;
    note({ show: mode === "map" ? null : mode });
    this.compare();
  }

  /** Show maps or differences from the first map, as far as the maps are there. */
  compare() {
    const [first, ...others] = this.tiles;
    this.key.hidden = this.mode !== "difference";
    this.than.textContent = first ? `looked at more than by ${first.words}` : "looked at more";
    for (const tile of others) tile.map.compareWith(this.mode === "difference" ? first.map.map : null);
    first?.map.compareWith(null);
    for (const tile of this.tiles) tile.describe(first);
  }

  /** @param {Tile} tile */
  remove(tile) {
    this.tiles = this.tiles.filter((one) => one !== tile);
    this.arrange();
    this.remember();
    this.compare();
    (this.tiles[0]?.remove ?? this.field).focus();
  }

  /** @private */
  buildAdder() {
    const adder = h("form", { class: "adder", onsubmit: (/** @type {Event} */ event) => {
      event.preventDefault();
      const text = this.field.value.trim();
      if (text) this.extend(text);
      this.field.value = "";
    } },
      h("p", null, h("b", null, "Add a subnet")),
      h("div", { class: "adder-row" }, this.field, h("button", { type: "submit", class: "button" }, "Add")),
      h("div", { class: "adder-row" },
        this.quick,
        h("button", { type: "button", class: "button small", onclick: () => this.extend(`random:${Math.floor(Math.random() * 1000)}`) }, "Random")));
    return h("li", { class: "tile card tile-adder" }, adder);
  }

  /** @private @param {string} name */
  extend(name) {
    if (this.tiles.some((tile) => tile.name === name)) return toast("It is there already");
    const tile = new Tile(name, this);
    this.tiles.push(tile);
    this.arrange();
    this.remember();
    tile.start();
  }

  /** @private */
  arrange() {
    for (const button of this.quick) button.hidden = this.tiles.some((tile) => tile.name === button.dataset.name);
    this.key.hidden = this.mode !== "difference";
    this.list.replaceChildren(...this.tiles.map((tile) => tile.element), ...(this.tiles.length < MOST ? [this.adder] : []));
  }

  /** @private */
  remember() {
    note({ subnets: this.tiles.map((tile) => tile.name).join(",") });
  }
}

async function kneeOfDefault() {
  const search = await getSearch("default");
  if (!search.result?.knee) throw Object.assign(new Error("There is no front yet, so it has no knee."), { remedy: "Wait until the first search has ended." });
  return search.result.knee;
}

/** @param {Description} subnet */
function factsOf(subnet) {
  const [metric, accuracy] = Object.entries(subnet.predictions.accuracy)[0] ?? [];
  const [, latency] = Object.entries(subnet.predictions.latency_ms)[0] ?? [];
  return [
    metric && accuracy && `${metricName(metric)} ${inUnits("accuracy", accuracy.measured ?? accuracy.predicted)}`,
    latency && withUnit("latency_ms", latency.measured ?? latency.predicted),
    `${withUnit("macs", subnet.macs)} macs`, resolutionText(subnet.resolution),
  ].filter(Boolean).join(" · ");
}
