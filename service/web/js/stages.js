/** A subnet as a drawing to scale: one bar per block, as high as its channels and as wide as its kernel. */

import { h, svg } from "./dom.js";

/** @typedef {import("./types.js").Description} Description */
/** @typedef {import("./types.js").Layer} Layer */

/**
 * @typedef {Object} Block
 * @property {number} channels  of its output
 * @property {number} middle    of its expanded middle, or the same
 * @property {number} kernel
 * @property {number} macs
 *
 * @typedef {Object} Stage
 * @property {string} name
 * @property {Block[]} blocks
 * @property {number} height  of the feature map it leaves
 * @property {number} width
 * @property {string[]} notes
 * @property {boolean} decoder
 * @property {boolean} gated  by squeeze and excite
 */

const BAR = 3.4; // width of a bar per pixel of kernel
const TALL = 150; // height of the highest bar
const LEAST = 2.5; // height of a bar that would vanish
const MAP = 46; // width of the largest feature map
const LINE = 15; // between lines of text

/**
 * The layers of a subnet grouped into stages and blocks.
 * @param {Description} subnet
 * @returns {Stage[]}
 */
export function stagesOf(subnet) {
  const groups = grouped(subnet.layers, (layer) => (layer.name.startsWith("decoder.") ? `d${layer.name.split(".")[1]}` : layer.name.split(".")[0]));
  return [...groups].flatMap(([name, layers]) => {
    const number = Number(/^mb(\d)$/.exec(name)?.[1] ?? 0);
    return number ? [encoderStage(name, layers, subnet.arch.stages[number - 1])] : plainStage(name, layers);
  });
}

/** @param {string} name @param {Layer[]} layers @param {import("./types.js").StageArch} arch @returns {Stage} */
function encoderStage(name, layers, arch) {
  const blocks = [...grouped(layers, (layer) => layer.name.split(".")[1]).values()].map((parts) => ({
    channels: arch.width,
    middle: parts.find((layer) => layer.kind === "depthwise")?.c_out ?? arch.width,
    kernel: arch.kernel,
    macs: sumOfMacs(parts),
  }));
  const { height, width } = layers[layers.length - 1];
  const notes = [`${arch.width} ch`, `${arch.kernel}×${arch.kernel}`, ...(arch.expansion > 1 ? [`exp ${arch.expansion}`] : [])];
  return { name, blocks, height, width, notes, decoder: false, gated: layers.some((layer) => /\.(se|squeeze|gate)\b/.test(layer.name)) };
}

/** One convolution, such as the stem or a step of the decoder. @param {string} name @param {Layer[]} layers @returns {Stage[]} */
function plainStage(name, layers) {
  const main = layers.find((layer) => layer.macs > 0);
  if (!main) return [];
  const block = { channels: main.c_out, middle: main.c_out, kernel: main.kernel, macs: sumOfMacs(layers) };
  const notes = [`${main.c_out} ch`, `${main.kernel}×${main.kernel}`];
  return [{ name, blocks: [block], height: main.height, width: main.width, notes, decoder: /^d\d/.test(name), gated: false }];
}

/** @param {Layer[]} layers */
function sumOfMacs(layers) {
  return layers.reduce((sum, layer) => sum + layer.macs, 0);
}

/** @param {Layer[]} layers @param {(layer: Layer) => string} key @returns {Map<string, Layer[]>} */
function grouped(layers, key) {
  const groups = new Map();
  for (const layer of layers) groups.set(key(layer), [...(groups.get(key(layer)) ?? []), layer]);
  return groups;
}

/**
 * The drawing, in a box that scrolls sideways where it is too wide.
 * @param {Description} subnet
 */
export function drawStages(subnet) {
  const stages = stagesOf(subnet);
  const scale = TALL / Math.max(...stages.flatMap((stage) => stage.blocks.map((block) => block.middle)));
  const widest = Math.max(...stages.map((stage) => stage.width));
  let x = 4;
  const drawn = stages.map((stage, index) => {
    const { element, span } = drawStage(stage, x, scale, MAP / widest);
    x += span + (stages[index + 1]?.decoder !== stage.decoder ? 28 : 12);
    return element;
  });
  const height = TALL + 106 + 3 * LINE;
  const blocks = stages.reduce((sum, stage) => sum + (stage.decoder ? 0 : stage.blocks.length), 0);
  const label = `${blocks} encoder blocks in ${stages.length} stages; the layer table says the same in numbers`;
  return h("div", { class: "stages-scroll", tabindex: 0, role: "region", "aria-label": "Drawing of the stages" },
    svg("svg", { class: "stages", viewBox: `0 0 ${x - 24} ${height}`, style: `min-width: ${Math.round(x * 0.8)}px`, role: "img", "aria-label": label }, drawn));
}

/** @param {Stage} stage @param {number} x @param {number} scale @param {number} mapScale */
function drawStage(stage, x, scale, mapScale) {
  const widths = stage.blocks.map((block) => block.kernel * BAR + 2);
  const wide = widths.reduce((sum, width) => sum + width, -2);
  const span = Math.max(wide, 50);
  const centre = x + span / 2;
  let at = centre - wide / 2;
  const bars = stage.blocks.map((block, index) => {
    const bar = drawBlock(stage, block, at, scale);
    at += widths[index];
    return bar;
  });
  const [mapWidth, mapHeight] = [stage.width * mapScale, stage.height * mapScale];
  const mapMiddle = TALL + 46 + MAP * 0.375;
  const element = svg("g", { class: stage.decoder ? "decoder" : "encoder" },
    bars,
    svg("text", { x: centre, y: TALL + 34, class: "name" }, stage.name + (stage.gated ? " · SE" : "")),
    svg("rect", { x: centre - mapWidth / 2, y: mapMiddle - mapHeight / 2, width: mapWidth, height: mapHeight, class: "feature" }),
    [`${stage.width}×${stage.height}`, ...stage.notes].map((text, line) =>
      svg("text", { x: centre, y: TALL + 98 + LINE * line, class: "note" }, text)));
  return { element, span };
}

/** @param {Stage} stage @param {Block} block @param {number} x @param {number} scale */
function drawBlock(stage, block, x, scale) {
  const bar = (/** @type {number} */ channels, /** @type {string} */ kind) => {
    const height = Math.max(channels * scale, LEAST);
    return svg("rect", { x, y: TALL / 2 + 10 - height / 2, width: block.kernel * BAR, height, rx: 1.5, class: kind });
  };
  const expanded = block.middle > block.channels;
  const text = `${stage.name}: ${block.channels} channels${expanded ? `, ${block.middle} in the middle` : ""}, kernel ${block.kernel}×${block.kernel}, ${(block.macs / 1e6).toFixed(1)} M macs`;
  return svg("g", null, svg("title", null, text), expanded && bar(block.middle, "middle"), bar(block.channels, "out"));
}
