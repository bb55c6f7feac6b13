/* WebSocket frames of RFC 6455, client side, and the upgrade request. What is inside them is none of its business. */
#ifndef LOADGEN_WEBSOCKET_H
#define LOADGEN_WEBSOCKET_H

#include "connection.h"

#define FRAME_HEADER_BYTES 14

uint8_t *frame_begin(Connection *c, uint8_t *p, uint32_t n); /* returns where the n bytes go */
void frame_end(Connection *c, uint8_t *end);                 /* masks what was written since frame_begin */
void websocket_request(Connection *c);
bool websocket_answered(Connection *c, uint8_t **bytes, size_t *n); /* true: upgraded; bytes, n: what follows */
void websocket_bytes(Connection *c, uint8_t *bytes, size_t n);

#endif
