/** What the whole page knows: the supernet that is searched by default, its space, and what can be predicted. */

import { describe, getSpace, listDevices, listSupernets } from "./api.js";

/** @typedef {import("./types.js").Space} Space */

/**
 * @typedef {Object} Home
 * @property {import("./types.js").Supernet|null} supernet
 * @property {Space|null} space
 * @property {string[]} metrics  accuracy metrics that can be predicted
 * @property {string[]} devices  devices whose latency can be predicted
 * @property {string[]} energy  those whose energy can be predicted too
 * @property {Object<string, string>} processors  what each device is, in words, where that is known
 */

/** @type {Promise<Home>|null} */
let known = null;

/** Asked for once; asked for again after a failure. @returns {Promise<Home>} */
export function home() {
  known ??= load();
  known.catch(() => (known = null));
  return known;
}

/** What can be predicted has changed. */
export function forgetHome() {
  known = null;
}

/** @returns {Promise<Home>} */
async function load() {
  const supernets = await listSupernets();
  const supernet = supernets.find((one) => one.default) ?? supernets[0] ?? null;
  if (!supernet) return { supernet: null, space: null, metrics: [], devices: [], energy: [], processors: {} };
  const [space, smallest, devices] = await Promise.all([getSpace(supernet.space), describe("min"), listDevices()]);
  const { accuracy, latency_ms, energy_mj } = smallest.predictions;
  return { supernet, space, metrics: Object.keys(accuracy), devices: Object.keys(latency_ms), energy: Object.keys(energy_mj), processors: Object.fromEntries(devices.map((device) => [device.id, processorText(device)])) };
}

/** What a device is: its description, and of its runtime and threads what that leaves out. @param {import("./types.js").Device} device */
export function processorText({ description, runtime, threads }) {
  const others = [runtime, threads && `${threads} thread${threads > 1 ? "s" : ""}`];
  return [description, ...others.filter((text) => text && !description.includes(String(text)))].filter(Boolean).join(", ");
}
