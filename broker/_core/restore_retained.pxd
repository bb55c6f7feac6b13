# Retained messages come back from disk, before the first listener opens.
#
# Each stands on its author's rights again. Of an author whom nobody has granted anything since the start: one of an own
# Authenticator's is taken for who it was, until it is judged again; one of the directory's is known there, and has its
# rights taken away for the time being, or it is not, and what it has set goes. What was set inside the process is the
# server's.
#
# Here belongs reading records of retained messages. Not here: writing them (retained_records).

from libc.stdint cimport uint64_t

from broker._core.model cimport ShardState

# `rows` are keys and values in the order of keys; `known(principal)` is asked about authors with a number of the
# directory's, None: all are known there. What has expired or lost its author is deleted. Returns how many records could
# not be read.
cdef uint64_t restore_messages(ShardState* shard, object rows, object known) except? 0xFFFFFFFF
