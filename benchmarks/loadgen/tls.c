#ifndef NOTLS
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "io.h"
#include "options.h"

static SSL_CTX *tls_context;
static SSL_SESSION *newest;
long tls_resumed;

/* With --resume every connection after the first ones shows the newest ticket, as a fleet does that comes back. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(newest);
    newest = session;
    return 1;
}

/* The certificate is not verified: what is measured is the broker's work. */
void tls_setup(void)
{
    if (!options.tls) return;
    tls_context = SSL_CTX_new(TLS_client_method());
    if (!tls_context) die("SSL_CTX_new failed");
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls_context, 1);
    if (options.tls12) SSL_CTX_set_max_proto_version(tls_context, TLS1_2_VERSION);
    if (!options.resume) return;
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(tls_context, keep_session);
}

void tls_start(Connection *c)
{
    c->ssl = SSL_new(tls_context);
    if (!c->ssl) die("SSL_new failed");
    SSL_set_fd(c->ssl, c->fd);
    SSL_set_connect_state(c->ssl);
    if (newest) SSL_set_session(c->ssl, newest);
}

/* Watches for what OpenSSL wants next. */
static int waits_or_failed(Connection *c, int result)
{
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        watch(c, error == SSL_ERROR_WANT_WRITE);
        return IO_AGAIN;
    }
    ERR_clear_error();
    return IO_FAILED;
}

int tls_step(Connection *c)
{
    int result = SSL_do_handshake(c->ssl);
    if (result != 1) return waits_or_failed(c, result);
    tls_resumed += SSL_session_reused(c->ssl);
    watch(c, false);
    return 1;
}

long tls_send(Connection *c, const void *bytes, size_t n)
{
    int sent = SSL_write(c->ssl, bytes, (int)n);
    return sent > 0 ? sent : waits_or_failed(c, sent);
}

long tls_receive(Connection *c, void *bytes, size_t room)
{
    size_t got = 0;
    int result = 1;
    while (got < room && (result = SSL_read(c->ssl, (char *)bytes + got, (int)(room - got))) > 0) got += (size_t)result;
    if (got) return (long)got;
    int error = SSL_get_error(c->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return IO_AGAIN;
    ERR_clear_error();
    return IO_FAILED;
}
#else
#include "io.h"

long tls_resumed;

void tls_setup(void) {}
void tls_start(Connection *c) { (void)c; }
int tls_step(Connection *c) { (void)c; return IO_FAILED; }
long tls_send(Connection *c, const void *bytes, size_t n) { (void)c, (void)bytes, (void)n; return IO_FAILED; }
long tls_receive(Connection *c, void *bytes, size_t room) { (void)c, (void)bytes, (void)room; return IO_FAILED; }
#endif
