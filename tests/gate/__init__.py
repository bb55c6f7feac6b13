"""The gate that needs no clock: system calls, allocations and native instructions per delivered message.

On shared machines it is the only sign of a regression that does not flicker. ``figures.json`` holds what was reached;
10 % more fails. ``python -m tests.gate --update`` stores new figures, on purpose and with a reason in the commit.
"""
