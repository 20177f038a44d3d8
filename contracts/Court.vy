# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Court: one transaction decides who computed falsely, who withholds, who voted twice
@license GPL-3.0-or-later
@notice A proof shows one element, witness, form, list or output of a revealed job to be false; the native call `judge`
        checks it against what the job committed to. A demand makes the provider publish what it committed to, or
        be convicted. Two votes that exclude each other cost a coinbase its locked subsidies.
@dev A predeploy: `initialize` is called once, by genesis. balance = total_deposits + total_owed.
     Source: protocol.md, When results differ; ADR 9.
"""

struct Check:
    candidates: uint256
    companion: address
    commitment: bytes32
    trace_root: bytes32
    state: uint8
    held_until: uint256
    open_demands: uint256


interface JobMarket:
    def facts(
        number: uint256,
    ) -> (bytes32, bytes32, bytes32, bytes32, uint256, address, uint8, address, address, uint256): view
    def check_of(number: uint256) -> Check: view
    def ask(number: uint256, blocks: uint256): nonpayable
    def extend(number: uint256, blocks: uint256): nonpayable
    def convict(number: uint256, challenger: address, false_trace: bool) -> uint256: nonpayable


interface Bonds:
    def payout_of(account: address) -> address: view


interface Dust:
    def forfeit(coinbase: address, numbers: DynArray[uint256, 64], reporter: address) -> uint256: nonpayable


SYSTEM_ADDRESS: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE  # EIP-4788
BONDS: constant(Bonds) = Bonds(0x0000000000000000000000000000000000005002)
JOB_MARKET: constant(JobMarket) = JobMarket(0x0000000000000000000000000000000000005003)
DUST: constant(Dust) = Dust(0x0000000000000000000000000000000000005004)
JUDGE: constant(address) = 0x0000000000000000000000000000000000004808

REVEALED: constant(uint8) = 3
SLASHED: constant(uint8) = 6
DIFFERS: constant(uint8) = 3
REFUTED: constant(uint8) = 4

OUTPUT_VERDICT: constant(uint8) = 5  # the output is not the trace's last root: the trace itself may be right
WITHHELD: constant(uint8) = 8

OPEN: constant(uint8) = 1
ANSWERED: constant(uint8) = 2
EXPIRED: constant(uint8) = 3

GUILTY: constant(uint8) = 1
INNOCENT: constant(uint8) = 2

EVIDENCE_MAX: constant(uint256) = 131_072  # a transaction holds no more (geth's txMaxSize)
QUESTION_MAX: constant(uint256) = 65_536
DEMANDS_MAX: constant(uint256) = 8  # for the companion, the requester, and all others together
PUSH_GAS: constant(uint256) = 50_000

COURT_DOMAIN: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
FINALITY_DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId)")
COURT_NAME: constant(bytes32) = keccak256("Hyperdust Court")
FINALITY_NAME: constant(bytes32) = keccak256("Hyperdust Finality")
VERSION: constant(bytes32) = keccak256("1")
OPERATORS_TYPE: constant(bytes32) = keccak256("Operators(uint256 job,uint256 step,uint256 subgraph,bytes32 roots)")
VOTE_TYPE: constant(bytes32) = keccak256(
    "Vote(bytes32 source,uint64 sourceNumber,bytes32 target,uint64 targetNumber)"
)


struct Commitment:
    hash: bytes32  # keccak256(abi.encode(keccak256(evidence), challenger))
    at: uint256  # block


struct Demand:
    job: uint256
    asker: address
    question_hash: bytes32  # keccak256
    deposit: uint256  # wei
    deadline: uint256  # last block for `answer`
    state: uint8  # 1 open, 2 answered, 3 expired


struct Dispute:
    challenger: address
    step: uint256
    operator: uint256
    element: uint256
    kind: uint8
    at: uint256  # block


struct Vote:
    source: bytes32
    sourceNumber: uint64
    target: bytes32
    targetNumber: uint64


event Initialized:
    demand_window: uint256
    demand_deposit: uint256


event ChallengeCommitted:
    job: indexed(uint256)
    challenger: indexed(address)
    hash: bytes32


event Verdict:
    job: indexed(uint256)
    accused: indexed(address)
    challenger: indexed(address)
    kind: uint8
    step: uint256
    operator: uint256
    element: uint256


event Demanded:
    demand: indexed(uint256)
    job: indexed(uint256)
    asker: indexed(address)
    key: bytes32
    question: Bytes[QUESTION_MAX]
    deadline: uint256


event Answered:
    demand: indexed(uint256)
    job: indexed(uint256)
    data: Bytes[EVIDENCE_MAX]


event Expired:
    demand: indexed(uint256)
    job: indexed(uint256)


event Equivocated:
    coinbase: indexed(address)
    reporter: indexed(address)
    amount: uint256


event PaymentKept:
    account: indexed(address)
    amount: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


initialized: public(bool)
demand_window: public(uint256)  # blocks for an answer, and for what follows from it
demand_deposit: public(uint256)  # wei: pays the provider for its answer
demands_count: public(uint256)
total_deposits: public(uint256)  # wei of open demands
total_owed: public(uint256)  # wei
owed: public(HashMap[address, uint256])  # wei for `withdraw`
commitment_of: public(HashMap[uint256, HashMap[address, Commitment]])
demand_of: public(HashMap[uint256, Demand])
asked: public(HashMap[uint256, HashMap[bytes32, uint256]])  # job -> what is asked for -> demand
demands_by: public(HashMap[uint256, HashMap[address, uint256]])  # zero: neither companion nor requester
published: public(HashMap[uint256, HashMap[uint256, bytes32]])  # job -> step << 32 | subgraph -> list hash
_disputes: HashMap[uint256, Dispute]


@external
def initialize(demand_window: uint256, demand_deposit: uint256):
    """
    @notice Sets the network's numbers; once, by genesis.
    """
    assert msg.sender == SYSTEM_ADDRESS, "Court: not the system"
    assert not self.initialized, "Court: already initialized"
    assert demand_window > 0 and demand_window <= 2**64, "Court: no such window"
    assert demand_deposit > 0, "Court: no deposit"
    self.initialized = True
    self.demand_window = demand_window
    self.demand_deposit = demand_deposit
    log Initialized(demand_window=demand_window, demand_deposit=demand_deposit)


@external
def commit(job: uint256, hash: bytes32):
    """
    @notice Announces a proof without showing it, so that nobody takes it from the mempool.
    @param hash keccak256(abi.encode(keccak256(evidence), challenger)).
    """
    assert hash != empty(bytes32), "Court: empty commitment"
    self.commitment_of[job][msg.sender] = Commitment(hash=hash, at=block.number)
    log ChallengeCommitted(job=job, challenger=msg.sender, hash=hash)


@external
@nonreentrant
def prove(job: uint256, evidence: Bytes[EVIDENCE_MAX], signature: Bytes[65]):
    """
    @notice Convicts a revealed job's provider, a block or more after the sender's `commit`. What proves nothing
            costs its sender the gas.
    @param signature The provider's, of the list of operators that the evidence rests on (EIP-712 `Operators`);
           empty where it rests on none, or on one that was published by an answer.
    """
    commitment: Commitment = self.commitment_of[job][msg.sender]
    assert commitment.at != 0 and block.number > commitment.at, "Court: no commitment of an earlier block"
    evidence_hash: bytes32 = keccak256(evidence)
    assert keccak256(abi_encode(evidence_hash, msg.sender)) == commitment.hash, "Court: not what was committed"
    facts: Bytes[160] = b""
    provider: address = empty(address)
    facts, provider = self._open_case(job)

    success: bool = False
    found: Bytes[224] = b""
    success, found = raw_call(
        JUDGE,
        concat(b"\x01", facts, evidence),
        max_outsize=224,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert success and len(found) == 224, "Court: not proven"
    guilty: uint256 = 0
    kind: uint8 = 0
    step: uint256 = 0
    operator: uint256 = 0
    element: uint256 = 0
    list_hash: bytes32 = empty(bytes32)
    subgraph: uint256 = 0
    guilty, kind, step, operator, element, list_hash, subgraph = abi_decode(
        found, (uint256, uint8, uint256, uint256, uint256, bytes32, uint256)
    )
    assert guilty == 1, "Court: not proven"
    self._check_list(job, (step << 32) | subgraph, list_hash, signature, provider)

    self._disputes[job] = Dispute(
        challenger=msg.sender, step=step, operator=operator, element=element, kind=kind, at=block.number
    )
    log Verdict(
        job=job, accused=provider, challenger=msg.sender, kind=kind, step=step, operator=operator, element=element
    )
    # A false list may stand beside an honest trace: only a verdict without one says that the trace is false.
    extcall JOB_MARKET.convict(job, msg.sender, kind != OUTPUT_VERDICT and list_hash == empty(bytes32))


@external
@payable
@nonreentrant
def demand(job: uint256, question: Bytes[QUESTION_MAX], signature: Bytes[65] = b"") -> uint256:
    """
    @notice Makes a revealed job's provider publish something that it committed to within `demand_window`, or be
            convicted. The value sent pays for the answer; without one it comes back.
    @param signature The provider's, of the list of operators that the question rests on (EIP-712 `Operators`); empty
           where it rests on none, or on one that was published by an answer.
    @return Number of the demand, from 1.
    """
    assert self.initialized, "Court: not initialized"
    assert msg.value >= self.demand_deposit, "Court: deposit too small"
    facts: Bytes[160] = b""
    provider: address = empty(address)
    facts, provider = self._open_case(job)
    success: bool = False
    found: Bytes[128] = b""
    success, found = raw_call(
        JUDGE,
        concat(b"\x02", facts, question),
        max_outsize=128,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert success and len(found) == 128, "Court: not a question about this job"
    key: bytes32 = empty(bytes32)
    kind: uint256 = 0
    list_hash: bytes32 = empty(bytes32)
    place: uint256 = 0
    key, kind, list_hash, place = abi_decode(found, (bytes32, uint256, bytes32, uint256))
    self._check_list(job, place, list_hash, signature, provider)
    assert self.asked[job][key] == 0, "Court: already asked"
    by: address = self._class_of(job, msg.sender)
    assert self.demands_by[job][by] < DEMANDS_MAX, "Court: too many demands"

    number: uint256 = self.demands_count + 1
    deadline: uint256 = block.number + self.demand_window
    self.demands_count = number
    self.asked[job][key] = number
    self.demands_by[job][by] += 1
    self.total_deposits += msg.value
    self.demand_of[number] = Demand(
        job=job,
        asker=msg.sender,
        question_hash=keccak256(question),
        deposit=msg.value,
        deadline=deadline,
        state=OPEN,
    )
    log Demanded(demand=number, job=job, asker=msg.sender, key=key, question=question, deadline=deadline)
    extcall JOB_MARKET.ask(job, self.demand_window)
    return number


@external
@nonreentrant
def answer(number: uint256, question: Bytes[QUESTION_MAX], data: Bytes[EVIDENCE_MAX]):
    """
    @notice Answers a demand; anyone may send this, the deposit goes to the provider. Who asked then has as long
            again to use the answer.
    @param question As in the event `Demanded`; only its hash is kept.
    """
    asked: Demand = self.demand_of[number]
    assert asked.state == OPEN, "Court: no open demand"
    assert block.number <= asked.deadline, "Court: answer too late"
    assert keccak256(question) == asked.question_hash, "Court: not the question"
    facts: Bytes[160] = b""
    provider: address = empty(address)
    facts, provider = self._open_case(asked.job)
    size: bytes4 = convert(convert(len(question), uint32), bytes4)
    success: bool = False
    found: Bytes[96] = b""
    success, found = raw_call(
        JUDGE,
        concat(b"\x03", facts, size, question, data),
        max_outsize=96,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert success and len(found) == 96, "Court: not an answer"
    ok: uint256 = 0
    list_hash: bytes32 = empty(bytes32)
    place: uint256 = 0
    ok, list_hash, place = abi_decode(found, (uint256, bytes32, uint256))
    assert ok == 1, "Court: not an answer"
    if list_hash != empty(bytes32):
        self.published[asked.job][place] = list_hash
    self.demand_of[number].state = ANSWERED
    self.total_deposits -= asked.deposit
    log Answered(demand=number, job=asked.job, data=data)
    extcall JOB_MARKET.extend(asked.job, self.demand_window)
    self._pay(staticcall BONDS.payout_of(provider), asked.deposit)


@external
@nonreentrant
def expire(number: uint256):
    """
    @notice Ends a demand that was not answered in time: its deposit goes back, the provider is convicted. A demand
            about a job that is already decided ends at once. Anyone may send this.
    """
    asked: Demand = self.demand_of[number]
    assert asked.state == OPEN, "Court: no open demand"
    accused: address = empty(address)
    status: uint8 = 0
    accused, status = self._accused(asked.job)
    assert status != REVEALED or block.number > asked.deadline, "Court: still time to answer"
    self.demand_of[number].state = EXPIRED
    self.total_deposits -= asked.deposit
    log Expired(demand=number, job=asked.job)
    if status == REVEALED:
        self._disputes[asked.job] = Dispute(
            challenger=asked.asker, step=0, operator=0, element=0, kind=WITHHELD, at=block.number
        )
        log Verdict(
            job=asked.job,
            accused=accused,
            challenger=asked.asker,
            kind=WITHHELD,
            step=0,
            operator=0,
            element=0,
        )
        extcall JOB_MARKET.convict(asked.job, asked.asker, False)
    self._pay(asked.asker, asked.deposit)


@external
@nonreentrant
def prove_equivocation(
    vote_a: Vote,
    signature_a: Bytes[65],
    vote_b: Vote,
    signature_b: Bytes[65],
    numbers: DynArray[uint256, 64],
):
    """
    @notice Two votes of one coinbase for the same target height, or one around the other, cost it the locked
            subsidies of the blocks named.
    """
    domain: bytes32 = keccak256(abi_encode(FINALITY_DOMAIN, FINALITY_NAME, VERSION, chain.id))
    hash_a: bytes32 = self._hash_vote(vote_a)
    hash_b: bytes32 = self._hash_vote(vote_b)
    assert hash_a != hash_b, "Court: one vote twice"
    double: bool = vote_a.targetNumber == vote_b.targetNumber
    surround: bool = (vote_a.sourceNumber < vote_b.sourceNumber and vote_b.targetNumber < vote_a.targetNumber) or (
        vote_b.sourceNumber < vote_a.sourceNumber and vote_a.targetNumber < vote_b.targetNumber
    )
    assert double or surround, "Court: votes that go together"
    coinbase: address = self._signer(domain, hash_a, signature_a)
    assert coinbase != empty(address), "Court: no signature"
    assert self._signer(domain, hash_b, signature_b) == coinbase, "Court: votes of two"
    amount: uint256 = extcall DUST.forfeit(coinbase, numbers, msg.sender)
    log Equivocated(coinbase=coinbase, reporter=msg.sender, amount=amount)


@external
@nonreentrant
def withdraw(account: address = msg.sender):
    """
    @notice Pays out what could not be pushed to an account. Anyone may send this.
    """
    amount: uint256 = self.owed[account]
    assert amount > 0, "Court: nothing owed"
    self.owed[account] = 0
    self.total_owed -= amount
    log Withdrawn(account=account, amount=amount)
    raw_call(account, b"", value=amount)


@external
@view
def dispute_of(job: uint256) -> (address, address, uint256, uint256, uint8, uint8, uint256):
    """
    @notice Accused, challenger, operator, element, kind, verdict (0 none, 1 guilty, 2 innocent), block of it. A
            mismatch that is not decided shows its companion as the challenger, and no verdict.
    """
    accused: address = empty(address)
    status: uint8 = 0
    accused, status = self._accused(job)
    found: Dispute = self._disputes[job]
    if found.at != 0:
        return accused, found.challenger, found.operator, found.element, found.kind, GUILTY, found.at
    check: Check = staticcall JOB_MARKET.check_of(job)
    if status == SLASHED:  # it did not reveal although its companion differed
        return accused, check.companion, 0, 0, WITHHELD, GUILTY, self._closed_at(job)
    if check.state == REFUTED:
        return accused, check.companion, 0, 0, 0, INNOCENT, self._closed_at(job)
    if check.state == DIFFERS:
        return accused, check.companion, 0, 0, 0, 0, 0
    return empty(address), empty(address), 0, 0, 0, 0, 0


@internal
@view
def _check_list(job: uint256, place: uint256, list_hash: bytes32, signature: Bytes[65], provider: address):
    # A list that nobody but the asker made would ask an honest provider for what it cannot know.
    if list_hash == empty(bytes32) or self.published[job][place] == list_hash:
        return
    struct_hash: bytes32 = keccak256(abi_encode(OPERATORS_TYPE, job, place >> 32, place % 2**32, list_hash))
    signer: address = self._signer(self._court_domain(), struct_hash, signature)
    assert signer == provider, "Court: not the provider's list"


@internal
@view
def _open_case(job: uint256) -> (Bytes[160], address):
    # What the judge is told of a revealed job, and whom it is about.
    facts: (bytes32, bytes32, bytes32, bytes32, uint256, address, uint8, address, address, uint256) = (
        staticcall JOB_MARKET.facts(job)
    )
    assert facts[6] == REVEALED, "Court: not revealed"
    return abi_encode(facts[0], facts[1], facts[2], facts[3], facts[4]), facts[5]


@internal
@view
def _accused(job: uint256) -> (address, uint8):
    facts: (bytes32, bytes32, bytes32, bytes32, uint256, address, uint8, address, address, uint256) = (
        staticcall JOB_MARKET.facts(job)
    )
    return facts[5], facts[6]


@internal
@view
def _closed_at(job: uint256) -> uint256:
    return (staticcall JOB_MARKET.facts(job))[9]


@internal
@view
def _class_of(job: uint256, asker: address) -> address:
    # Companion and requester have demands of their own: a provider that asks itself cannot use theirs up.
    facts: (bytes32, bytes32, bytes32, bytes32, uint256, address, uint8, address, address, uint256) = (
        staticcall JOB_MARKET.facts(job)
    )
    return asker if asker == facts[7] or asker == facts[8] else empty(address)


@internal
@pure
def _hash_vote(vote: Vote) -> bytes32:
    return keccak256(abi_encode(VOTE_TYPE, vote.source, vote.sourceNumber, vote.target, vote.targetNumber))


@internal
@view
def _court_domain() -> bytes32:
    return keccak256(abi_encode(COURT_DOMAIN, COURT_NAME, VERSION, chain.id, self))


@internal
@pure
def _signer(domain: bytes32, struct_hash: bytes32, signature: Bytes[65]) -> address:
    # r, s, v with v 27 or 28 (or 0 or 1); zero if it is nobody's.
    if len(signature) != 65:
        return empty(address)
    digest: bytes32 = keccak256(concat(b"\x19\x01", domain, struct_hash))
    v: uint256 = convert(slice(signature, 64, 1), uint256)
    if v < 27:
        v += 27
    return ecrecover(
        digest, v, convert(slice(signature, 0, 32), uint256), convert(slice(signature, 32, 32), uint256)
    )


@internal
def _pay(to: address, amount: uint256):
    if not raw_call(to, b"", value=amount, gas=PUSH_GAS, revert_on_failure=False):
        self.owed[to] += amount
        self.total_owed += amount
        log PaymentKept(account=to, amount=amount)
