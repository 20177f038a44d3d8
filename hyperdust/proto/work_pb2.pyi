from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATUS_NONE: _ClassVar[JobStatus]
    JOB_STATUS_REQUESTED: _ClassVar[JobStatus]
    JOB_STATUS_CLAIMED: _ClassVar[JobStatus]
    JOB_STATUS_REVEALED: _ClassVar[JobStatus]
    JOB_STATUS_FINAL: _ClassVar[JobStatus]
    JOB_STATUS_REFUNDED: _ClassVar[JobStatus]
    JOB_STATUS_SLASHED: _ClassVar[JobStatus]

class CheckStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHECK_STEP_NONE: _ClassVar[CheckStep]
    CHECK_STEP_COMMIT: _ClassVar[CheckStep]
    CHECK_STEP_REVEAL: _ClassVar[CheckStep]
    CHECK_STEP_PROVE: _ClassVar[CheckStep]
    CHECK_STEP_REFUND: _ClassVar[CheckStep]
JOB_STATUS_NONE: JobStatus
JOB_STATUS_REQUESTED: JobStatus
JOB_STATUS_CLAIMED: JobStatus
JOB_STATUS_REVEALED: JobStatus
JOB_STATUS_FINAL: JobStatus
JOB_STATUS_REFUNDED: JobStatus
JOB_STATUS_SLASHED: JobStatus
CHECK_STEP_NONE: CheckStep
CHECK_STEP_COMMIT: CheckStep
CHECK_STEP_REVEAL: CheckStep
CHECK_STEP_PROVE: CheckStep
CHECK_STEP_REFUND: CheckStep

class TemplateRequest(_message.Message):
    __slots__ = ("coinbase", "graphs", "companion", "watch")
    COINBASE_FIELD_NUMBER: _ClassVar[int]
    GRAPHS_FIELD_NUMBER: _ClassVar[int]
    COMPANION_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    coinbase: bytes
    graphs: _containers.RepeatedScalarFieldContainer[bytes]
    companion: bool
    watch: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, coinbase: _Optional[bytes] = ..., graphs: _Optional[_Iterable[bytes]] = ..., companion: _Optional[bool] = ..., watch: _Optional[_Iterable[int]] = ...) -> None: ...

class Template(_message.Message):
    __slots__ = ("id", "open", "opens_in_ms", "parent_hash", "seal_hash", "number", "timestamp", "difficulty", "base_fee", "chain_id", "nonce", "pending_nonce", "balance", "jobs", "genesis_hash", "questions", "checks", "vote")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    OPENS_IN_MS_FIELD_NUMBER: _ClassVar[int]
    PARENT_HASH_FIELD_NUMBER: _ClassVar[int]
    SEAL_HASH_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DIFFICULTY_FIELD_NUMBER: _ClassVar[int]
    BASE_FEE_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    PENDING_NONCE_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    GENESIS_HASH_FIELD_NUMBER: _ClassVar[int]
    QUESTIONS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    id: int
    open: bool
    opens_in_ms: int
    parent_hash: bytes
    seal_hash: bytes
    number: int
    timestamp: int
    difficulty: bytes
    base_fee: bytes
    chain_id: int
    nonce: int
    pending_nonce: int
    balance: bytes
    jobs: _containers.RepeatedCompositeFieldContainer[JobOffer]
    genesis_hash: bytes
    questions: _containers.RepeatedCompositeFieldContainer[DataRequest]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    vote: Link
    def __init__(self, id: _Optional[int] = ..., open: _Optional[bool] = ..., opens_in_ms: _Optional[int] = ..., parent_hash: _Optional[bytes] = ..., seal_hash: _Optional[bytes] = ..., number: _Optional[int] = ..., timestamp: _Optional[int] = ..., difficulty: _Optional[bytes] = ..., base_fee: _Optional[bytes] = ..., chain_id: _Optional[int] = ..., nonce: _Optional[int] = ..., pending_nonce: _Optional[int] = ..., balance: _Optional[bytes] = ..., jobs: _Optional[_Iterable[_Union[JobOffer, _Mapping]]] = ..., genesis_hash: _Optional[bytes] = ..., questions: _Optional[_Iterable[_Union[DataRequest, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., vote: _Optional[_Union[Link, _Mapping]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("source", "source_number", "target", "target_number")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_NUMBER_FIELD_NUMBER: _ClassVar[int]
    source: bytes
    source_number: int
    target: bytes
    target_number: int
    def __init__(self, source: _Optional[bytes] = ..., source_number: _Optional[int] = ..., target: _Optional[bytes] = ..., target_number: _Optional[int] = ...) -> None: ...

class Vote(_message.Message):
    __slots__ = ("link", "signature")
    LINK_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    link: Link
    signature: bytes
    def __init__(self, link: _Optional[_Union[Link, _Mapping]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class JobOffer(_message.Message):
    __slots__ = ("id", "graph", "status", "fee", "deadline", "ready_at", "assigned")
    ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    READY_AT_FIELD_NUMBER: _ClassVar[int]
    ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    id: int
    graph: bytes
    status: JobStatus
    fee: bytes
    deadline: int
    ready_at: int
    assigned: bool
    def __init__(self, id: _Optional[int] = ..., graph: _Optional[bytes] = ..., status: _Optional[_Union[JobStatus, str]] = ..., fee: _Optional[bytes] = ..., deadline: _Optional[int] = ..., ready_at: _Optional[int] = ..., assigned: _Optional[bool] = ...) -> None: ...

class JobRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("id", "graph", "symbols", "input", "provider", "status", "deadline", "fee", "requester", "output", "trace_root", "commitment")
    ID_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    FEE_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ROOT_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    id: int
    graph: bytes
    symbols: _containers.RepeatedScalarFieldContainer[int]
    input: bytes
    provider: bytes
    status: JobStatus
    deadline: int
    fee: bytes
    requester: bytes
    output: bytes
    trace_root: bytes
    commitment: bytes
    def __init__(self, id: _Optional[int] = ..., graph: _Optional[bytes] = ..., symbols: _Optional[_Iterable[int]] = ..., input: _Optional[bytes] = ..., provider: _Optional[bytes] = ..., status: _Optional[_Union[JobStatus, str]] = ..., deadline: _Optional[int] = ..., fee: _Optional[bytes] = ..., requester: _Optional[bytes] = ..., output: _Optional[bytes] = ..., trace_root: _Optional[bytes] = ..., commitment: _Optional[bytes] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("template_id", "nonce", "certificate")
    TEMPLATE_ID_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    template_id: int
    nonce: bytes
    certificate: bytes
    def __init__(self, template_id: _Optional[int] = ..., nonce: _Optional[bytes] = ..., certificate: _Optional[bytes] = ...) -> None: ...

class Result(_message.Message):
    __slots__ = ("job", "output", "trace_root", "subgraph_roots", "transactions")
    JOB_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ROOT_FIELD_NUMBER: _ClassVar[int]
    SUBGRAPH_ROOTS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    job: int
    output: bytes
    trace_root: bytes
    subgraph_roots: _containers.RepeatedScalarFieldContainer[bytes]
    transactions: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, job: _Optional[int] = ..., output: _Optional[bytes] = ..., trace_root: _Optional[bytes] = ..., subgraph_roots: _Optional[_Iterable[bytes]] = ..., transactions: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("accepted", "rule", "text", "block_hash")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    rule: str
    text: str
    block_hash: bytes
    def __init__(self, accepted: _Optional[bool] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ..., block_hash: _Optional[bytes] = ...) -> None: ...

class ManifestRequest(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: int
    def __init__(self, job: _Optional[int] = ...) -> None: ...

class Manifest(_message.Message):
    __slots__ = ("job", "trace_root", "subgraph_roots")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TRACE_ROOT_FIELD_NUMBER: _ClassVar[int]
    SUBGRAPH_ROOTS_FIELD_NUMBER: _ClassVar[int]
    job: int
    trace_root: bytes
    subgraph_roots: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, job: _Optional[int] = ..., trace_root: _Optional[bytes] = ..., subgraph_roots: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("job", "graph", "step", "ready_at", "until", "demands")
    JOB_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    READY_AT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    DEMANDS_FIELD_NUMBER: _ClassVar[int]
    job: int
    graph: bytes
    step: CheckStep
    ready_at: int
    until: int
    demands: _containers.RepeatedCompositeFieldContainer[Demand]
    def __init__(self, job: _Optional[int] = ..., graph: _Optional[bytes] = ..., step: _Optional[_Union[CheckStep, str]] = ..., ready_at: _Optional[int] = ..., until: _Optional[int] = ..., demands: _Optional[_Iterable[_Union[Demand, _Mapping]]] = ...) -> None: ...

class Demand(_message.Message):
    __slots__ = ("id", "question", "expires_at")
    ID_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    id: int
    question: bytes
    expires_at: int
    def __init__(self, id: _Optional[int] = ..., question: _Optional[bytes] = ..., expires_at: _Optional[int] = ...) -> None: ...

class DataRequest(_message.Message):
    __slots__ = ("job", "question", "demand", "until", "signature")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    job: int
    question: bytes
    demand: int
    until: int
    signature: bytes
    def __init__(self, job: _Optional[int] = ..., question: _Optional[bytes] = ..., demand: _Optional[int] = ..., until: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Data(_message.Message):
    __slots__ = ("job", "question", "answer", "signature")
    JOB_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    job: int
    question: bytes
    answer: bytes
    signature: bytes
    def __init__(self, job: _Optional[int] = ..., question: _Optional[bytes] = ..., answer: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
