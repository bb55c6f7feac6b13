"""A deterministic simulator of everything that durability depends on, in one process, driven by one seed.

``python -m tests.simulator --seed N --steps M`` plays one run: clients, a network that cuts at any byte, a clock that
jumps, a store whose commits are pending until they are not, and crashes at any step, around the native core as the
runtime wires it. A ledger knows what was promised and to whom, and compares after every recovery.

Where to look: ``world`` is the run and its steps, ``life`` one process of the broker, ``disk`` the store, ``client``
and ``network`` the peers, ``ledger`` (with ``facts``, ``sessions``, ``deliveries``, ``wills``, ``retained``) what must
be true, ``faults`` the bugs that it has to find.
"""
