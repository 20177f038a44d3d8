// One address: what it holds, what it did in the last blocks.

import { contractAt, readView, viewCall } from "../abi.js";
import { append, card, facts, h, notice, table } from "../dom.js";
import { blockLink, coins, integer, macs } from "../format.js";
import { batch } from "../rpc.js";
import { transactionRow } from "./block.js";

const SCAN = 100;
const STEP = 25;
const COLUMNS = [{ name: "Block", class: "number" }, { name: "Transaction" }, { name: "What" }, { name: "From", class: "mid" }, { name: "To", class: "wide" }, { name: "Value", class: "right number" }];

export async function showAddress(page, config, address) {
  if (!/^0x[0-9a-f]{40}$/i.test(address ?? "")) throw new Error(`${address} is no address: 0x and 40 hex digits are expected.`);
  const wanted = address.toLowerCase();
  const views = [["Dust", "balanceOf"], ["Bonds", "bond_of"], ["JobMarket", "owed"], ["Bonds", "payout_of"], ["Bonds", "owed"], ["Bonds", "unbonding_of"], ["Court", "owed"], ["AgentFactory", "id_of"]];
  const [balance, nonce, code, head, credit, ...found] = await batch([
    ["eth_getBalance", wanted, "latest"], ["eth_getTransactionCount", wanted, "latest"], ["eth_getCode", wanted, "latest"], ["eth_blockNumber"],
    ["hyperdust_getCredit", wanted], ...views.map(([contract, name]) => viewCall(config, contract, name, wanted)),
  ], { settle: true });
  const [dust, bond, owed, payout, rewards, unbonding, deposits, agent] = views.map(([contract, name], index) => readView(config, contract, name, found[index]));
  const contract = contractAt(config, wanted);
  const serves = await graphsServed(config, wanted);
  append(page, [
    h("h1", { tabindex: -1 }, contract ?? (code !== "0x" ? "Contract" : "Address"), contract && h("span", { class: "pill" }, "predeployed contract")),
    h("p", { class: "mono break" }, wanted),
    h("div", { class: "two" },
      card("Holds", facts([
        ["BTC", coins(balance)],
        ["DUST", dust === null ? "–" : coins(dust, "DUST")],
        owed ? ["Owed", `${coins(owed)} by the job market, until withdrawn`] : null,
        rewards ? ["Owed by bonds", `${coins(rewards)}: its share of what others lost`] : null,
        deposits ? ["Owed by court", `${coins(deposits)}, until withdrawn`] : null,
        agent ? ["Agent", h("a", { href: `#/agent/${agent}` }, `agent ${agent}`)] : null,
        ["Nonce", integer(nonce)],
        ["Code", code === "0x" ? "none: a key's account" : code.startsWith("0xef0100") ? `delegates to 0x${code.slice(8)}` : `${integer((code.length - 2) / 2)} bytes`],
      ])),
      card("Works", facts([
        ["Bond", bond ? coins(bond) : "none"],
        unbonding ? ["Leaving", `${coins(unbonding)}, slashable until paid out`] : null,
        ["Serves", serves.length ? serves.map((name, index) => [index ? ", " : "", name]) : "no graph"],
        payout && payout !== wanted && !/^0x0+$/.test(payout) ? ["Paid to", h("a", { class: "mono", href: `#/address/${payout}` }, payout)] : null,
        ["Credit held", credit ? macs(credit.held) : "–"],
        ["Credit spent", credit ? macs(credit.spent) : "–"],
        credit?.lapsed ? ["Credit lapsed", macs(credit.lapsed)] : null,
      ]))),
    history(config, wanted, Number(head)),
  ]);
}

async function graphsServed(config, address) {
  if (!config.graphs.length) return [];
  const roles = [["is_provider", ""], ["is_companion", " as a companion"]];
  const pairs = config.graphs.flatMap((graph) => roles.map(([view, words]) => ({ graph, view, words })));
  const answers = await batch(pairs.map(({ graph, view }) => viewCall(config, "Bonds", view, graph.id, address)), { settle: true });
  return pairs.filter(({ view }, index) => readView(config, "Bonds", view, answers[index]) === true).map(({ graph, words }) => [h("a", { href: `#/graphs/${graph.id}` }, graph.name), words]);
}

function history(config, address, head) {
  const list = table(COLUMNS, []);
  const body = list.querySelector("tbody");
  const said = h("p", { class: "quiet small", "aria-live": "polite" });
  const more = h("button", { type: "button" }, "Look further back");
  let next = head, mined = 0, lastMined = null;
  async function scan() {
    more.disabled = true;
    said.textContent = "Looking through the last blocks …";
    try {
      for (let looked = 0; looked < SCAN && next >= 0; looked += STEP) {
        const numbers = Array.from({ length: Math.min(STEP, next + 1) }, (_, index) => next - index);
        const blocks = await batch(numbers.map((number) => ["eth_getBlockByNumber", `0x${number.toString(16)}`, true]));
        for (const block of blocks.filter(Boolean)) {
          if (block.miner === address && Number(block.number) > 0) (mined++, lastMined ??= block.number);
          for (const found of [...block.transactions].reverse()) {
            if (found.from === address || found.to === address) body.append(transactionRow(config, found, COLUMNS, [blockLink(block.number)]));
          }
        }
        next -= numbers.length;
      }
      const rows = body.children.length;
      said.replaceChildren();
      append(said, [`${rows ? `${rows} transactions` : "No transaction"} in blocks ${integer(next + 1)} to ${integer(head)}`,
        mined ? [`; it made ${mined} of these blocks, the last one `, blockLink(lastMined)] : "", "."]);
      list.hidden = !rows;
      more.hidden = next < 0;
    } catch (error) {
      said.replaceChildren(notice("bad", error.message));
    }
    more.disabled = false;
  }
  more.addEventListener("click", scan);
  list.hidden = true;
  scan();
  return card("Recent transactions", list, said, more);
}
