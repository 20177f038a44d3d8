"""Reorganisations of Bitcoin at every stage of a bridging, with signers as processes, a real node and bitcoind.

Two blocks harm nothing. Eight freeze the peg where a credited sweep or a payout was in them, and nothing else; it thaws
once they are back, and if they cannot come back, once anybody has paid what is missing. Nobody helps the signers.
"""

import re
from functools import partial
from pathlib import Path

import pytest

from bridge.anchors import find_anchor
from bridge.params import REGTEST
from bridge.shortage import gift_address
from hyperdust.bitcoind import parse_hash
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
    chain.wait_round()
    chain.bury()
    chain.until("the thaw", lambda peg: peg.frozen is None)
    chain.check_books()


def anchor_deeply(chain: Chain):
    """The height of a block that an anchor, not votes, made finalized."""
    while chain.finalized != chain.peg.vault.anchor_height:
        chain.burn(20_000)
        anchored = chain.wait_round(find_anchor)
        chain.bury()
        chain.until("the anchored round", lambda peg, txid=anchored.txid: peg.vault.txid == txid)
    return chain.finalized


def pays(made):
    return any(one.sats == PAYOUT for one in made.outputs[1:])


def stands_still(chain: Chain, deep):
    """Where it has to, until all is back; a block with somebody's transaction is made all the same."""
    chain.goes_on()
    assert chain.frozen == ("reorganised" if deep else None)
    if deep:
        comes_back(chain)


def takes(made, coin):
    return coin in inputs_of(made)


@pytest.mark.parametrize("depth", [2, 8])
def test_at_every_stage(chain, signers, depth):
    deep = depth > chain.story.rules.origin_depth

    first, first_worth = open_vault(chain)
    if deep:  # the first round of all; bitcoind itself puts nothing back from so far below
        chain.reorganise(12)
        stands_still(chain, deep)
    # The deposit is lost, and comes back.
    to, coin = chain.pay_in()
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    assert chain.frozen is None, "nothing that was credited is gone"
    chain.pay_again(coin)
    chain.mine(2)
    # The sweep is lost when it is mined.
    chain.wait_round(lambda made: takes(made, coin))
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    assert chain.credited(to) == 0
    chain.wait_round(lambda made: takes(made, coin))
    chain.bury()
    worth = chain.until("the credit", lambda _: chain.credited(to))
    # The sweep of the credit is lost.
    chain.reorganise(depth)
    assert chain.credited(to) == worth
    stands_still(chain, deep)
    # A withdrawal is queued.
    number, address = chain.withdraw(PAYOUT)
    chain.reorganise(depth)
    assert chain.withdrawal(number) == "queued"
    stands_still(chain, deep)  # the sweep is in those blocks again
    # The payout is lost when it is mined, and when it is paid for good.
    chain.wait_round(pays)
    chain.mine(2)
    chain.reorganise(depth)
    chain.goes_on()
    chain.wait_round(pays)
    chain.bury()
    chain.until("the word that it is paid", lambda _: chain.withdrawal(number) == "paid")
    chain.reorganise(depth)
    stands_still(chain, deep)
    assert chain.withdrawal(number) == "paid"
    # An anchor is lost that made a block finalized.
    finalized = anchor_deeply(chain)
    chain.reorganise(depth)
    assert chain.finalized == finalized, "it never goes back"
    stands_still(chain, deep)

    assert (chain.credited(first), chain.credited(to)) == (first_worth, worth), "credited once"
    assert chain.received(address) == (PAYOUT, 1), "paid once"
    assert chain.peg.queue == ()
    chain.check_books()


def test_another_version_in_its_place_pays_and_credits_nothing_twice(chain, signers):
    open_vault(chain)
    for index in (0, 1):  # one alone makes no round: what is paid in now and what is paid out goes into one
        signers.kill(index)
    to, coin = chain.pay_in()
    number, address = chain.withdraw(PAYOUT)
    chain.mine(2)
    signers.start(0, 1, genesis=chain.node.config.genesis)
    cheap = chain.wait_round(lambda made: pays(made) and takes(made, coin))
    dear = chain.until_bumped(cheap)
    chain.mine(1)
    chain.bury(6)
    worth = chain.until("the credit", lambda _: chain.credited(to))
    assert chain.peg.vault.txid == dear.txid
    assert chain.withdrawal(number) == "paid"
    chain.reorganise(10, [cheap.encode().hex()])
    assert chain.frozen == "reorganised"
    chain.goes_on()
    chain.until("the thaw", lambda peg: peg.frozen is None)
    assert chain.peg.vault.txid == cheap.txid
    assert (chain.credited(to), chain.withdrawal(number)) == (worth, "paid")
    chain.mine(7)
    chain.advance(3)
    assert chain.received(address) == (PAYOUT, 1)
    assert chain.credited(to) == worth
    chain.check_books()


def wait_alarm(chain, signers, *words):
    """The last alarm of a signer that says all that: how much is missing, and where it is to be paid."""

    def look(_):
        said = [line for line in signers.log(0).splitlines() if "ALARM: frozen" in line]
        return said[-1] if said and all(word in said[-1] for word in words) else None

    line = chain.until(f"an alarm with {words}", look)
    missing, address = re.search(r"(\d+) sats are missing: anybody may pay them to (bcrt1p\w+)", line).groups()
    return int(missing), address


def make_good(chain, signers, words, give):
    """Pay what signers say is missing, in two parts, to where they say: a round takes both in, and nothing else."""
    missing, address = wait_alarm(chain, signers, *words)
    vault = chain.peg.vault
    part = chain.pay(address, missing // 2)
    chain.mine(2)
    chain.until("word of the part", lambda _: "sats lie there" in signers.log(0))
    assert not chain.rounds(), "too little: it waits"
    rest = give(address, missing, missing - missing // 2)
    chain.mine(2)
    made = chain.wait_round()
    assert set(inputs_of(made)[1:]) == {part, rest}
    assert len(made.outputs) == 1
    chain.goes_on()
    assert chain.peg.vault == vault, "nothing changes before it lies deep"
    chain.mine(1)
    chain.until("its evidence", lambda _: chain.client.call("hyperdust_pegStatus")["missing_sats"] == 0)
    chain.bury()
    chain.until("the thaw", lambda peg: peg.frozen is None)
    assert chain.peg.vault.txid == made.txid
    chain.check_books()


def give_by_command(chain, address, missing, sats):
    shown = chain.ask("audit", code=1)
    assert (shown["missing_sats"], shown["gift_address"], shown["ok"]) == (missing, address, False)
    given = chain.ask("gift", "--btc", f"{sats / 10**8:.8f}")
    assert (given["address"], given["missing_sats"]) == (address, missing)
    return chain.find_paid(parse_hash(given["txid"]), address)


def check_lives(chain):
    """Coins go in and out again; a gift in ordinary times is taken in, and is surplus."""
    surplus = chain.peg.surplus_sats
    number, address = chain.withdraw(PAYOUT)
    to, _ = chain.pay_in()
    chain.pay(gift_address(chain.peg, chain.story.rules, REGTEST), 100_000)
    chain.settle("payout and credit", lambda: chain.withdrawal(number) == "paid" and chain.credited(to))
    chain.settle("the gift", lambda: chain.peg.surplus_sats > surplus + 80_000)
    assert chain.received(address) == (PAYOUT, 1)
    assert chain.frozen is None


def test_a_credited_deposit_that_is_spent_twice_is_made_good_by_anybody(chain, signers):
    first, first_worth = open_vault(chain)
    chain.mine(3)
    to, coin = chain.pay_in(5_000_000)
    chain.mine(2)
    chain.wait_round()
    chain.bury()
    worth = chain.until("the credit", lambda _: chain.credited(to))
    twice = chain.spend_otherwise(coin)
    chain.reorganise(chain.depth(coin), [twice])
    assert chain.frozen == "reorganised"
    assert chain.credited(to) == worth
    chain.goes_on()
    make_good(chain, signers, ("reorganised", "cannot come back"), partial(give_by_command, chain))
    assert (chain.credited(first), chain.credited(to)) == (first_worth, worth)
    assert coin in chain.peg.undone, "were it mined after all, it would credit nothing"
    check_lives(chain)


def test_a_vault_that_its_signers_overdrew_is_made_good_by_anybody(chain, signers):
    open_vault(chain)
    chain.overdraw(1_000_000)
    chain.bury()
    chain.until("the freeze", lambda peg: peg.frozen is not None)
    assert chain.frozen == "overdrawn"
    make_good(chain, signers, ("overdrawn",), lambda address, _, sats: chain.pay(address, sats))
