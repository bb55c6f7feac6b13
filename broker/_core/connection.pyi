"""Network connections without sockets: slots, outboxes, refusals, deadlines, the end. Native only: see ``connection.pxd``."""
