// A decoded call or event: its name and its arguments, each shown by its type and by what it means.

import { h } from "./dom.js";
import { address, coins, graphLink, jobLink, transaction } from "./format.js";

const LONG = 140;

export function showDecoded(config, decoded) {
  return h("div", { class: "call" }, h("div", { class: "name" }, `${decoded.contract}.${decoded.name}`),
    h("dl", { class: "facts" }, decoded.fields.map((field) => [h("dt", null, field.name || field.type), h("dd", null, show(config, decoded, field))])));
}

const BTC = new Set(["JobMarket.fee", "JobMarket.amount", "JobMarket.slashed", "JobMarket.burned", "JobMarket.companion", "JobMarket.royalties", "JobMarket.provider", "Bonds.amount", "Bonds.bond", "Bonds.burned", "Agent.fee", "AgentCoin.paid", "AgentCoin.received", "AgentCoin.base", "AgentCoin.slope", "AgentItems.price", "AgentItems.paid"]);
const DUST = new Set(["Dust.value", "Dust.amount", "Dust.minted"]);

function show(config, { contract }, { name, type, value }) {
  if (type === "address") return address(value, true);
  if (["JobMarket", "Court", "Agent"].includes(contract) && (name === "job" || (contract === "JobMarket" && name === "number"))) return jobLink(value);
  if (name === "graph" && type === "bytes32") return graphLink(config, value);
  if (BTC.has(`${contract}.${name}`)) return coins(value);
  if (DUST.has(`${contract}.${name}`)) return coins(value, "DUST");
  return long(text(value));
}

function text(value) {
  if (Array.isArray(value)) return `[${value.map(text).join(", ")}]`;
  return String(value);
}

export function long(content) {
  if (content.length <= LONG) return h("span", { class: content.startsWith("0x") ? "mono" : "" }, content);
  const bytes = content.startsWith("0x") ? `${(content.length - 2) / 2} bytes` : `${content.length} characters`;
  return h("details", null, h("summary", null, `${content.slice(0, 42)}… (${bytes})`), h("pre", null, content));
}
