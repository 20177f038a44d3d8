# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title JobMarket: paid executions of registered hypergraphs
@license GPL-3.0-or-later
@notice A job is requested with its fee locked, submitted with its output (claimed: usable at once), revealed, and
        final a window after the reveal. Money goes back by time alone. Checking of results comes with the companions
        and the court: until then, final means undisputed because nobody can dispute.
@dev A predeploy: `initialize` is called once, by genesis. Payments are pushed with little gas and, if that fails,
     kept for `withdraw`: nobody's code can hold up a job. Source: protocol.md, Jobs; ADR 3.
"""

interface GraphRegistry:
    def macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256: view
    def mining_macs(graph: bytes32, symbols: DynArray[uint32, 4]) -> uint256: view


interface Bonds:
    def is_provider(graph: bytes32, account: address) -> bool: view
    def provider_count(graph: bytes32) -> uint256: view
    def provider_at(graph: bytes32, index: uint256) -> address: view
    def payout_of(account: address) -> address: view


interface Dust:
    def beacon(number: uint256) -> bytes32: view
    def grant_credit(provider: address, macs: uint256): nonpayable


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
GRAPH_REGISTRY: constant(GraphRegistry) = GraphRegistry(0x0000000000000000000000000000000000005001)
BONDS: constant(Bonds) = Bonds(0x0000000000000000000000000000000000005002)
DUST: constant(Dust) = Dust(0x0000000000000000000000000000000000005004)

REQUESTED: constant(uint8) = 1
CLAIMED: constant(uint8) = 2
REVEALED: constant(uint8) = 3
FINAL: constant(uint8) = 4
REFUNDED: constant(uint8) = 5

PUSH_GAS: constant(uint256) = 50_000  # enough for a wallet contract's receive function
BEACONS: constant(uint256) = 8192  # blocks that Dust remembers; a draw must be open that long


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


event Initialized:
    final_window: uint256
    takeover_blocks: uint256
    reveal_window: uint256
    min_deadline: uint256
    max_deadline: uint256
    macs_per_block: uint256


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


event Settled:
    job: indexed(uint256)
    provider: indexed(address)
    fee: uint256
    credit: uint256


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
jobs_count: public(uint256)
owed: public(HashMap[address, uint256])  # wei for `withdraw`
escrow: public(uint256)  # wei of open jobs
total_owed: public(uint256)  # wei; balance = escrow + total_owed
_jobs: HashMap[uint256, Job]
_outputs: HashMap[uint256, Bytes[8192]]


@external
def initialize(
    final_window: uint256,
    takeover_blocks: uint256,
    reveal_window: uint256,
    min_deadline: uint256,
    max_deadline: uint256,
    macs_per_block: uint256,
):
    """
    @notice Sets the network's numbers; once, by genesis.
    """
    assert msg.sender == SYSTEM_ADDRESS, "JobMarket: not the system"
    assert not self.initialized, "JobMarket: already initialized"
    assert final_window > 0 and reveal_window > 0 and macs_per_block > 0, "JobMarket: empty window"
    assert final_window <= 2**64 and reveal_window <= 2**64, "JobMarket: window beyond reason"
    assert takeover_blocks < BEACONS - 1, "JobMarket: takeover after the beacon is forgotten"
    assert min_deadline > 0 and min_deadline <= max_deadline, "JobMarket: no deadline possible"
    assert max_deadline <= 2**64, "JobMarket: window beyond reason"
    self.initialized = True
    self.final_window = final_window
    self.takeover_blocks = takeover_blocks
    self.reveal_window = reveal_window
    self.min_deadline = min_deadline
    self.max_deadline = max_deadline
    self.macs_per_block = macs_per_block
    log Initialized(
        final_window=final_window,
        takeover_blocks=takeover_blocks,
        reveal_window=reveal_window,
        min_deadline=min_deadline,
        max_deadline=max_deadline,
        macs_per_block=macs_per_block,
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
    @param provider Who shall execute it; zero lets the next block's beacon draw one.
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
    if job.candidates == 0:
        assert msg.sender == job.provider, "JobMarket: not the provider"
    elif block.number <= job.requested_at + self.takeover_blocks:
        assert block.number > job.requested_at, "JobMarket: not drawn yet"
        assert msg.sender == self._drawn(number, job), "JobMarket: not the provider"
    assert staticcall BONDS.is_provider(job.graph, msg.sender), "JobMarket: not a bonded provider"

    self._jobs[number].provider = msg.sender
    self._jobs[number].submitted_at = block.number
    self._jobs[number].output_hash = keccak256(output)
    self._jobs[number].commitment = commitment
    self._jobs[number].status = CLAIMED
    self._outputs[number] = output
    log Submitted(job=number, provider=msg.sender, output=output, commitment=commitment)


@external
@nonreentrant
def reveal(number: uint256, trace_root: bytes32):
    """
    @notice Opens the commitment; the window until the job is final begins.
    """
    job: Job = self._jobs[number]
    assert job.status == CLAIMED, "JobMarket: not claimed"
    assert msg.sender == job.provider, "JobMarket: not the provider"
    assert block.number <= job.submitted_at + self.reveal_window, "JobMarket: reveal window passed"
    assert keccak256(abi_encode(trace_root, msg.sender)) == job.commitment, "JobMarket: not what was committed"
    self._jobs[number].trace_root = trace_root
    self._jobs[number].revealed_at = block.number
    self._jobs[number].status = REVEALED
    log Revealed(job=number, provider=msg.sender, trace_root=trace_root)


@external
@nonreentrant
def settle(number: uint256):
    """
    @notice Makes a job final once its window is over: pays the provider and credits its mining MACs. Anyone may send
            this.
    """
    job: Job = self._jobs[number]
    assert job.status == REVEALED, "JobMarket: not revealed"
    assert block.number >= job.revealed_at + self.final_window, "JobMarket: window still open"
    self._close(number, FINAL, job.fee)
    log Settled(job=number, provider=job.provider, fee=job.fee, credit=job.credit)
    extcall DUST.grant_credit(job.provider, job.credit)
    self._pay(staticcall BONDS.payout_of(job.provider), job.fee)


@external
@nonreentrant
def refund(number: uint256):
    """
    @notice Returns the fee of a job whose result or reveal did not come in time. Anyone may send this.
    """
    job: Job = self._jobs[number]
    if job.status == REQUESTED:
        assert block.number > job.deadline, "JobMarket: before the deadline"
    else:
        assert job.status == CLAIMED, "JobMarket: nothing to refund"
        assert block.number > job.submitted_at + self.reveal_window, "JobMarket: before the reveal window's end"
    self._close(number, REFUNDED, job.fee)
    log Refunded(job=number, requester=job.requester, fee=job.fee)
    self._pay(job.requester, job.fee)


@external
@nonreentrant
def withdraw():
    """
    @notice Pays out what could not be pushed to the sender.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "JobMarket: nothing owed"
    self.owed[msg.sender] = 0
    self.total_owed -= amount
    log Withdrawn(account=msg.sender, amount=amount)
    raw_call(msg.sender, b"", value=amount)


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
    @notice 0 none, 1 requested, 2 claimed, 3 revealed, 4 final, 5 refunded.
    """
    return self._jobs[number].status


@external
@view
def provider_of(number: uint256) -> address:
    """
    @notice Who was named or drawn or, from `submit` on, who submitted; zero while not drawn.
    """
    return self._provider_of(number, self._jobs[number])


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
    packed: uint256 = self._jobs[number].symbols
    symbols: DynArray[uint32, 4] = []
    for i: uint256 in range(packed >> 128, bound=4):
        symbols.append(convert((packed >> (32 * i)) % 2**32, uint32))
    return symbols


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
        return job.provider
    return self._drawn(number, job)


@internal
@view
def _drawn(number: uint256, job: Job) -> address:
    beacon: bytes32 = staticcall DUST.beacon(job.requested_at + 1)
    if beacon == empty(bytes32):
        return empty(address)
    draw: uint256 = convert(keccak256(abi_encode(beacon, number)), uint256) % job.candidates
    return staticcall BONDS.provider_at(job.graph, draw)


@internal
@pure
def _pack(symbols: DynArray[uint32, 4]) -> uint256:
    packed: uint256 = len(symbols) << 128
    for i: uint256 in range(len(symbols), bound=4):
        packed |= convert(symbols[i], uint256) << (32 * i)
    return packed


@internal
def _close(number: uint256, status: uint8, fee: uint256):
    self._jobs[number].status = status
    self._jobs[number].closed_at = block.number
    self.escrow -= fee


@internal
def _pay(to: address, amount: uint256):
    if not raw_call(to, b"", value=amount, gas=PUSH_GAS, revert_on_failure=False):
        self.owed[to] += amount
        self.total_owed += amount
        log PaymentKept(account=to, amount=amount)
