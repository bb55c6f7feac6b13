#include "fleet.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io.h"
#include "loop.h"
#include "messages.h"
#include "options.h"
#include "packets.h"
#include "publishing.h"
#include "topics.h"

#define NO_PROGRESS_NS 40000000000ull /* what a full backlog has dropped five times comes again after 32 s */
#define CLOSE_WAIT_NS 500000000ull

typedef struct {
    char *client_id, *username, *password;
} Credential;

typedef struct {
    Credential *rows;
    long count;
} Credentials;

static Credentials of_publishers, of_subscribers;

static void load_credentials(Credentials *list, const char *path)
{
    if (!path) return;
    FILE *f = fopen(path, "r");
    if (!f) die("%s: %s", path, strerror(errno));
    char line[1024], client_id[256], username[256], password[512];
    while (fgets(line, sizeof line, f)) {
        int n = sscanf(line, "%255s %255s %511s", client_id, username, password);
        if (n < 1 || client_id[0] == '#') continue;
        list->rows = xrealloc(list->rows, (size_t)(list->count + 1) * sizeof *list->rows);
        list->rows[list->count++] =
            (Credential){xstrdup(client_id), n > 1 ? xstrdup(username) : NULL, n > 2 ? xstrdup(password) : NULL};
    }
    fclose(f);
}

/* Subscribers have their own file, or the lines behind the publishers', or none. */
static const Credential *credential_of(enum role role, uint32_t index)
{
    if (role == ROLE_SUBSCRIBER && of_subscribers.rows) {
        if (index >= of_subscribers.count) die("not enough lines in --subscriber-credentials");
        return &of_subscribers.rows[index];
    }
    if (!of_publishers.rows || role == ROLE_STALLED) return NULL;
    if (role == ROLE_SUBSCRIBER) {
        long line = publisher_count + (long)index;
        return line < of_publishers.count ? &of_publishers.rows[line] : NULL;
    }
    if (index >= of_publishers.count) die("not enough lines in --credentials");
    return &of_publishers.rows[index];
}

static void name_connection(Connection *c, enum role role, uint32_t index)
{
    c->fd = -1;
    c->role = (uint8_t)role;
    c->index = index;
    c->clean = !(options.persistent && role == ROLE_SUBSCRIBER);
    const Credential *k = credential_of(role, index);
    if (k) {
        c->client_id = k->client_id;
        c->username = k->username;
        c->password = k->password;
        return;
    }
    char text[128];
    snprintf(text, sizeof text, "%s%c%u", options.client_id_prefix, "pscx"[role], index);
    c->client_id = xstrdup(text);
    bool own = role == ROLE_SUBSCRIBER || role == ROLE_STALLED;
    const char *username = own && options.subscriber_username ? options.subscriber_username : options.username;
    const char *password = own && options.subscriber_password ? options.subscriber_password : options.password;
    Names names = {.identity = c->client_id, .index = index};
    if (username) c->username = expand(username, names);
    if (password) c->password = expand(password, names);
}

static void expect_one_copy(void)
{
    for (int s = 0; s < stream_count; s++) stream_fan[s] = 1;
}

void build_fleet(int subscribers_wanted, int publishers_wanted, enum role publisher_role)
{
    load_credentials(&of_publishers, options.credentials_path);
    load_credentials(&of_subscribers, options.subscriber_credentials_path);
    subscriber_count = subscribers_wanted;
    publisher_count = publishers_wanted;
    stalled_count = options.stalled_count;
    connection_count = subscribers_wanted + publishers_wanted + stalled_count;
    connections = xcalloc((size_t)connection_count, sizeof *connections);
    subscribers = connections;
    publishers = connections + subscriber_count;
    stalled = publishers + publisher_count;
    for (int i = 0; i < subscriber_count; i++) name_connection(&subscribers[i], ROLE_SUBSCRIBER, (uint32_t)i);
    for (int i = 0; i < publisher_count; i++) name_connection(&publishers[i], publisher_role, (uint32_t)i);
    for (int i = 0; i < stalled_count; i++) name_connection(&stalled[i], ROLE_STALLED, (uint32_t)i);
    dirty = xcalloc((size_t)connection_count, sizeof *dirty);
    if (!options.source_addresses) options.source_addresses = 1 + connection_count / 10000;
    build_publishing();
    if (publisher_role != ROLE_PUBLISHER) return;
    build_topics();
    if (options.raw)
        expect_one_copy();
    else
        build_expected_fan();
    build_messages();
}

double connect_range(int from, int to)
{
    uint64_t started = now_ns(), progress = started;
    int next = from, goal = ready_connections + (to - from), seen = -1, failed_before = failed_connections;
    while (ready_connections + (failed_connections - failed_before) < goal) {
        while (next < to && opening_connections < options.burst) connection_open(&connections[next++]);
        loop_step(now_ns() + 100000000);
        if (ready_connections + failed_connections != seen) {
            seen = ready_connections + failed_connections;
            progress = batch_now_ns;
        } else if (now_ns() - progress > NO_PROGRESS_NS) {
            fprintf(stderr, "loadgen: no progress while connecting: %d of %d ready\n", ready_connections, goal);
            break;
        }
        if (failed_connections - failed_before > 100 && failed_connections * 2 > to - from) die("too many failed connections");
    }
    return (double)(now_ns() - started) / 1e9;
}

void disconnect_range(int from, int to)
{
    int others = ready_connections;
    closing = true;
    for (int i = from; i < to; i++) {
        if (connections[i].state != STATE_READY) continue;
        others--;
        if (!options.raw) send_empty(&connections[i], 0xE0);
    }
    flush_all();
    uint64_t end = now_ns() + CLOSE_WAIT_NS;
    while (ready_connections > others && now_ns() < end) {
        poll_once(20000000);
        flush_all();
    }
    for (int i = from; i < to; i++)
        if (connections[i].state != STATE_IDLE) connection_close(&connections[i], "done");
    closing = false;
}

void disconnect_all(void)
{
    publishing = false;
    disconnect_range(0, connection_count);
}
