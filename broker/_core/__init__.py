"""The native core: bytes, and the rules of what is frequent. It does no I/O but in the reactor.

Here belong only compiled modules, each with its stub (``.pyi``). Not here: Python code, or anything that happens
once per subscription, session or request; that is ``broker.engine``.
"""
