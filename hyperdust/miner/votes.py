"""A coinbase's finality votes: on disk before they leave, so that no crash and no node makes it sign against itself.

The node says what is due; this file alone says what may be signed (after EIP-3076: the highest source and target). It
lives with the key, not with the node: a wiped or foreign node changes nothing. Spec: docs/spec/finality.md.
"""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog
from eth_account.signers.local import LocalAccount

from chain.errors import HyperdustError, NodeFault
from consensus.errors import DoubleVote, SurroundVote
from consensus.finality import Checkpoint, Vote, sign_vote
from hyperdust.durable import hold_and_load, replace_durably
from hyperdust.proto import work_pb2 as messages
from hyperdust.work_client import WorkClient, WorkUnreachable

log = structlog.get_logger()

_VERSION: Final = 1
_IDLE_S: Final = 1.0


class ProtectionFault(NodeFault):
    """The file that protects a key from slashing cannot be used: nothing is signed until it can."""


class TargetAhead(NodeFault):
    """The node asks for a vote on a block that its own template does not follow."""


class Protection:
    """What one key may still sign on one chain. One process, one thread; a lock beside the file keeps others out."""

    def __init__(self, path: Path) -> None:
        """Open or begin the file.

        Raises:
            ProtectionFault: held by another process, or damaged. A damaged one is never replaced.
        """
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock, self._last = hold_and_load(path, _load)
        except OSError as error:
            raise ProtectionFault(
                f"{path}: {error.strerror}; another miner may run with this key: stop one of the two"
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ProtectionFault(
                f"{path} is damaged ({error}); restore a copy, or mine with another key: a vote may be slashed"
            ) from error

    @property
    def last(self) -> Vote | None:
        """The last vote that was signed."""
        return self._last

    def record(self, vote: Vote) -> None:
        """Write a vote down; returns once it is on disk, and only then may its signature leave.

        Raises:
            DoubleVote, SurroundVote: it must not be signed.
            ProtectionFault: the disk does not take it.
        """
        last = self._last
        if vote == last:
            return
        if last is not None and vote.target.number <= last.target.number:
            raise DoubleVote(f"target height {vote.target.number}: voted for {last.target.number} already")
        if last is not None and vote.source.number < last.source.number:
            raise SurroundVote(f"source height {vote.source.number}: voted from {last.source.number} already")
        try:
            _write(self._path, vote)
        except OSError as error:
            raise ProtectionFault(f"{self._path}: {error.strerror}") from error
        self._last = vote

    def close(self) -> None:
        """Let another process have it."""
        self._lock.close()


class Voter:
    """Signs what templates ask for. One thread."""

    def __init__(
        self, account: LocalAccount, folder: Path, submit: Callable[[messages.Vote], messages.Verdict]
    ) -> None:
        self._account = account
        self._folder = folder
        self._submit = submit
        self._genesis_hash = b""
        self._protection: Protection | None = None
        self._said = ""

    def act(self, template: messages.Template) -> None:
        """Sign and send the vote that a template asks for; nothing where the key must not."""
        if not template.HasField("vote"):
            return
        link = template.vote
        vote = Vote(
            Checkpoint(link.source_number, bytes(link.source)), Checkpoint(link.target_number, bytes(link.target))
        )
        try:
            self._cast(vote, template)
        except (DoubleVote, SurroundVote, NodeFault) as error:
            self._say("not voting", str(error))
        except WorkUnreachable as error:
            self._say("vote not handed in", str(error))

    def close(self) -> None:
        """Let go of the protection file."""
        if self._protection is not None:
            self._protection.close()
            self._protection = None

    def _cast(self, vote: Vote, template: messages.Template) -> None:
        if vote.target.number >= template.number:
            raise TargetAhead(f"the node asks for a vote on block {vote.target.number}; its next is {template.number}")
        protection = self._protection_on(template)
        try:
            protection.record(vote)
        except DoubleVote:
            # The one that was signed may not have arrived: the miner, or the node, was stopped in between.
            if protection.last is None or protection.last.target != vote.target:
                raise
            vote = protection.last
        signature = sign_vote(vote, template.chain_id, bytes(self._account.key))
        link = messages.Link(
            source=vote.source.hash,
            source_number=vote.source.number,
            target=vote.target.hash,
            target_number=vote.target.number,
        )
        verdict = self._submit(messages.Vote(link=link, signature=signature))
        if verdict.accepted:
            log.info("voted", source=vote.source.number, target=vote.target.number)
        else:
            self._say("vote refused", f"{verdict.rule}: {verdict.text}")

    def _protection_on(self, template: messages.Template) -> Protection:
        """The file of this key on the template's chain."""
        if self._protection is None or self._genesis_hash != template.genesis_hash:
            self.close()
            self._genesis_hash = bytes(template.genesis_hash)
            name = f"votes-{self._genesis_hash.hex()[:16]}-{self._account.address[2:].lower()}.json"
            self._protection = Protection(self._folder / name)
        return self._protection

    def _say(self, event: str, reason: str) -> None:
        if reason != self._said:
            self._said = reason
            log.warning(event, reason=reason)


def keep_voting(client: WorkClient, account: LocalAccount, folder: Path, stop: threading.Event) -> None:
    """Act on every template until `stop`; jobs and draws do not make votes wait."""
    voter = Voter(account, folder, client.submit_vote)
    seen: messages.Template | None = None
    while not stop.is_set():
        template = client.latest
        if template is not None and template is not seen:
            try:
                voter.act(template)
            except HyperdustError as error:
                log.warning("not voting", reason=str(error))
        seen = template
        client.wait(seen, _IDLE_S)
    voter.close()


def _load(path: Path) -> Vote | None:
    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if raw["version"] != _VERSION:
        raise ValueError(f"version {raw['version']}, this program reads {_VERSION}")
    last = raw["last"]
    source, target = (
        Checkpoint(_height(last[name]["number"]), bytes.fromhex(last[name]["hash"])) for name in ("source", "target")
    )
    return Vote(source, target)


def _height(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no height")
    return value


def _write(path: Path, vote: Vote) -> None:
    places = {"source": vote.source, "target": vote.target}
    last = {name: {"number": place.number, "hash": place.hash.hex()} for name, place in places.items()}
    replace_durably(path, json.dumps({"version": _VERSION, "last": last}, indent=1))
