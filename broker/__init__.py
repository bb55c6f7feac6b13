"""An open, embeddable, multi-tenant MQTT broker and device platform.

Importing this package starts nothing and opens nothing.
"""
