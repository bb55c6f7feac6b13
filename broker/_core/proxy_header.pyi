"""The PROXY protocol's header, versions 1 and 2; native code uses ``read_proxy_header``."""

def proxy_address(data: bytes | bytearray | memoryview) -> tuple[int, bytes]:
    """Read a header: its size (0: more is needed, -1: it is none) and the client's 16 bytes of address, if it has one.

    An IPv4 address is mapped into an IPv6 one.
    """
    ...
