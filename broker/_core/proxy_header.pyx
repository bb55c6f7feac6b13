"""The PROXY protocol (haproxy's proxy-protocol.txt, sections 2.1 and 2.2). See proxy_header.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from "arpa/inet.h" nogil:
    int AF_INET, AF_INET6
    int inet_pton(int, const char*, void*)

cdef enum:
    LINE_MAXIMUM_BYTES = 107        # of version 1, its end included
    SIGNATURE_BYTES = 12
    FIXED_BYTES = 16                # of version 2, in front of addresses and extensions
    TEXT_MAXIMUM_BYTES = 46         # of an address, its NUL included
    VERSION_2 = 0x20
    COMMAND_LOCAL = 0
    COMMAND_PROXY = 1
    FAMILY_INET = 1
    FAMILY_INET6 = 2
    MAPPED_BYTES = 12

cdef const char* SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


cdef bint read_text(const uint8_t* text, uint32_t n, int family, uint8_t* address) noexcept nogil:
    cdef char[TEXT_MAXIMUM_BYTES] copy
    if n == 0 or n >= TEXT_MAXIMUM_BYTES or memchr(text, 0, n) != NULL:
        return False
    memcpy(copy, text, n)
    copy[n] = 0
    if family == AF_INET6:
        return inet_pton(AF_INET6, copy, address) == 1
    memcpy(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", MAPPED_BYTES)
    return inet_pton(AF_INET, copy, address + MAPPED_BYTES) == 1


cdef bint is_port(const uint8_t* text, uint32_t n) noexcept nogil:
    # Decimal, without a leading zero.
    cdef uint32_t port = 0
    cdef uint32_t i
    if n == 0 or n > 5 or (n > 1 and text[0] == c"0"):
        return False
    for i in range(n):
        if not c"0" <= text[i] <= c"9":
            return False
        port = port * 10 + text[i] - c"0"
    return port <= 65535


cdef bint read_fields(const uint8_t* at, const uint8_t* end, int family, uint8_t* address) noexcept nogil:
    # "192.0.2.1 192.0.2.2 56324 443": who speaks, to whom, and from port to port; `end` is behind the last.
    cdef uint8_t[16] destination
    cdef const uint8_t* space
    cdef int i
    for i in range(4):
        space = <const uint8_t*>memchr(at, c" ", <size_t>(end - at)) if i < 3 else end
        if space == NULL:
            return False
        if i < 2:
            if not read_text(at, <uint32_t>(space - at), family, address if i == 0 else destination):
                return False
        elif not is_port(at, <uint32_t>(space - at)):
            return False
        at = space + 1
    return True


cdef int read_line(const uint8_t* bytes, uint32_t n, uint8_t* address, bint* has_address) noexcept nogil:
    # "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
    cdef const uint8_t* end = <const uint8_t*>memchr(bytes, c"\n", min(n, <uint32_t>LINE_MAXIMUM_BYTES))
    cdef int family
    cdef uint32_t size
    if memcmp(bytes, b"PROXY ", min(n, <uint32_t>6)) != 0:
        return -1
    if end == NULL:
        return 0 if n < LINE_MAXIMUM_BYTES else -1
    size = <uint32_t>(end - bytes) + 1
    if size < 15 or (end - 1)[0] != c"\r":
        return -1
    if memcmp(bytes + 6, b"UNKNOWN", 7) == 0:
        return <int>size if bytes[13] == c" " or bytes[13] == c"\r" else -1    # what follows is to be ignored
    if memcmp(bytes + 6, b"TCP4 ", 5) != 0 and memcmp(bytes + 6, b"TCP6 ", 5) != 0:
        return -1
    family = AF_INET6 if bytes[9] == c"6" else AF_INET
    if not read_fields(bytes + 11, end - 1, family, address):
        return -1
    has_address[0] = True
    return <int>size


cdef int read_binary(const uint8_t* bytes, uint32_t n, uint8_t* address, bint* has_address) noexcept nogil:
    cdef uint32_t size
    cdef uint8_t family, command
    if n < FIXED_BYTES:
        return 0
    size = FIXED_BYTES + (<uint32_t>bytes[14] << 8 | bytes[15])
    command = bytes[12] & 0x0F
    family = bytes[13] >> 4
    if bytes[12] & 0xF0 != VERSION_2 or command > COMMAND_PROXY or size > PROXY_HEADER_MAXIMUM_BYTES:
        return -1
    if n < size:
        return 0
    if command == COMMAND_LOCAL:
        return <int>size
    if family == FAMILY_INET:
        if size < FIXED_BYTES + 12:
            return -1
        memcpy(address, b"\0\0\0\0\0\0\0\0\0\0\xff\xff", MAPPED_BYTES)
        memcpy(address + MAPPED_BYTES, bytes + FIXED_BYTES, 4)
        has_address[0] = True
    elif family == FAMILY_INET6:
        if size < FIXED_BYTES + 36:
            return -1
        memcpy(address, bytes + FIXED_BYTES, 16)
        has_address[0] = True
    return <int>size


cdef int read_proxy_header(const uint8_t* bytes, uint32_t n, uint8_t* address, bint* has_address) noexcept nogil:
    has_address[0] = False
    if n == 0:
        return 0
    if memcmp(bytes, SIGNATURE, min(n, <uint32_t>SIGNATURE_BYTES)) == 0:
        return read_binary(bytes, n, address, has_address)
    return read_line(bytes, n, address, has_address)


def proxy_address(const uint8_t[::1] data not None):
    cdef uint8_t[16] address
    cdef bint has_address
    cdef int size
    memset(address, 0, sizeof(address))
    size = read_proxy_header(&data[0] if data.shape[0] else NULL, <uint32_t>data.shape[0], address, &has_address)
    return size, (<char*>address)[:16] if has_address else b""
