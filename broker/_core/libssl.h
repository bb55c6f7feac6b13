/* The part of OpenSSL 3 that the core uses, as pointers that are filled at run time from the library that Python's own
   _ssl has loaded: one process must not hold two libraries of TLS, and nobody has to install headers.
   Names and meaning are OpenSSL's; opaque structs stay void. */
#ifndef BROKER_LIBSSL_H
#define BROKER_LIBSSL_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LIBSSL_FUNCTIONS(F) \
    F(unsigned long, OpenSSL_version_num, (void)) \
    F(void *, TLS_server_method, (void)) \
    F(void *, SSL_CTX_new, (const void *)) \
    F(void, SSL_CTX_free, (void *)) \
    F(long, SSL_CTX_ctrl, (void *, int, long, void *)) \
    F(uint64_t, SSL_CTX_set_options, (void *, uint64_t)) \
    F(int, SSL_CTX_set_cipher_list, (void *, const char *)) \
    F(int, SSL_CTX_use_certificate, (void *, void *)) \
    F(int, SSL_CTX_use_PrivateKey, (void *, void *)) \
    F(int, SSL_CTX_check_private_key, (const void *)) \
    F(void, SSL_CTX_set_verify, (void *, int, void *)) \
    F(int, SSL_CTX_set_session_id_context, (void *, const unsigned char *, unsigned int)) \
    F(int, SSL_CTX_set_num_tickets, (void *, size_t)) \
    F(long, SSL_CTX_set_timeout, (void *, long)) \
    F(int, SSL_CTX_add_client_CA, (void *, void *)) \
    F(void *, SSL_CTX_get_cert_store, (const void *)) \
    F(int, SSL_CTX_set_tlsext_ticket_key_evp_cb, (void *, void *)) \
    F(int, SSL_CTX_set_ex_data, (void *, int, void *)) \
    F(void *, SSL_CTX_get_ex_data, (const void *, int)) \
    F(int, CRYPTO_get_ex_new_index, (int, long, void *, void *, void *, void *)) \
    F(void *, SSL_get_SSL_CTX, (const void *)) \
    F(void, SSL_CTX_set_alpn_select_cb, (void *, void *, void *)) \
    F(void, SSL_CTX_set_msg_callback, (void *, void *)) \
    F(void *, SSL_new, (void *)) \
    F(long, SSL_ctrl, (void *, int, long, void *)) \
    F(void, SSL_free, (void *)) \
    F(void, SSL_set_accept_state, (void *)) \
    F(void, SSL_set_bio, (void *, void *, void *)) \
    F(int, SSL_do_handshake, (void *)) \
    F(int, SSL_read, (void *, void *, int)) \
    F(int, SSL_write, (void *, const void *, int)) \
    F(int, SSL_shutdown, (void *)) \
    F(int, SSL_get_error, (const void *, int)) \
    F(int, SSL_has_pending, (const void *)) \
    F(int, SSL_session_reused, (const void *)) \
    F(int, SSL_version, (const void *)) \
    F(void *, SSL_get1_peer_certificate, (const void *)) \
    F(int, i2d_X509, (const void *, unsigned char **)) \
    F(void, X509_free, (void *)) \
    F(void, X509_CRL_free, (void *)) \
    F(int, X509_STORE_add_cert, (void *, void *)) \
    F(int, X509_STORE_add_crl, (void *, void *)) \
    F(int, X509_STORE_set_flags, (void *, unsigned long)) \
    F(void *, PEM_read_bio_X509, (void *, void **, void *, void *)) \
    F(void *, PEM_read_bio_X509_CRL, (void *, void **, void *, void *)) \
    F(void *, PEM_read_bio_PrivateKey, (void *, void **, void *, void *)) \
    F(void, EVP_PKEY_free, (void *)) \
    F(void *, BIO_new_mem_buf, (const void *, int)) \
    F(int, BIO_free, (void *)) \
    F(void *, BIO_meth_new, (int, const char *)) \
    F(int, BIO_meth_set_write, (void *, void *)) \
    F(int, BIO_meth_set_read, (void *, void *)) \
    F(int, BIO_meth_set_ctrl, (void *, void *)) \
    F(void *, BIO_new, (const void *)) \
    F(void, BIO_set_data, (void *, void *)) \
    F(void *, BIO_get_data, (void *)) \
    F(void, BIO_set_init, (void *, int)) \
    F(void, BIO_set_flags, (void *, int)) \
    F(void, BIO_clear_flags, (void *, int)) \
    F(void, ERR_clear_error, (void)) \
    F(unsigned long, ERR_peek_last_error, (void)) \
    F(const char *, ERR_reason_error_string, (unsigned long)) \
    F(int, RAND_bytes, (unsigned char *, int)) \
    F(const void *, EVP_aes_256_cbc, (void)) \
    F(int, EVP_EncryptInit_ex, (void *, const void *, void *, const unsigned char *, const unsigned char *)) \
    F(int, EVP_DecryptInit_ex, (void *, const void *, void *, const unsigned char *, const unsigned char *)) \
    F(int, EVP_MAC_init, (void *, const unsigned char *, size_t, const void *))

typedef struct {
#define F(result, name, arguments) result (*name) arguments;
    LIBSSL_FUNCTIONS(F)
#undef F
} Libssl;

/* The name of the first symbol that is missing in the library behind a path (NULL: the process itself), or NULL. */
static const char *libssl_resolve(Libssl *lib, const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return path ? path : "the process";
#define F(result, name, arguments) \
    *(void **)(&lib->name) = dlsym(library, #name); \
    if (!lib->name) return #name;
    LIBSSL_FUNCTIONS(F)
#undef F
    return NULL;
}

#endif
