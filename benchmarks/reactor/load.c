/* A cheap closed loop: each of CONNECTIONS sends REQUEST DEPTH times, waits for DEPTH answers of
   ANSWER bytes each, and starts again. With DEPTH 0 each connection asks once and is replaced.
   usage: load PORT CONNECTIONS DEPTH SECONDS ANSWER REQUEST_FILE OPENING OPENING_ANSWER
   The first OPENING bytes of the file are sent once, when a connection is made; OPENING_ANSWER
   bytes of answer are awaited then.
   It prints "ready" when all are connected and, if it is to work at all, have had an answer, so
   that accepting them is not counted. Then it waits for a line, works, prints the answers it got,
   and waits for a line again before it closes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

struct connection { int fd; size_t to_send, to_get; };

static struct sockaddr_in server = {.sin_family = AF_INET};
static int poller, depth, warming;
static size_t answer, request_size, batch, opening_size, opening_answer;
static char *request, *opening, trash[1 << 18];
static unsigned long answers;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) { perror(what); exit(1); }

static void open_one(struct connection *c) {
    int one = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if ((c->fd = socket(AF_INET, SOCK_STREAM, 0)) < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (send(c->fd, opening, opening_size, MSG_NOSIGNAL) != (ssize_t)opening_size) die("send");
    if (opening_answer
        && recv(c->fd, trash, opening_answer, MSG_WAITALL) != (ssize_t)opening_answer) die("recv");
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0) die("epoll_ctl");
}

static void close_one(struct connection *c) {
    struct linger reset = {1, 0}; /* or the ports run out */
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
}

static void push(struct connection *c) {
    while (c->to_send) {
        size_t offset = (batch - c->to_send) % batch;
        ssize_t sent = send(c->fd, request + offset, c->to_send, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) die("send");
        c->to_send -= sent;
    }
    struct epoll_event event = {.events = EPOLLIN | (c->to_send ? EPOLLOUT : 0), .data.ptr = c};
    static int watched[1 << 20];
    if (watched[c->fd] != (c->to_send > 0)) {
        watched[c->fd] = c->to_send > 0;
        epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
    }
}

static void ask(struct connection *c) {
    c->to_send = batch;
    c->to_get = answer * (depth ? depth : 1);
    push(c);
}

static void pull(struct connection *c) {
    ssize_t got = recv(c->fd, trash, sizeof trash, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) die("recv");
    c->to_get -= (size_t)got > c->to_get ? c->to_get : (size_t)got;
    if (c->to_get) return;
    answers += depth ? depth : 1;
    if (!depth) { close_one(c); open_one(c); }
    if (warming)
        warming--;
    else
        ask(c);
}

static void serve(void) {
    struct epoll_event events[256];
    int ready = epoll_wait(poller, events, 256, 100);
    for (int i = 0; i < ready; i++) {
        struct connection *c = events[i].data.ptr;
        if (c->to_send && events[i].events & EPOLLOUT) push(c);
        if (events[i].events & ~EPOLLOUT) pull(c);
    }
}

int main(int argc, char **argv) {
    if (argc != 9) return 2;
    int count = atoi(argv[2]);
    double seconds = atof(argv[4]);
    depth = atoi(argv[3]);
    answer = strtoul(argv[5], 0, 10);
    server.sin_port = htons(atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    FILE *file = fopen(argv[6], "rb");
    if (!file) die(argv[6]);
    opening_size = strtoul(argv[7], 0, 10);
    opening_answer = strtoul(argv[8], 0, 10);
    opening = malloc(opening_size);
    if (fread(opening, 1, opening_size, file) != opening_size) die(argv[6]);
    request_size = fread(trash, 1, sizeof trash, file);
    batch = request_size * (depth ? depth : 1);
    request = malloc(batch);
    for (size_t i = 0; i < batch; i += request_size) memcpy(request + i, trash, request_size);
    poller = epoll_create1(0);
    struct connection *all = calloc(count, sizeof *all);
    for (int i = 0; i < count; i++) open_one(all + i);
    if (seconds > 0) {
        warming = count;
        for (int i = 0; i < count; i++) ask(all + i);
        while (warming) serve();
    }
    answers = 0;
    puts("ready");
    fflush(stdout);
    getchar();
    double start = now(), end = start + seconds;
    if (seconds > 0) for (int i = 0; i < count; i++) ask(all + i);
    while (now() < end) serve();
    printf("%lu %f\n", answers, now() - start);
    fflush(stdout);
    getchar();
    return 0;
}
