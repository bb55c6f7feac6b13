/* Who may publish now: windows, end-to-end credit, the rate. */
#ifndef LOADGEN_PUBLISHING_H
#define LOADGEN_PUBLISHING_H

#include "connection.h"

extern uint64_t run_started_ns, issued_total;

void build_publishing(void);
void start_publishing(void);
void push_ready(Connection *c); /* look at this publisher in the next pump */
bool anyone_ready(void);
void pump(void);
uint64_t next_due_ns(void);       /* at a rate: when the next message is due */
void issue_due(uint64_t now);     /* at a rate: hand out what has become due */
void write_off_stalled(void);     /* every 100 ms: what has not come for a second is taken as lost */

#endif
