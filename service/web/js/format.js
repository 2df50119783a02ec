/** Numbers, units and names as people read them. */

/** @typedef {import("./types.js").Subnet} Subnet */
/** @typedef {import("./types.js").Estimate} Estimate */

/**
 * @typedef {Object} Quantity
 * @property {string} label  on its own
 * @property {string} short  in a row of choices
 * @property {string} unit
 * @property {number} scale  what one unit is
 * @property {number} digits  significant ones
 * @property {boolean} [higher]  whether more is better
 */

/** @type {Object<string, Quantity>} */
const QUANTITIES = {
  accuracy: { label: "Accuracy", short: "Accuracy", unit: "", scale: 1, digits: 3, higher: true },
  latency_ms: { label: "Latency", short: "Latency", unit: "ms", scale: 1, digits: 3 },
  macs: { label: "Multiply-accumulates", short: "Macs", unit: "G", scale: 1e9, digits: 3 },
  parameters: { label: "Parameters", short: "Parameters", unit: "M", scale: 1e6, digits: 3 },
  memory_bytes: { label: "Peak activation memory", short: "Memory", unit: "MiB", scale: 2 ** 20, digits: 3 },
  energy_mj: { label: "Energy", short: "Energy", unit: "mJ", scale: 1, digits: 3 },
};

/** Quantities that mean something on a device only. */
export const ON_DEVICE = ["latency_ms", "energy_mj"];

const METRICS = { cc: "CC", nss: "NSS", sim: "SIM", auc: "AUC", kld: "KLD" };

/** Name of an accuracy metric as the field writes it. @param {string} metric */
export function metricName(metric) {
  return METRICS[/** @type {keyof typeof METRICS} */ (metric)] ?? metric;
}

/** What is known of a column, `latency_ms@DEVICE` included. @param {string} name @returns {Quantity} */
export function quantity(name) {
  const [head, device] = name.split("@");
  const known = QUANTITIES[head] ?? { label: metricName(head), short: metricName(head), unit: "", scale: 1, digits: 3, higher: head !== "kld" };
  return device ? { ...known, label: `${known.label} on ${device}` } : known;
}

/** Title of an axis. @param {string} name @param {string} metric @param {string} device */
export function axisTitle(name, metric, device) {
  const { label, unit } = quantity(name);
  if (name === "accuracy") return `Accuracy (${metricName(metric)})`;
  if (ON_DEVICE.includes(name)) return `${label} on ${device} (${unit})`;
  return unit ? `${label} (${unit})` : label;
}

/** With so many significant digits, and thousands apart. @param {number|null|undefined} value @param {number} digits */
export function significant(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)) + 1e-12));
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

/** A value in the units of its column, without the unit. @param {string} name @param {number|null|undefined} value */
export function inUnits(name, value) {
  const { scale, digits, unit } = quantity(name);
  if (value === null || value === undefined) return "–";
  return unit === "" ? value.toFixed(digits) : significant(value / scale, digits);
}

/** A value with its unit. @param {string} name @param {number|null|undefined} value */
export function withUnit(name, value) {
  const { unit } = quantity(name);
  return unit ? `${inUnits(name, value)}\u00a0${unit}` : inUnits(name, value);
}

/** `0.781–0.803`, empty where there are no bounds. @param {string} name @param {Estimate|null|undefined} estimate */
export function interval(name, estimate) {
  if (!estimate || estimate.low === null || estimate.high === null) return "";
  return `${inUnits(name, estimate.low)}–${inUnits(name, estimate.high)}`;
}

/** The number a column has for a subnet: what was measured, else what is predicted. @param {Subnet} subnet @param {string} name @returns {number|null} */
export function valueOf(subnet, name) {
  const value = cell(subnet, name);
  return typeof value === "number" ? value : value?.counts ?? value?.measured ?? value?.predicted ?? null;
}

/**
 * The subnets of one front, made comparable: where only some of them were measured, predictions count for all, since a
 * measured number must not lose to what its neighbours merely promise.
 *
 * @param {Subnet[]} subnets
 */
export function makeComparable(subnets) {
  for (const name of Object.keys(subnets[0] ?? {})) {
    const estimates = subnets.map((subnet) => /** @type {Estimate} */ (cell(subnet, name))).filter((value) => typeof value?.measured === "number" || typeof value?.predicted === "number");
    const some = estimates.some((estimate) => estimate.measured === null);
    for (const estimate of estimates) if (some && estimate.predicted !== null) estimate.counts = estimate.predicted;
  }
}

/** Whether the number a column has for a subnet was measured. @param {Subnet} subnet @param {string} name */
export function countsMeasured(subnet, name) {
  return measuredOf(subnet, name) !== null && /** @type {Estimate} */ (cell(subnet, name)).counts === undefined;
}

/** Where a number was measured, that it was and what had been predicted; empty otherwise. @param {Subnet} subnet @param {string} name */
export function besideMeasured(subnet, name) {
  const measured = measuredOf(subnet, name);
  if (measured === null) return "";
  const estimate = /** @type {Estimate} */ (cell(subnet, name));
  const bounds = interval(name, estimate);
  if (!countsMeasured(subnet, name)) return `predicted${bounds ? ` ${bounds}` : ""}; measured ${withUnit(name, measured)}`;
  return estimate.predicted === null ? "measured" : `measured; predicted ${withUnit(name, estimate.predicted)}${bounds ? ` (${bounds})` : ""}`;
}

/** The measured number of a column, null where there is none. @param {Subnet} subnet @param {string} name */
export function measuredOf(subnet, name) {
  const value = cell(subnet, name);
  return typeof value === "number" ? null : value?.measured ?? null;
}

/** @param {Subnet} subnet @param {string} name */
function cell(subnet, name) {
  return /** @type {Object<string, Estimate|number|undefined>} */ (/** @type {unknown} */ (subnet))[name];
}

/** `256 × 192`: width times height, as the field writes it. @param {[number, number]} resolution */
export function resolutionText([height, width]) {
  return `${width} × ${height}`;
}

/** 1,234,567. @param {number} value */
export function count(value) {
  return Math.round(value).toLocaleString("en");
}

/** `1.4 s`, `3 min 20 s`, `2 h 5 min`. @param {number|null|undefined} seconds */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** `14:02`, with the day where it is not today. @param {number|string} time seconds since 1970, or ISO 8601 */
export function clock(time) {
  const date = new Date(typeof time === "number" ? time * 1000 : time);
  const today = new Date().toDateString() === date.toDateString();
  const hours = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  return today ? hours : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${hours}`;
}

/** `24.3 MB`. @param {number} bytes */
export function fileSize(bytes) {
  if (bytes < 1e6) return `${significant(bytes / 1e3)} kB`;
  return `${significant(bytes / 1e6)} MB`;
}

/** `macs<=1.2e9` in words: `Macs ≤ 1.2 G`. @param {string} text */
export function constraintText(text) {
  const match = /^\s*([\w.@:-]+?)\s*(<=|>=|==|!=|<|>)\s*(.+?)\s*$/.exec(text);
  if (!match) return text;
  const [, name, relation, value] = match;
  const sign = { "<=": "≤", ">=": "≥", "==": "=", "!=": "≠" }[relation] ?? relation;
  const number = Number(value);
  const device = name.includes("@") ? ` on ${name.split("@")[1]}` : "";
  const known = Object.hasOwn(QUANTITIES, name.split("@")[0]);
  return `${known ? quantity(name.split("@")[0]).short + device : name} ${sign} ${known && Number.isFinite(number) ? withUnit(name, number) : value}`;
}
