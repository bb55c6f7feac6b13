"""Accounts, API keys, devices and plans: who exists, durable over the ``Store`` port.

Not here: what they may do (``broker.policy``), and how the outside asks (``broker.admin``).
"""
