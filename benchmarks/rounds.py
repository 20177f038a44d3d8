"""Two sides measured in one run, so that neither pays for the other's threads.

OpenMP's and rayon's workers spin for some milliseconds after a call. A side that starts within them has one core less:
on two cores the native int8 product looked half as fast as it is.
"""

import time
from collections.abc import Callable

REST_S = 0.05
"""Long enough for spinning workers to fall asleep."""
SHORT_S = 0.2
"""Calls below this are made once uncounted: they wake the side's own workers and fill caches."""


def best_of(
    rounds: int, *functions: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of the fastest call of each function, rounds interleaved, a rest before each turn."""
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            time.sleep(REST_S)
            if best[index] < SHORT_S:
                function()
            start = clock()
            function()
            best[index] = min(best[index], clock() - start)
    return best
