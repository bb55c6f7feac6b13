"""Walks over the retained messages that a filter matches. See retained_runs.pxd.

What is new is listed first among its siblings and is no business of a run that stands behind it: it was delivered when
it was published.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy

from broker._core.memory cimport give_memory, take_zeroed
from broker._core.model cimport Account, Retained, RetainedNode, RetainedRun, RetainedSpace, ShardState, Subscription
from broker._core.retained_tree cimport find_child, node_level, prune
from broker._core.topics cimport release_subscription


cdef inline uint32_t* level_starts(RetainedRun* run) noexcept nogil:
    return <uint32_t*>(<uint8_t*>run + sizeof(RetainedRun))


cdef inline uint8_t* run_filter(RetainedRun* run) noexcept nogil:
    return <uint8_t*>(level_starts(run) + run.levels + 1)


cdef inline bint takes_any(RetainedRun* run, uint32_t level) noexcept nogil:
    # Whether the filter has a wildcard there.
    cdef uint32_t start = level_starts(run)[level if level < run.levels else run.levels - 1]
    if run.ends_with_hash and level + 1 >= run.levels:
        return True
    return level_starts(run)[level + 1] - start == 2 and run_filter(run)[start] == c"+"


cdef inline RetainedNode* first_shown(RetainedNode* node, uint32_t depth) noexcept nogil:
    # No wildcard matches a first level that begins with `$`. [MQTT-4.7.2-1]
    while depth == 1 and node != NULL and node.level_bytes and node_level(node)[0] == c"$":
        node = node.next_sibling
    return node


cdef RetainedNode* below(ShardState* shard, RetainedSpace* space, RetainedRun* run) noexcept nogil:
    cdef uint32_t start
    if run.depth >= run.levels and not run.ends_with_hash:
        return NULL
    if takes_any(run, run.depth):
        return first_shown(run.at.first_child, run.depth + 1)
    start = level_starts(run)[run.depth]
    return find_child(
        shard, space, run.at, run_filter(run) + start, level_starts(run)[run.depth + 1] - start - 1)


cdef RetainedNode* beside_or_above(RetainedRun* run) noexcept nogil:
    cdef RetainedNode* node = run.at
    cdef RetainedNode* sibling
    while node.parent != NULL:
        if takes_any(run, run.depth - 1):
            sibling = first_shown(node.next_sibling, run.depth)
            if sibling != NULL:
                return sibling
        node = node.parent
        run.depth -= 1
    return NULL


cdef void move_to(RetainedSpace* space, RetainedRun* run, RetainedNode* node) noexcept nogil:
    cdef RetainedNode* left = run.at
    run.at = node
    if node != NULL:
        node.pins += 1
    left.pins -= 1
    prune(space, left)


cdef void step_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil:
    # In preorder, into what the filter can match only.
    cdef RetainedNode* node = below(shard, &account.retained, run)
    if node != NULL:
        run.depth += 1
    else:
        node = beside_or_above(run)
    move_to(&account.retained, run, node)


cdef inline bint ends_here(RetainedRun* run) noexcept nogil:
    return run.depth + 1 >= run.levels if run.ends_with_hash else run.depth == run.levels


cdef Retained* find_retained(ShardState* shard, Account* account, RetainedRun* run, int64_t until) noexcept nogil:
    cdef Retained* retained
    while run.at != NULL and shard.slice_budget > until:
        retained = run.at.retained
        if retained != NULL and retained.serial <= run.serial and ends_here(run):
            return retained
        step_run(shard, account, run)
        shard.slice_budget -= 1     # a step of a long walk goes to memory
    return NULL


cdef RetainedRun* open_run(
        ShardState* shard, Account* account, Subscription* subscription, const uint8_t* filter, uint32_t n
) noexcept nogil:
    cdef RetainedRun* run
    cdef uint32_t levels = 1, i
    if account.retained.root == NULL:
        return NULL
    for i in range(n):
        levels += filter[i] == c"/"
    run = <RetainedRun*>take_zeroed(sizeof(RetainedRun) + (levels + 1) * sizeof(uint32_t) + n)
    run.levels = <uint16_t>levels
    levels = 1
    for i in range(n):
        if filter[i] == c"/":
            level_starts(run)[levels] = i + 1
            levels += 1
    level_starts(run)[levels] = n + 1
    memcpy(run_filter(run), filter, n)
    run.ends_with_hash = filter[n - 1] == c"#"
    run.serial = shard.retained_serial
    run.subscription = subscription
    if subscription != NULL:
        subscription.refs += 1
        subscription.has_run = 1
    run.at = account.retained.root
    run.at.pins += 1
    return run


cdef void close_run(ShardState* shard, Account* account, RetainedRun* run) noexcept nogil:
    if run.at != NULL:
        move_to(&account.retained, run, NULL)
    if run.subscription != NULL:
        run.subscription.has_run = 0
        release_subscription(shard, run.subscription)
    give_memory(run)
