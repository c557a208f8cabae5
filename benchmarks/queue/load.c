/* A closed loop of clients of a beanstalkd: each sends its next command when it has its reply.

   load PORT CLIENTS SECONDS COUNT SIZE put|cycle|take

   put: puts.  cycle: put, reserve, delete.  take: reserve, delete.  It ends after SECONDS, or
   after COUNT operations if that is not 0. Prints: operations, seconds, p50 and p99 in us. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PUT, RESERVE, DELETE };
static const char *EXPECTED[] = {"INSERTED", "RESERVED", "DELETED"};

struct client {
    int fd, state, length;
    double started;
    char id[32], buffer[70000];
};

static char put[70000];
static int put_length, first, last;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void command(struct client *c)
{
    char line[64];
    int length;
    if (c->state == PUT)
        length = put_length;
    else if (c->state == RESERVE)
        length = sprintf(line, "reserve-with-timeout 5\r\n");
    else
        length = sprintf(line, "delete %s\r\n", c->id);
    if (write(c->fd, c->state == PUT ? put : line, length) != length)
        fail("write");
}

static void begin(struct client *c)
{
    c->started = now();
    c->state = first;
    command(c);
}

/* Read what is there; return whether a whole reply is. */
static int replied(struct client *c)
{
    int got = read(c->fd, c->buffer + c->length, sizeof c->buffer - c->length), size;
    if (got <= 0)
        fail("read");
    c->length += got;
    char *end = memmem(c->buffer, c->length, "\r\n", 2);
    if (!end)
        return 0;
    if (strncmp(c->buffer, EXPECTED[c->state], strlen(EXPECTED[c->state]))) {
        fprintf(stderr, "unexpected: %.*s\n", (int)(end - c->buffer), c->buffer);
        exit(1);
    }
    if (c->state == RESERVE) {
        sscanf(c->buffer, "RESERVED %31s %d", c->id, &size);
        if (c->length < end + 2 - c->buffer + size + 2)
            return 0;
    }
    c->length = 0;
    return 1;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    int port = atoi(argv[1]), count = atoi(argv[2]), size = atoi(argv[5]), poll = epoll_create1(0);
    double seconds = atof(argv[3]);
    long most = atol(argv[4]), begun = 0, done = 0, room = 1 << 20;
    first = strcmp(argv[6], "take") ? PUT : RESERVE;
    last = strcmp(argv[6], "put") ? DELETE : PUT;
    put_length = sprintf(put, "put 1024 0 120 %d\r\n%*s\r\n", size, size, "x");
    struct client *clients = calloc(count, sizeof *clients);
    double *times = malloc(room * sizeof *times);
    for (int i = 0; i < count; i++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
        int on = 1, fd = clients[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to))
            fail("connect");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
    double started = now(), end = started + seconds;
    for (; begun < count; begun++)
        begin(&clients[begun]);
    while (done < begun) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, 10000);
        if (ready <= 0)
            fail("no reply for ten seconds");
        for (int i = 0; i < ready; i++) {
            struct client *c = events[i].data.ptr;
            if (!replied(c))
                continue;
            if (c->state != last) {
                c->state++;
                command(c);
                continue;
            }
            double t = now();
            if (done == room)
                times = realloc(times, (room *= 2) * sizeof *times);
            times[done++] = t - c->started;
            if (most ? begun < most : t < end) {
                begun++;
                begin(c);
            }
        }
    }
    double took = now() - started;
    qsort(times, done, sizeof *times, by_size);
    printf("%ld %f %f %f\n", done, took, times[done / 2] * 1e6, times[done * 99 / 100] * 1e6);
    return 0;
}
