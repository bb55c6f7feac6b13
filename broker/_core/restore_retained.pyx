"""Retained messages from disk. See restore_retained.pxd."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from broker._core.grants cimport find_principal, hold_principal, need_account, release_principal
from broker._core.keyed_records cimport delete_numbered
from broker._core.message cimport NEVER_EXPIRES, message_topic, release_message
from broker._core.model cimport Account, Message, Principal, ShardState
from broker._core.records cimport TABLE_RETAINED, RetainedHead, get_key, get_message
from broker._core.retained cimport restore_message
from broker._core.retained_records cimport LOCAL_PRINCIPALS, OWN_PRINCIPALS
from broker._core.topic_rules cimport TOPIC_LEVELS_HARD_MAXIMUM, valid_topic_name


cdef enum:
    RESTORED = 0
    GONE = 1                    # it has expired, or its author is nobody any more
    WRONG = 2
    KEY_BYTES = 8
    SECOND_NS = 1000000000


cdef bint read_record(ShardState* shard, bytes value, RetainedHead* head, Message** message):
    # True: it is a retained message, with one reference for the caller.
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(value)
    cdef uint32_t n = <uint32_t>PyBytes_GET_SIZE(value)
    cdef uint32_t used = 0
    if n < sizeof(RetainedHead):
        return False
    memcpy(head, at, sizeof(RetainedHead))
    message[0] = get_message(shard, at + sizeof(RetainedHead), n - <uint32_t>sizeof(RetainedHead), &used)
    if message[0] == NULL:
        return False
    if used == n - sizeof(RetainedHead) and message[0].payload_bytes and valid_topic_name(
            message_topic(message[0]), message[0].topic_bytes, TOPIC_LEVELS_HARD_MAXIMUM):
        return True
    release_message(shard, message[0])
    return False


cdef bint has_expired(ShardState* shard, Message* message) noexcept nogil:
    if message.received_at_ns > shard.now_ns:       # the wall clock was set back
        message.received_at_ns = shard.now_ns
    return message.message_expiry_s != NEVER_EXPIRES and \
        message.received_at_ns + <int64_t>message.message_expiry_s * SECOND_NS <= shard.now_ns


cdef int hold_author(ShardState* shard, RetainedHead* head, object known, Principal** author) except -1:
    # Its author, held, or NULL for the server.
    cdef Account* account = need_account(shard, head.account_id)
    author[0] = NULL
    if head.author >= LOCAL_PRINCIPALS:
        return RESTORED
    author[0] = find_principal(shard, head.author)
    if author[0] != NULL:
        author[0].refs += 1
        if author[0].account == account:
            return RESTORED
        release_principal(shard, author[0])
        return WRONG
    if 0 < head.author < OWN_PRINCIPALS and known is not None and not known(head.author):
        return GONE
    author[0] = hold_principal(shard, account, head.author, NULL, 0, NULL, 0)
    author[0].nameless = 1
    author[0].revoked = 0 < head.author < OWN_PRINCIPALS
    return RESTORED


cdef int restore_row(ShardState* shard, uint64_t number, bytes value, object known) except -1:
    cdef RetainedHead head
    cdef Message* message = NULL
    cdef Principal* author = NULL
    cdef int outcome
    if number == 0 or not read_record(shard, value, &head, &message):
        return WRONG
    try:
        if has_expired(shard, message):
            return GONE
        outcome = hold_author(shard, &head, known, &author)
        if outcome == RESTORED:
            restore_message(shard, need_account(shard, head.account_id), message, author, number)
            if author != NULL:
                release_principal(shard, author)
        return outcome
    finally:
        release_message(shard, message)


cdef uint64_t restore_messages(ShardState* shard, object rows, object known) except? 0xFFFFFFFF:
    cdef uint64_t number, wrong = 0
    cdef int outcome
    cdef bytes key
    cdef bytes value
    for key, value in rows:
        number = get_key(<const uint8_t*>PyBytes_AS_STRING(key)) if len(key) == KEY_BYTES else 0
        if number >= shard.journal.next_retained:
            shard.journal.next_retained = number + 1
        outcome = restore_row(shard, number, value, known)
        if outcome == GONE:
            delete_numbered(shard, TABLE_RETAINED, number)
        wrong += outcome == WRONG
    return wrong
