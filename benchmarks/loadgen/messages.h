/* What a payload says (time, publisher, stream, sequence number) and the counting that follows from it: delivered, lost,
 * duplicated, reordered. */
#ifndef LOADGEN_MESSAGES_H
#define LOADGEN_MESSAGES_H

#include "connection.h"

#define STAMP_BYTES 24 /* at the head of each payload: u64 time, u32 publisher, u32 stream, u64 sequence number */

/* since the start */
typedef struct {
    uint64_t sent, acked, delivered, expected, duplicated, reordered, foreign, written_off, ack_errors;
    uint64_t corrupted, misrouted; /* another payload or topic name than was sent; no filter of the receiver matches */
} Totals;

/* within the measured time */
typedef struct {
    uint64_t sent, acked, delivered, payload_bytes;
} Measured;

extern Totals totals;
extern Measured measured;

void build_messages(void);
void stamp_payload(uint8_t *p, uint64_t time_ns, uint32_t publisher, uint32_t stream, uint64_t sequence);
void message_received(Connection *c, const uint8_t *topic_name, unsigned name_len, const uint8_t *payload, uint32_t n);

#endif
