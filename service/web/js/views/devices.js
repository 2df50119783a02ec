/** Devices whose latency can be predicted, and what three subnets take on them. */

import { getSearch, listDevices } from "../api.js";
import { errorNotice, h } from "../dom.js";
import { interval, resolutionText, withUnit } from "../format.js";
import { describeOnce } from "../subnet.js";

/** @typedef {import("../types.js").Description} Description */

/** @type {import("../main.js").Mount} */
export function mount(root) {
  const place = h("div");
  root.append(
    h("div", { class: "page-head" }, h("h1", null, "Devices"), h("p", { class: "muted" }, "Where the latency of every subnet can be predicted.")),
    place);
  const load = async () => {
    try {
      const [devices, subnets] = await Promise.all([listDevices(), examples()]);
      place.replaceChildren(devices.length ? deviceTable(devices, subnets) : nothing());
    } catch (error) {
      place.replaceChildren(errorNotice(error, load));
    }
  };
  place.append(h("section", { class: "card skeleton", style: { height: "240px" } }));
  load();
  window.addEventListener("salnas-online", load);
  return { leave: () => window.removeEventListener("salnas-online", load) };
}

/** @returns {Promise<{text: string, subnet: Description}[]>} */
async function examples() {
  const knee = await getSearch("default").then((search) => search.result?.knee ?? null, () => null);
  const wanted = [["Smallest", "min"], ...(knee ? [["Knee", knee]] : []), ["Largest", "max"]];
  return Promise.all(wanted.map(async ([text, arch]) => ({ text, subnet: await describeOnce(arch) })));
}

/** @param {any[]} devices @param {{text: string, subnet: Description}[]} subnets */
function deviceTable(devices, subnets) {
  return h("section", { class: "card", "aria-label": "Devices" }, h("div", { class: "table-wrap" },
    h("table", { class: "devices" },
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Device"),
        subnets.map(({ text, subnet }) => h("th", { scope: "col", class: "n" }, h("a", { href: `#/subnet/${subnet.id}` }, text), h("div", { class: "quiet" }, resolutionText(subnet.resolution)))))),
      h("tbody", null, devices.map((device) =>
        h("tr", null,
          h("td", null, h("b", null, device.id), " ", device.default && h("span", { class: "badge" }, "default"), h("div", { class: "quiet" }, `for ${device.supernets.join(", ")}`)),
          subnets.map(({ subnet }) => latencyCell(subnet, device.id))))))));
}

/** @param {Description} subnet @param {string} device */
function latencyCell(subnet, device) {
  const estimate = subnet.predictions.latency_ms[device];
  if (!estimate) return h("td", { class: "n" }, "–");
  const measured = estimate.measured !== null;
  return h("td", { class: "n" }, h("b", null, withUnit("latency_ms", measured ? estimate.measured : estimate.predicted)), h("div", { class: "quiet" }, measured ? "measured" : interval("latency_ms", estimate) || "predicted"));
}

function nothing() {
  return h("section", { class: "card empty" },
    h("h2", null, "No device yet"),
    h("p", null, "Latency is predicted from subnets that were timed on a device. Time some on this machine with ", h("code", null, "make predictors"), "."));
}
