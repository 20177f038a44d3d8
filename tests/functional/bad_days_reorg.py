"""Reorganisations of Bitcoin at every stage of a bridging, with signers as processes, a real node and bitcoind.

Two blocks harm nothing. Eight freeze the peg where a credited sweep or a payout was in them, and nothing else; it thaws
once they are back, and if they cannot come back, once anybody has paid what is missing. Nobody helps the signers.
"""

from pathlib import Path

import pytest

from bridge.anchors import find_anchor
from hyperdust.signer.proposal import inputs_of
from tests.functional.signed_chain import Chain, open_chain
from tests.functional.signers_round import Signers

pytest_plugins = ["tests.functional.bitcoin_fixture"]
pytestmark = pytest.mark.functional

ROOT = Path(__file__).parents[2]
SATS, PAYOUT = 40_000_000, 3_000_000


@pytest.fixture
def chain(bitcoin, bitcoin_folder):
    folder = bitcoin_folder / "l2"
    folder.mkdir()
    with open_chain(bitcoin, folder, ROOT) as chain:
        yield chain


@pytest.fixture
def signers(tmp_path, chain, bitcoin):
    made = Signers(tmp_path, chain, bitcoin)
    made.start(0, 1, 2, genesis=chain.node.config.genesis)
    try:
        yield made
    finally:
        codes = made.stop()
        for index in range(3):
            print(f"--- signer {index}\n{made.log(index)[-6000:]}")
    assert all(code == 0 for code in codes), codes


def open_vault(chain: Chain):
    """The first round, deep and credited, and some surplus; who it was, and what she has."""
    to, _ = chain.pay_in(SATS)
    chain.mine(2)
    chain.wait_round()
    chain.bury()
    chain.until("a vault", lambda peg: peg.vault)
    chain.until("the credit", lambda _: chain.credited(to))
    return to, chain.credited(to)


def comes_back(chain: Chain):
    """What was lost is mined again, and the peg runs."""
    chain.until("lost rounds in the mempool", lambda _: chain.rounds())
    chain.bury()
    chain.until("the thaw", lambda peg: peg.frozen is None)
    chain.check_books()


def anchor_deeply(chain: Chain):
    """The height of a block that an anchor, not votes, made finalized."""
    while chain.finalized != chain.peg.vault.anchor_height:
        chain.burn(20_000)
        anchored = chain.until("an anchor", lambda _: next(filter(find_anchor, chain.rounds()), None))
        chain.bury()
        chain.until("the anchored round", lambda peg, txid=anchored.txid: peg.vault.txid == txid)
    return chain.finalized


def pays(made, sats):
    return any(one.sats == sats for one in made.outputs[1:])


@pytest.mark.parametrize("depth", [2, 8])
def test_at_every_stage(chain, signers, depth):
    deep = depth > chain.story.rules.origin_depth

    def is_frozen():
        """And a block with somebody's transaction is made all the same."""
        chain.goes_on()
        assert chain.frozen == ("reorganised" if deep else None)
        if deep:
            comes_back(chain)

    first, first_worth = open_vault(chain)
    # The deposit is lost, and comes back.
    to, coin = chain.pay_in()
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    assert chain.frozen is None, "nothing that was credited is gone"
    chain.pay_again(coin)
    chain.mine(2)
    # The sweep is lost when it is mined.
    sweep = chain.wait_round()
    assert coin in inputs_of(sweep)
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    assert chain.credited(to) == 0
    chain.until("the sweep again", lambda _: chain.rounds())
    chain.bury()
    worth = chain.until("the credit", lambda _: chain.credited(to))
    # The sweep of the credit is lost.
    chain.reorganise(depth)
    assert chain.credited(to) == worth
    is_frozen()
    # A withdrawal is queued.
    number, address = chain.withdraw(PAYOUT)
    chain.reorganise(depth)
    assert chain.withdrawal(number) == "queued"
    is_frozen()  # the sweep is in those blocks again
    # The payout is lost when it is mined, and when it is paid for good.
    chain.until("the payout", lambda _: [one for one in chain.rounds() if pays(one, PAYOUT)])
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    chain.until("the payout again", lambda _: [one for one in chain.rounds() if pays(one, PAYOUT)])
    chain.bury()
    chain.until("the word that it is paid", lambda _: chain.withdrawal(number) == "paid")
    chain.reorganise(depth)
    is_frozen()
    assert chain.withdrawal(number) == "paid"
    # An anchor is lost that made a block finalized.
    finalized = anchor_deeply(chain)
    chain.reorganise(depth)
    assert chain.finalized == finalized, "it never goes back"
    is_frozen()

    assert (chain.credited(first), chain.credited(to)) == (first_worth, worth), "credited once"
    assert chain.received(address) == (PAYOUT, 1), "paid once"
    assert chain.peg.queue == ()
    chain.check_books()
