// The network in numbers: charts of the last blocks, jobs by state, who has what at stake, Bitcoin, who votes.

import { logsCall, quantity, readLogs, readView, viewCall } from "../abi.js";
import { lineChart, shareBar } from "../charts.js";
import { append, card, facts, h, notice, row, table } from "../dom.js";
import { finalityCard } from "../finality.js";
import { address, blockLink, coins, fee, graphName, integer, macs, percent } from "../format.js";
import { batch } from "../rpc.js";

const BLOCKS = 240;
const SLICES = 48;
const JOBS = 200;
const GRAPHS = 20;
const ACCOUNTS = 40;
const ANCHORS = 2000;
const STATES = [null, "requested", "claimed", "revealed", "final", "refunded", "slashed"];
const TONES = { final: 2, revealed: 1, claimed: 0, requested: 5, refunded: 3, slashed: 4 };
const BOND_COLUMNS = [{ name: "Account" }, { name: "Works as" }, { name: "Bond", class: "right number" }, { name: "At risk, of what it covers", class: "right number mid" }, { name: "Credit held", class: "right number mid" }];
const ANCHOR_COLUMNS = [{ name: "Bitcoin transaction" }, { name: "Block", class: "right number" }, { name: "Confirmations", class: "right number" }];

export async function showNetwork(page, config, upTo) {
  if (upTo !== undefined && !/^\d{1,15}$/.test(upTo)) throw new Error(`${upTo} is no block number.`);
  const [newest, chainId, settled] = await batch([["eth_blockNumber"], ["eth_chainId"], ["hyperdust_finality"]], { settle: true });
  const head = Number(newest);
  const last = Math.min(head, Number(upTo ?? head));
  const parts = [charts(config, last, head), jobs(config), work(config, head), bonds(config), bitcoin(config, head)];
  const [drawn, ...rest] = await Promise.all(parts.map((part) => part.catch((error) => card(null, notice("bad", error.message)))));
  const pager = h("span", { class: "pager" }, last - BLOCKS > 1 && h("a", { class: "button small", href: `#/network/${last - BLOCKS}` }, "‹ earlier blocks"),
    last < head && h("a", { class: "button small", href: last + BLOCKS < head ? `#/network/${last + BLOCKS}` : "#/network" }, "later blocks ›"));
  const [jobsCard, workCard, bondsCard, bitcoinCard] = rest;
  append(page, [
    h("h1", { tabindex: -1 }, "Network", pager), drawn,
    h("div", { class: "two" }, h("div", null, finalityCard(config, Number(chainId), head, settled, true), jobsCard), h("div", null, bitcoinCard, workCard)),
    bondsCard,
  ]);
}

/** Slices of the last blocks: only their borders are read, and the node adds up what lies between. */
async function charts(config, last, head) {
  const first = Math.max(1, last - BLOCKS + 1);
  const size = Math.max(1, Math.ceil((last - first + 1) / SLICES));
  const slices = [];
  for (let to = last; to >= first; to -= size) slices.unshift([Math.max(first, to - size + 1), to]);
  if (!slices.length) return card("The last blocks", h("p", { class: "quiet" }, "There is only genesis so far."));
  const borders = [slices[0][0] - 1, ...slices.map(([, to]) => to)];
  const [price, prices, ...found] = await batch([
    viewCall(config, "JobMarket", "mac_price"), logsCall(config, "JobMarket", ["PriceMoved"], { from: first, to: last }),
    ...slices.map(([from, to]) => ["hyperdust_usefulness", quantity(from), quantity(to)]), ...borders.map((number) => ["eth_getBlockByNumber", quantity(number), false]),
  ], { settle: true });
  const useful = slices.map(([, to], index) => [to, found[index]?.ratio ?? null]);
  const blocks = found.slice(slices.length);
  const at = (index) => blocks[index] && Number(blocks[index].timestamp);
  const spacing = slices.map(([from, to], index) => [to, borders[index] > 0 && at(index) && at(index + 1) ? (at(index + 1) - at(index)) / (to - borders[index]) : null]);
  const difficulty = slices.map(([, to], index) => [to, blocks[index + 1] ? Number(blocks[index + 1].difficulty) : null]);
  const moved = readLogs(config, "JobMarket", prices).map(({ block, values }) => [block, Number(values.price)]);
  const now = readView(config, "JobMarket", "mac_price", price);
  if (last === head && now !== null && moved.at(-1)?.[0] !== last) moved.push([last, Number(now)]); // what the next job will pay
  const figure = (name, picture, note) => h("figure", null, h("h3", null, name), picture, note && h("figcaption", null, note));
  const seconds = (value) => `${value.toLocaleString("en", { maximumFractionDigits: 1 })} s`;
  const numbers = [{ name: "Up to block", class: "number" }, { name: "Usefulness", class: "right number" }, { name: "Block time", class: "right number" }, { name: "Difficulty", class: "right number" }];
  const rows = slices.map(([, to], index) => row(numbers, [blockLink(to), shown(useful[index][1], percent), shown(spacing[index][1], seconds), shown(difficulty[index][1], macs)]));
  return card(`Blocks ${integer(first)} to ${integer(last)}${last === head ? ", the last ones" : ""}`, h("div", { class: "charts" },
    figure("Usefulness", lineChart(useful, { label: "Usefulness", show: percent, from: 0, to: Math.max(1, ...useful.map(([, ratio]) => ratio ?? 0)) }), "Paid work over all work: credit spent, of the blocks' difficulty."),
    figure("Block time", lineChart(spacing, { label: "Block time", show: seconds, from: 0 })),
    figure("Difficulty", lineChart(difficulty, { label: "Difficulty", show: macs, from: 0 })),
    figure("Price of work", moved.length > 1 ? lineChart(moved, { label: "Price of 10^9 MACs", show: (value) => fee(BigInt(Math.round(value))), from: 0 }) : h("p", { class: "quiet" }, moved.length ? `${fee(moved[0][1])} for 10⁹ MACs in block ${integer(moved[0][0])}; it moves when a job comes or ends.` : "It did not move in these blocks: it does when a job comes or ends."), "What a job burns for its MACs: it rises while more than half of the work is credited.")),
  h("details", null, h("summary", null, "As numbers"), table(numbers, rows.reverse())));
}

const shown = (value, how) => (value === null ? h("span", { class: "quiet" }, "–") : how(value));

async function jobs(config) {
  const [answer] = await batch([viewCall(config, "JobMarket", "jobs_count")]);
  const total = Number(readView(config, "JobMarket", "jobs_count", answer) ?? 0);
  if (!total) return card("Jobs", h("p", { class: "quiet" }, "Nobody has asked for anything yet."));
  const looked = Math.min(JOBS, total);
  const found = await batch(Array.from({ length: looked }, (_, index) => viewCall(config, "JobMarket", "status", total - index)), { settle: true });
  const counts = new Map();
  for (const status of found) {
    const state = STATES[Number(readView(config, "JobMarket", "status", status) ?? 0)] ?? "unknown";
    counts.set(state, (counts.get(state) ?? 0) + 1);
  }
  const order = ["final", "revealed", "claimed", "requested", "refunded", "slashed", "unknown"].filter((state) => counts.has(state));
  return card("Jobs by state", shareBar(order.map((state) => ({ name: state, tone: TONES[state] ?? 5, share: counts.get(state) / looked, shown: integer(counts.get(state)) })), { label: "Jobs by state" }),
    h("p", { class: "small quiet" }, looked < total ? `The last ${looked} of ${integer(total)}.` : `All ${integer(total)} since genesis.`));
}

async function work(config, head) {
  const names = [["JobMarket", "mac_price"], ["JobMarket", "sampling_bps"], ["Dust", "total_difficulty"], ["Dust", "total_credit_spent"], ["Dust", "total_credit_granted"], ["Dust", "totalSupply"], ["JobMarket", "escrow"]];
  const found = await batch([...names.map(([contract, name]) => viewCall(config, contract, name)), viewCall(config, "Dust", "subsidy_of", head)], { settle: true });
  const [price, sampling, difficulty, spent, granted, supply, escrow] = names.map(([contract, name], index) => readView(config, contract, name, found[index]));
  const subsidy = readView(config, "Dust", "subsidy_of", found.at(-1));
  const known = (value, how) => (value === null ? "–" : how(value));
  return card("Work and money", facts([
    ["Price of work", known(price, (wei) => `${fee(wei)} for 10⁹ MACs, burned`)],
    ["Checked", known(sampling, (bps) => `${percent(Number(bps) / 10000)} of the jobs are drawn for a check`)],
    ["Useful so far", known(difficulty, (all) => (all ? `${percent(Number(spent) / Number(all))} of all work since genesis` : "no work yet"))],
    ["Credit granted", known(granted, macs)], ["Credit spent", known(spent, macs)],
    ["Fees in escrow", known(escrow, (wei) => coins(wei))], ["DUST so far", known(supply, (wei) => coins(wei, "DUST"))], ["Subsidy", known(subsidy, (wei) => `${coins(wei, "DUST")} a block, a tenth of it without paid work`)],
  ]));
}

async function bonds(config) {
  const [count, total, unbonding, smallest] = await batch([viewCall(config, "GraphRegistry", "graph_count"), ...["total_bonds", "total_unbonding", "min_bond"].map((name) => viewCall(config, "Bonds", name))]);
  const graphs = Number(readView(config, "GraphRegistry", "graph_count", count) ?? 0);
  const ids = (await batch(Array.from({ length: Math.min(GRAPHS, graphs) }, (_, index) => viewCall(config, "GraphRegistry", "graph_at", index)))).map((id) => readView(config, "GraphRegistry", "graph_at", id));
  const lists = await batch(ids.flatMap((id) => [viewCall(config, "Bonds", "providers", id), viewCall(config, "Bonds", "companions", id)]), { settle: true });
  const roles = new Map(); // account -> {provider: [graph names], companion: [graph names]}
  ids.forEach((id, index) => ["provider", "companion"].forEach((role, place) => {
    for (const account of readView(config, "Bonds", `${role}s`, lists[2 * index + place]) ?? []) {
      if (!roles.has(account)) roles.set(account, { provider: [], companion: [] });
      roles.get(account)[role].push(graphName(config, id));
    }
  }));
  const accounts = [...roles.keys()].slice(0, ACCOUNTS);
  const found = await batch(accounts.flatMap((account) => [viewCall(config, "Bonds", "bond_of", account), viewCall(config, "JobMarket", "exposure_of", account), viewCall(config, "Bonds", "paused_until", account), ["hyperdust_getCredit", account], ["eth_blockNumber"]]), { settle: true });
  const rows = accounts.map((account, index) => {
    const [bond, exposure, paused, credit, head] = found.slice(5 * index, 5 * index + 5);
    const [open, covered] = readView(config, "JobMarket", "exposure_of", exposure) ?? [0n, 0n];
    const works = Object.entries(roles.get(account)).filter(([, names]) => names.length).map(([role, names]) => h("div", null, role, h("span", { class: "quiet small" }, ` of ${names.join(", ")}`)));
    const until = Number(readView(config, "Bonds", "paused_until", paused) ?? 0);
    return row(BOND_COLUMNS, [address(account), [works, until > Number(head) && h("span", { class: "pill warn" }, `paused until ${integer(until)}`)], coins(readView(config, "Bonds", "bond_of", bond) ?? 0n), roles.get(account).provider.length ? `${coins(open)} of ${coins(covered)}` : "–", credit ? macs(credit.held) : "–"]);
  });
  const missing = ["provider", "companion"].filter((role) => ![...roles.values()].some((served) => served[role].length));
  return card("Who has what at stake", facts([
    ["Bonded", `${coins(readView(config, "Bonds", "total_bonds", total))} in all, at least ${coins(readView(config, "Bonds", "min_bond", smallest))} each`],
    ["Leaving", `${coins(readView(config, "Bonds", "total_unbonding", unbonding))}, slashable until paid out`],
  ]), missing.includes("provider") && notice("", "No provider is bonded, so no miner answers. Start one: ", h("code", null, "hyperdust miner --graph minilm")),
  missing.includes("companion") && notice("", "No companion is bonded, so none runs: answers are checked by nobody but who asked. Start one: ", h("code", null, "hyperdust companion --graph minilm")),
  rows.length > 0 && table(BOND_COLUMNS, rows), roles.size > ACCOUNTS && h("p", { class: "quiet small" }, `${integer(roles.size - ACCOUNTS)} more are not shown.`),
  graphs > GRAPHS && h("p", { class: "quiet small" }, `Of the first ${GRAPHS} of ${integer(graphs)} graphs.`));
}

async function bitcoin(config, head) {
  const [peg, anchors] = await batch([["hyperdust_pegStatus"], ["hyperdust_getAnchors", quantity(head - ANCHORS), quantity(head)]], { settle: true });
  if (!peg) return card("Bitcoin", h("p", { class: "quiet" }, "This node runs without Bitcoin: no origin in its blocks, no deposits, no anchors."));
  const { bitcoin: seen, origin, origin_depth_blocks: depth } = peg;
  const list = (anchors ?? []).slice(-5).reverse().map(({ txid, block, confirmations }) => row(ANCHOR_COLUMNS, [h("span", { class: "mono break" }, txid), blockLink(block), integer(confirmations)]));
  const mono = (value) => h("span", { class: "mono small break" }, value);
  return card("Bitcoin", facts([
    ["Network", [seen.network, " ", h("span", { class: `pill ${seen.state === "following" ? "good" : "warn"}` }, seen.state), seen.reason && h("div", { class: "small quiet" }, seen.reason)]],
    ["Tip", seen.height === null ? "not known yet" : [`block ${integer(seen.height)} `, h("div", null, mono(seen.tip))]],
    ["Origin", origin ? [origin.height === null ? "on no branch that the node knows" : `block ${integer(origin.height)}, ${origin.confirmations}/${depth} confirmations`, h("progress", { class: "useful", max: depth, value: Math.min(depth, origin.confirmations), "aria-label": "Confirmations of the origin" }), h("div", null, mono(origin.hash))] : "the head names none yet"],
    ["Peg", peg.frozen ? [h("span", { class: "pill bad" }, "frozen"), ` ${peg.frozen_reason ?? ""}`] : [h("span", { class: "pill good" }, "open"), " nothing that was credited is in doubt"]],
    ["Anchors", list.length ? `${integer(anchors.length)} in the last ${integer(ANCHORS)} blocks` : "none in the last blocks: no signer anchors here"],
  ]), list.length > 0 && table(ANCHOR_COLUMNS, list));
}
