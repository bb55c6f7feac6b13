# Who is known and what they may do: credentials, principals, accounts and compiled rights.
#
# Here belong the tables that a CONNECT and an authorisation look into. Not here: how a password became a credential
# (blake2b), and who decides about unknown clients (the Authenticator, by way of engine/).

from libc.stdint cimport uint8_t, uint32_t

from broker._core.model cimport (
    Account,
    Activity,
    CompiledPolicy,
    Connection,
    Grant,
    GrantLimits,
    PolicyPattern,
    Principal,
    ShardState,
)

cdef void identities_open(ShardState* shard) noexcept nogil
cdef void identities_close(ShardState* shard) noexcept nogil

# A principal that stands in no table, for questions about rights: its id is what `{device_id}` stands for. It is given
# back with give_memory.
cdef Principal* stand_in(const uint8_t* device_id, uint32_t n) noexcept nogil

cdef Account* find_account(ShardState* shard, uint32_t account_id) noexcept nogil
cdef Account* need_account(ShardState* shard, uint32_t account_id) noexcept nogil

cdef Principal* find_principal(ShardState* shard, uint32_t principal_id) noexcept nogil
# Finds or makes it, and takes one reference.
# One that nobody has named since it was restored gets its name.
cdef Principal* hold_principal(
    ShardState* shard, Account* account, uint32_t principal_id, const uint8_t* name, uint32_t name_bytes,
    const uint8_t* device_id, uint32_t device_id_bytes) noexcept nogil
cdef void release_principal(ShardState* shard, Principal* principal) noexcept nogil
cdef Activity* new_activity(Principal* principal) noexcept nogil
cdef inline Activity* need_activity(Principal* principal) noexcept nogil:
    return principal.activity if principal.activity != NULL else new_activity(principal)
# The limits with these figures, one set for all who share them. Lives as long as the shard.
cdef GrantLimits* limits_with(ShardState* shard, const GrantLimits* wanted) noexcept nogil

cdef Grant* find_grant(ShardState* shard, const uint8_t* credential) noexcept nogil
# A grant outside the table: freed with its last connection. It takes over one reference to the principal.
cdef Grant* new_grant(Principal* principal, CompiledPolicy* policy, GrantLimits* limits) noexcept nogil
# From here on this credential is known.
cdef void add_grant(ShardState* shard, Grant* grant, const uint8_t* credential) noexcept nogil
# Takes it out of the table; the memory goes with its last connection.
cdef void retire_grant(ShardState* shard, Grant* grant) noexcept nogil
cdef void release_grant(ShardState* shard, Grant* grant) noexcept nogil
# A connection comes in with a grant and is listed with it, so that the grant's end finds it; and goes.
cdef void hold_grant(ShardState* shard, Grant* grant, Connection* connection) noexcept nogil
# The most connections that an account has had at once today, without those from inside the process.
cdef uint32_t connections_peak(ShardState* shard, Account* account) noexcept nogil
cdef void let_go_of_grant(ShardState* shard, Connection* connection) noexcept nogil

# Compiles topic filters; levels are `{device_id}`, `+`, `#` or literal. Lives until nobody has it and it is looked at.
cdef CompiledPolicy* new_policy(ShardState* shard, uint32_t publish_count, uint32_t subscribe_count) noexcept nogil
# The one way in which a grant, a principal or a session gets another policy; NULL for its end.
cdef inline void hold_policy(CompiledPolicy** holder, CompiledPolicy* policy) noexcept nogil:
    if policy != NULL:
        policy.refs += 1
    if holder[0] != NULL:
        holder[0].refs -= 1
    holder[0] = policy
# Frees those that nobody has.
cdef void forget_policies(ShardState* shard) noexcept nogil
# A leading `!` makes it refuse what it covers.
cdef void compile_pattern(PolicyPattern* pattern, const uint8_t* text, uint32_t n) noexcept nogil

# Whether one pattern covers a topic name, or all that a filter can match.
cdef bint pattern_covers(
    PolicyPattern* pattern, Principal* principal, const uint8_t* p, uint32_t n, bint is_filter) noexcept nogil
cdef bint policy_allows_publish(
    CompiledPolicy* policy, Principal* principal, const uint8_t* topic, uint32_t n) noexcept nogil
cdef inline bint may_publish(Grant* grant, const uint8_t* topic, uint32_t n) noexcept nogil:
    return policy_allows_publish(grant.policy, grant.principal, topic, n)
# A filter is allowed when all that it can match is allowed.
cdef bint policy_allows_subscribe(
    CompiledPolicy* policy, Principal* principal, const uint8_t* filter, uint32_t n) noexcept nogil
cdef inline bint may_subscribe(Grant* grant, const uint8_t* filter, uint32_t n) noexcept nogil:
    return policy_allows_subscribe(grant.policy, grant.principal, filter, n)
