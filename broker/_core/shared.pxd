# Which member of a shared group gets a message (section 4.8.2).
#
# Here belong the choice, and the bench: a member that cannot take a message now loses its turn until its session has
# quota and room again, so that each message looks at few members however many are away or full. Not here: what a group
# is (groups), handing over what a member leaves behind (handover).

from broker._core.message cimport Outgoing
from broker._core.model cimport Connection, Session, SharedGroup, ShardState, Subscription

# Who takes this message: of those connected with quota and room the next in turn; else one that is connected and
# queues; else, for QoS above 0, one that is away and kept. NULL: nobody.
cdef Subscription* choose_member(ShardState* shard, SharedGroup* group, Outgoing* out) noexcept nogil
# Whether somebody could take it, as far as a bounded look can tell; nobody's turn is taken.
cdef bint has_taker(ShardState* shard, SharedGroup* group, Outgoing* out) noexcept nogil
# The session may send again: all of its shared subscriptions get their turns back.
cdef void leave_benches(Session* session) noexcept nogil
# The same, if it has quota and room indeed.
cdef void look_at_bench(ShardState* shard, Session* session) noexcept nogil
