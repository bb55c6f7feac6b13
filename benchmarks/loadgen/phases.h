/* What --mode runs: each connects its fleet, measures, reports and goes home. */
#ifndef LOADGEN_PHASES_H
#define LOADGEN_PHASES_H

void run_pubsub(void); /* and idle: many publishers at a low rate into a wildcard */
void run_connect(void);
void run_offline(void);

#endif
