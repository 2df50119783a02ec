/** A search in words. */

import { Problem } from "./api.js";
import { clock, constraintText, metricName, quantity } from "./format.js";

/** @typedef {import("./types.js").Search} Search */

/** What is shown where a search was not found; other errors as they are. @param {unknown} error @param {string} id */
export function explained(error, id) {
  if (!(error instanceof Problem) || error.status !== 404) return error;
  return Object.assign(new Error(`There is no search ${id}.`), { remedy: "It was removed, or the link is not whole. The page Searches lists all there are." });
}

/** `Accuracy over latency`. @param {Search} search */
export function objectivesText({ request }) {
  const names = request.objectives.map((text) => String(text.split(":").pop()));
  const words = names.map((name) => (name === "accuracy" ? `${metricName(request.accuracy_metric)}` : quantity(name).label.replace("Multiply-accumulates", "Macs").toLowerCase()));
  return words.length > 1 ? `${words[0]} over ${words.slice(1).join(" and ")}` : words.join("");
}

/** @param {Search} search */
export function searchTitle(search) {
  if (search.id.startsWith("default-")) return "default search";
  const bounds = (search.request.constraints ?? []).map(constraintText);
  return [objectivesText(search), ...bounds, clock(search.created_at)].join(", ");
}
