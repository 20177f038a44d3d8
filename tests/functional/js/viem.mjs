// viem as its guide shows it: public, wallet and WebSocket clients on a chain known by its id; no fees given.
import assert from "node:assert/strict";
import { createPublicClient, createWalletClient, defineChain, encodeFunctionData, http, verifyTypedData, webSocket } from "viem";
import { generatePrivateKey, privateKeyToAccount } from "viem/accounts";
import { check, failure, given, run, within } from "./checks.mjs";

const chain = defineChain({
  id: given.chainId,
  name: "devnet",
  nativeCurrency: { name: "Bitcoin", symbol: "BTC", decimals: 18 },
  rpcUrls: { default: { http: [given.rpc], webSocket: [given.ws] } },
});
const pollingInterval = 200; // instead of 4 s: only so that the tests are quick
const account = privateKeyToAccount(given.account.privateKey);
const node = createPublicClient({ chain, transport: http(), pollingInterval, cacheTime: 0 });
const wallet = createWalletClient({ account, chain, transport: http() });
const { abi, bytecode } = given.counter;
const fresh = () => privateKeyToAccount(generatePrivateKey());
const mined = async (hash) => node.waitForTransactionReceipt({ hash: await hash });
const write = (functionName, args = [], extra = {}) =>
  wallet.writeContract({ address: counter, abi, functionName, args, ...extra });
const read = (functionName, args = [], extra = {}) =>
  node.readContract({ address: counter, abi, functionName, args, ...extra });
let counter;

check("chain id and block number", async () => {
  assert.equal(await node.getChainId(), given.chainId);
  assert.ok((await node.getBlockNumber()) >= 0n);
});

check("balance", async () => {
  assert.ok((await node.getBalance(account)) > 10n ** 18n);
  assert.equal(await node.getBalance(fresh()), 0n);
});

check("default fees and fee history", async () => {
  const fees = await node.estimateFeesPerGas();
  assert.ok(fees.maxFeePerGas > 0n);
  assert.ok((await node.estimateMaxPriorityFeePerGas()) >= 0n);
  assert.ok((await node.getGasPrice()) > 0n);
  const history = await node.getFeeHistory({ blockCount: 2, rewardPercentiles: [25, 75] });
  assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
});

check("value transfer", async () => {
  const to = fresh().address;
  const receipt = await mined(wallet.sendTransaction({ to, value: 12345n }));
  assert.equal(receipt.status, "success");
  assert.equal(receipt.type, "eip1559");
  assert.equal(receipt.gasUsed, 21000n);
  assert.ok(receipt.effectiveGasPrice > 0n);
  assert.equal(await node.getBalance({ address: to }), 12345n);
});

check("deploy and call", async () => {
  const receipt = await mined(wallet.deployContract({ abi, bytecode, args: [7n] }));
  counter = receipt.contractAddress;
  assert.equal(await read("number"), 7n);
  assert.ok((await node.getCode({ address: counter })).length > 100);
  assert.equal(BigInt(await node.getStorageAt({ address: counter, slot: "0x0" })), 7n);
});

check("simulate, send, and read the event", async () => {
  const { request } = await node.simulateContract({ account, address: counter, abi, functionName: "setNumber", args: [42n] });
  const receipt = await mined(wallet.writeContract(request));
  const [event] = await node.getContractEvents({
    address: counter,
    abi,
    eventName: "Changed",
    args: { who: account.address, number: 42n },
    fromBlock: receipt.blockNumber,
  });
  assert.equal(event.args.note, "set");
  assert.equal(event.transactionHash, receipt.transactionHash);
  assert.equal((await node.getLogs({ blockHash: receipt.blockHash, address: counter })).length, 1);
  assert.equal(await read("number", [], { blockNumber: receipt.blockNumber - 1n }), 7n);
});

check("payable", async () => {
  await mined(write("pay", [], { value: 99n }));
  assert.equal(await read("paid", [account.address]), 99n);
  assert.equal(await node.getBalance({ address: counter }), 99n);
});

check("estimate", async () => {
  assert.equal(await node.estimateGas({ account, to: fresh().address, value: 1n }), 21000n);
  const gas = await node.estimateContractGas({ account, address: counter, abi, functionName: "increment" });
  assert.ok(gas > 25_000n && gas < 60_000n, String(gas));
});

check("three transactions in a row", async () => {
  const first = await node.getTransactionCount({ ...account, blockTag: "pending" });
  const hashes = [];
  for (let index = 0; index < 3; index++) hashes.push(await wallet.sendTransaction({ to: fresh().address, value: 1n }));
  const receipts = await Promise.all(hashes.map((hash) => mined(hash)));
  assert.deepEqual(receipts.map((receipt) => receipt.status), ["success", "success", "success"]);
  const nonces = await Promise.all(hashes.map(async (hash) => (await node.getTransaction({ hash })).nonce));
  assert.deepEqual(nonces, [first, first + 1, first + 2]);
});

check("a revert's reason", async () => {
  const error = await failure(node.simulateContract({ account, address: counter, abi, functionName: "refuse" }));
  assert.match(error.message, /counter: refused on purpose/);
  assert.equal(error.walk((one) => one.name === "ContractFunctionRevertedError").reason, "counter: refused on purpose");
  assert.match((await failure(write("refuse"))).message, /counter: refused on purpose/);
});

check("a custom error and a panic", async () => {
  const error = await failure(write("setNumber", [1_000_001n]));
  const revert = error.walk((one) => one.name === "ContractFunctionRevertedError");
  assert.equal(revert?.data?.errorName ?? /TooFar/.exec(error.message)?.[0], "TooFar");
  const simulated = await failure(node.simulateContract({ address: counter, abi, functionName: "setNumber", args: [1_000_001n] }));
  const reverted = simulated.walk((one) => one.name === "ContractFunctionRevertedError");
  assert.deepEqual(reverted.data.args, [1_000_001n, 1_000_000n]);
  assert.match((await failure(read("divide", [0n]))).message, /Division or modulo by zero/);
});

check("a failed transaction has a receipt", async () => {
  const receipt = await mined(write("refuse", [], { gas: 100_000n }));
  assert.equal(receipt.status, "reverted");
  assert.equal(receipt.logs.length, 0);
});

check("block and transaction", async () => {
  const receipt = await mined(wallet.sendTransaction({ to: account.address, value: 0n }));
  const block = await node.getBlock({ blockNumber: receipt.blockNumber, includeTransactions: true });
  assert.equal(block.hash, receipt.blockHash);
  assert.ok(block.baseFeePerGas > 0n);
  assert.ok(block.transactions.some((one) => one.hash === receipt.transactionHash));
  const transaction = await node.getTransaction({ hash: receipt.transactionHash });
  assert.equal(transaction.blockNumber, receipt.blockNumber);
  assert.equal(transaction.chainId, given.chainId);
  assert.equal(await node.getBlockTransactionCount({ blockHash: block.hash }), block.transactions.length);
  assert.equal((await node.getBlock({ blockHash: block.parentHash })).number, block.number - 1n);
  for (const blockTag of ["earliest", "safe", "finalized", "latest", "pending"]) assert.ok(await node.getBlock({ blockTag }), blockTag);
});

check("legacy, access list and dynamic fee transactions", async () => {
  const data = encodeFunctionData({ abi, functionName: "increment" });
  const accessList = [{ address: counter, storageKeys: ["0x" + "00".repeat(32)] }];
  for (const [type, extra] of [["legacy", {}], ["eip2930", { accessList }], ["eip1559", { accessList }]]) {
    const receipt = await mined(wallet.sendTransaction({ type, to: counter, data, ...extra }));
    assert.equal(receipt.status, "success", type);
    assert.equal(receipt.type, type);
    const transaction = await node.getTransaction({ hash: receipt.transactionHash });
    assert.equal(transaction.type, type);
    assert.ok(transaction.gasPrice > 0n);
    if (type !== "legacy") assert.equal(transaction.accessList[0].address.toLowerCase(), counter.toLowerCase());
  }
});

check("set code transaction", async () => {
  const authority = fresh();
  const authorization = await wallet.signAuthorization({ account: authority, contractAddress: counter });
  const data = encodeFunctionData({ abi, functionName: "setNumber", args: [5n] });
  const receipt = await mined(wallet.sendTransaction({ to: authority.address, data, authorizationList: [authorization] }));
  assert.equal(receipt.type, "eip7702");
  assert.equal(receipt.status, "success");
  assert.equal(await node.getCode(authority), "0xef0100" + counter.slice(2).toLowerCase());
  assert.equal(await node.readContract({ address: authority.address, abi, functionName: "number" }), 5n);
  const transaction = await node.getTransaction({ hash: receipt.transactionHash });
  assert.equal(transaction.authorizationList.length, 1);
});

check("access list and proof from the node", async () => {
  const made = await node.createAccessList({ account, to: counter, data: encodeFunctionData({ abi, functionName: "increment" }) });
  assert.ok(made.gasUsed > 0n);
  assert.ok(made.accessList.some((one) => one.address.toLowerCase() === counter.toLowerCase()));
  const proof = await node.getProof({ address: counter, storageKeys: ["0x" + "00".repeat(32)] });
  assert.ok(proof.accountProof.length > 0);
  assert.equal(proof.storageProof[0].value, await read("number"));
});

check("call with a state override, and a batch of calls", async () => {
  const call = { address: counter, abi, functionName: "number" };
  const slot = { slot: "0x" + "00".repeat(32), value: "0x" + "09".padStart(64, "0") };
  assert.equal(await node.readContract({ ...call, stateOverride: [{ address: counter, stateDiff: [slot] }] }), 9n);
  const batched = createPublicClient({ chain, transport: http(given.rpc, { batch: true }) });
  const [number, balance, id] = await Promise.all([batched.readContract(call), batched.getBalance({ address: counter }), batched.getChainId()]);
  assert.equal(number, await read("number"));
  assert.equal(balance, 99n);
  assert.equal(id, given.chainId);
});

check("eth_simulateV1", async () => {
  const { results } = await node.simulateCalls({
    account,
    calls: [{ to: counter, abi, functionName: "setNumber", args: [3n] }, { to: counter, abi, functionName: "number" }],
  });
  assert.deepEqual(results.map((one) => one.status), ["success", "success"]);
  assert.equal(results[1].result, 3n);
});

check("EIP-712 and personal signatures are local", async () => {
  const message = { graph: "0x" + "11".repeat(32), fee: 5n };
  const typed = {
    domain: { name: "Hyperdust", version: "1", chainId: given.chainId, verifyingContract: counter },
    types: { Job: [{ name: "graph", type: "bytes32" }, { name: "fee", type: "uint256" }] },
    primaryType: "Job",
    message,
  };
  const signature = await wallet.signTypedData(typed);
  assert.ok(await verifyTypedData({ ...typed, address: account.address, signature }));
  assert.ok(await node.verifyMessage({ address: account.address, message: "hello", signature: await wallet.signMessage({ message: "hello" }) }));
});

check("filters", async () => {
  const changed = await node.createContractEventFilter({ address: counter, abi, eventName: "Changed" });
  const blocks = await node.createBlockFilter();
  const pending = await node.createPendingTransactionFilter();
  const receipt = await mined(write("setNumber", [61n]));
  const logs = await node.getFilterChanges({ filter: changed });
  assert.deepEqual(logs.map((log) => log.args.number), [61n]);
  assert.deepEqual(await node.getFilterChanges({ filter: changed }), []);
  assert.equal((await node.getFilterLogs({ filter: changed })).filter((log) => log.args.number === 61n).length, 1);
  assert.ok((await node.getFilterChanges({ filter: blocks })).includes(receipt.blockHash));
  assert.ok((await node.getFilterChanges({ filter: pending })).includes(receipt.transactionHash));
  assert.equal(await node.uninstallFilter({ filter: changed }), true);
  assert.ok(await failure(node.getFilterChanges({ filter: changed })));
});

check("polled blocks and events", async () => {
  const seen = new Promise((resolve, onError) => {
    node.watchContractEvent({ address: counter, abi, eventName: "Changed", onLogs: resolve, onError });
  });
  const block = new Promise((resolve, onError) => node.watchBlocks({ onBlock: resolve, onError }));
  assert.ok((await within(block, "block")).number >= 0n);
  await mined(write("setNumber", [77n]));
  assert.equal((await within(seen, "event"))[0].args.number, 77n);
});

check("errors that viem knows by the node's words", async () => {
  const poor = fresh();
  const broke = await failure(wallet.sendTransaction({ account: poor, to: account.address, value: 1n, gas: 21_000n }));
  assert.ok(broke.walk((one) => one.name === "InsufficientFundsError"), broke.message);
  const old = await failure(wallet.sendTransaction({ to: account.address, nonce: 0, gas: 21_000n }));
  assert.ok(old.walk((one) => one.name === "NonceTooLowError"), old.message);
});

check("WebSocket: new heads, logs and pending transactions", async () => {
  const socket = createPublicClient({ chain, transport: webSocket() });
  const heads = [];
  const two = new Promise((resolve, onError) => {
    socket.watchBlocks({ onBlock: (block) => heads.push(block.number) === 2 && resolve(), onError });
  });
  const log = new Promise((resolve, onError) => {
    socket.watchContractEvent({ address: counter, abi, eventName: "Changed", onLogs: resolve, onError });
  });
  const pending = new Promise((resolve, onError) => {
    socket.watchPendingTransactions({ batch: false, onTransactions: ([hash]) => resolve(hash), onError });
  });
  await within(two, "two heads");
  assert.equal(heads[1], heads[0] + 1n);
  const sent = await write("setNumber", [88n]);
  assert.equal((await within(log, "log"))[0].args.number, 88n);
  assert.equal(await within(pending, "pending transaction"), sent);
  assert.equal(await socket.getChainId(), given.chainId);
});

await run();
