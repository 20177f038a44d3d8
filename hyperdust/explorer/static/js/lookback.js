// Lists that are found by reading the chain backwards: a bounded stretch at a time, the rest on demand.

import { h, notice } from "./dom.js";
import { integer } from "./format.js";

/** Calls `load(from, to)` for the last `step` blocks and for as many more with each press; it says how many it found. */
export function lookBack(head, step, { what, load }) {
  const said = h("p", { class: "quiet small", "aria-live": "polite" });
  const more = h("button", { type: "button" }, "Look further back");
  let next = head, found = 0;
  async function look() {
    more.disabled = true;
    said.textContent = "Looking …";
    try {
      const from = Math.max(0, next - step + 1);
      found += await load(from, next);
      next = from - 1;
      said.textContent = `${found ? integer(found) : "No"} ${what} in blocks ${integer(next + 1)} to ${integer(head)}.`;
      more.hidden = next < 0;
    } catch (error) {
      said.replaceChildren(notice("bad", error.message));
    }
    more.disabled = false;
  }
  more.addEventListener("click", look);
  look();
  return [said, more];
}
