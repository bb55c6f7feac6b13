"""Keys of session tickets (RFC 5077, RFC 8446 section 4.6.1). See tls_tickets.pxd."""

from libc.stdint cimport int64_t, uint8_t
from libc.stddef cimport size_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.libssl cimport CRYPTO_EX_INDEX_SSL_CTX, LIB, TLS1_3_VERSION
from broker._core.linux cimport clock_ns
from broker._core.memory cimport give_memory, take_zeroed

from broker._core.libssl import why_unusable


cdef enum:
    NO_KEY = 0              # answers of the callback: a full handshake,
    KEY_FITS = 1            # go on,
    KEY_FITS_RENEW = 2      # go on and give a new ticket,
    FAILED = -1             # end the handshake
    IV_BYTES = 16
    PARAM_UTF8_STRING = 4

cdef struct Param:          # OSSL_PARAM
    const char* key
    unsigned int data_type
    void* data
    size_t data_size
    size_t return_size


cdef void forget_keys(
        void* context, void* keys, void* data, int index, long number, void* pointer) noexcept nogil:
    drop_keys(<TicketKeys*>keys)


cdef void drop_keys(TicketKeys* keys) noexcept nogil:
    if keys == NULL:
        return
    keys.references -= 1
    if keys.references == 0:
        memset(keys, 0, sizeof(TicketKeys))
        give_memory(keys)


cdef int take_index() noexcept:
    # Where each context keeps its keys.
    if why_unusable():
        return -1
    return LIB.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, NULL, NULL, NULL, <void*>forget_keys)


cdef int KEYS_INDEX = take_index()


cdef TicketKeys* make_ticket_keys(int64_t now_ns, int64_t lifetime_ns) noexcept nogil:
    cdef TicketKeys* keys = <TicketKeys*>take_zeroed(sizeof(TicketKeys))
    keys.references = 1
    keys.made_at_ns = now_ns
    keys.lifetime_ns = lifetime_ns
    if LIB.RAND_bytes(<unsigned char*>&keys.current, sizeof(TicketKey)) != 1:
        drop_keys(keys)
        return NULL
    return keys


cdef void share_ticket_keys(TicketKeys* keys) noexcept nogil:
    keys.references += 1


cdef bint use_ticket_keys(void* context, TicketKeys* keys) noexcept nogil:
    return KEYS_INDEX >= 0 and LIB.SSL_CTX_set_ex_data(context, KEYS_INDEX, keys) == 1 and \
        LIB.SSL_CTX_set_tlsext_ticket_key_evp_cb(context, <void*>ticket_key) == 1


cdef bint renew(TicketKeys* keys, int64_t now_ns) noexcept nogil:
    # Old keys die, so that who takes this process's memory cannot read what was said long ago.
    cdef int64_t age_ns = now_ns - keys.made_at_ns
    if age_ns < keys.lifetime_ns:
        return True
    keys.has_previous = age_ns < 2 * keys.lifetime_ns
    memcpy(&keys.previous, &keys.current, sizeof(TicketKey))
    keys.made_at_ns = now_ns
    return LIB.RAND_bytes(<unsigned char*>&keys.current, sizeof(TicketKey)) == 1


cdef bint set_up(void* cipher, void* mac, TicketKey* key, const uint8_t* iv, bint encrypts) noexcept nogil:
    cdef Param[2] params
    memset(params, 0, sizeof(params))
    params[0].key = b"digest"
    params[0].data_type = PARAM_UTF8_STRING
    params[0].data = <void*><const char*>b"sha256"
    params[0].data_size = 6
    params[0].return_size = <size_t>-1
    if LIB.EVP_MAC_init(mac, key.mac, sizeof(key.mac), params) != 1:
        return False
    if encrypts:
        return LIB.EVP_EncryptInit_ex(cipher, LIB.EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1
    return LIB.EVP_DecryptInit_ex(cipher, LIB.EVP_aes_256_cbc(), NULL, key.cipher, iv) == 1


cdef int ticket_key(void* ssl, uint8_t* name, uint8_t* iv, void* cipher, void* mac, int encrypts) noexcept nogil:
    cdef TicketKeys* keys = <TicketKeys*>LIB.SSL_CTX_get_ex_data(LIB.SSL_get_SSL_CTX(ssl), KEYS_INDEX)
    if keys == NULL or not renew(keys, clock_ns()):
        return FAILED
    if encrypts:
        memcpy(name, keys.current.name, sizeof(keys.current.name))
        if LIB.RAND_bytes(iv, IV_BYTES) != 1 or not set_up(cipher, mac, &keys.current, iv, True):
            return FAILED
        return KEY_FITS
    if memcmp(name, keys.current.name, sizeof(keys.current.name)) == 0:
        if not set_up(cipher, mac, &keys.current, iv, False):
            return FAILED
        # Clients use a ticket of TLS 1.3 once: without a new one every second handshake would be full (RFC 8446, C.4).
        return KEY_FITS_RENEW if LIB.SSL_version(ssl) >= TLS1_3_VERSION else KEY_FITS
    if keys.has_previous and memcmp(name, keys.previous.name, sizeof(keys.previous.name)) == 0:
        return KEY_FITS_RENEW if set_up(cipher, mac, &keys.previous, iv, False) else FAILED
    return NO_KEY
