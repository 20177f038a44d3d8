// One agent: what it takes and has earned, its questions and answers, its coin on the curve, its items.

import { logsCall, readLogs, readView, viewAt } from "../abi.js";
import { coinPrice, loadAgents, priceOf, unitOf } from "../agents.js";
import { curveChart } from "../charts.js";
import { append, card, facts, h, row, table } from "../dom.js";
import { address, blockLink, coins, graphLink, integer, jobLink, pill, transaction } from "../format.js";
import { answerWords, loadJobs, preview, questionWords } from "../jobs.js";
import { lookBack } from "../lookback.js";
import { batch } from "../rpc.js";

const ASKS = 8;
const TRADES_STEP = 2000;
const ASK_COLUMNS = [{ name: "Ask" }, { name: "Question" }, { name: "Answer" }, { name: "Asked by", class: "wide" }, { name: "Paid", class: "right number mid" }, { name: "Price" }];
const OUTCOMES = [["in escrow", "warn"], ["earned", "good"], ["went back", "bad"]];
const TRADE_COLUMNS = [{ name: "What" }, { name: "Amount", class: "right number" }, { name: "For", class: "right number" }, { name: "Who", class: "mid" }, { name: "Supply after", class: "right number mid" }, { name: "Block", class: "number wide" }];
const ITEM_COLUMNS = [{ name: "Item" }, { name: "Price", class: "right number" }, { name: "Sold", class: "right number" }, { name: "Of", class: "right number" }, { name: "Metadata", class: "mid break" }];

export async function showAgent(page, config, id) {
  if (!/^\d{1,15}$/.test(id ?? "") || Number(id) < 1) throw new Error(`${id} is no agent's number.`);
  const [agent] = await loadAgents(config, [Number(id)]);
  if (!agent) throw new Error(`There is no agent ${id} on this chain.`);
  const currencies = [0, 1, 2].filter((currency) => currency < 2 || agent.coin);
  const [head, ...sums] = await batch([["eth_blockNumber"], ...currencies.flatMap((currency) => [viewAt(config, "Agent", agent.at, "revenue", currency), viewAt(config, "Agent", agent.at, "escrow", currency)])], { settle: true });
  const amount = (view, place) => currencies.map((currency, index) => [currency, readView(config, "Agent", view, sums[2 * index + place]) ?? 0n]).filter(([, value]) => value).map(([currency, value]) => coins(value, unitOf(agent, currency))).join(", ") || "nothing";
  append(page, [
    h("h1", { tabindex: -1 }, agent.name, h("span", { class: "pill" }, `agent ${agent.id}`)),
    h("div", { class: agent.coin ? "two" : "" },
      card("What it is", facts([
        ["Contract", address(agent.at, true)], ["Owner", address(agent.owner, true)], ["Answers with", graphLink(config, agent.graph)],
        ["Price", [priceOf(agent), h("span", { class: "quiet small" }, ", and the job's fee")]],
        ["Prompt", agent.prefixRows ? `${agent.prefixRows} rows before every question` : "none"],
        ["Asked", integer(agent.asks)], ["Earned", `${amount("revenue", 0)} that waits for its owner`], ["In escrow", amount("escrow", 1)],
      ])), agent.coin && coinCard(agent.coin)),
    asksCard(config, agent),
    agent.coin && trades(config, agent.coin, Number(head)),
    agent.items && items(config, agent.items, Number(head)),
  ]);
}

const decimals = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 });

function coinCard(coin) {
  return card(`Its coin, ${coin.symbol}`, curveChart(coin, decimals), facts([
    ["Name", coin.name], ["Contract", address(coin.at)], ["Next coin", coins(coinPrice(coin))], ["Sold", coins(coin.supply, coin.symbol)],
    ["Reserve", [coins(coin.reserve), h("span", { class: "quiet small" }, " buys all of them back")]],
  ]));
}

function asksCard(config, agent) {
  if (!agent.asks) return card("Questions and answers", h("p", { class: "quiet" }, "Nobody has asked yet. Ask: ", h("code", null, `hyperdust agent ask --agent ${agent.id} --text "hello"`)));
  const list = table(ASK_COLUMNS, []);
  const more = h("button", { type: "button" }, "Earlier questions");
  const trouble = h("p", { class: "quiet small", "aria-live": "polite" });
  let next = agent.asks;
  async function load() {
    more.disabled = true;
    trouble.textContent = "Looking …";
    try {
      const numbers = Array.from({ length: Math.min(ASKS, next) }, (_, index) => next - index);
      const found = (await batch(numbers.map((number) => viewAt(config, "Agent", agent.at, "ask_of", number)))).map((answer) => readView(config, "Agent", "ask_of", answer));
      const jobs = await loadJobs(config, found.map((ask) => Number(ask.job)));
      const rows = await Promise.all(numbers.map((number, index) => askRow(config, agent, number, found[index], jobs[index])));
      list.querySelector("tbody").append(...rows);
      next -= numbers.length;
      more.hidden = next < 1;
      trouble.textContent = "";
    } catch (error) {
      trouble.textContent = error.message;
    }
    more.disabled = false;
  }
  more.addEventListener("click", load);
  load();
  return card("Questions and answers", list, trouble, more);
}

async function askRow(config, agent, number, ask, job) {
  const [text, kind] = OUTCOMES[Number(ask.outcome)] ?? ["unknown", ""];
  const words = job && (await questionWords(config, job, agent.prefixRows));
  return row(ASK_COLUMNS, [h("div", null, h("strong", null, number), " ", jobLink(ask.job), h("div", null, job && pill(job.status))),
    words ? h("span", { class: "break" }, words) : h("span", { class: "quiet" }, "no words"), job ? preview(job, await answerWords(config, job)) : "–", address(ask.asker),
    coins(ask.price, unitOf(agent, Number(ask.currency))), h("span", { class: `pill ${kind}` }, text)]);
}

function trades(config, coin, head) {
  const list = table(TRADE_COLUMNS, []);
  list.hidden = true;
  async function load(from, to) {
    const [logs] = await batch([logsCall(config, "AgentCoin", ["Bought", "Sold"], { from, to, address: coin.at })]);
    const rows = readLogs(config, "AgentCoin", logs).reverse().map(({ name, block, transaction: hash, values }) => row(TRADE_COLUMNS, [
      h("span", { class: `pill ${name === "Bought" ? "good" : "warn"}` }, name.toLowerCase()), coins(values.amount, coin.symbol), coins(values.paid ?? values.received), address(values.account),
      coins(values.supply, coin.symbol), [blockLink(block), " ", h("span", { class: "small" }, transaction(hash))]]));
    list.querySelector("tbody").append(...rows);
    list.hidden = !list.querySelector("tbody").children.length;
    return rows.length;
  }
  return card("Trades of its coin", list, lookBack(head, TRADES_STEP, { what: "trades", load }));
}

function items(config, at, head) {
  const list = table(ITEM_COLUMNS, []);
  const seen = new Set();
  list.hidden = true;
  async function load(from, to) {
    const [logs] = await batch([logsCall(config, "AgentItems", ["Offered"], { from, to, address: at })]);
    const fresh = readLogs(config, "AgentItems", logs).reverse().filter(({ values }) => !seen.has(values.id) && seen.add(values.id));
    const offers = await batch(fresh.map(({ values }) => viewAt(config, "AgentItems", at, "offer_of", values.id)));
    fresh.forEach(({ values }, index) => {
      const [price, most, sold] = Object.values(readView(config, "AgentItems", "offer_of", offers[index]) ?? { price: values.price, most: values.most, sold: 0n });
      list.querySelector("tbody").append(row(ITEM_COLUMNS, [`item ${values.id}`, coins(price), integer(sold), integer(most), values.uri || h("span", { class: "quiet" }, "none")]));
    });
    list.hidden = !seen.size;
    return fresh.length;
  }
  return card("Items", h("p", { class: "small quiet" }, "ERC-1155, contract ", address(at)), list, lookBack(head, TRADES_STEP, { what: "kinds of items were offered", load }));
}
