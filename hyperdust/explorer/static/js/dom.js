// Elements. What comes from the chain becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  append(element, children);
  return element;
}

export function append(element, children) {
  for (const child of [children].flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export function card(title, ...children) {
  return h("section", { class: "card" }, title && h("h2", null, title), ...children);
}

export function facts(rows) {
  return h("dl", { class: "facts" }, rows.filter(Boolean).map(([name, ...value]) => [h("dt", null, name), h("dd", null, value)]));
}

export function table(columns, rows) {
  const head = columns.map((column) => h("th", { scope: "col", class: column.class }, column.name));
  return h("div", { class: "scroll" }, h("table", null, h("thead", null, h("tr", null, head)), h("tbody", null, rows)));
}

export function row(columns, cells) {
  return h("tr", null, cells.map((cell, index) => h("td", { class: columns[index].class }, cell)));
}

/** Bring a container's children to the wanted elements, moving none that may stay: focus is kept. */
export function reconcile(container, wanted) {
  const keep = new Set(wanted);
  for (const child of [...container.children]) if (!keep.has(child)) child.remove();
  wanted.forEach((element, index) => {
    if (container.children[index] !== element) container.insertBefore(element, container.children[index] ?? null);
  });
}

export function copyable(text, shown = h("pre", null, text)) {
  const button = h("button", { type: "button", class: "small", "aria-label": "Copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(shown);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  return h("div", { class: "copy" }, shown, button);
}

export const notice = (kind, ...children) => h("p", { class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status" }, ...children);
