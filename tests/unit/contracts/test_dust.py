import json

import pytest
from eth_account import Account

from tests.unit.contracts.harness import BTC, NOBODY, SYSTEM, Network, Reverted, beacon_of, reverts

DIFFICULTY = 1_000
SUBSIDY = 50 * 10**18
MARKET = "0x0000000000000000000000000000000000005003"


@pytest.fixture
def network():
    return Network(subsidy_lock_blocks=4, credit_lapse_blocks=160, halving_blocks=1_000)


@pytest.fixture
def miner(network):
    return network.account("miner")


def grant(network, account, macs):
    network.Dust.grant_credit(account, macs, sender=MARKET)


def test_a_block_without_credit_mints_a_tenth(network, miner):
    network.mine(2)
    network.open_block(miner, DIFFICULTY)
    reward = {"number": 2, "coinbase": miner, "minted": SUBSIDY // 10, "credit_spent": 0, "unlock_block": 6}
    assert ("Rewarded", reward) in network.events()
    assert network.Dust.reward_of(2) == (miner, SUBSIDY // 10, 0, 6, False)
    assert network.Dust.totalSupply() == SUBSIDY // 10 == network.Dust.balanceOf(network.Dust.address)
    assert network.Dust.total_difficulty() == DIFFICULTY
    assert network.Dust.total_credit_spent() == 0


def test_exactly_the_difficulty_is_spent_for_the_whole_subsidy(network, miner):
    network.mine()
    grant(network, miner, DIFFICULTY + 1)
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.reward_of(1)[1:3] == (SUBSIDY, DIFFICULTY)
    assert network.Dust.credit_of(miner) == (1, DIFFICULTY, 0)
    network.open_block(miner, DIFFICULTY)  # 1 MAC is not enough, and none is spent
    assert network.Dust.reward_of(2)[1:3] == (SUBSIDY // 10, 0)
    assert network.Dust.credit_of(miner) == (1, DIFFICULTY, 0)
    assert network.Dust.total_credit_spent() == DIFFICULTY


def test_credit_of_another_is_not_spent(network, miner):
    network.mine()
    grant(network, network.account("other"), DIFFICULTY)
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.reward_of(1)[1:3] == (SUBSIDY // 10, 0)
    assert network.Dust.credit_of(network.account("other")) == (DIFFICULTY, 0, 0)


def test_credit_of_many_epochs_adds_up_oldest_first(network, miner):
    for _ in range(3):  # epochs of 10 blocks
        grant(network, miner, 400)
        network.skip_to(network.number + 10)
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.credit_of(miner) == (200, DIFFICULTY, 0)
    network.skip_to(20 + 160 + 9)  # the last epoch, blocks 20 .. 29, still lives
    assert network.Dust.credit_of(miner) == (200, DIFFICULTY, 0)


def test_credit_lapses_with_its_epoch(network, miner):
    network.mine(3)
    grant(network, miner, DIFFICULTY)  # epoch 0: blocks 0 .. 9
    network.skip_to(9 + 160)
    assert network.Dust.credit_of(miner) == (DIFFICULTY, 0, 0)
    network.skip_to(9 + 160 + 1)
    assert network.Dust.credit_of(miner) == (0, 0, DIFFICULTY)
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.reward_of(network.number - 1)[1:3] == (SUBSIDY // 10, 0)


@pytest.mark.parametrize("lapse", [1, 2, 15, 16, 17, 31, 160, 100_800])
def test_credit_lives_at_least_the_lapse_and_at_most_an_epoch_more(lapse):
    network = Network(credit_lapse_blocks=lapse)
    epoch = network.Dust.epoch_blocks()
    assert epoch == -(-lapse // 16)
    for start in (1, epoch - 1, epoch, 5 * epoch + 1):
        if start < 1 or start < network.number:
            continue
        account = network.account(f"{start}")
        network.number = start
        grant(network, account, 7)
        network.number = start + lapse
        assert network.Dust.credit_of(account)[0] == 7
        network.number = start + lapse + epoch
        assert network.Dust.credit_of(account) == (0, 0, 7)


def test_every_live_epoch_counts(network, miner):
    for _ in range(18):
        grant(network, miner, 1)
        network.skip_to(network.number + 10)
    network.number = 169  # epoch 0 ended 160 blocks ago; the grant of block 170 is not made yet
    assert network.Dust.credit_of(miner)[0] == 17
    network.number = 180
    assert network.Dust.credit_of(miner) == (16, 0, 2)


def test_credit_saturates_instead_of_blocking_a_settlement(network, miner):
    grant(network, miner, 2**256 - 5)
    grant(network, miner, 100)
    assert network.Dust.credit_of(miner) == (2**256 - 1, 0, 0)
    network.mine()
    network.open_block(miner, 2**256 - 1)
    assert network.Dust.credit_of(miner) == (0, 2**256 - 1, 0)


def test_only_the_job_market_grants(network, miner):
    for sender in (SYSTEM, miner):
        with reverts("Dust: not the job market"):
            network.Dust.grant_credit(miner, 1, sender=sender)


def test_only_the_system_opens_blocks(network, miner):
    with reverts("Dust: not the system"):
        network.Dust.open_block(miner, DIFFICULTY, sender=miner)


def test_block_one_only_keeps_its_beacon(network):
    network.open_block()
    assert network.Dust.beacon(1) == beacon_of(1)
    assert network.Dust.totalSupply() == 0
    assert network.Dust.reward_of(0) == (NOBODY, 0, 0, 0, False)


def test_a_block_opens_once(network, miner):
    network.mine()
    network.open_block(miner, DIFFICULTY)
    network.Dust.open_block(miner, DIFFICULTY, sender=SYSTEM)
    assert network.events() == []
    assert network.Dust.totalSupply() == SUBSIDY // 10


def test_open_block_never_reverts_and_its_work_is_bounded(network, miner):
    bare = Network(initialize={})
    bare.open_block(miner, DIFFICULTY)
    network.Dust.open_block(miner, DIFFICULTY, sender=SYSTEM)  # number 0
    for _ in range(18):
        grant(network, miner, DIFFICULTY)
        network.skip_to(network.number + 10)
    for coinbase in (miner, NOBODY, SYSTEM, network.Dust.address, "0x" + "ff" * 20):
        for difficulty in (0, 1, 16 * DIFFICULTY, 2**256 - 1):
            network.open_block(coinbase, difficulty)
            assert network.gas_used < 1_000_000
    network.number = 2**63
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.reward_of(2**63)[:3] == (miner, 0, 0)


def test_the_subsidy_halves(network, miner):
    assert [network.Dust.subsidy_of(n) for n in (0, 999, 1_000, 1_999, 2_000, 400_000)] == [
        SUBSIDY,
        SUBSIDY,
        SUBSIDY // 2,
        SUBSIDY // 2,
        SUBSIDY // 4,
        0,
    ]
    network.skip_to(1_000)
    network.open_block(miner, DIFFICULTY)
    assert network.Dust.reward_of(1_000)[1] == SUBSIDY // 20


def test_beacons_are_kept_for_8192_blocks(network):
    network.mine(2)
    network.skip_to(8_194)
    assert network.Dust.beacon(2) == bytes(32)
    assert network.Dust.beacon(8_194) == beacon_of(8_194)
    assert network.Dust.beacon(8_195) == bytes(32)
    assert network.Dust.beacon(2**256 - 1) == bytes(32)
    early = Network()
    early.mine(2)
    early.skip_to(8_193)
    assert early.Dust.beacon(2) == beacon_of(2)
    assert early.Dust.beacon(1) == bytes(32)


def test_a_subsidy_is_claimed_once_after_its_lock(network, miner):
    network.mine(2)
    network.open_block(miner, DIFFICULTY)
    network.mine(2)
    with reverts("Dust: still locked"):
        network.Dust.claim(2)
    network.mine()
    wallet = network.account("wallet")
    network.Bonds.setPayout(wallet, sender=miner)
    network.Dust.claim(2, sender=network.account("anyone"))
    claimed = {"number": 2, "coinbase": miner, "to": wallet, "amount": SUBSIDY // 10}
    assert ("Claimed", claimed) in network.events()
    assert network.Dust.balanceOf(wallet) == SUBSIDY // 10 == network.Dust.totalSupply()
    assert network.Dust.reward_of(2)[4]
    with reverts("Dust: already claimed"):
        network.Dust.claim(2)


def test_refuses_to_claim_nothing(network):
    network.mine(3)
    with reverts("Dust: no reward"):
        network.Dust.claim(1)


def test_a_coinbase_cannot_point_its_payout_at_nowhere(network, miner):
    network.mine()
    network.Bonds.setPayout(network.Dust.address, sender=miner)  # its own folly: locked for ever, nobody else's
    network.open_block(miner, DIFFICULTY)
    network.mine(10)
    network.Dust.claim(1)
    assert network.Dust.balanceOf(network.Dust.address) == network.Dust.totalSupply()


def test_is_an_erc20_without_minter_or_owner(network, miner):
    token = network.Dust
    assert (token.name(), token.symbol(), token.decimals()) == ("Dust", "DUST", 18)
    names = {entry.get("name") for entry in token.abi}
    assert not names & {"mint", "set_minter", "owner", "transfer_ownership", "burn", "burn_from", "is_minter"}
    network.mine()
    network.open_block(miner, DIFFICULTY)
    network.mine(10)
    token.claim(1)
    friend, spender = network.account("friend"), network.account("spender")
    assert token.transfer(friend, 10, sender=miner)
    assert network.events() == [("Transfer", {"sender": miner, "receiver": friend, "value": 10})]
    token.approve(spender, 4, sender=friend)
    token.transferFrom(friend, spender, 4, sender=spender)
    assert (token.balanceOf(friend), token.balanceOf(spender), token.allowance(friend, spender)) == (6, 4, 0)
    with reverts("erc20: insufficient allowance"):
        token.transferFrom(friend, spender, 1, sender=spender)
    with reverts("erc20: transfer amount exceeds balance"):
        token.transfer(miner, 7, sender=friend)


@pytest.mark.parametrize("chain_id", [1, 48_000_123])
def test_permits_are_signed_for_this_chain_and_this_address(network, chain_id):
    network.chain_id = chain_id
    owner, spender = Account.from_key(b"\5" * 32), network.account("spender")
    message = {"owner": owner.address, "spender": spender, "value": 9, "nonce": 0, "deadline": 2**64}
    domain = {"name": "Dust", "version": "1", "chainId": chain_id, "verifyingContract": network.Dust.address}
    fields = dict.fromkeys(("value", "nonce", "deadline"), "uint256") | {"owner": "address", "spender": "address"}
    types = {"Permit": [{"name": key, "type": fields[key]} for key in message]}
    signed = owner.sign_typed_data(domain, types, message)
    parts = (signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big"))
    network.chain_id = chain_id + 1
    with reverts("erc20: invalid signature"):
        network.Dust.permit(owner.address, spender, 9, 2**64, *parts)
    network.chain_id = chain_id
    network.Dust.permit(owner.address, spender, 9, 2**64, *parts)
    assert network.Dust.allowance(owner.address, spender) == 9
    assert network.Dust.eip712Domain()[3:5] == (chain_id, network.Dust.address)


def test_initializes_once_and_by_the_system(network):
    with reverts("Dust: already initialized"):
        network.Dust.initialize(1, 1, 1, 1, sender=SYSTEM)
    with reverts("Dust: not the system"):
        network.Dust.initialize(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ({"subsidy_wei": 2**128 + 1}, "Dust: subsidy too large"),
        ({"halving_blocks": 0}, "Dust: empty era or lapse"),
        ({"credit_lapse_blocks": 0}, "Dust: empty era or lapse"),
        ({"subsidy_lock_blocks": 2**64 + 1}, "Dust: blocks beyond reason"),
        ({"credit_lapse_blocks": 2**64 + 1}, "Dust: blocks beyond reason"),
    ],
)
def test_refuses_numbers_that_could_stop_a_block(numbers, reason):
    with reverts(reason):
        Network(**numbers)


def test_no_wei_can_be_sent_to_dust(network, miner):
    with pytest.raises(Reverted):
        network.Dust.claim(1, sender=miner, value=BTC)
    assert json.dumps(network.Dust.abi).count('"payable"') == 0
