"""Leading a round that all signers sign together: everybody's nonces, then everybody's parts of one signature an input.

A part is never believed: a wrong one names its key. If one of them does not do its part nothing is sent, and the round
is signed by k under its scripts.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import structlog

from bridge.transactions import Transaction
from bridge.vault import Draft
from chain.errors import HyperdustError
from hyperdust.signer.errors import NonceWrong, NotTogether, PeerFault, PeerRefused, SignatureWrong
from hyperdust.signer.key import nonces_digest, proposal_digest
from hyperdust.signer.musig import aggregate_nonces, check_nonce, check_part, join_parts, make_context
from hyperdust.signer.peers import Peer
from hyperdust.signer.session import Session

log = structlog.get_logger()

Answer = tuple[bytes, tuple[bytes, ...]]
_AWAY: Final = "does not answer"


def collect_together(
    session: Session, draft: Draft, raw: bytes, signature: bytes, peers: Mapping[bytes, Peer]
) -> Transaction:
    """Ask all others twice, sign last, complete.

    Raises:
        NotTogether: says who did not do its part, and whether others gave theirs.
        And this signer's own refusals.
    """
    signers = [one.custody.signers.keys for one in draft.inputs]
    own, everybody = session.key.public, dict.fromkeys(key for keys in signers for key in keys)
    if missing := {key: _AWAY for key in everybody if key != own and key not in peers}:
        raise NotTogether(missing, given=False)
    asked = {key: peers[key] for key in everybody if key != own}
    nonces = {own: session.commit(raw, signature)}
    nonces |= _ask(asked, lambda peer: peer.commit(raw, signature), _nonce_check(draft), given=False)
    joined = tuple(aggregate_nonces([nonces[key][at] for key in keys]) for at, keys in enumerate(signers))
    messages = draft.compute_sighashes()
    contexts = [
        make_context(one, message, nonce) for one, message, nonce in zip(draft.inputs, messages, joined, strict=True)
    ]

    def check(key: bytes, answer: tuple[bytes, ...]) -> None:
        if len(answer) != len(draft.inputs):
            raise SignatureWrong("parts", len(answer), f"{len(draft.inputs)}, one an input")
        for at, keys in enumerate(signers):
            if key in keys:
                check_part(contexts[at], key, nonces[key][at], answer[at])

    approval = session.key.sign(nonces_digest(proposal_digest(raw), joined))
    parts = _ask(asked, lambda peer: peer.sign_together(raw, signature, joined, approval), check, given=True)
    parts[own] = session.sign_together(raw, signature, joined, approval)
    signed = [
        {one.output.output_key: join_parts(context, [parts[key][at] for key in keys])}
        for at, (one, context, keys) in enumerate(zip(draft.inputs, contexts, signers, strict=True))
    ]
    session.spoilers.pardon(tuple(everybody))
    return draft.complete(signed)


def _nonce_check(draft: Draft) -> Callable[[bytes, tuple[bytes, ...]], None]:
    def check(key: bytes, answer: tuple[bytes, ...]) -> None:
        if len(answer) != len(draft.inputs):
            raise NonceWrong("nonces", len(answer), f"{len(draft.inputs)}, one an input")
        for one, nonce in zip(draft.inputs, answer, strict=True):
            if key in one.custody.signers.keys:
                check_nonce(nonce)

    return check


def _ask(
    peers: Mapping[bytes, Peer],
    ask: Callable[[Peer], Answer],
    check: Callable[[bytes, tuple[bytes, ...]], None],
    *,
    given: bool,
) -> dict[bytes, tuple[bytes, ...]]:
    found: dict[bytes, tuple[bytes, ...]] = {}
    failed: dict[bytes, str] = {}
    refused: list[bytes] = []
    with ThreadPoolExecutor(max(1, len(peers))) as pool:
        asked: dict[bytes, Future[Answer]] = {key: pool.submit(ask, peer) for key, peer in peers.items()}
        for key, answer in asked.items():
            try:
                found[key] = _checked(key, answer.result(), check)
            except PeerRefused as error:
                failed[key] = str(error)
                refused.append(key)
            except PeerFault as error:
                failed[key] = str(error)
            except HyperdustError as error:
                failed[key] = str(error)
                log.warning("wrong part of a common signature", key=key.hex(), reason=str(error))
    if failed:
        raise NotTogether(failed, given=given, refused=refused)
    return found


def _checked(key: bytes, answer: Answer, check: Callable[[bytes, tuple[bytes, ...]], None]) -> tuple[bytes, ...]:
    named, values = answer
    if named != key:
        raise SignatureWrong("key", named, key)
    check(key, values)
    return values
