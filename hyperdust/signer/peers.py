"""Signers over gRPC: this one's server, its view of the others. Messages are bounded, calls have deadlines."""

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog

from chain.errors import HyperdustError
from hyperdust.proto import signer_pb2 as messages
from hyperdust.proto.signer_pb2_grpc import SignersServicer, SignersStub, add_SignersServicer_to_server
from hyperdust.signer.errors import PeerFault, PeerRefused
from hyperdust.signer.key import is_signed, presence_digest
from hyperdust.signer.session import Session

log = structlog.get_logger()

_MAX_MESSAGE_BYTES: Final = 1 << 20
"""A proposal and a signed transaction, and room."""
_GREET_S: Final = 3.0
_SIGN_S: Final = 30.0
"""A signer asks its node and its bitcoind for every deposit."""
_WORKERS: Final = 4
_CALLS: Final = 16
_NONCE_BYTES: Final = 32
_TEXT: Final = 400
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class Presence:
    """A signer that answers, and how far it sees."""

    key: bytes
    bitcoin_height: int
    final_number: int
    finalized_number: int


class Peer:
    """Another signer at an address; whose key it holds is seen when it answers. Safe from any thread."""

    def __init__(self, address: str, chain: bytes) -> None:
        self.address = address
        self._chain = chain
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._stub: Any = SignersStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def greet(self) -> Presence:
        """Who is there.

        Raises:
            PeerFault: nobody, or nobody who shows a key.
        """
        nonce = secrets.token_bytes(_NONCE_BYTES)
        answer = self._call(self._stub.Greet, messages.Greeting(chain=self._chain, nonce=nonce), _GREET_S)
        numbers = answer.bitcoin_height, answer.final_number, answer.finalized_number
        if not is_signed(answer.key, presence_digest(self._chain, nonce, answer.key, *numbers), answer.signature):
            raise PeerFault(f"signer at {self.address} shows no key")
        return Presence(answer.key, *numbers)

    def sign(self, proposal: bytes, signature: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Its key, and what it says are its signatures: to be checked.

        Raises:
            PeerFault: no answer.
            PeerRefused: by the rule that it names.
        """
        return self._answer(self._stub.Sign, messages.Signed(proposal=proposal, signature=signature))

    def commit(self, proposal: bytes, signature: bytes) -> tuple[bytes, tuple[bytes, ...]]:
        """Its key, and what it says are its public nonces: to be checked.

        Raises:
            PeerFault: no answer.
            PeerRefused: by the rule that it names.
        """
        return self._answer(self._stub.Commit, messages.Signed(proposal=proposal, signature=signature))

    def sign_together(
        self, proposal: bytes, signature: bytes, nonces: tuple[bytes, ...], nonces_signature: bytes
    ) -> tuple[bytes, tuple[bytes, ...]]:
        """Its key, and what it says are its parts of the signatures: to be checked.

        Raises:
            PeerFault: no answer.
            PeerRefused: by the rule that it names.
        """
        signed = messages.Signed(proposal=proposal, signature=signature)
        together = messages.Together(round=signed, nonces=nonces, signature=nonces_signature)
        return self._answer(self._stub.SignTogether, together)

    def _answer(self, method: Any, request: Any) -> tuple[bytes, tuple[bytes, ...]]:
        answer = self._call(method, request, _SIGN_S)
        if not answer.signatures:
            raise PeerRefused(answer.rule[:_TEXT], answer.text[:_TEXT])
        return answer.key, tuple(answer.signatures)

    def deliver(self, proposal: bytes, signature: bytes, transaction: bytes) -> None:
        """Show it a completed round.

        Raises:
            PeerFault: no answer.
            PeerRefused: by the rule that it names.
        """
        signed = messages.Signed(proposal=proposal, signature=signature)
        answer = self._call(self._stub.Deliver, messages.Completed(round=signed, transaction=transaction), _SIGN_S)
        if answer.rule:
            raise PeerRefused(answer.rule[:_TEXT], "")

    def _call(self, method: Any, request: Any, timeout_s: float) -> Any:
        try:
            return method(request, timeout=timeout_s)
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed
            reason = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise PeerFault(f"signer at {self.address}: {reason[:_TEXT]}") from error


class Peers:
    """All others that were named at start."""

    def __init__(self, addresses: tuple[str, ...], chain: bytes) -> None:
        self.all = tuple(Peer(address, chain) for address in addresses)
        self._said: dict[str, str] = {}

    def greet(self) -> Mapping[bytes, tuple[Peer, Presence]]:
        """Those who answer, by key."""
        found: dict[bytes, tuple[Peer, Presence]] = {}
        if not self.all:
            return found
        with ThreadPoolExecutor(len(self.all)) as pool:
            for peer, answer in zip(self.all, pool.map(_greet, self.all), strict=True):
                if isinstance(answer, Presence):
                    found[answer.key] = peer, answer
                    self.say(peer, "")
                else:
                    self.say(peer, str(answer))
        return found

    def say(self, peer: Peer, trouble: str) -> None:
        """Log a change of a peer's trouble once."""
        if self._said.get(peer.address, "") != trouble:
            self._said[peer.address] = trouble
            if trouble:
                log.warning("signer away", peer=peer.address, reason=trouble)
            else:
                log.info("signer is back", peer=peer.address)

    def close(self) -> None:
        """Close all connections."""
        for peer in self.all:
            peer.close()


class SignerService(SignersServicer):  # type: ignore[misc]  # generated
    """What this signer answers others."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said = ""

    def Greet(self, request: messages.Greeting, _context: Any) -> messages.Presence:  # noqa: N802  # gRPC's name
        """Who is here."""
        session = self._session
        if request.chain != session.chain or len(request.nonce) != _NONCE_BYTES:
            _context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another chain, or no nonce")
        try:
            node, bitcoin = session.sources.node, session.sources.bitcoin
            numbers = bitcoin.load_height(), node.load_final().number, node.load_finalized().number
        except HyperdustError as error:
            _context.abort(grpc.StatusCode.UNAVAILABLE, type(error).__name__)
        key = session.key.public
        digest = presence_digest(request.chain, request.nonce, key, *numbers)
        return messages.Presence(
            key=key,
            bitcoin_height=numbers[0],
            final_number=numbers[1],
            finalized_number=numbers[2],
            signature=session.key.sign(digest),
        )

    def Sign(self, request: messages.Signed, _context: Any) -> messages.Answer:  # noqa: N802  # gRPC's name
        """Signatures, or a refusal."""
        return self._answer(lambda: self._session.sign(request.proposal, request.signature))

    def Commit(self, request: messages.Signed, _context: Any) -> messages.Answer:  # noqa: N802  # gRPC's name
        """Public nonces, or a refusal."""
        return self._answer(lambda: self._session.commit(request.proposal, request.signature))

    def SignTogether(self, request: messages.Together, _context: Any) -> messages.Answer:  # noqa: N802  # gRPC's name
        """Parts of signatures, or a refusal."""
        signed, nonces = request.round, tuple(request.nonces)
        return self._answer(
            lambda: self._session.sign_together(signed.proposal, signed.signature, nonces, request.signature)
        )

    def _answer(self, ask: Callable[[], tuple[bytes, ...]]) -> messages.Answer:
        key = self._session.key.public
        try:
            signatures = ask()
        except HyperdustError as error:
            if (reason := str(error)[:_TEXT]) != self._said:  # a leader asks again and again
                self._said = reason
                log.warning("refused to sign", reason=reason)
            return messages.Answer(key=key, rule=type(error).__name__, text=str(error)[:_TEXT])
        return messages.Answer(key=key, signatures=signatures)

    def Deliver(self, request: messages.Completed, _context: Any) -> messages.Receipt:  # noqa: N802  # gRPC's name
        """A round that somebody completed."""
        try:
            self._session.deliver(request.round.proposal, request.round.signature, request.transaction)
        except HyperdustError as error:
            log.info("completed round not taken", rule=type(error).__name__, reason=str(error)[:_TEXT])
            return messages.Receipt(rule=type(error).__name__)
        return messages.Receipt()


def serve(session: Session, address: str) -> Any:
    """Answer others at an address; `stop` what it gives.

    Raises:
        PeerFault: the address cannot be listened on.
    """
    pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="signers")
    server = grpc.server(pool, options=(*_OPTIONS, ("grpc.so_reuseport", 0)), maximum_concurrent_rpcs=_CALLS)
    add_SignersServicer_to_server(SignerService(session), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PeerFault(f"cannot listen on {address}: {error}") from error
    if port == 0:
        raise PeerFault(f"cannot listen on {address}; is another signer running?")
    server.start()
    return server


def _greet(peer: Peer) -> Presence | PeerFault:
    try:
        return peer.greet()
    except PeerFault as error:
        return error
