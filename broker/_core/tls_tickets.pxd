# Keys of session tickets: a client that comes back shows its ticket, and the handshake costs a tenth.
#
# Here belong the keys, their age and OpenSSL's callback for them. Not here: contexts (tls).

from libc.stdint cimport int64_t, uint8_t, uint32_t

cdef struct TicketKey:
    uint8_t name[16]
    uint8_t cipher[32]
    uint8_t mac[32]

cdef struct TicketKeys:     # shared by the contexts of one listener, one after the other
    TicketKey current
    TicketKey previous      # tickets made with it are still taken, and replaced
    int64_t made_at_ns
    int64_t lifetime_ns     # of the current key; for as long again it is the previous one
    uint32_t references
    uint8_t has_previous

# NULL when there is no randomness to be had.
cdef TicketKeys* make_ticket_keys(int64_t now_ns, int64_t lifetime_ns) noexcept nogil
cdef void share_ticket_keys(TicketKeys* keys) noexcept nogil
# Makes a context use these keys; the reference passes to the context, which gives it back when it is freed.
cdef bint use_ticket_keys(void* context, TicketKeys* keys) noexcept nogil
