// One job: how it went, who disputes it, where its fee goes, question and answer, and the command that computes it again.

import { viewCall } from "../abi.js";
import { shareBar } from "../charts.js";
import { append, card, copyable, facts, h } from "../dom.js";
import { firstNumbers, picture, readTensors } from "../draw.js";
import { address, blockLink, coins, graphLink, graphName, integer, macs, operatorLabel, percent, pill, transaction } from "../format.js";
import { KINDS, loadHistory, timeline } from "../history.js";
import { answerWords, graphOf, loadInput, loadJobs, symbolValues } from "../jobs.js";
import { batch, loadWords } from "../rpc.js";

const OVER = ["final", "refunded", "slashed"];
const POLL_MS = 1500;

export async function showJob(page, config, id) {
  if (!/^\d{1,15}$/.test(id ?? "") || Number(id) < 1) throw new Error(`${id} is no job number.`);
  let [job] = await loadJobs(config, [Number(id)]);
  if (!job) throw new Error(`There is no job ${id} yet.`);
  const input = await loadInput(config, job);
  const asked = await question(config, job, input);
  let shown = await sign(config, job);
  await draw(page, config, job, asked);
  let busy = false;
  const timer = setInterval(async () => {
    if (document.hidden || busy || OVER.includes(job.status)) return;
    busy = true;
    try {
      const [now] = await loadJobs(config, [job.job]);
      const seen = now ? await sign(config, now) : shown;
      if (seen !== shown) {
        [job, shown] = [now, seen];
        await draw(page, config, job, asked);
      }
    } catch {
      // the next look may succeed; what is shown stays
    }
    busy = false;
  }, POLL_MS);
  return () => clearInterval(timer);
}

/** What changes when anything happened to a job. */
async function sign(config, job) {
  const [check, dispute] = await batch([viewCall(config, "JobMarket", "check_of", job.job), ["hyperdust_getDispute", job.job]], { settle: true });
  return JSON.stringify([job.status, job.companion, check, dispute]);
}

async function draw(page, config, job, asked) {
  const history = await loadHistory(config, job);
  const [life, answered] = [await timeline(config, job, history), await answer(config, job)];
  page.replaceChildren();
  append(page, [
    h("h1", { tabindex: -1 }, `Job ${integer(job.job)}`, pill(job.status)),
    dispute(config, job, history),
    h("div", { class: "two" },
      h("div", null, card("How it went", life), asked.card, answered, reproduce(config, job, asked)),
      h("div", null, card("Facts", facts([
        ["Graph", graphLink(config, job.graph)],
        ["Asked by", address(job.requester)],
        ["Provider", [address(job.provider), job.record.candidates ? h("span", { class: "quiet small" }, ` drawn from ${job.record.candidates}`) : h("span", { class: "quiet small" }, " named")]],
        ["Fee", coins(job.record.fee)],
        ["Work", job.record.credit ? `${macs(job.record.credit)} of credit` : "–"],
        ["Sizes", symbols(config, job)],
        ["Deadline", `block ${integer(job.deadline)}`],
        ["Trace root", job.trace_root ? h("span", { class: "mono" }, job.trace_root) : "not revealed yet"],
        ["Companion", companion(job)],
      ])), money(job, history))),
  ]);
}

const CHECKS = { committed: "has committed to its own result", agrees: "agrees", differs: "differs", refuted: "was wrong or proved nothing" };

function companion(job) {
  if (!job.companion) return job.status === "requested" ? "drawn after the answer" : "none was drawn: checked by nobody but you";
  return [address(job.companion), h("span", { class: "quiet small" }, ` ${CHECKS[job.check] ?? "has not answered"}`)];
}

/** Where the fee goes, or went. */
function money(job, { split }) {
  const { fee, burn } = job.record;
  if (["refunded", "slashed"].includes(job.status)) return card("The fee", h("p", null, `All of it, ${coins(fee)}, went back to `, address(job.requester), "."));
  if (!split) {
    return card("The fee", facts([["Paid in", coins(fee)], ["To be burned", `${coins(burn)}: the work's price on chain`], ["To be shared", coins(fee - burn)]]),
      h("p", { class: "small quiet" }, "Provider, companion and the graph's owners get it when the job is final. Until then it waits in the market."));
  }
  const names = [["burned", "Burned", "to the bridge, which pays for anchors"], ["provider", "Provider", ""], ["companion", "Companion", split.companion ? "for the check" : "none checked it"], ["royalties", "Royalties", split.royalties ? "to the graph's owners" : "the graph asks for none"]];
  const parts = names.map(([key, name]) => ({ name, share: Number(split[key]) / Number(fee), shown: part(split[key], fee) }));
  return card("The fee", shareBar(parts, { label: "Where the fee went" }),
    facts(names.map(([key, name, why]) => [name, coins(split[key]), why && h("span", { class: "quiet small" }, ` ${why}`)])));
}

const part = (amount, fee) => (amount && amount * 1000n < fee ? "under 0.1 %" : percent(Number(amount) / Number(fee)));

const HALVES = "Half of what is taken goes to who showed it, half is burned.";

function dispute(config, job, { dispute: found, slashes, events }) {
  const demands = events.filter(({ name }) => name === "Demanded").length;
  if (!found && !demands) return null;
  if (!found) return card("Demands", h("p", null, `${demands === 1 ? "One demand" : `${demands} demands`} for data of this job; nobody has been found wrong.`));
  const label = operatorLabel(config, job.graph, found.operator);
  const placed = ["element", "witness", "form", "list", "invalid"].includes(found.kind);
  const words = found.verdict === null ? "none yet: the companion has to prove or lose its bond" : found.verdict === "guilty" ? "the fee went back, the bond is lost" : "nothing was proven in time: the provider stands, the companion pays";
  return card("Dispute", facts([
    ["Accused", address(found.accused, true)],
    ["Challenger", address(found.challenger, true)],
    ["Verdict", [h("span", { class: `pill ${found.verdict === "guilty" ? "bad" : found.verdict ? "good" : "warn"}` }, found.verdict ?? "open"), " ", words]],
    found.kind && ["Found", KINDS[found.kind] ?? found.kind],
    placed && ["Operator", `${found.operator}${label ? `, ${label}` : ""}`],
    placed && ["Element", integer(found.element)],
    found.transaction && [placed || ["output", "length"].includes(found.kind) ? "Proven by" : "Ended by", [transaction(found.transaction), " in block ", blockLink(found.block)]],
    ...slashes.map(({ values }) => ["Slashed", [address(values.account), ` lost ${coins(values.amount)}: ${coins(values.amount - values.burned)} to `, address(values.beneficiary), `, ${coins(values.burned)} burned`]]),
  ]), !slashes.length && h("p", { class: "small quiet" }, HALVES));
}

function symbols(config, job) {
  const names = graphOf(config, job)?.symbols.map(({ name }) => name) ?? [];
  return job.symbols.map((value, index) => `${names[index] ?? "size"} = ${value}`).join(", ") || "–";
}

async function question(config, job, input) {
  if (!input) return { card: card("Question", h("p", { class: "quiet" }, "The node has the request's log no longer.")), text: null, file: null };
  const graph = graphOf(config, job);
  const tensors = graph && readTensors(graph.inputs, symbolValues(graph, job), input);
  const words = graph?.words && tensors ? await loadWords(graph.name, tensors[0].values) : { text: null, exact: false };
  const link = download(`job-${job.job}.input`, input);
  return {
    text: words.exact ? words.text : null,
    file: graph?.limit && tensors ? prompt(job, graph, tensors) : link,
    card: card("Question", words.text !== null && h("blockquote", null, words.text),
      tensors?.map((tensor) => h("p", { class: "small quiet break" }, `${tensor.name}, ${tensor.dtype}[${tensor.shape.join(", ")}]: ${firstNumbers(tensor, 12)}`)),
      h("p", { class: "small quiet" }, `${integer(input.length)} bytes: `, link)),
  };
}

/** A generation's question as `graph run --input` reads it: seed and length belong to it. */
function prompt(job, graph, tensors) {
  const value = { ids: tensors[0].values, seed: tensors[1]?.values[0] ?? 0, tokens: symbolValues(graph, job)[graph.limit] };
  return download(`job-${job.job}.json`, JSON.stringify(value));
}

const download = (name, content) => h("a", { href: URL.createObjectURL(new Blob([content])), download: name }, name);

async function answer(config, job) {
  if (!job.output.length) return card("Answer", h("p", { class: "quiet" }, "None yet."));
  const link = download(`job-${job.job}.output`, job.output);
  const words = await answerWords(config, job);
  const shown = job.tensors?.map((tensor) => h("div", null, words === null && picture(tensor),
    h("p", { class: "small break" }, `${tensor.name}, ${tensor.dtype}[${tensor.shape.join(", ")}]: `, h("span", { class: "mono" }, firstNumbers(tensor))),
    h("details", null, h("summary", null, `All ${integer(tensor.values.length)} values`), h("pre", null, tensor.values.join(", ")))));
  return card("Answer", words !== null && h("blockquote", null, words), shown ?? h("p", { class: "quiet" }, "This graph is not among those that the explorer knows, so only the bytes are shown."),
    h("p", { class: "small quiet" }, `${integer(job.output.length)} bytes: `, link));
}

function reproduce(config, job, { text, file }) {
  if (!graphOf(config, job) || !(file ?? text)) return null;
  const name = graphName(config, job.graph);
  const plain = text !== null && !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(text);
  const given = plain ? `--text='${text.replaceAll("'", "'\\''")}'` : `--input ${file.download}`;
  const command = `hyperdust graph run --graph ${name} ${given} --json`;
  return card("Compute it yourself", h("p", null, "Exact integers give the same answer on every machine. ",
    job.status === "slashed" ? "This prints the trace root that an honest provider would have revealed." : job.trace_root ? "The trace root that this prints has to be the one that the provider revealed." : "Compare the trace root once it is revealed.",
    !plain && [" Save ", file.cloneNode(true), " first."]), copyable(command));
}
