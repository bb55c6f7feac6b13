# A queue of handles: connections that have to be looked at, by name, since they may be gone when their turn comes.
#
# Here belongs the queue. Not here: who stands in it, and why.

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memmove

from broker._core.memory cimport give_memory, resize_memory

cdef struct HandleQueue:
    uint64_t* handles
    uint32_t first
    uint32_t count
    uint32_t capacity

cdef inline void queue_handle(HandleQueue* queue, uint64_t handle) noexcept nogil:
    if queue.first + queue.count == queue.capacity:
        if queue.first > queue.count:
            memmove(queue.handles, queue.handles + queue.first, queue.count * sizeof(uint64_t))
            queue.first = 0
        else:
            queue.capacity = queue.capacity * 2 if queue.capacity else 64
            queue.handles = <uint64_t*>resize_memory(queue.handles, queue.capacity * sizeof(uint64_t))
    queue.handles[queue.first + queue.count] = handle
    queue.count += 1

cdef inline uint64_t next_handle(HandleQueue* queue) noexcept nogil:
    # Only of one that is not empty.
    cdef uint64_t handle = queue.handles[queue.first]
    queue.first += 1
    queue.count -= 1
    if queue.count == 0:
        queue.first = 0
    return handle

cdef inline void free_queue(HandleQueue* queue) noexcept nogil:
    give_memory(queue.handles)
    queue.handles = NULL
