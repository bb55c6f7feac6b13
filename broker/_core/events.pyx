"""What has happened to devices. See events.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.grants cimport release_principal
from broker._core.memory cimport give_memory, resize_memory, take_zeroed
from broker._core.model cimport (
    EVENT_CONNECTED,
    EVENT_DISCONNECTED,
    EVENT_REFUSED,
    EVENT_TAKEN_OVER,
    EVENTS_OF_LIFE,
    RARE_REFUSED,
    RARE_STORIES,
    STORY_EVENTS,
    STORY_NOISE,
    STORY_TEXT_BYTES,
    Account,
    Connection,
    Event,
    Principal,
    Rare,
    Session,
    ShardState,
    Story,
)
from broker._core.peers cimport peer_of
from broker._core.reasons cimport SESSION_TAKEN_OVER


cdef enum:
    RARE_MAXIMUM = 65536        # every connection has at most one barrier; log entries above this are dropped
    FIRST_EVENTS = 2
    ADDRESS_BYTES = 16


cdef void list_rare(
        ShardState* shard, uint8_t kind, uint8_t reason_code, uint32_t slot, uint32_t generation) noexcept nogil:
    cdef Rare* rare
    if shard.rare_count == shard.rare_capacity:
        if kind >= RARE_REFUSED and kind != RARE_STORIES and shard.rare_capacity >= RARE_MAXIMUM:
            return
        shard.rare_capacity = shard.rare_capacity * 2 if shard.rare_capacity else 64
        shard.rare = <Rare*>resize_memory(shard.rare, shard.rare_capacity * sizeof(Rare))
    rare = &shard.rare[shard.rare_count]
    rare.kind = kind
    rare.reason_code = reason_code
    rare.why = 0
    rare.slot = slot
    rare.generation = generation
    shard.rare_count += 1


cdef void explain_rare(ShardState* shard, uint8_t kind, uint8_t why, uint32_t slot, uint32_t generation) noexcept nogil:
    cdef Rare* rare
    if shard.rare_count:
        rare = &shard.rare[shard.rare_count - 1]
        if rare.kind == kind and rare.slot == slot and rare.generation == generation:   # else there was no room for it
            rare.why = why


# ---------------------------------------------------------------- stories and their lists

cdef inline bint is_told(ShardState* shard, Principal* principal) noexcept nogil:
    return shard.watched and principal.device_id_bytes != 0


cdef Story* need_story(Principal* principal) noexcept nogil:
    if principal.story == NULL:
        principal.story = <Story*>take_zeroed(sizeof(Story))
        principal.story.principal = principal
        principal.refs += 1
    return principal.story


cdef void call_for_stories(ShardState* shard) noexcept nogil:
    if not shard.called:
        shard.called = 1
        list_rare(shard, RARE_STORIES, 0, 0, 0)


cdef void append_account(ShardState* shard, Account* account) noexcept nogil:
    account.telling = 1
    account.telling_next = NULL
    if shard.telling_tail != NULL:
        shard.telling_tail.telling_next = account
    else:
        shard.telling_head = account
    shard.telling_tail = account


cdef Story* story_of_life(ShardState* shard, Principal* principal) noexcept nogil:
    cdef Account* account = principal.account
    cdef Story* story = need_story(principal)
    if story.listed:
        return story
    story.listed = 1
    story.next = NULL
    if account.stories_tail != NULL:
        account.stories_tail.next = story
    else:
        account.stories = story
    account.stories_tail = story
    if not account.telling:
        append_account(shard, account)
    call_for_stories(shard)
    return story


cdef Story* noisy_story(ShardState* shard, Principal* principal) noexcept nogil:
    cdef Story* story = need_story(principal)
    if story.noisy:
        return story
    story.noisy = 1
    story.noisy_next = NULL
    if shard.noisy_tail != NULL:
        shard.noisy_tail.noisy_next = story
    else:
        shard.noisy_head = story
    shard.noisy_tail = story
    shard.noisy_count += 1
    return story


cdef Story* next_story(ShardState* shard) noexcept nogil:
    cdef Account* account = shard.telling_head
    cdef Story* story
    if account == NULL:
        return NULL
    shard.telling_head = account.telling_next
    if shard.telling_head == NULL:
        shard.telling_tail = NULL
    account.telling = 0
    story = account.stories
    account.stories = story.next
    if account.stories == NULL:
        account.stories_tail = NULL
    else:
        append_account(shard, account)      # behind the others
    story.listed = 0
    return story


cdef Story* next_noisy(ShardState* shard) noexcept nogil:
    cdef Story* story = shard.noisy_head
    if story != NULL:
        shard.noisy_head = story.noisy_next
        if shard.noisy_head == NULL:
            shard.noisy_tail = NULL
        shard.noisy_count -= 1
        story.noisy = 0
    return story


cdef void end_story(ShardState* shard, Story* story) noexcept nogil:
    # All of it was taken: one that still stands on a list goes when its turn comes.
    cdef Principal* principal = story.principal
    if story.listed or story.noisy:
        story.count = 0
        story.noise = 0
        story.lost = 0
        memset(story.drops, 0, sizeof(story.drops))
        return
    principal.story = NULL
    give_memory(story.events)
    give_memory(story)
    release_principal(shard, principal)


cdef void events_close(ShardState* shard) noexcept nogil:
    cdef Story* story = next_story(shard)
    while story != NULL:
        end_story(shard, story)
        story = next_story(shard)
    story = next_noisy(shard)
    while story != NULL:
        end_story(shard, story)
        story = next_noisy(shard)


# ---------------------------------------------------------------- events

cdef inline bint is_same(
        Event* event, uint8_t kind, uint8_t reason, const uint8_t* address, const uint8_t* text, uint32_t n
) noexcept nogil:
    return event.kind == kind and event.reason == reason and event.text_bytes == <uint16_t>n and \
        memcmp(event.address, address, ADDRESS_BYTES) == 0 and \
        memcmp(event.text, text, min(n, <uint32_t>STORY_TEXT_BYTES)) == 0


cdef Event* find_event(
        Story* story, uint8_t kind, uint8_t reason, const uint8_t* address, const uint8_t* text, uint32_t n
) noexcept nogil:
    cdef int i
    for i in range(story.count):
        if is_same(&story.events[i], kind, reason, address, text, n):
            return &story.events[i]
    return NULL


cdef Event* new_event(Story* story, uint8_t kind) noexcept nogil:
    cdef Event* event
    if story.count == STORY_EVENTS or (kind > EVENTS_OF_LIFE and story.noise == STORY_NOISE):
        return NULL
    if story.count == story.capacity:
        story.capacity = story.capacity * 2 if story.capacity else FIRST_EVENTS
        story.events = <Event*>resize_memory(story.events, story.capacity * sizeof(Event))
    event = &story.events[story.count]
    memset(event, 0, sizeof(Event))
    event.kind = kind
    story.count += 1
    if kind > EVENTS_OF_LIFE:
        story.noise += 1
    return event


cdef Event* last_of(Story* story, uint8_t kind, uint8_t reason) noexcept nogil:
    # Where there is no room for another: one that differs in less than its reason counts it as well.
    cdef int i = story.count
    while i:
        i -= 1
        if story.events[i].kind == kind and story.events[i].reason == reason:
            return &story.events[i]
    return NULL


cdef Event* note(
        ShardState* shard, Story* story, uint8_t kind, uint8_t reason, Connection* connection, const uint8_t* text,
        uint32_t n) noexcept nogil:
    cdef const uint8_t* address = peer_of(shard, connection).address
    cdef Event* event = find_event(story, kind, reason, address, text, n)
    if event == NULL:
        event = new_event(story, kind)
    if event == NULL:
        event = last_of(story, kind, reason)
    if event == NULL:
        story.lost += 1
        shard.counters.events_lost += 1
        return NULL
    if event.count == 0:
        event.first_ns = shard.now_ns
    event.reason = reason
    event.last_ns = shard.now_ns
    event.count += 1
    event.version = connection.version
    event.door = shard.listener_door[connection.listener]
    event.text_bytes = <uint16_t>n
    memcpy(event.address, address, ADDRESS_BYTES)
    memcpy(event.text, text, min(n, <uint32_t>STORY_TEXT_BYTES))
    return event


cdef inline const uint8_t* client_of(Session* session) noexcept nogil:
    if session.client_id_bytes <= sizeof(session.client_id):
        return <const uint8_t*>session.client_id
    return (<const uint8_t**>session.client_id)[0]


cdef void note_connected(ShardState* shard, Connection* connection, bint resumed) noexcept nogil:
    cdef Principal* principal = connection.grant.principal
    cdef Session* session = connection.session
    cdef Event* event
    peer_of(shard, connection).connected_at_ns = shard.now_ns
    if not is_told(shard, principal):
        return
    event = note(
        shard, story_of_life(shard, principal), EVENT_CONNECTED, 0, connection, client_of(session),
        session.client_id_bytes)
    if event != NULL:
        event.resumed = resumed


cdef void note_disconnected(ShardState* shard, Connection* connection) noexcept nogil:
    cdef Principal* principal = connection.grant.principal
    cdef Session* session = connection.session
    cdef uint8_t reason = connection.close_reason if connection.close_reason else shard.farewell
    if is_told(shard, principal) and reason != SESSION_TAKEN_OVER:
        note(
            shard, story_of_life(shard, principal), EVENT_DISCONNECTED, reason, connection, client_of(session),
            session.client_id_bytes)


cdef void note_takeover(ShardState* shard, Session* session, Connection* connection) noexcept nogil:
    cdef Principal* principal = session.principal
    cdef Event* event
    if not is_told(shard, principal):
        return
    event = note(
        shard, story_of_life(shard, principal), EVENT_TAKEN_OVER, 0, connection, client_of(session),
        session.client_id_bytes)
    if event != NULL:
        memcpy(event.other, peer_of(shard, session.connection).address, ADDRESS_BYTES)


cdef void note_refused(
        ShardState* shard, Connection* connection, Principal* principal, uint8_t refusal, const uint8_t* client_id,
        uint32_t n) noexcept nogil:
    if is_told(shard, principal):
        note(shard, story_of_life(shard, principal), EVENT_REFUSED, refusal, connection, client_id, n)


cdef void note_often(
        ShardState* shard, Connection* connection, uint8_t kind, const uint8_t* text, uint32_t n) noexcept nogil:
    cdef Principal* principal = connection.grant.principal
    if is_told(shard, principal):
        note(shard, noisy_story(shard, principal), kind, 0, connection, text, n)
