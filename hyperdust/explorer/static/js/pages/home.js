// The chain as it grows: the last blocks with their certificates, the last jobs with their answers, what is final.

import { readView, viewCall } from "../abi.js";
import { append, card, h, notice, reconcile, row, table } from "../dom.js";
import { threshold, ticketBar, tileIcon } from "../draw.js";
import { finalityCard } from "../finality.js";
import { address, age, blockLink, coins, fee, graphLink, graphName, integer, jobLink, macs, operatorLabel, percent, pill } from "../format.js";
import { answerWords, loadJobs, preview } from "../jobs.js";
import { batch, call } from "../rpc.js";

const BLOCKS = 10;
const JOBS = 6;
const RECENT = 64;
const POLL_MS = 1000;

const BLOCK_COLUMNS = [{ name: "Block" }, { name: "Age", class: "number" }, { name: "Work" }, { name: "Ticket under target", class: "mid" }, { name: "Miner", class: "wide" }, { name: "Txs", class: "right number mid" }];
const JOB_COLUMNS = [{ name: "Job" }, { name: "Status" }, { name: "Graph", class: "mid" }, { name: "Answer" }, { name: "Fee", class: "right number mid" }];

export async function showHome(page, config) {
  const stats = h("dl", { class: "stats" });
  const blocks = table(BLOCK_COLUMNS, []);
  const jobs = table(JOB_COLUMNS, []);
  const finality = h("div");
  const trouble = h("div", { "aria-live": "polite" });
  let paused = false;
  const pause = h("button", { type: "button", class: "small", "aria-pressed": "false" }, "Pause");
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
  });
  append(page, [
    h("h1", { tabindex: -1, class: "unseen" }, "The chain now"), trouble, stats,
    h("section", { class: "card" }, h("div", { class: "head" }, h("h2", null, "Last blocks"), pause), blocks),
    h("section", { class: "card" }, h("h2", null, "Last jobs"), jobs), finality,
  ]);
  const state = { config, seen: new Map(), rows: new Map(), jobRows: new Map(), head: -1, stats, finality, blocks: blocks.querySelector("tbody"), jobs, first: true };
  await refresh(state);
  const timer = setInterval(async () => {
    if (paused || document.hidden || state.busy) return;
    try {
      await refresh(state);
      trouble.replaceChildren();
    } catch (error) {
      trouble.replaceChildren(notice("bad", error.message));
    }
  }, POLL_MS);
  return () => clearInterval(timer);
}

async function refresh(state) {
  state.busy = true;
  try {
    const head = Number(await call("eth_blockNumber"));
    if (head !== state.head) await load(state, head);
    for (const { timestamp, cell } of state.rows.values()) cell.textContent = age(timestamp);
  } finally {
    state.busy = false;
  }
}

async function load(state, head) {
  const { config } = state;
  const numbers = Array.from({ length: Math.min(BLOCKS, head + 1) }, (_, index) => head - index);
  const [chainId, settled, count, pool, useful, ...found] = await batch([
    ["eth_chainId"], ["hyperdust_finality"],
    viewCall(config, "JobMarket", "jobs_count"), ["txpool_status"], ["hyperdust_usefulness", `0x${Math.max(0, head - RECENT).toString(16)}`, `0x${head.toString(16)}`],
    ...numbers.map((number) => ["eth_getBlockByNumber", `0x${number.toString(16)}`, false]),
  ], { settle: true });
  const headers = found.filter(Boolean);
  const missing = headers.filter((block) => !state.seen.has(block.hash));
  const certificates = await batch(missing.map((block) => ["hyperdust_getCertificate", block.number]), { settle: true });
  missing.forEach((block, index) => {
    const certificate = certificates[index];
    if (certificate) delete certificate.raw;
    state.seen.set(block.hash, certificate);
  });
  const total = Number(readView(config, "JobMarket", "jobs_count", count) ?? 0);
  showStats(state, headers, { settled, useful, pool, total });
  if (!state.finality.contains(document.activeElement)) state.finality.replaceChildren(finalityCard(config, Number(chainId), head, settled));
  reconcile(state.blocks, headers.map((block) => blockRow(state, block)));
  for (const hash of state.rows.keys()) if (!headers.some((block) => block.hash === hash)) (state.rows.delete(hash), state.seen.delete(hash));
  await showJobs(state, total);
  state.head = head;
  state.first = false;
}

function showStats({ stats }, headers, { settled, useful, pool, total }) {
  const [head] = headers;
  const spacing = headers.length > 1 ? (Number(head.timestamp) - Number(headers.at(-1).timestamp)) / (headers.length - 1) : null;
  const stat = (name, value, ...note) => h("div", { class: "stat" }, h("dt", null, name), h("dd", null, h("div", { class: "value" }, value), h("div", { class: "note" }, note)));
  const ratio = useful?.ratio ?? null;
  stats.replaceChildren(...[
    stat("Head", blockLink(head.number), spacing === null ? "the first block" : `a block every ${spacing.toFixed(1)} s`),
    settled && stat("Final", blockLink(settled.final.block), settled.final.block ? `${Math.max(0, Number(head.number) - settled.final.block)} blocks behind the head` : "genesis: no votes yet"),
    stat("Usefulness", ratio === null ? "–" : percent(ratio), `of the last ${Math.min(RECENT, Number(head.number))} blocks' work was paid`,
      h("progress", { class: "useful", max: 1, value: ratio ?? 0, "aria-label": "Usefulness" })),
    stat("Difficulty", macs(head.difficulty), "expected work a block"),
    stat("Jobs", integer(total), "asked since genesis"),
    stat("Base fee", fee(head.baseFeePerGas), pool ? `${Number(pool.pending)} transactions waiting` : ""),
  ].filter(Boolean));
}

function blockRow(state, block) {
  const known = state.rows.get(block.hash);
  if (known) return known.element;
  const certificate = state.seen.get(block.hash);
  const target = certificate && threshold(block.difficulty, certificate.k, certificate.r);
  const cell = h("span", { class: "quiet even" }, age(block.timestamp));
  const element = row(BLOCK_COLUMNS, [
    h("strong", { class: "number" }, blockLink(block.number)), cell, work(state.config, certificate), certificate && ticketBar(certificate.ticket, target),
    address(block.miner), block.transactions.length,
  ]);
  if (!state.first) element.className = "fresh";
  state.rows.set(block.hash, { element, cell, timestamp: block.timestamp });
  return element;
}

function work(config, certificate) {
  if (!certificate) return h("span", { class: "quiet" }, "genesis");
  const operator = operatorLabel(config, certificate.graph, certificate.operator) ?? `operator ${certificate.operator}`;
  return h("div", { class: "work" }, tileIcon(certificate), h("div", null,
    h("div", null, certificate.label ? jobLink(certificate.label) : h("span", { class: "quiet" }, "own rows"), " of ", graphName(config, certificate.graph)),
    h("div", { class: "quiet small break mid" }, `${operator}, ${certificate.m}×${certificate.k}×${certificate.n}`)));
}

async function showJobs(state, total) {
  const { config, jobs } = state;
  if (!total) return jobs.replaceChildren(h("p", { class: "quiet" }, "Nobody has asked for anything yet. Ask: ", h("code", null, 'hyperdust job ask --graph minilm --text "hello"')));
  const numbers = Array.from({ length: Math.min(JOBS, total) }, (_, index) => total - index);
  if (!jobs.querySelector("tbody")) jobs.replaceChildren(...table(JOB_COLUMNS, []).children);
  const waiting = numbers.filter((job) => !["final", "refunded", "slashed"].includes(state.jobRows.get(job)?.status));
  for (const job of await loadJobs(config, waiting)) {
    if (!job || state.jobRows.get(job.job)?.status === job.status) continue;
    state.jobRows.set(job.job, { status: job.status, element: row(JOB_COLUMNS, [h("strong", { class: "even" }, jobLink(job.job)), pill(job.status), graphLink(config, job.graph), preview(job, await answerWords(config, job)), coins(job.record.fee)]) });
  }
  reconcile(jobs.querySelector("tbody"), numbers.map((job) => state.jobRows.get(job)?.element).filter(Boolean));
}
