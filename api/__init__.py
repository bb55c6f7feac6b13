"""HTTP for people and services: the REST API over ``broker.admin``.

Not here: any rule of the platform or of MQTT. This package sees ``broker.admin``, ``config`` and ``errors`` alone.
"""

from api.app import application

__all__ = ["application"]
