// Agents as their factory and their contracts tell them; used by the list and by an agent's page.

import { readView, viewAt, viewCall } from "./abi.js";
import { coins } from "./format.js";
import { batch } from "./rpc.js";

const ZERO = /^0x0+$/;
const SHUT = 1n << 128n; // a price in BTC that nobody has: closed until its own coin is there
const KINDS_MAX = 40;
const FACTORY = ["name_of", "ownerOf", "coin_of", "items_of"];
const OWN = ["graph", "currency", "price", "asks_count", "prefix_rows"];
const COIN = ["name", "symbol", "base", "slope", "reserve", "totalSupply"];

/** {id, at, name, owner, graph, currency, price, asks, prefixRows, coin: {at, name, symbol, base, slope, reserve, supply} or null, items}; null where there is none. */
export async function loadAgents(config, ids) {
  const places = await batch(ids.map((id) => viewCall(config, "AgentFactory", "agent_at", id)));
  const found = ids.map((id, index) => ({ id, at: readView(config, "AgentFactory", "agent_at", places[index]) })).filter(({ at }) => at && !ZERO.test(at));
  const width = FACTORY.length + OWN.length;
  const answers = await batch(found.flatMap(({ id, at }) => [...FACTORY.map((name) => viewCall(config, "AgentFactory", name, id)), ...OWN.map((name) => viewAt(config, "Agent", at, name))]), { settle: true });
  const agents = found.map(({ id, at }, index) => {
    const mine = answers.slice(width * index, width * (index + 1));
    const [name, owner, coin, items] = FACTORY.map((view, place) => readView(config, "AgentFactory", view, mine[place]));
    const [graph, currency, price, asks, rows] = OWN.map((view, place) => readView(config, "Agent", view, mine[FACTORY.length + place]));
    return { id, at, name, owner, graph, currency: Number(currency), price: price ?? 0n, asks: Number(asks ?? 0), prefixRows: Number(rows ?? 0), coin: ZERO.test(coin ?? "0x0") ? null : { at: coin }, items: ZERO.test(items ?? "0x0") ? null : items };
  });
  await loadCoins(config, agents.map(({ coin }) => coin).filter(Boolean));
  return agents;
}

async function loadCoins(config, found) {
  const answers = await batch(found.flatMap(({ at }) => COIN.map((name) => viewAt(config, "AgentCoin", at, name))), { settle: true });
  found.forEach((coin, index) => {
    const values = COIN.map((name, place) => readView(config, "AgentCoin", name, answers[COIN.length * index + place]));
    [coin.name, coin.symbol, coin.base, coin.slope, coin.reserve, coin.supply] = values.map((value) => value ?? 0n);
  });
}

/** Which of these addresses are agents, their coins or their items, by the factory's word: a Map to names of interfaces. */
export async function kindsOf(config, addresses) {
  const asked = [...new Set(addresses)].slice(0, KINDS_MAX);
  const found = await batch(asked.flatMap((at) => [viewCall(config, "AgentFactory", "id_of", at), viewAt(config, "AgentCoin", at, "agent")]), { settle: true });
  const kinds = new Map();
  const claims = []; // addresses that say whose coin or items they are
  asked.forEach((at, index) => {
    if (readView(config, "AgentFactory", "id_of", found[2 * index])) return kinds.set(at, "Agent");
    if (found[2 * index + 1]?.length !== 66) return;
    const agent = readView(config, "AgentCoin", "agent", found[2 * index + 1]);
    if (agent) claims.push({ at, agent });
  });
  const owned = await batch(claims.flatMap(({ agent }) => [viewCall(config, "AgentFactory", "coin_of", agent), viewCall(config, "AgentFactory", "items_of", agent)]), { settle: true });
  claims.forEach(({ at }, index) => {
    if (readView(config, "AgentFactory", "coin_of", owned[2 * index]) === at) kinds.set(at, "AgentCoin");
    else if (readView(config, "AgentFactory", "items_of", owned[2 * index + 1]) === at) kinds.set(at, "AgentItems");
  });
  return kinds;
}

export const unitOf = (agent, currency) => ["BTC", "DUST", agent.coin?.symbol || "of its coin"][currency];

export function priceOf(agent) {
  if (agent.currency === 0 && agent.price >= SHUT) return "closed";
  return agent.price ? coins(agent.price, unitOf(agent, agent.currency)) : "nothing";
}

/** The price of the next coin, in wei: base + slope * supply. */
export const coinPrice = ({ base, slope, supply }) => base + (slope * supply) / 10n ** 18n;
