"""CONNECT and CONNACK. Native only: see ``connect.pxd``."""
