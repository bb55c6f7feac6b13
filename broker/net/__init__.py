"""The network's edge: listening sockets, the HTTP server, and the core as the other floors' ports see it."""
