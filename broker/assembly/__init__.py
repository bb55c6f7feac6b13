"""What a whole broker is put together from: one module for each part that comes up and goes down as a whole.

Here belongs wiring, and the order within a part. Not here: the order of the parts (``broker.runtime``), and any rule.
Whatever has to be undone is left with the caller's exit stack, in the order in which it came up.
"""
