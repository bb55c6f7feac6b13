# OpenSSL's functions, found at run time in the library that Python's own _ssl has loaded.
#
# Here belong the pointers and OpenSSL's constants, under OpenSSL's names. Not here: how they are used (tls and below).

from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef enum:
    SSL_ERROR_WANT_READ = 2
    SSL_ERROR_WANT_WRITE = 3
    SSL_CTRL_SET_MSG_CALLBACK_ARG = 16
    SSL_CTRL_MODE = 33
    SSL_CTRL_SET_READ_AHEAD = 41
    SSL_CTRL_SET_SESS_CACHE_MODE = 44
    SSL_CTRL_SET_MAX_CERT_LIST = 51
    SSL_CTRL_CHAIN_CERT = 89
    SSL_CTRL_SET_MIN_PROTO_VERSION = 123
    TLS1_2_VERSION = 0x0303
    TLS1_3_VERSION = 0x0304
    SSL_MODE_ENABLE_PARTIAL_WRITE = 1
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2
    SSL_MODE_RELEASE_BUFFERS = 16
    SSL_VERIFY_PEER = 1
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT = 2
    X509_V_FLAG_CRL_CHECK = 4
    SSL3_RT_HANDSHAKE = 22
    SSL_OP_NO_TICKET = 1 << 14
    SSL_TLSEXT_ERR_OK = 0
    SSL_TLSEXT_ERR_NOACK = 3
    CRYPTO_EX_INDEX_SSL_CTX = 1
    BIO_TYPE_SOURCE_SINK = 0x0400
    BIO_FLAGS_READ = 1
    BIO_FLAGS_WRITE = 2
    BIO_FLAGS_SHOULD_RETRY = 8
    BIO_CTRL_FLUSH = 11

cdef extern from "libssl.h" nogil:
    ctypedef struct Libssl:
        unsigned long (*OpenSSL_version_num)() noexcept nogil
        void* (*TLS_server_method)() noexcept nogil
        void* (*SSL_CTX_new)(const void*) noexcept nogil
        void (*SSL_CTX_free)(void*) noexcept nogil
        long (*SSL_CTX_ctrl)(void*, int, long, void*) noexcept nogil
        uint64_t (*SSL_CTX_set_options)(void*, uint64_t) noexcept nogil
        int (*SSL_CTX_set_cipher_list)(void*, const char*) noexcept nogil
        int (*SSL_CTX_use_certificate)(void*, void*) noexcept nogil
        int (*SSL_CTX_use_PrivateKey)(void*, void*) noexcept nogil
        int (*SSL_CTX_check_private_key)(const void*) noexcept nogil
        void (*SSL_CTX_set_verify)(void*, int, void*) noexcept nogil
        int (*SSL_CTX_set_session_id_context)(void*, const unsigned char*, unsigned int) noexcept nogil
        int (*SSL_CTX_set_num_tickets)(void*, size_t) noexcept nogil
        long (*SSL_CTX_set_timeout)(void*, long) noexcept nogil
        int (*SSL_CTX_add_client_CA)(void*, void*) noexcept nogil
        void* (*SSL_CTX_get_cert_store)(const void*) noexcept nogil
        int (*SSL_CTX_set_tlsext_ticket_key_evp_cb)(void*, void*) noexcept nogil
        int (*SSL_CTX_set_ex_data)(void*, int, void*) noexcept nogil
        void* (*SSL_CTX_get_ex_data)(const void*, int) noexcept nogil
        int (*CRYPTO_get_ex_new_index)(int, long, void*, void*, void*, void*) noexcept nogil
        void* (*SSL_get_SSL_CTX)(const void*) noexcept nogil
        void (*SSL_CTX_set_alpn_select_cb)(void*, void*, void*) noexcept nogil
        void (*SSL_CTX_set_msg_callback)(void*, void*) noexcept nogil
        void* (*SSL_new)(void*) noexcept nogil
        long (*SSL_ctrl)(void*, int, long, void*) noexcept nogil
        void (*SSL_free)(void*) noexcept nogil
        void (*SSL_set_accept_state)(void*) noexcept nogil
        void (*SSL_set_bio)(void*, void*, void*) noexcept nogil
        int (*SSL_do_handshake)(void*) noexcept nogil
        int (*SSL_read)(void*, void*, int) noexcept nogil
        int (*SSL_write)(void*, const void*, int) noexcept nogil
        int (*SSL_shutdown)(void*) noexcept nogil
        int (*SSL_get_error)(const void*, int) noexcept nogil
        int (*SSL_has_pending)(const void*) noexcept nogil
        int (*SSL_session_reused)(const void*) noexcept nogil
        int (*SSL_version)(const void*) noexcept nogil
        void* (*SSL_get1_peer_certificate)(const void*) noexcept nogil
        int (*i2d_X509)(const void*, unsigned char**) noexcept nogil
        void (*X509_free)(void*) noexcept nogil
        void (*X509_CRL_free)(void*) noexcept nogil
        int (*X509_STORE_add_cert)(void*, void*) noexcept nogil
        int (*X509_STORE_add_crl)(void*, void*) noexcept nogil
        int (*X509_STORE_set_flags)(void*, unsigned long) noexcept nogil
        void* (*PEM_read_bio_X509)(void*, void**, void*, void*) noexcept nogil
        void* (*PEM_read_bio_X509_CRL)(void*, void**, void*, void*) noexcept nogil
        void* (*PEM_read_bio_PrivateKey)(void*, void**, void*, void*) noexcept nogil
        void (*EVP_PKEY_free)(void*) noexcept nogil
        void* (*BIO_new_mem_buf)(const void*, int) noexcept nogil
        int (*BIO_free)(void*) noexcept nogil
        void* (*BIO_meth_new)(int, const char*) noexcept nogil
        int (*BIO_meth_set_write)(void*, void*) noexcept nogil
        int (*BIO_meth_set_read)(void*, void*) noexcept nogil
        int (*BIO_meth_set_ctrl)(void*, void*) noexcept nogil
        void* (*BIO_new)(const void*) noexcept nogil
        void (*BIO_set_data)(void*, void*) noexcept nogil
        void* (*BIO_get_data)(void*) noexcept nogil
        void (*BIO_set_init)(void*, int) noexcept nogil
        void (*BIO_set_flags)(void*, int) noexcept nogil
        void (*BIO_clear_flags)(void*, int) noexcept nogil
        void (*ERR_clear_error)() noexcept nogil
        unsigned long (*ERR_peek_last_error)() noexcept nogil
        const char* (*ERR_reason_error_string)(unsigned long) noexcept nogil
        int (*RAND_bytes)(unsigned char*, int) noexcept nogil
        const void* (*EVP_aes_256_cbc)() noexcept nogil
        int (*EVP_EncryptInit_ex)(void*, const void*, void*, const unsigned char*, const unsigned char*) noexcept nogil
        int (*EVP_DecryptInit_ex)(void*, const void*, void*, const unsigned char*, const unsigned char*) noexcept nogil
        int (*EVP_MAC_init)(void*, const unsigned char*, size_t, const void*) noexcept nogil
    const char* libssl_resolve(Libssl*, const char*)

# All of them, or none: see is_usable in libssl.pyi.
cdef Libssl LIB
