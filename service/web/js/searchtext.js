/** A search in words. */

import { clock, constraintText, metricName, quantity } from "./format.js";

/** @typedef {import("./types.js").Search} Search */

/** `Accuracy over latency`. @param {Search} search */
export function objectivesText({ request }) {
  const names = (request.objectives ?? []).map((/** @type {string} */ text) => text.split(":").pop());
  const words = names.map((/** @type {string} */ name) => (name === "accuracy" ? `${metricName(request.accuracy_metric)}` : quantity(name).label.replace("Multiply-accumulates", "Macs").toLowerCase()));
  return words.length > 1 ? `${words[0]} over ${words.slice(1).join(" and ")}` : words.join("");
}

/** @param {Search} search */
export function searchTitle(search) {
  if (search.id.startsWith("default-")) return "default search";
  const bounds = (search.request.constraints ?? []).map(constraintText);
  return [objectivesText(search), ...bounds, clock(search.created_at)].join(", ");
}
