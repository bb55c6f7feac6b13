"""The wire table: what is sent, what must come back, whether the broker hangs up, and the statement that says so."""
