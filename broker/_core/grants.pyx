"""Accounts, principals, credentials and rights. See grants.pxd."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from broker._core.blake2b cimport same_digest
from broker._core.cursor cimport put_bytes
from broker._core.memory cimport give_memory, resize_memory, take_memory, take_zeroed
from broker._core.model cimport (
    DOOR_INSIDE,
    LEVEL_DEVICE_ID,
    LEVEL_HASH,
    LEVEL_LITERAL,
    LEVEL_PLUS,
    WITHOUT_END,
    Account,
    Activity,
    CompiledPolicy,
    Connection,
    Grant,
    GrantLimits,
    PolicyLevel,
    PolicyPattern,
    Principal,
    Retained,
    ShardState,
)
from broker._core.table cimport Link, table_add, table_close, table_first, table_remove
from broker._core.topics cimport space_close, space_open


cdef enum:
    FIRST_BUCKETS = 64


cdef inline uint32_t spread_number(uint32_t number) noexcept nogil:
    return <uint32_t>((<uint64_t>number * <uint64_t>0x9E3779B97F4A7C15) >> 32)


cdef void identities_open(ShardState* shard) noexcept nogil:
    cdef GrantLimits nothing
    shard.accounts = <Account**>take_zeroed(FIRST_BUCKETS * sizeof(void*))
    shard.account_mask = FIRST_BUCKETS - 1
    memset(&nothing, 0, sizeof(nothing))
    limits_with(shard, &nothing)        # whoever comes first has no limits of his own


# ---------------------------------------------------------------- accounts

cdef Account* find_account(ShardState* shard, uint32_t account_id) noexcept nogil:
    cdef Account* account = shard.accounts[spread_number(account_id) & shard.account_mask]
    while account != NULL and account.account_id != account_id:
        account = account.next
    return account


cdef void grow_accounts(ShardState* shard) noexcept nogil:
    cdef uint32_t mask = shard.account_mask * 2 + 1
    cdef Account** table = <Account**>take_zeroed(<size_t>(mask + 1) * sizeof(void*))
    cdef Account* account
    cdef Account* following
    cdef uint32_t i
    for i in range(shard.account_mask + 1):
        account = shard.accounts[i]
        while account != NULL:
            following = account.next
            account.next = table[spread_number(account.account_id) & mask]
            table[spread_number(account.account_id) & mask] = account
            account = following
    give_memory(shard.accounts)
    shard.accounts = table
    shard.account_mask = mask


cdef Account* need_account(ShardState* shard, uint32_t account_id) noexcept nogil:
    cdef Account* account = find_account(shard, account_id)
    cdef Account** link
    if account != NULL:
        return account
    if shard.account_count > shard.account_mask:
        grow_accounts(shard)
    account = <Account*>take_zeroed(sizeof(Account))
    account.account_id = account_id
    account.messages_left = WITHOUT_END
    account.bytes_left = WITHOUT_END
    space_open(shard, &account.space)
    link = &shard.accounts[spread_number(account_id) & shard.account_mask]
    account.next = link[0]
    link[0] = account
    shard.account_count += 1
    return account


# ---------------------------------------------------------------- principals

cdef Principal* find_principal(ShardState* shard, uint32_t principal_id) noexcept nogil:
    cdef Principal* principal = <Principal*>table_first(&shard.principals, spread_number(principal_id))
    while principal != NULL and principal.principal_id != principal_id:
        principal = principal.next
    return principal


cdef void put_names(
        Principal* principal, const uint8_t* name, uint32_t name_bytes, const uint8_t* device_id,
        uint32_t device_id_bytes) noexcept nogil:
    principal.name_bytes = <uint16_t>name_bytes
    principal.device_id_bytes = <uint16_t>device_id_bytes
    put_bytes(put_bytes(<uint8_t*>principal + sizeof(Principal), name, name_bytes), device_id, device_id_bytes)


cdef Principal* stand_in(const uint8_t* device_id, uint32_t n) noexcept nogil:
    cdef Principal* principal = <Principal*>take_zeroed(sizeof(Principal) + n)
    put_names(principal, b"", 0, device_id, n)
    return principal


cdef Principal* name_principal(
        ShardState* shard, Principal* principal, const uint8_t* name, uint32_t name_bytes, const uint8_t* device_id,
        uint32_t device_id_bytes) noexcept nogil:
    # Nothing but the table and what it has retained points to it.
    cdef Retained* retained
    table_remove(&shard.principals, <Link*>principal)
    principal = <Principal*>resize_memory(principal, sizeof(Principal) + name_bytes + device_id_bytes)
    table_add(&shard.principals, <Link*>principal)
    principal.nameless = 0
    if principal.story != NULL:
        principal.story.principal = principal
    put_names(principal, name, name_bytes, device_id, device_id_bytes)
    retained = NULL if principal.activity == NULL else principal.activity.authored
    while retained != NULL:
        retained.author = principal
        retained = retained.author_next
    return principal


cdef Principal* hold_principal(
        ShardState* shard, Account* account, uint32_t principal_id, const uint8_t* name, uint32_t name_bytes,
        const uint8_t* device_id, uint32_t device_id_bytes) noexcept nogil:
    cdef Principal* principal = find_principal(shard, principal_id)
    if principal != NULL:
        if principal.nameless:
            principal = name_principal(shard, principal, name, name_bytes, device_id, device_id_bytes)
        principal.refs += 1
        return principal
    principal = <Principal*>take_zeroed(sizeof(Principal) + name_bytes + device_id_bytes)
    principal.account = account
    account.principals += 1
    principal.limits = shard.grant_limits
    principal.principal_id = principal_id
    principal.refs = 1
    put_names(principal, name, name_bytes, device_id, device_id_bytes)
    principal.hash = spread_number(principal_id)
    table_add(&shard.principals, <Link*>principal)
    return principal


cdef void release_principal(ShardState* shard, Principal* principal) noexcept nogil:
    principal.refs -= 1
    if principal.refs:
        return
    table_remove(&shard.principals, <Link*>principal)
    principal.account.principals -= 1
    hold_policy(&principal.policy, NULL)
    give_memory(principal.activity)
    give_memory(principal)


cdef Activity* new_activity(Principal* principal) noexcept nogil:
    principal.activity = <Activity*>take_zeroed(sizeof(Activity))
    return principal.activity


# ---------------------------------------------------------------- grants

cdef inline uint32_t credential_hash(const uint8_t* credential) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, credential, 4)   # a keyed digest: nobody outside can choose it
    return value


cdef Grant* find_grant(ShardState* shard, const uint8_t* credential) noexcept nogil:
    cdef Grant* grant = <Grant*>table_first(&shard.grants, credential_hash(credential))
    while grant != NULL and not same_digest(grant.credential, credential):
        grant = grant.next
    return grant


cdef GrantLimits* limits_with(ShardState* shard, const GrantLimits* wanted) noexcept nogil:
    cdef GrantLimits* limits = shard.grant_limits
    while limits != NULL:
        if memcmp(&limits.messages_per_s, &wanted.messages_per_s, sizeof(GrantLimits) - sizeof(void*)) == 0:
            return limits
        limits = limits.next
    limits = <GrantLimits*>take_memory(sizeof(GrantLimits))
    limits[0] = wanted[0]
    limits.next = shard.grant_limits
    shard.grant_limits = limits
    return limits


cdef Grant* new_grant(Principal* principal, CompiledPolicy* policy, GrantLimits* limits) noexcept nogil:
    cdef Grant* grant = <Grant*>take_zeroed(sizeof(Grant))
    grant.principal = principal
    hold_policy(&grant.policy, policy)
    grant.limits = limits
    hold_policy(&principal.policy, policy)      # as last granted
    principal.limits = limits
    principal.revoked = 0           # whoever had cut it has let it in again
    grant.revoked = 1       # until it stands in the table
    return grant


cdef void add_grant(ShardState* shard, Grant* grant, const uint8_t* credential) noexcept nogil:
    memcpy(grant.credential, credential, 32)
    grant.hash = credential_hash(credential)
    grant.revoked = 0
    grant.principal.grants += 1
    grant.principal.revoked = 0
    table_add(&shard.grants, <Link*>grant)


cdef void free_grant(ShardState* shard, Grant* grant) noexcept nogil:
    hold_policy(&grant.policy, NULL)
    release_principal(shard, grant.principal)
    give_memory(grant)


cdef void retire_grant(ShardState* shard, Grant* grant) noexcept nogil:
    table_remove(&shard.grants, <Link*>grant)
    grant.revoked = 1
    grant.principal.grants -= 1
    if grant.connections == 0:
        free_grant(shard, grant)


cdef void release_grant(ShardState* shard, Grant* grant) noexcept nogil:
    grant.connections -= 1
    if grant.connections == 0 and grant.revoked:
        free_grant(shard, grant)


cdef inline uint32_t from_outside(Account* account) noexcept nogil:
    return account.connections - account.by_door[<int>DOOR_INSIDE]


cdef uint32_t connections_peak(ShardState* shard, Account* account) noexcept nogil:
    if account.peak_day != shard.day:
        account.peak_day = shard.day
        account.peak = from_outside(account)
    return account.peak


cdef inline void count_connection(ShardState* shard, Connection* connection, int more) noexcept nogil:
    cdef Principal* principal = connection.grant.principal
    connections_peak(shard, principal.account)      # whoever leaves first on a day was there on it
    principal.account.outbox_bytes += more * <int64_t>connection.outbox_capacity
    principal.connections += more
    principal.account.connections += more
    if principal.device_id_bytes:
        principal.account.device_connections += more
    principal.account.by_door[shard.listener_door[connection.listener]] += more
    principal.account.peak = max(principal.account.peak, from_outside(principal.account))


cdef void hold_grant(ShardState* shard, Grant* grant, Connection* connection) noexcept nogil:
    connection.grant = grant
    connection.grant_previous = NULL
    connection.grant_next = grant.first
    if grant.first != NULL:
        grant.first.grant_previous = connection
    grant.first = connection
    grant.connections += 1
    count_connection(shard, connection, 1)


cdef void let_go_of_grant(ShardState* shard, Connection* connection) noexcept nogil:
    if connection.grant_previous != NULL:
        connection.grant_previous.grant_next = connection.grant_next
    else:
        connection.grant.first = connection.grant_next
    if connection.grant_next != NULL:
        connection.grant_next.grant_previous = connection.grant_previous
    count_connection(shard, connection, -1)
    release_grant(shard, connection.grant)
    connection.grant = NULL


# ---------------------------------------------------------------- rights

cdef CompiledPolicy* new_policy(ShardState* shard, uint32_t publish_count, uint32_t subscribe_count) noexcept nogil:
    cdef CompiledPolicy* policy = <CompiledPolicy*>take_zeroed(sizeof(CompiledPolicy))
    policy.publish_count = publish_count
    policy.subscribe_count = subscribe_count
    policy.publish = <PolicyPattern*>take_zeroed(publish_count * sizeof(PolicyPattern) + 1)
    policy.subscribe = <PolicyPattern*>take_zeroed(subscribe_count * sizeof(PolicyPattern) + 1)
    policy.next = shard.policies
    shard.policies = policy
    return policy


cdef void free_policy(CompiledPolicy* policy) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.publish_count):
        give_memory(policy.publish[i].levels)
    for i in range(policy.subscribe_count):
        give_memory(policy.subscribe[i].levels)
    give_memory(policy.publish)
    give_memory(policy.subscribe)
    give_memory(policy)


cdef void forget_policies(ShardState* shard) noexcept nogil:
    cdef CompiledPolicy** link = &shard.policies
    cdef CompiledPolicy* policy
    while link[0] != NULL:
        policy = link[0]
        if policy.refs:
            link = &policy.next
        else:
            link[0] = policy.next
            free_policy(policy)


cdef uint8_t level_kind(const uint8_t* text, uint32_t n) noexcept nogil:
    if n == 1 and text[0] == c"+":
        return LEVEL_PLUS
    if n == 1 and text[0] == c"#":
        return LEVEL_HASH
    if n == 11 and memcmp(text, b"{device_id}", 11) == 0:
        return LEVEL_DEVICE_ID
    return LEVEL_LITERAL


cdef void compile_pattern(PolicyPattern* pattern, const uint8_t* text, uint32_t n) noexcept nogil:
    cdef uint32_t i, start = 0, level = 0
    cdef uint8_t* copy
    if n and text[0] == c"!":
        pattern.refuses = 1
        text += 1
        n -= 1
    pattern.level_count = 1
    for i in range(n):
        if text[i] == c"/":
            pattern.level_count += 1
    # the levels and, behind them, the text that literal levels point into
    pattern.levels = <PolicyLevel*>take_memory(pattern.level_count * sizeof(PolicyLevel) + n)
    copy = <uint8_t*>(pattern.levels + pattern.level_count)
    memcpy(copy, text, n)
    for i in range(n + 1):
        if i == n or text[i] == c"/":
            pattern.levels[level].kind = level_kind(copy + start, i - start)
            pattern.levels[level].bytes = <uint16_t>(i - start)
            pattern.levels[level].literal = copy + start
            level += 1
            start = i + 1


cdef inline bint next_level_is(
        PolicyLevel* level, Principal* principal, const uint8_t* p, uint32_t n, uint32_t start, uint32_t* end,
        bint is_filter
) noexcept nogil:
    # Does the level that starts here equal a literal or the device id? Compared byte by byte: a wildcard's character in
    # a device id is never a wildcard, and a filter's wildcard never a literal.
    cdef const uint8_t* expected = level.literal
    cdef uint32_t size = level.bytes
    if level.kind == LEVEL_DEVICE_ID:
        expected = <uint8_t*>principal + sizeof(Principal) + principal.name_bytes
        size = principal.device_id_bytes
        if size == 0:
            return False
    if is_filter and size == 1 and (expected[0] == c"+" or expected[0] == c"#"):
        return False
    end[0] = start + size
    return n - start >= size and memcmp(p + start, expected, size) == 0 and (end[0] == n or p[end[0]] == c"/")


cdef bint pattern_covers(
        PolicyPattern* pattern, Principal* principal, const uint8_t* p, uint32_t n, bint is_filter) noexcept nogil:
    # Does the pattern match everything that `p` matches? `p` is a topic name, which matches itself, or a filter.
    cdef uint32_t level, start = 0, end = 0
    cdef PolicyLevel* expected
    for level in range(pattern.level_count):
        expected = &pattern.levels[level]
        if expected.kind == LEVEL_HASH:
            return level > 0 or p[0] != c"$"  # [MQTT-4.7.2-1]
        if expected.kind == LEVEL_PLUS:
            if level == 0 and p[0] == c"$":
                return False
            end = start
            while end < n and p[end] != c"/":
                end += 1
            if end - start == 1 and p[start] == c"#":
                return False    # a filter's `#` is more than one level
        elif not next_level_is(expected, principal, p, n, start, &end, is_filter):
            return False
        if end == n:
            # `a/#` also covers `a`
            return level + 1 == pattern.level_count or (
                level + 2 == pattern.level_count and pattern.levels[level + 1].kind == LEVEL_HASH)
        start = end + 1
    return False


cdef bint policy_allows_publish(
        CompiledPolicy* policy, Principal* principal, const uint8_t* topic, uint32_t n) noexcept nogil:
    cdef uint32_t i
    if topic[0] == c"$":        # no client writes into the broker's own topics
        return False
    for i in range(policy.publish_count):
        if pattern_covers(&policy.publish[i], principal, topic, n, False):
            return not policy.publish[i].refuses
    return False


cdef bint policy_allows_subscribe(
        CompiledPolicy* policy, Principal* principal, const uint8_t* filter, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(policy.subscribe_count):
        if pattern_covers(&policy.subscribe[i], principal, filter, n, True):
            return True
    return False


# ---------------------------------------------------------------- the end

cdef void close_policies(ShardState* shard) noexcept nogil:
    cdef CompiledPolicy* policy
    while shard.policies != NULL:
        policy = shard.policies
        shard.policies = policy.next
        free_policy(policy)


cdef void identities_close(ShardState* shard) noexcept nogil:
    # Connections and sessions are gone before; grants go with the table.
    cdef uint32_t i = shard.grants.size
    cdef GrantLimits* limits
    cdef Account* account
    while shard.grants.count:       # a table that shrinks moves what is left downwards
        i = min(i, shard.grants.size)
        if shard.grants.buckets[i - 1] != NULL:
            retire_grant(shard, <Grant*>shard.grants.buckets[i - 1])
        else:
            i -= 1
    if shard.open_grant != NULL:
        free_grant(shard, shard.open_grant)
        shard.open_grant = NULL
    for i in range(shard.account_mask + 1):
        while shard.accounts[i] != NULL:
            account = shard.accounts[i]
            shard.accounts[i] = account.next
            space_close(shard, &account.space)
            give_memory(account)
    close_policies(shard)
    while shard.grant_limits != NULL:
        limits = shard.grant_limits
        shard.grant_limits = limits.next
        give_memory(limits)
    table_close(&shard.grants)
    table_close(&shard.principals)
    give_memory(shard.accounts)
