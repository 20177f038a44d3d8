"""Overrides at the addresses of precompiles: moved elsewhere, or replaced. Rules and words are geth's.

A place that a precompile left is an account like any other. Moved ones keep their price where that is linear in the
input.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from eth_utils.address import to_checksum_address

from chain import engine
from chain.engine import BlockEnvironment, CallMessage, Precompile
from hyperdust.node.foreign_rules import FORKS
from hyperdust.node.rpc.errors import ServerError
from hyperdust.node.rpc.parameters import StateOverrides

_CALL_GAS: Final = 30_000_000
_LINEAR: Final = {1: (3000, 0), 2: (60, 12), 3: (600, 120), 4: (15, 3), 6: (150, 0), 7: (6000, 0), 10: (50_000, 0),
                  11: (375, 0), 13: (600, 0), 16: (5500, 0), 17: (23_800, 0), 256: (6900, 0)}  # fmt: skip
"""Base gas and gas per word since Istanbul of precompiles that are priced so (geth params/protocol_params.go)."""
_LAST: Final = (("Osaka", (*range(1, 18), 256)), ("Prague", range(1, 18)), ("Cancun", range(1, 11)),
                ("Istanbul", range(1, 10)), ("Byzantium", range(1, 9)), ("Frontier", range(1, 5)))  # fmt: skip


def precompiled_addresses(fork: str, own: Sequence[Precompile]) -> frozenset[bytes]:
    """Addresses of a fork's precompiles, and of the chain's own."""
    place = FORKS.index(fork)
    numbers = next(numbers for first, numbers in _LAST if place >= FORKS.index(first))
    return frozenset([number.to_bytes(20, "big") for number in numbers] + [entry[0] for entry in own])


def move_precompiles(
    overrides: StateOverrides, environment: BlockEnvironment, present: Sequence[Precompile]
) -> tuple[Precompile, ...]:
    """What the engine has to be given so that precompiles are where the overrides put them.

    Raises:
        ServerError: what is to be moved is none, or the place is taken.
    """
    known = precompiled_addresses(environment.fork, present)
    overridden = dict(overrides.accounts)
    table = {entry[0]: entry for entry in present}
    moved: set[bytes] = set()
    for address, override in overrides.accounts:
        shown = to_checksum_address(address)
        if address in moved:
            raise ServerError(f"account {shown} has already been overridden by a precompile")
        target = override.move_precompile_to
        if target is not None:
            if address not in known:
                raise ServerError(f"account {shown} is not a precompile")
            if target in overridden:
                raise ServerError(f"account {to_checksum_address(target)} is already overridden")
            table[target] = _relocated(address, target, environment, table.get(address))
            moved.add(target)
        if address in known and address not in moved:
            table[address] = (address, "absent", 0, 0)
    return tuple(table.values())


def _relocated(address: bytes, target: bytes, environment: BlockEnvironment, entry: Precompile | None) -> Precompile:
    if entry is not None:
        return (target, *entry[1:])
    number = int.from_bytes(address, "big")
    if number not in _LINEAR or FORKS.index(environment.fork) < FORKS.index("Istanbul"):
        raise ServerError(f"precompile {to_checksum_address(address)} cannot be moved: its price depends on its input")
    return (target, _original(address, environment), *_LINEAR[number])


def _original(address: bytes, environment: BlockEnvironment) -> Callable[[bytes], bytes | None]:
    quiet = replace(environment, base_fee=0)

    def run(data: bytes) -> bytes | None:
        message = CallMessage(sender=bytes(20), to=address, data=data, gas=_CALL_GAS)
        result = engine.call(quiet, message, lambda keys: [None] * len(keys))
        return result.output if result.success else None

    return run
