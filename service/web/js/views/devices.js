/** Devices: how well their latency and energy are predicted, what subnets take on them, and how to add one. */

import { fetchPack, getDevice, getSearch, listDevices, registerDevice, removeDevice } from "../api.js";
import { download, errorNotice, h, toast, uid } from "../dom.js";
import { count, interval, resolutionText, withUnit } from "../format.js";
import { heldOutPlot } from "../heldout.js";
import { forgetHome, processorText } from "../home.js";
import { describeOnce, forgetDescriptions } from "../subnet.js";

/** @typedef {import("../types.js").Description} Description */
/** @typedef {import("../types.js").Device} Device */

const POLL_MS = 700;

/** @type {import("../main.js").Mount} */
export function mount(root) {
  const view = new DevicesView(root);
  view.load();
  return { leave: () => view.leave() };
}

class DevicesView {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.list = h("div", null, h("section", { class: "card skeleton", style: { height: "430px" } }));
    this.timer = 0;
    root.append(
      h("div", { class: "page-head" }, h("h1", null, "Devices"), h("p", { class: "muted" }, "Where the latency of every subnet can be predicted, and its energy where that was measured.")),
      this.list);
    const noteId = uid("note");
    this.name = h("input", { class: "input", name: "name", required: true, maxlength: 64, pattern: "[A-Za-z0-9][A-Za-z0-9._\\-]*", autocomplete: "off", placeholder: "raspberry-pi-4", "aria-describedby": noteId });
    this.file = h("input", { class: "input", name: "measurements", type: "file", accept: ".csv,text/csv", required: true });
    this.outcome = h("div", { "aria-live": "polite" });
    this.submit = h("button", { type: "submit", class: "button primary" }, "Add the device");
    this.pack = h("button", { type: "button", class: "button", onclick: () => this.getPack() }, "Download the pack");
    this.form = this.buildForm(noteId);
    this.form.hidden = true; // what comes below a list of unknown length would jump
    root.append(this.form);
    this.back = () => this.load();
    window.addEventListener("salnas-online", this.back);
  }

  leave() {
    this.left = true;
    clearTimeout(this.timer);
    window.removeEventListener("salnas-online", this.back);
  }

  async load() {
    clearTimeout(this.timer);
    try {
      const [devices, subnets] = await Promise.all([listDevices(), examples()]);
      if (this.left) return;
      this.list.replaceChildren(devices.length ? this.table(devices, subnets) : nothing());
      if (devices.some((device) => device.state === "fitting")) this.timer = setTimeout(() => this.load(), 3 * POLL_MS);
    } catch (error) {
      if (!this.left) this.list.replaceChildren(errorNotice(error, () => this.load()));
    } finally {
      this.form.hidden = false;
    }
  }

  /** @private @param {Device[]} devices @param {{text: string, subnet: Description}[]} subnets */
  table(devices, subnets) {
    return h("section", { class: "card", "aria-label": "Devices" }, h("div", { class: "table-wrap" },
      h("table", { class: "devices" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "Device"), h("th", { scope: "col" }, "Prediction on unseen subnets"),
          subnets.map(({ text, subnet }) => h("th", { scope: "col", class: "n" }, h("a", { href: `#/subnet/${subnet.id}` }, text), h("div", { class: "quiet" }, resolutionText(subnet.resolution)))),
          h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Remove")))),
        h("tbody", null, devices.map((device) =>
          h("tr", null,
            h("td", null, h("b", null, device.id), " ", device.default && h("span", { class: "badge" }, "default"), device.state !== "ready" && stateOf(device),
              h("div", { class: "quiet processor" }, processorText(device) || `for ${device.supernets.join(", ")}`)),
            h("td", null, qualityOf(device)),
            subnets.map(({ text, subnet }) => latencyCell(text, subnet, device.id)),
            h("td", { class: "n" }, !device.builtin && h("button", { type: "button", class: "button small", "aria-label": `Remove ${device.id}`, onclick: () => this.remove(device.id) }, "Remove"))))))));
  }

  /** @private @param {string} id */
  async remove(id) {
    try {
      await removeDevice(id);
      changed();
      await this.load();
      toast(`${id} removed`);
    } catch (error) {
      this.outcome.replaceChildren(errorNotice(error));
    }
  }

  /** @private @param {string} noteId */
  buildForm(noteId) {
    const field = (/** @type {string} */ text, /** @type {HTMLElement} */ input) => h("label", { class: "field" }, h("span", null, text), input);
    const step = (/** @type {string} */ title, /** @type {import("../dom.js").Child[]} */ ...content) => h("li", null, h("h3", null, title), ...content);
    return h("form", { class: "card search-form device-form", onsubmit: (/** @type {Event} */ event) => this.send(event) },
      h("h2", null, "Add a device"),
      h("ol", { class: "steps" },
        step("Name it", h("div", { class: "columns" }, field("Name", this.name), field("Runtime", h("input", { class: "input", name: "runtime", maxlength: 200, placeholder: "onnxruntime 1.31" })), field("Threads", h("input", { class: "input", name: "threads", type: "number", min: 1, max: 4096 }))),
          h("p", { class: "quiet", id: noteId }, "Letters, digits, dots, hyphens and underscores.")),
        step("Time some subnets on it", h("p", { class: "muted" }, "The pack holds subnets as ONNX and a script that needs only onnxruntime. Copy it to the device, run ", h("code", null, "python measure.py"), "."), this.pack),
        step("Bring the CSV back", h("div", { class: "columns" }, field("Measurements (id, latency_ms, energy_mj if known)", this.file)))),
      h("div", { class: "actions" }, this.submit), this.outcome);
  }

  /** @private */
  async getPack() {
    const name = this.name.value.trim() || "device";
    this.pack.disabled = true;
    this.pack.textContent = "Making the pack…";
    try {
      download(await fetchPack(name), `salnas-${name}.zip`);
      this.outcome.replaceChildren();
    } catch (error) {
      this.outcome.replaceChildren(errorNotice(error));
    } finally {
      this.pack.disabled = false;
      this.pack.textContent = "Download the pack";
    }
  }

  /** @private @param {Event} event */
  async send(event) {
    event.preventDefault();
    const form = new FormData(/** @type {HTMLFormElement} */ (event.target));
    for (const [name, value] of [...form]) if (value === "") form.delete(name);
    this.submit.disabled = true;
    this.outcome.replaceChildren(h("p", { class: "quiet" }, "Fitting a predictor…"), h("div", { class: "progress unknown" }, h("i")));
    try {
      let device = await registerDevice(form);
      while (device.state === "fitting" && !this.left) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        device = await getDevice(device.id);
      }
      if (this.left) return;
      if (device.state === "failed") throw Object.assign(new Error(device.error?.detail ?? "The predictor could not be fitted."), { remedy: device.error?.remedy });
      changed();
      this.outcome.replaceChildren(h("div", { class: "notice" }, h("p", null, h("b", null, `${device.id} is ready. `), summary(device)), device.notes.map((text) => h("p", { class: "quiet" }, text))));
      await this.load();
    } catch (error) {
      this.outcome.replaceChildren(errorNotice(error));
    } finally {
      this.submit.disabled = false;
    }
  }
}

/** What was known of predictions no longer holds. */
function changed() {
  forgetHome();
  forgetDescriptions();
}

/** @returns {Promise<{text: string, subnet: Description}[]>} */
async function examples() {
  const knee = await getSearch("default").then((search) => search.result?.knee ?? null, () => null);
  const wanted = [["Smallest", "min"], ...(knee ? [["Knee", knee]] : []), ["Largest", "max"]];
  return Promise.all(wanted.map(async ([text, arch]) => ({ text, subnet: await describeOnce(arch) })));
}

/** @param {Device} device */
function stateOf(device) {
  return h("span", { class: `badge ${device.state === "failed" ? "bad" : ""}` }, device.state === "fitting" ? "being fitted" : "failed");
}

/** How well unseen subnets are predicted, as a bar and in words. @param {Device} device */
function qualityOf(device) {
  if (device.error) return h("span", { class: "fault-text" }, device.error.detail);
  const { quality, energy_quality: energy } = device;
  if (!quality) return "–";
  return h("div", { class: "quality" }, heldOutPlot(device), h("div", null,
    h("dl", { class: "quality-plot" }, quality.within_5 !== undefined && shareWithin("±5 %", quality.within_5), shareWithin("±10 %", quality.within_10)),
    h("div", { class: "quiet" }, `rank ${quality.kendall.toFixed(2)} (Kendall), off by ${withUnit("latency_ms", quality.mae)} on average, ${count(quality.n)} subnets`),
    energy && h("div", { class: "quiet" }, `energy: ${Math.round(100 * energy.within_10)} % within ±10 %, off by ${withUnit("energy_mj", energy.mae)} on average, ${count(energy.n)} subnets`)));
}

/** @param {string} bound @param {number} share */
function shareWithin(bound, share) {
  const percent = Math.round(100 * share);
  return [h("dt", null, `within ${bound}`), h("dd", null, h("div", { class: "quality-bar", "aria-hidden": "true" }, h("i", { style: { width: `${percent}%` } })), h("b", null, `${percent} %`))];
}

/** @param {Device} device */
function summary(device) {
  const { quality } = device;
  if (!quality) return "";
  const energy = device.energy_quality;
  const about = energy ? ` Of the predicted energies, ${Math.round(100 * energy.within_10)} % are.` : "";
  return `On ${count(quality.n)} subnets held out, ${Math.round(100 * quality.within_10)} % of predictions are within ±10 %; they are off by ${withUnit("latency_ms", quality.mae)} on average.${about}`;
}

/** @param {string} label @param {Description} subnet @param {string} device */
function latencyCell(label, subnet, device) {
  const estimate = subnet.predictions.latency_ms[device];
  if (!estimate) return h("td", { class: "n", "data-label": label }, "–");
  const measured = estimate.measured !== null;
  const energy = subnet.predictions.energy_mj[device];
  return h("td", { class: "n", "data-label": label }, h("b", null, withUnit("latency_ms", measured ? estimate.measured : estimate.predicted)), h("div", { class: "quiet" }, measured ? "measured" : interval("latency_ms", estimate) || "predicted"),
    energy && h("div", { class: "quiet" }, withUnit("energy_mj", energy.measured ?? energy.predicted)));
}

function nothing() {
  return h("section", { class: "card empty" },
    h("h2", null, "No device yet"),
    h("p", null, "Latency is predicted from subnets that were timed on a device. Time some on this machine with ", h("code", null, "make predictors"), ", or bring measurements of another one."));
}
