/** Plotly, fetched from the service itself when the first plot is drawn, and dressed in the page's colours. */

/**
 * What the page uses of Plotly, which has no types of its own.
 *
 * @typedef {{_offset: number, _length: number, autorange: boolean, range: [number, number], d2p: (value: number) => number, p2d: (pixel: number) => number}} Axis
 * @typedef {{points: {customdata?: string}[]}} Click
 * @typedef {Object} Drawn  what Plotly adds to the element that it draws in
 * @property {{xaxis: Axis, yaxis: Axis}} [_fullLayout]
 * @property {(event: string, listener: (event: Click) => void) => void} on
 *
 * @typedef {Object<string, unknown>} Trace
 * @typedef {Object<string, unknown> & {xaxis: Object<string, unknown>, yaxis: Object<string, unknown>}} Layout
 * @typedef {Object} Plotly
 * @property {(place: HTMLElement, traces: Trace[], layout: Layout, config: typeof CONFIG) => Promise<unknown>} react
 * @property {(place: HTMLElement, layout: Object<string, unknown>) => Promise<unknown>} relayout
 * @property {(what: {data: Trace[], layout: Layout}, options: Object<string, unknown>) => Promise<string>} downloadImage
 * @property {(place: HTMLElement) => void} purge
 */

/** @type {Promise<Plotly>|null} */
let loading = null;

/** Plotly where it is there already. @returns {Plotly|undefined} */
export function plotlyIfLoaded() {
  return /** @type {{Plotly?: Plotly}} */ (/** @type {unknown} */ (window)).Plotly;
}

/** @returns {Promise<Plotly>} */
export function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "plotly.min.js";
    script.onload = () => resolve(/** @type {Plotly} */ (plotlyIfLoaded()));
    script.onerror = () => {
      loading = null;
      script.remove();
      reject(new Error("The plotting library could not be loaded."));
    };
    document.head.append(script);
  });
  return loading;
}

/** The value of a colour variable as it is now. @param {string} name */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** A colour for each of so many kinds. @param {number} index */
export function seriesColour(index) {
  return colour(`series-${(index % 6) + 1}`);
}

/** Colours from little to much. @param {number} steps @returns {string[]} */
export function stepColours(steps) {
  const [low, high] = [channels(colour("step-low")), channels(colour("step-high"))];
  return Array.from({ length: steps }, (_, i) => {
    const t = steps > 1 ? i / (steps - 1) : 1;
    return `rgb(${low.map((from, k) => Math.round(from + t * (high[k] - from))).join(",")})`;
  });
}

/** @param {string} text `#rrggbb` @returns {number[]} */
function channels(text) {
  return [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
}

/** The same colour, see-through. @param {string} text `#rrggbb` @param {number} alpha */
export function faded(text, alpha) {
  return `rgba(${channels(text).join(",")},${alpha})`;
}

/**
 * Layout that all plots share.
 * @param {{x: string, y: string, margin?: Object<string, number>}} titles
 * @returns {Layout}
 */
export function baseLayout({ x, y, margin }) {
  const ink = colour("ink-2");
  const axis = {
    gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), tickcolor: "rgba(0,0,0,0)", ticklen: 4,
    tickfont: { color: ink, size: 12 }, fixedrange: false, automargin: false,
  };
  const font = getComputedStyle(document.body).fontFamily;
  return {
    font: { family: font, size: 13, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 62, r: 18, t: 14, b: 46, ...margin },
    xaxis: { ...axis, title: { text: x, standoff: 10, font: { size: 13 } } },
    yaxis: { ...axis, title: { text: y, standoff: 10, font: { size: 13 } } },
    showlegend: false,
    hovermode: "closest",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line-2"), font: { family: font, color: colour("ink"), size: 13 }, align: "left" },
    dragmode: "zoom",
  };
}

export const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: "reset", showTips: false };
