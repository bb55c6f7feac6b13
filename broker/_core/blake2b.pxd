# Keyed BLAKE2b (RFC 7693), so that a known credential is recognised without Python.
#
# Here belongs the hash alone. The same value as hashlib.blake2b(data, key=key, digest_size=32).

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct Blake2b:
    uint64_t h[8]
    uint64_t counted            # bytes compressed so far
    uint8_t block[128]
    uint32_t held               # bytes waiting in block

cdef void blake2b_open(Blake2b* state, const uint8_t* key, uint32_t key_bytes) noexcept nogil
cdef void blake2b_update(Blake2b* state, const uint8_t* data, size_t n) noexcept nogil
cdef void blake2b_close(Blake2b* state, uint8_t* digest) noexcept nogil      # 32 bytes

# What identifies a user name and password under the installation's secret; see broker.policy.credentials.
cdef void credential_of(
    const uint8_t* secret, const uint8_t* user_name, uint32_t user_name_bytes,
    const uint8_t* password, uint32_t password_bytes, uint8_t* digest) noexcept nogil
# Constant in time: how far two digests agree must not show.
cdef bint same_digest(const uint8_t* a, const uint8_t* b) noexcept nogil
