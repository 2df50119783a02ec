/** A photo with the saliency map of one subnet over it. */

import { isOnline, whenBack } from "./api.js";
import { h } from "./dom.js";
import { drawDifference, drawOverlay, imageOf, predict } from "./maps.js";

/** @typedef {import("./types.js").Map_} SaliencyMap */
/** @typedef {import("./photos.js").Photo} Photo */

/** One canvas; what it shows is said with `show`, how strongly with `setOpacity`. */
export class MapView {
  /** @param {{opacity?: number, onready?: (map: SaliencyMap) => void}} [options] */
  constructor({ opacity = 0.7, onready } = {}) {
    this.opacity = opacity;
    this.onready = onready;
    this.label = "No photo yet";
    this.turn = 0;
    /** @type {HTMLImageElement|null} */
    this.image = null;
    /** @type {SaliencyMap|null} */
    this.map = null;
    /** @type {SaliencyMap|null} */
    this.against = null;
    this.canvas = h("canvas", { width: 640, height: 480, role: "img", "aria-label": this.label });
    this.state = h("span", { class: "map-state", hidden: true }, h("i", { class: "spinner" }), "computing");
    this.error = h("div", { class: "map-error", role: "alert", hidden: true });
    this.element = h("div", { class: "map" }, this.canvas, this.state, this.error);
  }

  /**
   * Show the map of a photo by a subnet. Of several calls only the last one is drawn.
   * @param {Photo} photo
   * @param {string} arch
   */
  async show(photo, arch) {
    this.turn += 1;
    const turn = this.turn;
    this.error.hidden = true;
    this.element.classList.add("busy");
    this.element.setAttribute("aria-busy", "true");
    const slow = setTimeout(() => (this.state.hidden = turn !== this.turn), 150);
    try {
      const image = await imageOf(photo);
      if (turn !== this.turn) return;
      if (this.image !== image) {
        this.image = image;
        this.map = null;
        this.label = photo.alt;
        this.redraw();
      }
      const map = await predict(photo, arch);
      if (turn !== this.turn) return;
      this.map = map;
      this.label = `${photo.alt}, with the saliency map of ${arch}`;
      this.redraw();
      this.onready?.(map);
    } catch (error) {
      if (turn === this.turn) this.fail(error, () => this.show(photo, arch));
    } finally {
      clearTimeout(slow);
      if (turn === this.turn) {
        this.state.hidden = true;
        this.element.classList.remove("busy");
        this.element.removeAttribute("aria-busy");
      }
    }
  }

  /** @private @param {unknown} error @param {() => void} retry */
  fail(error, retry) {
    const { message = String(error), remedy = null } = /** @type {{message?: string, remedy?: string|null}} */ (error ?? {});
    this.error.replaceChildren(h("div", null, h("p", null, message), remedy && h("p", { class: "small" }, remedy),
      h("button", { type: "button", class: "button small", onclick: retry }, "Try again")));
    this.error.hidden = false;
    const { turn } = this;
    if (!isOnline()) whenBack(() => turn === this.turn && this.element.isConnected && retry());
  }

  /** @param {number} opacity 0 to 1 */
  setOpacity(opacity) {
    this.opacity = opacity;
    this.redraw();
  }

  /** Show the difference from another map, or, with null, the map itself. @param {SaliencyMap|null} other */
  compareWith(other) {
    this.against = other;
    this.redraw();
  }

  /** @private */
  redraw() {
    if (!this.image) return;
    const { image, map, against, label } = this;
    const draw = () => {
      if (map && against && against.values.length === map.values.length) drawDifference(this.canvas, image, map, against, this.opacity);
      else drawOverlay(this.canvas, image, map, this.opacity);
      this.canvas.setAttribute("aria-label", label);
    };
    cancelAnimationFrame(this.frame ?? 0);
    this.frame = requestAnimationFrame(draw);
  }
}

/**
 * A slider for the opacity of maps.
 * @param {number} value 0 to 1
 * @param {(value: number) => void} onchange
 */
export function opacitySlider(value, onchange) {
  const shown = h("output", { class: "number" }, `${Math.round(100 * value)} %`);
  const input = h("input", {
    type: "range", min: 0, max: 100, step: 1, value: String(Math.round(100 * value)),
    oninput: () => {
      shown.textContent = `${input.value} %`;
      onchange(Number(input.value) / 100);
    },
  });
  return h("label", { class: "opacity" }, h("span", null, "Map"), input, shown);
}

/**
 * Small pictures to choose a photo from, and a place to add one.
 * @param {{photos: Photo[], chosen: string|undefined, onchoose: (photo: Photo) => void, onadd: () => void}} of
 */
export function thumbnails({ photos, chosen, onchoose, onadd }) {
  return h("div", { class: "thumbs", role: "group", "aria-label": "Photos" },
    photos.map((photo) =>
      h("button", { type: "button", class: "thumb", "aria-pressed": String(photo.id === chosen), title: photo.name, onclick: () => onchoose(photo) },
        h("img", { src: photo.url, alt: photo.name, width: 64, height: 48 }))),
    h("button", { type: "button", class: "thumb add", "aria-label": "Add your own photo", title: "Add your own photo", onclick: onadd }, "+"));
}
