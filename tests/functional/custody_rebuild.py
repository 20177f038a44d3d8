"""Signers change and a council comes to help, on a real node with its blocks on a real bitcoind; then all from Bitcoin.

The chain and its signers are those of `rebuild_story.py`; Bitcoin checks each signature and the council's lock.
"""

from dataclasses import replace

import pytest

from bridge.custody import Announcement, choose_signatures, deciders_of
from bridge.rescue import build_rescue
from consensus.evidence import encode_evidence_item
from tests.functional.rebuild_story import open_story, rebuild
from tests.unit.bridge.keys import make_key, make_signers, sign

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

RATE = 1_000


@pytest.fixture
def story(bitcoin, tmp_path, pytestconfig):
    with open_story(bitcoin, tmp_path, pytestconfig.rootpath) as story:
        yield story


def announce(story, signers, *, by_council=False):
    """In the next block, signed by those who decide."""
    peg = story.peg
    height = story.bitcoin.client.chain_info().height
    made = Announcement(len(peg.custodies), signers, peg.custody.council, height + 100, by_council)
    deciders, message = deciders_of(peg, by_council=by_council), made.digest(story.rules.chain_id)
    found = {key: sign(key, message) for key in deciders.keys}
    story.node.peg.evidence.add(encode_evidence_item(replace(made, signatures=choose_signatures(deciders, found))))
    story.mine()
    return story.peg.custodies[-1]


def anchored_round(story):
    """A payout and an anchor that names the blocks, by whoever is to hold the vault."""
    story.withdraw()
    epoch = story.peg.custody_at(story.bitcoin.client.chain_info().height, story.rules).epoch
    story.sign_round([], replace(story.make_anchor(story.publish()), epoch=epoch))


def test_a_chain_whose_signers_changed_twice_comes_back_from_bitcoin(story):
    story.start()
    story.withdraw()
    present = story.peg.custody.signers
    joined = replace(present, keys=tuple(sorted((*present.keys[1:], make_key(41)))))
    following = announce(story, joined)
    assert story.peg.announced == (following,)
    story.bury(story.rules.notice_blocks + story.rules.takeover_margin_blocks + 1)
    story.mine()
    anchored_round(story)
    assert (story.peg.custody, story.peg.queue) == (following, ())

    story.bury(story.rules.emergency_blocks - 6)
    story.mine()
    story.withdraw()
    story.bury(6)
    story.mine()
    named = announce(story, make_signers(60, 3, 2), by_council=True)
    assert story.peg.rescuers == (named,)
    rescue = build_rescue(story.peg, RATE, story.rules)
    council, message = story.peg.custody.council, rescue.sighash
    signed = rescue.complete({key: sign(key, message) for key in council.keys[:2]})
    story.bitcoin.client.send_raw_transaction(signed.encode())
    story.bury(1)
    story.node.peg.evidence.add(encode_evidence_item(story.show(signed.txid)))
    story.bury(6)
    story.mine(2)
    assert (story.peg.custody, story.peg.frozen, len(story.peg.queue)) == (named, None, 1)
    anchored_round(story)
    assert (story.peg.queue, story.peg.frozen) == ((), None)
    anchored = story.peg.vault.anchor_height

    fresh = rebuild(story)
    assert (fresh.rebuilt.anchored_height, fresh.rebuilt.anchors) == (anchored, 2)
    assert fresh.head == story.node.store.latest.canonical_hash(fresh.height)
    assert fresh.height >= anchored
