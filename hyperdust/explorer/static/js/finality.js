// What votes have settled: head, justified and final block, the epoch's progress, and who weighs how much.

import { shareBar } from "./charts.js";
import { card, facts, h, notice, row, table } from "./dom.js";
import { address, blockLink, integer, percent, short } from "./format.js";

const VOTERS = 50;
const COLUMNS = [{ name: "Voter" }, { name: "Weight", class: "right number" }, { name: "Share", class: "right number" }, { name: "Last vote", class: "right number" }];

const constantsOf = (config, chainId) => config.finality.find(({ chain_ids: [first, end] }) => chainId >= first && chainId < end) ?? null;

/** What the page of a block says of it: final, justified or neither. */
export function settledPill(number, safe, final) {
  if (final !== null && number <= final) return h("span", { class: "pill good", title: "It is never taken back" }, "final");
  if (safe !== null && number <= safe) return h("span", { class: "pill warn", title: "Final with the next checkpoint" }, "safe");
  return h("span", { class: "pill", title: "Votes have not settled it" }, "not settled yet");
}

/** The card of the first page and of the network's; `whole` shows every voter. */
export function finalityCard(config, chainId, head, found, whole = false) {
  if (!found) return card("Finality", h("p", { class: "quiet" }, "The node does not say what is final."));
  const constants = constantsOf(config, chainId);
  const { votes, weights, total_weight: total } = found;
  return card("Finality", facts([
    ["Head", blockLink(head)],
    ["Justified", [blockLink(found.justified.block), h("span", { class: "quiet" }, `, ${integer(Math.max(0, head - found.justified.block))} behind the head`)]],
    ["Final", [blockLink(found.final.block), h("span", { class: "quiet" }, found.final.block ? `, ${integer(Math.max(0, head - found.final.block))} behind: never taken back` : ": genesis, nothing else is final yet")]],
    constants && ["Epoch", epoch(constants, head)],
    ["Equivocations", found.equivocations.length ? h("span", { class: "pill bad" }, `${found.equivocations.length} signed twice`) : "none seen"],
  ]), constants && head - found.justified.block > 3 * constants.epoch_blocks && notice("", "Finality stands still: voters of more than a third of the weight are not heard. Blocks go on; it heals by itself as who is gone slides out of the window."), total ? voters(constants, { votes, weights, total }, whole) : h("p", { class: "quiet" }, "No miner has a vote here: this node keeps no votes, or the window holds no blocks yet."));
}

function epoch({ epoch_blocks: blocks }, head) {
  const done = head % blocks;
  return [`${done} of ${blocks} blocks; the next checkpoint is block ${integer(head - done + blocks)}`,
    h("progress", { class: "useful", max: blocks, value: done, "aria-label": "Progress of the epoch" })];
}

function voters(constants, { votes, weights, total }, whole) {
  const sorted = [...weights].sort((a, b) => b.weight - a.weight);
  const [shown, rest] = [sorted.slice(0, 5), sorted.slice(5).reduce((sum, { weight }) => sum + weight, 0)];
  const parts = shown.map(({ voter, weight }) => ({ name: short(voter), link: address(voter), share: weight / total, shown: percent(weight / total) }));
  if (rest) parts.push({ name: `${sorted.length - 5} others`, share: rest / total, shown: percent(rest / total) });
  const [above, below] = constants?.threshold ?? [2, 3];
  const bar = shareBar(parts, { label: "Weight of voters", mark: above / below, said: `${above} of ${below} of the weight justify` });
  const last = new Map();
  for (const { voter, target } of votes) last.set(voter, Math.max(last.get(voter) ?? 0, target.block));
  const rows = sorted.slice(0, VOTERS).map(({ voter, weight }) => row(COLUMNS, [address(voter), integer(weight), percent(weight / total), last.has(voter) ? blockLink(last.get(voter)) : h("span", { class: "quiet" }, "none above final")]));
  return [h("h3", null, "Who votes"), bar,
    h("p", { class: "small quiet" }, `One vote for each of the last ${integer(total)} blocks; ${above} of ${below} (the line) settle a checkpoint.`),
    whole && table(COLUMNS, rows), whole && sorted.length > VOTERS && h("p", { class: "quiet small" }, `${sorted.length - VOTERS} more, with less weight.`),
    !whole && h("p", { class: "small" }, h("a", { href: "#/network" }, "Voters, charts and bonds"))];
}
