"""What a network's peg asks for, as a person's program needs it: Bitcoin's network, rules, signers, the peg's state.

Rules and the first signers come with this program (genesis/<network>.json); the rest is what the node says.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

from bridge.params import NETWORKS, BitcoinParams
from bridge.peg_codec import decode_state
from bridge.peg_state import PegState, Reason
from bridge.rules import PegRules
from bridge.scripts import Binding, Custody, address_of, deposit_output
from bridge.taproot import TaprootOutput
from chain.errors import HyperdustError
from chain.params import DEVNET_CHAIN_IDS, ChainParams
from hyperdust.bridging.errors import NoBitcoin, NotStanding
from hyperdust.rpc_client import RpcClient, RpcError

_UNKNOWN_METHOD: Final = -32601


@dataclass(frozen=True, slots=True)
class Terms:
    """One network's peg at one L2 block."""

    chain_id: int
    bitcoin: BitcoinParams
    rules: PegRules
    state: PegState
    height: int
    """Of Bitcoin's tip, as the node sees it."""
    origin_height: int | None
    """Of the Bitcoin block that the head builds on; None: none yet."""
    node_frozen: str | None
    """Why the node says that the peg stands still."""
    missing_sats: int | None = 0
    """What a gift has to bring to make a frozen peg whole, by the node; 0: nothing is missing; null: it cannot tell."""

    @property
    def custody(self) -> Custody:
        """Whose address new deposits are paid to: who would hold a vault output that is signed for now."""
        return self.state.custody_at(self.height, self.rules)

    @property
    def frozen(self) -> str | None:
        """Why the peg stands still; None: it runs."""
        return self.node_frozen if self.state.frozen is None else self.state.frozen.reason.name.lower()

    @property
    def is_stolen(self) -> bool:
        """Whether the vault was spent against its rules: what is paid to it helps nobody."""
        return self.state.frozen is not None and self.state.frozen.reason is Reason.UNKNOWN_SPEND

    def output_of(self, binding: Binding) -> TaprootOutput:
        """Where a deposit of that binding is paid to."""
        if binding.epoch >= len(self.state.custodies):
            raise NotStanding(f"no signers of epoch {binding.epoch} are named; epochs run to {self.custody.epoch}")
        return deposit_output(self.state.custodies[binding.epoch], binding, self.rules)

    def address_of(self, binding: Binding) -> str:
        """The same as people write it."""
        return address_of(self.output_of(binding), self.bitcoin)

    def check_running(self) -> None:
        """Check that the peg takes coins now.

        Raises:
            NotStanding: it is frozen.
        """
        if self.frozen is not None:
            raise NotStanding(
                f"the peg is frozen ({self.frozen}): nothing is credited or paid until it thaws; "
                "see `hyperdust bridge audit`"
            )


def read_terms(client: RpcClient) -> Terms:
    """Ask a node, and check what it says of the first signers against this program's own table.

    Raises:
        NoBitcoin: the network has no bridge, or the node follows no Bitcoin.
        NotStanding: the node serves another network's signers, or none that this program knows.
    """
    chain_id = client.quantity("eth_chainId")
    params = load_params(chain_id)
    status = ask_peg(client, "hyperdust_pegStatus")
    if status is None:
        raise NoBitcoin(f"the node at {client.url} follows no Bitcoin")
    if params.peg is None:
        raise NoBitcoin(f"network {params.network} has no signers yet, so no bridge")
    answer = ask_peg(client, "hyperdust_getPegState", "latest")
    if answer is None:
        raise NoBitcoin(f"the chain at {client.url} has no bridge")
    from consensus.peg_terms import rules_of  # noqa: PLC0415  # loads curve code

    state = decode_state(bytes.fromhex(answer["state"][2:]))
    first = state.custodies[0]
    if (first.signers.keys, first.signers.threshold) != (params.peg.signers.keys, params.peg.signers.threshold):
        raise NotStanding(
            f"the node at {client.url} names other first signers than {params.network}'s table in this program; "
            "do not pay: ask another node with --rpc URL"
        )
    return Terms(
        chain_id,
        NETWORKS[params.bitcoin_network],
        replace(rules_of(params), chain_id=chain_id),
        state,
        int(status["bitcoin"]["height"]),
        None if status["origin"] is None else status["origin"]["height"],
        status["frozen_reason"] if status["frozen"] else None,
        status.get("missing_sats"),
    )


def load_params(chain_id: int) -> ChainParams:
    """This program's own table of the network with a chain id.

    Raises:
        NotStanding: it has none.
    """
    from hyperdust.node.genesis import load_network  # noqa: PLC0415  # reads contracts and graphs

    found = load_network("regtest" if chain_id in DEVNET_CHAIN_IDS else "main").params
    if chain_id not in {found.chain_id, *DEVNET_CHAIN_IDS}:
        raise NotStanding(f"chain {chain_id} is none that this program has a table of; is --rpc right?")
    return found


def ask_peg(client: RpcClient, method: str, *params: object) -> Any:
    """Call one of the peg's methods; None where the node does not serve it.

    Raises:
        HyperdustError: any other error of the node.
    """
    try:
        return client.call(method, *params)
    except RpcError as error:
        if error.code == _UNKNOWN_METHOD:
            return None
        raise HyperdustError(f"{method}: {error.message}") from error
