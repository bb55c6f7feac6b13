# Topic aliases of one connection, both ways (section 3.3.2.3.4); they end with it.
#
# Here belong the tables: what a number stands for, and which number a topic has. Not here: when an alias is used
# (publish, deliver) and how it is written (message).

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from broker._core.cursor cimport Span
from broker._core.model cimport Connection

cdef enum:
    OUTBOUND_ALIASES_MAXIMUM = 64       # per connection, whatever the client offers
    INBOUND_MAXIMUM_BYTES = 65536       # of topic names that one client may let us remember
    OUTBOUND_TOPIC_MAXIMUM_BYTES = 1024     # of one; longer ones are sent as they are
    ALIAS_BYTES = 3                     # of the property: a topic that is not longer gains nothing

# Which alias a delivery has. number 0: none; known: the receiver has been told already, so that the topic is left out.
cdef struct AliasUse:
    uint16_t number
    uint8_t known

# An inbound PUBLISH names an alias, which is not 0. A topic name with bytes is remembered; an empty one becomes what
# the alias stands for (valid until the alias is set anew). Returns 0 or a reason code.
cdef int resolve_alias(
    Connection* connection, uint32_t maximum, uint32_t number, Span* topic_name) noexcept nogil

# What a delivery of this topic may use; `hash` is of the topic's bytes. Nothing is remembered yet.
cdef AliasUse find_alias(Connection* connection, const Span* topic_name, uint32_t hash) noexcept nogil
# The PUBLISH that sets this alias is on its way: from now on it is known.
cdef void remember_alias(Connection* connection, const Span* topic_name, uint32_t hash, AliasUse use) noexcept nogil

cdef void free_aliases(Connection* connection) noexcept nogil
# Bytes that the aliases of a connection take, for tests of their bounds.
cdef size_t aliases_bytes(Connection* connection) noexcept nogil
