# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title JobMarket: paid executions of registered hypergraphs
@license GPL-3.0-or-later
@notice A job is requested with its fee locked, submitted with its output (claimed: usable at once), checked by a
        companion where the beacon draws one, revealed, and final a window after the reveal. What differs holds the
        job open for the court, which alone may convict a provider. Money goes back by time alone.
@dev A predeploy: `initialize` is called once, by genesis. Payments are pushed with little gas and, if that fails,
     kept for `withdraw`: nobody's code can hold up a job. balance = escrow + total_owed.
     Source: protocol.md, Jobs; ADR 3, ADR 9.
"""

interface GraphRegistry:
    def macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256: view
    def mining_macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256: view
    def credited_macs(graph: bytes32, symbols: DynArray[uint32, 4], output_size: uint256) -> uint256: view
    def royalties(graph: bytes32) -> (DynArray[address, 3], DynArray[uint256, 3]): view


interface Bonds:
    def is_provider(graph: bytes32, account: address) -> bool: view
    def provider_count(graph: bytes32) -> uint256: view
    def drawn_provider(graph: bytes32, index: uint256) -> address: view
    def companion_count(graph: bytes32) -> uint256: view
    def drawn_companion(graph: bytes32, index: uint256, count: uint256, excluded: address) -> address: view
    def bond_of(account: address) -> uint256: view
    def payout_of(account: address) -> address: view
    def pause(account: address): nonpayable
    def slash(account: address, beneficiary: address) -> uint256: nonpayable


interface Dust:
    def beacon(number: uint256) -> bytes32: view
    def total_difficulty() -> uint256: view
    def total_credit_granted() -> uint256: view
    def grant_credit(provider: address, macs: uint256): nonpayable


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_REGISTRY: constant(GraphRegistry) = GraphRegistry(0x0000000000000000000000000000000000005001)
BONDS: constant(Bonds) = Bonds(0x0000000000000000000000000000000000005002)
DUST: constant(Dust) = Dust(0x0000000000000000000000000000000000005004)
COURT: constant(address) = 0x0000000000000000000000000000000000005005
BRIDGE: constant(address) = 0x0000000000000000000000000000000000005006  # what is burned pays for anchors

REQUESTED: constant(uint8) = 1
CLAIMED: constant(uint8) = 2
REVEALED: constant(uint8) = 3
FINAL: constant(uint8) = 4
REFUNDED: constant(uint8) = 5
SLASHED: constant(uint8) = 6

# How far a companion's check is.
COMMITTED: constant(uint8) = 1
AGREES: constant(uint8) = 2
DIFFERS: constant(uint8) = 3
REFUTED: constant(uint8) = 4

PUSH_GAS: constant(uint256) = 50_000  # enough for a wallet contract's receive function
BEACONS: constant(uint256) = 8192  # blocks that Dust remembers; a draw must be open that long
GIGA: constant(uint256) = 10**9  # prices are wei for that many MACs
BPS: constant(uint256) = 10_000
SAFETY: constant(uint256) = 10  # sampling rate * bond >= 10 * open value
ROYALTIES_MAX_BPS: constant(uint256) = 3_000
PRICE_STEP: constant(uint256) = 8  # a window moves the price by at most an eighth
IDLE_WINDOWS_MAX: constant(uint256) = 128  # (7/8) ** 128 = 4e-8: as good as the floor
SUM_MAX: constant(uint256) = 2**128  # bounds what a price is multiplied by
PRICE_MAX: constant(uint256) = 2**64
# Whoever seals a submission's block knows the next beacon before anybody sees the block: the one after is drawn from.
DRAW_DELAY: constant(uint256) = 2
COMPANION_DRAW: constant(bytes32) = keccak256("companion")


struct Job:
    graph: bytes32
    requester: address
    provider: address  # named, drawn or, from `submit` on, who submitted
    fee: uint256  # wei
    credit: uint256  # mining MACs that the provider earns
    deadline: uint256  # last block for `submit`
    requested_at: uint256  # block
    submitted_at: uint256  # block
    revealed_at: uint256  # block
    closed_at: uint256  # block of `settle` or `refund`
    candidates: uint256  # providers to draw from; 0 if the provider was named
    symbols: uint256  # packed, see `symbols_of`
    input_hash: bytes32  # keccak256
    output_hash: bytes32  # keccak256
    commitment: bytes32  # keccak256(abi.encode(trace_root, provider))
    trace_root: bytes32
    status: uint8
    burn: uint256  # wei of the fee that nobody gets once the job is final


struct Check:
    candidates: uint256  # companions' entries to draw from, as of the submission
    companion: address  # who committed
    commitment: bytes32  # keccak256(abi.encode(trace_root, companion))
    trace_root: bytes32  # the companion's
    state: uint8  # 0 none, 1 committed, 2 agrees, 3 differs, 4 refuted by time
    held_until: uint256  # last block in which the job cannot become final
    open_demands: uint256  # questions before the court


event Initialized:
    final_window: uint256
    takeover_blocks: uint256
    reveal_window: uint256
    min_deadline: uint256
    max_deadline: uint256
    macs_per_block: uint256
    sampling_bps: uint256
    companion_window: uint256
    dispute_window: uint256
    companion_bps: uint256
    price_window: uint256
    mac_price: uint256
    min_mac_price: uint256
    credit_value: uint256


event Requested:
    job: indexed(uint256)
    graph: indexed(bytes32)
    requester: indexed(address)
    provider: address
    fee: uint256
    deadline: uint256
    symbols: DynArray[uint32, 4]
    input: Bytes[16384]


event Submitted:
    job: indexed(uint256)
    provider: indexed(address)
    output: Bytes[8192]
    commitment: bytes32


event Revealed:
    job: indexed(uint256)
    provider: indexed(address)
    trace_root: bytes32


event Declined:
    job: indexed(uint256)
    provider: indexed(address)


event Committed:
    job: indexed(uint256)
    companion: indexed(address)
    commitment: bytes32


event CompanionRevealed:
    job: indexed(uint256)
    companion: indexed(address)
    trace_root: bytes32
    agrees: bool


event Mismatch:
    job: indexed(uint256)
    companion: indexed(address)
    trace_root: bytes32
    held_until: uint256


event CompanionRefuted:
    job: indexed(uint256)
    companion: indexed(address)
    slashed: uint256


event Held:
    job: indexed(uint256)
    until: uint256


event Convicted:
    job: indexed(uint256)
    provider: indexed(address)
    challenger: indexed(address)
    slashed: uint256


event PriceMoved:
    price: uint256
    window_start: uint256


event Settled:
    job: indexed(uint256)
    provider: indexed(address)
    fee: uint256
    credit: uint256


event FeeSplit:
    job: indexed(uint256)
    burned: uint256
    companion: uint256
    royalties: uint256
    provider: uint256


event Refunded:
    job: indexed(uint256)
    requester: indexed(address)
    fee: uint256


event PaymentKept:
    account: indexed(address)
    amount: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


initialized: public(bool)
final_window: public(uint256)  # blocks from reveal to final
takeover_blocks: public(uint256)  # blocks for which a drawn job is its provider's alone
reveal_window: public(uint256)  # blocks from submission to the last reveal
min_deadline: public(uint256)  # blocks
max_deadline: public(uint256)  # blocks
macs_per_block: public(uint256)  # what a provider is expected to compute within a block
sampling_bps: public(uint256)  # share of submissions that a companion checks
companion_window: public(uint256)  # blocks from submission to a companion's commitment
dispute_window: public(uint256)  # blocks that a mismatch holds a job open
companion_bps: public(uint256)  # share of what is left of a fee after the burn
price_window: public(uint256)  # blocks after which the price of MACs moves
min_mac_price: public(uint256)  # wei for 10^9 MACs
credit_value: public(uint256)  # wei for 10^9 MACs of credit, as the exposure of a bond counts it
jobs_count: public(uint256)
owed: public(HashMap[address, uint256])  # wei for `withdraw`
escrow: public(uint256)  # wei of open jobs
total_owed: public(uint256)  # wei; balance = escrow + total_owed
open_value: public(HashMap[address, uint256])  # wei that a provider's open jobs are worth to it
_mac_price: uint256  # wei for 10^9 MACs, as of `_window_start`
_window_start: uint256  # block
_granted_mark: uint256  # Dust's totals at the window's start
_difficulty_mark: uint256
_jobs: HashMap[uint256, Job]
_checks: HashMap[uint256, Check]
_outputs: HashMap[uint256, Bytes[8192]]


@external
def initialize(
    final_window: uint256,
    takeover_blocks: uint256,
    reveal_window: uint256,
    min_deadline: uint256,
    max_deadline: uint256,
    macs_per_block: uint256,
    sampling_bps: uint256,
    companion_window: uint256,
    dispute_window: uint256,
    companion_bps: uint256,
    price_window: uint256,
    mac_price: uint256,
    min_mac_price: uint256,
    credit_value: uint256,
):
    """
    @notice Sets the network's numbers; once, by genesis.
    """
    assert msg.sender == SYSTEM_ADDRESS, "JobMarket: not the system"
    assert not self.initialized, "JobMarket: already initialized"
    assert final_window > 0 and reveal_window > 0 and macs_per_block > 0, "JobMarket: empty window"
    assert dispute_window > 0 and price_window > 0, "JobMarket: empty window"
    assert final_window <= 2**64 and reveal_window <= 2**64, "JobMarket: window beyond reason"
    assert dispute_window <= 2**64 and price_window <= 2**64, "JobMarket: window beyond reason"
    assert takeover_blocks < BEACONS - 1, "JobMarket: takeover after the beacon is forgotten"
    assert min_deadline > 0 and min_deadline <= max_deadline, "JobMarket: no deadline possible"
    assert max_deadline <= 2**64, "JobMarket: window beyond reason"
    assert companion_window > DRAW_DELAY and companion_window < reveal_window, "JobMarket: no time to commit and reveal"
    assert reveal_window <= final_window, "JobMarket: final before the companion's reveal"
    assert sampling_bps > 0 and sampling_bps <= BPS, "JobMarket: no such share"
    assert companion_bps <= BPS - ROYALTIES_MAX_BPS, "JobMarket: no such share"
    assert min_mac_price > 0 and min_mac_price <= mac_price, "JobMarket: no such price"
    assert mac_price <= PRICE_MAX and credit_value <= PRICE_MAX, "JobMarket: no such price"
    self.initialized = True
    self.final_window = final_window
    self.takeover_blocks = takeover_blocks
    self.reveal_window = reveal_window
    self.min_deadline = min_deadline
    self.max_deadline = max_deadline
    self.macs_per_block = macs_per_block
    self.sampling_bps = sampling_bps
    self.companion_window = companion_window
    self.dispute_window = dispute_window
    self.companion_bps = companion_bps
    self.price_window = price_window
    self.min_mac_price = min_mac_price
    self.credit_value = credit_value
    self._mac_price = mac_price
    self._window_start = block.number
    log Initialized(
        final_window=final_window,
        takeover_blocks=takeover_blocks,
        reveal_window=reveal_window,
        min_deadline=min_deadline,
        max_deadline=max_deadline,
        macs_per_block=macs_per_block,
        sampling_bps=sampling_bps,
        companion_window=companion_window,
        dispute_window=dispute_window,
        companion_bps=companion_bps,
        price_window=price_window,
        mac_price=mac_price,
        min_mac_price=min_mac_price,
        credit_value=credit_value,
    )


@external
@payable
@nonreentrant
def request(
    graph: bytes32, input: Bytes[16384], symbols: DynArray[uint32, 4], deadline: uint256, provider: address
) -> uint256:
    """
    @notice Asks for one execution and locks the value sent as its fee.
    @param graph A registered hypergraph.
    @param input Its input tensors, row-major little-endian, concatenated in the graph's order.
    @param symbols Values of its symbols, in the graph's order.
    @param deadline Last block in which the result may come.
    @param provider Who shall execute it, within what its bond covers; zero lets the next block's beacon draw one.
    @return Number of the job, from 1.
    """
    assert self.initialized, "JobMarket: not initialized"
    assert msg.value > 0, "JobMarket: no fee"
    assert len(input) > 0, "JobMarket: empty input"
    earliest: uint256 = block.number + self._shortest_deadline(staticcall GRAPH_REGISTRY.macs(graph, symbols))
    assert deadline >= earliest, "JobMarket: deadline too soon"
    assert deadline <= block.number + self.max_deadline, "JobMarket: deadline too far"
    candidates: uint256 = 0
    if provider == empty(address):
        candidates = staticcall BONDS.provider_count(graph)
        assert candidates > 0, "JobMarket: no provider of this graph"
    else:
        assert staticcall BONDS.is_provider(graph, provider), "JobMarket: not a bonded provider"
    credit: uint256 = staticcall GRAPH_REGISTRY.mining_macs(graph, symbols)
    burn: uint256 = credit * self._move_price() // GIGA
    assert burn < msg.value, "JobMarket: the burn takes the fee"
    if provider != empty(address):
        self.open_value[provider] += self._value(msg.value, credit)
        assert self._covers(provider, self.open_value[provider]), "JobMarket: more than the bond covers"

    number: uint256 = self.jobs_count + 1
    self.jobs_count = number
    self.escrow += msg.value
    self._jobs[number] = Job(
        graph=graph,
        requester=msg.sender,
        provider=provider,
        fee=msg.value,
        credit=credit,
        deadline=deadline,
        requested_at=block.number,
        submitted_at=0,
        revealed_at=0,
        closed_at=0,
        candidates=candidates,
        symbols=self._pack(symbols),
        input_hash=keccak256(input),
        output_hash=empty(bytes32),
        commitment=empty(bytes32),
        trace_root=empty(bytes32),
        status=REQUESTED,
        burn=burn,
    )
    log Requested(
        job=number,
        graph=graph,
        requester=msg.sender,
        provider=provider,
        fee=msg.value,
        deadline=deadline,
        symbols=symbols,
        input=input,
    )
    return number


@external
@nonreentrant
def submit(number: uint256, output: Bytes[8192], commitment: bytes32):
    """
    @notice Delivers a job's output; the job is then claimed, and the output usable.
    @param commitment keccak256(abi.encode(trace_root, provider)).
    """
    job: Job = self._jobs[number]
    assert job.status == REQUESTED, "JobMarket: not open"
    assert block.number <= job.deadline, "JobMarket: deadline passed"
    assert len(output) > 0, "JobMarket: empty output"
    assert commitment != empty(bytes32), "JobMarket: empty commitment"
    if job.provider != empty(address):
        assert msg.sender == job.provider, "JobMarket: not the provider"
    else:
        if job.candidates > 0 and block.number <= job.requested_at + self.takeover_blocks:
            assert block.number > job.requested_at, "JobMarket: not drawn yet"
            drawn: address = self._drawn(number, job)
            # A drawn provider that left or is paused leaves the job to everyone.
            assert drawn == empty(address) or msg.sender == drawn, "JobMarket: not the provider"
        self.open_value[msg.sender] += self._value(job.fee, job.credit)
    assert staticcall BONDS.is_provider(job.graph, msg.sender), "JobMarket: not a bonded provider"
    assert self._covers(msg.sender, self.open_value[msg.sender]), "JobMarket: more than the bond covers"

    self._jobs[number].provider = msg.sender
    self._jobs[number].submitted_at = block.number
    self._jobs[number].output_hash = keccak256(output)
    self._jobs[number].commitment = commitment
    self._jobs[number].status = CLAIMED
    self._checks[number].candidates = staticcall BONDS.companion_count(job.graph)
    self._outputs[number] = output
    log Submitted(job=number, provider=msg.sender, output=output, commitment=commitment)


@external
@nonreentrant
def decline(number: uint256):
    """
    @notice Gives a job up before its deadline, unpunished. A named provider's job is refunded; a drawn one's is
            anybody's who is bonded for the graph.
    """
    job: Job = self._jobs[number]
    assert job.status == REQUESTED, "JobMarket: not open"
    assert block.number <= job.deadline, "JobMarket: deadline passed"
    assert msg.sender == self._provider_of(number, job), "JobMarket: not the provider"
    log Declined(job=number, provider=msg.sender)
    if job.candidates == 0:
        self._refund(number, job)
    else:
        self._jobs[number].candidates = 0  # and no provider: see `submit`


@external
@nonreentrant
def commit(number: uint256, commitment: bytes32):
    """
    @notice A companion's commitment to its own trace root, before the provider reveals.
    @param commitment keccak256(abi.encode(trace_root, companion)).
    """
    job: Job = self._jobs[number]
    assert job.status == CLAIMED, "JobMarket: not claimed"
    assert block.number <= job.submitted_at + self.companion_window, "JobMarket: companion window passed"
    assert self._checks[number].state == 0, "JobMarket: already committed"
    assert msg.sender == self._companion_of(number, job), "JobMarket: not the companion"
    assert commitment != empty(bytes32), "JobMarket: empty commitment"
    self._checks[number].companion = msg.sender
    self._checks[number].commitment = commitment
    self._checks[number].state = COMMITTED
    log Committed(job=number, companion=msg.sender, commitment=commitment)


@external
@nonreentrant
def reveal(number: uint256, trace_root: bytes32):
    """
    @notice Opens the provider's commitment, once the companion is drawn and has committed or has let its window
            pass; the window until the job is final begins. It may come late if a companion's reveal differs.
    """
    job: Job = self._jobs[number]
    state: uint8 = self._checks[number].state
    assert job.status == CLAIMED, "JobMarket: not claimed"
    assert msg.sender == job.provider, "JobMarket: not the provider"
    assert block.number > job.submitted_at + DRAW_DELAY, "JobMarket: companion not drawn yet"
    if state == 0 and block.number <= job.submitted_at + self.companion_window:
        assert self._companion_of(number, job) == empty(address), "JobMarket: companion has not committed yet"
    if state == DIFFERS:
        assert block.number <= self._checks[number].held_until, "JobMarket: reveal window passed"
    else:
        assert block.number <= job.submitted_at + self.reveal_window, "JobMarket: reveal window passed"
    assert keccak256(abi_encode(trace_root, msg.sender)) == job.commitment, "JobMarket: not what was committed"
    self._jobs[number].trace_root = trace_root
    self._jobs[number].revealed_at = block.number
    self._jobs[number].status = REVEALED
    log Revealed(job=number, provider=msg.sender, trace_root=trace_root)
    if state == DIFFERS:
        self._hold(number, self.dispute_window)


@external
@nonreentrant
def companion_reveal(number: uint256, trace_root: bytes32):
    """
    @notice Opens the companion's commitment after the provider's reveal, or after the time for that has passed. A
            trace root that is not the provider's holds the job: the companion has to prove or to demand.
    """
    job: Job = self._jobs[number]
    check: Check = self._checks[number]
    assert check.state == COMMITTED, "JobMarket: nothing to open"
    assert msg.sender == check.companion, "JobMarket: not the companion"
    assert keccak256(abi_encode(trace_root, msg.sender)) == check.commitment, "JobMarket: not what was committed"
    since: uint256 = job.revealed_at
    agrees: bool = trace_root == job.trace_root
    if job.status == CLAIMED:
        # The provider is late, or hides: its own commitment tells which.
        since = job.submitted_at + self.reveal_window
        assert block.number > since, "JobMarket: before the provider's reveal"
        agrees = keccak256(abi_encode(trace_root, job.provider)) == job.commitment
    else:
        assert job.status == REVEALED, "JobMarket: not revealed"
    assert block.number <= since + self.reveal_window, "JobMarket: reveal window passed"
    self._checks[number].trace_root = trace_root
    self._checks[number].state = AGREES if agrees else DIFFERS
    log CompanionRevealed(job=number, companion=msg.sender, trace_root=trace_root, agrees=agrees)
    if not agrees:
        self._hold(number, self.dispute_window)
        log Mismatch(
            job=number, companion=msg.sender, trace_root=trace_root, held_until=self._checks[number].held_until
        )


@external
@nonreentrant
def settle(number: uint256):
    """
    @notice Makes a job final once its window is over and no dispute holds it: burns, pays companion, royalties and
            provider, and credits its mining MACs. A companion that differed and proved nothing is slashed. Anyone
            may send this.
    """
    job: Job = self._jobs[number]
    check: Check = self._checks[number]
    assert job.status == REVEALED, "JobMarket: not revealed"
    assert block.number >= job.revealed_at + self.final_window, "JobMarket: window still open"
    assert check.open_demands == 0, "JobMarket: a demand is open"
    assert block.number > check.held_until, "JobMarket: held by a dispute"
    self._move_price()
    self._close(number, FINAL, job)
    # A scan that stopped early is credited, and burns, for the steps that it took.
    credit: uint256 = staticcall GRAPH_REGISTRY.credited_macs(
        job.graph, self._unpack(job.symbols), len(self._outputs[number])
    )
    burn: uint256 = job.burn
    if credit < job.credit:
        burn = job.burn * credit // job.credit
    log Settled(job=number, provider=job.provider, fee=job.fee, credit=credit)
    extcall DUST.grant_credit(job.provider, credit)

    net: uint256 = job.fee - burn
    left: uint256 = net
    checked: uint256 = 0
    if check.state == AGREES:
        checked = net * self.companion_bps // BPS
        left -= checked
        self._pay(staticcall BONDS.payout_of(check.companion), checked)
    elif check.state == DIFFERS:
        self._checks[number].state = REFUTED
        slashed: uint256 = extcall BONDS.slash(check.companion, job.provider)
        log CompanionRefuted(job=number, companion=check.companion, slashed=slashed)
    royalties: uint256 = self._pay_royalties(job.graph, net)
    left -= royalties
    log FeeSplit(job=number, burned=burn, companion=checked, royalties=royalties, provider=left)
    self._pay(BRIDGE, burn)
    self._pay(staticcall BONDS.payout_of(job.provider), left)


@external
@nonreentrant
def refund(number: uint256):
    """
    @notice Returns the fee of a job whose result or reveal did not come in time. A provider that missed the deadline
            is paused; one that does not reveal although its companion's trace root differs from what it committed
            to is slashed. Anyone may send this.
    """
    job: Job = self._jobs[number]
    if job.status == REQUESTED:
        assert block.number > job.deadline, "JobMarket: before the deadline"
        late: address = self._provider_of(number, job)
        if late != empty(address) and self._covers(late, self._value(job.fee, job.credit)):
            extcall BONDS.pause(late)
        self._refund(number, job)
        return
    assert job.status == CLAIMED, "JobMarket: nothing to refund"
    check: Check = self._checks[number]
    end: uint256 = job.submitted_at + self.reveal_window
    if check.state == COMMITTED:
        end += self.reveal_window
    elif check.state == DIFFERS:
        end = check.held_until
    assert block.number > end, "JobMarket: before the reveal window's end"
    if check.state == DIFFERS:
        self._convict(number, job, check.companion)
    else:
        self._refund(number, job)


@external
@nonreentrant
def convict(number: uint256, challenger: address, false_trace: bool) -> uint256:
    """
    @notice The court found against a job's provider: the fee goes back, all that the provider has at stake is
            slashed, half of it for the challenger.
    @param false_trace The trace itself is false: a companion that vouched for it is slashed like the provider.
    @return Wei taken from the provider.
    """
    assert msg.sender == COURT, "JobMarket: not the court"
    job: Job = self._jobs[number]
    assert job.status == REVEALED, "JobMarket: not revealed"
    check: Check = self._checks[number]
    if false_trace and check.state == AGREES:
        self._checks[number].state = REFUTED
        slashed: uint256 = extcall BONDS.slash(check.companion, challenger)
        log CompanionRefuted(job=number, companion=check.companion, slashed=slashed)
    return self._convict(number, job, challenger)


@external
@nonreentrant
def ask(number: uint256, blocks: uint256):
    """
    @notice The court takes a demand: the job waits for its answer.
    """
    assert msg.sender == COURT, "JobMarket: not the court"
    job: Job = self._jobs[number]
    check: Check = self._checks[number]
    assert job.status == REVEALED, "JobMarket: not revealed"
    in_time: bool = block.number < job.revealed_at + self.final_window or block.number <= check.held_until
    assert in_time, "JobMarket: window over"
    self._checks[number].open_demands = check.open_demands + 1
    self._hold(number, blocks)


@external
@nonreentrant
def extend(number: uint256, blocks: uint256):
    """
    @notice The court has an answer: who asked gets time to use it.
    """
    assert msg.sender == COURT, "JobMarket: not the court"
    self._checks[number].open_demands -= 1
    self._hold(number, blocks)


@external
@nonreentrant
def withdraw(account: address = msg.sender):
    """
    @notice Pays out what could not be pushed to an account. Anyone may send this.
    """
    amount: uint256 = self.owed[account]
    assert amount > 0, "JobMarket: nothing owed"
    self.owed[account] = 0
    self.total_owed -= amount
    log Withdrawn(account=account, amount=amount)
    raw_call(account, b"", value=amount)


@external
@view
def job(number: uint256) -> Job:
    """
    @notice All that is kept of a job; zeros if there is none. A drawn provider shows as soon as it is known.
    """
    found: Job = self._jobs[number]
    found.provider = self._provider_of(number, found)
    return found


@external
@view
def status(number: uint256) -> uint8:
    """
    @notice 0 none, 1 requested, 2 claimed, 3 revealed, 4 final, 5 refunded, 6 slashed.
    """
    return self._jobs[number].status


@external
@view
def provider_of(number: uint256) -> address:
    """
    @notice Who was named or drawn or, from `submit` on, who submitted; zero while not drawn, and where the drawn
            one declined, left or is paused.
    """
    return self._provider_of(number, self._jobs[number])


@external
@view
def check_of(number: uint256) -> Check:
    """
    @notice What is kept of a companion's check; `companion` is zero until it commits.
    """
    return self._checks[number]


@external
@view
def companion_of(number: uint256) -> address:
    """
    @notice The companion drawn for a submitted job; zero for two blocks, and where none was drawn.
    """
    return self._companion_of(number, self._jobs[number])


@external
@view
def facts(
    number: uint256,
) -> (bytes32, bytes32, bytes32, bytes32, uint256, address, uint8, address, address, uint256):
    """
    @notice What a court needs: graph, trace root, hashes of input and output, packed symbols, provider, status,
            requester, the companion that committed, block of the job's end.
    """
    job: Job = self._jobs[number]
    return (
        job.graph,
        job.trace_root,
        job.input_hash,
        job.output_hash,
        job.symbols,
        job.provider,
        job.status,
        job.requester,
        self._checks[number].companion,
        job.closed_at,
    )


@external
@view
def output_of(number: uint256) -> Bytes[8192]:
    """
    @notice The output submitted; empty before. Check `status` for how firm it is.
    """
    return self._outputs[number]


@external
@view
def symbols_of(number: uint256) -> DynArray[uint32, 4]:
    """
    @notice The values of the graph's symbols in this job.
    """
    return self._unpack(self._jobs[number].symbols)


@external
@view
def mac_price() -> uint256:
    """
    @notice Wei that a request burns for 10^9 MACs of credit, as of this block.
    """
    return self._price_now()[0]


@external
@view
def burn_of(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256:
    """
    @notice Wei that such a job burns; its fee must be more.
    """
    return staticcall GRAPH_REGISTRY.mining_macs(graph, symbols) * self._price_now()[0] // GIGA


@external
@view
def exposure_of(provider: address) -> (uint256, uint256):
    """
    @notice Wei that a provider's open jobs are worth to it, and how much its bond covers.
    """
    return self.open_value[provider], self.sampling_bps * staticcall BONDS.bond_of(provider) // (SAFETY * BPS)


@external
@view
def shortest_deadline(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256:
    """
    @notice The fewest blocks from the request to the deadline that a job with these symbols needs.
    """
    return self._shortest_deadline(staticcall GRAPH_REGISTRY.macs(graph, symbols))


@internal
@view
def _shortest_deadline(macs: uint256) -> uint256:
    return self.min_deadline + macs // self.macs_per_block


@internal
@view
def _provider_of(number: uint256, job: Job) -> address:
    if job.provider != empty(address) or job.candidates == 0:
        return job.provider  # zero if the drawn one declined
    return self._drawn(number, job)


@internal
@view
def _drawn(number: uint256, job: Job) -> address:
    beacon: bytes32 = staticcall DUST.beacon(job.requested_at + 1)
    if beacon == empty(bytes32):
        return empty(address)
    draw: uint256 = convert(keccak256(abi_encode(beacon, number)), uint256) % job.candidates
    return staticcall BONDS.drawn_provider(job.graph, draw)


@internal
@view
def _companion_of(number: uint256, job: Job) -> address:
    check: Check = self._checks[number]
    if check.companion != empty(address):
        return check.companion
    if job.submitted_at == 0 or check.candidates == 0:
        return empty(address)
    beacon: bytes32 = staticcall DUST.beacon(job.submitted_at + DRAW_DELAY)
    if beacon == empty(bytes32):
        return empty(address)
    draw: uint256 = convert(keccak256(abi_encode(beacon, number, COMPANION_DRAW)), uint256)
    if draw % BPS >= self.sampling_bps:
        return empty(address)
    index: uint256 = (draw >> 128) % check.candidates
    return staticcall BONDS.drawn_companion(job.graph, index, check.candidates, job.provider)


@internal
@view
def _value(fee: uint256, credit: uint256) -> uint256:
    # What a job is worth to a provider that lies: its fee and what its credit may earn.
    return fee + credit * self.credit_value // GIGA


@internal
@view
def _covers(account: address, amount: uint256) -> bool:
    return SAFETY * BPS * amount <= self.sampling_bps * staticcall BONDS.bond_of(account)


@internal
@view
def _price_now() -> (uint256, uint256):
    # The price and the start of its window. Nothing here may revert: `settle` needs it.
    price: uint256 = self._mac_price
    start: uint256 = self._window_start
    windows: uint256 = (block.number - start) // self.price_window
    if windows == 0:
        return price, start
    granted: uint256 = min(unsafe_sub(staticcall DUST.total_credit_granted(), self._granted_mark), SUM_MAX)
    difficulty: uint256 = unsafe_sub(staticcall DUST.total_difficulty(), self._difficulty_mark)
    target: uint256 = min(difficulty // windows // 2, SUM_MAX)  # MACs of a window, half of its difficulty
    if granted > target:
        step: uint256 = price
        if target > 0:
            step = price * min(granted - target, target) // target
        price = min(price + max(step // PRICE_STEP, 1), PRICE_MAX)
    elif target > 0:
        price -= price * (target - granted) // target // PRICE_STEP
    # Credit is granted by `settle`, which moves the window first: the windows after the first granted none.
    for _: uint256 in range(min(windows - 1, IDLE_WINDOWS_MAX), bound=IDLE_WINDOWS_MAX):
        if price <= self.min_mac_price or target == 0:
            break
        price -= price // PRICE_STEP
    return max(price, self.min_mac_price), start + windows * self.price_window


@internal
def _move_price() -> uint256:
    price: uint256 = 0
    start: uint256 = 0
    price, start = self._price_now()
    if start != self._window_start:
        self._mac_price = price
        self._window_start = start
        self._granted_mark = staticcall DUST.total_credit_granted()
        self._difficulty_mark = staticcall DUST.total_difficulty()
        log PriceMoved(price=price, window_start=start)
    return price


@internal
@pure
def _unpack(packed: uint256) -> DynArray[uint32, 4]:
    symbols: DynArray[uint32, 4] = []
    for i: uint256 in range(packed >> 128, bound=4):
        symbols.append(convert((packed >> (32 * i)) % 2**32, uint32))
    return symbols


@internal
@pure
def _pack(symbols: DynArray[uint32, 4]) -> uint256:
    packed: uint256 = len(symbols) << 128
    for i: uint256 in range(len(symbols), bound=4):
        packed |= convert(symbols[i], uint256) << (32 * i)
    return packed


@internal
def _hold(number: uint256, blocks: uint256):
    until: uint256 = max(self._checks[number].held_until, block.number + blocks)
    self._checks[number].held_until = until
    log Held(job=number, until=until)


@internal
def _close(number: uint256, status: uint8, job: Job):
    self._jobs[number].status = status
    self._jobs[number].closed_at = block.number
    self.escrow -= job.fee
    if job.provider != empty(address):  # a drawn one's bond is not engaged before it submits
        self.open_value[job.provider] -= self._value(job.fee, job.credit)


@internal
def _refund(number: uint256, job: Job):
    self._close(number, REFUNDED, job)
    log Refunded(job=number, requester=job.requester, fee=job.fee)
    self._pay(job.requester, job.fee)


@internal
def _convict(number: uint256, job: Job, challenger: address) -> uint256:
    self._close(number, SLASHED, job)
    slashed: uint256 = extcall BONDS.slash(job.provider, challenger)
    log Convicted(job=number, provider=job.provider, challenger=challenger, slashed=slashed)
    self._pay(job.requester, job.fee)
    return slashed


@internal
def _pay_royalties(graph: bytes32, net: uint256) -> uint256:
    # The registry keeps the sum below the bound; here it is kept for the sake of the fee, whatever the registry says.
    owners: DynArray[address, 3] = []
    shares: DynArray[uint256, 3] = []
    owners, shares = staticcall GRAPH_REGISTRY.royalties(graph)
    bps: uint256 = 0
    paid: uint256 = 0
    for i: uint256 in range(min(len(owners), len(shares)), bound=3):
        share: uint256 = min(shares[i], ROYALTIES_MAX_BPS - bps)
        amount: uint256 = net * share // BPS
        bps += share
        paid += amount
        self._pay(owners[i], amount)
    return paid


@internal
def _pay(to: address, amount: uint256):
    if amount == 0:
        return
    if not raw_call(to, b"", value=amount, gas=PUSH_GAS, revert_on_failure=False):
        self.owed[to] += amount
        self.total_owed += amount
        log PaymentKept(account=to, amount=amount)
