/* Preloaded into a daemon: while the file $BROKEN_WHILE exists, whatever is read from, written to
 * or synced on a file whose path holds $BROKEN_PATH fails with EIO, as on a dying disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int broken(int fd)
{
    char name[64], path[4096];
    const char *flag = getenv("BROKEN_WHILE"), *part = getenv("BROKEN_PATH");
    if (!flag || !part || access(flag, F_OK) != 0)
        return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, part))
        return 0;
    errno = EIO;
    return 1;
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t read(int fd, void *to, size_t n)
{
    REAL(read);
    return broken(fd) ? -1 : real(fd, to, n);
}

ssize_t pread64(int fd, void *to, size_t n, off64_t at)
{
    REAL(pread64);
    return broken(fd) ? -1 : real(fd, to, n, at);
}

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    REAL(pread);
    return broken(fd) ? -1 : real(fd, to, n, at);
}

ssize_t preadv64(int fd, const struct iovec *to, int n, off64_t at)
{
    REAL(preadv64);
    return broken(fd) ? -1 : real(fd, to, n, at);
}

ssize_t preadv64v2(int fd, const struct iovec *to, int n, off64_t at, int flags)
{
    REAL(preadv64v2);
    return broken(fd) ? -1 : real(fd, to, n, at, flags);
}

ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at)
{
    REAL(pwrite64);
    return broken(fd) ? -1 : real(fd, from, n, at);
}

ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    REAL(pwrite);
    return broken(fd) ? -1 : real(fd, from, n, at);
}

int fsync(int fd)
{
    REAL(fsync);
    return broken(fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return broken(fd) ? -1 : real(fd);
}
