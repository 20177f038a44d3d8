// Numbers, times and names as people read them.

import { h } from "./dom.js";

export const integer = (value) => BigInt(value).toString().replace(/\B(?=(\d{3})+$)/g, "\u2009");

export function coins(wei, unit = "BTC") {
  const value = BigInt(wei);
  const sign = value < 0n ? "−" : "";
  const digits = (value < 0n ? -value : value).toString().padStart(19, "0");
  const fraction = digits.slice(-18).replace(/0+$/, "");
  return `${sign}${integer(digits.slice(0, -18))}${fraction ? "." + fraction : ""} ${unit}`;
}

const SCALES = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
export function macs(value) {
  const count = Number(value);
  const [scale, prefix] = SCALES.find(([least]) => count >= least) ?? [1, ""];
  return `${(count / scale).toLocaleString("en", { maximumSignificantDigits: 4 })}\u00a0${prefix}MAC`;
}

export function fee(wei) {
  const count = Number(wei);
  return count < 1e6 ? `${integer(wei)} wei` : `${(count / 1e9).toLocaleString("en", { maximumSignificantDigits: 3 })} gwei`;
}

export function age(timestamp) {
  const seconds = Math.max(0, Math.round(Date.now() / 1000 - Number(timestamp)));
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
}

export const moment = (timestamp) => new Date(Number(timestamp) * 1000).toISOString().replace("T", " ").replace(".000Z", " UTC");
export const percent = (ratio) => `${(100 * ratio).toLocaleString("en", { maximumFractionDigits: 1 })} %`;
export const short = (hex) => (hex.length > 20 ? `${hex.slice(0, 8)}…${hex.slice(-6)}` : hex);

const linked = (page, id, text, title) => h("a", { href: `#/${page}/${encodeURIComponent(id)}`, title }, text);
export const blockLink = (number) => linked("block", Number(number), integer(number));
export const jobLink = (job) => linked("job", String(job), `job ${job}`);
export const hash = (page, value, whole = false) => h("span", { class: "mono" }, linked(page, value, whole ? value : short(value), value));
export const transaction = (value, whole) => hash("tx", value, whole);
export const address = (value, whole) => hash("address", value, whole);

const KINDS = { final: "good", claimed: "warn", revealed: "warn", refunded: "bad", slashed: "bad" };
export const pill = (status) => h("span", { class: `pill ${KINDS[status] ?? ""}` }, status);

export function graphName(config, id) {
  return config.graphs.find((graph) => graph.id === id)?.name ?? short(id);
}
export const graphLink = (config, id) => h("a", { href: `#/graphs/${id}`, title: id }, graphName(config, id));
export function operatorLabel(config, id, operator) {
  return config.graphs.find((graph) => graph.id === id)?.operators[operator] ?? null;
}
