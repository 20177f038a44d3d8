# pragma version 0.4.3
# pragma evm-version prague
"""
@title AnswerReader: a contract that uses a job's answer
@license GPL-3.0-or-later
@notice An example of how contracts read JobMarket: it keeps the hash, length and one element of an answer.
        An answer is usable as soon as it is claimed; whoever needs a firm one asks for the status *final* (4).
"""

interface JobMarket:
    def status(number: uint256) -> uint8: view
    def output_of(number: uint256) -> Bytes[8192]: view


JOB_MARKET: constant(JobMarket) = JobMarket(0x0000000000000000000000000000000000005003)


struct Answer:
    hash: bytes32  # keccak256 of the whole output
    size: uint256  # bytes
    element: int16


event Answered:
    job: indexed(uint256)
    answer: Answer


answer_of: public(HashMap[uint256, Answer])


@external
def read(number: uint256, least_status: uint8, element: uint256) -> Answer:
    """
    @notice Reads the whole answer of a job whose output is a tensor of int16, and keeps what it found.
    @param least_status 2 for a claimed answer, 4 for a final one.
    @param element Index into the tensor, row-major.
    """
    status: uint8 = staticcall JOB_MARKET.status(number)
    assert status >= 2 and status >= least_status and status != 5, "AnswerReader: no such answer yet"
    output: Bytes[8192] = staticcall JOB_MARKET.output_of(number)
    assert element < len(output) // 2, "AnswerReader: no such element"
    low: uint256 = convert(slice(output, 2 * element, 1), uint256)
    high: uint256 = convert(slice(output, 2 * element + 1, 1), uint256)
    value: int256 = convert(high * 256 + low, int256)
    if value >= 2**15:
        value -= 2**16
    answer: Answer = Answer(hash=keccak256(output), size=len(output), element=convert(value, int16))
    self.answer_of[number] = answer
    log Answered(job=number, answer=answer)
    return answer
