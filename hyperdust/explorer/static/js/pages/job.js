// One job: how it went, what was asked, what was answered, and the command that computes the answer again.

import { append, card, copyable, facts, h } from "../dom.js";
import { firstNumbers, picture, readTensors } from "../draw.js";
import { address, age, blockLink, coins, graphLink, graphName, integer, macs, pill, transaction } from "../format.js";
import { answerWords, graphOf, loadInput, loadJobs, symbolValues } from "../jobs.js";
import { batch, loadWords } from "../rpc.js";

const STATES = { requested: "asked and paid", claimed: "the answer is on chain", revealed: "the trace root is public", final: "the provider is paid", refunded: "the fee went back" };
const POLL_MS = 1500;

export async function showJob(page, config, id) {
  if (!/^\d{1,15}$/.test(id ?? "") || Number(id) < 1) throw new Error(`${id} is no job number.`);
  let [job] = await loadJobs(config, [Number(id)]);
  if (!job) throw new Error(`There is no job ${id} yet.`);
  const input = await loadInput(config, job);
  const asked = await question(config, job, input);
  await draw(page, config, job, asked);
  const timer = setInterval(async () => {
    if (document.hidden || ["final", "refunded"].includes(job.status)) return;
    const [now] = await loadJobs(config, [job.job]).catch(() => [null]);
    if (!now || now.status === job.status) return;
    job = now;
    await draw(page, config, job, asked).catch(() => null);
  }, POLL_MS);
  return () => clearInterval(timer);
}

async function draw(page, config, job, asked) {
  const blocks = await batch(job.transitions.map((step) => ["eth_getBlockByNumber", `0x${step.block.toString(16)}`, false]));
  page.replaceChildren();
  append(page, [
    h("h1", { tabindex: -1 }, `Job ${integer(job.job)}`, pill(job.status)),
    card("How it went", timeline(job, blocks)),
    h("div", { class: "two" },
      h("div", null, asked.card, await answer(config, job), reproduce(config, job, asked)),
      card("Facts", facts([
        ["Graph", graphLink(config, job.graph)],
        ["Asked by", address(job.requester)],
        ["Provider", [address(job.provider), job.record.candidates ? h("span", { class: "quiet small" }, ` drawn from ${job.record.candidates}`) : h("span", { class: "quiet small" }, " named")]],
        ["Fee", coins(job.record.fee)],
        ["Work", job.record.credit ? `${macs(job.record.credit)} of credit` : "–"],
        ["Sizes", symbols(config, job)],
        ["Deadline", `block ${integer(job.deadline)}`],
        ["Trace root", job.trace_root ? h("span", { class: "mono" }, job.trace_root) : "not revealed yet"],
        ["Companion", job.companion ? address(job.companion) : "none: checked by nobody but you"],
      ]))),
  ]);
}

function timeline(job, blocks) {
  const done = job.transitions.map((step, index) => h("li", { class: step.state === "refunded" ? "bad" : "done" },
    h("strong", null, step.state), h("div", { class: "small quiet" }, STATES[step.state]),
    h("div", { class: "small" }, "block ", blockLink(step.block), blocks[index] && h("span", { class: "quiet" }, `, ${age(blocks[index].timestamp)}`)),
    h("div", { class: "small" }, transaction(step.transaction))));
  const order = ["requested", "claimed", "revealed", "final"];
  const next = job.status === "refunded" ? [] : order.slice(order.indexOf(job.status) + 1);
  return h("ol", { class: "timeline" }, done, next.map((state) => h("li", { class: "quiet" }, h("strong", null, state), h("div", { class: "small" }, "not yet"))));
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
    job.trace_root ? "The trace root that this prints has to be the one that the provider revealed." : "Compare the trace root once it is revealed.",
    !plain && [" Save ", file.cloneNode(true), " first."]), copyable(command));
}
