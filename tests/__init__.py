"""The tests of the broker; where each kind lives is told in CONTRIBUTING.md."""
