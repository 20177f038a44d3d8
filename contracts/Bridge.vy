# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Bridge: bitcoin out of the chain, and what the chain knows of the vault
@license GPL-3.0-or-later
@notice `withdraw` burns BTC here and queues a payout on Bitcoin. The peg itself is decided by consensus: the system
        call that opens a block writes what has become of deposits, payouts and the vault. Whatever is sent here is
        burned for good: this contract never pays.
@dev A predeploy; `initialize` is called once, by genesis. The peg's whole state is committed to by `peg_root`, the
     keccak256 of its one encoding, which nodes keep beside this contract's storage (ADR 14). No system call may
     revert: a block that cannot open stops the chain. Source: docs/spec/bridge.md.
"""

SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
WEI_PER_SAT: constant(uint256) = 10**10
MAX_SATS: constant(uint256) = 21 * 10**14
QUEUE_MAX: constant(uint256) = 256  # withdrawals that one block may queue, and give up
RECORDS_MAX: constant(uint256) = 256
SATS: constant(uint256) = 2**64 - 1

QUEUED: constant(uint256) = 1
GIVEN_UP: constant(uint256) = 2
PAID: constant(uint256) = 3
REFUNDED: constant(uint256) = 4

P2PKH: constant(uint256) = 1
P2SH: constant(uint256) = 2
P2WPKH: constant(uint256) = 3
P2WSH: constant(uint256) = 4
P2TR: constant(uint256) = 5
HASH_20: constant(uint256) = (2**160 - 1) << 96

# Starts and ends of scripts, as numbers.
KEY_HASH: constant(uint256) = 7776532  # 76a914
KEY_HASH_END: constant(uint256) = 34988  # 88ac
SCRIPT_HASH: constant(uint256) = 43284  # a914
SCRIPT_HASH_END: constant(uint256) = 135  # 87
WITNESS_20: constant(uint256) = 20  # 0014
WITNESS_32: constant(uint256) = 32  # 0020
TAPROOT: constant(uint256) = 20768  # 5120
OP_RETURN: constant(uint256) = 106  # 6a
CHECKSIG: constant(uint256) = 172  # ac
CHECKMULTISIG: constant(uint256) = 174  # ae
PAY_TO_ANCHOR: constant(uint256) = 1359105651  # 51024e73
OP_1: constant(uint256) = 81  # 51
OP_16: constant(uint256) = 96  # 60


struct Withdrawal:
    account: address  # who burned; a refund goes there
    packed: uint256  # sats 64 | maximum fee 64 | kind 8 | status 8 | block of the last change 64, from the lowest bit
    payload: bytes32  # of the script, left-aligned


struct Queued:
    number: uint256
    sats: uint256
    max_fee: uint256
    kind: uint256
    payload: bytes32


event Initialized:
    peg_root: bytes32
    supply_wei: uint256
    min_payout_sats: uint256


event WithdrawalQueued:
    number: indexed(uint256)
    account: indexed(address)
    script: Bytes[34]
    sats: uint256
    max_fee: uint256


event WithdrawalGivenUp:
    number: indexed(uint256)
    account: indexed(address)


event Credited:
    outpoint: indexed(bytes32)


event WithdrawalChanged:
    number: indexed(uint256)
    status: uint256


event PegChanged:
    peg_root: bytes32
    supply_wei: uint256
    vault_sats: uint256
    frozen: uint256


initialized: public(bool)
min_payout_sats: public(uint256)
peg_root: public(bytes32)  # keccak256 of the peg's state
evidence_root: public(bytes32)  # of the last block that carried evidence: the seal binds it through the state root
vault_sats: public(uint256)  # by the book, below the origin
frozen_reason: public(uint256)  # 0: the peg runs; bridge/peg_state.py names the others
credit_count: public(uint256)  # credits and refunds, ever: the next one's index in `withdrawals`
next_number: public(uint256)  # of the next withdrawal
credited_at: public(HashMap[bytes32, uint256])  # keccak256(txid, uint256 index) -> block that credited it
_supply: uint256  # wei, as of the last update
_fees: uint256  # wei of base fees burned since
_counted: uint256  # of this contract's balance: burned by withdrawals, or told to the peg
_first_queued: uint256  # number of the first withdrawal that the peg has not taken in
_withdrawals: HashMap[uint256, Withdrawal]
_given_up: HashMap[uint256, uint256]
_given_up_count: uint256
_first_given_up: uint256


@deploy
def __init__():
    pass


@external
def initialize(peg_root: bytes32, supply_wei: uint256, min_payout_sats: uint256):
    """
    @notice Opens the peg; once, by genesis.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bridge: not the system"
    assert not self.initialized, "Bridge: already initialized"
    self.initialized = True
    self.peg_root = peg_root
    self._supply = supply_wei
    self.min_payout_sats = min_payout_sats
    log Initialized(peg_root=peg_root, supply_wei=supply_wei, min_payout_sats=min_payout_sats)


@external
@payable
def __default__():
    """
    @notice Burns what is sent: it becomes surplus of the vault, from which anchors are paid.
    """
    assert len(msg.data) == 0, "Bridge: no such function"


@external
@payable
def withdraw(script: Bytes[128], max_fee_sats: uint256) -> uint256:
    """
    @notice Burns the value and queues a payout of it, less the maximum fee, to a Bitcoin script.
    @param script P2PKH, P2SH, P2WPKH, P2WSH or P2TR.
    @param max_fee_sats The most that the payout bears of its Bitcoin transaction's fee; it is burned too.
    @return The withdrawal's number.
    """
    assert self.initialized, "Bridge: no peg on this network"
    assert self.frozen_reason == 0, "Bridge: the peg is frozen"
    assert msg.value % WEI_PER_SAT == 0, "Bridge: not a whole number of sats"
    value: uint256 = msg.value // WEI_PER_SAT
    assert value <= MAX_SATS, "Bridge: more than there is"
    assert max_fee_sats <= value and value - max_fee_sats >= self.min_payout_sats, "Bridge: payout too small"
    kind: uint256 = 0
    payload: uint256 = 0
    kind, payload = self._read_script(script)
    number: uint256 = self.next_number
    assert number - self._first_queued < QUEUE_MAX, "Bridge: too many withdrawals in this block"
    sats: uint256 = value - max_fee_sats
    self.next_number = number + 1
    self._counted += msg.value
    self._withdrawals[number] = Withdrawal(
        account=msg.sender,
        packed=sats | max_fee_sats << 64 | kind << 128 | QUEUED << 136 | block.number << 144,
        payload=convert(payload, bytes32),
    )
    log WithdrawalQueued(
        number=number,
        account=msg.sender,
        script=self._script_of(kind, convert(payload, bytes32)),
        sats=sats,
        max_fee=max_fee_sats,
    )
    return number


@external
def give_up(number: uint256):
    """
    @notice Asks for a queued withdrawal back. Signers pay it no more; a payout on its way may still come. The refund
            comes once an anchor that knows of this lies deep in Bitcoin.
    """
    withdrawal: Withdrawal = self._withdrawals[number]
    assert withdrawal.account == msg.sender and msg.sender != empty(address), "Bridge: not your withdrawal"
    assert withdrawal.packed >> 136 & 255 == QUEUED, "Bridge: not waiting"
    assert self.frozen_reason == 0, "Bridge: the peg is frozen"
    count: uint256 = self._given_up_count
    assert count - self._first_given_up < QUEUE_MAX, "Bridge: too many given up in this block"
    self._given_up[count] = number
    self._given_up_count = count + 1
    self._set_status(number, GIVEN_UP)
    log WithdrawalGivenUp(number=number, account=msg.sender)


@external
def count_fees(fees: uint256):
    """
    @notice Opens a block in which the peg does not change: remembers the base fees that the block before burned.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bridge: not the system"
    if fees > 0:
        self._fees += fees


@external
def update(
    peg_root: bytes32, supply_wei: uint256, vault_sats: uint256, frozen: uint256, credits: uint256, evidence_root: bytes32
):
    """
    @notice Opens a block in which the peg changes: it has taken in all withdrawals and burns of the blocks before.
    @param frozen Why the peg stands still; 0: it does not.
    @param credits Credits and refunds of this block.
    @param evidence_root Of the evidence in this block; zero where it carries none.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bridge: not the system"
    self.peg_root = peg_root
    self._supply = supply_wei
    self._fees = 0
    self._counted = self.balance
    self._first_queued = self.next_number
    self._first_given_up = self._given_up_count
    self.vault_sats = vault_sats
    self.frozen_reason = frozen
    self.credit_count += credits
    if evidence_root != empty(bytes32):
        self.evidence_root = evidence_root
    log PegChanged(peg_root=peg_root, supply_wei=supply_wei, vault_sats=vault_sats, frozen=frozen)


@external
def record(
    outpoints: DynArray[bytes32, RECORDS_MAX],
    numbers: DynArray[uint256, RECORDS_MAX],
    statuses: DynArray[uint256, RECORDS_MAX],
):
    """
    @notice Keeps what became of deposits and withdrawals, for whoever asks.
    @param outpoints keccak256(txid, uint256 index) of deposits that this block credits.
    @param numbers Withdrawals whose status changes, as `statuses` says.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Bridge: not the system"
    for outpoint: bytes32 in outpoints:
        self.credited_at[outpoint] = block.number
        log Credited(outpoint=outpoint)
    for i: uint256 in range(RECORDS_MAX):
        if i >= len(numbers) or i >= len(statuses):
            break
        self._set_status(numbers[i], statuses[i])
        log WithdrawalChanged(number=numbers[i], status=statuses[i])


@external
@view
def supply_wei() -> uint256:
    """
    @notice BTC on this chain.
    """
    return self._supply - min(self._supply, self._burned_since() + self._queued_wei())


@external
@view
def is_frozen() -> bool:
    """
    @notice Whether the peg stands still: no withdrawal, no credit. Blocks go on.
    """
    return self.frozen_reason != 0


@external
@view
def pending() -> (bytes32, uint256, uint256, DynArray[Queued, QUEUE_MAX], DynArray[uint256, QUEUE_MAX]):
    """
    @notice What the peg's next change starts from: `peg_root`, wei burned since the last, `credit_count`, withdrawals
            queued and numbers given up since.
    """
    given_up: DynArray[uint256, QUEUE_MAX] = []
    first: uint256 = self._first_given_up
    for i: uint256 in range(QUEUE_MAX):
        if first + i >= self._given_up_count:
            break
        given_up.append(self._given_up[first + i])
    return self.peg_root, self._burned_since(), self.credit_count, self._queued(), given_up


@external
@view
@raw_return
def requests() -> Bytes[64 + 160 * QUEUE_MAX]:
    """
    @notice Withdrawals of this block, for its requests (EIP-7685, type 0xf0): abi.encode of their list; nothing for
            none.
    """
    queued: DynArray[Queued, QUEUE_MAX] = self._queued()
    if len(queued) == 0:
        return b""
    return abi_encode(queued)


@external
@view
def withdrawal_of(number: uint256) -> (address, Bytes[34], uint256, uint256, uint256, uint256):
    """
    @notice A withdrawal: who burned, script, sats, maximum fee, status (0 none, 1 queued, 2 given up, 3 paid,
            4 refunded), block of the last change.
    """
    withdrawal: Withdrawal = self._withdrawals[number]
    packed: uint256 = withdrawal.packed
    return (
        withdrawal.account,
        self._script_of(packed >> 128 & 255, withdrawal.payload),
        packed & SATS,
        packed >> 64 & SATS,
        packed >> 136 & 255,
        packed >> 144,
    )


@internal
@view
def _burned_since() -> uint256:
    return self._fees + self.balance - self._counted


@internal
@view
def _queued_wei() -> uint256:
    total: uint256 = 0
    first: uint256 = self._first_queued
    for i: uint256 in range(QUEUE_MAX):
        if first + i >= self.next_number:
            break
        packed: uint256 = self._withdrawals[first + i].packed
        total += (packed & SATS) + (packed >> 64 & SATS)
    return total * WEI_PER_SAT


@internal
@view
def _queued() -> DynArray[Queued, QUEUE_MAX]:
    queued: DynArray[Queued, QUEUE_MAX] = []
    first: uint256 = self._first_queued
    for i: uint256 in range(QUEUE_MAX):
        if first + i >= self.next_number:
            break
        withdrawal: Withdrawal = self._withdrawals[first + i]
        packed: uint256 = withdrawal.packed
        queued.append(
            Queued(
                number=first + i,
                sats=packed & SATS,
                max_fee=packed >> 64 & SATS,
                kind=packed >> 128 & 255,
                payload=withdrawal.payload,
            )
        )
    return queued


@internal
def _set_status(number: uint256, status: uint256):
    packed: uint256 = self._withdrawals[number].packed
    self._withdrawals[number].packed = packed & (2**136 - 1) | status << 136 | block.number << 144


@internal
@pure
def _read_script(script: Bytes[128]) -> (uint256, uint256):
    # Kind and payload of one of the five; any other reverts by its name.
    size: uint256 = len(script)
    padded: Bytes[192] = concat(script, empty(bytes32), empty(bytes32))
    head: uint256 = convert(extract32(padded, 0), uint256)
    if size == 25 and head >> 232 == KEY_HASH and convert(extract32(padded, 23), uint256) >> 240 == KEY_HASH_END:
        return P2PKH, convert(extract32(padded, 3), uint256) & HASH_20
    if size == 23 and head >> 240 == SCRIPT_HASH and convert(extract32(padded, 22), uint256) >> 248 == SCRIPT_HASH_END:
        return P2SH, convert(extract32(padded, 2), uint256) & HASH_20
    if size == 22 and head >> 240 == WITNESS_20:
        return P2WPKH, convert(extract32(padded, 2), uint256) & HASH_20
    if size == 34 and head >> 240 == WITNESS_32:
        return P2WSH, convert(extract32(padded, 2), uint256)
    if size == 34 and head >> 240 == TAPROOT:
        return P2TR, convert(extract32(padded, 2), uint256)
    if size == 0:
        raise "Bridge: no script"
    first: uint256 = head >> 248
    last: uint256 = convert(extract32(padded, size - 1), uint256) >> 248
    if first == OP_RETURN:
        raise "Bridge: OP_RETURN refused"
    if last == CHECKSIG and (size == 35 or size == 67):
        raise "Bridge: P2PK refused"
    if last == CHECKMULTISIG:
        raise "Bridge: bare multisig refused"
    if size == 4 and head >> 224 == PAY_TO_ANCHOR:
        raise "Bridge: P2A refused"
    if size >= 4 and size <= 42 and head >> 240 & 255 == size - 2 and (first == 0 or first >= OP_1 and first <= OP_16):
        raise "Bridge: witness version refused"
    raise "Bridge: no standard script"


@internal
@pure
def _script_of(kind: uint256, payload: bytes32) -> Bytes[34]:
    short: Bytes[20] = slice(payload, 0, 20)
    if kind == P2PKH:
        return concat(x"76a914", short, x"88ac")
    if kind == P2SH:
        return concat(x"a914", short, x"87")
    if kind == P2WPKH:
        return concat(x"0014", short)
    if kind == P2WSH:
        return concat(x"0020", payload)
    if kind == P2TR:
        return concat(x"5120", payload)
    return b""
