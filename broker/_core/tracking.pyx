"""What becomes of messages that somebody asks about. See tracking.pxd."""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from broker._core.cursor cimport Span
from broker._core.memory cimport give_memory, resize_memory, take_memory
from broker._core.model cimport Account, Principal, ShardState, TrackedAnswer, TrackedNote, Tracking


cdef enum:
    FIRST_NOTES = 64
    NOTES_MAXIMUM = 1 << 20         # between two calls of Python; what is more is lost, and counted
    ANSWERS_MAXIMUM = 65536
    ANSWERS_MAXIMUM_BYTES = 64 * 1024 * 1024
    ACCOUNT_ANSWERS_MAXIMUM = 1024          # of one account, so that others have room (law 11)
    ACCOUNT_ANSWERS_MAXIMUM_BYTES = 4 * 1024 * 1024
    ANSWER_MAXIMUM_BYTES = 16 * 1024        # a larger one is told by its length alone
    MESSAGE_ID_MAXIMUM_BYTES = 64
    PREFIX_BYTES = 8                # of `devices/`
    MIDDLE_BYTES = 17               # of `/events/commands/`


cdef void tracking_close(ShardState* shard) noexcept nogil:
    cdef uint32_t i
    for i in range(shard.tracking.answer_count):
        give_memory(shard.tracking.answers[i].payload)
    give_memory(shard.tracking.answers)
    give_memory(shard.tracking.notes)


cdef void note(
        ShardState* shard, Principal* principal, uint32_t tracking, uint64_t number, uint8_t kind, int32_t reason
) noexcept nogil:
    cdef Tracking* all = &shard.tracking
    cdef TrackedNote* one
    if principal != NULL and principal.device_id_bytes == 0:
        return
    if all.note_count == NOTES_MAXIMUM:
        all.lost += 1
        return
    if all.note_count == all.note_capacity:
        all.note_capacity = all.note_capacity * 2 if all.note_capacity else FIRST_NOTES
        all.notes = <TrackedNote*>resize_memory(all.notes, <size_t>all.note_capacity * sizeof(TrackedNote))
    one = &all.notes[all.note_count]
    one.number = number
    one.tracking = tracking
    one.principal_id = 0 if principal == NULL else principal.principal_id
    one.kind = kind
    one.reason = reason
    all.note_count += 1


cdef bint message_id_of(Principal* principal, const Span* topic, Span* message_id) noexcept nogil:
    # Of `devices/{its own id}/events/commands/{message_id}`.
    cdef uint32_t n = principal.device_id_bytes
    cdef const uint8_t* device_id = <uint8_t*>principal + sizeof(Principal) + principal.name_bytes
    cdef uint32_t before = PREFIX_BYTES + n + MIDDLE_BYTES
    if n == 0 or not before < topic.n <= before + MESSAGE_ID_MAXIMUM_BYTES:
        return False
    if memcmp(topic.at, b"devices/", PREFIX_BYTES) != 0 or memcmp(topic.at + PREFIX_BYTES, device_id, n) != 0 \
            or memcmp(topic.at + PREFIX_BYTES + n, b"/events/commands/", MIDDLE_BYTES) != 0:
        return False
    message_id.at = topic.at + before
    message_id.n = topic.n - before
    return memchr(message_id.at, c'/', message_id.n) == NULL


cdef bint has_room(Tracking* all, Account* account) noexcept nogil:
    if account.answers_round != all.answers_round:
        account.answers_round = all.answers_round
        account.answer_count = 0
        account.answer_bytes = 0
    return account.answer_count < ACCOUNT_ANSWERS_MAXIMUM and all.answer_count < ANSWERS_MAXIMUM and \
        account.answer_bytes < ACCOUNT_ANSWERS_MAXIMUM_BYTES and all.answer_bytes < ANSWERS_MAXIMUM_BYTES


cdef TrackedAnswer* new_answer(Tracking* all) noexcept nogil:
    if all.answer_count == all.answer_capacity:
        all.answer_capacity = all.answer_capacity * 2 if all.answer_capacity else FIRST_NOTES
        all.answers = <TrackedAnswer*>resize_memory(
            all.answers, <size_t>all.answer_capacity * sizeof(TrackedAnswer))
    all.answer_count += 1
    return &all.answers[all.answer_count - 1]


cdef bint note_answer(ShardState* shard, Principal* principal, const Span* topic, const Span* payload) noexcept nogil:
    cdef Tracking* all = &shard.tracking
    cdef TrackedAnswer* answer
    cdef Span message_id
    if not message_id_of(principal, topic, &message_id):
        return False
    if not has_room(all, principal.account):
        all.lost += 1
        return False
    answer = new_answer(all)
    principal.account.answer_count += 1
    answer.principal_id = principal.principal_id
    answer.message_id_bytes = <uint8_t>message_id.n
    memcpy(answer.message_id, message_id.at, message_id.n)
    answer.payload_bytes = payload.n
    answer.payload = NULL
    if 0 < payload.n <= ANSWER_MAXIMUM_BYTES:
        answer.payload = <uint8_t*>take_memory(payload.n)
        memcpy(answer.payload, payload.at, payload.n)
        all.answer_bytes += payload.n
        principal.account.answer_bytes += payload.n
    return True
