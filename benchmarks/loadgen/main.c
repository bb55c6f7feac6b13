#define _GNU_SOURCE
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "connection.h"
#include "io.h"
#include "options.h"
#include "phases.h"

static void prepare_process(void)
{
    struct rlimit files;
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

/* Exit status: 0; 1 for wrong use; 3 when a connection failed or was lost. */
int main(int argc, char **argv)
{
    parse_options(argc, argv);
    prepare_process();
    io_setup();
    if (options.mode == MODE_CONNECT)
        run_connect();
    else if (options.mode == MODE_OFFLINE)
        run_offline();
    else
        run_pubsub();
    return failed_connections || lost_connections ? 3 : 0;
}
