"""Keys of session tickets. Native only: see ``tls_tickets.pxd``."""
