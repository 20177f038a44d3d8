"""What the tests of agents share: proxies by address, an asker that is a contract, a job's way to its end."""

from vyper.compiler import compile_code

from tests.unit.contracts.harness import BTC, Contract, commit, join, register

FEE = BTC // 1_000
PRICE = BTC // 500
BTC_COIN, DUST_COIN, OWN_COIN = range(3)
REQUESTED, CLAIMED, REVEALED, FINAL, REFUNDED, SLASHED = range(1, 7)
EARNED, RETURNED = 1, 2
TRACE_ROOT = b"\5" * 32
INPUT = b"\1\0\0\0" * 4
OUTPUT = bytes(range(256)) * 3
JOB_MARKET = "0x0000000000000000000000000000000000005003"
FACTORY = "0x0000000000000000000000000000000000005007"

ASKER = """
# pragma version 0.4.3
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
    def deliver(number: uint256) -> bool: nonpayable

interface Token:
    def approve(spender: address, amount: uint256) -> bool: nonpayable

PLAIN: constant(uint256) = 0
REVERTS: constant(uint256) = 1
BURNS: constant(uint256) = 2
REENTERS: constant(uint256) = 3
ASKS_ON: constant(uint256) = 4
LIES_ABOUT_DEPTH: constant(uint256) = 5

mode: public(uint256)
refuses_money: public(bool)
answers: public(uint256)
number: public(uint256)
status: public(uint8)
depth: public(uint256)
output: public(Bytes[8192])
refused: public(uint256)
agent: address
terms: Terms
budget: uint256
waste: uint256

@external
@payable
def __default__():
    assert not self.refuses_money

@external
@payable
def fill():
    pass

@external
def behave(mode: uint256, refuses_money: bool):
    self.mode = mode
    self.refuses_money = refuses_money

@external
def approve(token: address, spender: address, amount: uint256):
    extcall Token(token).approve(spender, amount)

@external
def ask(agent: address, terms: Terms, budget: uint256) -> uint256:
    self.agent = agent
    self.terms = terms
    self.budget = budget
    return self._ask(terms.depth)

@internal
def _ask(depth: uint256) -> uint256:
    terms: Terms = self.terms
    terms.depth = depth
    input: Bytes[16] = x"01000000010000000100000001000000"
    return extcall Agent(self.agent).ask(input, [4], block.number + 30, terms, value=self.budget)

@external
def on_answer(number: uint256, status: uint8, depth: uint256, output: Bytes[8192]):
    assert self.mode != REVERTS
    if self.mode == BURNS:
        for i: uint256 in range(1000000):
            self.waste += i
    self.answers += 1
    self.number = number
    self.status = status
    self.depth = depth
    self.output = output
    if self.mode == REENTERS:
        numbers: DynArray[uint256, 32] = [number]
        ok: bool = raw_call(
            msg.sender, abi_encode(number, method_id=method_id("deliver(uint256)")), revert_on_failure=False
        )
        if not ok:
            self.refused += 1
        ok = raw_call(msg.sender, abi_encode(numbers, method_id=method_id("close(uint256[])")), revert_on_failure=False)
        if not ok:
            self.refused += 1
        ok = raw_call(msg.sender, abi_encode(self, method_id=method_id("withdraw(address)")), revert_on_failure=False)
        if not ok:
            self.refused += 1
    if self.mode == ASKS_ON:
        self._ask(depth + 1)
    if self.mode == LIES_ABOUT_DEPTH:
        self._ask(0)
"""
COMPILED = compile_code(ASKER, output_formats=["bytecode_runtime", "abi"])


def deploy_asker(network, label="asker", balance=100 * BTC):
    asker = Contract(network, network.deploy(bytes.fromhex(COMPILED["bytecode_runtime"][2:]), label), COMPILED["abi"])
    network.abis[asker.address] = COMPILED["abi"]
    asker.fill(sender=network.account(f"funds of {label}", balance), value=balance)
    return asker


def proxy(network, kind, address):
    """A minimal proxy with the functions of what stands behind it."""
    abi = getattr(network, kind).abi
    network.abis[address] = abi
    return Contract(network, address, abi)


def served_graph(network):
    graph = register(network)
    return graph, join(network, graph, "provider", 50 * BTC)


def create(network, graph, *, price=PRICE, currency=BTC_COIN, prefix=b"", rows=0, symbol=0, sender=None, name="Ada"):
    number = network.AgentFactory.create(
        name, graph, prefix, symbol, rows, currency, price, "ipfs://ada", sender=sender or network.account("owner")
    )
    return proxy(network, "Agent", network.AgentFactory.agent_at(number))


def terms(network, **changes):
    found = {
        "provider": network.account("provider"),
        "fee": FEE,
        "currency": BTC_COIN,
        "max_price": PRICE,
        "firmness": CLAIMED,
        "callback_gas": 0,
        "depth": 0,
    }
    return tuple((found | changes).values())


def ask(network, agent, *, sender=None, value=FEE + PRICE, data=INPUT, symbols=(4,), blocks=30, **changes):
    return agent.ask(
        data,
        symbols,
        network.number + blocks,
        terms(network, **changes),
        sender=sender or network.account("asker"),
        value=value,
    )


def job_of(agent, number):
    return agent.ask_of(number)[1]


def claim(network, job, output=OUTPUT):
    network.mine()
    provider = network.account("provider")
    network.JobMarket.submit(job, output, commit(TRACE_ROOT, provider), sender=provider)


def reveal(network, job):
    network.mine(3)
    network.JobMarket.reveal(job, TRACE_ROOT, sender=network.account("provider"))


def finish(network, job, *, output=OUTPUT, settle=True):
    claim(network, job, output)
    reveal(network, job)
    network.skip_to(network.number + 21)
    if settle:
        network.JobMarket.settle(job)


def miss(network, job, *, refund=True):
    network.skip_to(network.number + 31)
    if refund:
        network.JobMarket.refund(job)


def give_dust(network, account, amount):
    """Mint DUST by a block, wait, claim."""
    coinbase = network.account("coinbase of the tests")
    network.Bonds.setPayout(account, sender=coinbase)
    minted = 0
    while minted < amount:
        network.open_block(coinbase, 1)
        number = network.number - 1
        network.skip_to(network.number + 40)
        network.Dust.claim(number)
        minted = network.Dust.balanceOf(account)
