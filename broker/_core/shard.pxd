# The shard: one struct that owns everything the core knows, and its Python face.
#
# Here belong handles, ownership by one thread, and the calls of engine/ and of tests. Not here: rules, sockets, what
# Python is told and shown (telling, figures, listing).

from libc.stdint cimport int64_t, uint32_t, uint64_t

from broker._core.model cimport CompiledPolicy, Connection, Grant, GrantLimits, ShardState

cdef class Shard:
    cdef ShardState* state
    cdef unsigned long owner
    cdef dict policies
    cdef Py_ssize_t policies_maximum        # as many before those that nobody has are looked for
    cdef dict limits
    cdef void check_owner(self) except *
    cdef Connection* need(self, uint64_t handle) except NULL
    cdef Connection* need_connected(self, uint64_t handle) except NULL
    cdef Connection* find(self, uint64_t handle) except? NULL
    cdef list take_rare_packets(self, uint32_t at_most)
    cdef bytes take_frames(self, Connection* connection, int64_t at_most)
    cdef Grant* make_grant(
        self, account_id, principal_id, str principal, str device_id, publish, subscribe,
        int durability, tuple limits) except NULL
    cdef GrantLimits* limits_of(self, tuple figures) except NULL
    cdef void look_at_policies(self) except *
    cdef CompiledPolicy* policy_of(self, tuple publish, tuple subscribe) except NULL
