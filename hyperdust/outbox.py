"""Transactions of one key on their way into the chain: written down before they leave, sent again, replaced when stuck.

A role may be killed at any moment: what was sent is known after a restart and sent again, never signed twice.
"""

import json
from collections.abc import Callable, Container
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog
from eth_account.signers.local import LocalAccount

from hyperdust.durable import replace_durably
from hyperdust.proto import work_pb2 as messages

log = structlog.get_logger()

MAX_LETTERS: Final = 256
MAX_ATTEMPTS: Final = 3
_NONCES_AHEAD: Final = 8  # transactions signed since the template was made
_MIN_TIP: Final = 1_000  # wei a gas; a tenth of the base fee once that is more


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does."""

    to: bytes
    data: bytes
    gas: int
    value: int = 0
    """Wei."""
    tip: int | None = None
    """Wei a gas for the proposer; None: what roles pay."""


@dataclass(slots=True)
class Letter:
    """The notes about one transaction; bytes as hex, since the file is JSON."""

    name: str
    """`kind:subject[:detail]`: the step that it takes; the same step never has two."""
    nonce: int = -1
    max_fee: int = 0
    """Wei a gas."""
    tip: int = 0
    """Of that, to the proposer."""
    raw: str = ""
    """Its signed bytes."""
    attempts: int = 0
    """How often it was mined without effect."""
    failed: bool = False
    """Given up: it reverts again and again."""


def _compute_tip(base_fee: int) -> int:
    return max(_MIN_TIP, base_fee // 10)


class Outbox:
    """Letters by name in one file, replaced atomically. One process, one thread."""

    def __init__(self, account: LocalAccount, path: Path) -> None:
        self._account = account
        self._path = path
        self._letters: dict[str, Letter] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._letters = {str(raw["name"]): Letter(**raw) for raw in json.loads(path.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError) as error:
            # Everything in it can be signed again; only gas is at stake.
            log.warning("outbox unreadable, starting anew", path=str(path), error=str(error))

    def get(self, name: str) -> Letter | None:
        """Notes about a step's transaction."""
        return self._letters.get(name)

    def deliver(self, name: str, call: Call, template: messages.Template, send: Callable[[bytes], None]) -> bool:
        """Bring a step's transaction a bit nearer to the chain; to be called for each template that still offers it.

        Returns False once it is given up. `send` hands signed bytes to the node.
        """
        letter = self._letters.get(name)
        if letter is None:
            letter = Letter(name)
            self._sign(letter, call, template, None)
        elif letter.failed:
            return False
        elif letter.nonce < template.nonce:  # mined, and the step is still offered: it was reverted
            letter.attempts += 1
            letter.failed = letter.attempts >= MAX_ATTEMPTS
            log.warning("transaction had no effect", step=name, attempts=letter.attempts)
            if letter.failed:
                self._save()
                return False
            self._sign(letter, call, template, None)
        elif letter.max_fee < int.from_bytes(template.base_fee, "big"):
            self._sign(letter, call, template, letter.nonce)
        elif letter.nonce > template.pending_nonce and not self._holds(template.pending_nonce):
            # The pool lost one before it that nobody will send again: this one would wait for ever.
            self._sign(letter, call, template, template.pending_nonce)
        elif template.pending_nonce > letter.nonce:
            return True  # the pool has it
        send(bytes.fromhex(letter.raw))
        return True

    def is_mined(self, name: str, template: messages.Template) -> bool:
        """Whether a step's transaction is in the chain, with effect or without."""
        letter = self._letters.get(name)
        return letter is not None and letter.nonce < template.nonce

    def keep_only(self, kind: str, subjects: Container[str]) -> None:
        """Forget the letters of a kind about anything else than these: their steps are taken, or void."""
        gone = [
            name for name in self._letters if name.partition(":")[0] == kind and name.split(":", 2)[1] not in subjects
        ]
        for name in gone:
            del self._letters[name]
        if gone:
            self._save()

    def _holds(self, nonce: int) -> bool:
        return any(letter.nonce == nonce for letter in self._letters.values())

    def _sign(self, letter: Letter, call: Call, template: messages.Template, nonce: int | None) -> None:
        base_fee = int.from_bytes(template.base_fee, "big")
        # A replacement has to pay a tenth more of both.
        floor = (letter.max_fee * 5 // 4 + 1, letter.tip * 5 // 4 + 1) if nonce is not None else (0, 0)
        tip = max(_compute_tip(base_fee) if call.tip is None else call.tip, floor[1])
        max_fee = max(2 * base_fee + tip, floor[0])
        if nonce is None:
            ours = max((each.nonce for each in self._letters.values()), default=-1) + 1
            first = template.pending_nonce
            nonce = ours if first <= ours <= first + _NONCES_AHEAD else first
        signed: Any = self._account.sign_transaction(
            {
                "type": 2,
                "chainId": template.chain_id,
                "nonce": nonce,
                "maxFeePerGas": max_fee,
                "maxPriorityFeePerGas": tip,
                "gas": call.gas,
                "to": call.to,
                "value": call.value,
                "data": call.data,
            }
        )
        letter.nonce, letter.max_fee, letter.tip = nonce, max_fee, tip
        letter.raw = bytes(signed.raw_transaction).hex()
        self._letters[letter.name] = letter
        while len(self._letters) > MAX_LETTERS:
            del self._letters[min(self._letters, key=lambda name: self._letters[name].nonce)]
        self._save()

    def _save(self) -> None:
        replace_durably(self._path, json.dumps([asdict(letter) for letter in self._letters.values()]))
