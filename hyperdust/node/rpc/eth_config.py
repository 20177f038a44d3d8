"""eth_config and eth_capabilities: which rules hold, and which data the node has. Source: EIP-7910, execution-apis."""

import zlib
from collections.abc import Sequence
from typing import Any, Final

from chain.engine import BLOB_SCHEDULES
from hyperdust.node.foreign_rules import ForeignRules, is_at_least
from hyperdust.node.rpc import shapes
from hyperdust.node.rpc.backend import Request
from hyperdust.node.rpc.precompile_moves import precompiled_addresses
from hyperdust.node.rpc.shapes import Json
from hyperdust.node.store import UNDO_BLOCKS
from precompiles.registry import name_of

_NAMES: Final = {
    1: "ECREC", 2: "SHA256", 3: "RIPEMD160", 4: "ID", 5: "MODEXP", 6: "BN254_ADD", 7: "BN254_MUL", 8: "BN254_PAIRING",
    9: "BLAKE2F", 10: "KZG_POINT_EVALUATION", 11: "BLS12_G1ADD", 12: "BLS12_G1MSM", 13: "BLS12_G2ADD",
    14: "BLS12_G2MSM", 15: "BLS12_PAIRING_CHECK", 16: "BLS12_MAP_FP_TO_G1", 17: "BLS12_MAP_FP2_TO_G2",
    256: "P256VERIFY",
}  # fmt: skip
_SYSTEM_CONTRACTS: Final = (
    ("Cancun", "BEACON_ROOTS_ADDRESS", "0x000f3df6d732807ef1319fb7b8bb8522d0beac02"),
    ("Prague", "CONSOLIDATION_REQUEST_PREDEPLOY_ADDRESS", "0x0000bbddc7ce488642fb579f8b00f3a590007251"),
    ("Prague", "HISTORY_STORAGE_ADDRESS", "0x0000f90827f1c53a10cb7a02335b175320002935"),
    ("Prague", "WITHDRAWAL_REQUEST_PREDEPLOY_ADDRESS", "0x00000961ef480eb55e80d19ad83579a64c007002"),
)


def config(request: Request) -> Json:
    """The rules that hold now, those of the next fork, and those of the last that is known."""
    foreign = request.backend.foreign
    if foreign is None:
        params = request.backend.params
        described = _describe(params.fork, params.chain_id, params.genesis_timestamp)
        described["blobSchedule"] = {"target": 0, "max": 0, "baseFeeUpdateFraction": 0}
        native = request.backend.rules.precompiles_of(request.snapshot.head.header)
        described["precompiles"] |= {name_of(entry).upper(): shapes.data(entry[0]) for entry in native}
        return {"current": described | {"forkId": _fork_id(request, ())}, "next": None, "last": None}
    rules = foreign.rules
    now = request.snapshot.head.header.timestamp
    past = [place for place, (start, _) in enumerate(rules.times) if start <= now]
    current = past[-1] if past else -1
    following = _scheduled(request, rules, current + 1)
    return {
        "current": _scheduled(request, rules, current) if past else None,
        "next": following,
        "last": _scheduled(request, rules, len(rules.times) - 1) if following else None,
    }


def _scheduled(request: Request, rules: ForeignRules, place: int) -> Json | None:
    if place >= len(rules.times):
        return None
    start, fork = rules.times[place]
    described = _describe(fork, rules.chain_id, start)
    if is_at_least(fork, "Prague"):
        described["systemContracts"]["DEPOSIT_CONTRACT_ADDRESS"] = shapes.data(rules.deposit_contract)
    schedule = rules.blob_schedules.get(fork) or BLOB_SCHEDULES.get(fork)
    described["blobSchedule"] = schedule and {
        "target": schedule.target,
        "max": schedule.maximum,
        "baseFeeUpdateFraction": schedule.update_fraction,
    }
    passed = [*rules.all_fork_blocks, *(time for time in rules.all_fork_times if time <= start)]
    return described | {"forkId": _fork_id(request, passed)}


def _describe(fork: str, chain_id: int, start: int) -> dict[str, Any]:
    numbers = sorted(int.from_bytes(address, "big") for address in precompiled_addresses(fork, ()))
    contracts = {name: address for first, name, address in _SYSTEM_CONTRACTS if is_at_least(fork, first)}
    return {
        "activationTime": start,
        "chainId": shapes.quantity(chain_id),
        "precompiles": {_NAMES[number]: shapes.data(number.to_bytes(20, "big")) for number in numbers},
        "systemContracts": contracts,
    }


def _fork_id(request: Request, passed: Sequence[int]) -> str:
    """Source: EIP-2124."""
    checksum = zlib.crc32(request.snapshot.genesis_hash)
    for fork in passed:
        checksum = zlib.crc32(fork.to_bytes(8, "big"), checksum)
    return f"{checksum:#010x}"


def capabilities(request: Request) -> Json:
    """What the node has of each kind of data, from which block on."""
    head = request.snapshot.head
    keeps_all = request.backend.archive
    everything: Json = {"disabled": False, "oldestBlock": "0x0"}
    oldest = 0 if keeps_all else max(head.number - UNDO_BLOCKS, 0)
    state: Json = {"disabled": False, "oldestBlock": shapes.quantity(oldest)}
    if not keeps_all:
        state["deleteStrategy"] = {"type": "window", "retentionBlocks": shapes.quantity(UNDO_BLOCKS)}
    return {
        "head": {"number": shapes.quantity(head.number), "hash": shapes.data(head.hash)},
        **dict.fromkeys(("tx", "logs", "receipts", "blocks"), everything),
        "state": state,
        "stateproofs": state,
    }
