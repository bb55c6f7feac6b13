# What the core writes to disk, byte by byte. All numbers are little-endian, keys apart, which are big-endian so that
# the order of keys is the order of numbers. `docs/storage.md` describes the same for people.
#
# Here belong the shapes of records and how a message becomes one. Not here: when something is written (journal,
# sealing, durable), how it comes back (restore).

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from broker._core.model cimport Message, ShardState

cdef enum RecordTable:          # numbers of `TABLE_NAMES`
    TABLE_META = 0
    TABLE_SESSIONS = 1
    TABLE_SUBSCRIPTIONS = 2
    TABLE_WILLS = 3
    TABLE_FLOWS = 4
    TABLE_MESSAGES = 5
    TABLE_OPS = 6
    TABLE_RETAINED = 7
    TABLE_DEVICES = 8           # from here on others': the core takes them along with what else is written or goes
    TABLE_SEEN = 9
    TABLE_PASSWORDS_USED = 10
    TABLE_ANSWERS = 11
    TABLE_TIMELINE = 12
    TABLE_ONLINE = 13
    TABLE_TRACKED = 14

cdef enum OpKind:               # one thing that happened to a delivery or to an inbound identifier
    OP_DONE = 1                 # acknowledged, or dropped
    OP_SENT = 2                 # sent with this packet identifier
    OP_RECEIVED = 3             # PUBREC came: a PUBREL is what is inflight now
    OP_FREED = 4                # PUBCOMP came
    OP_TAKEN = 5                # inbound QoS 2: a PUBLISH with this identifier was accepted
    OP_RELEASED = 6             # and its PUBREL came

cdef enum RecordConstants:
    RECORD_VERSION = 1
    SESSION_CONNECTED = 1       # flags of a session's record
    SESSION_WITH_CONNECTION = 2     # it ends with its connection, and is there for its will
    SESSION_ENDED = 4           # it is there for what it has to hand over
    SESSION_LOST = 8            # its client was lost with the process, and nobody has come for it since
    PAIR_RETAIN = 4             # flags of a pair, beside its QoS
    PAIR_GROUP = 8
    PAIR_BYTES = 12
    CHUNK_BYTES = 512 * 1024    # unless one message alone has more
    CHECKSUM_BYTES = 8          # before chunks and ops: crc32 of what follows, and how many there are
    IDENTIFIER_MAXIMUM = 268435455      # of a subscription
    FLOW_CRC_AT = 28            # of a flow record's checksum
    FLOW_QUEUED = 0
    FLOW_PUBLISH_1 = 1
    FLOW_PUBLISH_2 = 2
    FLOW_PUBREL = 3
    FLOW_RUN = 4                # all from `number` to `number + more` wait
    NO_AUTHOR = 0xFFFFFFFF

cdef enum:
    NUMBER_MAXIMUM = 0x4000000000000000    # of all that is counted or measured in 64 bits: what is above it is damaged

cdef struct MessageHead:        # topic name, properties and payload follow
    uint8_t qos
    uint8_t retain
    uint8_t version
    uint8_t spare
    uint32_t topic_bytes
    uint32_t properties_bytes
    uint32_t payload_bytes
    uint32_t expiry_s
    uint32_t expiry_offset
    uint32_t publisher
    uint32_t tracking           # 0: nobody asks what becomes of it
    int64_t received_at_wall_ns

cdef struct RecordHead:         # a MessageHead with its bytes and the pairs follow
    uint32_t record_bytes       # all of it
    uint32_t pair_count
    uint64_t number
    uint32_t account_id
    uint32_t spare

cdef struct Pair:               # the first PAIR_BYTES of it; subscription identifiers follow, then for a group its
    uint64_t session            # share name and filter as in `$share/`, with a length of two bytes
    uint16_t packet_id          # 0: queued
    uint8_t flags
    uint8_t identifiers

cdef struct Op:
    uint8_t kind
    uint8_t spare
    uint16_t packet_id
    uint32_t more
    uint64_t session
    uint64_t number

cdef struct FlowHead:           # entries follow, then inbound QoS 2 identifiers of two bytes each
    uint64_t as_of              # ops of tickets up to this one are in it
    uint64_t high               # deliveries with a number up to this one are done unless they are listed
    uint32_t listed
    uint32_t qos2_ids
    uint16_t next_packet_id
    uint16_t spare
    uint32_t crc                # crc32 of the record without these four bytes

cdef struct FlowEntry:
    uint64_t number
    uint16_t packet_id
    uint8_t state
    uint8_t spare
    uint32_t more

cdef struct SessionHead:        # client identifier, the principal's name and device id follow
    uint8_t version
    uint8_t flags
    uint16_t client_id_bytes
    uint32_t account_id
    uint32_t principal_id
    uint32_t expiry_s
    int64_t away_since_wall_ns  # 0: connected
    uint16_t name_bytes
    uint16_t device_id_bytes
    uint32_t spare

cdef struct SubscriptionHead:   # the filter follows, `$share/` included
    uint8_t version
    uint8_t options             # QoS | no local << 2 | retain as published << 3 | unfinished run << 4
    uint16_t spare
    uint32_t identifier

cdef struct WillHead:           # a message follows
    uint32_t delay_s
    uint32_t spare

cdef struct RetainedHead:       # a message follows
    uint32_t account_id
    uint32_t author             # NO_AUTHOR: the server

cdef struct Record:             # one message of a chunk, where it lies
    RecordHead head
    MessageHead message
    const uint8_t* body         # its MessageHead, with what follows
    const uint8_t* pairs        # and the end of it
    const uint8_t* end

cdef struct PairRecord:         # one of its deliveries, where it lies
    Pair head
    const uint8_t* identifiers  # head.identifiers of them, not aligned
    const uint8_t* group        # `share name/filter`
    uint16_t group_bytes        # 0: none

cdef inline void put_key(uint8_t* at, uint64_t number) noexcept nogil:
    cdef int i
    for i in range(8):
        at[i] = <uint8_t>(number >> (56 - 8 * i))

cdef inline uint64_t get_key(const uint8_t* at) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(8):
        number = number << 8 | at[i]
    return number

# As a delivery counts in budgets: like its message in memory.
cdef inline uint32_t delivery_size(const Record* record, const PairRecord* pair) noexcept nogil:
    return <uint32_t>(sizeof(Message) + record.message.topic_bytes + record.message.properties_bytes +
                      record.message.payload_bytes + pair.head.identifiers * sizeof(uint32_t))

cdef inline uint32_t message_record_bytes(Message* message) noexcept nogil:
    return <uint32_t>sizeof(MessageHead) + message.topic_bytes + message.properties_bytes + message.payload_bytes
# Writes a message; returns the end.
cdef uint8_t* put_message(ShardState* shard, uint8_t* at, Message* message) noexcept nogil
# Reads one into a message of its own with one reference; `used` is how many bytes it has. NULL: they are no message.
cdef Message* get_message(ShardState* shard, const uint8_t* at, uint32_t n, uint32_t* used) noexcept nogil
cdef bytes numbered_key(uint64_t number)
# The next message of a chunk and, of a message, its next delivery; `at` moves on. False: there is none, or what lies
# there is none.
cdef bint next_record(const uint8_t** at, const uint8_t* end, Record* record) noexcept nogil
cdef bint next_pair(const uint8_t** at, const uint8_t* end, PairRecord* pair) noexcept nogil
# The key of a subscription's record: 24 bytes.
cdef void put_subscription_key(uint8_t* at, uint64_t session, const uint8_t* filter, uint32_t n) noexcept nogil
