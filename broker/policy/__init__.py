"""Who may do what, and how a secret proves who it is.

Not here: who exists (``broker.accounts``), and the enforcement of rights per message (the core).
"""
