# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Dust: the coin that work mints, the credit that earns it in full, and the beacons of recent blocks
@license GPL-3.0-or-later
@notice An ERC-20 (snekmate) without minter or owner. The system call that opens block N + 1 mints a tenth of block
        N's subsidy, and the other nine tenths if N's coinbase holds credit for N's whole difficulty, which is then
        spent. Every subsidy is locked here until `claim`.
@dev A predeploy. The constructor only fixes the module's immutables while the artifact is built (they are part of
     the runtime code); what it writes to storage is lost, so nobody is owner or minter. The EIP-712 domain is
     computed in each call, because no network runs the code at the address where it was built.
     `initialize` is called once, by genesis. Source: protocol.md, The ticket; ADR 3.
"""

from snekmate.auth import ownable
from snekmate.tokens import erc20

initializes: ownable
initializes: erc20[ownable := ownable]

exports: (
    erc20.name,
    erc20.symbol,
    erc20.decimals,
    erc20.totalSupply,
    erc20.balanceOf,
    erc20.allowance,
    erc20.transfer,
    erc20.transferFrom,
    erc20.approve,
    erc20.permit,
    erc20.nonces,
    erc20.DOMAIN_SEPARATOR,
    erc20.eip712Domain,
)


interface Bonds:
    def payout_of(account: address) -> address: view


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
BONDS: constant(Bonds) = Bonds(0x0000000000000000000000000000000000005002)
JOB_MARKET: constant(address) = 0x0000000000000000000000000000000000005003
COURT: constant(address) = 0x0000000000000000000000000000000000005005

BEACONS: constant(uint256) = 8192
EPOCHS_PER_LAPSE: constant(uint256) = 16
LIVE_EPOCHS_MAX: constant(uint256) = 18  # 16 whole ones, the oldest partly lapsed, the present one
SUBSIDY_MAX: constant(uint256) = 2**128  # no sum of subsidies overflows: open_block must never revert


struct Reward:
    coinbase: address
    minted: uint256
    credit_spent: uint256
    unlock_block: uint256
    claimed: bool


event Initialized:
    subsidy: uint256
    halving_blocks: uint256
    lock_blocks: uint256
    lapse_blocks: uint256


event Rewarded:
    number: indexed(uint256)
    coinbase: indexed(address)
    minted: uint256
    credit_spent: uint256
    unlock_block: uint256


event CreditGranted:
    provider: indexed(address)
    macs: uint256
    epoch: uint256


event Claimed:
    number: indexed(uint256)
    coinbase: indexed(address)
    to: indexed(address)
    amount: uint256


event Forfeited:
    number: indexed(uint256)
    coinbase: indexed(address)
    reporter: indexed(address)
    amount: uint256


initialized: public(bool)
subsidy: public(uint256)  # wei of DUST in the first era
halving_blocks: public(uint256)
lock_blocks: public(uint256)
lapse_blocks: public(uint256)
epoch_blocks: public(uint256)
last_opened: public(uint256)  # block whose beacon is the newest
total_credit_spent: public(uint256)  # MACs
total_credit_granted: public(uint256)  # MACs
total_difficulty: public(uint256)  # MACs of all rewarded blocks: usefulness = spent / difficulty
_beacons: bytes32[8192]
_rewards: HashMap[uint256, Reward]
_buckets: HashMap[address, HashMap[uint256, uint256]]  # account -> epoch -> MACs not spent
_granted: HashMap[address, uint256]  # MACs, ever
_spent: HashMap[address, uint256]  # MACs, ever


@deploy
def __init__():
    ownable.__init__()
    erc20.__init__("Dust", "DUST", 18, "Dust", "1")


@external
def initialize(subsidy: uint256, halving_blocks: uint256, lock_blocks: uint256, lapse_blocks: uint256):
    """
    @notice Sets the network's numbers; once, by genesis.
    @param subsidy Wei of DUST that a block of the first era mints when credit is spent.
    @param halving_blocks Blocks of an era; each era's subsidy is half of the one before.
    @param lock_blocks Blocks after a block until its subsidy can be claimed.
    @param lapse_blocks Blocks after a grant until credit lapses, rounded up to the end of an epoch.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Dust: not the system"
    assert not self.initialized, "Dust: already initialized"
    assert subsidy <= SUBSIDY_MAX, "Dust: subsidy too large"
    assert halving_blocks > 0 and lapse_blocks > 0, "Dust: empty era or lapse"
    assert lock_blocks <= 2**64 and lapse_blocks <= 2**64, "Dust: blocks beyond reason"
    self.initialized = True
    self.subsidy = subsidy
    self.halving_blocks = halving_blocks
    self.lock_blocks = lock_blocks
    self.lapse_blocks = lapse_blocks
    self.epoch_blocks = (lapse_blocks + EPOCHS_PER_LAPSE - 1) // EPOCHS_PER_LAPSE
    log Initialized(
        subsidy=subsidy, halving_blocks=halving_blocks, lock_blocks=lock_blocks, lapse_blocks=lapse_blocks
    )


@external
def open_block(coinbase: address, difficulty: uint256):
    """
    @notice Opens a block: keeps its beacon, and rewards the block before it.
    @dev The first system call of every block. No state makes it revert, and its work is bounded: 18 epochs.
    @param coinbase The parent's coinbase; zero in block 1, since genesis had no proposer.
    @param difficulty The parent's difficulty in MACs; zero in block 1.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Dust: not the system"
    if not self.initialized or block.number <= self.last_opened:
        return
    self.last_opened = block.number
    self._beacons[block.number % BEACONS] = block.prevrandao
    if coinbase == empty(address) or difficulty == 0:
        return

    number: uint256 = block.number - 1
    subsidy: uint256 = self._subsidy_of(number)
    minted: uint256 = subsidy // 10
    credit_spent: uint256 = 0
    if self._spend_credit(coinbase, difficulty):
        credit_spent = difficulty
        minted = subsidy
    unlock_block: uint256 = number + self.lock_blocks
    self._rewards[number] = Reward(
        coinbase=coinbase, minted=minted, credit_spent=credit_spent, unlock_block=unlock_block, claimed=False
    )
    self.total_credit_spent = unsafe_add(self.total_credit_spent, credit_spent)
    self.total_difficulty = unsafe_add(self.total_difficulty, difficulty)
    erc20._mint(self, minted)
    log Rewarded(
        number=number, coinbase=coinbase, minted=minted, credit_spent=credit_spent, unlock_block=unlock_block
    )


@external
def grant_credit(provider: address, macs: uint256):
    """
    @notice Credits a provider with the mining MACs of a job that became final.
    @dev Saturates, so that no job can be made impossible to settle.
    """
    assert msg.sender == JOB_MARKET, "Dust: not the job market"
    granted: uint256 = self._granted[provider]
    amount: uint256 = min(macs, max_value(uint256) - granted)
    epoch: uint256 = block.number // self.epoch_blocks
    self._granted[provider] = granted + amount
    self._buckets[provider][epoch] += amount
    self.total_credit_granted = unsafe_add(self.total_credit_granted, amount)
    log CreditGranted(provider=provider, macs=amount, epoch=epoch)


@external
@nonreentrant
def claim(number: uint256):
    """
    @notice Pays a block's subsidy to where its coinbase wants it, once its lock is over. Anyone may send this.
    """
    reward: Reward = self._rewards[number]
    assert reward.coinbase != empty(address), "Dust: no reward"
    assert not reward.claimed, "Dust: already claimed"
    assert block.number >= reward.unlock_block, "Dust: still locked"
    self._rewards[number].claimed = True
    to: address = staticcall BONDS.payout_of(reward.coinbase)
    erc20._transfer(self, to, reward.minted)
    log Claimed(number=number, coinbase=reward.coinbase, to=to, amount=reward.minted)


@external
@nonreentrant
def forfeit(coinbase: address, numbers: DynArray[uint256, 64], reporter: address) -> uint256:
    """
    @notice Takes the subsidies of these blocks from a coinbase that voted twice: half of each is burned, the other
            half is the reporter's. Only what is still locked can be taken; the rest is passed over.
    @return DUST taken.
    """
    assert msg.sender == COURT, "Dust: not the court"
    total: uint256 = 0
    for number: uint256 in numbers:
        reward: Reward = self._rewards[number]
        if reward.coinbase != coinbase or reward.claimed or block.number >= reward.unlock_block:
            continue
        self._rewards[number].claimed = True
        total += reward.minted
        log Forfeited(number=number, coinbase=coinbase, reporter=reporter, amount=reward.minted)
    assert total > 0, "Dust: nothing locked to forfeit"
    erc20._transfer(self, reporter, total // 2)
    erc20._burn(self, total - total // 2)
    return total


@external
@view
def credit_of(account: address) -> (uint256, uint256, uint256):
    """
    @notice MACs that an account holds, has spent, and has let lapse.
    """
    held: uint256 = self._held(account)
    spent: uint256 = self._spent[account]
    return held, spent, self._granted[account] - spent - held


@external
@view
def reward_of(number: uint256) -> (address, uint256, uint256, uint256, bool):
    """
    @notice What a block earned: coinbase, DUST minted, credit spent, block from which it can be claimed, claimed.
    @dev Known from the next block on.
    """
    reward: Reward = self._rewards[number]
    return reward.coinbase, reward.minted, reward.credit_spent, reward.unlock_block, reward.claimed


@external
@view
def subsidy_of(number: uint256) -> uint256:
    """
    @notice What a block mints when credit is spent for it.
    """
    return self._subsidy_of(number)


@external
@view
def beacon(number: uint256) -> bytes32:
    """
    @notice The beacon (PREVRANDAO) of one of the last 8,192 blocks, this one included; zero if not known.
    """
    if number > self.last_opened or self.last_opened - number >= BEACONS:
        return empty(bytes32)
    return self._beacons[number % BEACONS]


@internal
@view
def _subsidy_of(number: uint256) -> uint256:
    if self.halving_blocks == 0:
        return 0
    return self.subsidy >> (number // self.halving_blocks)


@internal
@view
def _oldest_live_epoch() -> uint256:
    # An epoch lives while its last block is at most `lapse_blocks` ago.
    if block.number <= self.lapse_blocks:
        return 0
    return (block.number - self.lapse_blocks) // self.epoch_blocks


@internal
@view
def _held(account: address) -> uint256:
    if self.epoch_blocks == 0:
        return 0
    oldest: uint256 = self._oldest_live_epoch()
    newest: uint256 = block.number // self.epoch_blocks
    held: uint256 = 0
    for i: uint256 in range(LIVE_EPOCHS_MAX):
        if oldest + i > newest:
            break
        held += self._buckets[account][oldest + i]  # at most `_granted`
    return held


@internal
def _spend_credit(account: address, macs: uint256) -> bool:
    # All or nothing, oldest first.
    if self._held(account) < macs:
        return False
    oldest: uint256 = self._oldest_live_epoch()
    missing: uint256 = macs
    for i: uint256 in range(LIVE_EPOCHS_MAX):
        bucket: uint256 = self._buckets[account][oldest + i]
        taken: uint256 = min(bucket, missing)
        if taken > 0:
            self._buckets[account][oldest + i] = bucket - taken
            missing -= taken
        if missing == 0:
            break
    self._spent[account] += macs
    return True
