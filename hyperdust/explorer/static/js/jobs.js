// Jobs as the market and their transactions tell them; used by the list and by the job's page.

import { decodeLog, readView, toBytes, viewCall } from "./abi.js";
import { h } from "./dom.js";
import { firstNumbers, picture, readTensors } from "./draw.js";
import { batch, loadWords } from "./rpc.js";

/** {job, status, transitions, ..., record, symbols, output: bytes, tensors}; null for those that are not there. */
export async function loadJobs(config, numbers) {
  const calls = numbers.flatMap((job) => [
    ["hyperdust_getJob", job],
    viewCall(config, "JobMarket", "job", job),
    viewCall(config, "JobMarket", "symbols_of", job),
    viewCall(config, "JobMarket", "output_of", job),
  ]);
  const results = await batch(calls, { settle: true });
  return numbers.map((_, index) => {
    const [found, record, symbols, output] = results.slice(4 * index, 4 * index + 4);
    if (!found) return null;
    const job = { ...found, record: readView(config, "JobMarket", "job", record), symbols: readView(config, "JobMarket", "symbols_of", symbols) ?? [] };
    job.output = toBytes(readView(config, "JobMarket", "output_of", output) ?? "0x");
    const graph = graphOf(config, job);
    job.tensors = graph && job.output.length ? readTensors(graph.outputs, symbolValues(graph, job), job.output) : null;
    return job;
  });
}

export const graphOf = (config, job) => config.graphs.find((graph) => graph.id === job.graph) ?? null;

export const symbolValues = (graph, job) => Object.fromEntries(graph.symbols.map(({ name }, index) => [name, Number(job.symbols[index])]));

/** What a language model answered; null of any other graph. */
export async function answerWords(config, job) {
  const graph = graphOf(config, job);
  return graph?.limit && graph.words && job.tensors ? (await loadWords(graph.name, job.tensors[0].values)).text : null;
}

/** The bytes that the requester sent. */
export async function loadInput(config, job) {
  const asked = job.transitions.find((step) => step.state === "requested");
  if (!asked) return null;
  const [receipt] = await batch([["eth_getTransactionReceipt", asked.transaction]]);
  for (const log of receipt?.logs ?? []) {
    const event = decodeLog(config, log);
    if (event?.contract !== "JobMarket" || event.name !== "Requested") continue;
    const fields = Object.fromEntries(event.fields.map((field) => [field.name, field.value]));
    if (Number(fields.job) === job.job) return toBytes(fields.input);
  }
  return null;
}

/** What was asked, as words, without the first rows; null where it is none. */
export async function questionWords(config, job, skipped = 0) {
  const graph = graphOf(config, job);
  const input = graph?.words ? await loadInput(config, job) : null;
  const tensors = input && readTensors(graph.inputs, symbolValues(graph, job), input);
  return tensors ? (await loadWords(graph.name, tensors[0].values.slice(skipped))).text : null;
}

/** An answer in a row of a table. */
export function preview(job, words) {
  const [tensor] = job.tensors ?? [];
  if (words !== null) return h("span", { class: "break" }, words.length > 120 ? `${words.slice(0, 120)}…` : words);
  if (!tensor) return h("span", { class: "quiet" }, job.output.length ? `${job.output.length} bytes` : "not yet");
  return h("div", { class: "work" }, picture(tensor, true), h("span", { class: "mono small quiet wide" }, firstNumbers(tensor, 4)));
}
