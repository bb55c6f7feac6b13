"""Budgets of queues, and drops as they are counted. Native only: see ``budgets.pxd``."""
