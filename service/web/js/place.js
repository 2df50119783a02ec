/** Where a person is on the page, kept in the address so that a link restores it: `#/view/part?name=value`. */

/**
 * @typedef {Object} Place
 * @property {string} view
 * @property {string[]} parts  behind the view
 * @property {URLSearchParams} query
 */

/** @returns {Place} */
export function currentPlace() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...parts] = path.split("/").map(decodeURIComponent);
  return { view: view || "front", parts: parts.filter(Boolean), query: new URLSearchParams(query) };
}

/**
 * Note values in the address without going anywhere; null forgets one.
 * @param {Object<string, string|number|null|undefined>} values
 */
export function note(values) {
  const [path] = location.hash.split("?");
  const { query } = currentPlace();
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined || value === "") query.delete(name);
    else query.set(name, String(value));
  }
  const text = String(query).replaceAll("%2C", ",").replaceAll("%40", "@");
  history.replaceState(null, "", `${path || "#/front"}${text ? `?${text}` : ""}`);
}

/** Go to another view. @param {string} hash such as `#/searches/…` */
export function go(hash) {
  location.hash = hash;
}
