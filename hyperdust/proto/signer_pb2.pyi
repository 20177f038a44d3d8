from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpendPath(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCRIPT: _ClassVar[SpendPath]
    KEY: _ClassVar[SpendPath]
SCRIPT: SpendPath
KEY: SpendPath

class Greeting(_message.Message):
    __slots__ = ("chain", "nonce")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    chain: bytes
    nonce: bytes
    def __init__(self, chain: _Optional[bytes] = ..., nonce: _Optional[bytes] = ...) -> None: ...

class Presence(_message.Message):
    __slots__ = ("key", "bitcoin_height", "final_number", "finalized_number", "signature")
    KEY_FIELD_NUMBER: _ClassVar[int]
    BITCOIN_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FINAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    FINALIZED_NUMBER_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    bitcoin_height: int
    final_number: int
    finalized_number: int
    signature: bytes
    def __init__(self, key: _Optional[bytes] = ..., bitcoin_height: _Optional[int] = ..., final_number: _Optional[int] = ..., finalized_number: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Signed(_message.Message):
    __slots__ = ("proposal", "signature")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    proposal: bytes
    signature: bytes
    def __init__(self, proposal: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("chain", "leader", "state_number", "state_hash", "payable_number", "payable_hash", "height", "planned_rate", "rate", "deposits", "transaction", "path", "gifts", "data_root", "data")
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    STATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_HASH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PLANNED_RATE_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    DEPOSITS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    GIFTS_FIELD_NUMBER: _ClassVar[int]
    DATA_ROOT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    chain: bytes
    leader: bytes
    state_number: int
    state_hash: bytes
    payable_number: int
    payable_hash: bytes
    height: int
    planned_rate: int
    rate: int
    deposits: _containers.RepeatedCompositeFieldContainer[Sweep]
    transaction: bytes
    path: SpendPath
    gifts: _containers.RepeatedCompositeFieldContainer[GiftCoin]
    data_root: bytes
    data: _containers.RepeatedCompositeFieldContainer[Payload]
    def __init__(self, chain: _Optional[bytes] = ..., leader: _Optional[bytes] = ..., state_number: _Optional[int] = ..., state_hash: _Optional[bytes] = ..., payable_number: _Optional[int] = ..., payable_hash: _Optional[bytes] = ..., height: _Optional[int] = ..., planned_rate: _Optional[int] = ..., rate: _Optional[int] = ..., deposits: _Optional[_Iterable[_Union[Sweep, _Mapping]]] = ..., transaction: _Optional[bytes] = ..., path: _Optional[_Union[SpendPath, str]] = ..., gifts: _Optional[_Iterable[_Union[GiftCoin, _Mapping]]] = ..., data_root: _Optional[bytes] = ..., data: _Optional[_Iterable[_Union[Payload, _Mapping]]] = ...) -> None: ...

class GiftCoin(_message.Message):
    __slots__ = ("txid", "index", "epoch")
    TXID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    txid: bytes
    index: int
    epoch: int
    def __init__(self, txid: _Optional[bytes] = ..., index: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Sweep(_message.Message):
    __slots__ = ("txid", "index", "binding")
    TXID_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    txid: bytes
    index: int
    binding: bytes
    def __init__(self, txid: _Optional[bytes] = ..., index: _Optional[int] = ..., binding: _Optional[bytes] = ...) -> None: ...

class Payload(_message.Message):
    __slots__ = ("root", "txid")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TXID_FIELD_NUMBER: _ClassVar[int]
    root: bytes
    txid: bytes
    def __init__(self, root: _Optional[bytes] = ..., txid: _Optional[bytes] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("key", "signatures", "rule", "text")
    KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    key: bytes
    signatures: _containers.RepeatedScalarFieldContainer[bytes]
    rule: str
    text: str
    def __init__(self, key: _Optional[bytes] = ..., signatures: _Optional[_Iterable[bytes]] = ..., rule: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Together(_message.Message):
    __slots__ = ("round", "nonces", "signature")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NONCES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    round: Signed
    nonces: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, round: _Optional[_Union[Signed, _Mapping]] = ..., nonces: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("round", "transaction")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    round: Signed
    transaction: bytes
    def __init__(self, round: _Optional[_Union[Signed, _Mapping]] = ..., transaction: _Optional[bytes] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("rule",)
    RULE_FIELD_NUMBER: _ClassVar[int]
    rule: str
    def __init__(self, rule: _Optional[str] = ...) -> None: ...
