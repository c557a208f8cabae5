/* Preloaded into a server under test.

   SHIM_FROM, SHIM_TO: after each sync of a file below SHIM_FROM, what the file then holds is
   copied to SHIM_TO: all that a power cut would leave.
   SHIM_LOG: one line per event: "sync", "recv", or "send" with the beginning of what was sent.
   SHIM_FILES: with it, the log also has "rename" with the new name, and "write", "sync" and
   "syncfs" with the names of files below this folder. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static ssize_t real_write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "write");
    return real(fd, data, size);
}

static void note(const char *what, const char *data, size_t size)
{
    const char *path = getenv("SHIM_LOG");
    char line[64];
    if (!path)
        return;
    size_t end = 0;
    while (end < size && end < 32 && data[end] != '\r')
        end++;
    int length = snprintf(line, sizeof line, "%s %.*s\n", what, (int)end, data);
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (real_write(fd, line, length) != length)
        abort();
    close(fd);
}

static void note_descriptor(const char *what, int fd)
{
    char link[64], path[PATH_MAX];
    const char *below = getenv("SHIM_FILES");
    if (!below)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size > 0) {
        path[size] = 0;
        if (!strncmp(path, below, strlen(below)))
            note(what, strrchr(path, '/') + 1, strlen(strrchr(path, '/') + 1));
    }
}

static void keep(int fd)
{
    static char buffer[1 << 20];
    const char *from = getenv("SHIM_FROM"), *to = getenv("SHIM_TO");
    char link[64], path[PATH_MAX], copy[PATH_MAX + 8], final[PATH_MAX + 8];
    struct stat about;
    if (!from || fstat(fd, &about) || !S_ISREG(about.st_mode))
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return;
    path[size] = 0;
    if (strncmp(path, from, strlen(from)))
        return;
    const char *name = strrchr(path, '/') + 1;
    snprintf(final, sizeof final, "%s/%s", to, name);
    snprintf(copy, sizeof copy, "%s/%s.new", to, name);
    int out = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, buffer, sizeof buffer, at)) > 0) {
        if (real_write(out, buffer, got) != got)
            abort();
        at += got;
    }
    close(out);
    if (rename(copy, final))
        abort();
}

static int synced(const char *function, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, function);
    int result = real(fd);
    if (result == 0) {
        keep(fd);
        if (getenv("SHIM_FILES"))
            note_descriptor(strcmp(function, "syncfs") ? "sync" : "syncfs", fd);
        else
            note("sync", "", 0);
    }
    return result;
}

/* SQLite syncs the folder after it has deleted a rollback journal: the file is gone for good. */
int unlink(const char *path)
{
    int (*real)(const char *) = dlsym(RTLD_NEXT, "unlink");
    const char *from = getenv("SHIM_FROM"), *to = getenv("SHIM_TO");
    char copy[PATH_MAX + 8];
    if (from && !strncmp(path, from, strlen(from))) {
        snprintf(copy, sizeof copy, "%s/%s", to, strrchr(path, '/') + 1);
        real(copy);
    }
    return real(path);
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
int syncfs(int fd) { return synced("syncfs", fd); }

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = dlsym(RTLD_NEXT, "rename");
    const char *name = strrchr(to, '/');
    if (getenv("SHIM_FILES"))
        note("rename", name ? name + 1 : to, strlen(name ? name + 1 : to));
    return real(from, to);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    static ssize_t (*real)(int, const void *, size_t, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "send");
    note("send", data, size);
    return real(fd, data, size, flags);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);
    if (!real)
        real = dlsym(RTLD_NEXT, "recv");
    ssize_t got = real(fd, data, size, flags);
    if (got > 0)
        note("recv", data, got);
    return got;
}

/* uvloop writes to sockets and reads from them as if they were files. */
static int is_socket(int fd)
{
    struct stat found;
    return !fstat(fd, &found) && S_ISSOCK(found.st_mode);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (is_socket(fd))
        note("send", data, size);
    else
        note_descriptor("write", fd);
    return real_write(fd, data, size);
}

ssize_t read(int fd, void *data, size_t size)
{
    static ssize_t (*real)(int, void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "read");
    ssize_t got = real(fd, data, size);
    if (got > 0 && is_socket(fd))
        note("recv", data, got);
    return got;
}
