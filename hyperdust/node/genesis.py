"""A network's table, read from its file, and the block 0 that follows from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from eth_abi import encode
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, ZERO_HASH, Block, Body, Header
from chain.engine import AccountOverride, BlockEnvironment, SystemCall, execute, genesis_state
from chain.errors import HyperdustError, NodeFault
from chain.hashing import keccak256
from chain.params import BRIDGE, GRAPH_REGISTRY, ChainParams, FinalityParams, KeySet, PegParams
from chain.state import PEG_KEY
from consensus.peg_terms import encode_genesis_peg
from hyperdust.contracts_abi import encode_call, load_artifact
from hyperdust.node.store import ExecutedBlock
from pouw.graph_encoding import compute_graph_id, decode, encode_top_layer
from pouw.graph_encoding import encode as encode_graph
from pouw.hypergraph import Hypergraph
from precompiles.registry import precompiles_for

_GENESIS_FOLDER: Final = Path(__file__).resolve().parents[2] / "genesis"

Wei = Annotated[int, Field(ge=0, lt=1 << 128)]
Satoshi = Annotated[int, Field(ge=0, lt=1 << 51)]
Hex = Annotated[str, Field(pattern=r"^0x([0-9a-fA-F]{2})*$")]


class GenesisFault(NodeFault):
    """A genesis file that cannot be used; the message says where it is wrong."""


class _Account(BaseModel):
    model_config = ConfigDict(extra="forbid")
    balance: Wei = 0
    nonce: int = 0
    code: Hex = "0x"


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid")
    address: Hex
    code_hash: Hex


class _Precompiles(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: Hex
    addresses: list[Hex]


class _Finality(BaseModel):
    model_config = ConfigDict(extra="forbid")
    epoch_blocks: Annotated[int, Field(ge=2, lt=1 << 32)]
    committee_blocks: Annotated[int, Field(ge=2, lt=1 << 32)]
    threshold_numerator: Annotated[int, Field(ge=1)]
    threshold_denominator: Annotated[int, Field(ge=1)]
    anchor_depth_blocks: Annotated[int, Field(ge=1)]
    genesis_validators: list[Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]]

    def params(self) -> FinalityParams:
        return FinalityParams(
            epoch_blocks=self.epoch_blocks,
            committee_blocks=self.committee_blocks,
            threshold_numerator=self.threshold_numerator,
            threshold_denominator=self.threshold_denominator,
            anchor_depth_blocks=self.anchor_depth_blocks,
            genesis_validators=tuple(_bytes(validator) for validator in self.genesis_validators),
        )


class _KeySet(BaseModel):
    model_config = ConfigDict(extra="forbid")
    threshold: Annotated[int, Field(ge=1)]
    keys: list[Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]]
    group_key: Hex

    def params(self) -> KeySet:
        return KeySet(self.threshold, tuple(_bytes(key) for key in self.keys), _bytes(self.group_key))


class _Peg(BaseModel):
    model_config = ConfigDict(extra="forbid")
    signers: _KeySet
    council: _KeySet
    credit_depths: list[tuple[Satoshi, Annotated[int, Field(ge=1)]]]
    refund_depth_blocks: Annotated[int, Field(ge=1)]
    reclaim_blocks: Annotated[int, Field(ge=1, lt=1 << 16)]  # BIP-68: 16 bits
    emergency_blocks: Annotated[int, Field(ge=1, lt=1 << 16)]
    notice_blocks: Annotated[int, Field(ge=0)]
    takeover_margin_blocks: Annotated[int, Field(ge=0)]
    record_blocks: Annotated[int, Field(ge=1)]
    min_deposit_sats: Satoshi
    min_payout_sats: Satoshi

    def params(self) -> PegParams:
        values = {name: getattr(self, name) for name in PegParams.__dataclass_fields__}
        values |= {"signers": self.signers.params(), "council": self.council.params()}
        return PegParams(**(values | {"credit_depths": tuple(self.credit_depths)}))


class _Table(BaseModel):
    """The file as it stands; numbers beyond 2^53 may be written as strings."""

    model_config = ConfigDict(extra="allow")
    name: str
    chain_id: Annotated[int, Field(ge=1, lt=1 << 53)]
    fork: str
    genesis_timestamp: Annotated[int, Field(ge=0, lt=1 << 53)]
    gas_limit: Annotated[int, Field(ge=1 << 24, lt=1 << 40)]
    base_fee_per_gas: Wei
    spacing_s: Annotated[int, Field(ge=1)]
    asert_half_life_s: Annotated[int, Field(ge=1)]
    difficulty_floor: Annotated[int, Field(ge=1, lt=1 << 128)]
    max_future_s: Annotated[int, Field(ge=0)]
    origin_depth_blocks: Annotated[int, Field(ge=1, le=100)]
    bitcoin_network: str
    final_window_blocks: Annotated[int, Field(ge=1)]
    finality: _Finality
    genesis_supply_wei: Wei
    peg: _Peg | None
    contracts: dict[str, _Contract]
    initialize: dict[str, tuple[list[str], list[str]]]
    graphs: list[str]
    precompiles: _Precompiles
    system_contracts: dict[Hex, _Account]
    alloc: dict[Hex, _Account]


@dataclass(frozen=True, slots=True)
class Network:
    """What a genesis file says, ready for use."""

    params: ChainParams
    alloc: dict[bytes, AccountOverride]
    """Accounts of block 0 before the calls."""
    calls: tuple[SystemCall, ...]
    """What the system does in block 0: initialise the predeploys, register the graphs."""
    graphs: dict[str, bytes]
    """Registered graphs by name: their ids."""


def load_network(source: str) -> Network:
    """Read a network by its name (`regtest`) or its file's path.

    Raises:
        GenesisFault: missing, not JSON, a field missing or out of range, or contracts other than those pinned;
            accounts that do not hold what it says in all.
    """
    path = Path(source) if "/" in source or source.endswith(".json") else _GENESIS_FOLDER / f"{source}.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        table = _Table.model_validate(raw)
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in _GENESIS_FOLDER.glob("*.json")))
        raise GenesisFault(f"genesis file {path}: {error.strerror}; networks known by name: {known}") from error
    except (ValueError, ValidationError) as error:
        raise GenesisFault(f"genesis file {path}: {error}") from error
    held_wei = sum(
        account.balance for accounts in (table.alloc, table.system_contracts) for account in accounts.values()
    )
    if held_wei != table.genesis_supply_wei:
        raise GenesisFault(f"genesis file {path}: genesis_supply_wei is not the {held_wei} wei that its accounts hold")
    graphs = [load_graph_structure(name) for name in table.graphs]
    return Network(
        params=ChainParams(
            network=table.name,
            chain_id=table.chain_id,
            genesis_timestamp=table.genesis_timestamp,
            gas_limit=table.gas_limit,
            genesis_base_fee=table.base_fee_per_gas,
            spacing_s=table.spacing_s,
            asert_half_life_s=table.asert_half_life_s,
            difficulty_floor=table.difficulty_floor,
            max_future_s=table.max_future_s,
            final_window_blocks=table.final_window_blocks,
            finality=table.finality.params(),
            fork=table.fork,
            origin_depth_blocks=table.origin_depth_blocks,
            bitcoin_network=table.bitcoin_network,
            genesis_supply_wei=table.genesis_supply_wei,
            peg=None if table.peg is None else table.peg.params(),
        ),
        alloc=_alloc(table),
        calls=(*_initializations(table, raw), *(registration_call(graph) for graph in graphs)),
        graphs={graph.name: compute_graph_id(encode_top_layer(graph)) for graph in graphs},
    )


def load_graph_structure(name: str) -> Hypergraph:
    """A graph that ships with the project, without its constants.

    Raises:
        GenesisFault: no such graph, or its file is damaged.
    """
    path = _GENESIS_FOLDER / "graphs" / f"{name}.graph"
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise GenesisFault(f"graph {name}: {path.name}: {error.strerror}") from error
    except HyperdustError as error:
        raise GenesisFault(f"graph {name}: {error}") from error


def registration_call(graph: Hypergraph) -> SystemCall:
    """`GraphRegistry.register` of a graph file: the system needs no announcement."""
    data = encode_call("GraphRegistry", "register", encode_graph(graph))
    return SystemCall(to=GRAPH_REGISTRY, data=data)


def build_genesis(network: Network) -> ExecutedBlock:
    """Block 0 and its state: the accounts, then the system's calls on them, and the peg before anything happened.

    Raises:
        GenesisFault: a call fails.
    """
    params = network.params
    writes, _ = genesis_state(network.alloc)
    state = dict(writes)
    try:
        executed = execute(
            BlockEnvironment(
                chain_id=params.chain_id,
                fork=params.fork,
                number=0,
                timestamp=params.genesis_timestamp,
                coinbase=bytes(20),
                gas_limit=params.gas_limit,
                base_fee=params.genesis_base_fee,
                prev_randao=ZERO_HASH,
                parent_hash=None,
                parent_beacon_root=None,
            ),
            (),
            lambda keys: [state.get(key) for key in keys],
            precompiles=precompiles_for(None, ZERO_HASH),
            before=(*network.calls, *_open_peg(params)),
            system_contracts=False,
        )
    except HyperdustError as error:
        raise GenesisFault(f"genesis of {params.network}: {error}") from error
    state.update(executed.writes)
    if params.peg is not None:
        state[PEG_KEY] = encode_genesis_peg(params)
    header = Header(
        parent_hash=ZERO_HASH,
        ommers_hash=EMPTY_OMMERS_HASH,
        coinbase=bytes(20),
        state_root=executed.state_root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=params.difficulty_floor,
        number=0,
        gas_limit=params.gas_limit,
        gas_used=0,
        timestamp=params.genesis_timestamp,
        extra_data=ZERO_HASH,
        mix_hash=ZERO_HASH,
        nonce=bytes(8),
        base_fee_per_gas=params.genesis_base_fee,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0,
        excess_blob_gas=0,
        parent_beacon_block_root=ZERO_HASH,
        requests_hash=executed.requests_hash or ZERO_HASH,
    )
    return ExecutedBlock(
        block=Block(header, Body((), (), b"")),
        hash=header.hash,
        ticket=ZERO_HASH,
        total_difficulty=params.difficulty_floor,
        transaction_hashes=(),
        receipts=(),
        writes=tuple(sorted((key, value) for key, value in state.items() if value is not None)),
    )


def _open_peg(params: ChainParams) -> tuple[SystemCall, ...]:
    if params.peg is None:
        return ()
    root = keccak256(encode_genesis_peg(params))
    values = (root, params.genesis_supply_wei, params.peg.min_payout_sats)
    return (SystemCall(to=BRIDGE, data=encode_call("Bridge", "initialize", *values)),)


def _alloc(table: _Table) -> dict[bytes, AccountOverride]:
    alloc = {
        _bytes(address): AccountOverride(balance=account.balance, nonce=account.nonce, code=_bytes(account.code))
        for accounts in (table.alloc, table.system_contracts)
        for address, account in accounts.items()
    }
    for address in table.precompiles.addresses:
        alloc[_bytes(address)] = AccountOverride(code=_bytes(table.precompiles.code))
    for name, contract in table.contracts.items():
        code = _bytes(load_artifact(name)["bytecode"])
        if keccak256(code) != _bytes(contract.code_hash):
            raise GenesisFault(f"contract {name}: its artifact is not the one that the genesis file pins")
        alloc[_bytes(contract.address)] = AccountOverride(code=code, nonce=1)  # EIP-161: contracts start at 1
    return alloc


def _initializations(table: _Table, raw: dict[str, Any]) -> list[SystemCall]:
    calls = []
    for name, (types, keys) in table.initialize.items():
        try:
            values = [int(raw[key]) for key in keys]
            address = table.contracts[name].address
        except (KeyError, ValueError) as error:
            raise GenesisFault(f"initialize {name}: {error} is missing or no number") from error
        selector = keccak256(f"initialize({','.join(types)})".encode())[:4]
        calls.append(SystemCall(to=_bytes(address), data=selector + encode(types, values)))
    return calls


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
