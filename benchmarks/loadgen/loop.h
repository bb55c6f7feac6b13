/* One turn: poll, pings, publish, flush. */
#ifndef LOADGEN_LOOP_H
#define LOADGEN_LOOP_H

#include <stdint.h>

extern uint64_t idle_total_ns; /* while measuring: time in turns that had nothing to do */

void loop_step(uint64_t until_ns); /* returns at once when there is work, at the latest at until_ns */
void loop_until(uint64_t until_ns);

#endif
