// The whole life of a job: every event of the market and of the court about it, and what is still to come.

import { logsCall, readLogs, readView, viewCall } from "./abi.js";
import { h } from "./dom.js";
import { address, age, blockLink, coins, integer, transaction } from "./format.js";
import { batch } from "./rpc.js";

const SPAN = 4000; // blocks that are read from the request, and from the submission: longer than all windows of a job
const DRAW_DELAY = 2; // JobMarket: the beacon of the block after the next one draws
const WINDOWS = ["final_window", "reveal_window", "companion_window"];
const MARKET = ["Requested", "Declined", "Submitted", "Committed", "Revealed", "CompanionRevealed", "Mismatch", "Held", "CompanionRefuted", "Convicted", "Settled", "FeeSplit", "Refunded"];
export const KINDS = {
  element: "an element of an operator's output is wrong", witness: "a claimed minimum, maximum or choice is not it", form: "a type or shape is not the graph's",
  list: "the operators published do not give the trace", output: "the output is not the trace's", length: "the trace has the wrong number of parts",
  invalid: "the operator does not take these values", withheld: "it did not publish what it was asked for",
};
export const KIND_NAMES = [null, ...Object.keys(KINDS)]; // by the court's numbers

/** {events oldest first, split, slashes, check, dispute, windows, head}: all in three requests, over the blocks of the job's life. */
export async function loadHistory(config, job) {
  const [head, check, dispute, ...windows] = await batch([["eth_blockNumber"], viewCall(config, "JobMarket", "check_of", job.job), ["hyperdust_getDispute", job.job],
    ...WINDOWS.map((name) => viewCall(config, "JobMarket", name))], { settle: true });
  const end = Number(job.record.closed_at) || Number(head);
  const [asked, submitted] = [Number(job.record.requested_at), Number(job.record.submitted_at)];
  const spans = [[asked, Math.min(end, asked + SPAN)]];
  if (submitted > asked + SPAN) spans.push([submitted, Math.min(end, submitted + SPAN)]);
  if (end > spans.at(-1)[1] && Number(job.record.closed_at)) spans.push([end, end]);
  const found = await batch(spans.flatMap(([from, to]) => [
    logsCall(config, "JobMarket", MARKET, { from, to, topics: [job.job] }),
    logsCall(config, "Court", ["Verdict", "ChallengeCommitted"], { from, to, topics: [job.job] }),
    logsCall(config, "Court", ["Demanded", "Answered", "Expired"], { from, to, topics: [null, job.job] }),
  ]));
  const events = found.flatMap((logs, index) => readLogs(config, index % 3 ? "Court" : "JobMarket", logs)).sort((a, b) => a.block - b.block || a.index - b.index);
  const ends = new Set(events.filter(({ name }) => ["Convicted", "CompanionRefuted"].includes(name)).map((event) => event.transaction));
  const slashed = ends.size ? await batch([logsCall(config, "Bonds", ["Slashed"], { from: end, to: end })]) : [[]];
  return {
    events: events.filter(({ name }) => name !== "FeeSplit"), split: events.findLast(({ name }) => name === "FeeSplit")?.values ?? null,
    slashes: readLogs(config, "Bonds", slashed[0]).filter((event) => ends.has(event.transaction)),
    check: readView(config, "JobMarket", "check_of", check), dispute, head: Number(head),
    windows: Object.fromEntries(WINDOWS.map((name, index) => [name, Number(readView(config, "JobMarket", name, windows[index]) ?? 0)])),
  };
}

/** What an event means: [name, sentence, kind]. */
const STEPS = {
  Requested: ({ fee }) => ["requested", ["asked and paid: ", coins(fee)]],
  Declined: ({ provider }) => ["declined", ["the provider gave it up: ", address(provider)]],
  Submitted: ({ provider }) => ["claimed", ["the answer is on chain, from ", address(provider)]],
  Committed: ({ companion }) => ["companion committed", ["to a trace root of its own, unseen: ", address(companion)]],
  Revealed: () => ["revealed", ["the provider's trace root is public"]],
  CompanionRevealed: ({ agrees }) => ["companion revealed", [agrees ? "the same trace root: two machines agree" : "another trace root"], agrees ? "done" : "bad"],
  Mismatch: ({ held_until: until }) => ["mismatch", ["the job is held until block ", integer(until), ": one of the two is wrong"], "bad"],
  Held: ({ until }) => ["held", ["until block ", integer(until)], "warn"],
  ChallengeCommitted: ({ challenger }) => ["proof announced", ["by ", address(challenger)], "warn"],
  Demanded: ({ demand, asker, deadline }) => [`demand ${demand}`, [address(asker), ` wants data published until block ${integer(deadline)}`], "warn"],
  Answered: ({ demand }) => [`demand ${demand} answered`, ["the provider published what was asked for"]],
  Expired: ({ demand }) => [`demand ${demand} over`, ["without an answer"], "warn"],
  Verdict: ({ kind, challenger }) => ["verdict: guilty", [KINDS[KIND_NAMES[Number(kind)]] ?? `kind ${kind}`, "; shown by ", address(challenger)], "bad"],
  CompanionRefuted: ({ companion, slashed }) => ["companion slashed", [address(companion), ` lost ${coins(slashed)}`], "bad"],
  Convicted: ({ provider, slashed }) => ["slashed", ["the provider ", address(provider), slashed ? ` lost ${coins(slashed)}` : " had nothing left to lose", "; the fee went back"], "bad"],
  Settled: () => ["final", ["everybody is paid, the work is credited"]],
  Refunded: () => ["refunded", ["the fee went back"], "bad"],
};

export async function timeline(config, job, history) {
  const { events, head } = history;
  const merged = events.filter(({ name, transaction: hash }) => name !== "Held" || !events.some((other) => other.transaction === hash && other.name !== "Held"));
  const steps = merged.map((event) => ({ ...event, step: STEPS[event.name](event.values) }));
  if (job.companion && Number(job.record.submitted_at)) {
    const drawn = { block: Number(job.record.submitted_at) + DRAW_DELAY, step: ["companion drawn", [address(job.companion), " computes it again"]] };
    const place = steps.findIndex(({ block, name }) => block > drawn.block || name === "Committed");
    steps.splice(place < 0 ? steps.length : place, 0, drawn);
  }
  const numbers = [...new Set(steps.map(({ block }) => block))].slice(0, 90);
  const blocks = await batch(numbers.map((number) => ["eth_getBlockByNumber", `0x${number.toString(16)}`, false]), { settle: true });
  const times = new Map(numbers.map((number, index) => [number, blocks[index]?.timestamp]));
  const line = ({ block, transaction: hash, step: [name, sentence, kind] }) => h("li", { class: kind ?? "done" },
    h("div", null, h("strong", null, name), h("span", { class: "quiet" }, sentence)),
    h("div", { class: "small at" }, "block ", blockLink(block), times.get(block) && h("span", { class: "quiet" }, `, ${age(times.get(block))}`), hash && [" · ", transaction(hash)]));
  return h("ol", { class: "timeline life" }, steps.map(line), toCome(job, history, head).map(([name, when]) => h("li", { class: "quiet" }, h("div", null, h("strong", null, name), when))));
}

function toCome(job, { check, windows }, head) {
  const { record } = job;
  const submitted = Number(record.submitted_at), held = Number(check?.held_until ?? 0);
  if (job.status === "requested") return [["claimed", head <= Number(record.deadline) ? `not yet; until block ${integer(record.deadline)}` : "too late: anyone may have the fee sent back"]];
  if (job.status === "claimed") {
    const companion = job.companion ? (Number(check?.state) ? [] : [["companion committed", `not yet; until block ${integer(submitted + windows.companion_window)}`]])
      : head <= submitted + DRAW_DELAY ? [["companion drawn", `from the beacon of block ${integer(submitted + DRAW_DELAY)}`]] : [];
    return [...companion, ["revealed", `not yet; until block ${integer(submitted + windows.reveal_window)}`]];
  }
  if (job.status !== "revealed") return [];
  const due = Math.max(Number(record.revealed_at) + windows.final_window, held ? held + 1 : 0);
  const open = Number(check?.open_demands ?? 0);
  return [["final", open ? `not before ${open === 1 ? "a demand is" : `${open} demands are`} over` : head < due ? `not yet; from block ${integer(due)} on` : "due: anyone may settle it"]];
}
