/* The floor: an echo server that only makes the system calls it must (level-triggered epoll, a
   write for each read). It prints its port, and drops a client that does not read. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    static char buffer[1 << 18];
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof name;
    int poller = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    if (bind(listener, (struct sockaddr *)&name, size) || listen(listener, 4096)) return 1;
    getsockname(listener, (struct sockaddr *)&name, &size);
    printf("listening on tcp 127.0.0.1:%d\n", ntohs(name.sin_port));
    fflush(stdout);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                while ((fd = accept4(listener, 0, 0, SOCK_NONBLOCK)) >= 0) {
                    event.data.fd = fd;
                    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
                }
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, 0), sent = 0;
            if (got < 0 && errno == EAGAIN) continue;
            while (got > 0 && sent < got) {
                ssize_t now = send(fd, buffer + sent, got - sent, MSG_NOSIGNAL);
                if (now < 0 && errno == EAGAIN) continue; /* our load client always reads */
                if (now < 0) break;
                sent += now;
            }
            if (got <= 0 || sent < got) close(fd);
        }
    }
}
