// The graphs that may be asked, and who serves them.

import { readView, viewCall } from "../abi.js";
import { append, card, facts, h } from "../dom.js";
import { address, integer, macs } from "../format.js";
import { batch, call } from "../rpc.js";

const GRAPHS = 100;
const SYSTEM = "0xfffffffffffffffffffffffffffffffffffffffe";

export async function showGraphs(page, config, only) {
  const count = Number(readView(config, "GraphRegistry", "graph_count", await call(...viewCall(config, "GraphRegistry", "graph_count"))));
  const indices = Array.from({ length: Math.min(count, GRAPHS) }, (_, index) => index);
  const found = await batch(indices.map((index) => viewCall(config, "GraphRegistry", "graph_at", index)));
  const all = found.map((answer) => readView(config, "GraphRegistry", "graph_at", answer));
  const ids = only ? all.filter((id) => id === only.toLowerCase()) : all;
  const cards = await Promise.all(ids.map((id) => graphCard(config, id)));
  append(page, [
    h("h1", { tabindex: -1 }, only ? "Graph" : "Graphs"),
    h("p", { class: "quiet" }, only ? h("a", { href: "#/graphs" }, "All graphs") : "What the network computes: each graph is fixed by its id, and gives the same integers on every machine."),
    cards.length ? cards : card(null, h("p", { class: "quiet" }, only ? `No graph ${only} is registered.` : "None is registered.")),
    !only && count > GRAPHS && h("p", { class: "quiet" }, `${count - GRAPHS} more are registered.`),
  ]);
}

async function graphCard(config, id) {
  const known = config.graphs.find((graph) => graph.id === id);
  const low = known?.symbols.map((symbol) => symbol.low) ?? [], high = known?.symbols.map((symbol) => symbol.high) ?? [];
  const [name, owner, symbols, providers, least, most] = await batch([
    viewCall(config, "GraphRegistry", "name_of", id), viewCall(config, "GraphRegistry", "owner_of", id), viewCall(config, "GraphRegistry", "symbols_of", id),
    ["hyperdust_getProviders", id], viewCall(config, "GraphRegistry", "macs", id, low), viewCall(config, "GraphRegistry", "macs", id, high),
  ], { settle: true });
  const read = (view, answer) => readView(config, "GraphRegistry", view, answer);
  const bounds = read("symbols_of", symbols) ?? [];
  const size = known && most !== null && least !== null ? `${macs(read("macs", least))} to ${macs(read("macs", most))} a job` : null;
  const port = ({ name: tensor, dtype, shape }) => `${tensor}: ${dtype}[${shape.join(", ")}]`;
  return card(read("name_of", name) || "unnamed", facts([
    ["Id", h("span", { class: "mono" }, id)],
    ["Registered by", [null, SYSTEM].includes(read("owner_of", owner)) ? "genesis" : address(read("owner_of", owner), true)],
    bounds.length ? ["Sizes", bounds.map(([lower, upper], index) => `${known?.symbols[index]?.name ?? `size ${index + 1}`} from ${lower} to ${upper}`).join(", ")] : null,
    known && ["Input", known.inputs.map(port).join("; ")],
    known && ["Output", known.outputs.map(port).join("; ")],
    known && ["Operators", integer(known.operators.length)],
    size && ["Work", size],
    ["Providers", providers?.length ? h("ul", { class: "plain" }, providers.slice(0, 50).map((provider) => h("li", null, address(provider, true)))) : "none yet"],
    known ? ["Ask", h("code", null, `hyperdust job ask --graph ${known.name} ${known.words ? '--text "hello"' : "--input FILE"}`)] : ["Here", "this explorer does not know its structure"],
  ]));
}
