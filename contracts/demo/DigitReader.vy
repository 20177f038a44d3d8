# pragma version 0.4.3
# pragma evm-version prague
"""
@title DigitReader: a contract that reads a handwritten digit inside a transaction
@license GPL-3.0-or-later
@notice Runs a small hypergraph (64 pixels -> 32 -> 10 scores, all integers) through the native call
        `run_graph`: no job, no waiting, the same bits on every node. The network and its id come from
        docs/examples/digits; its bytes are the code of a data contract, behind one STOP.
"""

RUN_GRAPH: constant(address) = 0x0000000000000000000000000000000000004807
GRAPH: constant(bytes32) = 0xa3f6019ff4d7c7476acf0675f8d8ab5311e5d9169284f9008a45bca417d0278a
MODEL_BYTES: constant(uint256) = 3704
PIXEL_MAX: constant(uint256) = 16

MODEL: immutable(address)


event Read:
    reader: indexed(address)
    digit: indexed(uint256)


read_count: public(HashMap[uint256, uint256])


@deploy
def __init__(model: address):
    assert model.codesize == MODEL_BYTES + 1, "DigitReader: not the model"
    MODEL = model


@external
@view
def scores(image: Bytes[64]) -> int256[10]:
    """
    @notice What the network gives each digit, in units of 1/1024.
    @param image 8 x 8 pixels, row by row, 0 (paper) to 16 (ink).
    """
    return self._scores(image)


@external
@view
def classify(image: Bytes[64]) -> uint256:
    """
    @notice The digit that the network reads.
    """
    return self._classify(image)


@external
def claim(image: Bytes[64], digit: uint256):
    """
    @notice Counts an image of `digit`; reverts if the network reads another.
    """
    assert self._classify(image) == digit, "DigitReader: another digit"
    self.read_count[digit] += 1
    log Read(reader=msg.sender, digit=digit)


@internal
@view
def _classify(image: Bytes[64]) -> uint256:
    scores: int256[10] = self._scores(image)
    best: uint256 = 0
    for digit: uint256 in range(1, 10):
        if scores[digit] > scores[best]:
            best = digit
    return best


@internal
@view
def _scores(image: Bytes[64]) -> int256[10]:
    assert len(image) == 64, "DigitReader: not 8 x 8 pixels"
    # Tensors are little-endian: a pixel p is the two bytes p, 0.
    words: bytes32[4] = empty(bytes32[4])
    for i: uint256 in range(4):
        word: uint256 = 0
        pixels: uint256 = convert(slice(image, 16 * i, 16), uint256)
        for j: uint256 in range(16):
            pixel: uint256 = (pixels >> (8 * (15 - j))) % 256
            assert pixel <= PIXEL_MAX, "DigitReader: not a pixel"
            word = (word << 16) | (pixel << 8)
        words[i] = convert(word, bytes32)
    model: Bytes[MODEL_BYTES] = slice(MODEL.code, 1, MODEL_BYTES)
    success: bool = False
    output: Bytes[20] = b""
    success, output = raw_call(
        RUN_GRAPH,
        concat(GRAPH, model, words[0], words[1], words[2], words[3]),
        max_outsize=20,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert success and len(output) == 20, "DigitReader: the network did not run"
    scores: int256[10] = empty(int256[10])
    for digit: uint256 in range(10):
        low: uint256 = convert(slice(output, 2 * digit, 1), uint256)
        high: uint256 = convert(slice(output, 2 * digit + 1, 1), uint256)
        value: int256 = convert(high * 256 + low, int256)
        scores[digit] = value - 2**16 if value >= 2**15 else value
    return scores
