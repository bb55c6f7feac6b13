"""The core's inner tables as tests see them: a timing wheel by itself, and the sizes of what a shard keeps.

Here belong thin wrappers around native structs. Not here: rules, and anything the broker itself uses.
"""

from cython cimport final
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free

from broker._core.aliases cimport aliases_bytes
from broker._core.grants cimport find_account
from broker._core.memory cimport take_zeroed
from broker._core.model cimport DEAF, HEARING, Account, Connection, Durable, Session, Subscription, Timer, Wheel
from broker._core.shard cimport Shard
from broker._core.timers cimport timer_cancel, timer_set, wheel_next_ns, wheel_open, wheel_pop
from broker._core.topics cimport match_topic


@final
cdef class ProbedWheel:
    cdef Wheel wheel
    cdef dict timers

    def __cinit__(self, long long now_ns):
        self.timers = {}
        wheel_open(&self.wheel, now_ns)

    def __dealloc__(self):
        for address in self.timers.values():
            free(<void*><size_t>address)

    def set(self, int name, long long deadline_ns):
        cdef Timer* timer
        if name not in self.timers:
            timer = <Timer*>take_zeroed(sizeof(Timer))
            timer.owner = <void*><size_t>name
            self.timers[name] = <size_t>timer
        timer_set(&self.wheel, <Timer*><size_t>self.timers[name], deadline_ns)

    def cancel(self, int name):
        if name in self.timers:
            timer_cancel(&self.wheel, <Timer*><size_t>self.timers[name])

    def fire(self, long long now_ns):
        cdef Timer* timer = wheel_pop(&self.wheel, now_ns)
        fired = []
        while timer != NULL:
            fired.append(<int><size_t>timer.owner)
            timer = wheel_pop(&self.wheel, now_ns)
        return fired

    def next_ns(self):
        cdef int64_t at = wheel_next_ns(&self.wheel)
        return None if at < 0 else at

    @property
    def armed(self):
        return self.wheel.armed


def topic_tables(Shard shard not None, uint32_t account_id):
    cdef Account* account = find_account(shard.state, account_id)
    if account == NULL:
        return None
    return {
        "topics": account.space.topics.count, "nodes": account.space.nodes.count,
        "subscriptions": account.space.subscription_count, "wildcards": account.space.wildcards,
        "buckets": account.space.topics.size, "node_buckets": account.space.nodes.size,
        "groups": account.space.groups.count, "filter_bytes": shard.state.arena.live_bytes,
        "filter_chunk_bytes": shard.state.arena.chunk_bytes,
        "sessions": account.sessions,
    }


def retained_tables(Shard shard not None, uint32_t account_id):
    cdef Account* account = find_account(shard.state, account_id)
    if account == NULL:
        return None
    return {
        "messages": account.retained.count, "nodes": account.retained.node_count,
        "buckets": account.retained.bucket_count, "bucket_capacity": account.retained.bucket_capacity,
        "pins": 0 if account.retained.root == NULL else account.retained.root.pins,
    }


def match_topics(Shard shard not None, uint32_t account_id, list topic_names):
    cdef Account* account = find_account(shard.state, account_id)
    cdef bytes name
    cdef uint64_t found = 0
    for name in topic_names:
        match_topic(shard.state, &account.space, name, <uint32_t>len(name), NULL)
        found += shard.state.receiver_count
    return found


def struct_sizes():
    return {"connection": sizeof(Connection), "session": sizeof(Session), "subscription": sizeof(Subscription)}


def alias_bytes(Shard shard, uint64_t handle):
    return aliases_bytes(shard.need(handle))


def cut_reads(Shard shard, bint cut):
    shard.state.reads_cut = cut


def deafen(Shard shard, uint64_t handle):
    cdef Connection* connection = shard.need(handle)
    if connection.deaf == HEARING:
        connection.deaf = DEAF


def waking(Shard shard):
    cdef Connection* connection = shard.state.waking_head
    cdef uint32_t count = 0
    while connection != NULL and count <= shard.state.connection_count:
        count += 1
        connection = connection.waking_next
    return count


def parked(Shard shard):
    cdef Durable* durable
    cdef uint32_t i
    cdef uint64_t single = 0, runs = 0
    for i in range(shard.state.journal.durable_mask + 1):
        durable = shard.state.journal.durables[i]
        while durable != NULL:
            single += durable.parked.count
            if durable.runs != NULL:
                single += durable.runs.front.count
                runs += durable.runs.count
            durable = durable.next
    return {"single": single, "runs": runs, "chunks": shard.state.journal.chunk_count - shard.state.journal.chunks_gone}
