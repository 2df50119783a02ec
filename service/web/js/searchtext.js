/** A search in words. */

import { Problem, isFinal } from "./api.js";
import { clock, constraintText, count, metricName, quantity } from "./format.js";

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
  return search.id.startsWith("default-") ? "default search" : wholeTitle(search);
}

/** All that tells a search from others. @param {Search} search */
export function wholeTitle(search) {
  return [objectivesText(search), search.request.device, `seed ${search.request.seed}`, ...boundsOf(search), clock(search.created_at)].join(", ");
}

/** The constraints in words. @param {Search} search */
export function boundsOf(search) {
  return (search.request.constraints ?? []).map(constraintText);
}

/** What the numbers of a search mean: `CC · cpu-1-thread · seed 0`. @param {Search} search */
export function meaningText({ request, result }) {
  return [metricName(request.accuracy_metric), request.device, `seed ${request.seed}`, request.verify && (typeof result?.measurements === "number" ? `verified, ${count(result.measurements)} measured` : `to measure ${count(request.verify)}`)].filter(Boolean).join(" · ");
}

/** Whether an error refuses the settings of a search, so that the same search would fail again. @param {{type: string}} failure */
export function isRefusal({ type }) {
  return /^(invalid|infeasible)-/.test(type.split("/").pop() ?? "");
}

/** Why there is no front to draw. @param {Search} search */
export function waitingText({ state, progress }) {
  if (isFinal(state)) return "It ended before it found a front.";
  if (state === "queued") return "It waits for its turn.";
  return `${progress ? `${count(progress.evaluations)} subnets are scored, ${count(progress.subnets)} of them on the front. ` : "It begins. "}The search saves its front every few seconds; it is drawn from the first save on.`;
}
