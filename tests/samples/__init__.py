"""A small data directory of every format that the store ever had, and the programs that made them.

Here belong samples, once made never changed, and how they were made. Not here: the tests that open them
(``tests/integration/test_old_formats.py``).
"""
