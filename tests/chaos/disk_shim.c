/* A file system that is full: no file below the folder that FULL_FLAG names can grow.
 *
 * FULL_FLAG is a file with the path of that folder, or no file while there is room. What a file has
 * already can be overwritten, as on a real disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whether writing up to `end` makes the file larger although its disk is full. */
static int is_full(int fd, off_t end)
{
    const char *flag = getenv("FULL_FLAG");
    struct stat found;
    if (!flag || fstat(fd, &found) || !S_ISREG(found.st_mode) || end <= found.st_size)
        return 0;
    int file = open(flag, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    char folder[PATH_MAX], link[64], path[PATH_MAX];
    ssize_t size = read(file, folder, sizeof folder - 1);
    close(file);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (size <= 0 || length < size || strncmp(folder, path, size))
        return 0;
    errno = ENOSPC;
    return 1;
}

static size_t total(const struct iovec *parts, int count)
{
    size_t size = 0;
    for (int each = 0; each < count; each++)
        size += parts[each].iov_len;
    return size;
}

#define REAL(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size)
{
    static __typeof__(write) *real;
    if (!real)
        real = REAL(write);
    off_t at = lseek(fd, 0, SEEK_CUR);
    return at >= 0 && is_full(fd, at + size) ? -1 : real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    static __typeof__(pwrite) *real;
    if (!real)
        real = REAL(pwrite);
    return is_full(fd, at + size) ? -1 : real(fd, data, size, at);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at)
{
    return pwrite(fd, data, size, at);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    static __typeof__(pwritev) *real;
    if (!real)
        real = REAL(pwritev);
    return is_full(fd, at + total(parts, count)) ? -1 : real(fd, parts, count, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t at)
{
    return pwritev(fd, parts, count, at);
}

int posix_fallocate(int fd, off_t at, off_t size)
{
    static __typeof__(posix_fallocate) *real;
    if (!real)
        real = REAL(posix_fallocate);
    return is_full(fd, at + size) ? ENOSPC : real(fd, at, size);
}

int posix_fallocate64(int fd, off_t at, off_t size)
{
    return posix_fallocate(fd, at, size);
}
