"""Connections and sessions as whoever looks after them sees them. Native only: ``Shard.connections`` and its like."""
