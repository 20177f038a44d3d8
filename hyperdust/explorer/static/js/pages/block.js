// One block: header, the work that made it, its transactions.

import { append, card, facts, h, row, table } from "../dom.js";
import { settledPill } from "../finality.js";
import { product, share, threshold, ticketBar } from "../draw.js";
import { address, age, coins, graphLink, integer, jobLink, macs, moment, operatorLabel, percent, transaction } from "../format.js";
import { decodeCall } from "../abi.js";
import { batch, call } from "../rpc.js";

const COLUMNS = [{ name: "Transaction" }, { name: "What" }, { name: "From", class: "mid" }, { name: "To", class: "wide" }, { name: "Value", class: "right number" }];

export async function showBlock(page, config, id) {
  const whole = /^0x[0-9a-f]{64}$/i.test(id);
  const block = whole ? await call("eth_getBlockByHash", id, true) : await call("eth_getBlockByNumber", quantity(id), true);
  if (!block) throw new Error(`There is no block ${id} yet.`);
  const tags = ["safe", "finalized"].map((tag) => ["eth_getBlockByNumber", tag, false]);
  const [certificate, reward, head, here, ...settled] = await batch([["hyperdust_getCertificate", block.hash], ["hyperdust_getReward", block.hash], ["eth_blockNumber"], ["eth_getBlockByNumber", block.number, false], ...tags], { settle: true });
  const number = Number(block.number);
  const [safe, final] = settled.map((found) => (found ? Number(found.number) : null));
  const standing = here?.hash === block.hash ? settledPill(number, safe, final) : h("span", { class: "pill bad" }, "not on the chain");
  const pager = h("span", { class: "pager" },
    number > 0 && h("a", { class: "button small", href: `#/block/${number - 1}`, "aria-label": "The block before" }, "‹ before"),
    number < Number(head) && h("a", { class: "button small", href: `#/block/${number + 1}`, "aria-label": "The block after" }, "after ›"));
  append(page, [
    h("h1", { tabindex: -1 }, `Block ${integer(number)}`, standing, pager),
    certificate ? work(config, block, certificate) : card("Work", h("p", { class: "quiet" }, "Genesis carries no work.")),
    transactions(config, block),
    header(block, certificate, reward),
  ]);
}

function quantity(text) {
  if (!/^\d{1,15}$/.test(text)) throw new Error(`${text} is no block number.`);
  return `0x${Number(text).toString(16)}`;
}

function work(config, block, certificate) {
  const target = threshold(block.difficulty, certificate.k, certificate.r);
  const label = operatorLabel(config, certificate.graph, certificate.operator);
  const [rowBlock, columnBlock] = certificate.tile;
  const spent = certificate.creditSpent;
  return card("The work that made it", h("div", { class: "two" },
    h("figure", null, product(certificate), ticketBar(certificate.ticket, target, { width: 320, height: 12, labelled: true }),
      h("figcaption", null, `Each 16 × 16 tile of the product C = A·B is one ticket. The tile at rows ${16 * rowBlock}–${16 * rowBlock + 15}, columns ${16 * columnBlock}–${16 * columnBlock + 15} fell to ${percent(share(certificate.ticket, target))} of the target, and so made the block.`)),
    facts([
      ["Graph", graphLink(config, certificate.graph)],
      ["Operator", `${certificate.operator}${label ? `, ${label}` : ""}`],
      ["Worked on", certificate.label ? jobLink(certificate.label) : "the miner's own rows"],
      ["Product", `${certificate.m} × ${certificate.k} × ${certificate.n}, ${macs(certificate.macs)}`],
      ["Credit spent", spent === null ? "known with the next block" : spent ? `${macs(spent)}: paid work, the whole subsidy` : "none: a tenth of the subsidy"],
      ["Ticket", h("span", { class: "mono" }, certificate.ticket)],
      ["Target", h("span", { class: "mono" }, `0x${target.toString(16).padStart(64, "0")}`)],
      ["Root of A", h("span", { class: "mono" }, certificate.rootA)],
      ["Root of B", h("span", { class: "mono" }, certificate.rootB)],
      ["Certificate", `${integer(certificate.size)} bytes`],
    ])));
}

function transactions(config, block) {
  const title = `Transactions (${block.transactions.length})`;
  if (!block.transactions.length) return card(title, h("p", { class: "quiet" }, "None."));
  return card(title, table(COLUMNS, block.transactions.map((found) => transactionRow(config, found))));
}

export function transactionRow(config, found, columns = COLUMNS, first = []) {
  const known = decodeCall(config, found.to, found.input);
  const what = known ? `${known.contract}.${known.name}` : found.to === null ? "new contract" : found.input === "0x" ? "payment" : found.input.slice(0, 10);
  return row(columns, [...first, transaction(found.hash), h("span", { class: known ? "" : "quiet" }, what), address(found.from), found.to ? address(found.to) : "–", coins(found.value)]);
}

function header(block, certificate, reward) {
  const mono = (value) => h("span", { class: "mono" }, value);
  return card("Header", facts([
    ["Time", `${moment(block.timestamp)} (${age(block.timestamp)})`],
    ["Miner", address(block.miner, true)],
    reward && ["Reward", `${coins(reward.minted, "DUST")}, ${reward.claimed ? "claimed" : `may be claimed from block ${reward.unlockBlock} on`}`],
    ["Difficulty", macs(block.difficulty)],
    ["Gas used", `${integer(block.gasUsed)} of ${integer(block.gasLimit)} (${percent(Number(block.gasUsed) / Number(block.gasLimit))})`],
    ["Base fee", `${integer(block.baseFeePerGas)} wei`],
    ["Size", `${integer(block.size)} bytes`],
    ["Hash", mono(block.hash)],
    Number(block.number) > 0 && ["Parent", h("a", { class: "mono", href: `#/block/${block.parentHash}` }, block.parentHash)],
    ["State root", mono(block.stateRoot)],
    ["Transactions root", mono(block.transactionsRoot)],
    ["Receipts root", mono(block.receiptsRoot)],
    ["Beacon", mono(block.mixHash)],
    [certificate ? "Certificate hash" : "Extra data", mono(block.extraData)],
    ["Nonce", mono(block.nonce)],
  ]));
}
