/** Saliency maps: fetched as grey values, coloured and laid over the photo here, so that opacity costs no request. */

import { ask } from "./api.js";

/** @typedef {import("./types.js").Map_} SaliencyMap */
/** @typedef {import("./photos.js").Photo} Photo */

const KEPT = 64;
const LONGEST_SIDE = 900;
const MAP_SIDE = 384;

/** @type {Map<string, Promise<SaliencyMap>>} */
const known = new Map();

/**
 * The map of a photo by a subnet; the last ones are kept.
 * @param {Photo} photo
 * @param {string} arch
 * @returns {Promise<SaliencyMap>}
 */
export function predict(photo, arch) {
  const key = `${photo.id} ${arch}`;
  let answer = known.get(key);
  if (!answer) {
    answer = fetchMap(photo, arch);
    answer.catch(() => known.delete(key));
  }
  known.delete(key);
  known.set(key, answer);
  if (known.size > KEPT) known.delete(/** @type {string} */ (known.keys().next().value));
  return answer;
}

/** @param {Photo} photo @param {string} arch @returns {Promise<SaliencyMap>} */
async function fetchMap(photo, arch) {
  const form = new FormData();
  form.append("image", await photo.blob(), "photo.jpg");
  form.append("arch", arch);
  form.append("style", "grey");
  form.append("longest_side", String(MAP_SIDE));
  const began = performance.now();
  const answer = await ask("v1/predictions", { method: "POST", body: form, headers: { accept: "image/png" } });
  const milliseconds = performance.now() - began;
  const bitmap = await createImageBitmap(await answer.blob());
  const { width, height } = bitmap;
  const context = scratch(width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  const values = new Uint8ClampedArray(width * height);
  for (let i = 0; i < values.length; i += 1) values[i] = pixels[4 * i];
  return { width, height, values: stretched(values), milliseconds };
}

/** The largest value at 255. @param {Uint8ClampedArray} values */
function stretched(values) {
  let most = 1;
  for (const value of values) if (value > most) most = value;
  return values.map((value) => (value * 255) / most);
}

/** @param {number} width @param {number} height */
function scratch(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
}

/**
 * Draw a photo, and over it the heat of a map. At full opacity only the map is left.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLImageElement} image
 * @param {SaliencyMap|null} map
 * @param {number} opacity 0 to 1
 */
export function drawOverlay(canvas, image, map, opacity) {
  const context = drawPhoto(canvas, image);
  if (!map || opacity <= 0) return;
  const alpha = opacities(opacity);
  const heat = heatTable();
  paint(context, map.width, map.height, (i, pixel) => {
    const v = map.values[i];
    pixel[0] = heat[3 * v];
    pixel[1] = heat[3 * v + 1];
    pixel[2] = heat[3 * v + 2];
    pixel[3] = alpha[v];
  });
}

/**
 * Opacity of each grey value: the photo shows where little is seen, until at full opacity it is gone. No steps near
 * zero, where a map has few grey values.
 * @param {number} opacity 0 to 1
 */
function opacities(opacity) {
  const least = Math.max(0, 5 * opacity - 4);
  return Array.from({ length: 256 }, (_, v) => 255 * opacity * (least + (1 - least) * (1 - (1 - v / 255) ** 2.4)));
}

/**
 * Draw a photo in pale, and over it where `map` sees more (green) or less (orange) than `other`.
 * @param {HTMLCanvasElement} canvas
 * @param {HTMLImageElement} image
 * @param {SaliencyMap} map
 * @param {SaliencyMap} other of the same size
 * @param {number} opacity 0 to 1
 */
export function drawDifference(canvas, image, map, other, opacity) {
  const context = drawPhoto(canvas, image);
  context.fillStyle = "rgb(255 255 255 / 72%)";
  context.fillRect(0, 0, canvas.width, canvas.height);
  paint(context, map.width, map.height, (i, pixel) => {
    const change = map.values[i] - other.values[i];
    const [red, green, blue] = change > 0 ? [5, 110, 78] : [214, 90, 0];
    pixel[0] = red;
    pixel[1] = green;
    pixel[2] = blue;
    pixel[3] = Math.min(255, 3 * Math.abs(change)) * Math.max(0.2, opacity);
  });
}

/** Mean absolute difference of two maps, 0 to 1. @param {SaliencyMap} map @param {SaliencyMap} other */
export function difference(map, other) {
  let sum = 0;
  for (let i = 0; i < map.values.length; i += 1) sum += Math.abs(map.values[i] - other.values[i]);
  return sum / (255 * map.values.length);
}

/** @param {HTMLCanvasElement} canvas @param {HTMLImageElement} image */
function drawPhoto(canvas, image) {
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const width = Math.max(1, Math.round(image.naturalWidth * shrink));
  const height = Math.max(1, Math.round(image.naturalHeight * shrink));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.drawImage(image, 0, 0, width, height);
  return context;
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 * @param {(index: number, pixel: number[]) => void} colour
 */
function paint(context, width, height, colour) {
  const layer = scratch(width, height);
  const pixels = layer.createImageData(width, height);
  const pixel = [0, 0, 0, 0];
  for (let i = 0; i < width * height; i += 1) {
    colour(i, pixel);
    pixels.data.set(pixel, 4 * i);
  }
  layer.putImageData(pixels, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(layer.canvas, 0, 0, context.canvas.width, context.canvas.height);
}

/** @type {Uint8ClampedArray|null} */
let table = null;

/**
 * 256 colours from dark violet over red to pale yellow, the same as `supernet.images.heat_colours`: a path through
 * OKLab (Ottosson, 2020) on which lightness rises in equal steps.
 */
function heatTable() {
  if (table) return table;
  table = new Uint8ClampedArray(3 * 256);
  for (let i = 0; i < 256; i += 1) {
    const t = i / 255;
    const lightness = 0.16 + 0.8 * t;
    const hue = ((290 + 175 * t) * Math.PI) / 180;
    const chroma = 0.05 + 0.13 * Math.sin(Math.PI * Math.min(0.9, Math.max(0.02, t)) ** 0.9);
    const a = chroma * Math.cos(hue);
    const b = chroma * Math.sin(hue);
    const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
    const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
    const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
    table[3 * i] = encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
    table[3 * i + 1] = encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
    table[3 * i + 2] = encoded(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s);
  }
  return table;
}

/** Linear light to sRGB. @param {number} linear */
function encoded(linear) {
  const light = Math.min(1, Math.max(0, linear));
  return 255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055);
}

/** @type {Map<string, Promise<HTMLImageElement>>} */
const images = new Map();

/** A photo as a decoded image element. @param {Photo} photo */
export function imageOf(photo) {
  let image = images.get(photo.id);
  if (!image) {
    image = (async () => {
      const element = new Image();
      element.src = photo.url;
      await element.decode();
      return element;
    })();
    image.catch(() => images.delete(photo.id));
    images.set(photo.id, image);
  }
  return image;
}
