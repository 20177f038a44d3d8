// What the words in the search box may mean.

import { append, card, h } from "../dom.js";
import { readView, viewCall } from "../abi.js";
import { batch } from "../rpc.js";

/** The page for a text: straight there where only one thing can be meant. */
export function find(text) {
  const word = text.trim();
  const job = /^job\s*#?\s*(\d{1,15})$/i.exec(word);
  if (job) return `#/job/${job[1]}`;
  const block = /^block\s*#?\s*(\d{1,15})$/i.exec(word);
  if (block) return `#/block/${block[1]}`;
  const agent = /^agent\s*#?\s*(\d{1,15})$/i.exec(word);
  if (agent) return `#/agent/${agent[1]}`;
  if (/^0x[0-9a-f]{40}$/i.test(word)) return `#/address/${word}`;
  return `#/search/${encodeURIComponent(word.replace(/[,\s]/g, "").slice(0, 100))}`;
}

export async function showSearch(page, config, word) {
  const hits = await look(config, word ?? "");
  if (hits.length === 1) {
    location.replace(hits[0].href);
    return;
  }
  append(page, [
    h("h1", { tabindex: -1 }, "Search"),
    hits.length
      ? card(`“${word}” may be`, h("ul", { class: "plain" }, hits.map(({ href, text }) => h("li", null, h("a", { href }, text)))))
      : card(null, h("p", null, `Nothing is called “${word}”. A block has a number or a hash, a transaction a hash (0x and 64 digits), an address 0x and 40 digits, a job and an agent a number, a graph a name.`)),
  ]);
}

async function look(config, word) {
  if (/^\d{1,15}$/.test(word)) {
    const [head, jobs, agents] = await batch([["eth_blockNumber"], viewCall(config, "JobMarket", "jobs_count"), viewCall(config, "AgentFactory", "totalSupply")], { settle: true });
    return [
      Number(word) <= Number(head) && { href: `#/block/${Number(word)}`, text: `Block ${word}` },
      Number(word) >= 1 && Number(word) <= Number(readView(config, "JobMarket", "jobs_count", jobs) ?? 0) && { href: `#/job/${Number(word)}`, text: `Job ${word}` },
      Number(word) >= 1 && Number(word) <= Number(readView(config, "AgentFactory", "totalSupply", agents) ?? 0) && { href: `#/agent/${Number(word)}`, text: `Agent ${word}` },
    ].filter(Boolean);
  }
  const digits = /^(0x)?([0-9a-f]{64})$/i.exec(word);
  if (digits) {
    const hash = `0x${digits[2].toLowerCase()}`;
    const [transaction, block, graph] = await batch([["eth_getTransactionByHash", hash], ["eth_getBlockByHash", hash, false], viewCall(config, "GraphRegistry", "is_registered", hash)], { settle: true });
    return [
      transaction && { href: `#/tx/${hash}`, text: "A transaction" },
      block && { href: `#/block/${hash}`, text: `Block ${Number(block.number)}` },
      readView(config, "GraphRegistry", "is_registered", graph) && { href: `#/graphs/${hash}`, text: "A graph" },
    ].filter(Boolean);
  }
  return config.graphs.filter((graph) => graph.name === word.toLowerCase()).map((graph) => ({ href: `#/graphs/${graph.id}`, text: `Graph ${graph.name}` }));
}
