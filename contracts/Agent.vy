# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Agent: answers with a hypergraph, for a price
@license GPL-3.0-or-later
@notice `ask` takes the job's fee and the agent's price, requests the job, and prepays its own callback with what else
        was sent: nothing is ever drawn beyond that budget. `deliver` calls an asker that is a contract back, with
        bounded gas. The price is in escrow until the job is *final*: a claimed answer may still be refunded or
        slashed, and then the asker gets all of it back, fee and price, without asking the owner for anything.
@dev The code behind minimal proxies (EIP-1167) that AgentFactory makes. Payment is BTC, DUST or the agent's own coin:
     predeployed or factory-made code only, so no token can lie or call back. `ask` has no lock and calls only such code:
     an asker that is being called back may ask on, as deep as DEPTH_MAX. Source: protocol.md, Agents.
"""

from ethereum.ercs import IERC20


struct Terms:
    provider: address  # of the job; zero: drawn
    fee: uint256  # wei for the job
    currency: uint8  # what the asker expects to pay in
    max_price: uint256  # the most that it pays the agent
    firmness: uint8  # least status of the job for `deliver`: 2 claimed, 3 revealed, 4 final
    callback_gas: uint256  # for `on_answer`; 0: not called back
    depth: uint256  # 0 for a question of its own, else one more than the answer that it follows


struct Ask:
    asker: address
    job: uint256
    fee: uint256  # wei
    price: uint256  # in the currency's smallest unit
    currency: uint8
    firmness: uint8
    callback_gas: uint256
    depth: uint256
    call: uint256  # in the Scheduler; 0: none prepaid
    delivered: bool
    outcome: uint8  # 0 open, 1 earned by the agent, 2 returned to the asker


interface AgentFactory:
    def ownerOf(token_id: uint256) -> address: view
    def depth() -> uint256: view
    def set_depth(depth: uint256): nonpayable


interface JobMarket:
    def request(
        graph: bytes32, input: Bytes[16384], symbols: DynArray[uint32, 4], deadline: uint256, provider: address
    ) -> uint256: payable
    def status(number: uint256) -> uint8: view
    def output_of(number: uint256) -> Bytes[8192]: view
    def owed(account: address) -> uint256: view
    def withdraw(): nonpayable


interface Scheduler:
    def schedule_on_job(
        job: uint256, status: uint8, target: address, data: Bytes[1024], gas_limit: uint256, refund_to: address
    ) -> uint256: payable
    def quote(gas_limit: uint256) -> uint256: view


JOB_MARKET: constant(JobMarket) = JobMarket(0x0000000000000000000000000000000000005003)
DUST: constant(address) = 0x0000000000000000000000000000000000005004
FACTORY: constant(AgentFactory) = AgentFactory(0x0000000000000000000000000000000000005007)
SCHEDULER: constant(Scheduler) = Scheduler(0x0000000000000000000000000000000000005008)

CLAIMED: constant(uint8) = 2
REVEALED: constant(uint8) = 3
FINAL: constant(uint8) = 4

BTC_COIN: constant(uint8) = 0
DUST_COIN: constant(uint8) = 1
OWN_COIN: constant(uint8) = 2

EARNED: constant(uint8) = 1
RETURNED: constant(uint8) = 2

DEPTH_MAX: constant(uint256) = 4
CALLBACK_GAS_MAX: constant(uint256) = 5_000_000
DELIVER_GAS: public(constant(uint256)) = 2_000_000  # settle or refund of the job, its largest output, refund of the ask
KEPT_GAS: constant(uint256) = 60_000  # left for what follows the callback
PUSH_GAS: constant(uint256) = 50_000  # enough for a wallet contract's receive function


event SetUp:
    id: indexed(uint256)
    graph: indexed(bytes32)
    prefix: Bytes[4096]
    prefix_symbol: uint256
    prefix_rows: uint32


event PriceSet:
    currency: uint8
    price: uint256


event Asked:
    number: indexed(uint256)
    asker: indexed(address)
    job: indexed(uint256)
    fee: uint256
    currency: uint8
    price: uint256
    depth: uint256
    call: uint256


event Answered:
    number: indexed(uint256)
    asker: indexed(address)
    job: indexed(uint256)
    status: uint8
    called_back: bool  # and the asker did not revert


event Earned:
    number: indexed(uint256)
    currency: uint8
    price: uint256


event Returned:
    number: indexed(uint256)
    asker: indexed(address)
    fee: uint256
    currency: uint8
    price: uint256


event RevenueWithdrawn:
    to: indexed(address)
    currency: uint8
    amount: uint256


event PaymentKept:
    account: indexed(address)
    amount: uint256


event Withdrawn:
    account: indexed(address)
    amount: uint256


id: public(uint256)  # in the factory; 0 before `set_up`
graph: public(bytes32)
prefix: public(Bytes[4096])  # goes before every input
prefix_symbol: public(uint256)  # index of the graph's symbol that counts the prefix's rows
prefix_rows: public(uint32)
currency: public(uint8)  # 0 BTC, 1 DUST, 2 its own coin
price: public(uint256)
coin: public(address)  # zero: none
asks_count: public(uint256)
escrow: public(HashMap[uint8, uint256])  # currency -> prices of open asks
revenue: public(HashMap[uint8, uint256])  # currency -> what the owner may withdraw
owed: public(HashMap[address, uint256])  # wei for `withdraw`
total_owed: public(uint256)
_asks: HashMap[uint256, Ask]


@external
@payable
def __default__():
    # A refunded fee on its way back to the asker; nothing else is for an agent.
    assert msg.sender == JOB_MARKET.address, "Agent: pay by ask"


@external
def set_up(
    id: uint256,
    graph: bytes32,
    prefix: Bytes[4096],
    prefix_symbol: uint256,
    prefix_rows: uint32,
    currency: uint8,
    price: uint256,
):
    """
    @notice Makes a new proxy an agent; once, by the factory.
    """
    assert msg.sender == FACTORY.address, "Agent: not the factory"
    assert self.id == 0, "Agent: already set up"
    self.id = id
    self.graph = graph
    self.prefix = prefix
    self.prefix_symbol = prefix_symbol
    self.prefix_rows = prefix_rows
    log SetUp(id=id, graph=graph, prefix=prefix, prefix_symbol=prefix_symbol, prefix_rows=prefix_rows)
    self._set_price(currency, price)


@external
def set_coin(coin: address):
    """
    @notice Lets the agent take its own coin; by the factory, which made it.
    """
    assert msg.sender == FACTORY.address, "Agent: not the factory"
    assert self.coin == empty(address), "Agent: has a coin"
    self.coin = coin


@external
def set_price(currency: uint8, price: uint256):
    """
    @notice What later asks cost. For the owner.
    @param currency 0 BTC, 1 DUST, 2 the agent's own coin.
    @param price In the currency's smallest unit; the job's fee comes on top.
    """
    assert msg.sender == self._owner(), "Agent: not the owner"
    self._set_price(currency, price)


@external
@payable
def ask(input: Bytes[12288], symbols: DynArray[uint32, 4], deadline: uint256, terms: Terms) -> uint256:
    """
    @notice Asks the agent. The value sent is the whole budget: the job's fee, the price if it is in BTC, and the rest
            prepays the callback (`quote` tells how much that needs; no rest, no callback).
    @param input Input tensors behind the agent's prefix, row-major little-endian, in the graph's order.
    @param symbols Values of the graph's symbols for `input` alone; the prefix's rows are added.
    @param deadline Last block in which the job's result may come.
    @param terms What the asker agrees to.
    @return Number of the ask, from 1.
    """
    assert self.id != 0, "Agent: not set up"
    price: uint256 = self.price
    assert terms.currency == self.currency, "Agent: takes another currency"
    assert price <= terms.max_price, "Agent: costs more than that"
    assert terms.firmness >= CLAIMED and terms.firmness <= FINAL, "Agent: no status to wait for"
    assert terms.callback_gas <= CALLBACK_GAS_MAX, "Agent: too much gas for a callback"
    assert terms.depth <= DEPTH_MAX, "Agent: too deep"
    assert terms.depth >= staticcall FACTORY.depth(), "Agent: deeper than said"
    spent: uint256 = terms.fee
    if terms.currency == BTC_COIN:
        spent += price
    assert msg.value >= spent, "Agent: budget too small"

    number: uint256 = self.asks_count + 1
    self.asks_count = number
    self.escrow[terms.currency] += price
    if terms.currency != BTC_COIN and price > 0:
        assert extcall IERC20(self._token(terms.currency)).transferFrom(msg.sender, self, price), "Agent: not paid"
    counted: DynArray[uint32, 4] = symbols
    if self.prefix_rows > 0:
        counted[self.prefix_symbol] += self.prefix_rows
    job: uint256 = extcall JOB_MARKET.request(
        self.graph, concat(self.prefix, input), counted, deadline, terms.provider, value=terms.fee
    )
    call: uint256 = 0
    if msg.value > spent:
        call = extcall SCHEDULER.schedule_on_job(
            job,
            terms.firmness,
            self,
            abi_encode(number, method_id=method_id("deliver(uint256)")),
            DELIVER_GAS + terms.callback_gas,
            msg.sender,
            value=msg.value - spent,
        )
    self._asks[number] = Ask(
        asker=msg.sender,
        job=job,
        fee=terms.fee,
        price=price,
        currency=terms.currency,
        firmness=terms.firmness,
        callback_gas=terms.callback_gas,
        depth=terms.depth,
        call=call,
        delivered=False,
        outcome=0,
    )
    log Asked(
        number=number,
        asker=msg.sender,
        job=job,
        fee=terms.fee,
        currency=terms.currency,
        price=price,
        depth=terms.depth,
        call=call,
    )
    return number


@external
@nonreentrant
def deliver(number: uint256) -> bool:
    """
    @notice Records that an ask is answered, or that it never will be, and calls the asker back if it is a contract:
            `on_answer(uint256 number, uint8 status, uint256 depth, bytes output)`. It may revert; it gets no second
            call. Anyone may send this.
    @return Whether the asker was called back and did not revert.
    """
    ask: Ask = self._asks[number]
    assert ask.job != 0, "Agent: no such ask"
    assert not ask.delivered, "Agent: already delivered"
    status: uint8 = self._advance(ask.job, ask.firmness)
    assert status >= ask.firmness, "Agent: no answer yet"
    self._asks[number].delivered = True
    if status >= FINAL and ask.outcome == 0:
        self._conclude(number, ask, status)
    if ask.call != 0 and msg.sender != SCHEDULER.address:
        # The prepaid call has nothing left to do; it fails harmlessly if it is running or over.
        cancelled: bool = raw_call(
            SCHEDULER.address, abi_encode(ask.call, method_id=method_id("cancel(uint256)")), revert_on_failure=False
        )

    called_back: bool = False
    if ask.callback_gas > 0 and ask.asker.is_contract:
        output: Bytes[8192] = b""
        if status <= FINAL:
            output = staticcall JOB_MARKET.output_of(ask.job)
        data: Bytes[8388] = abi_encode(
            number, status, ask.depth, output, method_id=method_id("on_answer(uint256,uint8,uint256,bytes)")
        )
        # Gas short of what was prepaid would let a stranger make the asker fail.
        assert msg.gas - msg.gas // 64 >= ask.callback_gas + KEPT_GAS, "Agent: too little gas to deliver"
        outer: uint256 = staticcall FACTORY.depth()
        extcall FACTORY.set_depth(max(outer, ask.depth + 1))
        called_back = raw_call(ask.asker, data, gas=ask.callback_gas, revert_on_failure=False)
        extcall FACTORY.set_depth(outer)
    log Answered(number=number, asker=ask.asker, job=ask.job, status=status, called_back=called_back)
    return called_back


@external
@nonreentrant
def close(numbers: DynArray[uint256, 32]):
    """
    @notice Ends the escrow of asks whose jobs are over, settling or refunding those that can be: the price goes to the
            agent if the job is final, else fee and price go back. Anyone may send this.
    """
    for number: uint256 in numbers:
        ask: Ask = self._asks[number]
        assert ask.job != 0, "Agent: no such ask"
        if ask.outcome != 0:
            continue
        status: uint8 = self._advance(ask.job, FINAL)
        assert status >= FINAL, "Agent: not over yet"
        self._conclude(number, ask, status)


@external
@nonreentrant
def withdraw_revenue(currency: uint8, to: address):
    """
    @notice Pays out what the agent has earned in a currency. For the owner.
    """
    assert msg.sender == self._owner(), "Agent: not the owner"
    assert to != empty(address), "Agent: nobody to pay"
    amount: uint256 = self.revenue[currency]
    assert amount > 0, "Agent: nothing earned"
    self.revenue[currency] = 0
    log RevenueWithdrawn(to=to, currency=currency, amount=amount)
    if currency == BTC_COIN:
        raw_call(to, b"", value=amount)
    else:
        assert extcall IERC20(self._token(currency)).transfer(to, amount), "Agent: not paid"


@external
@nonreentrant
def withdraw(account: address = msg.sender):
    """
    @notice Pays an account what could not be pushed to it. Anyone may send this; the money goes to the account.
    """
    amount: uint256 = self.owed[account]
    assert amount > 0, "Agent: nothing owed"
    self.owed[account] = 0
    self.total_owed -= amount
    log Withdrawn(account=account, amount=amount)
    raw_call(account, b"", value=amount)


@external
@view
def owner() -> address:
    """
    @notice Who owns the agent's ERC-721.
    """
    return self._owner()


@external
@view
def ask_of(number: uint256) -> Ask:
    """
    @notice All that is kept of an ask; zeros if there is none.
    """
    return self._asks[number]


@external
@view
def answer_of(number: uint256) -> (uint8, Bytes[8192]):
    """
    @notice Status of an ask's job, and its output: empty before it is claimed, without worth from status 5 on.
    """
    job: uint256 = self._asks[number].job
    return staticcall JOB_MARKET.status(job), staticcall JOB_MARKET.output_of(job)


@external
@view
def quote(callback_gas: uint256) -> uint256:
    """
    @notice Wei to send beyond fee and price for a callback with this much gas, at this block's base fee.
    """
    return staticcall SCHEDULER.quote(DELIVER_GAS + callback_gas)


@internal
def _set_price(currency: uint8, price: uint256):
    assert currency <= OWN_COIN, "Agent: no such currency"
    assert currency != OWN_COIN or self.coin != empty(address), "Agent: has no coin"
    assert price <= 2**128, "Agent: price beyond reason"
    self.currency = currency
    self.price = price
    log PriceSet(currency=currency, price=price)


@internal
@view
def _owner() -> address:
    return staticcall FACTORY.ownerOf(self.id)


@internal
@view
def _token(currency: uint8) -> address:
    return DUST if currency == DUST_COIN else self.coin


@internal
def _advance(job: uint256, wanted: uint8) -> uint8:
    # Whatever time alone allows: a result that is due to be settled, a deadline or a reveal that was missed.
    status: uint8 = staticcall JOB_MARKET.status(job)
    if status >= wanted:
        return status
    data: Bytes[36] = abi_encode(job, method_id=method_id("refund(uint256)"))
    if status == REVEALED:
        data = abi_encode(job, method_id=method_id("settle(uint256)"))
    moved: bool = raw_call(JOB_MARKET.address, data, revert_on_failure=False)
    return staticcall JOB_MARKET.status(job)


@internal
def _conclude(number: uint256, ask: Ask, status: uint8):
    self.escrow[ask.currency] -= ask.price
    if status == FINAL:
        self._asks[number].outcome = EARNED
        self.revenue[ask.currency] += ask.price
        log Earned(number=number, currency=ask.currency, price=ask.price)
        return
    self._asks[number].outcome = RETURNED
    log Returned(number=number, asker=ask.asker, fee=ask.fee, currency=ask.currency, price=ask.price)
    if staticcall JOB_MARKET.owed(self) > 0:
        extcall JOB_MARKET.withdraw()
    if ask.currency == BTC_COIN:
        self._push(ask.asker, ask.fee + ask.price)
    else:
        self._push(ask.asker, ask.fee)
        if ask.price > 0:
            assert extcall IERC20(self._token(ask.currency)).transfer(ask.asker, ask.price), "Agent: not paid"


@internal
def _push(to: address, amount: uint256):
    if not raw_call(to, b"", value=amount, gas=PUSH_GAS, revert_on_failure=False):
        self.owed[to] += amount
        self.total_owed += amount
        log PaymentKept(account=to, amount=amount)
