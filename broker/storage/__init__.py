"""What survives the process: implementations of the ``Store`` port, and the data directory with its one owner.

Not here: what the records mean (``broker.accounts``, the core's journal).
"""
