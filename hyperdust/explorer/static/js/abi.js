// Calls, results and events of the predeploys, by the ABI in /config.json.

import { call } from "./rpc.js";

const WORD = 32;

export function toBytes(hex) {
  const digits = hex.replace(/^0x/, "");
  const bytes = new Uint8Array(digits.length >> 1);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(digits.substr(2 * i, 2), 16);
  return bytes;
}

export const toHex = (bytes) => "0x" + Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function arrayOf(type) {
  const match = /^(.*)\[(\d*)\]$/.exec(type.type);
  return match && { item: { ...type, type: match[1] }, length: match[2] === "" ? null : Number(match[2]) };
}

function isDynamic(type) {
  const array = arrayOf(type);
  if (array) return array.length === null || isDynamic(array.item);
  if (type.type === "tuple") return type.components.some(isDynamic);
  return type.type === "bytes" || type.type === "string";
}

function headSize(type) {
  if (isDynamic(type)) return WORD;
  const array = arrayOf(type);
  if (array) return array.length * headSize(array.item);
  if (type.type === "tuple") return type.components.reduce((sum, part) => sum + headSize(part), 0);
  return WORD;
}

function slice(data, start, length) {
  if (start + length > data.length) throw new RangeError("the data ends too early");
  return data.subarray(start, start + length);
}

const number = (data, position) => BigInt(toHex(slice(data, position, WORD)));

function size(data, position) {
  const value = number(data, position);
  if (value > BigInt(data.length)) throw new RangeError("an offset leaves the data");
  return Number(value);
}

function decodeOne(type, data, position) {
  const array = arrayOf(type);
  if (array) {
    const length = array.length ?? size(data, position);
    return decodeAll(Array(length).fill(array.item), data, array.length === null ? position + WORD : position);
  }
  const kind = type.type;
  if (kind === "tuple") return decodeAll(type.components, data, position);
  if (kind === "bytes" || kind === "string") {
    const bytes = slice(data, position + WORD, size(data, position));
    return kind === "bytes" ? toHex(bytes) : new TextDecoder().decode(bytes);
  }
  if (kind.startsWith("bytes")) return toHex(slice(data, position, Number(kind.slice(5))));
  if (kind === "address") return toHex(slice(data, position + 12, 20));
  const value = number(data, position);
  if (kind === "bool") return value !== 0n;
  return kind.startsWith("int") ? BigInt.asIntN(256, value) : value;
}

export function decodeAll(types, data, base = 0) {
  let head = base;
  return types.map((type) => {
    const position = isDynamic(type) ? base + size(data, head) : head;
    head += headSize(type);
    return decodeOne(type, data, position);
  });
}

const word = (value) => (typeof value === "string" ? value.slice(2).padStart(64, "0") : BigInt(value).toString(16).padStart(64, "0"));

/** Words, and at the end at most one array of numbers: all that the pages ask for. */
function encode(args) {
  const last = args.at(-1);
  if (!Array.isArray(last)) return args.map(word).join("");
  return [...args.slice(0, -1), WORD * args.length, last.length, ...last].map(word).join("");
}

/** A predeploy's interface, or that of the code behind agents, coins and items. */
const interfaceOf = (config, kind) => config.contracts[kind] ?? config.templates[kind];

/** eth_call of a predeploy's view, as a request of a batch; `readView` reads its answer. */
export function viewCall(config, contract, name, ...args) {
  return viewAt(config, contract, config.contracts[contract].address, name, ...args);
}

/** The same of any contract with a known interface. */
export function viewAt(config, kind, address, name, ...args) {
  const entry = interfaceOf(config, kind).functions.find((found) => found.name === name && found.inputs.length === args.length);
  return ["eth_call", { to: address, data: entry.selector + encode(args) }, "latest"];
}

/** eth_getLogs of one kind of contract as a request: events by name, then what is wanted of the indexed arguments. */
export function logsCall(config, kind, events, { from, to, address = config.contracts[kind].address, topics = [] }) {
  const named = interfaceOf(config, kind).events;
  const wanted = events.map((name) => named.find((found) => found.name === name).topic);
  const more = topics.map((value) => (value === null ? null : `0x${word(value)}`));
  return ["eth_getLogs", { fromBlock: quantity(from), toBlock: quantity(to), address, topics: [wanted, ...more] }];
}

export const quantity = (value) => `0x${Math.max(0, Number(value)).toString(16)}`;

export function readView(config, contract, name, output) {
  if (output === null || output === undefined || output === "0x") return null;
  const entry = interfaceOf(config, contract).functions.find((found) => found.name === name);
  const values = decodeAll(entry.outputs, toBytes(output));
  const [only] = entry.outputs;
  if (entry.outputs.length !== 1) return values;
  if (only.type !== "tuple") return values[0];
  return Object.fromEntries(only.components.map((part, index) => [part.name, values[0][index]]));
}

export async function view(config, contract, name, ...args) {
  return readView(config, contract, name, await call(...viewCall(config, contract, name, ...args)));
}

export function contractAt(config, address) {
  return Object.entries(config.contracts).find(([, contract]) => contract.address === address?.toLowerCase())?.[0] ?? null;
}

/** {contract, name, fields: [{name, type, value}]} of an input, null where it is not a known call. */
export function decodeCall(config, to, input, kind = contractAt(config, to)) {
  const entry = kind && interfaceOf(config, kind).functions.find((found) => found.selector === input.slice(0, 10));
  return entry ? decoded(kind, entry, () => decodeAll(entry.inputs, toBytes(input.slice(10)))) : null;
}

/** The same of a log. */
export function decodeLog(config, log, kind = contractAt(config, log.address)) {
  const entry = kind && interfaceOf(config, kind).events.find((found) => found.topic === log.topics[0]);
  if (!entry) return null;
  return decoded(kind, entry, () => {
    const plain = decodeAll(entry.inputs.filter((field) => !field.indexed), toBytes(log.data));
    const topics = log.topics.slice(1);
    return entry.inputs.map((field) => {
      if (!field.indexed) return plain.shift();
      const topic = topics.shift();
      return isDynamic(field) ? topic : decodeOne(field, toBytes(topic), 0);
    });
  });
}

/** Logs as {name, block, transaction, index, ...arguments by name}, in the order of the chain; those of other kinds left out. */
export function readLogs(config, kind, logs) {
  return (logs ?? []).flatMap((log) => {
    const event = decodeLog(config, log, kind);
    if (!event) return [];
    const values = Object.fromEntries(event.fields.map((field) => [field.name, field.value]));
    return [{ values, name: event.name, block: Number(log.blockNumber), transaction: log.transactionHash, index: Number(log.logIndex) }];
  });
}

function decoded(contract, entry, read) {
  try {
    const values = read();
    return { contract, name: entry.name, fields: entry.inputs.map((field, index) => ({ name: field.name, type: field.type, value: values[index] })) };
  } catch {
    return null; // bytes that only look like it
  }
}
