"""Measurements of the installed broker beside Debian's mosquitto, with a load generator of our own.

Belongs here: what is run (``scenarios``), against whom (``brokers``), how often and in which order (``campaign``),
what is written down (``table``). Not here: the gate that needs no clock (``tests/gate``); tests of the generator.
"""
