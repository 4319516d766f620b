/* Faults of the system below a process, put before it with LD_PRELOAD: a clock that is wrong, an fsync that fails, a
 * disk without room, a limit of threads, a kill between two writes. The switches stand in a file that the test maps too (tests/support/faulty_system.py), so each can
 * be thrown while the process runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct switches {
    volatile int64_t clock_offset; /* seconds */
    volatile int64_t fsync_fails;
    volatile int64_t disk_full;
    volatile int64_t most_threads; /* that may be started; 0: any number */
    volatile int64_t dies_after; /* so many changes of files on the disk, counted from when this is set; 0: never */
    volatile int64_t slept; /* seconds, on the clock that goes on meanwhile */
};

static struct switches none;
static struct switches *on = &none;

__attribute__((constructor)) static void map_switches(void)
{
    const char *path = getenv("FAULT_SWITCHES");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        on = mapped;
    close(file);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* kill -9 before a change of a file is made, which a process cannot be by itself at a point of the test's choice. */
static void change(void)
{
    static int64_t made;
    if (on->dies_after && __sync_add_and_fetch(&made, 1) > on->dies_after)
        kill(getpid(), SIGKILL);
}

int fsync(int file)
{
    change();
    if (on->fsync_fails) {
        errno = EIO;
        return -1;
    }
    return REAL(fsync)(file);
}

int fdatasync(int file)
{
    change();
    if (on->fsync_fails) {
        errno = EIO;
        return -1;
    }
    return REAL(fdatasync)(file);
}

/* A full disk has no room for a file that grows; what overwrites goes through. The standard streams are left to tell. */
static int no_room(int file, off64_t end)
{
    struct stat status;
    if (!on->disk_full || file <= STDERR_FILENO || fstat(file, &status) != 0 || !S_ISREG(status.st_mode))
        return 0;
    if (end <= status.st_size)
        return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int file, const void *data, size_t size)
{
    return no_room(file, lseek64(file, 0, SEEK_CUR) + (off64_t)size) ? -1 : REAL(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t where)
{
    change();
    return no_room(file, where + (off64_t)size) ? -1 : REAL(pwrite)(file, data, size, where);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t where)
{
    change();
    return no_room(file, where + (off64_t)size) ? -1 : REAL(pwrite64)(file, data, size, where);
}

int ftruncate(int file, off_t size)
{
    change();
    return REAL(ftruncate)(file, size);
}

int ftruncate64(int file, off64_t size)
{
    change();
    return REAL(ftruncate64)(file, size);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*start)(void *), void *with)
{
    static int started;
    if (on->most_threads && __sync_add_and_fetch(&started, 1) > on->most_threads)
        return EAGAIN;
    return REAL(pthread_create)(thread, how, start, with);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = REAL(clock_gettime);
    int result = real(clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += on->clock_offset;
    if (result == 0 && clock == CLOCK_BOOTTIME)
        now->tv_sec += on->slept;
    return result;
}

time_t time(time_t *where)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where)
        *where = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
