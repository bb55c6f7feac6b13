"""WebSocket frames, both ways. Native only: see ``websocket.pxd``."""
