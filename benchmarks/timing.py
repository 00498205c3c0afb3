"""How long a call takes."""

import statistics
import time


def median_seconds(call, calls, before=1):
    """The median seconds of some calls, after those that are not counted: the first one compiles."""
    for _ in range(before):
        call()
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
