/** The photos at hand: samples that come with the page, and those a person adds. Own photos stay in this tab. */

/**
 * @typedef {Object} Photo
 * @property {string} id
 * @property {string} name
 * @property {string} url  for an img element
 * @property {string} alt
 * @property {boolean} own
 * @property {() => Promise<Blob>} blob  what is sent to the service
 */

const LONGEST_SIDE = 1600;
const ACCEPTED = "image/*";

/** @type {Photo[]} */
const photos = [];
/** @type {Promise<void>|null} */
let loading = null;
let added = 0;

/** Loads the samples once; own photos come after them. @returns {Promise<Photo[]>} */
export async function allPhotos() {
  loading ??= (async () => {
    const answer = await fetch("samples/samples.json");
    for (const { file, name, alt } of await answer.json()) {
      const url = `samples/${file}`;
      photos.push({ id: file.replace(/\.\w+$/, ""), name, url, alt, own: false, blob: async () => (await fetch(url)).blob() });
    }
  })();
  try {
    await loading;
  } catch (error) {
    loading = null;
    throw error;
  }
  return photos;
}

/** @param {string|null|undefined} id */
export async function photoById(id) {
  const all = await allPhotos();
  return all.find((photo) => photo.id === id) ?? all[0];
}

/**
 * Take in files that a person dropped, pasted or chose; raises an Error with a remedy for one that is no photo.
 *
 * Photos are turned upright and scaled to 1600 pixels: a network sees at most 384 of them.
 * @param {Iterable<File>} files
 * @returns {Promise<Photo[]>}
 */
export async function addPhotos(files) {
  await allPhotos();
  const found = [];
  for (const file of files) {
    const content = await scaled(file);
    added += 1;
    const photo = { id: `own-${added}`, name: file.name || `Photo ${added}`, url: URL.createObjectURL(content), alt: file.name || "Your photo", own: true, blob: async () => content };
    photos.push(photo);
    found.push(photo);
  }
  return found;
}

/** @param {File} file @returns {Promise<Blob>} */
async function scaled(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw Object.assign(new Error(`${file.name || "The file"} is not a photo that the browser can read.`), { remedy: "Use a JPEG, PNG or WebP photo." });
  }
  const shrink = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * shrink));
  canvas.height = Math.max(1, Math.round(bitmap.height * shrink));
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser cannot encode the photo."))), "image/jpeg", 0.92));
}

/**
 * Let photos be dropped on an element, and pasted while it is on the page.
 * @param {HTMLElement} element
 * @param {(files: File[]) => void} onfiles
 * @returns {() => void} stops it
 */
export function acceptPhotos(element, onfiles) {
  const images = (/** @type {DataTransfer|null} */ data) => [...(data?.files ?? [])];
  const over = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    element.classList.add("dropping");
  };
  const out = (/** @type {DragEvent} */ event) => {
    if (!element.contains(/** @type {Node|null} */ (event.relatedTarget))) element.classList.remove("dropping");
  };
  const drop = (/** @type {DragEvent} */ event) => {
    event.preventDefault();
    element.classList.remove("dropping");
    const files = images(event.dataTransfer);
    if (files.length) onfiles(files);
  };
  const paste = (/** @type {ClipboardEvent} */ event) => {
    const files = images(event.clipboardData);
    if (files.length) onfiles(files);
  };
  element.addEventListener("dragover", over);
  element.addEventListener("dragleave", out);
  element.addEventListener("drop", drop);
  window.addEventListener("paste", paste);
  return () => window.removeEventListener("paste", paste);
}

/** Ask for files with the browser's dialog. @param {(files: File[]) => void} onfiles */
export function choosePhotos(onfiles) {
  const input = document.createElement("input");
  input.type = "file";
  input.accept = ACCEPTED;
  input.multiple = true;
  input.addEventListener("change", () => input.files?.length && onfiles([...input.files]));
  input.click();
}
