/** Building the page's elements, and small helpers around them. */

/**
 * @typedef {string|number|boolean|null|undefined|((event: any) => unknown)|Partial<CSSStyleDeclaration>} Property
 * @typedef {Object<string, Property>} Properties
 * @typedef {Node|string|number|boolean|null|undefined} Leaf
 * @typedef {Leaf|Leaf[]|Leaf[][]} Child
 */

/**
 * An element with properties and children.
 *
 * `on*` properties are event listeners, `style` may be an object, unknown names are attributes; null, undefined and false are left out.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Properties|null} [properties]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, properties, ...children) {
  return filled(document.createElement(tag), properties, children);
}

const SVG = "http://www.w3.org/2000/svg";

/**
 * The same for SVG.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Properties|null} [properties]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, properties, ...children) {
  return filled(document.createElementNS(SVG, tag), properties, children);
}

/**
 * @template {HTMLElement|SVGElement} E
 * @param {E} element
 * @param {Properties|null|undefined} properties
 * @param {Child[]} children
 */
function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (typeof value === "object") Object.assign(element.style, value);
    else if ((name === "value" || typeof value === "boolean") && name in element) Object.assign(element, { [name]: value });
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of /** @type {Leaf[]} */ (children.flat(3))) {
    if (child === null || child === undefined || typeof child === "boolean") continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/**
 * A function that runs `work` once things have been quiet for `wait` milliseconds.
 * @template {any[]} A
 * @param {(...args: A) => void} work
 * @param {number} wait
 */
export function debounced(work, wait) {
  /** @type {number|undefined} */
  let timer;
  const later = (/** @type {A} */ ...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...args), wait);
  };
  later.cancel = () => clearTimeout(timer);
  return later;
}

/** A name that no other element has. @param {string} stem */
export function uid(stem) {
  counter += 1;
  return `${stem}-${counter}`;
}
let counter = 0;

/** A short message that goes away by itself. @param {string} text */
export function toast(text) {
  const place = /** @type {HTMLElement} */ (document.getElementById("toast"));
  place.textContent = text;
  place.classList.add("on");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => place.classList.remove("on"), 2400);
}
let toastTimer = 0;

/** @param {string} text @param {string} said */
export async function copy(text, said = "Copied") {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = h("textarea", { class: "visually-hidden", value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  toast(said);
}

/** A button that copies a text. @param {() => string} text @param {string} label */
export function copyButton(text, label) {
  return h(
    "button",
    { type: "button", class: "icon-button small", "aria-label": label, title: label, onclick: () => copy(text()) },
    svg("svg", { viewBox: "0 0 24 24", width: 16, height: 16, "aria-hidden": "true", fill: "none", stroke: "currentColor", "stroke-width": 1.8 },
      svg("rect", { x: 8, y: 8, width: 12, height: 12, rx: 2.5 }),
      svg("path", { d: "M16 5.500V5a1.500 1.500 0 0 0-1.500-1.500H5A1.500 1.500 0 0 0 3.500 5v9.500A1.500 1.500 0 0 0 5 16h.5" })),
  );
}

/** Offer content as a file. @param {Blob} blob @param {string} name */
export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * What went wrong, with the remedy that the service gives.
 * @param {unknown} error  with a `remedy` where one is known
 * @param {(() => void)|null} [retry]
 */
export function errorNotice(error, retry = null) {
  const { message = String(error), remedy = null } = /** @type {{message?: string, remedy?: string|null}} */ (error ?? {});
  return h("div", { class: "notice bad", role: "alert" },
    h("p", null, message),
    remedy && h("p", { class: "remedy" }, remedy),
    retry && h("p", null, h("button", { type: "button", class: "button small", style: { marginTop: "8px" }, onclick: retry }, "Try again")));
}

/**
 * Choices of which one holds, as a row of buttons.
 * @param {{label: string, options: {value: string, text: string}[], value: string, onchange: (value: string) => void}} of
 */
export function segments({ label, options, value, onchange }) {
  const name = uid("segments");
  return h("fieldset", { class: "segments" },
    h("legend", { class: "visually-hidden" }, label),
    options.map((option) =>
      h("label", null,
        h("input", { type: "radio", name, value: option.value, checked: option.value === value, onchange: () => onchange(option.value) }),
        h("span", null, option.text))));
}

/**
 * A select.
 * @param {{label: string, options: {value: string, text: string}[], value: string, onchange: (value: string) => void, class?: string}} of
 */
export function choice({ label, options, value, onchange, class: kind = "small" }) {
  /** @type {HTMLSelectElement} */
  const select = h("select", { class: kind, onchange: () => onchange(select.value) },
    options.map((option) => h("option", { value: option.value, selected: option.value === value }, option.text)));
  return h("label", { class: "inline-field" }, label, select);
}
