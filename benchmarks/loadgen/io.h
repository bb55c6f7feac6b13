/* Sockets, TLS and the poll: bytes between the kernel and the connections. */
#ifndef LOADGEN_IO_H
#define LOADGEN_IO_H

#include "connection.h"

void io_setup(void);
void connection_open(Connection *c);
void flush_all(void);
int poll_once(int64_t timeout_ns); /* number of events */
void stop_reading(Connection *c);  /* for good; what happens to it is not heard of either */
bool was_cut(const Connection *c); /* by the broker, for a connection that is not read */

/* tls.c; without OpenSSL there is none, and options refuse --tls */
extern long tls_resumed; /* handshakes by a ticket */
enum { IO_AGAIN = -1, IO_FAILED = -2 };
void tls_setup(void);
void tls_start(Connection *c);
int tls_step(Connection *c); /* 1: done; else IO_AGAIN, IO_FAILED */
long tls_send(Connection *c, const void *bytes, size_t n);
long tls_receive(Connection *c, void *bytes, size_t room); /* fills as much of room as there is */
void watch(Connection *c, bool out);

#endif
