"""A whole chain in one process: real store, engine, importer and builder; its one graph is small enough to mine."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount

from bridge.view import BitcoinView
from chain.blocks import Block
from chain.params import ChainParams
from consensus.certificate import Certificate, sign_seal
from hyperdust.node.builder import Builder, Template
from hyperdust.node.contracts import State
from hyperdust.node.genesis import Network, build_genesis, load_network, registration_call
from hyperdust.node.importer import Importer
from hyperdust.node.mempool import Mempool
from hyperdust.node.store import Store, open_store
from pouw import ticket
from pouw.graph_encoding import compute_graph_id, encode_top_layer
from pouw.hypergraph import Constant, Hypergraph, Operator, Port, Subgraph, SubgraphInput, SubgraphOutput, Symbol
from pouw.operators.rules import MATMUL
from pouw.operators.types import TensorType
from pouw.trace import INT8, INT32, tensor_root

MINER: Final = Account.from_key(b"\x11" * 32)
OTHER_MINER: Final = Account.from_key(b"\x12" * 32)
START: Final = 1_800_000_000
K: Final = 512
N: Final = 64


@cache
def weights() -> np.ndarray:
    """B transposed, int8[N, K], 7-bit."""
    return np.random.default_rng(7).integers(-63, 64, (N, K), np.int8)


@cache
def graph() -> Hypergraph:
    """One mining product with `S` rows."""
    constant = Constant(tensor_root(weights()), TensorType(INT8, (N, K)))
    operator = Operator(MATMUL, "product", (SubgraphInput(0), constant), (1,))
    output = SubgraphOutput(Port("y", TensorType(INT32, ("S", N))), 0)
    subgraph = Subgraph("only", ("x",), (output,), (operator,))
    return Hypergraph("small", (Symbol("S", 1, 64),), (Port("x", TensorType(INT8, ("S", K))),), ("y",), (subgraph,))


def graph_id() -> bytes:
    return compute_graph_id(encode_top_layer(graph()))


def small_network() -> Network:
    regtest = load_network("regtest")
    params = replace(regtest.params, network="small", genesis_timestamp=START, difficulty_floor=16 * 16 * K * 4)
    without_graphs = tuple(call for call in regtest.calls if call.data[:4] != registration_call(graph()).data[:4])
    return Network(params, regtest.alloc, (*without_graphs, registration_call(graph())), {"small": graph_id()})


@dataclass
class Clock:
    """Unix seconds that a test moves."""

    now: float = START + 1

    def __call__(self) -> float:
        return self.now


class SmallChain:
    """A node without doors. `mine` finds a real ticket and returns the block; `extend` imports it too."""

    def __init__(self, folder: Path, bitcoin: BitcoinView | None = None) -> None:
        self.network = self.make_network()
        self.clock = Clock()
        self.store: Store = open_store(folder)
        if self.store.latest.is_empty:
            self.store.write_genesis(build_genesis(self.network))
        self.importer = Importer(self.store, self.params, self.clock, bitcoin)
        self.mempool = Mempool(self.params, self.store)
        self.importer.subscribe(self.mempool.on_imported)
        self.builder = Builder(self.params, self.store, self.mempool, clock=self.clock, bitcoin=bitcoin)

    def make_network(self) -> Network:
        return small_network()

    @property
    def params(self) -> ChainParams:
        return self.network.params

    @property
    def state(self) -> State:
        view = self.store.latest
        return State(view.head.header, view.state_at(view.head.hash).read_many)

    def template(self, miner: LocalAccount = MINER) -> Template:
        self.clock.now = self.store.latest.head.header.timestamp + self.params.spacing_s
        return self.builder.build(bytes.fromhex(miner.address[2:]))

    def mine(self, miner: LocalAccount = MINER, change: Callable[[Template], Template] = lambda same: same) -> Block:
        template = change(self.template(miner))
        certificate, nonce = find_ticket(template, miner)
        return self.builder.assemble(template, nonce, certificate.encode())

    def extend(self, blocks: int = 1, miner: LocalAccount = MINER) -> Block:
        """Mine and import; the last block."""
        for _ in range(blocks):
            block = self.mine(miner)
            self.importer.import_block(block)
        return block

    def close(self) -> None:
        self.store.close()


def find_ticket(template: Template, miner: LocalAccount, label: int = 0) -> tuple[Certificate, bytes]:
    """Multiply rows of the miner's own until a tile wins."""
    root_b = tensor_root(weights())
    key_b = ticket.compute_key_b(template.parent_hash, root_b)
    prepared = ticket.prepare_weights(weights(), key_b)
    seal_hash = template.seal_hash
    rows = np.random.default_rng(int.from_bytes(seal_hash[:4])).integers(-63, 64, (16, K), np.int8)
    limit = ticket.threshold(template.header.difficulty, K)
    for attempt in range(1000):
        nonce = attempt.to_bytes(8, "little")
        key_a = ticket.compute_key_a(key_b, seal_hash, nonce, tensor_root(rows), root_b, 16, N, K)
        for row_block, column_block, _ in ticket.mine(rows, prepared, key_a, limit).winners:
            proof = ticket.open_ticket(rows, weights(), row_block, column_block)
            return Certificate(graph_id(), 0, label, sign_seal(seal_hash, bytes(miner.key)), proof), nonce
    raise AssertionError("no ticket in 1,000 products")
