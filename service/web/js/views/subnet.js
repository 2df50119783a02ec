/** One subnet under an address of its own: `#/subnet/ID`. */

import { errorNotice, h } from "../dom.js";
import { note } from "../place.js";
import { SubnetCard, SubnetDetails, describeOnce } from "../subnet.js";

/** @type {import("../main.js").Mount} */
export function mount(root, place) {
  const wanted = place.parts[0] ?? "max";
  const card = new SubnetCard({ photo: place.query.get("photo"), onphoto: (photo) => note({ photo }) });
  const details = new SubnetDetails();
  const fault = h("div");
  root.append(
    h("div", { class: "page-head" }, h("h1", null, "Subnet"), h("p", { class: "muted" }, h("a", { href: "#/front" }, "Back to the front"))),
    fault, h("div", { class: "subnet-page" }, card.element, details.element));
  (async () => {
    try {
      const { id } = await describeOnce(wanted);
      card.show(id, null);
      details.show(id);
    } catch (error) {
      fault.replaceChildren(errorNotice(error));
    }
  })();
  return { leave: () => card.destroy() };
}
