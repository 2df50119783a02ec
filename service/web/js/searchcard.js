/** The parts that lists and pages of searches share: state, live numbers, curves. */

import { isFinal } from "./api.js";
import { h } from "./dom.js";
import { count, duration, significant } from "./format.js";

/** @typedef {import("./types.js").Search} Search */
/** @typedef {import("./types.js").Progress} Progress */

/** @param {Search} search */
export function stateBadge(search) {
  const text = search.cancel_requested && search.state === "running" ? "stopping" : search.state;
  const kind = { succeeded: "good", failed: "bad" }[/** @type {string} */ (search.state)] ?? "";
  return h("span", { class: `badge ${kind}` }, search.state === "running" && h("i", { class: "spinner tiny" }), text);
}

/** What a search has done so far, from its progress or its result. @param {Search} search @returns {[string, string][]} */
export function figures(search) {
  const { progress, result } = search;
  const done = isFinal(search.state) && result;
  const evaluations = done ? result.evaluations : progress?.evaluations;
  const seconds = done ? result.seconds : progress?.seconds;
  const rate = evaluations && seconds ? `${count(evaluations / seconds)} / s` : "–";
  /** @type {[string, string][]} */
  const found = [
    ["On the front", count(done ? result.subnets : progress?.subnets ?? 0)],
    ...(search.request.verify ? [/** @type {[string, string]} */ (["Measured", measuredText(search)])] : []),
    ["Hypervolume", significant(done ? result.hypervolume : progress?.hypervolume, 4)],
    ["Scored", evaluations ? count(evaluations) : "–"],
    ["Speed", rate],
    ["Search time", duration(seconds)],
  ];
  if (!isFinal(search.state)) found.push(["Time left", progress ? `about ${duration(progress.remaining_seconds)}` : "–"]);
  return found;
}

/** How many subnets a search that verifies has measured. @param {Search} search */
function measuredText({ state, request, result }) {
  if (!isFinal(state)) return `up to ${count(request.verify ?? 0)}`;
  return count(result?.measurements ?? 0) + (result?.failures ? `, ${count(result.failures)} failed` : "");
}

/** @param {[string, string][]} pairs */
export function figureRow(pairs) {
  return h("dl", { class: "figures" }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}
