"""Waiting for a state. A machine that is busy with other things is slow: the time only bounds a failure."""
import time

PATIENCE = 300  # seconds


def wait_until(what, condition, patience=PATIENCE, error=AssertionError):
    """The condition's first true value; `error` that names `what` when there is none for so long."""
    end = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > end:
            raise error(f"{what}: not within {patience} s")
        time.sleep(0.02)
    return value
