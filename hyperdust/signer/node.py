"""The signer's own node, over JSON-RPC."""

from typing import Any, Final

from bridge.anchors import AnchoredFacts
from bridge.peg_codec import decode_state
from bridge.peg_errors import StateMalformed
from bridge.scripts import Binding
from hyperdust.rpc_client import RpcClient, RpcError
from hyperdust.signer.errors import SourceFault
from hyperdust.signer.sources import PegAt, Place

_HEAD: Final = "latest"


class RpcNode:
    """One node. Safe from any thread."""

    def __init__(self, url: str) -> None:
        self._client = RpcClient(url)

    def close(self) -> None:
        """Close pooled connections."""
        self._client.close()

    def load_chain(self) -> bytes:
        """Hash of the genesis block."""
        return self.load_place(0).hash

    def load_peg(self, number: int | None = None) -> PegAt:
        """The peg at a height; None: at the head.

        Raises:
            SourceFault: the node knows no peg there.
        """
        answer = self._call("hyperdust_getPegState", _HEAD if number is None else hex(number))
        try:
            state = decode_state(_bytes(answer["state"]))
            return PegAt(Place(_number(answer["height"]), _bytes(answer["hash"])), state)
        except (StateMalformed, KeyError, TypeError, ValueError) as error:
            raise SourceFault(f"hyperdust_getPegState: {error}; is the node of this version?") from error

    def load_place(self, number: int) -> Place:
        """The block at a height."""
        return self._block(hex(number))

    def load_block(self, number: int) -> bytes:
        """A block of the node's chain, encoded whole.

        Raises:
            SourceFault: the node has none there.
        """
        found = self._call("hyperdust_getRawBlock", hex(number))
        if found is None:
            raise SourceFault(f"the node has no block {number}")
        return _bytes(found)

    def load_facts(self, number: int, previous: bytes) -> AnchoredFacts:
        """What an anchor of a block commits to.

        Raises:
            SourceFault: the node cannot tell.
        """
        raw = self._call("hyperdust_getAnchorFacts", hex(number), "0x" + previous.hex())
        try:
            return AnchoredFacts(
                _bytes(raw["blockHash"]),
                _bytes(raw["stateRoot"]),
                _bytes(raw["pegOutRoot"]),
                _bytes(raw["workRoot"]),
                _number(raw["vaultSats"]),
                _bytes(raw["previous"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SourceFault(f"hyperdust_getAnchorFacts: {error!r}") from error

    def load_final(self) -> Place:
        """What votes made final."""
        final = self._call("hyperdust_finality")["final"]
        return Place(_number(final["block"]), _bytes(final["hash"]))

    def load_finalized(self) -> Place:
        """What `finalized` means to the node."""
        return self._block("finalized")

    def load_announced(self) -> tuple[Binding, ...]:
        """Deposits that users announced to the node; what cannot be read is left out."""
        found = []
        for one in self._call("hyperdust_getAnnouncedDeposits") or ():
            try:
                binding = Binding(
                    _bytes(one["userKey"]), _bytes(one["address"]), _number(one["maxFee"]), _number(one["epoch"])
                )
            except (KeyError, TypeError, ValueError):
                continue
            if len(binding.user_key) == 32 and len(binding.address) == 20:
                found.append(binding)
        return tuple(found)

    def submit_evidence(self, raw: bytes) -> None:
        """Hand evidence in.

        Raises:
            RpcError: the node refuses it.
        """
        self._call("hyperdust_submitEvidence", "0x" + raw.hex())

    def _block(self, block: str) -> Place:
        found = self._call("eth_getBlockByNumber", block, False)
        if found is None:
            raise SourceFault(f"the node has no block {block}")
        return Place(_number(found["number"]), _bytes(found["hash"]))

    def _call(self, method: str, *params: object) -> Any:
        try:
            return self._client.call(method, *params)
        except RpcError as error:
            raise SourceFault(f"{method}: {error}") from error


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def _number(value: int | str) -> int:
    return int(value, 16) if isinstance(value, str) and value.startswith("0x") else int(value)
