// Pictures: the product and its winning tile, a ticket under its target, values and images of answers.

import { h, s } from "./dom.js";

const TILE = 16;

/** pouw/ticket.py: the largest ticket that wins. */
export function threshold(difficulty, k, r) {
  const target = ((1n << 256n) / BigInt(difficulty)) * BigInt(TILE * TILE * (k - (k % r)));
  return target < 1n << 256n ? target : (1n << 256n) - 1n;
}

export const share = (ticket, target) => Number((BigInt(ticket) * 1000000n) / target) / 1000000;

export function ticketBar(ticket, target, { width = 96, height = 10, labelled = false } = {}) {
  const part = share(ticket, target);
  const said = `Ticket at ${(100 * part).toFixed(1)} % of the target`;
  const x = Math.min(part, 1) * width;
  const shapes = [
    s("rect", { class: "track", x: .5, y: .5, width: width - 1, height: height - 1, rx: 3 }),
    s("rect", { class: "fill", x: .5, y: .5, width: Math.max(0, x - .5), height: height - 1, rx: 3 }),
    s("rect", { class: "needle", x: Math.max(0, Math.min(width - 3, x - 1.5)), y: 0, width: 3, height, rx: 1 }),
  ];
  if (!labelled) return s("svg", { class: "mini", role: "img", "aria-label": said, width, height, viewBox: `0 0 ${width} ${height}` }, s("title", null, said), shapes);
  const box = `0 0 ${width} ${height + 20}`;
  const anchor = part > .75 ? "end" : part < .2 ? "start" : "middle";
  return s("svg", { class: "ticket", role: "img", "aria-label": said, viewBox: box }, s("title", null, said), shapes,
    s("text", { x: part > .75 ? width : x, y: height + 14, "text-anchor": anchor }, `ticket ${(100 * part).toFixed(1)} %${part > .75 ? " of the target" : ""}`),
    part < .75 && s("text", { x: width, y: height + 14, "text-anchor": "end" }, "target"),
    part > .35 && s("text", { x: 0, y: height + 14 }, "0"));
}

/** A tile in its product, small. */
export function tileIcon({ m, n, tile: [row, column] }) {
  const [width, height] = [34, 22];
  const rows = Math.max(1, m / TILE), columns = Math.max(1, n / TILE);
  const w = Math.max(4, width / columns), t = Math.max(4, height / rows);
  const said = `Tile ${row}, ${column} of ${Math.ceil(rows)} by ${Math.ceil(columns)}`;
  return s("svg", { class: "mini", role: "img", "aria-label": said, width, height, viewBox: `0 0 ${width} ${height}` }, s("title", null, said),
    s("rect", { class: "matrix", x: .5, y: .5, width: width - 1, height: height - 1, rx: 2 }),
    s("rect", { class: "tile", x: Math.min(width - w, (column * width) / columns), y: Math.min(height - t, (row * height) / rows), width: w, height: t, rx: 1 }));
}

/** A · B = C with the rows, the columns and the tile that won. Lengths grow with the square root. */
export function product({ m, n, k, tile: [row, column] }) {
  const length = (size) => Math.max(26, Math.min(210, 5.2 * Math.sqrt(size)));
  const [M, N, K] = [length(m), length(n), length(k)];
  const [left, top] = [34, 22];
  const x = left + K + 26, y = top + K + 26;
  const bandHeight = Math.max(3, (M * TILE) / m), bandWidth = Math.max(3, (N * TILE) / n);
  const bandY = Math.min(y + M - bandHeight, y + (M * row * TILE) / m), bandX = Math.min(x + N - bandWidth, x + (N * column * TILE) / n);
  const said = `A, ${m} by ${k}, times B, ${k} by ${n}: the tile at rows ${row * TILE} to ${row * TILE + 15}, columns ${column * TILE} to ${column * TILE + 15} won`;
  const middle = { "text-anchor": "middle" };
  return s("svg", { class: "product", role: "img", "aria-label": said, width: Math.min(480, 1.5 * (x + N + 30)), viewBox: `0 0 ${x + N + 30} ${y + M + 24}` }, s("title", null, said),
    s("rect", { class: "matrix", x, y: top, width: N, height: K }), s("rect", { class: "band", x: bandX, y: top, width: bandWidth, height: K }),
    s("rect", { class: "matrix", x: left, y, width: K, height: M }), s("rect", { class: "band", x: left, y: bandY, width: K, height: bandHeight }),
    s("rect", { class: "matrix", x, y, width: N, height: M }),
    s("rect", { class: "band", x: bandX, y, width: bandWidth, height: M }), s("rect", { class: "band", x, y: bandY, width: N, height: bandHeight }),
    s("rect", { class: "tile", x: bandX, y: bandY, width: bandWidth, height: bandHeight }),
    s("text", { class: "name", x: left + 6, y: y - 7 }, "A"), s("text", { class: "name", x: x + N + 8, y: top + 14 }, "B"),
    s("text", { class: "name", x: x + N + 8, y: y + M / 2 + 4 }, "C"),
    s("text", { ...middle, x: x + N / 2, y: top - 7 }, `n = ${n}`), s("text", { x: x - 8, y: top + K / 2, "text-anchor": "end" }, `k = ${k}`),
    s("text", { ...middle, x: left + K / 2, y: y + M + 16 }, `k = ${k}`), s("text", { x: left - 6, y: y + M / 2 + 4, "text-anchor": "end" }, `${m}`),
    s("text", { ...middle, x: x + N / 2, y: y + M + 16 }, `tile ${row}, ${column}`));
}

const READERS = {
  int8: [1, "getInt8"], uint8: [1, "getUint8"], int16: [2, "getInt16"], uint16: [2, "getUint16"], int32: [4, "getInt32"], uint32: [4, "getUint32"],
  int64: [8, "getBigInt64"],
};

/** Tensors {name, dtype, shape, values} that bytes hold, given the graph's ports and symbols; null where they do not fit. */
export function readTensors(ports, symbols, bytes) {
  const data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let position = 0;
  const tensors = [];
  for (const port of ports) {
    if (!READERS[port.dtype]) return null;
    const [width, read] = READERS[port.dtype];
    const rest = Math.floor((bytes.length - position) / width); // a scan's output has as many values as there are
    const shape = port.shape.map((side) => (typeof side === "number" ? side : side === "*" ? rest : symbols[side]));
    const count = shape.reduce((product, side) => product * side, 1);
    if (!(count >= 0) || position + count * width > bytes.length) return null;
    const values = Array.from({ length: count }, (_, i) => data[read](position + i * width, true));
    position += count * width;
    tensors.push({ name: port.name, dtype: port.dtype, shape, values });
  }
  return tensors;
}

const isImage = ({ dtype, shape }) => dtype === "uint8" && (shape.length === 2 || (shape.length === 3 && [1, 3, 4].includes(shape[2])));

/** What a tensor looks like: an image, else its values as a strip, darker where they are larger. */
export function picture(tensor, small = false) {
  const { shape, values } = tensor;
  if (!values.length) return null;
  const image = isImage(tensor);
  const [height, width, channels] = image ? [shape[0], shape[1], shape[2] ?? 1] : [1, values.length, 1];
  if (width > 4096 || height > 4096) return null;
  const canvas = h("canvas", { class: `${image ? "image" : "strip"}${small ? " thumb" : ""}`, width, height, role: "img",
    "aria-label": image ? `Image of ${width} by ${height} pixels` : `${values.length} values from ${values.reduce(least)} to ${values.reduce(most)}` });
  const pixels = new ImageData(width, height);
  const largest = image ? 255 : Number(values.reduce((found, value) => { const size = value < 0 ? -value : value; return size > found ? size : found; })) || 1;
  for (let i = 0; i < width * height; i++) {
    const at = 4 * i;
    if (image) {
      for (let c = 0; c < 3; c++) pixels.data[at + c] = values[i * channels + (channels > 2 ? c : 0)];
      pixels.data[at + 3] = channels === 4 ? values[i * channels + 3] : 255;
    } else {
      const part = Number(values[i]) / largest;
      pixels.data.set(part >= 0 ? [232, 137, 12] : [42, 120, 190], at);
      pixels.data[at + 3] = Math.round(255 * Math.sqrt(Math.abs(part)));
    }
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

const least = (a, b) => (b < a ? b : a), most = (a, b) => (b > a ? b : a);

export function firstNumbers({ values }, count = 6) {
  const more = values.length > count ? ` … ${values.length} values` : "";
  return `[${values.slice(0, count).join(", ")}${more}]`;
}
