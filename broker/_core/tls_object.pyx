"""TLS by Python's ssl objects. See tls_object.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from broker._core.linux cimport MSG_DONTWAIT, MSG_NOSIGNAL, c_send, clock_ns, recv
from broker._core.tls cimport TLS_AGAIN, TLS_ENDED, TlsContext

import ssl

from broker._core import tls_settings as _settings

cdef enum:
    READ_BYTES = 512        # of the socket at once: twenty exchanges of keys, which nobody tells of here
    RECEIVE_BYTES = 16384   # in one receive
    RECEIVE_NS = 500000     # after which nothing more is read in it
    HANDSHAKE_READ_BYTES = 4096
    FLIGHT_MORE_BYTES = 2048    # in a client's answer beside its certificates: keys, a signature, the heads of records
    RECORDS_BYTES = 16384       # of plain text that are encrypted at once, so that little waits beside the outbox


cdef class TlsObject:

    cdef bint pull(self, size_t most) except -1:
        # Moves what the socket has into the object, up to HANDSHAKE_READ_BYTES; True: there was something.
        cdef uint8_t[HANDSHAKE_READ_BYTES] buffer
        cdef ssize_t got = recv(self.fd, buffer, most, MSG_DONTWAIT)
        if got > 0:
            self.incoming.write(PyBytes_FromStringAndSize(<char*>buffer, got))
            if self.has_spoken:
                self.flight_left -= min(<size_t>got, self.flight_left)
            return True
        if got == 0 or (errno != EAGAIN and errno != EINTR):
            self.has_ended = True
            self.incoming.write_eof()
        return False

    cdef bint push(self) except -1:
        # Moves what the object has to say into the socket; False: it did not take all.
        cdef ssize_t sent
        if not self.unsent:
            self.unsent = self.outgoing.read()
        while self.unsent:
            sent = c_send(
                self.fd, PyBytes_AS_STRING(self.unsent), PyBytes_GET_SIZE(self.unsent), MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent < 0:
                if errno == EAGAIN or errno == EINTR:
                    return False
                raise ConnectionError
            self.unsent = self.unsent[sent:] or self.outgoing.read()
        return True


cdef void* object_open(void* context, int fd) noexcept with gil:
    cdef TlsObject made = TlsObject.__new__(TlsObject)
    made.incoming = ssl.MemoryBIO()
    made.outgoing = ssl.MemoryBIO()
    made.unsent = b""
    made.why = ""
    made.fd = fd
    made.flight_left = _settings.CLIENT_CERTIFICATES_MAXIMUM_BYTES + FLIGHT_MORE_BYTES
    try:
        made.tls = (<TlsContext>context).fallback.wrap_bio(made.incoming, made.outgoing, server_side=True)
    except Exception:
        return NULL
    Py_INCREF(made)
    return <void*>made


cdef void object_free(void* tls) noexcept with gil:
    Py_DECREF(<object>tls)


cdef int object_handshake(void* tls, bint* wants_write) noexcept with gil:
    # One read of the socket at most, as in tls; what a client answers is not given to OpenSSL beyond what it may have.
    cdef TlsObject one = <TlsObject>tls
    cdef bint pulled = False
    wants_write[0] = False
    try:
        while True:
            try:
                one.tls.do_handshake()
                wants_write[0] = not one.push()
                return TLS_AGAIN if wants_write[0] else 1
            except ssl.SSLWantReadError:
                one.has_spoken = one.has_spoken or one.outgoing.pending > 0
                if not one.push():
                    wants_write[0] = True
                    return TLS_AGAIN
                if one.flight_left == 0:
                    one.why = "EXCESSIVE_MESSAGE_SIZE"
                    return TLS_ENDED
                if pulled or not (one.pull(min(<size_t>HANDSHAKE_READ_BYTES, one.flight_left)) or one.has_ended):
                    return TLS_AGAIN
                pulled = True
    except ssl.SSLError as error:
        one.why = error.reason or str(error)
        try:
            one.push()      # the alert
        except ConnectionError:
            pass
    except Exception:
        one.why = ""
    return TLS_ENDED


cdef int object_receive(void* tls, uint8_t* to, uint32_t n, uint32_t most, bint* has_more) noexcept with gil:
    # What else there is in the socket, the kernel tells.
    cdef TlsObject one = <TlsObject>tls
    cdef uint32_t taken = 0, left = min(most, <uint32_t>RECEIVE_BYTES)
    cdef int64_t until_ns = clock_ns() + RECEIVE_NS
    cdef bytes got
    cdef bint ended = False
    while taken < n and not ended:
        try:
            got = one.tls.read(n - taken)
        except ssl.SSLWantReadError:
            if left == 0 or clock_ns() > until_ns or not (one.pull(min(left, <uint32_t>READ_BYTES)) or one.has_ended):
                break
            left -= min(left, <uint32_t>READ_BYTES)
            continue
        except Exception:
            got = b""
        memcpy(to + taken, PyBytes_AS_STRING(got), PyBytes_GET_SIZE(got))
        taken += <uint32_t>PyBytes_GET_SIZE(got)
        ended = not got
    has_more[0] = taken == n or (ended and taken > 0)      # an end is seen again, after what came before it
    return TLS_ENDED if ended and taken == 0 else <int>taken


cdef int object_send(void* tls, const uint8_t* bytes, uint32_t n) noexcept with gil:
    cdef TlsObject one = <TlsObject>tls
    try:
        if not one.push():
            return TLS_AGAIN
        sent = one.tls.write(PyBytes_FromStringAndSize(<char*>bytes, min(n, RECORDS_BYTES)))
        one.push()
        return sent
    except Exception:
        return TLS_ENDED


cdef bint object_is_out(void* tls) noexcept with gil:
    try:
        return (<TlsObject>tls).push()
    except ConnectionError:
        return True     # there is nobody left to read it


cdef void object_end(void* tls) noexcept with gil:
    cdef TlsObject one = <TlsObject>tls
    try:
        one.tls.unwrap()
    except (ssl.SSLError, ValueError):
        pass
    try:
        one.push()
    except ConnectionError:
        pass


cdef bint object_presented(void* tls) noexcept with gil:
    return bool((<TlsObject>tls).tls.getpeercert(True))


cdef bytes object_peer_certificate(void* tls):
    return (<TlsObject>tls).tls.getpeercert(True) or b""


cdef str object_why(void* tls):
    return (<TlsObject>tls).why
