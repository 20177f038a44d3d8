// Which page is shown: the part of the address after #. A page may return a function that stops it.

import { append, h, notice } from "./dom.js";
import { loadConfig } from "./rpc.js";
import { showAddress } from "./pages/address.js";
import { showAgent } from "./pages/agent.js";
import { showAgents } from "./pages/agents.js";
import { showBlock } from "./pages/block.js";
import { showDisputes } from "./pages/disputes.js";
import { showGraphs } from "./pages/graphs.js";
import { showHome } from "./pages/home.js";
import { showJob } from "./pages/job.js";
import { showNetwork } from "./pages/network.js";
import { find, showSearch } from "./pages/search.js";
import { showTransaction } from "./pages/transaction.js";
import { showWallet } from "./pages/wallet.js";

const PAGES = { "": showHome, block: showBlock, tx: showTransaction, address: showAddress, job: showJob, disputes: showDisputes, agents: showAgents, agent: showAgent, network: showNetwork, graphs: showGraphs, wallet: showWallet, search: showSearch };

const TABS = { graphs: "graphs", agents: "agents", agent: "agents", disputes: "disputes", network: "network", wallet: "wallet" };

const main = document.getElementById("main");
let stop = null;
let visit = 0;

async function show() {
  const current = ++visit;
  stop?.();
  stop = null;
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === (Object.hasOwn(TABS, name) ? `#/${TABS[name]}` : "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const page = h("div");
  try {
    const shown = Object.hasOwn(PAGES, name) ? PAGES[name] : null;
    if (!shown) throw new Error("There is no such page.");
    const stopper = await shown(page, await loadConfig(), ...rest.map(decodeURIComponent));
    if (current !== visit) return stopper?.();
    stop = stopper ?? null;
  } catch (error) {
    if (current !== visit) return;
    page.replaceChildren();
    const again = h("button", { type: "button", on: { click: show } }, "Try again");
    append(page, [h("h1", { tabindex: -1 }, "Not shown"), notice("bad", error.message), h("p", null, again)]);
  }
  main.replaceChildren(page);
  const heading = page.querySelector("h1");
  document.title = name && heading ? `${heading.firstChild.textContent} · Hyperdust` : "Hyperdust";
  if (current > 1) {
    scrollTo(0, 0);
    heading?.focus();
  }
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = document.getElementById("query").value.trim();
  if (text) location.hash = find(text);
});
addEventListener("hashchange", show);
show();
