"""The native core: bytes, and the rules of what is frequent. It does no I/O but in the reactor.

Here belong compiled modules, each with its stub (``.pyi``), and one in Python: ``encoding``, the writing side of the
codec's Python face, which no message on its way meets. Not here: what happens once per subscription or request;
that is ``broker.engine``.
"""
