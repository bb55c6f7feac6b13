/* The fleet as a whole: who its clients are, bringing them up, sending them home. */
#ifndef LOADGEN_FLEET_H
#define LOADGEN_FLEET_H

#include "connection.h"

void build_fleet(int subscribers_wanted, int publishers_wanted, enum role publisher_role);
double connect_range(int from, int to); /* connections[from..to), --burst at a time; seconds it took */
void disconnect_range(int from, int to); /* DISCONNECT, then close; not counted as lost */
void disconnect_all(void);

#endif
