/** Searches: the list, the form for a new one, the page of one. */

import { mountForm } from "../searchform.js";
import { mountList } from "../searchlist.js";
import { mountSearch } from "../searchpage.js";

/** @type {import("../main.js").Mount} */
export function mount(root, place) {
  const [which] = place.parts;
  if (which === "new") return mountForm(root, place.query);
  if (which) return mountSearch(root, which);
  return mountList(root, place.query);
}
