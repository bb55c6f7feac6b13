# Every struct of the core, in one place: sessions, connections and the journal point at each other, and Cython
# cannot cimport in circles.
#
# Here belong the shapes of data and their constants. Not here: behaviour; each struct has one module that changes it.
# Times are int64 nanoseconds on the owner's monotonic clock; sizes are bytes.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.arena cimport Arena
from broker._core.memory cimport BufferPool, Slab
from broker._core.table cimport Link, Table
from broker._core.tls cimport TlsStream

# ---------------------------------------------------------------- words

cdef enum ConnectionState:
    AWAIT_CONNECT = 0       # nothing proven; the connect deadline runs
    AUTHENTICATING = 1      # a CONNECT waits for the Authenticator; nothing is read
    CONNECTED = 2
    CLOSING = 3             # the last bytes may still leave; nothing is read; freed at the end of the round

cdef enum Local:
    LOCAL_FD = -2           # in place of a descriptor: a connection from inside this process, which Python feeds
    LOCAL_LISTENER = 255    # in place of a listener's number

cdef enum Hearing:          # of a connection's socket
    HEARING = 0
    DEAF = 1                # EPOLLIN is not armed
    WAKING = 2              # nor is it now, but the connection stands on the list of those that may be read again

cdef enum DropReason:       # the same numbers as broker.reasons.DropReason
    DROP_OUTBOX_FULL = 0            # QoS 0 above the outbox's soft limit
    DROP_QUEUE_FULL = 1             # the session's queue is at its limit
    DROP_PACKET_TOO_LARGE = 2       # above the receiver's Maximum Packet Size [MQTT-3.1.2-25]
    DROP_MESSAGE_EXPIRED = 3        # waited longer than its Message Expiry Interval [MQTT-3.3.2-5]
    DROP_SESSION_ENDED = 4          # still queued or inflight when the session ended
    DROP_NOT_AUTHORIZED = 5         # a QoS 0 PUBLISH without the right to its topic
    DROP_CLIENT_AWAY = 6            # QoS 0 for a kept session whose client is away
    DROP_DEVICE_BUDGET_FULL = 7     # the principal's budget of queued bytes
    DROP_ACCOUNT_BUDGET_FULL = 8    # the account's budget of queued or unsent bytes
    DROP_BROKER_BUDGET_FULL = 9     # the process's
    DROP_QUOTA_EXCEEDED = 10        # a QoS 0 PUBLISH beyond the month's messages or bandwidth
    DROP_RETAINED_FULL = 11         # a QoS 0 PUBLISH that would be retained, beyond the number or bytes allowed
    DROP_NO_MEMBER = 12             # a shared subscription of which no member could take it
    DROP_NEGATIVE_ACK = 13          # the receiver refused it with a reason code of 0x80 or above
    DROP_LOST = 14                  # its message could not be read from the disk any more
    DROP_REASONS = 15

cdef enum RareKind:
    RARE_CONNECT = 1        # a CONNECT that the core does not know
    RARE_PACKET = 2         # SUBSCRIBE, UNSUBSCRIBE, AUTH of a connected client
    RARE_UPGRADE = 3        # the request of a WebSocket handshake
    RARE_REFUSED = 4        # for the log: a client was not let in, with a reason code
    RARE_CLOSED = 5         # for the log: a connected client was closed with a reason code
    RARE_TLS_FAILED = 6     # for the log: no handshake; OpenSSL's reason in place of a packet
    RARE_STORIES = 7        # of no connection: stories of devices can be taken
    RARE_PROXY_REFUSED = 8  # for the log: by a listener for proxies came who is none, or what is no PROXY header

cdef enum PromiseKind:      # an acknowledgement is named by its packet type
    PROMISE_BYTES = 1       # a rare packet made by engine/ (SUBACK, UNSUBACK), kept until its ticket
    PROMISE_GATE = 2        # a CONNACK, and all that stands behind it in the outbox
    PROMISE_PUBLISH = 3     # of QoS 2, to a session on disk: its identifier is recorded first
    PROMISE_ONCE = 8        # a PUBLISH of QoS 0 that another session had on disk, which has it no more

cdef enum InflightState:    # of an outbound delivery, beside its packet identifier in the ring
    INFLIGHT_PUBLISH_1 = 1 << 16    # PUBLISH of QoS 1 sent, PUBACK awaited
    INFLIGHT_PUBLISH_2 = 2 << 16    # PUBLISH of QoS 2 sent, PUBREC awaited
    INFLIGHT_PUBREL = 3 << 16       # PUBREL sent, PUBCOMP awaited
    INFLIGHT_STATE = 3 << 16        # the mask of these
    INFLIGHT_UNSENT = 4 << 16       # of an earlier connection and not sent on this one yet: it holds no unit of quota
    INFLIGHT_HELD = 8 << 16         # of PUBLISH_2: its bytes have not left on any connection

cdef enum EventKind:        # the same numbers as broker.stories.EventKind
    EVENT_CONNECTED = 1
    EVENT_DISCONNECTED = 2
    EVENT_TAKEN_OVER = 3
    EVENT_REFUSED = 4
    EVENTS_OF_LIFE = 4      # up to here told at once, above gathered for a while
    EVENT_THROTTLED = 5
    EVENT_DENIED_PUBLISH = 6
    EVENT_DENIED_SUBSCRIBE = 7
    EVENT_QUOTA = 8

cdef enum Farewell:         # how a connection ended, where no reason code of an error says it
    FAREWELL_NORMAL = 0
    FAREWELL_LOST = 1       # the network ended, without a DISCONNECT
    FAREWELL_WITH_WILL = 4

cdef enum Refusal:          # why a CONNECT was refused although its login is good; as broker.stories.Refused
    REFUSED_FROM_ELSEWHERE = 1
    REFUSED_WILL_TOPIC = 2
    REFUSED_WILL_SIZE = 3
    REFUSED_DEVICE_CONNECTIONS = 4
    REFUSED_ACCOUNT_CONNECTIONS = 5
    REFUSED_DEVICE_SESSIONS = 6
    REFUSED_ACCOUNT_SESSIONS = 7
    REFUSED_BROKER_SESSIONS = 8
    REFUSED_DISK = 9
    REFUSED_PACKET_SIZE = 10

cdef enum ProxyRefusal:     # as broker.engine.core.ProxyRefused
    PROXY_UNTRUSTED = 1
    PROXY_MALFORMED = 2

cdef enum DurabilityLevel:          # the same numbers as broker.ports.Durability's order
    LEVEL_MEMORY = 0        # nothing is written
    LEVEL_RELAXED = 1       # promised at once, on disk within a second
    LEVEL_SYNCED = 2        # promised when it is on disk
    LEVELS = 3

cdef enum Door:                     # by what a connection comes in; the protocols in the order of their ports
    DOOR_MQTT = 0
    DOOR_MQTTS = 1
    DOOR_WS = 2
    DOOR_WSS = 3
    DOOR_INSIDE = 4         # from inside this process
    DOORS = 5

cdef enum QueueFullPolicy:          # what happens to a message for a session that has no room
    QUEUE_DROPS_NEWEST = 0
    QUEUE_DROPS_OLDEST = 1  # the oldest of that session go instead
    QUEUE_REFUSES = 2       # its publisher is refused, and nobody gets it

cdef enum TimerKind:
    TIMER_CONNECT_DEADLINE = 1
    TIMER_KEEP_ALIVE = 2
    TIMER_LINGER = 3            # a refused peer may still read why
    TIMER_RATE_PAUSE = 4        # of a connection that was too fast: it is read again
    TIMER_SESSION = 5           # of a session whose client is away: its will is due, or its end
    TIMER_RETAINED = 6          # of a retained message that expires
    TIMER_DAMPED = 7            # of a CONNECT that waits because its session was taken over a moment ago

cdef enum Work:             # one unit is about what a small delivery takes, some 50 ns
    WORK_BYTES = 1024       # of a packet that is copied, for one unit
    WORK_STEPS = 4          # nodes of the trie that are visited
    WORK_RECEIVERS = 8      # subscriptions that are looked at
    WORK_COLD = 4           # units of what was touched long ago: a retained message that is set, sent or removed

cdef enum HoldBack:         # why a connection is not parsed; several may hold
    HELD_BACK = 1           # until promises or outbox go down
    YIELDED = 2             # its slice was used up; the rest of its inbox is parsed in the next
    RATED = 4               # it was faster than it may be, until its timer fires

cdef enum Waiting:          # what a session has to send before anything new
    WAITING_QUEUE = 1
    WAITING_AGAIN = 2       # packets of an earlier connection
    WAITING_RUNS = 4        # retained messages: what is new does not wait for them
    WAITING_TURN = 8        # shared subscriptions on its bench: they get their turns back with quota and room
    WAITING_PARKED = 16     # deliveries of its queue are on disk alone
    WAITING_LOAD = 32       # and have been asked for
    WAITING_FIRST = 19      # what is new goes behind these

cdef enum Ending:
    ENDING = 1              # out of the table; what is left of it goes in slices
    ENDING_LISTED = 2       # what it has inflight is listed, to be handed over

cdef enum Layouts:
    LAYOUTS = 4             # (version 5) * 2 + (QoS above 0)

# ---------------------------------------------------------------- time

cdef struct Timer:
    Timer* next
    Timer* previous
    void* owner
    int64_t deadline_ns
    uint8_t kind
    uint8_t armed
    uint8_t level
    uint8_t slot

cdef enum WheelSize:
    WHEEL_LEVELS = 5
    WHEEL_SLOTS = 64
    WHEEL_TICK_BITS = 24    # one tick is 2**24 ns, 16.8 ms; the last level spans 208 days and is walked again

cdef struct Wheel:
    Timer* slots[5][64]
    uint64_t occupied[5]    # bit s: slots[level][s] is not empty
    int64_t tick            # everything before this tick has fired
    uint32_t armed

# ---------------------------------------------------------------- messages

cdef struct Message:
    # A refcounted application message. Topic name, forwardable properties and payload follow the struct.
    uint32_t refs
    uint32_t topic_bytes
    uint32_t properties_bytes
    uint32_t payload_bytes
    uint8_t qos
    uint8_t retain
    uint8_t version             # of the publisher: 5 has properties
    uint8_t size_class
    uint32_t message_expiry_s   # 0xFFFFFFFF: never
    uint32_t publisher          # of a retained one: the hash of the session that published it, for no local
    uint32_t expiry_offset      # where the four bytes of the interval lie in the properties
    int64_t received_at_ns
    uint64_t number             # on disk, 0: it has none
    Promise* promise            # the acknowledgement that may leave when all who keep it have acknowledged, or NULL
    uint32_t outstanding        # deliveries to sessions on disk that are not acknowledged; of one read from disk: 0
    uint32_t entry              # its place in the journal's open batch
    uint32_t tracking           # somebody asks what becomes of it, under this number; 0: nobody does

cdef enum MessageConstants:
    MESSAGE_SIZE_CLASSES = 6    # 128 << n bytes, struct included; larger ones are malloc's

# ---------------------------------------------------------------- topics

cdef struct SubscriberSet:      # those who subscribed to one filter, and the shared groups of it
    Subscription** items        # while there is room for one alone: that one itself, see subscribers_of
    uint32_t count
    uint32_t capacity           # 0: there is room for one

cdef struct Topic:              # an exact topic filter; begins as a Link
    Topic* next
    uint32_t hash
    uint32_t name_bytes
    SubscriberSet subscribers
    # the name follows

cdef struct TrieNode:           # one level of the filters with wildcards; begins as a Link
    TrieNode* next
    uint32_t hash
    uint32_t children           # in the hash: '+' and '#' not counted
    TrieNode* parent
    TrieNode* plus              # the child for '+'
    TrieNode* many              # the child for '#'
    SubscriberSet here          # of the filter that ends here; with a tail, of the one that ends with it
    uint16_t level_at           # of its text; in front of it, what stood here before levels were split off
    uint16_t level_bytes
    uint16_t text_bytes         # text behind the level: its tail, the rest of the only filter that goes on from here
    # the text follows

cdef struct TopicSpace:         # the private topics of one account
    Table topics
    Table nodes
    Table groups                # by share name and filter
    TrieNode* root
    uint32_t wildcards          # entries in sets of the trie
    uint32_t subscription_count
    uint64_t filter_bytes       # subscriptions and their filters, as if each had its filter to itself
    uint32_t system_filters     # subscriptions to the broker's figures

cdef struct Subscription:
    Session* session            # NULL: it stands for a shared group, and is the SharedGroup's first field
    void* owner                 # the Topic, TrieNode or SharedGroup that it belongs to
    Subscription* next          # of the same session
    Subscription* previous
    uint32_t index              # in its set, or among the group's members
    uint32_t identifier         # Subscription Identifier, 0: none
    uint32_t refs               # fan-outs that still name it; freed at 0 when dead
    uint8_t qos
    uint8_t no_local
    uint8_t retain_as_published
    uint8_t owner_kind          # an OwnerKind
    uint8_t dead
    uint8_t has_run             # retained messages are still being delivered to it
    uint8_t benched             # of a group: it stands on its session's bench
    uint8_t of_system           # its filter is one of the broker's figures, below $SYS
    uint16_t filter_bytes       # of its filter, as in SUBSCRIBE

cdef enum OwnerKind:
    OWNER_TOPIC = 0
    OWNER_NODE = 1
    OWNER_GROUP = 2

cdef struct SharedGroup:        # the members of one share name and filter
    Subscription entry          # stands in the filter's set; refs: fan-outs, queued and inflight deliveries
    Link link                   # in the space's groups
    Subscription** members      # ordinary subscriptions: first those whose turn may come, then others that are
    uint32_t count              # connected, then those who are away
    uint32_t capacity
    uint32_t able               # members that could take a message when last looked at
    uint32_t connected          # they, and those who were full
    uint32_t next_able          # whose turn it is, in each of the three parts
    uint32_t next_full
    uint32_t next_away
    uint32_t name_bytes
    # the share name follows

cdef struct RetainedNode:       # one level of the topics that have a retained message
    RetainedNode* next          # in its bucket
    RetainedNode* parent        # NULL: the root
    RetainedNode* first_child
    RetainedNode* next_sibling
    RetainedNode* previous_sibling
    Retained* retained          # of the topic that ends here, or NULL
    uint32_t hash
    uint32_t pins               # runs that stand here: it stays linked while there are any
    uint16_t level_bytes
    # the level's bytes follow at once

cdef struct Retained:           # the retained message of one topic
    Message* message
    RetainedNode* node
    Principal* author           # whose rights it stands on, and whose quota; NULL: the server. Holds a reference
    Retained* author_next
    Retained* author_previous
    RetainedExpiry* expiry      # of one that expires, else NULL
    uint64_t serial             # in the order of setting
    uint64_t number             # of its record, 0: it has none
    uint32_t change             # its place + 1 among those whose record is to be written, 0: it is not

cdef struct RetainedExpiry:
    Timer timer                 # its owner is the Retained
    Account* account

cdef struct RetainedSpace:      # of one account
    RetainedNode** buckets      # grows and shrinks by one bucket at a time, so that no publish pays for all
    RetainedNode* root          # NULL: nothing was ever retained
    uint32_t bucket_count
    uint32_t bucket_capacity
    uint32_t bucket_mask        # of the largest power of two that is not above bucket_count
    uint32_t node_count
    uint32_t count
    uint64_t bytes

cdef struct RetainedRun:        # the retained messages that one new subscription has still to get
    RetainedRun* next           # of the same session
    Subscription* subscription  # holds a reference; the run ends when it is dead
    RetainedNode* at            # the next one to be looked at, pinned; NULL: the run is at its end
    uint64_t serial             # what was set after the subscription has been delivered to it already
    uint64_t after_ticket       # its SUBACK leaves when this one is settled, and nothing of the run before that
    uint32_t depth              # of `at`: the root has 0
    uint16_t levels             # of the filter
    uint8_t ends_with_hash
    # where each level begins and, one further, the length plus 1: uint32_t each; then the filter

cdef struct Receiver:
    Subscription* subscription
    int32_t also                # index of the next receiver entry of the same session, -1: none
    uint8_t qos                 # the highest of the session's matching subscriptions [MQTT-3.3.4-2]
    uint8_t retain_as_published
    uint8_t merged              # 1: delivered with an earlier entry
    uint8_t recorded            # the delivery is in the message's record already

cdef struct FanOut:             # what is left of a routing that did not fit into its slice
    FanOut* next
    FanOut* previous
    Message* message
    Account* account
    Connection* publisher       # NULL when it went away or there was none
    Receiver* receivers
    uint32_t at
    uint32_t count
    uint64_t ticket
    uint16_t packet_id
    uint8_t acknowledge         # the packet type that is owed to the publisher at the end: PUBACK, PUBREC, or 0

# ---------------------------------------------------------------- identity

cdef struct Usage:                  # PUBLISH packets and their bytes (contract, section 4)
    uint64_t messages_in
    uint64_t bytes_in
    uint64_t messages_out
    uint64_t bytes_out

cdef enum Quota:
    WITHOUT_END = 0x4000000000000000           # left of a quota that there is not

cdef struct AccountLimits:          # 0: without limit
    uint32_t connections_maximum
    uint32_t applications_reserved  # of them, for applications alone
    uint32_t sessions_maximum
    uint32_t retained_maximum
    uint64_t retained_maximum_bytes
    uint64_t queue_maximum_bytes
    uint64_t outbox_maximum_bytes
    uint64_t filters_maximum_bytes
    uint8_t queue_full_policy       # a QueueFullPolicy + 1, 0: the broker's

cdef struct Account:
    Account* next
    Account* busy_next
    FanOut* fan_outs            # unfinished, oldest first
    FanOut* fan_out_tail
    uint32_t account_id
    uint32_t sessions
    uint32_t orphans            # of them: publisher gone or never was, so that nothing else keeps their order
    uint8_t busy
    TopicSpace space
    RetainedSpace retained
    AccountLimits limits
    uint32_t principals
    uint32_t connections
    uint32_t device_connections     # of them: not applications'
    uint32_t by_door[5]             # of them, by Door
    uint32_t peak                   # the most at once on day `peak_day`, those from inside not counted
    uint32_t peak_day
    uint64_t queued_bytes
    uint64_t outbox_bytes           # memory of outboxes
    int64_t messages_left       # of the month's quota, both directions together; it goes on below 0
    int64_t bytes_left
    Usage own                   # of what belongs to no principal, since it was last taken
    Account* usage_next         # others with usage of their own that was not taken yet
    uint8_t usage_listed
    uint8_t telling                 # it stands among those with stories to be told
    uint64_t recorded_ticket        # of the batch that has
    uint64_t recorded_bytes         # so many bytes of its subscriptions
    uint8_t heard                   # what its devices answer to messages is noted
    uint32_t answer_count           # of those notes, as of `answers_round`
    uint32_t answers_round
    uint64_t answer_bytes
    uint8_t known                   # it was given limits or a quota: it is no number that somebody has made up
    uint64_t drops[15]
    Story* stories                  # of its devices, to be told soon, oldest first
    Story* stories_tail
    Account* telling_next           # others with such stories

cdef struct GrantLimits:            # what one principal may use; shared by all with the same figures. 0: without limit
    GrantLimits* next
    uint32_t messages_per_s
    uint32_t burst_messages
    uint32_t connections_maximum
    uint32_t sessions_maximum
    uint32_t subscriptions_maximum  # of one session
    uint32_t retained_maximum
    uint32_t payload_maximum_bytes
    uint64_t queue_maximum_bytes    # of all its sessions
    # what follows from them
    uint32_t payload_bytes          # the largest payload, the shard's own limit included
    uint32_t packet_bytes           # the largest packet, as it is announced
    # the bucket, in nanoseconds of its refill
    int64_t token_ns                # that bring one token; 0: no rate limit
    int64_t capacity_ns             # that fill it
    int64_t calm_ns                 # what it holds when a packet of somebody who keeps to his rate comes
    int64_t back_ns                 # what it gets back before its owner is read again
    int64_t strained_ns             # what it may lack after a packet before it is worth a closer look

cdef struct Activity:               # of a principal that has done something; an idle one has none
    Usage usage                     # since it was last taken
    uint64_t queued_bytes           # of all its sessions
    Retained* authored              # retained messages that it has set
    uint32_t retained_count
    Principal* usage_next           # others with usage that was not taken yet
    int64_t full_at_ns              # when its bucket would be full again: the rate limit's only state
    int64_t excess_since_ns         # 0: it keeps to its rate
    int64_t late_ns                 # of what it holds, so much came because its pause ended late
    int64_t slowed_until_ns         # it was closed for what it did: who comes back before that is not read until then
    uint32_t drops[15]

cdef struct Event:              # something that has happened to a device, once or several times
    int64_t first_ns
    int64_t last_ns
    uint32_t count
    uint16_t text_bytes         # of the whole text; what is kept of it may be less
    uint8_t kind                # an EventKind
    uint8_t reason              # of DISCONNECTED: a reason code or a Farewell; of REFUSED: a Refusal
    uint8_t version
    uint8_t door
    uint8_t resumed             # an earlier session goes on
    uint8_t address[16]         # of the peer
    uint8_t other[16]           # of TAKEN_OVER: of the peer that had to go
    uint8_t text[96]            # client id, topic name or filter, cut

cdef enum StoryRoom:
    STORY_EVENTS = 16           # kept of one device until they are taken
    STORY_NOISE = 8             # of them, at most, such as are gathered
    STORY_TEXT_BYTES = 96

cdef struct Story:              # what has happened to one device and was not taken yet
    Story* next                 # of the same account, to be told soon
    Story* noisy_next           # all that are told when they have been gathered for a while
    Principal* principal        # holds a reference
    Event* events
    uint32_t drops[15]          # by DropReason
    uint32_t lost               # events without room
    uint8_t count
    uint8_t capacity
    uint8_t noise               # events that are gathered
    uint8_t listed              # with its account
    uint8_t noisy               # among those that are gathered

cdef struct Peer:               # of a connection, by its slot: what is looked at when somebody asks
    uint8_t address[16]         # IPv4 mapped; zeros: a Unix socket, or none
    int64_t connected_at_ns     # when its CONNECT was accepted

cdef struct Principal:              # begins as a Link does
    Principal* next
    uint32_t hash
    uint32_t principal_id
    Account* account
    Session* sessions               # all of its sessions
    CompiledPolicy* policy          # as last granted: for what happens while no connection is there, such as a will
    GrantLimits* limits
    Activity* activity
    Usage* usage                    # the activity's while it stands on the list of those that count, else NULL
    uint32_t refs                   # grants and sessions that name it, and its retained messages
    uint32_t connections
    uint32_t session_count
    uint16_t name_bytes
    uint16_t device_id_bytes
    uint32_t grants                 # of it, in the table
    uint8_t revoked                 # it has no rights any more: nothing of it is published
    uint8_t nameless                # known by what it has retained on disk: nobody has said yet who it is
    uint8_t told_online             # what its last story said
    int64_t last_seen_ns
    Story* story                    # what is to be told of it, NULL: nothing
    # name, then device_id follow

cdef enum PatternLevel:
    LEVEL_LITERAL = 0
    LEVEL_DEVICE_ID = 1
    LEVEL_PLUS = 2
    LEVEL_HASH = 3

cdef struct PolicyLevel:
    uint8_t kind
    uint16_t bytes
    const uint8_t* literal

cdef struct PolicyPattern:
    uint32_t level_count
    uint8_t refuses             # written with a leading `!`: what it covers is refused, whatever stands behind it
    PolicyLevel* levels

cdef struct CompiledPolicy:
    CompiledPolicy* next
    uint32_t refs               # of grants, principals and sessions
    uint32_t publish_count
    uint32_t subscribe_count
    PolicyPattern* publish
    PolicyPattern* subscribe

cdef struct Grant:                  # begins as a Link does
    Grant* next
    uint32_t hash
    uint32_t connections
    uint8_t credential[32]
    Principal* principal
    CompiledPolicy* policy
    GrantLimits* limits
    Connection* first           # that came in with it
    int64_t used_at_ns          # somebody last came in with it, 0: nobody since the start
    uint8_t durability          # a DurabilityLevel: the strongest that its connections have
    uint8_t revoked             # not in the table: freed with its last connection

# ---------------------------------------------------------------- sessions and connections

cdef struct Queued:             # a delivery that waits for quota or room; it has no packet identifier yet (law 7)
    Message* message
    uint32_t* identifiers       # subscription identifiers, NULL: none; the memory is the entry's own
    SharedGroup* group          # that chose this session, NULL: none; holds a reference on its entry
    uint32_t identifier_count
    uint8_t qos
    uint8_t retain

cdef struct Queue:              # a ring; a session without queued messages has none
    Queued* entries
    uint64_t bytes
    uint32_t head
    uint32_t count
    uint32_t capacity

cdef struct InflightBody:       # what is needed to send a delivery again, or to hand it over
    Message* message            # NULL: nothing is kept of this one, or with a number: it is on disk alone
    uint64_t number             # of its message on disk, 0: none
    uint32_t* identifiers       # the first says how many follow; NULL: none
    SharedGroup* group
    uint32_t serial             # order of sending; of a PUBREL, of its PUBREC [MQTT-4.6.0-1] [MQTT-4.6.0-4]
    uint32_t size               # as it is counted in budgets
    uint32_t tracking           # its message's
    uint8_t retain
    uint8_t grouped             # without its message: it belongs to a shared group

cdef struct Parked:             # a queued delivery whose message is on disk alone
    uint64_t number
    uint32_t size               # as it is counted in budgets
    uint8_t qos
    uint8_t retain
    uint8_t grouped             # it belongs to a shared group
    uint8_t tracked             # somebody asks what becomes of its message

cdef struct ParkedRing:
    Parked* entries
    uint32_t head
    uint32_t count
    uint32_t capacity

cdef struct QueueRun:           # deliveries that wait one after the other: all that the session has between two numbers
    uint64_t first              # what is below it has been looked up
    uint64_t last
    uint64_t bytes
    uint64_t unread             # a chunk of it that cannot be read, 0: none
    uint64_t place              # of the first delivery in the chunk that is read next, or is being read
    uint8_t* places             # how far it is from one to the next: of the first delivery in each chunk. NULL: in one
    uint32_t places_at          # bytes of those that are behind it
    uint32_t places_bytes
    uint32_t count
    uint8_t apart               # between the run before and this one something may lie that does not wait

cdef struct QueueRuns:
    ParkedRing front            # what has been looked up, or was put back: it stands before the first run
    QueueRun* runs
    uint32_t count
    uint32_t capacity

cdef struct Durable:            # of a session that is on disk
    uint64_t number             # given once, never again
    uint64_t recorded           # the last message that has a delivery for it: it has one at most
    uint64_t high               # the highest number of a message that was taken out of its queue, or never put there
    uint64_t wanted             # the chunk that it waits for, 0: none
    Session* session
    Durable* wait_next          # others that wait for the same chunk
    Durable* wait_previous
    void* restoring             # what was found of it, while the shard is restored
    Durable* next               # in the shard's table by number
    Durable* dirty_next         # others with ops that are in no flow record
    Durable* dirty_previous
    ParkedRing parked           # what waits on disk alone, one by one; behind the runs where there are any
    QueueRuns* runs             # NULL: there are none
    uint64_t parked_bytes       # of all that is parked
    uint64_t whole_from         # all that is recorded for it with a number from here on waits: see runs
    uint32_t parked_count
    uint32_t crowded_at         # so many one by one, and those that may become a run, 0: as many as in the journal
    uint8_t dirty               # 1: it stands on a list of those with such ops
    uint8_t connected           # as its record says
    uint8_t has_flow            # there is a flow record of it
    uint8_t unordered           # what is queued did not come in the order of its numbers
    uint8_t grouped             # it may have to hand over messages of shared groups when it ends
    uint8_t ended               # its records are deleted: nothing more is written of it
    uint8_t bearer              # it is there for a will alone
    uint8_t crowded             # it stands on the list of those of whose queues runs are made
    uint64_t since_ticket       # that has its record; 0: it came from the disk
    uint64_t put_ticket         # of the batch that has its record as it is, or was
    uint32_t put_at             # and where in `puts`, while that batch is open
    uint32_t put_bytes

cdef struct Will:
    Message* message            # as it is published, Will Delay Interval taken out of its properties
    uint32_t delay_s
    uint8_t lost_in_crash       # its client's connection ended with the process: who is back takes it back, however
    uint8_t written             # its client's level is not `memory`: what it retains goes to disk, recorded or not
    uint64_t number             # of the session's number on disk under which it is recorded, 0: it is not

cdef struct SessionExtra:       # what few sessions have
    Timer timer                 # while the client is away: whichever comes first of the next two
    int64_t will_at_ns          # 0: no will is waiting
    int64_t ends_at_ns          # 0: never
    Will will                   # message NULL: none
    uint16_t* qos2_ids          # inbound QoS 2 identifiers whose PUBREL is awaited: a table, 0 is free; or a bitmap
    uint32_t qos2_mask
    uint32_t qos2_count
    uint16_t* again             # packet identifiers to be sent again on this connection, in order
    uint32_t again_at
    uint32_t again_count
    Subscription** bench        # its shared subscriptions that have lost their turn until it has quota and room again
    uint32_t bench_count
    uint32_t bench_capacity
    RetainedRun* runs           # oldest first
    RetainedRun* last_run

cdef struct Session:
    Session* hash_next
    Session* principal_next     # others of the same principal
    Session* principal_previous
    Connection* connection      # NULL while its client is away
    Principal* principal
    CompiledPolicy* policy      # that its subscriptions were judged by
    Subscription* subscriptions
    Queue* queue                # NULL: nothing is queued
    uint32_t* inflight          # ring of packet identifier | InflightState, by id & mask; 0: free
    InflightBody* bodies        # beside it; NULL while nothing has to be kept
    SessionExtra* extra
    Durable* durable            # NULL: it is not on disk
    uint64_t[3] client_id       # its bytes, or where they are when they do not fit: see session.client_id_of
    uint64_t match_serial       # which match saw this session last
    uint32_t hash
    uint32_t session_expiry_interval_s      # 0: it ends with its connection
    uint32_t subscription_count
    uint32_t inflight_serial
    uint32_t inflight_bytes     # of the messages in `bodies`; they count like queued ones
    int32_t send_quota          # below 0 while more PUBRELs than that were sent again
    uint32_t match_index
    uint32_t parted             # its place + 1 among those whose connection has just gone; 0: it is not among them
    uint16_t inflight_mask
    uint16_t inflight_count
    uint16_t client_id_bytes
    uint16_t next_packet_id
    uint8_t waiting             # a Waiting
    uint8_t ending              # an Ending

cdef struct Alias:
    uint8_t* topic              # NULL: not in use
    uint32_t topic_bytes
    uint32_t hash               # outbound alone
    uint16_t number             # outbound alone

cdef struct Aliases:            # of one connection; they end with it [MQTT-3.3.2-7]
    Alias* inbound              # by number - 1
    Alias* outbound             # open addressing by topic
    uint32_t inbound_bytes      # of their topics
    uint16_t inbound_capacity
    uint16_t outbound_count
    uint16_t outbound_capacity

cdef struct Strangers:          # connections from one address that have proven nothing yet
    Strangers* next
    uint8_t address[16]
    uint32_t bucket
    uint32_t count

cdef enum TransportPhase:       # what the next bytes of a peer are
    PHASE_PROXY_HEADER = 0  # a PROXY header, in front of all else
    PHASE_HANDSHAKE = 1     # of TLS
    PHASE_UPGRADE = 2       # the request of a WebSocket handshake
    PHASE_OPEN = 3          # MQTT, in frames if it is a WebSocket

cdef struct WebSocket:          # frames of one connection, both ways; websocket.pyx
    uint64_t frame_left         # inbound: of the payload of this frame, not come yet
    uint32_t mask               # its key, turned to the next byte
    uint32_t out_left           # outbound: of the outbox, announced in a frame's header and not sent
    uint16_t close_code         # the code that our Close frame gives, 0: by the connection's end
    uint8_t header[14]          # inbound: of the next frame
    uint8_t header_bytes
    uint8_t opcode              # of the frame that is being read
    uint8_t fragmented          # a message has begun, and continues in the next frame
    uint8_t control[125]        # payload of a control frame that is being read
    uint8_t control_bytes
    uint8_t pong[125]           # what is owed to the newest Ping
    uint8_t pong_bytes
    uint8_t owes_pong
    uint8_t close_sent
    uint8_t ends_with_raw       # the upgrade was refused: no frame follows the answer
    uint8_t* raw                # outbound, before the next of the outbox: an HTTP answer, headers, control frames
    uint32_t raw_start
    uint32_t raw_end
    uint32_t raw_capacity

cdef struct Transport:          # between a socket and MQTT's bytes
    void* ssl                   # TLS by OpenSSL: its SSL,
    TlsStream stream            # and what that reads from
    void* tls_object            # TLS by Python's ssl: its TlsObject
    WebSocket* websocket        # NULL: it is none
    unsigned long why           # OpenSSL's reason why the handshake failed
    uint8_t phase
    uint8_t is_encrypted        # TLS comes before MQTT; its objects are made when its first bytes are there
    uint8_t queued              # its handle stands in a list of the reactor's
    uint8_t muted               # EPOLLIN is not armed while it waits for its turn to shake hands
    uint8_t unread              # TLS holds bytes that the kernel does not show any more
    uint8_t gone                # the peer has ended it: there is nobody to say good-bye to
    uint8_t ended               # the good-bye of TLS has been said
    uint8_t asked               # its listener asks for certificates,
    uint8_t presented           # and the peer has shown one, which was verified

cdef struct Connection:
    Connection* dirty_next
    Connection* ready_next
    Connection* closing_next
    Connection* waking_next
    Connection* grant_next      # others that came in with the same grant
    Connection* grant_previous  # while it has no grant: the Strangers among whom it is counted, NULL: it is not
    Session* session
    Grant* grant
    FanOut* fan_out             # its own PUBLISH that is still being routed
    Aliases* aliases            # topic aliases of both directions, NULL: none in use
    uint8_t* inbox              # a partial packet, or what waits behind a barrier
    uint8_t* outbox
    Held* held                  # promises that wait, NULL: none
    Transport* transport        # NULL: plain bytes on a socket, or none
    Timer timer
    int64_t last_packet_at_ns
    uint32_t slot
    uint32_t generation
    int32_t fd                  # -1: no socket (tests, or closed); LOCAL_FD: the peer is in this process
    uint32_t inbox_bytes
    uint32_t inbox_capacity
    uint32_t outbox_start
    uint32_t outbox_end
    uint32_t outbox_capacity
    uint32_t client_maximum_packet_size_bytes
    uint16_t keep_alive_s
    uint16_t client_receive_maximum
    uint16_t took_over_at       # when it took over a session, in low bits of the clock (64 ms); 0: it did not
    uint8_t listener
    uint8_t client_topic_alias_maximum      # of what it announced, as much as is used
    uint8_t state
    uint8_t version
    uint8_t barrier             # a rare packet waits in front of the inbox
    uint8_t dirty
    uint8_t ready
    uint8_t closing_listed
    uint8_t blocked             # the socket took less than all: EPOLLOUT is armed
    uint8_t deaf                # a Hearing
    uint8_t request_problem_information
    uint8_t close_reason        # reason code that closed it, 0: the peer did
    uint8_t held_back           # HoldBack
    uint8_t resumes             # was not parsed until now: its keep alive starts anew with the next slice
    uint8_t from_loopback       # the peer is on this machine
    uint8_t durability          # a DurabilityLevel: when it is acknowledged what it sends
    uint8_t gated               # nothing leaves: its CONNACK waits for a ticket
    uint8_t peer_ended          # the peer's WebSocket was closed behind bytes that are not done with yet
    uint8_t starved_or_lingering    # among the starved; of a CLOSING one: all is sent, what comes is thrown away

# ---------------------------------------------------------------- durability

cdef struct Promise:            # an acknowledgement, or what else may only leave when it is on disk
    Promise* next               # of the same connection: they leave in the order in which they were made
    Message* message            # PUBACK: when all who keep this have acknowledged, it leaves before its ticket
    Connection* connection
    uint64_t ticket             # leaves when this one is settled
    uint8_t* bytes              # PROMISE_BYTES: an encoded packet
    Message* kept               # PROMISE_ONCE: what is to be sent; holds a reference
    uint32_t byte_count
    uint32_t identifier         # PROMISE_ONCE: its Subscription Identifier, 0: none
    uint16_t packet_id
    uint8_t kind
    uint8_t reason_code
    uint8_t retain              # PROMISE_ONCE: its flag
    uint8_t done                # need not wait for its ticket any more

cdef struct Held:               # the promises of one connection
    Promise* first
    Promise* last
    Connection* connection
    Held* next                  # of other connections
    Held* previous
    Held* done_next
    uint32_t count              # of promises
    uint32_t publishes          # of them: PUBACKs and PUBCOMPs, what Receive Maximum counts
    uint32_t kept_count         # of them: PROMISE_ONCE
    uint64_t kept_bytes         # of their messages
    uint8_t done_listed         # its first promise may be done

cdef struct JournalEntry:       # a message in the batch that is being gathered or written
    Message* message            # holds a reference
    uint32_t account_id
    uint32_t pairs_at           # where its deliveries begin in Journal.pairs
    uint32_t pairs_bytes
    uint32_t pair_count

cdef struct Chunk:              # messages that were written together
    uint64_t first              # number of its first message: its key
    uint64_t last
    uint64_t ticket             # of its batch, 0: it came from the disk
    int64_t expires_at_ns       # when the first of its messages does, 0: none does
    uint32_t bytes
    uint32_t pairs
    uint32_t live               # deliveries that are not acknowledged: 0, and it is deleted
    Durable* waiting            # who waits for it to be read
    uint8_t asked               # it stands on the list of those to be read, or is being read
    uint8_t rewrite             # it is read to be written again without what is done
    uint8_t merges              # it is read to become one with its neighbours
    uint8_t stays               # it is damaged, and stays as it is
    uint64_t changed            # ticket of the batch in which it was written again; the disk has it as it was till then

cdef struct Remains:            # of a chunk that is written again
    uint8_t* at                 # where the next record goes
    uint32_t messages
    uint32_t pairs
    int64_t expires_at_ns

cdef struct Merging:            # of neighbours that become one chunk
    uint8_t* buffer             # their records, up to where `remains` stands
    uint32_t left               # chunks that are still being read
    uint64_t first              # key of the first of them, 0: nothing is being merged
    uint64_t last
    uint64_t key                # of the one that was taken last
    Remains remains

cdef struct OpsRecord:          # what happened in one batch, on disk
    uint64_t ticket
    uint32_t bytes

cdef struct RetainedChange:     # a retained message whose record goes with the open batch, as it is by then
    Retained* retained          # NULL: it has gone meanwhile
    uint32_t account_id

cdef struct EndedSession:       # a session on disk that has ended
    uint64_t ticket             # that has its end, 0: a free place
    uint32_t hash               # the session's

cdef struct Journal:
    uint64_t open_ticket        # what the batch being gathered will be called
    uint64_t settled_ticket     # committed, all up to here
    uint64_t ended_ticket       # of the last session on disk that has ended
    EndedSession* ended         # those whose end may not be on disk yet: a table by hash
    uint32_t ended_mask         # of its places; all are free while `ended` is NULL
    uint32_t ended_count        # of its places that are taken
    uint8_t in_flight           # one batch is being written
    uint8_t urgent              # somebody waits for the open batch
    uint8_t refusing            # the disk is full, slow or broken: what needs it is refused before it is routed
    uint8_t recording           # a routing is gathering deliveries
    # the open batch
    JournalEntry* entries
    uint32_t entry_count
    uint32_t entry_capacity
    uint32_t live_entries       # with deliveries that are not acknowledged yet
    uint32_t tidy_at            # entries, after which those that are done are taken out
    uint8_t* pairs
    uint32_t pairs_bytes
    uint32_t pairs_capacity
    uint32_t routing_at         # where the deliveries of the message that is being routed begin
    uint32_t routing_count
    uint8_t* ops
    uint32_t ops_bytes
    uint32_t ops_capacity
    uint8_t* puts               # keyed records: see keyed_records.pxd
    uint32_t puts_bytes
    uint32_t puts_capacity
    uint32_t put_count
    uint64_t entry_bytes        # of messages in it
    RetainedChange* retained
    uint32_t retained_count     # gone ones included
    uint32_t retained_gone
    uint32_t retained_capacity
    uint64_t retained_bytes     # of their records
    # the batch that is being written
    JournalEntry* sealed
    uint32_t sealed_count
    uint32_t sealed_capacity
    uint8_t* sealed_pairs
    uint32_t sealed_pairs_capacity
    # what is on disk
    uint64_t next_message
    uint64_t next_session
    uint64_t next_retained
    uint64_t reserved_message   # numbers below this may be given without another word to the disk
    uint64_t reserved_session
    uint64_t sealed_through     # the last number that is in a chunk, or never will be
    Chunk* chunks               # in the order of their numbers; those with live == 0 are gone
    uint32_t chunk_at           # the first that is there
    uint32_t chunk_count        # from there on, gone ones included
    uint32_t chunk_capacity
    uint32_t chunks_gone        # among them
    uint64_t chunk_bytes        # of living ones
    uint64_t pairs_live
    uint64_t ops_on_disk        # bytes of the ops that no flow record contains
    OpsRecord* ops_records      # with such ops, by their tickets
    uint32_t ops_record_count
    uint32_t ops_record_capacity
    uint64_t fold_bytes         # so many ops, and they are folded into flow records
    uint64_t fold_until         # while that lasts: ops up to this ticket are in flow records then; 0: it does not
    Durable* folding_head       # whose flow records are still missing
    # what becomes runs
    uint64_t* crowded           # sessions, by number
    uint32_t crowded_count
    uint32_t crowded_capacity
    uint32_t crowded_at         # deliveries that are parked one by one
    # what has to be read
    uint64_t* asks              # a ring of chunks
    uint32_t ask_at
    uint32_t ask_count
    uint32_t ask_capacity
    Merging merging
    uint32_t small_chunks       # more than so many, and small ones are merged
    uint32_t fewest_merged      # that are worth it
    uint32_t merge_at           # the chunk that is looked at next, whether it is small
    uint32_t sweep_at           # the chunk that is looked at next, whether it is worth to be written again
    uint32_t waiting_count      # sessions that wait for chunks
    uint32_t reading            # chunks that are being read: until they have come nothing more is
    Durable** durables          # by number
    uint32_t durable_mask
    uint32_t durable_count
    Durable* dirty_head
    uint32_t dirty_count
    uint32_t promise_count
    Held* held_head
    Held* done_head
    Slab promise_slab
    Slab held_slab

# ---------------------------------------------------------------- what is asked about messages

cdef struct TrackedNote:        # see tracking.pxd
    uint64_t number
    uint32_t tracking
    uint32_t principal_id
    int32_t reason
    uint8_t kind

cdef struct TrackedAnswer:      # what a device has answered to a message
    uint8_t* payload            # NULL: it is empty, or too large to be kept
    uint32_t payload_bytes
    uint32_t principal_id
    uint8_t message_id_bytes
    uint8_t message_id[64]

cdef struct Tracking:           # what happened since Python last asked
    TrackedNote* notes
    uint32_t note_count
    uint32_t note_capacity
    TrackedAnswer* answers
    uint32_t answer_count
    uint32_t answer_capacity
    uint64_t answer_bytes
    uint32_t answers_round      # counts how often Python has taken them
    uint64_t lost               # for want of room, since the start
    int32_t drop_reason         # that was counted last for a session: of the delivery that ends next

# ---------------------------------------------------------------- the shard

cdef struct Limits:             # capabilities, enforced from the object that CONNACK announces
    uint32_t maximum_payload_bytes
    uint32_t maximum_packet_size_bytes
    uint32_t connect_packet_maximum_bytes
    uint32_t server_receive_maximum
    uint32_t outbound_inflight_maximum
    uint32_t queue_messages_maximum
    uint32_t queue_maximum_bytes
    uint8_t queue_full_policy           # a QueueFullPolicy
    uint32_t outbox_soft_limit_bytes
    uint32_t topic_levels_maximum
    uint32_t client_id_maximum_bytes
    uint32_t filters_per_subscribe_maximum
    uint32_t subscriptions_per_device_session_maximum
    uint32_t subscriptions_per_application_session_maximum
    uint32_t connections_maximum
    uint32_t sessions_maximum
    uint32_t unauthenticated_connections_maximum
    uint32_t unauthenticated_connections_per_address_maximum
    uint64_t queues_maximum_bytes
    uint64_t outboxes_maximum_bytes
    uint32_t session_expiry_maximum_s
    uint32_t will_delay_maximum_s
    uint32_t unannounced_receive_maximum
    uint64_t retained_maximum_bytes     # of all accounts
    uint64_t filters_maximum_bytes      # of all accounts
    uint16_t keep_alive_maximum_s
    uint16_t topic_alias_maximum
    int64_t connect_timeout_ns

cdef struct Counters:
    uint64_t packets_received
    uint64_t bytes_received
    uint64_t bytes_sent
    uint64_t messages_received
    uint64_t messages_sent
    uint64_t connections_accepted
    uint64_t connections_refused
    uint64_t drops[15]
    uint64_t events_lost        # of devices' stories, for want of room

cdef struct Rare:
    uint8_t kind
    uint8_t reason_code
    uint8_t why                 # a Refusal, or a ProxyRefusal of RARE_PROXY_REFUSED
    uint32_t slot
    uint32_t generation

cdef struct Scratch:
    uint8_t* at
    uint32_t capacity

cdef struct ShardState:
    Limits limits
    Counters counters
    int64_t now_ns
    int64_t slice_budget        # work that may still be done in this slice: see WORK_*
    uint8_t reads_cut           # the round's time was up before everything that had arrived was read
    uint64_t match_serial
    uint64_t retained_serial
    uint64_t queued_bytes       # of all accounts
    uint64_t outbox_bytes       # memory of outboxes
    uint32_t retained_count
    uint64_t retained_bytes
    uint64_t hash_seed
    uint64_t assigned_ids
    uint8_t secret[32]
    # who
    Account** accounts
    uint32_t account_mask
    uint32_t account_count
    Table principals
    Table grants
    CompiledPolicy* policies
    GrantLimits* grant_limits
    Grant* open_grant           # for open listeners, NULL: none
    uint64_t open_listeners     # bit n: listener n lets everybody in
    uint8_t listener_door[256]          # a Door
    uint32_t day                        # for peaks: another number, another day
    uint8_t listener_durability[256]    # the strongest DurabilityLevel on listener n
    int64_t wall_offset_ns      # wall clock less the monotonic one, for what is written to disk (law 3)
    uint64_t application_listeners      # bit n: listener n takes applications from anywhere
    # sessions and connections
    Session** sessions
    uint32_t session_mask
    uint32_t session_count
    Connection** connections    # by slot; NULL: free
    uint32_t* generations       # by slot, outlives the connection
    uint32_t* free_slots
    uint32_t free_slot_count
    uint32_t connection_capacity
    uint32_t connection_count
    uint32_t unauthenticated_count
    uint32_t connected[3]       # CONNECTED ones by their DurabilityLevel
    # work that is due
    Connection* dirty_head
    Connection* dirty_tail
    uint32_t dirty_count
    Connection* ready_head
    Connection* ready_tail
    Connection* closing_head    # to be looked at when the round ends
    uint64_t* starved           # handles of those whose outbox could not grow
    uint32_t starved_at
    uint32_t starved_count
    uint32_t starved_capacity
    Strangers** strangers
    Connection* waking_head     # deaf ones that may be read again
    Account* busy_head          # accounts with unfinished fan-outs, served in turn (law 11)
    Account* busy_tail
    Session** parted            # whose connections have just gone; NULL where it was decided about meanwhile
    uint32_t parted_at          # before it, all are decided about
    uint32_t parted_count
    uint32_t parted_capacity
    Session* ending_head        # linked by hash_next: they are out of the table
    Principal* usage_head       # principals with usage that was not taken yet; the list holds a reference
    Account* own_usage_head
    Rare* rare
    uint32_t rare_count
    uint32_t rare_capacity
    # routing
    Receiver* receivers
    uint32_t receiver_count
    uint32_t receiver_capacity
    Subscription** matched_groups   # scratch: shared groups of one match, which come last among the receivers
    uint32_t matched_group_count
    uint32_t matched_group_capacity
    uint32_t* identifiers       # scratch: subscription identifiers of one delivery
    uint32_t identifier_capacity
    uint64_t match_steps        # trie nodes visited, for tests of its bounds
    uint32_t subscription_count     # of all accounts; dead ones too, while a fan-out names them
    uint64_t filter_bytes           # of all accounts
    uint32_t system_filters         # subscriptions to the broker's figures, of all accounts
    Scratch layouts[4]
    Scratch forwarded           # properties of an inbound PUBLISH without its alias
    # memory
    Slab connection_slab
    Slab session_slab
    Slab retained_slab
    Arena arena                 # subscriptions, filters, shared groups
    Slab message_slabs[6]
    BufferPool outbox_pool
    Wheel wheel
    Journal journal
    # what is told of devices
    Peer* peers                 # by slot
    Account* telling_head       # accounts with stories, served in turn (law 11)
    Account* telling_tail
    Story* noisy_head
    Story* noisy_tail
    uint32_t noisy_count
    uint8_t watched             # somebody takes stories
    uint8_t called              # and knows that there are some
    uint8_t farewell            # a Farewell: of the connection that is being closed
    Tracking tracking
