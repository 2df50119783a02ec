/** A small plot of what a device took against what was predicted for it unseen. */

import { h, svg } from "./dom.js";
import { withUnit } from "./format.js";

/** @typedef {import("./types.js").Device} Device */

const SIDE = 132;
const MARGIN = 6;
const WITHIN = 0.1;

/** Both axes logarithmic and alike: the diagonal is right, the band is ±10 %. @param {Device} device @returns {HTMLElement|null} */
export function heldOutPlot(device) {
  const { measured, predicted } = device.held_out ?? { measured: [], predicted: [] };
  if (measured.length < 2) return null;
  const all = [...measured, ...predicted];
  const [low, high] = [Math.log(Math.min(...all)) - WITHIN, Math.log(Math.max(...all)) + WITHIN];
  const place = (/** @type {number} */ value) => MARGIN + ((Math.log(value) - low) / (high - low)) * (SIDE - 2 * MARGIN);
  const at = (/** @type {number} */ x, /** @type {number} */ y) => `${place(x).toFixed(1)},${(SIDE - place(y)).toFixed(1)}`;
  const [first, last] = [Math.exp(low), Math.exp(high)];
  const band = [at(first, first * (1 + WITHIN)), at(last / (1 + WITHIN), last), at(last, last), at(last, last * (1 - WITHIN)), at(first / (1 - WITHIN), first), at(first, first)];
  const label = `${measured.length} subnets on ${device.id}: latency predicted unseen against measured, from ${withUnit("latency_ms", Math.min(...measured))} to ${withUnit("latency_ms", Math.max(...measured))}`;
  return h("figure", { class: "heldout" },
    svg("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, width: SIDE, height: SIDE, role: "img", "aria-label": label },
      svg("rect", { class: "heldout-frame", x: 0.5, y: 0.5, width: SIDE - 1, height: SIDE - 1, rx: 4 }),
      svg("polygon", { class: "heldout-band", points: band.join(" ") }),
      svg("path", { class: "heldout-right", d: `M${at(first, first)}L${at(last, last)}` }),
      measured.map((value, i) => {
        const [x, y] = at(value, predicted[i]).split(",");
        return svg("circle", { class: "heldout-dot", cx: x, cy: y, r: 2 }, svg("title", null, `measured ${withUnit("latency_ms", value)}, predicted ${withUnit("latency_ms", predicted[i])}`));
      })),
    h("figcaption", { class: "quiet" }, "predicted over measured"));
}
