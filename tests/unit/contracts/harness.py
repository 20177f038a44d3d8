"""A chain of predeploys: committed runtime code at fixed addresses, initialized as genesis does, on py-evm (Prague)."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import blake3
import boa
import pytest
from boa.util.abi import Address
from boa.vm.py_evm import register_raw_precompile
from eth_abi.abi import decode, encode
from eth_utils import keccak
from eth_utils.abi import collapse_if_tuple

from chain.hashing import H

ROOT = Path(__file__).resolve().parents[3]
GENESIS = json.loads((ROOT / "genesis" / "regtest.json").read_text(encoding="utf-8"))
SYSTEM = "0xfffffffffffffffffffffffffffffffffffffffe"
BLAKE3 = GENESIS["precompiles"]["addresses"][0]
NOBODY = "0x" + "00" * 20
BTC = 10**18
ERROR = keccak(b"Error(string)")[:4]


def _blake3(computation):
    computation.output = blake3.blake3(computation.msg.data_as_bytes).digest()
    return computation


register_raw_precompile(Address(BLAKE3), _blake3, force=True)


class Reverted(Exception):
    """A call reverted; the message is the contract's reason."""


class Call:
    """One function of a predeploy."""

    def __init__(self, network, address, entry):
        self._network, self._address, self._entry = network, address, entry
        self._inputs = [collapse_if_tuple(part) for part in entry["inputs"]]
        self._outputs = [collapse_if_tuple(part) for part in entry.get("outputs", [])]
        self._selector = keccak(text=f"{entry['name']}({','.join(self._inputs)})")[:4]

    def __call__(self, *arguments, sender=None, value=0, gas=30_000_000):
        data = self._selector + encode(self._inputs, arguments)
        output = self._network.send(self._address, data, sender=sender, value=value, gas=gas)
        values = decode(self._outputs, output)
        return values[0] if len(values) == 1 else values or None


class Contract:
    """Functions of a predeploy as attributes, its events by `events`."""

    def __init__(self, network, address, abi):
        self.address, self.abi = address, abi
        self._network = network
        for entry in abi:
            if entry["type"] == "function":
                setattr(self, entry["name"], Call(network, address, entry))

    def fields(self, function, values):
        (entry,) = [part for part in self.abi if part.get("name") == function]
        return dict(zip([part["name"] for part in entry["outputs"][0]["components"]], values, strict=True))


class Network:
    """Block number, beacons and calls of one small chain."""

    def __init__(self, **numbers):
        self.numbers = GENESIS | numbers
        self.boa = boa.Env()
        self.logs = []
        self.gas_used = 0
        self.abis = {}
        for name, pin in GENESIS["contracts"].items():
            artifact = json.loads((ROOT / "genesis" / "artifacts" / f"{name}.json").read_text(encoding="utf-8"))
            self.boa.set_code(pin["address"], bytes.fromhex(artifact["bytecode"].removeprefix("0x")))
            self.abis[pin["address"]] = artifact["abi"]
            setattr(self, name, Contract(self, pin["address"], artifact["abi"]))
        self.number = 0
        for name, (_, keys) in self.numbers["initialize"].items():
            getattr(self, name).initialize(*(int(self.numbers[key]) for key in keys), sender=SYSTEM)

    @property
    def number(self):
        return self.boa.evm.patch.block_number

    @number.setter
    def number(self, value):
        self.boa.evm.patch.block_number = value
        self.boa.evm.patch.prevrandao = beacon_of(value)

    def account(self, label, balance=100 * BTC):
        address = "0x" + keccak(text=label)[12:].hex()
        if self.boa.get_balance(Address(address)) == 0:
            self.boa.set_balance(Address(address), balance)
        return address

    def balance(self, address):
        return self.boa.get_balance(Address(address))

    def send(self, to, data, *, sender=None, value=0, gas=30_000_000):
        computation = self.boa.execute_code(
            to_address=Address(to), sender=Address(sender or self.account("anyone")), value=value, data=data, gas=gas
        )
        if computation.is_error:
            raise Reverted(reason_of(computation))
        self.gas_used = gas - computation.get_gas_remaining()
        self.logs = list(computation.get_raw_log_entries())
        return computation.output

    def events(self):
        """Events of the last call: (name, fields)."""
        return [self._event(*entry[1:]) for entry in self.logs]

    def _event(self, address, topics, data):
        for entry in self.abis["0x" + address.hex()]:
            types = [collapse_if_tuple(part) for part in entry.get("inputs", [])]
            if entry["type"] != "event" or keccak(text=f"{entry['name']}({','.join(types)})") != topics[0].to_bytes(
                32, "big"
            ):
                continue
            indexed = [part["name"] for part in entry["inputs"] if part["indexed"]]
            kinds = [collapse_if_tuple(part) for part in entry["inputs"] if part["indexed"]]
            fields = {
                name: decode([kind], topic.to_bytes(32, "big"))[0]
                for name, kind, topic in zip(indexed, kinds, topics[1:], strict=True)
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
        self.boa.set_code(address, runtime)
        return address


def beacon_of(number):
    return keccak(b"beacon" + number.to_bytes(8, "big"))


def reason_of(computation):
    output = computation.output
    if output[:4] == ERROR:
        return decode(["string"], output[4:])[0]
    return repr(computation.error) + output.hex()


@contextmanager
def reverts(reason) -> Iterator[None]:
    with pytest.raises(Reverted) as caught:
        yield
    assert str(caught.value) == reason


def top_layer(name="minilm", symbols=((b"S", 1, 128),), tail=b"rest of the graph"):
    """The beginning of a top layer's encoding; the registry reads no further than the symbols."""
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
    network.GraphRegistry.register(graph, name, layer, operands, macs, mining, sender=sender)
    return graph


def join(network, graph, label, bond=None):
    """Bond an account and let it serve a graph."""
    provider = network.account(label)
    network.Bonds.deposit(sender=provider, value=bond or int(network.numbers["min_bond_wei"]))
    network.Bonds.serve(graph, sender=provider)
    return provider


def commit(trace_root, provider):
    return keccak(encode(["bytes32", "address"], [trace_root, provider]))
