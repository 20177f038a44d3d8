// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity >=0.8.0;

/// What contracts call on Hyperdust's predeploys. The whole ABI stands in genesis/artifacts/*.json.

/// The hypergraphs that jobs may name, at 0x0000000000000000000000000000000000005001.
interface IGraphRegistry {
    event Registered(bytes32 indexed graph, address indexed owner, string name);

    struct Symbol {
        uint32 low;
        uint32 high;
    }

    function graph_count() external view returns (uint256);
    function graph_at(uint256 index) external view returns (bytes32 graph);
    function is_registered(bytes32 graph) external view returns (bool);
    function owner_of(bytes32 graph) external view returns (address);
    function name_of(bytes32 graph) external view returns (string memory);
    function top_layer(bytes32 graph) external view returns (bytes memory);
    function symbols_of(bytes32 graph) external view returns (Symbol[] memory);
    function operand(bytes32 graph, uint32 operator) external view returns (bytes32 root, uint32 k, uint32 n);
    /// Multiply-accumulates of one job; reverts unless the graph takes these symbols.
    function macs(bytes32 graph, uint32[] calldata symbols) external view returns (uint256);
    function mining_macs(bytes32 graph, uint32[] calldata symbols) external view returns (uint256);
}

/// Paid executions of hypergraphs, at 0x0000000000000000000000000000000000005003.
interface IJobMarket {
    struct Job {
        bytes32 graph;
        address requester;
        address provider; // named, drawn or, once submitted, who submitted; zero while not drawn
        uint256 fee; // wei
        uint256 credit; // MACs
        uint256 deadline; // last block for `submit`
        uint256 requested_at;
        uint256 submitted_at;
        uint256 revealed_at;
        uint256 closed_at;
        uint256 candidates; // 0: the provider was named
        uint256 symbols; // packed; read `symbols_of`
        bytes32 input_hash;
        bytes32 output_hash;
        bytes32 commitment; // keccak256(abi.encode(trace_root, provider))
        bytes32 trace_root;
        uint8 status;
    }

    event Requested(
        uint256 indexed job,
        bytes32 indexed graph,
        address indexed requester,
        address provider,
        uint256 fee,
        uint256 deadline,
        uint32[] symbols,
        bytes input
    );
    event Submitted(uint256 indexed job, address indexed provider, bytes output, bytes32 commitment);
    event Revealed(uint256 indexed job, address indexed provider, bytes32 trace_root);
    event Settled(uint256 indexed job, address indexed provider, uint256 fee, uint256 credit);
    event Refunded(uint256 indexed job, address indexed requester, uint256 fee);
    event PaymentKept(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);

    /// The value sent is the fee; provider zero lets the next block's beacon draw one.
    function request(
        bytes32 graph,
        bytes calldata input,
        uint32[] calldata symbols,
        uint256 deadline,
        address provider
    ) external payable returns (uint256 number);
    function submit(uint256 number, bytes calldata output, bytes32 commitment) external;
    function reveal(uint256 number, bytes32 trace_root) external;
    function settle(uint256 number) external;
    function refund(uint256 number) external;
    function withdraw() external;

    function jobs_count() external view returns (uint256);
    function job(uint256 number) external view returns (Job memory);
    /// 0 none, 1 requested, 2 claimed, 3 revealed, 4 final, 5 refunded.
    function status(uint256 number) external view returns (uint8);
    function provider_of(uint256 number) external view returns (address);
    function output_of(uint256 number) external view returns (bytes memory);
    function symbols_of(uint256 number) external view returns (uint32[] memory);
    function shortest_deadline(bytes32 graph, uint32[] calldata symbols) external view returns (uint256 blocks);
    function owed(address account) external view returns (uint256);
}

/// The coin of work, its credit and the beacons, at 0x0000000000000000000000000000000000005004. Also an ERC-20.
interface IDust {
    event Rewarded(
        uint256 indexed number,
        address indexed coinbase,
        uint256 minted,
        uint256 credit_spent,
        uint256 unlock_block
    );
    event CreditGranted(address indexed provider, uint256 macs, uint256 epoch);
    event Claimed(uint256 indexed number, address indexed coinbase, address indexed to, uint256 amount);

    function claim(uint256 number) external;
    function credit_of(address account) external view returns (uint256 held, uint256 spent, uint256 lapsed);
    function reward_of(uint256 number)
        external
        view
        returns (address coinbase, uint256 minted, uint256 credit_spent, uint256 unlock_block, bool claimed);
    function subsidy_of(uint256 number) external view returns (uint256);
    /// PREVRANDAO of one of the last 8,192 blocks, this one included; zero if not known.
    function beacon(uint256 number) external view returns (bytes32);
}
