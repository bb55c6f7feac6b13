"""The normative statements of both versions, and which of them no test names."""
