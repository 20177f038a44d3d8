"""Evidence of a vault transaction, gathered from this signer's bitcoind and checked as it is built."""

from collections.abc import Iterable
from functools import lru_cache

from bridge.deposits import Claim, Evidence, Outpoint
from bridge.headers import Header
from bridge.inclusion import check_transaction_proof
from bridge.peg_state import PegState
from bridge.rules import PegRules
from bridge.scripts import Binding, Custody, deposit_output
from bridge.transactions import Transaction
from hyperdust.signer.errors import SourceFault
from hyperdust.signer.protection import show_txid
from hyperdust.signer.sources import Bitcoin, Mined


@lru_cache(maxsize=1 << 16)  # nodes keep 20,000 announcements, an address takes a quarter of a millisecond
def _script_of(custody: Custody, binding: Binding, rules: PegRules) -> bytes:
    return deposit_output(custody, binding, rules).script


def scripts_of(state: PegState, bindings: Iterable[Binding], rules: PegRules) -> dict[bytes, Binding]:
    """Deposit addresses that stand for these bindings, as scripts; unknown epochs are left out."""
    return {
        _script_of(state.custodies[one.epoch], one, rules): one for one in bindings if one.epoch < len(state.custodies)
    }


def build_evidence(
    txid: bytes, mined: Mined, known: dict[bytes, Binding], bitcoin: Bitcoin, *, is_first: bool
) -> Evidence:
    """What a block needs to take a vault transaction in; `known`: bindings by script, for its claims.

    Raises:
        SourceFault: bitcoind has not all of it; does it keep a transaction index?
        Invalid: what it gave proves nothing.
    """
    transaction = _load(txid, bitcoin)
    raw_header, proof = bitcoin.prove(txid, mined.block_hash)
    branch = check_transaction_proof(proof, Header.decode(raw_header), transaction.encode_stripped())
    places = [Outpoint(one.txid, one.index) for one in transaction.inputs[not is_first :]]
    funding = {place.txid: _load(place.txid, bitcoin) for place in places}
    claims = []
    for place in places:
        script = funding[place.txid].outputs[place.index].script
        if (binding := known.get(script)) is not None:
            claims.append(Claim(place, binding))
    return Evidence(mined.block_hash, branch, transaction, is_first, tuple(funding.values()), tuple(claims))


def _load(txid: bytes, bitcoin: Bitcoin) -> Transaction:
    found = bitcoin.load_transaction(txid)
    if found is None:
        raise SourceFault(f"bitcoind does not have transaction {show_txid(txid)}; it needs txindex=1")
    return Transaction.decode(found.encode_stripped())
