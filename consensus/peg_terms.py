"""What a network's table says of the peg, in the peg's own types."""

from functools import cache

from bridge.peg import make_genesis
from bridge.peg_codec import encode_state
from bridge.rules import PegRules
from bridge.scripts import Custody, SignerSet
from chain.errors import NodeFault
from chain.params import ChainParams, KeySet, PegParams


@cache
def rules_of(params: ChainParams) -> PegRules:
    """The peg's constants on a network that has one."""
    peg = _peg(params)
    return PegRules(
        chain_id=params.chain_id,
        origin_depth=params.origin_depth_blocks,
        credit_depths=peg.credit_depths,
        refund_depth=peg.refund_depth_blocks,
        reclaim_blocks=peg.reclaim_blocks,
        emergency_blocks=peg.emergency_blocks,
        notice_blocks=peg.notice_blocks,
        takeover_margin_blocks=peg.takeover_margin_blocks,
        record_blocks=peg.record_blocks,
        min_deposit_sats=peg.min_deposit_sats,
        min_payout_sats=peg.min_payout_sats,
    )


@cache
def encode_genesis_peg(params: ChainParams) -> bytes:
    """The peg's state in block 0.

    Raises:
        SignerSetInvalid: the signers or the council of the table can hold nothing.
    """
    peg = _peg(params)
    custody = Custody(0, _signers(peg.signers), _signers(peg.council))
    return encode_state(make_genesis(custody, params.genesis_supply_wei))


def _signers(keys: KeySet) -> SignerSet:
    return SignerSet(keys.threshold, keys.keys, keys.group_key)


def _peg(params: ChainParams) -> PegParams:
    if params.peg is None:
        raise NodeFault(f"network {params.network} has no peg")
    return params.peg
