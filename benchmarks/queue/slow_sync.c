/* Preloaded into a server: every sync of a file takes SLOW_SYNC_US microseconds longer. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int slow(const char *function, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, function);
    const char *delay = getenv("SLOW_SYNC_US");
    if (delay)
        usleep(atoi(delay));
    return real(fd);
}

int fsync(int fd) { return slow("fsync", fd); }
int fdatasync(int fd) { return slow("fdatasync", fd); }
