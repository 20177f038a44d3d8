// Questions to the node, through /rpc. Facts that do not change with blocks come once, from /config.json.

export class RpcError extends Error {
  constructor(error) {
    super(error.message);
    this.code = error.code;
  }
}

async function post(path, content) {
  let response;
  try {
    response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(content) });
  } catch {
    throw new Error("The explorer does not answer. Is it running?");
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) throw new Error(answer?.error?.message ?? `The explorer answered with HTTP ${response.status}.`);
  return answer;
}

/** Results in the order of the calls [[method, ...params]]; a failed one is null with `settle`, else thrown. */
export async function batch(calls, { settle = false } = {}) {
  if (!calls.length) return [];
  const request = calls.map(([method, ...params], id) => ({ jsonrpc: "2.0", id, method, params }));
  const results = [];
  for (let first = 0; first < request.length; first += 90) {
    const answers = await post("/rpc", request.slice(first, first + 90));
    if (!Array.isArray(answers)) throw new RpcError(answers.error);
    for (const answer of answers) {
      if (answer.error && !settle) throw new RpcError(answer.error);
      results[answer.id] = answer.error ? null : answer.result;
    }
  }
  return results;
}

export const call = async (method, ...params) => (await batch([[method, ...params]]))[0];
export const askFaucet = (address) => post("/faucet", { address });

let config = null;
export async function loadConfig() {
  if (!config) {
    const response = await fetch("/config.json").catch(() => null);
    if (!response?.ok) throw new Error("The explorer does not answer. Is it running?");
    config = await response.json();
  }
  return config;
}

export async function loadWords(graph, ids) {
  const response = await fetch(`/words?graph=${encodeURIComponent(graph)}&ids=${ids.join(",")}`).catch(() => null);
  return response?.ok ? response.json() : { text: null, exact: false };
}
