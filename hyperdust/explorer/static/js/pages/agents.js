// The agents of this chain: who they are, what they answer with, what they take.

import { readView, viewCall } from "../abi.js";
import { coinPrice, loadAgents, priceOf } from "../agents.js";
import { append, card, h, row, table } from "../dom.js";
import { address, coins, graphLink, integer } from "../format.js";
import { call } from "../rpc.js";

const ROWS = 25;
const COLUMNS = [{ name: "Agent" }, { name: "Graph" }, { name: "Price of an answer", class: "right number" }, { name: "Asked", class: "right number" }, { name: "Coin", class: "right number mid" }, { name: "Owner", class: "wide" }];

export async function showAgents(page, config, shown = "1") {
  if (!/^\d{1,9}$/.test(shown) || Number(shown) < 1) throw new Error(`${shown} is no page of the list.`);
  const count = Number(readView(config, "AgentFactory", "totalSupply", await call(...viewCall(config, "AgentFactory", "totalSupply"))) ?? 0);
  const [number, pages] = [Number(shown), Math.max(1, Math.ceil(count / ROWS))];
  const newest = count - (number - 1) * ROWS;
  const agents = await loadAgents(config, Array.from({ length: Math.max(0, Math.min(ROWS, newest)) }, (_, index) => newest - index));
  const pager = h("span", { class: "pager" },
    number > 1 && h("a", { class: "button small", href: `#/agents/${number - 1}` }, "‹ newer"), number < pages && h("a", { class: "button small", href: `#/agents/${number + 1}` }, "older ›"));
  append(page, [
    h("h1", { tabindex: -1 }, "Agents", pager),
    h("p", { class: "quiet" }, "An agent is a contract that answers with a graph, for a price. Whoever owns its ERC-721 owns what it earns."),
    card(count ? `${integer(count)} ${count === 1 ? "agent" : "agents"}${pages > 1 ? `, page ${number} of ${pages}` : ""}` : null, agents.length ? table(COLUMNS, agents.map((agent) => agentRow(config, agent)))
      : h("p", { class: "quiet" }, count ? "This page is empty." : ["Nobody has made one yet. Make one: ", h("code", null, "hyperdust agent create --name ada --graph minilm")])),
  ]);
}

function agentRow(config, agent) {
  return row(COLUMNS, [h("span", null, h("strong", null, h("a", { href: `#/agent/${agent.id}` }, agent.name)), h("span", { class: "quiet small" }, ` ${agent.id}`)),
    graphLink(config, agent.graph), priceOf(agent), integer(agent.asks), agent.coin ? `${agent.coin.symbol} at ${coins(coinPrice(agent.coin))}` : h("span", { class: "quiet" }, "none"), address(agent.owner)]);
}
