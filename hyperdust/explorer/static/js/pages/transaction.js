// One transaction: what it asked, what it did.

import { contractAt, decodeCall, decodeLog } from "../abi.js";
import { kindsOf } from "../agents.js";
import { append, card, facts, h } from "../dom.js";
import { address, blockLink, coins, integer, percent } from "../format.js";
import { batch } from "../rpc.js";
import { long, showDecoded } from "../values.js";

const TYPES = ["legacy", "access list (EIP-2930)", "EIP-1559", "blob (EIP-4844)", "delegation (EIP-7702)"];

export async function showTransaction(page, config, hash) {
  if (!/^0x[0-9a-f]{64}$/i.test(hash ?? "")) throw new Error(`${hash} is no transaction hash.`);
  const [found, receipt] = await batch([["eth_getTransactionByHash", hash], ["eth_getTransactionReceipt", hash]]);
  if (!found) throw new Error("The node knows no such transaction: neither in a block nor waiting.");
  const failed = receipt && Number(receipt.status) !== 1;
  const status = receipt ? h("span", { class: `pill ${failed ? "bad" : "good"}` }, failed ? "reverted" : "succeeded") : h("span", { class: "pill warn" }, "waiting");
  const strangers = [found.to, ...(receipt?.logs ?? []).map((log) => log.address)].filter((at) => at && !contractAt(config, at));
  const kinds = await kindsOf(config, strangers).catch(() => new Map()); // without them calls stay hex
  const kindOf = (at) => contractAt(config, at) ?? kinds.get(at) ?? null;
  const known = decodeCall(config, found.to, found.input, kindOf(found.to));
  append(page, [
    h("h1", { tabindex: -1 }, "Transaction", status),
    card(null, facts([
      ["Hash", h("span", { class: "mono" }, found.hash)],
      ["Block", found.blockNumber ? blockLink(found.blockNumber) : "none yet"],
      ["From", address(found.from, true)],
      found.to ? ["To", address(found.to, true)] : ["Created", receipt?.contractAddress ? address(receipt.contractAddress, true) : "a contract"],
      ["Value", coins(found.value)],
      receipt && ["Fee", `${coins(BigInt(receipt.gasUsed) * BigInt(receipt.effectiveGasPrice))}, ${integer(receipt.gasUsed)} gas of ${integer(found.gas)} (${percent(Number(receipt.gasUsed) / Number(found.gas))}) at ${integer(receipt.effectiveGasPrice)} wei`],
      ["Nonce", integer(found.nonce)],
      ["Type", `${Number(found.type)}: ${TYPES[Number(found.type)] ?? "unknown"}`],
    ])),
    card("Call", known ? showDecoded(config, known) : found.input === "0x" ? h("p", { class: "quiet" }, "No data: a plain payment.") : long(found.input),
      known && h("details", null, h("summary", null, "Raw input"), h("pre", null, found.input))),
    receipt && card(`Events (${receipt.logs.length})`, receipt.logs.length ? receipt.logs.map((log) => event(config, log, kindOf(log.address))) : h("p", { class: "quiet" }, "None.")),
  ].filter(Boolean));
  if (receipt) return null;
  const timer = setInterval(async () => {
    const [now] = await batch([["eth_getTransactionReceipt", hash]], { settle: true }).catch(() => [null]);
    if (!now) return;
    clearInterval(timer);
    page.replaceChildren();
    await showTransaction(page, config, hash);
  }, 1000);
  return () => clearInterval(timer);
}

function event(config, log, kind) {
  const known = decodeLog(config, log, kind);
  if (known) return showDecoded(config, known);
  return h("div", { class: "call" }, h("div", { class: "name" }, "Log of ", address(log.address)), facts([...log.topics.map((topic, index) => [`topic ${index}`, h("span", { class: "mono" }, topic)]), ["data", long(log.data)]]));
}
