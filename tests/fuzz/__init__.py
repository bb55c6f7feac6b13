"""Fuzz targets: functions that take any bytes and fail only for a bug.

Each target is a module here with ``one_input(data)``, listed in ``driver.TARGETS``, and has its seeds in ``corpus/``.
``make fuzz`` runs them under sanitizers; the suite runs each for a moment with fixed seeds.
"""
