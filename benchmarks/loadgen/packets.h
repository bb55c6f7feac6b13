/* MQTT packets, both versions: encoding into a connection's outbox, decoding what the broker sent. No sockets. */
#ifndef LOADGEN_PACKETS_H
#define LOADGEN_PACKETS_H

#include "connection.h"

void send_connect(Connection *c);
void send_subscribe(Connection *c);
void send_empty(Connection *c, uint8_t first_byte); /* PINGREQ, DISCONNECT */
void encode_publish(Connection *c, uint64_t stamp_ns);
void mqtt_bytes(Connection *c, uint8_t *bytes, size_t n); /* bytes follow what the connection kept before */

#endif
