"""What a signer is told of changes of the signer set: who is announced, until when a retired key is needed."""

from bridge.peg_state import PegState
from bridge.rules import PegRules


def custody_notices(state: PegState, key: bytes, tip: int, rules: PegRules) -> dict[str, str]:
    """Sentences by subject; empty where there is nothing to say. They change only when something does."""
    present, announced = state.custody, state.announced
    named = f"epoch {announced[-1].epoch} from Bitcoin height {announced[-1].starts_at} on" if announced else ""
    if announced and announced[-1].signers.keys != present.signers.keys:
        joined = [one.hex() for one in announced[-1].signers.keys if one not in present.signers.keys]
        left = [one.hex() for one in present.signers.keys if one not in announced[-1].signers.keys]
        named += f": in {', '.join(joined) or 'nobody'}, out {', '.join(left) or 'nobody'}"
    rescuers = ", ".join(str(one.epoch) for one in state.rescuers)
    return {
        "other signers are announced": named,
        "ALARM: the council has named others": rescuers and f"epochs {rescuers}, for the vault of now",
        "this key": "" if key in present.signers.keys else _standing(state, key, tip, rules),
    }


def _standing(state: PegState, key: bytes, tip: int, rules: PegRules) -> str:
    if state.announced and key in state.announced[-1].signers.keys:
        return "is announced: it signs once the vault is handed over, and has to be reachable from then on"
    held = [one.coin.height for one in state.records if key not in state.custodies[one.coin.epoch].signers.keys]
    if key in {one for custody in state.answering() for one in custody.signers.keys}:
        until = (held[0] if held else tip) + rules.record_blocks
        return f"is retired: deposits to old addresses need it until about Bitcoin height {until}"
    if any(key in custody.signers.keys for custody in state.custodies):
        return "is retired and no longer needed"
    return "stands in no signer set of this chain: is it the right key, and the right network?"
