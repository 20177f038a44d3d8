# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Scheduler: prepaid calls, made by whoever runs them for a tip
@license GPL-3.0-or-later
@notice A call is due at a block, at every interval of blocks, or when a job reaches a status. `run` is an ordinary
        transaction that anyone may send: it pays the gas at the block's base fee and a tip that grows with lateness,
        at most what was prepaid for it. A target that reverts or burns its gas blocks nobody and costs its payer.
@dev A predeploy without numbers of its own. No rule of consensus depends on it. Every target sees this contract as
     its caller, whoever scheduled the call: never trust it for that. Calls carry no value. `schedule`,
     `schedule_on_job` and `fund` stay open while a target runs, so that it may schedule its next call; they call
     nobody but JobMarket's views. Source: protocol.md, Jobs.
"""

# The first fields of JobMarket's Job, in its order.
struct JobHead:
    graph: bytes32
    requester: address
    provider: address
    fee: uint256
    credit: uint256
    deadline: uint256
    requested_at: uint256
    submitted_at: uint256
    revealed_at: uint256
    closed_at: uint256


interface JobMarket:
    def status(number: uint256) -> uint8: view
    def job(number: uint256) -> JobHead: view


JOB_MARKET: constant(JobMarket) = JobMarket(0x0000000000000000000000000000000000005003)

CLAIMED: constant(uint8) = 2
REVEALED: constant(uint8) = 3
FINAL: constant(uint8) = 4

GAS_LIMIT_MAX: constant(uint256) = 10_000_000  # a transaction carries at most 2^24 (EIP-7825)
RUN_GAS: public(constant(uint256)) = 100_000  # what a run costs around what it measures: the transaction, the payment
KEPT_GAS: constant(uint256) = 60_000  # left for the bookkeeping after the target
TIP_BLOCKS: constant(uint256) = 32  # lateness from which all that was prepaid goes to the runner
BLOCKS_MAX: constant(uint256) = 2**64
DUE_MAX: constant(uint256) = 100
NEVER: constant(uint256) = max_value(uint256)


struct Call:
    owner: address  # who scheduled it, and may cancel it
    refund_to: address  # who gets what is left, and may cancel it too
    target: address
    gas_limit: uint256  # of each call
    balance: uint256  # wei prepaid and not spent
    times: uint256  # calls left
    next_block: uint256  # first block of the next call; 0 if it waits for a job
    interval: uint256  # blocks between calls
    job: uint256  # 0: none
    status: uint8  # of the job: 2 claimed, 3 revealed, 4 final; refunded and slashed count as all of them


event Scheduled:
    id: indexed(uint256)
    owner: indexed(address)
    target: indexed(address)
    refund_to: address
    data: Bytes[1024]
    gas_limit: uint256
    first_block: uint256
    interval: uint256
    times: uint256
    job: uint256
    status: uint8
    value: uint256


event Funded:
    id: indexed(uint256)
    value: uint256


event Ran:
    id: indexed(uint256)
    runner: indexed(address)
    success: bool
    paid: uint256  # wei
    lateness: uint256  # blocks
    times: uint256  # calls left


event Cancelled:
    id: indexed(uint256)
    account: indexed(address)


event Ended:
    id: indexed(uint256)
    refund_to: indexed(address)
    refund: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


calls_count: public(uint256)
open_count: public(uint256)
escrow: public(uint256)  # wei of open calls
total_owed: public(uint256)  # wei; balance = escrow + total_owed
owed: public(HashMap[address, uint256])  # wei for `withdraw`
_calls: HashMap[uint256, Call]
_data: HashMap[uint256, Bytes[1024]]
_open: HashMap[uint256, uint256]  # place -> id; a call that ends leaves its place to the last one
_place: HashMap[uint256, uint256]


@external
@payable
def schedule(
    target: address,
    data: Bytes[1024],
    gas_limit: uint256,
    first_block: uint256,
    interval: uint256,
    times: uint256,
    refund_to: address = msg.sender,
) -> uint256:
    """
    @notice Schedules calls at a block and every `interval` blocks after it; the value sent prepays all of them.
    @param target Who is called; without value.
    @param data Input of each call.
    @param gas_limit Gas that each call gets.
    @param first_block When the first is due; a past block means now.
    @param interval Blocks from one to the next; intervals that nobody ran are left out, not made up for.
    @param times How many calls.
    @param refund_to Who gets what is left at the end; the sender if not given.
    @return Id of the call, from 1.
    """
    assert first_block <= block.number + BLOCKS_MAX, "Scheduler: block beyond reason"
    assert times > 0, "Scheduler: no times"
    assert times <= BLOCKS_MAX, "Scheduler: times beyond reason"
    assert interval > 0 or times == 1, "Scheduler: no interval"
    assert interval <= BLOCKS_MAX, "Scheduler: interval beyond reason"
    return self._add(target, data, gas_limit, max(first_block, block.number), interval, times, 0, 0, refund_to)


@external
@payable
def schedule_on_job(
    job: uint256,
    status: uint8,
    target: address,
    data: Bytes[1024],
    gas_limit: uint256,
    refund_to: address = msg.sender,
) -> uint256:
    """
    @notice Schedules one call for when a job of JobMarket has reached a status.
    @param job Number of the job.
    @param status 2 claimed, 3 revealed, 4 final; a job that was refunded or slashed has reached all of them.
    @return Id of the call, from 1.
    """
    assert status >= CLAIMED and status <= FINAL, "Scheduler: no status to wait for"
    assert staticcall JOB_MARKET.status(job) > 0, "Scheduler: no such job"
    return self._add(target, data, gas_limit, 0, 0, 1, job, status, refund_to)


@external
@payable
def fund(id: uint256):
    """
    @notice Adds to what is prepaid for a call: a higher tip, or a higher base fee to bear.
    """
    assert msg.value > 0, "Scheduler: nothing sent"
    assert self._calls[id].times > 0, "Scheduler: no such call"
    self._calls[id].balance += msg.value
    self.escrow += msg.value
    log Funded(id=id, value=msg.value)


@external
@nonreentrant
def run(id: uint256) -> bool:
    """
    @notice Makes a call that is due, and pays whoever sends this. Anyone may.
    @return Whether the target succeeded; the runner is paid either way.
    """
    gas_before: uint256 = msg.gas
    call: Call = self._calls[id]
    assert call.times > 0, "Scheduler: no such call"
    due_block: uint256 = self._due_block(call)
    assert due_block <= block.number, "Scheduler: not due"
    # Gas short of the limit would let a runner make the target fail.
    assert msg.gas - msg.gas // 64 >= call.gas_limit + KEPT_GAS, "Scheduler: too little gas to run it"

    lateness: uint256 = block.number - due_block
    allowance: uint256 = call.balance // call.times
    data: Bytes[1024] = self._data[id]
    times: uint256 = call.times - 1
    self.escrow -= allowance
    if times == 0:
        self._remove(id)
    else:
        self._calls[id].times = times
        self._calls[id].balance = call.balance - allowance
        self._calls[id].next_block = due_block + call.interval * (1 + lateness // call.interval)

    success: bool = raw_call(call.target, data, gas=call.gas_limit, revert_on_failure=False)

    cost: uint256 = min(allowance, (gas_before - msg.gas + RUN_GAS) * block.basefee)
    paid: uint256 = cost + (allowance - cost) * min(lateness + 1, TIP_BLOCKS) // TIP_BLOCKS
    log Ran(id=id, runner=msg.sender, success=success, paid=paid, lateness=lateness, times=times)
    if times == 0:
        self._owe(id, call.refund_to, allowance - paid)
    else:
        self._calls[id].balance += allowance - paid
        self.escrow += allowance - paid
    raw_call(msg.sender, b"", value=paid)
    return success


@external
@nonreentrant
def cancel(id: uint256):
    """
    @notice Ends a call before its last time; what is left becomes withdrawable. For its owner and its payer.
    """
    call: Call = self._calls[id]
    assert call.times > 0, "Scheduler: no such call"
    assert msg.sender == call.owner or msg.sender == call.refund_to, "Scheduler: not yours to cancel"
    self.escrow -= call.balance
    self._remove(id)
    log Cancelled(id=id, account=msg.sender)
    self._owe(id, call.refund_to, call.balance)


@external
@nonreentrant
def withdraw(account: address = msg.sender):
    """
    @notice Pays an account what its ended calls left. Anyone may send this; the money goes to the account.
    """
    amount: uint256 = self.owed[account]
    assert amount > 0, "Scheduler: nothing owed"
    self.owed[account] = 0
    self.total_owed -= amount
    log Withdrawn(account=account, amount=amount)
    raw_call(account, b"", value=amount)


@external
@view
def call_of(id: uint256) -> (Call, Bytes[1024]):
    """
    @notice An open call and its input; zeros if there is none or it has ended.
    """
    return self._calls[id], self._data[id]


@external
@view
def open_at(place: uint256) -> uint256:
    """
    @notice Id at a place of the list of open calls, which has `open_count` places and no order.
    """
    assert place < self.open_count, "Scheduler: no such place"
    return self._open[place]


@external
@view
def due_block(id: uint256) -> uint256:
    """
    @notice The block since which a call is due, or will be; 2^256 - 1 if it waits for a job or is not open.
    """
    call: Call = self._calls[id]
    if call.times == 0:
        return NEVER
    return self._due_block(call)


@external
@view
def due(start: uint256, limit: uint256) -> DynArray[uint256, DUE_MAX]:
    """
    @notice Ids that `run` takes now, among the places `start` to `start + limit - 1` of the list of open calls.
    @param limit At most 100.
    """
    found: DynArray[uint256, DUE_MAX] = []
    for i: uint256 in range(min(limit, DUE_MAX), bound=DUE_MAX):
        if start >= self.open_count or i >= self.open_count - start:
            break
        id: uint256 = self._open[start + i]
        if self._due_block(self._calls[id]) <= block.number:
            found.append(id)
    return found


@external
@view
def quote(gas_limit: uint256) -> uint256:
    """
    @notice Wei to prepay for one call: twice its cost at this block's base fee, for a rise of it and the tip.
    @dev For contracts: an `eth_call` without a gas price sees a base fee of zero.
    """
    return 2 * (gas_limit + RUN_GAS) * block.basefee


@internal
@payable
def _add(
    target: address,
    data: Bytes[1024],
    gas_limit: uint256,
    first_block: uint256,
    interval: uint256,
    times: uint256,
    job: uint256,
    status: uint8,
    refund_to: address,
) -> uint256:
    assert target != empty(address) and target != self, "Scheduler: no such target"
    assert refund_to != empty(address), "Scheduler: nobody to refund"
    assert gas_limit > 0 and gas_limit <= GAS_LIMIT_MAX, "Scheduler: gas out of bounds"
    assert msg.value // times >= (gas_limit + RUN_GAS) * block.basefee, "Scheduler: prepaid too little"
    assert msg.value // times > 0, "Scheduler: prepaid too little"
    id: uint256 = self.calls_count + 1
    self.calls_count = id
    self.escrow += msg.value
    self._calls[id] = Call(
        owner=msg.sender,
        refund_to=refund_to,
        target=target,
        gas_limit=gas_limit,
        balance=msg.value,
        times=times,
        next_block=first_block,
        interval=interval,
        job=job,
        status=status,
    )
    self._data[id] = data
    self._open[self.open_count] = id
    self._place[id] = self.open_count
    self.open_count += 1
    log Scheduled(
        id=id,
        owner=msg.sender,
        target=target,
        refund_to=refund_to,
        data=data,
        gas_limit=gas_limit,
        first_block=first_block,
        interval=interval,
        times=times,
        job=job,
        status=status,
        value=msg.value,
    )
    return id


@internal
def _remove(id: uint256):
    last: uint256 = self.open_count - 1
    moved: uint256 = self._open[last]
    place: uint256 = self._place[id]
    self._open[place] = moved
    self._place[moved] = place
    self._open[last] = 0
    self._place[id] = 0
    self.open_count = last
    self._calls[id] = empty(Call)
    self._data[id] = b""


@internal
def _owe(id: uint256, account: address, amount: uint256):
    self.owed[account] += amount
    self.total_owed += amount
    log Ended(id=id, refund_to=account, refund=amount)


@internal
@view
def _due_block(call: Call) -> uint256:
    if call.job == 0:
        return call.next_block
    if staticcall JOB_MARKET.status(call.job) < call.status:
        return NEVER
    head: JobHead = staticcall JOB_MARKET.job(call.job)
    if call.status == CLAIMED and head.submitted_at > 0:
        return head.submitted_at
    if call.status == REVEALED and head.revealed_at > 0:
        return head.revealed_at
    return head.closed_at
