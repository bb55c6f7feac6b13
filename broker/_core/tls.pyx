"""TLS by OpenSSL: contexts and records. See tls.pxd, and tls.pyi for what a context promises."""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

from broker._core.libssl cimport (
    BIO_CTRL_FLUSH,
    BIO_FLAGS_READ,
    BIO_FLAGS_SHOULD_RETRY,
    BIO_FLAGS_WRITE,
    BIO_TYPE_SOURCE_SINK,
    SSL_CTRL_CHAIN_CERT,
    SSL_CTRL_MODE,
    SSL_CTRL_SET_MAX_CERT_LIST,
    SSL_CTRL_SET_MIN_PROTO_VERSION,
    SSL_CTRL_SET_MSG_CALLBACK_ARG,
    SSL_CTRL_SET_READ_AHEAD,
    SSL_CTRL_SET_SESS_CACHE_MODE,
    SSL_ERROR_WANT_READ,
    SSL_ERROR_WANT_WRITE,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER,
    SSL_MODE_ENABLE_PARTIAL_WRITE,
    SSL_MODE_RELEASE_BUFFERS,
    SSL3_RT_HANDSHAKE,
    SSL_OP_NO_TICKET,
    SSL_TLSEXT_ERR_NOACK,
    SSL_TLSEXT_ERR_OK,
    SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    SSL_VERIFY_PEER,
    TLS1_2_VERSION,
    X509_V_FLAG_CRL_CHECK,
    LIB,
)
from broker._core.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, c_send, clock_ns, recv
from broker._core.tls_tickets cimport TicketKeys, make_ticket_keys, share_ticket_keys, use_ticket_keys

from broker._core.libssl import why_unusable
from broker._core import tls_settings as _settings


cdef enum:
    TICKETS = 1             # one for each handshake: a device has one connection
    ENCRYPTED_MAXIMUM = 1 << 30
    HELLO_BYTES = 4096      # in a step: which is seven hundred records of one byte, and a quarter of a millisecond
    ANSWER_BYTES = 1024     # in a step behind it: of exchanges of keys behind a Finished OpenSSL takes all that it has
    HANDSHAKE_MESSAGES_MAXIMUM = 16     # in a second: an honest peer exchanges its keys every few gigabytes
    NOT_NOW = -2            # beside numbers of bytes, and -1
    RETRY_FLAGS = BIO_FLAGS_READ | BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY

# SSL_OP_NO_COMPRESSION, NO_RENEGOTIATION, CIPHER_SERVER_PREFERENCE, IGNORE_UNEXPECTED_EOF: an end without a
# close_notify is an end, and MQTT's lengths show whether anything is missing.
cdef uint64_t OPTIONS = 1 << 17 | 1 << 30 | 1 << 22 | 1 << 7
cdef int64_t SECOND_NS = 1000000000
cdef bytes SESSION_CONTEXT = b"iot-broker"


# ---------------------------------------------------------------- sockets, as OpenSSL calls them

cdef int socket_write(void* bio, const char* bytes, int n) noexcept nogil:
    # OpenSSL's own uses write(), whose SIGPIPE ends a process that does not ignore it.
    cdef TlsStream* stream = <TlsStream*>LIB.BIO_get_data(bio)
    cdef ssize_t sent = c_send(stream.fd, bytes, <size_t>n, MSG_NOSIGNAL | MSG_DONTWAIT)
    stream.has_spoken = 1
    LIB.BIO_clear_flags(bio, RETRY_FLAGS)
    if sent < 0 and (errno == EAGAIN or errno == EINTR):
        LIB.BIO_set_flags(bio, BIO_FLAGS_WRITE | BIO_FLAGS_SHOULD_RETRY)
    return <int>sent


cdef int socket_read(void* bio, char* to, int n) noexcept nogil:
    # OpenSSL reads on for as long as records come that carry nothing: without an end of ours, KeyUpdates hold the loop.
    cdef TlsStream* stream = <TlsStream*>LIB.BIO_get_data(bio)
    cdef TlsReading* reading = stream.reading
    cdef ssize_t got = NOT_NOW
    LIB.BIO_clear_flags(bio, RETRY_FLAGS)
    if reading != NULL and stream.handshake_messages <= HANDSHAKE_MESSAGES_MAXIMUM:
        if reading.buffer == NULL:
            got = read_once(stream, reading, <uint8_t*>to, <uint32_t>n)
        else:
            got = read_ahead(stream, reading, <uint8_t*>to, <uint32_t>n)
    if got != NOT_NOW:
        return <int>got
    LIB.BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
    return -1


cdef inline ssize_t read_once(TlsStream* stream, TlsReading* reading, uint8_t* to, uint32_t n) noexcept nogil:
    cdef uint32_t most = min(n, reading.most)
    cdef ssize_t got
    if most == 0:
        return NOT_NOW
    reading.most = 0
    got = recv(stream.fd, to, most, MSG_DONTWAIT)
    return NOT_NOW if got < 0 and (errno == EAGAIN or errno == EINTR) else got


cdef inline ssize_t read_ahead(TlsStream* stream, TlsReading* reading, uint8_t* to, uint32_t n) noexcept nogil:
    # OpenSSL asks for the head of a record, then for the rest of it: so that it has never more than one to work off.
    cdef ssize_t got
    if reading.at == reading.end:
        got = read_once(stream, reading, reading.buffer, reading.most)
        if got <= 0:
            return got
        reading.at = reading.buffer
        reading.end = reading.buffer + got
    n = min(n, <uint32_t>(reading.end - reading.at))
    memcpy(to, reading.at, n)
    reading.at += n
    return n


cdef void count_message(
        int is_written, int version, int content_type, const void* bytes, size_t n, void* ssl, void* stream
) noexcept nogil:
    # OpenSSL calls it for each message of TLS's own. No other limit counts them, and one may cost as much as a hundred
    # publishes.
    cdef TlsStream* counting = <TlsStream*>stream
    cdef int64_t now_ns
    if is_written or content_type != SSL3_RT_HANDSHAKE or stream == NULL:
        return
    now_ns = clock_ns()
    if now_ns - counting.counted_ns > SECOND_NS:
        counting.counted_ns = now_ns
        counting.handshake_messages = 0
    counting.handshake_messages += 1


cdef long socket_control(void* bio, int command, long number, void* pointer) noexcept nogil:
    return command == BIO_CTRL_FLUSH


cdef void* make_socket_method() noexcept:
    cdef void* method
    if why_unusable():
        return NULL
    method = LIB.BIO_meth_new(BIO_TYPE_SOURCE_SINK, b"a connection's socket")
    if method != NULL:
        LIB.BIO_meth_set_write(method, <void*>socket_write)
        LIB.BIO_meth_set_read(method, <void*>socket_read)
        LIB.BIO_meth_set_ctrl(method, <void*>socket_control)
    return method


cdef void* SOCKET_METHOD = make_socket_method()


# ---------------------------------------------------------------- one connection

cdef void* tls_open(void* context, TlsStream* stream, int fd) noexcept nogil:
    cdef void* ssl = LIB.SSL_new(context)
    cdef void* bio
    if ssl == NULL:
        return NULL
    bio = LIB.BIO_new(SOCKET_METHOD)
    if bio == NULL:
        LIB.SSL_free(ssl)
        return NULL
    stream.fd = fd
    LIB.BIO_set_data(bio, stream)
    LIB.BIO_set_init(bio, 1)
    LIB.SSL_set_bio(ssl, bio, bio)
    LIB.SSL_ctrl(ssl, SSL_CTRL_SET_MSG_CALLBACK_ARG, 0, stream)
    LIB.SSL_set_accept_state(ssl)
    return ssl


cdef void tls_free(void* ssl) noexcept nogil:
    LIB.SSL_free(ssl)


cdef int tls_handshake(void* ssl, TlsStream* stream, bint* wants_write, unsigned long* why) noexcept nogil:
    cdef TlsReading reading = TlsReading(
        buffer=NULL, at=NULL, end=NULL, most=ANSWER_BYTES if stream.has_spoken else HELLO_BYTES)
    cdef int done, error
    LIB.ERR_clear_error()
    stream.reading = &reading
    done = LIB.SSL_do_handshake(ssl)
    stream.reading = NULL
    wants_write[0] = False
    why[0] = 0
    if done == 1:
        LIB.SSL_ctrl(ssl, SSL_CTRL_SET_READ_AHEAD, 0, NULL)     # from here on it is read_ahead that does
        return 1
    error = LIB.SSL_get_error(ssl, done)
    if error == SSL_ERROR_WANT_READ or error == SSL_ERROR_WANT_WRITE:
        wants_write[0] = error == SSL_ERROR_WANT_WRITE
        return TLS_AGAIN
    why[0] = LIB.ERR_peek_last_error()
    LIB.ERR_clear_error()
    return TLS_ENDED


cdef int tls_receive(
        void* ssl, TlsStream* stream, uint8_t* to, uint32_t n, uint32_t most, bint* has_more
) noexcept nogil:
    # What is read of the socket is worked off here, all of it: n has room for it behind what OpenSSL has of a record.
    # What else the socket has, the kernel tells.
    cdef uint8_t[TLS_READ_BYTES] buffer
    cdef TlsReading reading = TlsReading(buffer=&buffer[0], at=&buffer[0], end=&buffer[0], most=0)
    cdef uint32_t taken = 0
    cdef int got
    has_more[0] = False
    if stream.is_over:
        return TLS_ENDED
    reading.most = min(min(most, <uint32_t>TLS_READ_BYTES), n - RECORD_BYTES)
    stream.reading = &reading
    LIB.ERR_clear_error()
    got = LIB.SSL_read(ssl, to, <int>n)
    while got > 0:
        taken += <uint32_t>got
        if reading.at == reading.end and not LIB.SSL_has_pending(ssl):
            break
        got = LIB.SSL_read(ssl, to + taken, <int>(n - taken))
    stream.reading = NULL
    if got > 0:
        return <int>taken
    stream.is_over = LIB.SSL_get_error(ssl, got) != SSL_ERROR_WANT_READ or \
        stream.handshake_messages > HANDSHAKE_MESSAGES_MAXIMUM
    if not stream.is_over:
        return <int>taken
    LIB.ERR_clear_error()
    has_more[0] = taken > 0     # its end is seen again, after what came before it
    return <int>taken if taken else TLS_ENDED


cdef int tls_send(void* ssl, const uint8_t* bytes, uint32_t n) noexcept nogil:
    cdef int sent, error
    LIB.ERR_clear_error()
    sent = LIB.SSL_write(ssl, bytes, <int>min(n, <uint32_t>ENCRYPTED_MAXIMUM))
    if sent > 0:
        return sent
    error = LIB.SSL_get_error(ssl, sent)
    if error == SSL_ERROR_WANT_READ or error == SSL_ERROR_WANT_WRITE:
        return TLS_AGAIN
    LIB.ERR_clear_error()
    return TLS_ENDED


cdef void tls_end(void* ssl) noexcept nogil:
    LIB.ERR_clear_error()
    LIB.SSL_shutdown(ssl)
    LIB.ERR_clear_error()


cdef bint tls_resumed(void* ssl) noexcept nogil:
    return LIB.SSL_session_reused(ssl)


cdef bint tls_presented(void* ssl) noexcept nogil:
    cdef void* certificate = LIB.SSL_get1_peer_certificate(ssl)
    if certificate != NULL:
        LIB.X509_free(certificate)
    return certificate != NULL


cdef bytes tls_peer_certificate(void* ssl):
    cdef void* certificate = LIB.SSL_get1_peer_certificate(ssl)
    cdef bytes found
    cdef unsigned char* at
    cdef int size
    if certificate == NULL:
        return b""
    size = LIB.i2d_X509(certificate, NULL)
    found = PyBytes_FromStringAndSize(NULL, max(size, 0))
    at = <unsigned char*>PyBytes_AS_STRING(found)
    LIB.i2d_X509(certificate, &at)
    LIB.X509_free(certificate)
    return found


# ---------------------------------------------------------------- contexts

cdef int choose_protocol(
        void* ssl, const unsigned char** chosen, unsigned char* chosen_bytes, const unsigned char* offered,
        unsigned int offered_bytes, void* wanted) noexcept nogil:
    # `wanted` is one name behind its length, as they are offered; without it among the offers all goes on without.
    cdef const unsigned char* name = <const unsigned char*>wanted
    cdef unsigned int at = 0
    while at < offered_bytes and at + 1 + offered[at] <= offered_bytes:
        if offered[at] == name[0] and memcmp(offered + at + 1, name + 1, name[0]) == 0:
            chosen[0] = offered + at + 1
            chosen_bytes[0] = offered[at]
            return SSL_TLSEXT_ERR_OK
        at += 1 + offered[at]
    return SSL_TLSEXT_ERR_NOACK


cdef int no_password(char* to, int size, int writes, void* context) noexcept nogil:
    return -1       # else OpenSSL asks at the terminal


cdef const char* reason() noexcept nogil:
    cdef const char* words = LIB.ERR_reason_error_string(LIB.ERR_peek_last_error())
    LIB.ERR_clear_error()
    return words


cdef object refused(str what):
    cdef const char* words = reason()
    return ValueError(what if words == NULL else f"{what}: {words.decode()}")


cdef void* read_from(bytes pem) except NULL:
    cdef void* bio = LIB.BIO_new_mem_buf(<const char*>pem, <int>len(pem))
    if bio == NULL:
        raise MemoryError
    return bio


cdef void use_chain(void* context, bytes pem) except *:
    cdef void* bio = read_from(pem)
    cdef void* certificate = LIB.PEM_read_bio_X509(bio, NULL, <void*>no_password, NULL)
    cdef bint is_used
    if certificate == NULL:
        LIB.BIO_free(bio)
        raise refused("no certificate can be read")
    is_used = LIB.SSL_CTX_use_certificate(context, certificate) == 1
    while is_used:
        LIB.X509_free(certificate)
        certificate = LIB.PEM_read_bio_X509(bio, NULL, <void*>no_password, NULL)
        if certificate == NULL:
            break
        is_used = LIB.SSL_CTX_ctrl(context, SSL_CTRL_CHAIN_CERT, 1, certificate) == 1
    if not is_used:
        LIB.X509_free(certificate)
    LIB.BIO_free(bio)
    if not is_used:
        raise refused("the certificate is not taken")
    LIB.ERR_clear_error()       # "no start line": the end of the chain


cdef void use_key(void* context, bytes pem) except *:
    cdef void* bio = read_from(pem)
    cdef void* key = LIB.PEM_read_bio_PrivateKey(bio, NULL, <void*>no_password, NULL)
    cdef bint is_used
    LIB.BIO_free(bio)
    if key == NULL:
        raise refused("no private key can be read (one with a password is not taken)")
    is_used = LIB.SSL_CTX_use_PrivateKey(context, key) == 1
    LIB.EVP_PKEY_free(key)
    if not is_used or LIB.SSL_CTX_check_private_key(context) != 1:
        raise refused("the private key does not belong to the certificate")


cdef void trust_clients(void* context, bytes pem) except *:
    cdef void* bio = read_from(pem)
    cdef void* store = LIB.SSL_CTX_get_cert_store(context)
    cdef void* certificate = LIB.PEM_read_bio_X509(bio, NULL, <void*>no_password, NULL)
    cdef int count = 0
    while certificate != NULL:
        LIB.X509_STORE_add_cert(store, certificate)
        LIB.SSL_CTX_add_client_CA(context, certificate)
        LIB.X509_free(certificate)
        count += 1
        certificate = LIB.PEM_read_bio_X509(bio, NULL, <void*>no_password, NULL)
    LIB.BIO_free(bio)
    if not count:
        raise refused("no certificate of a CA for clients can be read")
    LIB.ERR_clear_error()


cdef void use_revocations(void* context, bytes pem) except *:
    cdef void* bio = read_from(pem)
    cdef void* store = LIB.SSL_CTX_get_cert_store(context)
    cdef void* revocations = LIB.PEM_read_bio_X509_CRL(bio, NULL, <void*>no_password, NULL)
    cdef int count = 0
    while revocations != NULL:
        LIB.X509_STORE_add_crl(store, revocations)
        LIB.X509_CRL_free(revocations)
        count += 1
        revocations = LIB.PEM_read_bio_X509_CRL(bio, NULL, <void*>no_password, NULL)
    LIB.BIO_free(bio)
    if not count:
        raise refused("no list of revoked certificates can be read")
    LIB.ERR_clear_error()
    LIB.X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK)


cdef void set_policy(void* context, str client_certificate) except *:
    cdef int verify = 0
    cdef bytes ciphers = _settings.CIPHERS
    if client_certificate == "optional":
        verify = SSL_VERIFY_PEER
    elif client_certificate == "required":
        verify = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    LIB.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL)
    LIB.SSL_CTX_set_options(context, OPTIONS)
    if LIB.SSL_CTX_set_cipher_list(context, <const char*>ciphers) != 1:
        raise refused("the ciphers are not taken")
    LIB.SSL_CTX_ctrl(
        context, SSL_CTRL_MODE,
        SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS, NULL)
    LIB.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, 0, NULL)       # its client keeps a session, not we
    LIB.SSL_CTX_set_session_id_context(context, SESSION_CONTEXT, <unsigned int>len(SESSION_CONTEXT))
    if verify:      # a ticket would let in whom a look at the certificate, its dates and the lists would not
        LIB.SSL_CTX_set_options(context, SSL_OP_NO_TICKET)
    LIB.SSL_CTX_set_num_tickets(context, 0 if verify else TICKETS)
    LIB.SSL_CTX_set_timeout(context, _settings.SESSION_S)
    LIB.SSL_CTX_ctrl(context, SSL_CTRL_SET_READ_AHEAD, 1, NULL)    # one recv for many records
    LIB.SSL_CTX_ctrl(context, SSL_CTRL_SET_MAX_CERT_LIST, _settings.CLIENT_CERTIFICATES_MAXIMUM_BYTES, NULL)
    LIB.SSL_CTX_set_verify(context, verify, NULL)
    LIB.SSL_CTX_set_msg_callback(context, <void*>count_message)


cdef class TlsContext:

    def __cinit__(self, bytes certificate_chain, bytes private_key, *, bytes client_ca=b"", bytes crl=b"",
                  str client_certificate="off", str protocol="mqtt", TlsContext previous=None, bint native=True):
        if client_certificate not in ("off", "optional", "required"):
            raise ValueError(f"client_certificate: expected off, optional or required, not {client_certificate!r}")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, not {protocol!r}")
        self.client_certificate = client_certificate
        if not native or SOCKET_METHOD == NULL:
            self.fallback = _settings.python_context(
                certificate_chain, private_key, client_ca, crl, client_certificate, protocol)
            return
        self.make(certificate_chain, private_key, client_ca, crl, protocol)
        if client_certificate == "off":
            self.take_tickets(previous)

    cdef void make(self, bytes certificate_chain, bytes private_key, bytes client_ca, bytes crl, str protocol) except *:
        LIB.ERR_clear_error()
        self.context = LIB.SSL_CTX_new(LIB.TLS_server_method())
        if self.context == NULL:
            raise MemoryError
        set_policy(self.context, self.client_certificate)
        use_chain(self.context, certificate_chain)
        use_key(self.context, private_key)
        if client_ca:
            trust_clients(self.context, client_ca)
        if crl:
            use_revocations(self.context, crl)
        LIB.SSL_CTX_set_alpn_select_cb(
            self.context, <void*>choose_protocol, <void*><const unsigned char*><bytes>PROTOCOLS[protocol])

    cdef void take_tickets(self, TlsContext previous) except *:
        cdef TicketKeys* keys
        if previous is not None and previous.tickets != NULL:
            keys = <TicketKeys*>previous.tickets
            share_ticket_keys(keys)
        else:
            keys = make_ticket_keys(clock_ns(), _settings.SESSION_S * SECOND_NS // 2)
        if keys == NULL or not use_ticket_keys(self.context, keys):
            raise refused("no keys for session tickets")
        self.tickets = keys

    def __dealloc__(self):
        if self.context != NULL:
            LIB.SSL_CTX_free(self.context)

    @property
    def is_native(self):
        return self.context != NULL


# One name behind its length; these bytes outlive every context that points at them.
PROTOCOLS = {"mqtt": b"\x04mqtt", "http/1.1": b"\x08http/1.1"}
