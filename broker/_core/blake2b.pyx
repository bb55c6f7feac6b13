"""Keyed BLAKE2b with a 32-byte digest (RFC 7693), and the credential made with it. See blake2b.pxd."""

from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static const uint64_t broker_blake2b_iv[8] = {
        0x6a09e667f3bcc908ull, 0xbb67ae8584caa73bull, 0x3c6ef372fe94f82bull, 0xa54ff53a5f1d36f1ull,
        0x510e527fade682d1ull, 0x9b05688c2b3e6c1full, 0x1f83d9abfb41bd6bull, 0x5be0cd19137e2179ull};
    static const uint8_t broker_blake2b_sigma[10][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
        {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
        {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
        {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
        {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
        {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
        {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
        {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
        {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
        {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};
    static inline uint64_t broker_rotr64(uint64_t x, int n) { return (x >> n) | (x << (64 - n)); }
    #define BROKER_BLAKE2B_G(a, b, c, d, x, y) \\
        a += b + (x); d = broker_rotr64(d ^ a, 32); c += d; b = broker_rotr64(b ^ c, 24); \\
        a += b + (y); d = broker_rotr64(d ^ a, 16); c += d; b = broker_rotr64(b ^ c, 63);
    static void broker_blake2b_compress(uint64_t h[8], const uint8_t *block, uint64_t counted, int last) {
        uint64_t v[16], m[16];
        memcpy(m, block, 128); /* little endian machines only: Linux on x86-64, aarch64, riscv64 */
        for (int i = 0; i < 8; i++) { v[i] = h[i]; v[i + 8] = broker_blake2b_iv[i]; }
        v[12] ^= counted;
        if (last) v[14] = ~v[14];
        for (int r = 0; r < 12; r++) {
            const uint8_t *s = broker_blake2b_sigma[r % 10];
            BROKER_BLAKE2B_G(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]])
            BROKER_BLAKE2B_G(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]])
            BROKER_BLAKE2B_G(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]])
            BROKER_BLAKE2B_G(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]])
            BROKER_BLAKE2B_G(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]])
            BROKER_BLAKE2B_G(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]])
            BROKER_BLAKE2B_G(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]])
            BROKER_BLAKE2B_G(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]])
        }
        for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
    }
    #if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the core is written for little-endian machines"
    #endif
    """
    const uint64_t[8] iv "broker_blake2b_iv"
    void compress "broker_blake2b_compress"(uint64_t*, const uint8_t*, uint64_t, int) noexcept nogil


cdef void blake2b_open(Blake2b* state, const uint8_t* key, uint32_t key_bytes) noexcept nogil:
    cdef int i
    for i in range(8):
        state.h[i] = iv[i]
    state.h[0] ^= <uint64_t>0x01010000 ^ (key_bytes << 8) ^ 32
    state.counted = 0
    state.held = 0
    if key_bytes:
        memset(state.block, 0, 128)
        memcpy(state.block, key, key_bytes)
        state.held = 128


cdef void blake2b_update(Blake2b* state, const uint8_t* data, size_t n) noexcept nogil:
    cdef size_t take
    while n:
        if state.held == 128:       # the last block is compressed in close, with its flag
            state.counted += 128
            compress(state.h, state.block, state.counted, 0)
            state.held = 0
        take = 128 - state.held
        if take > n:
            take = n
        memcpy(state.block + state.held, data, take)
        state.held += <uint32_t>take
        data += take
        n -= take


cdef void blake2b_close(Blake2b* state, uint8_t* digest) noexcept nogil:
    memset(state.block + state.held, 0, 128 - state.held)
    state.counted += state.held
    compress(state.h, state.block, state.counted, 1)
    memcpy(digest, state.h, 32)


cdef void credential_of(
        const uint8_t* secret, const uint8_t* user_name, uint32_t user_name_bytes,
        const uint8_t* password, uint32_t password_bytes, uint8_t* digest) noexcept nogil:
    cdef Blake2b state
    cdef uint8_t[2] size
    size[0] = <uint8_t>(user_name_bytes >> 8)
    size[1] = <uint8_t>(user_name_bytes & 255)
    blake2b_open(&state, secret, 32)
    blake2b_update(&state, size, 2)
    blake2b_update(&state, user_name, user_name_bytes)
    blake2b_update(&state, password, password_bytes)
    blake2b_close(&state, digest)


cdef bint same_digest(const uint8_t* a, const uint8_t* b) noexcept nogil:
    cdef uint8_t difference = 0
    cdef int i
    for i in range(32):
        difference |= a[i] ^ b[i]
    return difference == 0


def keyed_digest(data: bytes, key: bytes) -> bytes:
    cdef Blake2b state
    cdef uint8_t[32] digest
    cdef const uint8_t* key_at = key
    cdef const uint8_t* data_at = data
    if len(key) > 64:
        raise ValueError("a BLAKE2b key has at most 64 bytes")
    blake2b_open(&state, key_at, <uint32_t>len(key))
    blake2b_update(&state, data_at, <size_t>len(data))
    blake2b_close(&state, digest)
    return (<char*>digest)[:32]
