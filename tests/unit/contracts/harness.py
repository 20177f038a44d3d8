"""A chain of predeploys: committed runtime code at fixed addresses, initialized as genesis does, on our own engine."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from chain.engine import AccountOverride, BlockEnvironment, CallMessage, account_proof, call, genesis_state, simulate
from chain.hashing import H
from precompiles.graph_facts import TYPES, graph_facts
from precompiles.registry import GRAPH_FACTS, PRECOMPILES

ROOT = Path(__file__).resolve().parents[3]
GENESIS = json.loads((ROOT / "genesis" / "regtest.json").read_text(encoding="utf-8"))
SYSTEM = "0xfffffffffffffffffffffffffffffffffffffffe"
NOBODY = "0x" + "00" * 20
BTC = 10**18
ERROR = keccak(b"Error(string)")[:4]


INVENTED = {}
"""Facts that a test invents, by what it gives out as a part of a graph file, behind its first subgraph's number."""


def _graph_facts(call):
    return INVENTED.get(call) or graph_facts(call)


class Reverted(Exception):
    """A call reverted; the message is the contract's reason."""


class Call:
    """One function of a predeploy; of two with one name, the one that takes as many arguments."""

    def __init__(self, network, address, entries):
        self._network, self._address = network, address
        self._entries = {len(entry["inputs"]): entry for entry in entries}

    def __call__(self, *arguments, sender=None, value=0, gas=30_000_000):
        entry = self._entries[len(arguments)]
        inputs = [collapse_if_tuple(part) for part in entry["inputs"]]
        outputs = [collapse_if_tuple(part) for part in entry.get("outputs", [])]
        selector = keccak(text=f"{entry['name']}({','.join(inputs)})")[:4]
        network, data = self._network, selector + encode(inputs, arguments)
        if entry["stateMutability"] in {"view", "pure"}:
            output = network.look(self._address, data, sender=sender)
        else:
            output = network.send(self._address, data, sender=sender, value=value, gas=gas)
        values = decode(outputs, output)
        return values[0] if len(values) == 1 else values or None


class Contract:
    """Functions of a predeploy as attributes, its events by `events`."""

    def __init__(self, network, address, abi):
        self.address, self.abi = address, abi
        self._network = network
        functions = {}
        for entry in abi:
            if entry["type"] == "function":
                functions.setdefault(entry["name"], []).append(entry)
        for name, entries in functions.items():
            setattr(self, name, Call(network, address, entries))

    def fields(self, function, values):
        (entry,) = [part for part in self.abi if part.get("name") == function]
        return dict(zip([part["name"] for part in entry["outputs"][0]["components"]], values, strict=True))


class Network:
    """Block number, beacons and calls of one small chain. `precompiles` stand in for, or beside, the real ones."""

    def __init__(self, precompiles=(), base_fee=0, **numbers):
        self.numbers = GENESIS | numbers
        self.logs = []
        self.gas_used = 0
        self.abis = {}
        self.chain_id = GENESIS["chain_id"]
        self.number = 0
        self.base_fee = base_fee  # what BASEFEE says; nobody pays it
        precompiles = (*precompiles, (GRAPH_FACTS, _graph_facts, 40_000, 0))
        stand_ins = {entry[0] for entry in precompiles}
        self.precompiles = (*precompiles, *(entry for entry in PRECOMPILES if entry[0] not in stand_ins))
        alloc = {entry[0]: AccountOverride(code=b"\xfe") for entry in self.precompiles}
        for name, pin in GENESIS["contracts"].items():
            artifact = json.loads((ROOT / "genesis" / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
            code = bytes.fromhex(artifact["bytecode"].removeprefix("0x"))
            alloc[_bytes(pin["address"])] = AccountOverride(code=code, nonce=1)
            self.abis[pin["address"]] = artifact["abi"]
            setattr(self, name, Contract(self, pin["address"], artifact["abi"]))
        self.state = dict(genesis_state(alloc)[0])
        for name, (_, keys) in self.numbers["initialize"].items():
            getattr(self, name).initialize(*(int(self.numbers[key]) for key in keys), sender=SYSTEM)

    def account(self, label, balance=100 * BTC):
        address = "0x" + keccak(text=label)[12:].hex()
        if self.balance(address) == 0:
            self._set(address, AccountOverride(balance=balance))
        return address

    def balance(self, address):
        return account_proof(_bytes(address), (), self._read_many).balance

    def set_balance(self, address, amount):
        self._set(address, AccountOverride(balance=amount))

    def set_code(self, address, code):
        self._set(address, AccountOverride(code=code))

    def send(self, to, data, *, sender=None, value=0, gas=30_000_000):
        """A message that changes the state unless it fails."""
        sender = sender or self.account("anyone")
        overrides = {}
        if self.base_fee:  # the engine shows it to those alone who pay it: give the sender as much before
            held = self.balance(sender) + gas * self.base_fee
            overrides = {_bytes(sender): AccountOverride(balance=held)}
        message = CallMessage(_bytes(sender), _bytes(to), data, value, gas, self.base_fee)
        result = self._simulate(message, overrides)
        if not result.success:
            raise Reverted(reason_of(result))
        if self.base_fee:
            self.set_balance(sender, self.balance(sender) - (gas - result.gas_used) * self.base_fee)
        self.gas_used = result.gas_used
        self.logs = list(result.logs)
        return result.output

    def look(self, to, data, *, sender=None):
        """A call that changes nothing."""
        message = CallMessage(_bytes(sender or NOBODY), _bytes(to), data)
        result = call(self._environment, message, self._read_many, precompiles=self.precompiles)
        if not result.success:
            raise Reverted(reason_of(result))
        return result.output

    def _set(self, address, override):
        anyone = CallMessage(_bytes(SYSTEM), _bytes(SYSTEM))
        self._simulate(anyone, {_bytes(address): override})

    def _simulate(self, message, overrides):
        results, writes, _ = simulate(
            self._environment, [message], self._read_many, overrides=overrides, precompiles=self.precompiles
        )
        if results[0].success:
            self.state.update(writes)
        return results[0]

    def _read_many(self, keys):
        return [self.state.get(key) for key in keys]

    @property
    def _environment(self):
        return BlockEnvironment(
            chain_id=self.chain_id,
            fork=GENESIS["fork"],
            number=self.number,
            timestamp=GENESIS["genesis_timestamp"] + self.number,
            coinbase=bytes(20),
            gas_limit=GENESIS["gas_limit"],
            base_fee=self.base_fee,
            prev_randao=beacon_of(self.number),
            parent_hash=None,
            parent_beacon_root=None,
        )

    def events(self):
        """Events of the last call: (name, fields)."""
        return [self._event(log.address, log.topics, log.data) for log in self.logs]

    def _event(self, address, topics, data):
        for entry in self.abis["0x" + address.hex()]:
            types = [collapse_if_tuple(part) for part in entry.get("inputs", [])]
            if entry["type"] != "event" or keccak(text=f"{entry['name']}({','.join(types)})") != topics[0]:
                continue
            indexed = [part["name"] for part in entry["inputs"] if part["indexed"]]
            kinds = [collapse_if_tuple(part) for part in entry["inputs"] if part["indexed"]]
            fields = {
                name: decode([kind], topic)[0] for name, kind, topic in zip(indexed, kinds, topics[1:], strict=True)
            }
            plain = [part for part in entry["inputs"] if not part["indexed"]]
            values = decode([collapse_if_tuple(part) for part in plain], data)
            return entry["name"], fields | dict(zip([part["name"] for part in plain], values, strict=True))
        raise AssertionError("an event that is in no ABI")

    def open_block(self, coinbase=NOBODY, difficulty=0):
        """Begin the next block: its system call is about the block before."""
        self.number += 1
        self.Dust.open_block(coinbase, difficulty, sender=SYSTEM)

    def mine(self, blocks=1):
        for _ in range(blocks):
            self.open_block()

    def skip_to(self, number):
        """Go on to a block without the system calls between."""
        assert number > self.number
        self.number = number - 1
        self.open_block()

    def deploy(self, runtime, label):
        """Put a contract of the test's at an address."""
        address = "0x" + keccak(text=label)[12:].hex()
        self.set_code(address, runtime)
        return address


def _bytes(address):
    return bytes.fromhex(address[2:])


def beacon_of(number):
    return keccak(b"beacon" + number.to_bytes(8, "big"))


def reason_of(result):
    if result.output[:4] == ERROR:
        return decode(["string"], result.output[4:])[0]
    return f"{result.error} {result.output.hex()}"


@contextmanager
def reverts(reason) -> Iterator[None]:
    with pytest.raises(Reverted) as caught:
        yield
    assert str(caught.value) == reason


def top_layer(name="minilm", symbols=((b"S", 1, 128),), tail=b"rest of the graph"):
    """The beginning of a top layer's encoding; `register` invents the facts of the rest."""
    out = bytes([1, len(name)]) + name.encode() + bytes([len(symbols)])
    for label, low, high in symbols:
        out += bytes([len(label)]) + label + low.to_bytes(4, "little") + high.to_bytes(4, "little")
    return out + tail


MACS = ((1_000_000, (1, 0, 0, 0)), (768, (2, 0, 0, 0)))
MINING_MACS = ((600_000, (1, 0, 0, 0)),)
OPERANDS = ((3, b"\1" * 32, 1536, 384), (9, b"\2" * 32, 1536, 384))


def register(network, layer=None, name="minilm", operands=OPERANDS, macs=MACS, mining=MINING_MACS, sender=SYSTEM):
    layer = top_layer(name) if layer is None else layer
    graph = H("hypergraph", layer)
    symbols = symbols_of(layer)
    INVENTED[bytes(2) + file_of(layer)] = encode(TYPES, (graph, name, symbols, 1, 1, operands, macs, mining))
    if sender != SYSTEM:
        network.number += 1  # block 0 is the system's
        network.GraphRegistry.announce(announcement(graph, sender), sender=sender)
        network.number += 1
    assert network.GraphRegistry.register(file_of(layer), sender=sender) == graph
    return graph


def file_of(layer):
    return len(layer).to_bytes(4, "little") + layer


def announcement(graph, owner):
    return keccak(encode(["bytes32", "address"], [graph, owner]))


def symbols_of(layer):
    """Bounds of the symbols in a top layer."""
    place = 2 + layer[1]
    found = []
    for _ in range(layer[place]):
        place += 1 + layer[place + 1]
        found.append(tuple(int.from_bytes(layer[place + i : place + i + 4], "little") for i in (1, 5)))
        place += 8
    return found


def join(network, graph, label, bond=None):
    """Bond an account and let it serve a graph."""
    provider = network.account(label)
    network.Bonds.deposit(sender=provider, value=bond or int(network.numbers["min_bond_wei"]))
    network.Bonds.serve(graph, sender=provider)
    return provider


def commit(trace_root, provider):
    return keccak(encode(["bytes32", "address"], [trace_root, provider]))
