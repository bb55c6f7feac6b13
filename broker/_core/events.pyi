"""What has happened to devices, until it is taken. Native only: see ``events.pxd``; ``Shard.take_stories`` takes it."""
