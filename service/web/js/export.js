/** Taking a subnet home: export, progress, the file with its manifest, and code that runs it. */

import { createExport, getExport, isFinal } from "./api.js";
import { copyButton, errorNotice, h } from "./dom.js";
import { duration, fileSize } from "./format.js";

const POLL_MS = 300;

/**
 * A button, and a place for what comes of it.
 * @returns {{button: HTMLElement, element: HTMLElement, setArch: (arch: string|null) => void, destroy: () => void}}
 */
export function exportPart() {
  /** @type {string|null} */
  let arch = null;
  let turn = 0;
  const element = h("div", { class: "export", "aria-live": "polite" });
  const button = h("button", { type: "button", class: "button primary", onclick: run }, "Export ONNX");

  async function run() {
    if (!arch) return;
    turn += 1;
    const mine = turn;
    const began = performance.now();
    button.disabled = true;
    element.replaceChildren(h("p", { class: "quiet" }, "Writing and checking the file…"), h("div", { class: "progress unknown" }, h("i")));
    try {
      let job = await createExport(arch);
      while (!isFinal(job.state) && mine === turn) {
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        job = await getExport(job.id);
      }
      if (mine !== turn) return;
      if (job.state !== "succeeded") throw Object.assign(new Error(job.error?.detail ?? `The export ended as ${job.state}.`), { remedy: job.error?.remedy });
      element.replaceChildren(...finished(job, arch, (performance.now() - began) / 1000));
    } catch (error) {
      if (mine === turn) element.replaceChildren(errorNotice(error, run));
    } finally {
      if (mine === turn) button.disabled = false;
    }
  }

  return {
    button,
    element,
    setArch(next) {
      turn += 1;
      arch = next;
      button.disabled = !next;
      element.replaceChildren();
    },
    destroy() {
      turn += 1;
    },
  };
}

/** @param {import("./types.js").Export} job @param {string} arch @param {number} seconds */
function finished(job, arch, seconds) {
  const result = job.manifest ?? {};
  const name = `${arch}.onnx`;
  const url = `v1/exports/${encodeURIComponent(job.id)}/file`;
  const code = snippet(name);
  return [
    h("p", null, h("a", { class: "button primary", href: url, download: name }, `Download ${name}`)),
    h("p", { class: "quiet" }, [
      result.size_bytes && fileSize(result.size_bytes), result.opset && `opset ${result.opset}`,
      result.parity_error !== undefined && `differs from torch by at most ${Number(result.parity_error).toExponential(1)}`, `made in ${duration(seconds)}`,
    ].filter(Boolean).join(" · ")),
    result.sha256 && h("p", { class: "quiet hash" }, "SHA-256 ", h("code", null, result.sha256)),
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

grey = (255 * saliency[0] / saliency.max()).astype(np.uint8)
Image.fromarray(grey).resize(photo.size, Image.Resampling.BICUBIC).save("saliency.png")
`;
}
