"""How fast the engine is: arithmetic against anvil, a block of transfers against py-evm.

Each function measures us and the peer in interleaved rounds of one run; the best round of each counts.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from eth_account import Account

from benchmarks.rounds import best_of
from benchmarks.skip import Skipped
from chain.blocks import EMPTY_OMMERS_HASH, EMPTY_TRIE_ROOT, Block, Body, Header, decode_block
from chain.engine import (
    AccountOverride,
    BlockEnvironment,
    CallMessage,
    ReadMany,
    Writes,
    call,
    decode_transactions,
    execute,
    genesis_state,
)
from consensus.peg import PegTransition
from consensus.rewards import opening_call
from consensus.validation import PegChecked, environment_of, execute_block
from hyperdust.node.store import ExecutedBlock, open_store
from precompiles.registry import precompiles_for

Row = dict[str, object]
ANVIL = Path(__file__).parents[1] / "tests/functional/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
LOOP = b"\xcc" * 20
# JUMPDEST; ((x * x + 7) ^ x) % (2^255 - 19) / 3, again and again until the gas is gone.
LOOP_CODE = bytes.fromhex(
    "60055b80800260070118" + "7f7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed" + "900660039004600256"
)
ARITHMETIC_GAS = 400_000_000
TRANSFERS = 1000
GWEI = 10**9


def memory(alloc: dict[bytes, AccountOverride]) -> ReadMany:
    state = dict(genesis_state(alloc)[0])
    return lambda keys: [state.get(key) for key in keys]


def environment(fork: str, gas_limit: int) -> BlockEnvironment:
    return BlockEnvironment(
        chain_id=7,
        fork=fork,
        number=1,
        timestamp=1000,
        coinbase=b"\xc0" * 20,
        gas_limit=gas_limit,
        base_fee=GWEI,
        prev_randao=b"\x05" * 32,
        parent_hash=b"\x01" * 32,
        parent_beacon_root=b"\x02" * 32,
    )


@contextmanager
def anvil(program: Path) -> Iterator[Callable[[str, Sequence[object]], dict[str, object]]]:
    """A running anvil: its JSON-RPC."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    flags = ["--port", str(port), "--silent", "--no-mining", "--hardfork", "prague", "--gas-limit", str(10**12)]
    process = subprocess.Popen([program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def request(method: str, params: Sequence[object]) -> dict[str, object]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        message = urllib.request.Request(f"http://127.0.0.1:{port}", body, {"content-type": "application/json"})
        with urllib.request.urlopen(message, timeout=60) as response:
            answer: dict[str, object] = json.load(response)
        return answer

    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                request("eth_chainId", [])
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield request
    finally:
        process.terminate()
        process.wait()


def evm_arithmetic_vs_anvil(program: Path | None = None) -> Row:
    """One call that burns 400 Mgas in a loop, through our `call` and through anvil's eth_call; Mgas/s."""
    found = program or Path(os.environ.get("ANVIL", "") or (ANVIL if ANVIL.exists() else shutil.which("anvil") or ""))
    if not found.is_file():
        raise Skipped("anvil is not installed; npm ci --prefix tests/functional, or set ANVIL to its path")
    read_many = memory({LOOP: AccountOverride(code=LOOP_CODE)})
    message = CallMessage(sender=b"\x0a" * 20, to=LOOP, gas=ARITHMETIC_GAS)

    def ours() -> None:
        result = call(environment("Prague", 10**12), message, read_many)
        assert (result.error, result.gas_used) == ("out of gas", ARITHMETIC_GAS)

    with anvil(found) as request:
        request("anvil_setCode", ["0x" + LOOP.hex(), "0x" + LOOP_CODE.hex()])
        transaction = {"from": "0x" + "0a" * 20, "to": "0x" + LOOP.hex(), "gas": hex(ARITHMETIC_GAS)}

        def theirs() -> None:
            assert "OutOfGas" in json.dumps(request("eth_call", [transaction, "latest"])).replace(" ", "")

        own_s, peer_s = best_of(5, ours, theirs)
    own, peer = (ARITHMETIC_GAS / seconds / 1e6 for seconds in (own_s, peer_s))
    name = "evm_arithmetic_vs_anvil"
    return {
        "name": name,
        "ours": own,
        "peer": peer,
        "ratio": own / peer,
        "unit": "Mgas/s",
        "peer_name": "anvil eth_call",
    }


def transfers(count: int) -> tuple[list[bytes], list[bytes]]:
    """Senders and signed transfers, one each, to `count` accounts that exist."""
    keys = [(index + 1).to_bytes(32, "big") for index in range(count)]
    senders = [bytes.fromhex(Account.from_key(key).address[2:]) for key in keys]
    raws = []
    for index, key in enumerate(keys):
        transaction = {
            "type": 2,
            "chainId": 7,
            "nonce": 0,
            "to": recipient(index),
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 2 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            "data": b"",
        }
        raws.append(bytes(Account.sign_transaction(transaction, key).raw_transaction))
    return senders, raws


def recipient(index: int) -> bytes:
    return (10**6 + index).to_bytes(20, "big")


def py_evm_import(senders: Sequence[bytes], raws: Sequence[bytes]) -> Callable[[], float]:
    """Imports the block of these transfers into py-evm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from eth import constants  # noqa: PLC0415 - a peer, not a dependency
        from eth.chains.base import MiningChain  # noqa: PLC0415
        from eth.consensus.noproof import NoProofConsensus  # noqa: PLC0415
        from eth.db.atomic import AtomicDB  # noqa: PLC0415
        from eth.vm.forks.prague import PragueVM  # noqa: PLC0415

    machine = type("Machine", (PragueVM,), {"consensus_class": NoProofConsensus})
    chain_class = MiningChain.configure(vm_configuration=((0, machine),), chain_id=7)
    params = {
        "difficulty": 0,
        "mix_hash": constants.ZERO_HASH32,
        "nonce": bytes(8),
        "extra_data": b"",
        "gas_limit": 60_000_000,
        "timestamp": 1,
        "base_fee_per_gas": GWEI,
    }
    empty = {"nonce": 0, "code": b"", "storage": {}}
    state = {sender: empty | {"balance": 10**18} for sender in senders}
    state |= {recipient(index): empty | {"balance": 1} for index in range(len(raws))}

    def fresh() -> Any:
        return chain_class.from_genesis(AtomicDB(), params, state)

    miner = fresh()
    decode = miner.get_vm().get_transaction_builder().decode
    block = miner.mine_all([decode(raw) for raw in raws])[0].imported_block

    def run() -> float:
        chain = fresh()
        start = time.perf_counter()
        chain.import_block(block)
        return time.perf_counter() - start

    return run


def own_import(senders: Sequence[bytes], raws: Sequence[bytes]) -> Callable[[], float]:
    """Imports the block of these transfers: bytes -> decode -> recover -> execute -> compare roots -> synced commit.

    Only the header's and the certificate's checks are left out: what they cost is `ticket.py`'s.
    """
    writes, root = genesis_state(_alloc(senders, len(raws)))
    genesis = _header(state_root=root)
    state = dict(writes)
    params = SimpleNamespace(chain_id=7, fork="Osaka")
    child = replace(genesis, number=1, parent_hash=genesis.hash, timestamp=2)
    transactions = decode_transactions(raws)
    before = (opening_call(genesis),)
    done = execute(
        environment_of(child, params),
        transactions,
        lambda keys: [state.get(key) for key in keys],
        precompiles=precompiles_for(None, bytes(32)),
        before=before,
    )
    header = replace(
        child,
        state_root=done.state_root,
        transactions_root=done.transactions_root,
        receipts_root=done.receipts_root,
        logs_bloom=done.logs_bloom,
        gas_used=done.gas_used,
        requests_hash=done.requests_hash,
    )
    wire = Block(header, Body(tuple(raws), (), b"")).encode()

    def executed(
        block: Block, hashes: tuple[bytes, ...], receipts: tuple[bytes, ...], changes: Writes
    ) -> ExecutedBlock:
        return ExecutedBlock(block, block.header.hash, bytes(32), block.header.number + 1, hashes, receipts, changes)

    def run() -> float:
        with TemporaryDirectory() as folder:
            store = open_store(Path(folder) / "chain")
            store.write_genesis(executed(Block(genesis, Body((), (), b"")), (), (), writes))
            start = time.perf_counter()
            block = decode_block(wire)
            view = store.latest.state_at(genesis.hash)
            found, result = execute_block(PegChecked(block, genesis, None, PegTransition()), params, view.read_many)
            hashes = tuple(transaction.hash for transaction in found)
            receipts = tuple(receipt.encode() for receipt in result.receipts)
            store.adopt(executed(block, hashes, receipts, result.writes))
            seconds = time.perf_counter() - start
            store.close()
        return seconds

    return run


def _header(*, state_root: bytes) -> Header:
    zero = bytes(32)
    return Header(
        zero, EMPTY_OMMERS_HASH, b"\xc0" * 20, state_root, EMPTY_TRIE_ROOT, EMPTY_TRIE_ROOT, bytes(256), 1, 0,
        60_000_000, 0, 1, zero, zero, bytes(8), GWEI, EMPTY_TRIE_ROOT, 0, 0, zero, zero,
    )  # fmt: skip


def block_import_vs_py_evm() -> Row:
    """A block of 1,000 transfers, imported; transfers/s."""
    senders, raws = transfers(TRANSFERS)
    ours, theirs = own_import(senders, raws), py_evm_import(senders, raws)
    own_s = peer_s = float("inf")
    for _ in range(3):
        own_s = min(own_s, ours(), ours())
        peer_s = min(peer_s, theirs())
    own, peer = TRANSFERS / own_s, TRANSFERS / peer_s
    name = "block_import_vs_py_evm"
    return {
        "name": name,
        "ours": own,
        "peer": peer,
        "ratio": own / peer,
        "unit": "tx/s",
        "peer_name": "py-evm import_block",
    }


def _alloc(senders: Sequence[bytes], count: int) -> dict[bytes, AccountOverride]:
    alloc = {sender: AccountOverride(balance=10**18) for sender in senders}
    return alloc | {recipient(index): AccountOverride(balance=1) for index in range(count)}


BENCHMARKS = {"evm_arithmetic_vs_anvil": evm_arithmetic_vs_anvil, "block_import_vs_py_evm": block_import_vs_py_evm}
