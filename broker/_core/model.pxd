# Every struct of the core, in one place: sessions, connections and the journal point at each other, and Cython
# cannot cimport in circles.
#
# Here belong the shapes of data and their constants. Not here: behaviour; each struct has one module that changes it.
# Times are int64 nanoseconds on the owner's monotonic clock; sizes are bytes.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.memory cimport BufferPool, Slab

# ---------------------------------------------------------------- words

cdef enum ConnectionState:
    AWAIT_CONNECT = 0       # nothing proven; the connect deadline runs
    AUTHENTICATING = 1      # a CONNECT waits for the Authenticator; nothing is read
    CONNECTED = 2
    CLOSING = 3             # the last bytes may still leave; nothing is read; freed at the end of the round

cdef enum Local:
    LOCAL_FD = -2           # in place of a descriptor: a connection from inside this process, which Python feeds
    LOCAL_LISTENER = 65535  # in place of a listener's number

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
    DROP_REASONS = 6

cdef enum RareKind:
    RARE_CONNECT = 1        # a CONNECT that the core does not know
    RARE_PACKET = 2         # SUBSCRIBE, UNSUBSCRIBE, AUTH of a connected client
    RARE_REFUSED = 3        # for the log: a client was not let in, with a reason code
    RARE_CLOSED = 4         # for the log: a connected client was closed with a reason code

cdef enum PromiseKind:
    PROMISE_PUBACK = 1
    PROMISE_BYTES = 2       # a rare packet made by engine/ (SUBACK, UNSUBACK), kept until its ticket

cdef enum TimerKind:
    TIMER_CONNECT_DEADLINE = 1
    TIMER_KEEP_ALIVE = 2
    TIMER_LINGER = 3            # a refused peer may still read why

cdef enum Work:             # one unit is about what a small delivery takes, some 50 ns
    WORK_BYTES = 1024       # of a packet that is copied, for one unit
    WORK_STEPS = 4          # nodes of the trie that are visited
    WORK_RECEIVERS = 8      # subscriptions that are looked at

cdef enum HoldBack:         # why a connection is not parsed; both may hold
    HELD_BACK = 1           # until promises or outbox go down
    YIELDED = 2             # its slice was used up; the rest of its inbox is parsed in the next

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
    uint32_t expiry_offset      # where the four bytes of the interval lie in the properties
    int64_t received_at_ns

cdef enum MessageConstants:
    MESSAGE_SIZE_CLASSES = 6    # 128 << n bytes, struct included; larger ones are malloc's

# ---------------------------------------------------------------- topics

cdef struct SubscriberSet:
    Subscription** items        # points at `single` while there is room for one
    Subscription* single
    uint32_t count
    uint32_t capacity

cdef struct Topic:              # an exact topic filter
    Topic* next
    uint32_t hash
    uint32_t name_bytes
    SubscriberSet subscribers
    # the name follows

cdef struct TrieNode:           # one level of a filter with wildcards
    TrieNode* next              # in its bucket
    TrieNode* parent
    TrieNode* plus              # the child for '+'
    uint32_t hash
    uint32_t level_bytes
    uint32_t children           # in the hash, '+' not counted
    SubscriberSet here          # filters that end at this level
    SubscriberSet below         # filters that end with '#' under this level
    # the level's bytes follow

cdef struct TopicSpace:         # the private topics of one account
    Topic** buckets
    uint32_t bucket_mask
    uint32_t topic_count
    TrieNode** node_buckets
    uint32_t node_mask
    uint32_t node_count
    TrieNode* root
    uint32_t wildcard_subscriptions
    uint32_t subscription_count

cdef struct Subscription:
    Session* session
    SubscriberSet* set
    void* owner                 # the Topic or TrieNode that holds the set
    Subscription* next          # of the same session
    Subscription* previous
    uint32_t index              # in set.items
    uint32_t identifier         # Subscription Identifier, 0: none
    uint32_t refs               # fan-outs that still name it; freed at 0 when dead
    uint8_t qos
    uint8_t no_local
    uint8_t retain_as_published
    uint8_t owner_kind          # 0 Topic, 1 TrieNode.here, 2 TrieNode.below
    uint8_t dead

cdef struct Receiver:
    Subscription* subscription
    int32_t also                # index of the next receiver entry of the same session, -1: none
    uint8_t qos                 # the highest of the session's matching subscriptions [MQTT-3.3.4-2]
    uint8_t retain_as_published
    uint8_t merged              # 1: delivered with an earlier entry

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
    uint8_t acknowledge         # a PUBACK is owed to the publisher at the end
    uint8_t failed              # its ticket was settled meanwhile, and not committed

# ---------------------------------------------------------------- identity

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
    uint64_t drops[6]

cdef struct Principal:
    Principal* next
    Account* account
    uint32_t principal_id
    uint32_t refs               # grants and sessions that name it
    uint32_t connections
    uint16_t name_bytes
    uint16_t device_id_bytes
    int64_t last_seen_ns
    uint32_t drops[6]
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
    uint32_t publish_count
    uint32_t subscribe_count
    PolicyPattern* publish
    PolicyPattern* subscribe

cdef struct Grant:
    Grant* next
    uint8_t credential[32]
    Principal* principal
    CompiledPolicy* policy
    Connection* first           # that came in with it
    uint32_t connections
    uint8_t synced              # promises wait for the store
    uint8_t revoked             # not in the table: freed with its last connection

# ---------------------------------------------------------------- sessions and connections

cdef struct Queued:             # a delivery that waits for quota or room; it has no packet identifier yet (law 7)
    Message* message
    uint32_t* identifiers       # subscription identifiers, NULL: none; the memory is the entry's own
    uint32_t identifier_count
    uint8_t qos
    uint8_t retain

cdef struct Session:
    Session* hash_next
    Connection* connection      # NULL while its client is away
    Account* account
    Principal* principal
    Subscription* subscriptions
    Queued* queue               # ring
    uint16_t* inflight          # ring of packet identifiers sent and not acknowledged, by id & mask; 0: free
    uint8_t* client_id
    uint64_t match_serial       # which match saw this session last
    uint64_t queued_bytes
    uint32_t hash
    uint32_t subscription_count
    uint32_t queue_head
    uint32_t queue_count
    uint32_t queue_capacity
    uint32_t inflight_mask
    uint32_t inflight_count
    uint32_t send_quota
    uint32_t match_index
    uint16_t client_id_bytes
    uint16_t next_packet_id

cdef struct Connection:
    Connection* dirty_next
    Connection* ready_next
    Connection* closing_next
    Connection* waking_next
    Connection* grant_next      # others that came in with the same grant
    Connection* grant_previous
    Session* session
    Grant* grant
    FanOut* fan_out             # its own PUBLISH that is still being routed
    uint8_t* inbox              # a partial packet, or what waits behind a barrier
    uint8_t* outbox
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
    uint32_t promises_held
    uint16_t keep_alive_s
    uint16_t client_receive_maximum
    uint16_t publishes_held     # of promises_held: PUBACKs, what Receive Maximum counts
    uint16_t listener
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
    uint8_t lingering           # everything is sent and shut down; what still arrives is thrown away

# ---------------------------------------------------------------- durability

cdef struct Promise:
    uint64_t ticket             # leaves when this one is settled: its own, or a newer one to keep the order
    uint64_t depends            # its own, 0: none; what it says is true only when that one is committed
    uint8_t* bytes              # PROMISE_BYTES: an encoded packet
    uint32_t byte_count
    uint32_t slot
    uint32_t generation
    uint16_t packet_id
    uint8_t kind
    uint8_t reason_code
    uint8_t failed

cdef struct Journal:
    uint64_t open_ticket        # what the batch being gathered will be called
    uint64_t settled_ticket     # committed or failed, all up to here
    uint64_t newest_ticket      # of any promise in the ring
    uint8_t* batch
    uint32_t batch_bytes
    uint32_t batch_capacity
    uint32_t batch_records
    uint64_t next_message
    Promise* ring
    uint32_t ring_head
    uint32_t ring_count
    uint32_t ring_capacity

# ---------------------------------------------------------------- the shard

cdef struct Limits:             # capabilities, enforced from the object that CONNACK announces
    uint32_t maximum_payload_bytes
    uint32_t maximum_packet_size_bytes
    uint32_t connect_packet_maximum_bytes
    uint32_t server_receive_maximum
    uint32_t outbound_inflight_maximum
    uint32_t queue_messages_maximum
    uint32_t queue_maximum_bytes
    uint32_t outbox_soft_limit_bytes
    uint32_t topic_levels_maximum
    uint32_t client_id_maximum_bytes
    uint32_t filters_per_subscribe_maximum
    uint32_t subscriptions_per_device_session_maximum
    uint32_t subscriptions_per_application_session_maximum
    uint32_t connections_maximum
    uint32_t unauthenticated_connections_maximum
    uint16_t keep_alive_maximum_s
    int64_t connect_timeout_ns

cdef struct Counters:
    uint64_t packets_received
    uint64_t bytes_received
    uint64_t bytes_sent
    uint64_t messages_received
    uint64_t messages_sent
    uint64_t connections_accepted
    uint64_t connections_refused
    uint64_t drops[6]

cdef struct Rare:
    uint8_t kind
    uint8_t reason_code
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
    uint64_t hash_seed
    uint64_t assigned_ids
    uint8_t secret[32]
    # who
    Account** accounts
    uint32_t account_mask
    uint32_t account_count
    Principal** principals
    uint32_t principal_mask
    uint32_t principal_count
    Grant** grants
    uint32_t grant_mask
    uint32_t grant_count
    CompiledPolicy* policies
    Grant* open_grant           # for open listeners, NULL: none
    uint64_t open_listeners     # bit n: listener n lets everybody in
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
    # work that is due
    Connection* dirty_head
    Connection* dirty_tail
    uint32_t dirty_count
    Connection* ready_head
    Connection* ready_tail
    Connection* closing_head    # to be looked at when the round ends
    Connection* waking_head     # deaf ones that may be read again
    Account* busy_head          # accounts with unfinished fan-outs, served in turn (law 11)
    Account* busy_tail
    Rare* rare
    uint32_t rare_count
    uint32_t rare_capacity
    # routing
    Receiver* receivers
    uint32_t receiver_count
    uint32_t receiver_capacity
    uint32_t* identifiers       # scratch: subscription identifiers of one delivery
    uint32_t identifier_capacity
    uint64_t match_steps        # trie nodes visited, for tests of its bounds
    Scratch layouts[4]
    # memory
    Slab connection_slab
    Slab session_slab
    Slab subscription_slab
    Slab message_slabs[6]
    BufferPool outbox_pool
    Wheel wheel
    Journal journal
