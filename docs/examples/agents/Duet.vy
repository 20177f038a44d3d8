# pragma version 0.4.3
# pragma evm-version prague
"""
@title Duet: one agent begins a story, another goes on
@license GPL-3.0-or-later
@notice A template for contracts that ask agents. It pays for both answers with what the author sent, waits until the
        first one is final, asks the second agent with it, and keeps both. Whatever goes wrong, the author gets back
        what was not spent.
@dev Both agents answer with a graph of tokens (`int32 ids[S]`, `int32 seed[1]` -> `int32 token[T]`), such as
     llama-tiny, and take BTC. To make your own: change what `on_answer` does with an answer.
"""

struct Terms:
    provider: address
    fee: uint256
    currency: uint8
    max_price: uint256
    firmness: uint8
    callback_gas: uint256
    depth: uint256


interface Agent:
    def ask(
        input: Bytes[12288], symbols: DynArray[uint32, 4], deadline: uint256, terms: Terms
    ) -> uint256: payable
    def price() -> uint256: view
    def quote(callback_gas: uint256) -> uint256: view


interface Scheduler:
    def withdraw(): nonpayable


SCHEDULER: constant(Scheduler) = Scheduler(0x0000000000000000000000000000000000005008)

BTC: constant(uint8) = 0
FINAL: constant(uint8) = 4  # an answer that is final is not taken back, and nor is its price
CALLBACK_GAS: constant(uint256) = 3_000_000
DEADLINE_BLOCKS: constant(uint256) = 100
PATIENCE_BLOCKS: constant(uint256) = 2_000
TOKENS_MAX: constant(uint256) = 96
SEED: constant(Bytes[4]) = x"00000000"


struct Story:
    author: address
    fee: uint256  # wei for each job
    tokens: uint32  # that each agent makes
    budget: uint256  # wei of the author's that are here
    paid: uint256  # wei for the ask that is open: its fee and its price
    asked_at: uint256  # block
    begun: Bytes[384]
    continued: Bytes[384]
    done: bool


event Begun:
    story: indexed(uint256)
    author: indexed(address)


event Finished:
    story: indexed(uint256)
    author: indexed(address)
    told: bool
    refund: uint256


FIRST: immutable(Agent)
SECOND: immutable(Agent)
DEPLOYER: immutable(address)

stories_count: public(uint256)
owed: public(HashMap[address, uint256])  # wei
_stories: HashMap[uint256, Story]
_story_of: HashMap[address, HashMap[uint256, uint256]]  # agent -> ask -> story


@deploy
def __init__(first: address, second: address):
    FIRST = Agent(first)
    SECOND = Agent(second)
    DEPLOYER = msg.sender


@external
@payable
def __default__():
    pass  # agents return what a refunded job had cost, just before `on_answer`


@external
@payable
def begin(ids: Bytes[384], rows: uint32, tokens: uint32, fee: uint256) -> uint256:
    """
    @notice Begins a story; the value sent pays for everything, and what is left of it comes back.
    @param ids Tokens to begin with, int32 little-endian; `rows` of them.
    """
    story: uint256 = self.stories_count + 1
    self.stories_count = story
    self._stories[story] = Story(
        author=msg.sender, fee=fee, tokens=tokens, budget=msg.value, paid=0, asked_at=0, begun=b"", continued=b"", done=False
    )
    log Begun(story=story, author=msg.sender)
    self._ask(FIRST, story, ids, rows, 0)
    return story


@external
def on_answer(number: uint256, status: uint8, depth: uint256, output: Bytes[384]):
    """
    @notice What an agent calls with its answer. Only an ask of ours is known here, so nobody else gets anywhere.
    """
    story: uint256 = self._story_of[msg.sender][number]
    assert story != 0, "Duet: not asked"
    self._story_of[msg.sender][number] = 0
    record: Story = self._stories[story]
    if status > FINAL:  # refunded or slashed: the agent has just sent back what this ask had cost
        self._stories[story].budget += record.paid
    if status > FINAL or record.done:
        self._finish(story, False)
    elif msg.sender == FIRST.address:
        self._stories[story].begun = output
        rows: uint256 = self._count(output)
        self._ask(SECOND, story, slice(output, 0, 4 * rows), convert(rows, uint32), depth + 1)
    else:
        self._stories[story].continued = output
        self._finish(story, True)


@external
def give_up(story: uint256):
    """
    @notice Ends a story that nothing happens to any more: an answer came, but what to do with it did not succeed.
    """
    record: Story = self._stories[story]
    assert msg.sender == record.author and not record.done, "Duet: no story of yours"
    assert block.number > record.asked_at + PATIENCE_BLOCKS, "Duet: an answer may still come"
    self._finish(story, False)


@external
def withdraw():
    """
    @notice Pays an author what its stories did not need.
    """
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "Duet: nothing owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)


@external
def collect_tips():
    """
    @notice What callbacks cost less than prepaid, for who deployed this.
    """
    before: uint256 = self.balance
    extcall SCHEDULER.withdraw()
    self.owed[DEPLOYER] += self.balance - before


@external
@view
def story_of(story: uint256) -> Story:
    """
    @notice A story: who wants it, what is left of its budget, and its two parts as tokens.
    """
    return self._stories[story]


@internal
def _ask(agent: Agent, story: uint256, ids: Bytes[384], rows: uint32, depth: uint256):
    record: Story = self._stories[story]
    price: uint256 = staticcall agent.price()
    cost: uint256 = record.fee + price + staticcall agent.quote(CALLBACK_GAS)
    assert record.budget >= cost, "Duet: budget too small"
    self._stories[story].budget -= cost
    self._stories[story].paid = record.fee + price
    self._stories[story].asked_at = block.number
    number: uint256 = extcall agent.ask(
        concat(ids, SEED),
        [rows, record.tokens],
        block.number + DEADLINE_BLOCKS,
        Terms(
            provider=empty(address),
            fee=record.fee,
            currency=BTC,
            max_price=price,
            firmness=FINAL,
            callback_gas=CALLBACK_GAS,
            depth=depth,
        ),
        value=cost,
    )
    self._story_of[agent.address][number] = story


@internal
def _finish(story: uint256, told: bool):
    record: Story = self._stories[story]
    self._stories[story].done = True
    self._stories[story].budget = 0
    self.owed[record.author] += record.budget
    log Finished(story=story, author=record.author, told=told, refund=record.budget)


@internal
@pure
def _count(tokens: Bytes[384]) -> uint256:
    # Tokens up to the first that is none (negative: the last byte has its sign).
    for i: uint256 in range(TOKENS_MAX):
        if 4 * i + 4 > len(tokens) or convert(slice(tokens, 4 * i + 3, 1), uint256) > 127:
            return i
    return TOKENS_MAX
