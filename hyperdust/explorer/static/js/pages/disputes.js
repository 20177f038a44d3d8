// Who was found wrong, what it cost whom, what is still open: verdicts, companions refuted, double votes, demands.

import { logsCall, readLogs, readView, viewCall } from "../abi.js";
import { append, card, facts, h, row, table } from "../dom.js";
import { address, blockLink, coins, integer, jobLink, transaction } from "../format.js";
import { KIND_NAMES, KINDS } from "../history.js";
import { lookBack } from "../lookback.js";
import { batch } from "../rpc.js";

const STEP = 2000;
const DEMANDS = 25;
const COLUMNS = [{ name: "About" }, { name: "Verdict" }, { name: "Who lost" }, { name: "Who showed it" }, { name: "Burned", class: "right number mid" }, { name: "Where", class: "number mid" }];
const DEMAND_COLUMNS = [{ name: "Demand" }, { name: "Job" }, { name: "Asked by", class: "mid" }, { name: "Deposit", class: "right number mid" }, { name: "Answer until", class: "right number" }, { name: "State" }];
const DEMAND_STATES = [null, ["open", "warn"], ["answered", "good"], ["not answered", "bad"]];

export async function showDisputes(page, config) {
  const [head, count, deposits] = await batch([["eth_blockNumber"], viewCall(config, "Court", "demands_count"), viewCall(config, "Court", "total_deposits")], { settle: true });
  const demands = Number(readView(config, "Court", "demands_count", count) ?? 0);
  append(page, [
    h("h1", { tabindex: -1 }, "Disputes"),
    h("p", { class: "quiet" }, "A provider that lies is shown wrong by one transaction and loses its whole bond; so does a companion that accuses and proves nothing. Nobody is slashed for being late or poor."),
    verdicts(config, Number(head)),
    demandsCard(config, demands, readView(config, "Court", "total_deposits", deposits) ?? 0n),
  ]);
}

function verdicts(config, head) {
  const list = table(COLUMNS, []);
  const body = list.querySelector("tbody");
  const decided = new Set();
  list.hidden = true;
  async function load(from, to) {
    const [market, court, bonds] = await batch([
      logsCall(config, "JobMarket", ["Convicted", "CompanionRefuted", "Mismatch"], { from, to }),
      logsCall(config, "Court", ["Verdict", "Equivocated"], { from, to }), logsCall(config, "Bonds", ["Slashed"], { from, to }),
    ]);
    const [said, slashes] = [readLogs(config, "Court", court), readLogs(config, "Bonds", bonds)];
    const events = [...readLogs(config, "JobMarket", market), ...said.filter(({ name }) => name === "Equivocated")].sort((a, b) => b.block - a.block || b.index - a.index);
    const rows = events.map((event) => verdictRow(config, event, said, slashes, decided)).filter(Boolean);
    body.append(...rows);
    list.hidden = !body.children.length;
    return rows.length;
  }
  return card("Verdicts", list, lookBack(head, STEP, { what: "disputes", load }));
}

function verdictRow(config, event, said, slashes, decided) {
  const { name, values, block, transaction: hash } = event;
  const where = [blockLink(block), " ", h("span", { class: "small" }, transaction(hash))];
  const pill = (kind, text, why) => h("div", null, h("span", { class: `pill ${kind}` }, text), why && h("div", { class: "small quiet" }, why));
  if (name === "Equivocated") {
    return row(COLUMNS, ["two votes", pill("bad", "guilty", "voted for two histories"), side(values.coinbase, "lost", coins(values.amount, "DUST")), side(values.reporter, "got half", ""), "half", where]);
  }
  const job = String(values.job);
  if (name === "Mismatch") {
    if (decided.has(job)) return null;
    return row(COLUMNS, [jobLink(job), pill("warn", "open", `two trace roots; held until block ${integer(values.held_until)}`), "–", side(values.companion, "accuses", ""), "–", where]);
  }
  decided.add(job);
  const loser = name === "Convicted" ? values.provider : values.companion;
  const taken = slashes.find((slash) => slash.transaction === hash && slash.values.account === loser)?.values;
  const verdict = said.find((found) => found.transaction === hash && found.name === "Verdict" && found.values.job === values.job)?.values;
  const found = KIND_NAMES[Number(verdict?.kind ?? 0)];
  const place = ["element", "witness", "form", "list", "invalid"].includes(found) ? ` (operator ${verdict.operator}, element ${verdict.element})` : "";
  const why = name === "CompanionRefuted" ? (verdict ? "vouched for a false trace" : "accused, and proved nothing in time") : found ? `${KINDS[found]}${place}` : "it did not reveal, and its companion's result differs";
  return row(COLUMNS, [jobLink(job), pill(name === "Convicted" ? "bad" : "warn", name === "Convicted" ? "guilty" : "refuted", why), side(loser, "lost", coins(values.slashed)), taken ? side(taken.beneficiary, "got", coins(taken.amount - taken.burned)) : "–", taken ? coins(taken.burned) : "–", where]);
}

const side = (account, verb, amount) => h("div", null, address(account), h("div", { class: "small quiet" }, `${verb} ${amount}`));

function demandsCard(config, count, deposits) {
  const list = table(DEMAND_COLUMNS, []);
  const body = list.querySelector("tbody");
  const more = h("button", { type: "button" }, "Earlier demands");
  const trouble = h("p", { class: "quiet small", "aria-live": "polite" });
  let next = count;
  async function load() {
    more.disabled = true;
    try {
      const numbers = Array.from({ length: Math.min(DEMANDS, next) }, (_, index) => next - index);
      const found = await batch(numbers.map((number) => viewCall(config, "Court", "demand_of", number)));
      numbers.forEach((number, index) => body.append(demandRow(number, readView(config, "Court", "demand_of", found[index]))));
      next -= numbers.length;
      more.hidden = next < 1;
      trouble.textContent = "";
    } catch (error) {
      trouble.textContent = error.message;
    }
    more.disabled = false;
  }
  more.addEventListener("click", load);
  if (!count) return card("Demands", h("p", { class: "quiet" }, "Nobody has had to demand data on chain: providers answer over the work API, for nothing."));
  load();
  return card("Demands", facts([["So far", integer(count)], ["Deposits held", `${coins(deposits)} for open ones`]]), list, trouble, more);
}

function demandRow(number, { job, asker, deposit, deadline, state }) {
  const [text, kind] = DEMAND_STATES[Number(state)] ?? ["unknown", ""];
  return row(DEMAND_COLUMNS, [number, jobLink(job), address(asker), coins(deposit), blockLink(deadline), h("span", { class: `pill ${kind}` }, text)]);
}
