"""Packet identifiers of QoS 2 that a client has in use. Native only: see ``inbound_qos2.pxd``."""
