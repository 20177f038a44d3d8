# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title AgentCoin: an agent's own coin, sold and bought back along a line
@license GPL-3.0-or-later
@notice An ERC-20 (snekmate) whose price in BTC is `base + slope * supply`. A buyer pays the area under that line,
        rounded up; a seller gets it, rounded down: the reserve covers every coin to the last, and nobody, the
        agent's owner included, can take from it but by selling.
@dev The code behind minimal proxies (EIP-1167) that AgentFactory makes. Name and symbol are storage, since proxies
     share immutables. The EIP-712 domain of `permit` names the proxy's own address. Source: protocol.md, Agents.
"""

from snekmate.auth import ownable
from snekmate.tokens import erc20

initializes: ownable
initializes: erc20[ownable := ownable]

exports: (
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


FACTORY: constant(address) = 0x0000000000000000000000000000000000005007

COIN: constant(uint256) = 10**18
# Bounds that keep every product below 2^256: 2^60 * 2^90 * 2^91 is the largest.
SUPPLY_MAX: constant(uint256) = 10**9 * COIN
BASE_MAX: constant(uint256) = 10**21  # 1,000 BTC for the first coin
SLOPE_MAX: constant(uint256) = 10**18  # 1 BTC more with each coin


event Launched:
    agent: indexed(uint256)
    name: String[25]
    symbol: String[11]
    base: uint256
    slope: uint256


event Bought:
    account: indexed(address)
    amount: uint256
    paid: uint256
    supply: uint256


event Sold:
    account: indexed(address)
    amount: uint256
    received: uint256
    supply: uint256


agent: public(uint256)  # id in the factory; 0 before `set_up`
name: public(String[25])
symbol: public(String[11])
base: public(uint256)  # wei for a coin at supply 0
slope: public(uint256)  # wei by which each coin raises the next one's price
reserve: public(uint256)  # wei


@deploy
def __init__():
    ownable.__init__()
    erc20.__init__("Agent coin", "AGENT", 18, "Hyperdust agent coin", "1")


@external
def set_up(agent: uint256, name: String[25], symbol: String[11], base: uint256, slope: uint256):
    """
    @notice Fixes name and line of a new coin; once, by the factory.
    """
    assert msg.sender == FACTORY, "AgentCoin: not the factory"
    assert self.agent == 0, "AgentCoin: already set up"
    assert len(name) > 0 and len(symbol) > 0, "AgentCoin: no name"
    assert base > 0 or slope > 0, "AgentCoin: worth nothing"
    assert base <= BASE_MAX and slope <= SLOPE_MAX, "AgentCoin: price beyond reason"
    self.agent = agent
    self.name = name
    self.symbol = symbol
    self.base = base
    self.slope = slope
    log Launched(agent=agent, name=name, symbol=symbol, base=base, slope=slope)


@external
@payable
@nonreentrant
def buy(amount: uint256) -> uint256:
    """
    @notice Makes coins for the sender. The value sent is the most that it pays; what is too much goes back.
    @param amount In 10^-18 coins.
    @return Wei paid.
    """
    assert self.agent != 0, "AgentCoin: not set up"
    assert amount > 0, "AgentCoin: no amount"
    paid: uint256 = self._cost(amount)
    assert paid <= msg.value, "AgentCoin: costs more than was sent"
    self.reserve += paid
    erc20._mint(msg.sender, amount)
    log Bought(account=msg.sender, amount=amount, paid=paid, supply=erc20.totalSupply)
    if msg.value > paid:
        raw_call(msg.sender, b"", value=msg.value - paid)
    return paid


@external
@nonreentrant
def sell(amount: uint256, least: uint256) -> uint256:
    """
    @notice Takes coins back from the sender and pays for them.
    @param amount In 10^-18 coins.
    @param least Wei below which the sender would rather keep them.
    @return Wei received.
    """
    assert amount > 0, "AgentCoin: no amount"
    assert erc20.balanceOf[msg.sender] >= amount, "AgentCoin: more than you have"
    received: uint256 = self._worth(amount)
    assert received >= least, "AgentCoin: worth less than that"
    self.reserve -= received
    erc20._burn(msg.sender, amount)
    log Sold(account=msg.sender, amount=amount, received=received, supply=erc20.totalSupply)
    raw_call(msg.sender, b"", value=received)
    return received


@external
@view
def cost_of(amount: uint256) -> uint256:
    """
    @notice Wei that buying this much costs now.
    """
    return self._cost(amount)


@external
@view
def worth_of(amount: uint256) -> uint256:
    """
    @notice Wei that selling this much brings now.
    """
    return self._worth(amount)


@internal
@view
def _cost(amount: uint256) -> uint256:
    assert amount <= SUPPLY_MAX and erc20.totalSupply + amount <= SUPPLY_MAX, "AgentCoin: supply beyond reason"
    doubled: uint256 = self._doubled_area(erc20.totalSupply, amount)
    return (doubled + 2 * COIN * COIN - 1) // (2 * COIN * COIN)


@internal
@view
def _worth(amount: uint256) -> uint256:
    assert amount <= erc20.totalSupply, "AgentCoin: more than there is"
    return self._doubled_area(erc20.totalSupply - amount, amount) // (2 * COIN * COIN)


@internal
@view
def _doubled_area(supply: uint256, amount: uint256) -> uint256:
    # Twice the area under base + slope * s from `supply` to `supply + amount`, in wei * 10^36.
    return amount * (2 * self.base * COIN + self.slope * (2 * supply + amount))
