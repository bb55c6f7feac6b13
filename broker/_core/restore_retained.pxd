# Retained messages come back from disk, before the first listener opens.
#
# Each stands on its author's rights again. Of an author whom nobody has granted anything since the start: one of an own
# Authenticator's is taken for who it was, until it is judged again; one of the directory's is known there, and has its
# rights taken away for the time being, or it is not, and what it has set goes. What was set inside the process is the
# server's.
#
# Here belongs reading records of retained messages. Not here: writing them (retained_records).

from broker._core.model cimport ShardState

# `rows` are keys and values in the order of keys; `known(principal)` is asked about authors with a number of the
# directory's. Returns how many came back, had expired, had lost their author (both are deleted), and could not be read.
cdef tuple restore_messages(ShardState* shard, object rows, object known)
