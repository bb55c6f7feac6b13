"""What has happened, as Python is told of it. See telling.pxd."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint16_t, uint32_t
from libc.string cimport memmove, memset

from broker._core.connection cimport find_connection, handle_of
from broker._core.events cimport call_for_stories, end_story, next_noisy, next_story
from broker._core.framing cimport read_header
from broker._core.grants cimport release_principal
from broker._core.libssl cimport LIB
from broker._core.limiter cimport next_own_used, next_used
from broker._core.memory cimport give_memory
from broker._core.model cimport (
    CLOSING,
    DROP_REASONS,
    RARE_PROXY_REFUSED,
    RARE_REFUSED,
    RARE_STORIES,
    RARE_TLS_FAILED,
    RARE_UPGRADE,
    STORY_TEXT_BYTES,
    Account,
    Connection,
    Event,
    Principal,
    Rare,
    ShardState,
    Story,
    TrackedAnswer,
    TrackedNote,
    Tracking,
    Transport,
    Usage,
)
from broker._core.peers cimport shown_address
from broker._core.tls_object cimport object_why
from broker._core.websocket cimport upgrade_bytes


# ---------------------------------------------------------------- stories of devices

cdef bint has_drops(Story* story) noexcept nogil:
    cdef int i
    for i in range(DROP_REASONS):
        if story.drops[i]:
            return True
    return False


cdef tuple told_event(ShardState* shard, Event* event):
    # A text that was cut may end within a character.
    text = (<char*>event.text)[:min(event.text_bytes, <uint16_t>STORY_TEXT_BYTES)].decode(errors="ignore")
    if event.text_bytes > STORY_TEXT_BYTES:
        text += "..."
    return (
        event.kind, event.reason, event.first_ns + shard.wall_offset_ns,
        event.last_ns + shard.wall_offset_ns, event.count, event.version, event.door, bool(event.resumed),
        shown_address(event.address), shown_address(event.other), text)


cdef tuple told(ShardState* shard, Story* story):
    cdef Principal* principal = story.principal
    cdef char* device_id = <char*>principal + sizeof(Principal) + principal.name_bytes
    cdef bint online = principal.connections > 0
    found = (
        principal.account.account_id, principal.principal_id,
        device_id[:principal.device_id_bytes].decode(), bool(principal.told_online), online,
        [told_event(shard, &story.events[i]) for i in range(story.count)],
        [(i, story.drops[i]) for i in range(DROP_REASONS) if story.drops[i]], story.lost)
    principal.told_online = online
    end_story(shard, story)
    return found


cdef list take_stories(ShardState* shard, uint32_t at_most):
    cdef list found = []
    cdef Story* story
    shard.called = 0
    while len(found) < at_most:
        story = next_story(shard)
        if story == NULL:
            break
        found.append(told(shard, story))
    if shard.telling_head != NULL:
        call_for_stories(shard)
    return found


cdef list take_gathered(ShardState* shard, uint32_t at_most):
    cdef list found = []
    cdef Story* story
    while len(found) < at_most:
        story = next_noisy(shard)
        if story == NULL:
            break
        if story.count or story.lost or has_drops(story):
            found.append(told(shard, story))
        else:       # it was told with something else
            end_story(shard, story)
    return found


# ---------------------------------------------------------------- what is asked about messages

cdef list take_tracked(ShardState* shard):
    cdef Tracking* tracking = &shard.tracking
    cdef TrackedNote* one
    cdef list found = []
    cdef uint32_t i
    for i in range(tracking.note_count):
        one = &tracking.notes[i]
        found.append((one.kind, one.tracking, one.number, one.principal_id, one.reason))
    tracking.note_count = 0
    return found


cdef list take_answers(ShardState* shard):
    cdef Tracking* tracking = &shard.tracking
    cdef TrackedAnswer* one
    cdef list found = []
    cdef uint32_t i
    for i in range(tracking.answer_count):
        one = &tracking.answers[i]
        payload = None if one.payload == NULL and one.payload_bytes else \
            PyBytes_FromStringAndSize(<char*>one.payload, 0 if one.payload == NULL else one.payload_bytes)
        message_id = PyBytes_FromStringAndSize(<char*>one.message_id, one.message_id_bytes)
        give_memory(one.payload)
        found.append((one.principal_id, message_id, payload, one.payload_bytes))
    tracking.answer_count = 0
    tracking.answer_bytes = 0
    tracking.answers_round += 1
    return found


# ---------------------------------------------------------------- usage

cdef tuple usage_tuple(Usage* usage):
    # What it holds, and nothing is left in it.
    found = usage.messages_in, usage.bytes_in, usage.messages_out, usage.bytes_out
    memset(usage, 0, sizeof(Usage))
    return found


cdef list take_usage(ShardState* shard, uint32_t at_most):
    cdef Principal* principal
    cdef Account* account
    cdef list found = []
    while len(found) < at_most:
        account = next_own_used(shard)
        if account == NULL:
            break
        found.append((account.account_id, None, *usage_tuple(&account.own)))
    while len(found) < at_most:
        principal = next_used(shard)
        if principal == NULL:
            break
        found.append((
            principal.account.account_id, principal.principal_id, *usage_tuple(&principal.activity.usage)))
        release_principal(shard, principal)
    return found


# ---------------------------------------------------------------- rare packets

cdef bytes why_no_tls(Transport* transport):
    cdef const char* words
    if transport.tls_object != NULL:
        return object_why(transport.tls_object).encode()
    words = LIB.ERR_reason_error_string(transport.why)
    return b"unknown" if words == NULL else words


cdef tuple rare_packet(ShardState* shard, Rare* rare):
    # None: its connection has gone or closed meanwhile.
    cdef Connection* connection = find_connection(shard, rare.slot, rare.generation)
    cdef uint32_t header = 0, remaining = 0
    if rare.kind == RARE_STORIES:
        return rare.kind, 0, 0, 0, 0, b""
    if connection == NULL:
        return None
    packet = b""
    if rare.kind == RARE_TLS_FAILED:
        packet = why_no_tls(connection.transport)
    elif rare.kind == RARE_REFUSED or rare.kind == RARE_PROXY_REFUSED:
        packet = bytes((rare.why,)) if rare.why else b""
    elif rare.kind == RARE_UPGRADE:
        if connection.state == CLOSING or not connection.barrier:
            return None
        packet = PyBytes_FromStringAndSize(<char*>connection.inbox, upgrade_bytes(connection))
    elif rare.kind < RARE_REFUSED:
        if connection.state == CLOSING or not connection.barrier:
            return None
        read_header(connection.inbox, connection.inbox_bytes, &header, &remaining)
        packet = PyBytes_FromStringAndSize(<char*>connection.inbox, header + remaining)
    return rare.kind, handle_of(connection), connection.version, rare.reason_code, connection.listener, packet


cdef list take_rare(ShardState* shard, uint32_t at_most):
    cdef uint32_t i, taken = min(shard.rare_count, at_most)
    cdef list found = []
    for i in range(taken):
        packet = rare_packet(shard, &shard.rare[i])
        if packet is not None:
            found.append(packet)
    shard.rare_count -= taken
    if shard.rare_count:
        memmove(shard.rare, shard.rare + taken, shard.rare_count * sizeof(Rare))
    return found
