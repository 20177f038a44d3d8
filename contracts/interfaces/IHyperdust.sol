// SPDX-License-Identifier: GPL-3.0-or-later
pragma solidity >=0.8.0;

/// What contracts call on Hyperdust's predeploys. The whole ABI stands in genesis/artifacts/*.json.

/// The hypergraphs that jobs may name, at 0x0000000000000000000000000000000000005001.
interface IGraphRegistry {
    event Announced(address indexed owner, bytes32 commitment);
    event Registered(bytes32 indexed graph, address indexed owner, string name);
    event LineageSet(bytes32 indexed graph, bytes32 indexed parent, uint256 bps);

    struct Symbol {
        uint32 low;
        uint32 high;
    }

    /// keccak256(abi.encode(graph, owner)), a block before `register`.
    function announce(bytes32 commitment) external;
    /// The sender owns the graph from then on; reverts unless the court could judge every element of it.
    function register(bytes calldata graph_file) external returns (bytes32 graph);
    /// Once, by the owner: what it was made from (or zero), and at most 1,500 basis points of each job's fee.
    function set_lineage(bytes32 graph, bytes32 parent, uint256 bps) external;
    /// Owners of the graph, its parent and its grandparent, and what each takes; at most 3,000 together.
    function royalties(bytes32 graph) external view returns (address[] memory owners, uint256[] memory bps);
    function parent_of(bytes32 graph) external view returns (bytes32);
    function announced_at(bytes32 commitment) external view returns (uint256 block_number);
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
        uint256 burn; // wei of the fee that nobody gets
    }

    struct Check {
        uint256 candidates; // companions to draw from, as of the submission
        address companion; // who committed
        bytes32 commitment; // keccak256(abi.encode(trace_root, companion))
        bytes32 trace_root; // the companion's
        uint8 state; // 0 none, 1 committed, 2 agrees, 3 differs, 4 refuted
        uint256 held_until; // last block in which the job cannot become final
        uint256 open_demands;
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
    event FeeSplit(uint256 indexed job, uint256 burned, uint256 companion, uint256 royalties, uint256 provider);
    event Declined(uint256 indexed job, address indexed provider);
    event Committed(uint256 indexed job, address indexed companion, bytes32 commitment);
    event CompanionRevealed(uint256 indexed job, address indexed companion, bytes32 trace_root, bool agrees);
    event Mismatch(uint256 indexed job, address indexed companion, bytes32 trace_root, uint256 held_until);
    event CompanionRefuted(uint256 indexed job, address indexed companion, uint256 slashed);
    event Held(uint256 indexed job, uint256 until);
    event Convicted(
        uint256 indexed job,
        address indexed provider,
        address indexed challenger,
        uint256 slashed
    );
    event PriceMoved(uint256 price, uint256 window_start);
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
    /// A named provider's job is refunded; a drawn one's is anybody's who is bonded for the graph.
    function decline(uint256 number) external;
    function submit(uint256 number, bytes calldata output, bytes32 commitment) external;
    function commit(uint256 number, bytes32 commitment) external;
    function companion_reveal(uint256 number, bytes32 trace_root) external;
    function reveal(uint256 number, bytes32 trace_root) external;
    function settle(uint256 number) external;
    function refund(uint256 number) external;
    function withdraw() external;
    function withdraw(address account) external;

    function jobs_count() external view returns (uint256);
    function job(uint256 number) external view returns (Job memory);
    /// 0 none, 1 requested, 2 claimed, 3 revealed, 4 final, 5 refunded, 6 slashed.
    function status(uint256 number) external view returns (uint8);
    function provider_of(uint256 number) external view returns (address);
    function check_of(uint256 number) external view returns (Check memory);
    function companion_of(uint256 number) external view returns (address);
    function output_of(uint256 number) external view returns (bytes memory);
    function symbols_of(uint256 number) external view returns (uint32[] memory);
    function shortest_deadline(bytes32 graph, uint32[] calldata symbols) external view returns (uint256 blocks);
    /// Wei burned for 10^9 multiply-accumulates of credit, and by such a job: its fee must be more.
    function mac_price() external view returns (uint256);
    function burn_of(bytes32 graph, uint32[] calldata symbols) external view returns (uint256);
    function exposure_of(address provider) external view returns (uint256 open, uint256 covered);
    function owed(address account) external view returns (uint256);
}

/// Who serves which graph, with how much at stake, at 0x0000000000000000000000000000000000005002.
interface IBonds {
    event Deposited(address indexed account, uint256 amount, uint256 bond);
    event Serving(bytes32 indexed graph, address indexed provider, uint256 index);
    event ServingAsCompanion(bytes32 indexed graph, address indexed companion, uint256 index);
    event Left(bytes32 indexed graph, address indexed account);
    event Paused(address indexed account, uint256 until);
    event Unbonding(address indexed account, uint256 amount, uint256 until);
    event Withdrawn(address indexed account, uint256 amount);
    event Slashed(address indexed account, address indexed beneficiary, uint256 amount, uint256 burned);
    event PayoutSet(address indexed account, address indexed payout);

    function deposit() external payable;
    function serve(bytes32 graph) external;
    function serve_as_companion(bytes32 graph) external;
    function leave(bytes32 graph) external;
    function unbond(uint256 amount) external;
    function withdraw() external;
    function withdraw_owed() external;
    function withdraw_owed(address account) external;
    function setPayout(address to) external;

    function bond_of(address account) external view returns (uint256);
    function unbonding_of(address account) external view returns (uint256);
    function unbonding_until(address account) external view returns (uint256);
    function paused_until(address account) external view returns (uint256);
    function owed(address account) external view returns (uint256);
    function payout_of(address account) external view returns (address);
    function serves(bytes32 graph, address account) external view returns (bool);
    function is_provider(bytes32 graph, address account) external view returns (bool);
    function is_companion(bytes32 graph, address account) external view returns (bool);
    function providers(bytes32 graph) external view returns (address[] memory);
    function companions(bytes32 graph) external view returns (address[] memory);
}

/// Proofs against providers, demands, votes that exclude each other, at 0x0000000000000000000000000000000000005005.
interface ICourt {
    event ChallengeCommitted(uint256 indexed job, address indexed challenger, bytes32 hash);
    event Verdict(
        uint256 indexed job,
        address indexed accused,
        address indexed challenger,
        uint8 kind,
        uint256 step,
        uint256 operator,
        uint256 element
    );
    event Demanded(
        uint256 indexed demand,
        uint256 indexed job,
        address indexed asker,
        bytes32 key,
        bytes question,
        uint256 deadline
    );
    event Answered(uint256 indexed demand, uint256 indexed job, bytes data);
    event Expired(uint256 indexed demand, uint256 indexed job);
    event Equivocated(address indexed coinbase, address indexed reporter, uint256 amount);
    event PaymentKept(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);

    /// hash = keccak256(abi.encode(keccak256(evidence), challenger)); `prove` follows a block or more later.
    function commit(uint256 job, bytes32 hash) external;
    function prove(uint256 job, bytes calldata evidence, bytes calldata signature) external;
    function demand(uint256 job, bytes calldata question) external payable returns (uint256 number);
    function answer(uint256 number, bytes calldata question, bytes calldata data) external;
    function expire(uint256 number) external;
    function withdraw() external;
    function withdraw(address account) external;

    /// verdict: 0 none, 1 guilty, 2 innocent.
    function dispute_of(uint256 job)
        external
        view
        returns (
            address accused,
            address challenger,
            uint256 operator,
            uint256 element,
            uint8 kind,
            uint8 verdict,
            uint256 at
        );
    function demand_window() external view returns (uint256 blocks);
    function demand_deposit() external view returns (uint256);
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
    event Forfeited(uint256 indexed number, address indexed coinbase, address indexed reporter, uint256 amount);

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
