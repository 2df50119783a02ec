/** Taking a subnet home, and timing it: both make its file, which the service checks and runs some times. */

import { createExport, getExport, isFinal } from "./api.js";
import { copyButton, errorNotice, h } from "./dom.js";
import { duration, fileSize, interval, withUnit } from "./format.js";

/** @typedef {import("./types.js").Export} Export */
/** @typedef {import("./types.js").Description} Description */

const POLL_MS = 300;

/** Buttons for one subnet, and a place for what comes of them. */
export class ExportPart {
  constructor() {
    /** @type {string|null} */
    this.arch = null;
    this.turn = 0;
    this.element = h("div", { class: "export", "aria-live": "polite" });
    this.button = h("button", { type: "button", class: "button primary", onclick: () => this.exportFile() }, "Export ONNX");
    this.timer = h("button", { type: "button", class: "button", onclick: () => this.measure() }, "Measure now");
    /** @type {(() => Promise<Description|null>)} what is known of the subnet, to compare with */
    this.describe = async () => null;
    this.setArch(null);
  }

  /** @param {string|null} arch */
  setArch(arch) {
    this.turn += 1;
    this.arch = arch;
    this.button.disabled = this.timer.disabled = !arch;
    this.element.replaceChildren();
  }

  /** Forget what is under way. */
  destroy() {
    this.turn += 1;
  }

  /** @private */
  exportFile() {
    return this.run("Writing and checking the file…", (job, arch, seconds) => finished(job, arch, seconds), () => this.exportFile());
  }

  /** @private */
  measure() {
    return this.run("Running it some times on the service's machine…", async (job) => timed(job, await this.describe()), () => this.measure());
  }

  /**
   * Make the file and show what `show` makes of it.
   * @private
   * @param {string} waiting
   * @param {(job: Export, arch: string, seconds: number) => import("./dom.js").Leaf[]|Promise<import("./dom.js").Leaf[]>} show
   * @param {() => void} again
   */
  async run(waiting, show, again) {
    const { arch } = this;
    if (!arch) return;
    this.turn += 1;
    const mine = this.turn;
    const began = performance.now();
    this.button.disabled = this.timer.disabled = true;
    this.element.replaceChildren(h("p", { class: "quiet" }, waiting), h("div", { class: "progress unknown" }, h("i")));
    try {
      let job = await createExport(arch);
      while (!isFinal(job.state) && mine === this.turn) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        job = await getExport(job.id);
      }
      if (mine !== this.turn) return;
      if (job.state !== "succeeded") throw Object.assign(new Error(job.error?.detail ?? `The export ended as ${job.state}.`), { remedy: job.error?.remedy });
      const parts = await show(job, arch, (performance.now() - began) / 1000);
      if (mine === this.turn) this.element.replaceChildren(h("div", { class: "export-outcome" }, parts));
    } catch (error) {
      if (mine === this.turn) this.element.replaceChildren(errorNotice(error, again));
    } finally {
      if (mine === this.turn) this.button.disabled = this.timer.disabled = false;
    }
  }
}

/** What the clock said, beside what was predicted for such a device. @param {Export} job @param {Description|null} subnet */
function timed(job, subnet) {
  const measured = job.manifest?.latency_ms;
  if (measured === undefined || measured === null) return [h("p", { class: "quiet" }, "The service made the file but did not time it.")];
  const [device, predicted] = Object.entries(subnet?.predictions.latency_ms ?? {})[0] ?? [];
  return [
    h("p", { class: "measured" }, h("b", null, withUnit("latency_ms", measured)), " on one thread of the service's machine, just now"),
    device && predicted && h("p", { class: "quiet" }, `Predicted for ${device}: ${withUnit("latency_ms", predicted.predicted)}${predicted.low === null ? "" : ` (${interval("latency_ms", predicted)})`}. Other work on that machine makes a measurement longer.`),
  ];
}

/** @param {Export} job @param {string} arch @param {number} seconds */
function finished(job, arch, seconds) {
  /** @type {Partial<import("./types.js").Manifest>} */
  const result = job.manifest ?? {};
  const name = `${arch}.onnx`;
  const url = `v1/exports/${encodeURIComponent(job.id)}/file`;
  const code = snippet(name);
  return [
    h("p", null, h("a", { class: "button primary", href: url, download: name }, `Download ${name}`)),
    h("p", { class: "quiet" }, [
      result.size_bytes && fileSize(result.size_bytes), result.opset && `opset ${result.opset}`,
      result.parity_error !== undefined && `differs from torch by at most ${Number(result.parity_error).toExponential(1)}`,
      result.latency_ms && `${withUnit("latency_ms", result.latency_ms)} on one thread here`, `made in ${duration(seconds)}`,
    ].filter(Boolean).join(" · ")),
    h("p", { class: "quiet hash" }, "SHA-256 ", h("code", null, result.sha256 ?? "–")),
    h("details", null, h("summary", null, "Run it with onnxruntime"),
      h("div", { class: "snippet" }, copyButton(() => code, "Copy the code"), h("pre", { class: "code", tabindex: 0 }, h("code", null, code)))),
  ];
}

/** Python that runs the file, ready to paste. @param {string} name */
export function snippet(name) {
  return `import numpy as np
import onnxruntime as ort
from PIL import Image

session = ort.InferenceSession("${name}")
_, _, height, width = session.get_inputs()[0].shape

photo = Image.open("photo.jpg").convert("RGB")
pixels = np.asarray(photo.resize((width, height), Image.Resampling.BILINEAR))
(saliency,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None]})  # (1, height, width), 0 to 1

grey = 255 * (saliency[0] - saliency.min()) / np.ptp(saliency)
Image.fromarray(grey.astype(np.uint8)).resize(photo.size, Image.Resampling.BICUBIC).save("saliency.png")
`;
}
