// ethers 6 as its guide shows it: a JsonRpcProvider, a WebSocketProvider, a Wallet, a ContractFactory; no options, no fees given.
import assert from "node:assert/strict";
import { AbiCoder, Contract, ContractFactory, JsonRpcProvider, NonceManager, Wallet, WebSocketProvider, verifyTypedData } from "ethers";
import { check, failure, given, run, within } from "./checks.mjs";

const provider = new JsonRpcProvider(given.rpc);
provider.pollingInterval = 200; // instead of 4 s: only so that the tests are quick
const wallet = new Wallet(given.account.privateKey, provider);
const fresh = () => Wallet.createRandom().connect(provider);
let counter;

check("network and block number", async () => {
  assert.equal((await provider.getNetwork()).chainId, BigInt(given.chainId));
  assert.ok((await provider.getBlockNumber()) >= 0);
});

check("balance", async () => {
  assert.ok((await provider.getBalance(wallet.address)) > 10n ** 18n);
  assert.equal(await provider.getBalance(fresh().address), 0n);
});

check("default fees", async () => {
  const fees = await provider.getFeeData();
  assert.ok(fees.gasPrice > 0n);
  assert.ok(fees.maxFeePerGas > 0n);
  assert.ok(fees.maxPriorityFeePerGas >= 0n);
});

check("value transfer", async () => {
  const to = fresh().address;
  const sent = await wallet.sendTransaction({ to, value: 12345n });
  const receipt = await sent.wait();
  assert.equal(receipt.status, 1);
  assert.equal(receipt.type, 2);
  assert.equal(receipt.gasUsed, 21000n);
  assert.ok(receipt.gasPrice > 0n);
  assert.equal(receipt.from, wallet.address);
  assert.equal(receipt.to, to);
  assert.equal(await provider.getBalance(to), 12345n);
});

check("deploy and call", async () => {
  const factory = new ContractFactory(given.counter.abi, given.counter.bytecode, wallet);
  counter = await factory.deploy(7);
  await counter.waitForDeployment();
  assert.equal(await counter.number(), 7n);
  assert.notEqual(await provider.getCode(await counter.getAddress()), "0x");
  assert.equal(BigInt(await provider.getStorage(await counter.getAddress(), 0)), 7n);
});

check("send to a contract and read its event", async () => {
  const receipt = await (await counter.setNumber(42)).wait();
  const event = counter.interface.parseLog(receipt.logs[0]);
  assert.equal(event.name, "Changed");
  assert.deepEqual([...event.args], [wallet.address, 42n, "set"]);
  assert.ok(Number.isInteger(receipt.logs[0].index));
  const found = await counter.queryFilter(counter.filters.Changed(wallet.address, 42), receipt.blockNumber, "latest");
  assert.equal(found.length, 1);
  assert.equal(found[0].transactionHash, receipt.hash);
  assert.equal(await counter.number(), 42n);
  assert.equal(await counter.number({ blockTag: receipt.blockNumber - 1 }), 7n);
});

check("payable", async () => {
  await (await counter.pay({ value: 99n })).wait();
  assert.equal(await counter.paid(wallet.address), 99n);
  assert.equal(await provider.getBalance(await counter.getAddress()), 99n);
});

check("estimate", async () => {
  assert.equal(await provider.estimateGas({ from: wallet.address, to: fresh().address, value: 1n }), 21000n);
  const gas = await counter.increment.estimateGas();
  assert.ok(gas > 25_000n && gas < 60_000n, String(gas));
});

check("three transactions in a row", async () => {
  const first = await wallet.getNonce("pending");
  const sender = new NonceManager(wallet); // a bare Wallet remembers the node's answer for 250 ms and would repeat a nonce
  const sent = [];
  for (let index = 0; index < 3; index++) sent.push(await sender.sendTransaction({ to: fresh().address, value: 1n }));
  assert.deepEqual(sent.map((one) => one.nonce), [first, first + 1, first + 2]);
  assert.deepEqual((await Promise.all(sent.map((one) => one.wait()))).map((receipt) => receipt.status), [1, 1, 1]);
  assert.equal(await wallet.getNonce("latest"), first + 3);
});

check("a revert's reason", async () => {
  const error = await failure(counter.refuse());
  assert.equal(error.code, "CALL_EXCEPTION");
  assert.equal(error.reason, "counter: refused on purpose");
});

check("a custom error", async () => {
  const error = await failure(counter.setNumber.staticCall(1_000_001));
  assert.equal(error.revert.name, "TooFar");
  assert.deepEqual([...error.revert.args], [1_000_001n, 1_000_000n]);
});

check("a panic", async () => {
  const error = await failure(counter.divide(0));
  assert.equal(error.revert.name, "Panic");
  assert.equal(error.revert.args[0], 18);
});

check("a failed transaction has a receipt", async () => {
  const sent = await counter.refuse({ gasLimit: 100_000 });
  const error = await failure(sent.wait());
  assert.equal(error.code, "CALL_EXCEPTION");
  assert.equal(error.receipt.status, 0);
  assert.equal((await provider.getTransactionReceipt(sent.hash)).status, 0);
});

check("block and transaction", async () => {
  const receipt = await (await wallet.sendTransaction({ to: wallet.address, value: 0n })).wait();
  const block = await provider.getBlock(receipt.blockNumber, true);
  assert.equal(block.hash, receipt.blockHash);
  assert.ok(block.baseFeePerGas > 0n);
  assert.ok(block.transactions.includes(receipt.hash));
  assert.equal(block.getPrefetchedTransaction(receipt.hash).nonce, (await provider.getTransaction(receipt.hash)).nonce);
  assert.equal((await provider.getBlock(block.parentHash)).number, block.number - 1);
  for (const tag of ["earliest", "safe", "finalized", "latest", "pending"]) assert.ok(await provider.getBlock(tag), tag);
});

check("legacy, access list and dynamic fee transactions", async () => {
  const to = await counter.getAddress();
  const data = counter.interface.encodeFunctionData("increment");
  const accessList = [{ address: to, storageKeys: ["0x" + "00".repeat(32)] }];
  for (const [type, extra] of [[0, {}], [1, { accessList }], [2, { accessList }]]) {
    const sent = await wallet.sendTransaction({ type, to, data, ...extra });
    const receipt = await sent.wait();
    assert.equal(receipt.status, 1);
    assert.equal(receipt.type, type);
    const seen = await provider.getTransaction(sent.hash);
    assert.equal(seen.type, type);
    assert.equal(seen.from, wallet.address);
    if (type > 0) assert.equal(seen.accessList[0].address, to);
  }
});

check("set code transaction", async () => {
  const authority = fresh();
  const target = await counter.getAddress();
  const authorization = await authority.authorize({ address: target });
  const sent = await wallet.sendTransaction({
    type: 4,
    to: authority.address,
    data: counter.interface.encodeFunctionData("setNumber", [5]),
    authorizationList: [authorization],
  });
  const receipt = await sent.wait();
  assert.equal(receipt.type, 4);
  assert.equal(receipt.status, 1);
  assert.equal(await provider.getCode(authority.address), "0xef0100" + target.slice(2).toLowerCase());
  assert.equal(await new Contract(authority.address, given.counter.abi, provider).number(), 5n);
  const seen = await provider.getTransaction(sent.hash);
  assert.equal(seen.authorizationList[0].address, target);
});

check("personal and EIP-712 signatures are local", async () => {
  const domain = { name: "Hyperdust", version: "1", chainId: given.chainId, verifyingContract: await counter.getAddress() };
  const types = { Job: [{ name: "graph", type: "bytes32" }, { name: "fee", type: "uint256" }] };
  const job = { graph: "0x" + "11".repeat(32), fee: 5n };
  const signature = await wallet.signTypedData(domain, types, job);
  assert.equal(verifyTypedData(domain, types, job, signature), wallet.address);
  assert.ok((await wallet.signMessage("hello")).length === 132);
});

check("polled events", async () => {
  const seen = new Promise((resolve) => counter.once("Changed", (who, number) => resolve([who, number])));
  await counter.on("Paid", () => {}); // the listener's filter exists before the transaction is sent
  await (await counter.setNumber(77)).wait();
  assert.deepEqual(await within(seen, "event"), [wallet.address, 77n]);
  await counter.removeAllListeners();
});

check("raw error of the node", async () => {
  const poor = fresh();
  const error = await failure(poor.sendTransaction({ to: wallet.address, value: 1n, gasLimit: 21_000 }));
  assert.equal(error.code, "INSUFFICIENT_FUNDS");
});

check("nonce already used", async () => {
  const error = await failure(wallet.sendTransaction({ to: wallet.address, nonce: 0, gasLimit: 21_000 }));
  assert.equal(error.code, "NONCE_EXPIRED");
});

check("WebSocket: new heads and logs", async () => {
  const socket = new WebSocketProvider(given.ws);
  const heads = new Promise((resolve) => {
    const numbers = [];
    socket.on("block", (number) => numbers.push(number) === 2 && resolve(numbers));
  });
  const watched = counter.connect(socket);
  const logs = new Promise((resolve) => watched.once("Changed", (who, number) => resolve(number)));
  const [first, second] = await within(heads, "two heads");
  assert.equal(second, first + 1);
  await (await counter.setNumber(88)).wait();
  assert.equal(await within(logs, "log"), 88n);
  assert.equal((await socket.getNetwork()).chainId, BigInt(given.chainId));
  await socket.destroy();
});

check("abi round trip through eth_call on a creation", async () => {
  const factory = new ContractFactory(given.counter.abi, given.counter.bytecode);
  const { data } = await factory.getDeployTransaction(9);
  const code = await provider.call({ data });
  assert.ok(code.length > 100);
  assert.ok(data.endsWith(AbiCoder.defaultAbiCoder().encode(["uint256"], [9]).slice(2)));
});

await run();
