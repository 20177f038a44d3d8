// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity >=0.8.0;

/// Agents, their coins and items, and scheduled calls. The whole ABI stands in genesis/artifacts/*.json.

/// Makes agents and is their ERC-721, at 0x0000000000000000000000000000000000005007.
interface IAgentFactory {
    event Created(uint256 indexed id, address indexed agent, address indexed owner, string name, bytes32 graph);
    event CoinLaunched(uint256 indexed id, address indexed coin);
    event ItemsLaunched(uint256 indexed id, address indexed items);

    /// `currency`: 0 BTC, 1 DUST; the agent's own coin comes after `launch_coin`, by `set_price`.
    function create(
        string calldata name,
        bytes32 graph,
        bytes calldata prefix,
        uint256 prefix_symbol,
        uint32 prefix_rows,
        uint8 currency,
        uint256 price,
        string calldata uri
    ) external returns (uint256 id);
    function launch_coin(uint256 id, string calldata name, string calldata symbol, uint256 base, uint256 slope)
        external
        returns (address coin);
    function launch_items(uint256 id) external returns (address items);

    function totalSupply() external view returns (uint256);
    function ownerOf(uint256 id) external view returns (address);
    function transferFrom(address owner, address to, uint256 id) external payable;
    function tokenURI(uint256 id) external view returns (string memory);
    /// Ids run from 1 to `totalSupply`.
    function agent_at(uint256 id) external view returns (address agent);
    /// Zero: no agent.
    function id_of(address agent) external view returns (uint256 id);
    function name_of(uint256 id) external view returns (string memory);
    function coin_of(uint256 id) external view returns (address);
    function items_of(uint256 id) external view returns (address);
    /// Least depth of an ask in this transaction, now.
    function depth() external view returns (uint256);
}

/// One agent, at an address of its own.
interface IAgent {
    struct Terms {
        address provider; // of the job; zero: drawn
        uint256 fee; // wei for the job
        uint8 currency; // what the asker expects to pay in: 0 BTC, 1 DUST, 2 the agent's coin
        uint256 max_price; // the most that it pays the agent
        uint8 firmness; // least status of the job for `deliver`: 2 claimed, 3 revealed, 4 final
        uint256 callback_gas; // for `on_answer`; 0: not called back
        uint256 depth; // 0 for a question of its own, else one more than the answer that it follows; at most 4
    }

    struct Ask {
        address asker;
        uint256 job;
        uint256 fee;
        uint256 price;
        uint8 currency;
        uint8 firmness;
        uint256 callback_gas;
        uint256 depth;
        uint256 call; // in the Scheduler; 0: none prepaid
        bool delivered;
        uint8 outcome; // 0 open, 1 earned by the agent, 2 returned to the asker
    }

    event Asked(
        uint256 indexed number,
        address indexed asker,
        uint256 indexed job,
        uint256 fee,
        uint8 currency,
        uint256 price,
        uint256 depth,
        uint256 call
    );
    event Answered(
        uint256 indexed number,
        address indexed asker,
        uint256 indexed job,
        uint8 status,
        bool called_back
    );
    event Earned(uint256 indexed number, uint8 currency, uint256 price);
    event Returned(uint256 indexed number, address indexed asker, uint256 fee, uint8 currency, uint256 price);
    event PriceSet(uint8 currency, uint256 price);
    event RevenueWithdrawn(address indexed to, uint8 currency, uint256 amount);
    event PaymentKept(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);

    /// The value sent is the whole budget: fee, price if in BTC, and the rest prepays the callback.
    function ask(bytes calldata input, uint32[] calldata symbols, uint256 deadline, Terms calldata terms)
        external
        payable
        returns (uint256 number);
    function deliver(uint256 number) external returns (bool called_back);
    function close(uint256[] calldata numbers) external;
    function withdraw(address account) external;
    function set_price(uint8 currency, uint256 price) external;
    function withdraw_revenue(uint8 currency, address to) external;

    function id() external view returns (uint256);
    function owner() external view returns (address);
    function graph() external view returns (bytes32);
    function prefix() external view returns (bytes memory);
    function prefix_symbol() external view returns (uint256);
    function prefix_rows() external view returns (uint32);
    function currency() external view returns (uint8);
    function price() external view returns (uint256);
    function coin() external view returns (address);
    function asks_count() external view returns (uint256);
    function ask_of(uint256 number) external view returns (Ask memory);
    function answer_of(uint256 number) external view returns (uint8 status, bytes memory output);
    /// Wei beyond fee and price for a callback with this much gas, at this block's base fee.
    function quote(uint256 callback_gas) external view returns (uint256);
    function revenue(uint8 currency) external view returns (uint256);
    function escrow(uint8 currency) external view returns (uint256);
    function owed(address account) external view returns (uint256);
}

/// What a contract that asks has to have. Check that `msg.sender` is an agent you asked.
interface IAsker {
    /// `status` 2 claimed, 3 revealed, 4 final: `output` is the answer. 5 refunded, 6 slashed: it is empty, and what the
    /// ask had cost has just been sent back. `depth` is the ask's; ask on with `depth + 1`.
    function on_answer(uint256 number, uint8 status, uint256 depth, bytes calldata output) external;
}

/// An agent's coin, an ERC-20 sold and bought back at `base + slope * supply`.
interface IAgentCoin {
    event Launched(uint256 indexed agent, string name, string symbol, uint256 base, uint256 slope);
    event Bought(address indexed account, uint256 amount, uint256 paid, uint256 supply);
    event Sold(address indexed account, uint256 amount, uint256 received, uint256 supply);

    /// The value sent is the most that is paid; the rest comes back.
    function buy(uint256 amount) external payable returns (uint256 paid);
    function sell(uint256 amount, uint256 least) external returns (uint256 received);
    function cost_of(uint256 amount) external view returns (uint256);
    function worth_of(uint256 amount) external view returns (uint256);
    function base() external view returns (uint256);
    function slope() external view returns (uint256);
    function reserve() external view returns (uint256);
    function agent() external view returns (uint256);
    function totalSupply() external view returns (uint256);
    function balanceOf(address account) external view returns (uint256);
    function approve(address spender, uint256 amount) external returns (bool);
    function transfer(address to, uint256 amount) external returns (bool);
    function transferFrom(address owner, address to, uint256 amount) external returns (bool);
}

/// What an agent's owner sells, an ERC-1155.
interface IAgentItems {
    event Launched(uint256 indexed agent);
    event Offered(uint256 indexed id, uint256 price, uint256 most, string uri);
    event Bought(uint256 indexed id, address indexed account, uint256 amount, uint256 paid);
    event Withdrawn(address indexed to, uint256 amount);

    function offer(uint256 id, uint256 price, uint256 most, string calldata uri) external;
    function buy(uint256 id, uint256 amount) external payable returns (uint256 paid);
    function withdraw(address to) external;
    function offer_of(uint256 id) external view returns (uint256 price, uint256 most, uint256 sold);
    function balanceOf(address account, uint256 id) external view returns (uint256);
    function uri(uint256 id) external view returns (string memory);
}

/// Prepaid calls that anyone runs for a tip, at 0x0000000000000000000000000000000000005008.
interface IScheduler {
    event Scheduled(
        uint256 indexed id,
        address indexed owner,
        address indexed target,
        address refund_to,
        bytes data,
        uint256 gas_limit,
        uint256 first_block,
        uint256 interval,
        uint256 times,
        uint256 job,
        uint8 status,
        uint256 value
    );
    event Funded(uint256 indexed id, uint256 value);
    event Ran(
        uint256 indexed id,
        address indexed runner,
        bool success,
        uint256 paid,
        uint256 lateness,
        uint256 times
    );
    event Cancelled(uint256 indexed id, address indexed account);
    event Ended(uint256 indexed id, address indexed refund_to, uint256 refund);
    event Withdrawn(address indexed account, uint256 amount);

    function schedule(
        address target,
        bytes calldata data,
        uint256 gas_limit,
        uint256 first_block,
        uint256 interval,
        uint256 times,
        address refund_to
    ) external payable returns (uint256 id);
    function schedule_on_job(
        uint256 job,
        uint8 status,
        address target,
        bytes calldata data,
        uint256 gas_limit,
        address refund_to
    ) external payable returns (uint256 id);
    function fund(uint256 id) external payable;
    /// Pays the sender gas at the base fee and a tip, whether the target succeeds or not.
    function run(uint256 id) external returns (bool success);
    function cancel(uint256 id) external;
    function withdraw(address account) external;
    /// Ids that `run` takes now, among `limit` (at most 100) places of the list of open calls.
    function due(uint256 start, uint256 limit) external view returns (uint256[] memory);
    function due_block(uint256 id) external view returns (uint256);
    function open_count() external view returns (uint256);
    function open_at(uint256 place) external view returns (uint256 id);
    function quote(uint256 gas_limit) external view returns (uint256);
    function owed(address account) external view returns (uint256);
}
