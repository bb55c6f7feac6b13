"""Proof by SIGKILL: a real broker, real clients, a ledger of what was promised.

Here belongs everything of ``make crash-test``: the clients, the ledger, the broker's deaths and the report. Not here:
losses that a killed process cannot show (the page cache survives it): those are the power cut's and the simulator's.
"""
