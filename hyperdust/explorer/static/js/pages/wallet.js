// Connect a wallet: the network's values, a button for MetaMask; on a devnet coins to try it with.

import { append, card, copyable, facts, h, notice } from "../dom.js";
import { coins, transaction } from "../format.js";
import { askFaucet, batch } from "../rpc.js";

export async function showWallet(page, config) {
  const [id, client] = await batch([["eth_chainId"], ["web3_clientVersion"]], { settle: true });
  const chainId = Number(id);
  const [first, end] = config.devnet_chain_ids;
  const devnet = chainId >= first && chainId < end;
  const name = devnet ? `Hyperdust devnet ${chainId}` : `Hyperdust ${chainId}`;
  const value = (text) => copyable(text, h("span", { class: "mono" }, text));
  append(page, [
    h("h1", { tabindex: -1 }, "Wallet and faucet"),
    h("div", { class: "two" },
      card("Connect a wallet", facts([
        ["Network name", value(name)], ["RPC URL", value(config.rpc)], ["Chain id", value(String(chainId))], ["Currency", value("BTC")], ["Node", client ?? "–"],
      ]), h("p"), addButton(config, name, id)),
      config.faucet && devnet ? faucet(config) : card("Faucet", h("p", { class: "quiet" }, devnet ? "This explorer was started without a faucet key." : "Coins of this network are worth something: there is no faucet.")),
    ),
    devnet && card("From a terminal", h("p", null, "Tools that speak to Ethereum work unchanged:"), copyable(`cast balance 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266 --rpc-url ${config.rpc}`)),
  ]);
}

function addButton(config, name, chainId) {
  const said = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", class: "main" }, "Add to MetaMask");
  button.addEventListener("click", async () => {
    if (!window.ethereum) return said.replaceChildren(notice("", "No wallet answers in this browser. Install one, or type the values above into it."));
    const network = { chainId, chainName: name, rpcUrls: [config.rpc], nativeCurrency: { name: "Bitcoin", symbol: "BTC", decimals: 18 } };
    if (location.protocol === "https:") network.blockExplorerUrls = [location.origin]; // wallets refuse others
    try {
      await window.ethereum.request({ method: "wallet_addEthereumChain", params: [network] });
      said.replaceChildren(notice("good", "The wallet knows the network."));
    } catch (error) {
      said.replaceChildren(notice("bad", error.message ?? "The wallet refused."));
    }
  });
  return h("div", null, button, said);
}

function faucet(config) {
  const field = h("input", { id: "payee", name: "address", required: true, spellcheck: "false", autocomplete: "off", placeholder: "0x…", "aria-describedby": "faucet-note" });
  const button = h("button", { type: "submit", class: "main" }, `Send ${coins(config.faucet.amount_wei)}`);
  const said = h("div", { "aria-live": "polite" });
  const form = h("form", { class: "line" }, field, button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const { transaction: hash } = await askFaucet(field.value);
      said.replaceChildren(notice("good", "On its way: ", transaction(hash)));
    } catch (error) {
      said.replaceChildren(notice("bad", error.message));
    }
    button.disabled = false;
  });
  return card("Faucet", h("p", null, h("label", { for: "payee" }, "Address to pay")), form,
    h("p", { class: "quiet small", id: "faucet-note" }, "Once in ten minutes for each address. These coins are worth nothing elsewhere."), said);
}
