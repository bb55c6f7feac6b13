"""Topic aliases. See aliases.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.cursor cimport Span
from broker._core.memory cimport give_memory, resize_memory, take_memory, take_zeroed
from broker._core.model cimport Alias, Aliases, Connection
from broker._core.reasons cimport QUOTA_EXCEEDED, TOPIC_ALIAS_INVALID


cdef enum:
    FIRST_OUTBOUND = 8      # slots, a power of two; grown when more than half of them are taken


cdef Aliases* need_aliases(Connection* connection) noexcept nogil:
    if connection.aliases == NULL:
        connection.aliases = <Aliases*>take_zeroed(sizeof(Aliases))
    return connection.aliases


cdef uint8_t* copied(const Span* topic_name) noexcept nogil:
    cdef uint8_t* copy = <uint8_t*>take_memory(topic_name.n)
    memcpy(copy, topic_name.at, topic_name.n)
    return copy


# ---------------------------------------------------------------- inbound

cdef void make_room(Aliases* aliases, uint32_t number) noexcept nogil:
    # As far as the highest number that was used, not as far as the maximum.
    cdef uint32_t before = aliases.inbound_capacity
    if number <= before:
        return
    aliases.inbound = <Alias*>resize_memory(aliases.inbound, number * sizeof(Alias))
    memset(aliases.inbound + before, 0, (number - before) * sizeof(Alias))
    aliases.inbound_capacity = <uint16_t>number


cdef int set_inbound(Connection* connection, uint32_t number, const Span* topic_name) noexcept nogil:
    cdef Aliases* aliases = need_aliases(connection)
    cdef Alias* alias
    make_room(aliases, number)
    alias = &aliases.inbound[number - 1]
    if alias.topic_bytes == topic_name.n and memcmp(alias.topic, topic_name.at, topic_name.n) == 0:
        return 0
    if aliases.inbound_bytes - alias.topic_bytes + topic_name.n > INBOUND_MAXIMUM_BYTES:
        return QUOTA_EXCEEDED
    aliases.inbound_bytes += topic_name.n - alias.topic_bytes
    give_memory(alias.topic)
    alias.topic = copied(topic_name)
    alias.topic_bytes = topic_name.n
    return 0


cdef int resolve_alias(
        Connection* connection, uint32_t maximum, uint32_t number, Span* topic_name) noexcept nogil:
    cdef Aliases* aliases = connection.aliases
    if number > maximum:
        return TOPIC_ALIAS_INVALID  # [MQTT-3.2.2-17] [MQTT-3.2.2-18] [MQTT-3.3.2-9]
    if topic_name.n:
        return set_inbound(connection, number, topic_name)
    if aliases == NULL or number > aliases.inbound_capacity or aliases.inbound[number - 1].topic == NULL:
        return TOPIC_ALIAS_INVALID
    topic_name.at = aliases.inbound[number - 1].topic
    topic_name.n = aliases.inbound[number - 1].topic_bytes
    return 0


# ---------------------------------------------------------------- outbound

cdef inline Alias* outbound_slot(Aliases* aliases, const Span* topic_name, uint32_t hash) noexcept nogil:
    # Where the topic stands, or the free slot where it would; there is always a free one.
    cdef uint32_t at = hash & (aliases.outbound_capacity - 1)
    cdef Alias* alias = &aliases.outbound[at]
    while alias.topic != NULL and not (
            alias.hash == hash and alias.topic_bytes == topic_name.n
            and memcmp(alias.topic, topic_name.at, topic_name.n) == 0):
        at = (at + 1) & (aliases.outbound_capacity - 1)
        alias = &aliases.outbound[at]
    return alias


cdef AliasUse find_alias(Connection* connection, const Span* topic_name, uint32_t hash) noexcept nogil:
    cdef Aliases* aliases = connection.aliases
    cdef AliasUse use
    cdef Alias* alias
    use.number = 0
    use.known = False
    if topic_name.n <= ALIAS_BYTES or topic_name.n > OUTBOUND_TOPIC_MAXIMUM_BYTES:
        return use
    if aliases == NULL or aliases.outbound_count == 0:
        use.number = 1
        return use
    alias = outbound_slot(aliases, topic_name, hash)
    if alias.topic != NULL:
        use.number = alias.number
        use.known = True
    elif aliases.outbound_count < connection.client_topic_alias_maximum:    # first come [MQTT-3.1.2-26] [MQTT-3.3.2-11]
        use.number = aliases.outbound_count + 1
    return use


cdef void grow_outbound(Aliases* aliases) noexcept nogil:
    cdef Alias* old = aliases.outbound
    cdef uint32_t before = aliases.outbound_capacity
    cdef uint32_t i
    cdef Span topic_name
    aliases.outbound_capacity = <uint16_t>(before * 2 if before else FIRST_OUTBOUND)
    aliases.outbound = <Alias*>take_zeroed(aliases.outbound_capacity * sizeof(Alias))
    for i in range(before):
        if old[i].topic != NULL:
            topic_name.at = old[i].topic
            topic_name.n = old[i].topic_bytes
            outbound_slot(aliases, &topic_name, old[i].hash)[0] = old[i]
    give_memory(old)


cdef void remember_alias(Connection* connection, const Span* topic_name, uint32_t hash, AliasUse use) noexcept nogil:
    cdef Aliases* aliases = need_aliases(connection)
    cdef Alias* alias
    if aliases.outbound_count * 2 >= aliases.outbound_capacity:
        grow_outbound(aliases)
    alias = outbound_slot(aliases, topic_name, hash)
    alias.topic = copied(topic_name)
    alias.topic_bytes = topic_name.n
    alias.hash = hash
    alias.number = use.number
    aliases.outbound_count += 1


# ---------------------------------------------------------------- the end

cdef void free_list(Alias* list, uint32_t count) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        give_memory(list[i].topic)
    give_memory(list)


cdef void free_aliases(Connection* connection) noexcept nogil:
    # [MQTT-3.3.2-7]
    cdef Aliases* aliases = connection.aliases
    if aliases == NULL:
        return
    free_list(aliases.inbound, aliases.inbound_capacity)
    free_list(aliases.outbound, aliases.outbound_capacity)
    give_memory(aliases)
    connection.aliases = NULL


cdef size_t aliases_bytes(Connection* connection) noexcept nogil:
    cdef Aliases* aliases = connection.aliases
    cdef size_t total = 0
    cdef uint32_t i
    if aliases == NULL:
        return 0
    for i in range(aliases.inbound_capacity):
        total += aliases.inbound[i].topic_bytes
    for i in range(aliases.outbound_capacity):
        total += aliases.outbound[i].topic_bytes
    return total + sizeof(Aliases) + (aliases.inbound_capacity + aliases.outbound_capacity) * sizeof(Alias)
