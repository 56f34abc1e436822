/* A disk that forgets what was not synced, preloaded into a node: kill -9 alone loses nothing, since the kernel keeps its pages.
 * Before each write to a file below FORGET_DATA the bytes that it replaces go to a journal of that file in FORGET_JOURNAL;
 * fsync and fdatasync drop the journal. A process that starts with FORGET_LOSE set first takes all journals back, newest
 * write first, so that every file is what its last sync left: the power was lost. Without it nothing is lost: the process died.
 *
 * Models: contents and sizes of regular files, changed by write, writev, pwrite, ftruncate, fallocate, posix_fallocate and
 * O_TRUNC (with O_DIRECT too, and in recycled files, whose older bytes come back); sync_file_range makes nothing durable.
 * Does not model: names (a file made, renamed or removed is so for good), writes torn inside one call, writes that reach the
 * disk out of order, mmap and stdio (RocksDB writes its own text log so, nothing else). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* What one write replaced: `length` bytes at `offset` follow, of a file that was `size` long. */
struct record {
    off_t offset, length, size;
};

static const char *data, *journals;
/* A file's journal, write and sync go together; files share locks by inode. */
static pthread_mutex_t locks[64] = {[0 ... 63] = PTHREAD_MUTEX_INITIALIZER};

static void must(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "forget: %s: %s\n", what, strerror(errno));
    abort();
}

static void journal_name(ino_t inode, char *name) {
    snprintf(name, PATH_MAX, "%s/%lu", journals, (unsigned long)inode);
}

/* Copies until `length` bytes or the end of `from`. */
static off_t copy(int from, off_t from_at, int to, off_t to_at, off_t length) {
    char buffer[1 << 16];
    off_t done = 0;
    while (done < length) {
        size_t wanted = length - done < (off_t)sizeof buffer ? (size_t)(length - done) : sizeof buffer;
        ssize_t got = syscall(SYS_pread64, from, buffer, wanted, from_at + done);
        if (got <= 0) break;
        must(syscall(SYS_pwrite64, to, buffer, got, to_at + done) == got, "a copy is cut short");
        done += got;
    }
    return done;
}

/* Locks the file behind `fd` if it is one of ours; gives its lock, or NULL. */
static pthread_mutex_t *take(int fd, struct stat *file) {
    char link[32], path[PATH_MAX];
    if (!data || fstat(fd, file) != 0 || !S_ISREG(file->st_mode)) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    if (length < (ssize_t)strlen(data) || memcmp(path, data, strlen(data)) != 0) return NULL;
    pthread_mutex_t *lock = &locks[file->st_ino % 64];
    pthread_mutex_lock(lock);
    must(fstat(fd, file) == 0, "a file cannot be looked at");
    return lock;
}

static void leave(pthread_mutex_t *lock) {
    if (lock) pthread_mutex_unlock(lock);
}

/* Takes down what a change of `length` bytes at `offset` is about to replace. */
static void save(int fd, const struct stat *file, off_t offset, off_t length) {
    char name[PATH_MAX], link[32];
    off_t end = offset + length < file->st_size ? offset + length : file->st_size;
    struct record record = {offset, end > offset ? end - offset : 0, file->st_size};
    journal_name(file->st_ino, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int journal = syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    /* The file's own descriptor may be for writing only, or for whole blocks only. */
    int old = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
    must(journal >= 0 && old >= 0, "a journal cannot be opened");
    off_t at = lseek(journal, 0, SEEK_END);
    /* Cut short by a kill, the record is not whole, and the write that it is for has not begun. */
    must(syscall(SYS_pwrite64, journal, &record, sizeof record, at) == sizeof record, "a journal cannot be written");
    must(copy(old, offset, journal, at + sizeof record, record.length) == record.length, "old bytes cannot be kept");
    close(old);
    close(journal);
}

static off_t position(int fd, const struct stat *file) {
    return fcntl(fd, F_GETFL) & O_APPEND ? file->st_size : lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat file;
    pthread_mutex_t *lock = take(fd, &file);
    if (lock) save(fd, &file, position(fd, &file), count);
    ssize_t result = syscall(SYS_write, fd, bytes, count);
    leave(lock);
    return result;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    struct stat file;
    pthread_mutex_t *lock = take(fd, &file);
    off_t length = 0;
    for (int i = 0; i < count; i++) length += parts[i].iov_len;
    if (lock) save(fd, &file, position(fd, &file), length);
    ssize_t result = syscall(SYS_writev, fd, parts, count);
    leave(lock);
    return result;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    struct stat file;
    pthread_mutex_t *lock = take(fd, &file);
    if (lock) save(fd, &file, offset, count);
    ssize_t result = syscall(SYS_pwrite64, fd, bytes, count, offset);
    leave(lock);
    return result;
}

int ftruncate(int fd, off_t length) {
    struct stat file;
    pthread_mutex_t *lock = take(fd, &file);
    if (lock) save(fd, &file, length, file.st_size);
    int result = syscall(SYS_ftruncate, fd, length);
    leave(lock);
    return result;
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
    struct stat file;
    pthread_mutex_t *lock = take(fd, &file);
    if (lock) save(fd, &file, offset, mode & ~FALLOC_FL_KEEP_SIZE ? length : 0);
    int result = syscall(SYS_fallocate, fd, mode, offset, length);
    leave(lock);
    return result;
}

int posix_fallocate(int fd, off_t offset, off_t length) {
    return fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
}

static int synced(int fd, long call) {
    struct stat file;
    char name[PATH_MAX];
    pthread_mutex_t *lock = take(fd, &file);
    int result = syscall(call, fd);
    if (lock && result == 0) {
        journal_name(file.st_ino, name);
        syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    }
    leave(lock);
    return result;
}

int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static int open_file(int folder, const char *path, int flags, mode_t mode) {
    int cut = flags & O_TRUNC && flags & (O_WRONLY | O_RDWR);
    int fd = syscall(SYS_openat, folder, path, cut ? flags & ~O_TRUNC : flags, mode);
    struct stat file;
    if (cut && fd >= 0 && fstat(fd, &file) == 0 && S_ISREG(file.st_mode)) must(ftruncate(fd, 0) == 0, "a file cannot be cut");
    return fd;
}

static mode_t mode_of(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

int open(const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_file(AT_FDCWD, path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = mode_of(flags, arguments);
    va_end(arguments);
    return open_file(folder, path, flags, mode);
}

/* A removed file's inode may come back as another file: its journal goes with it. */
static void gone(int folder, const char *path) {
    struct stat file;
    char name[PATH_MAX];
    if (!journals || fstatat(folder, path, &file, AT_SYMLINK_NOFOLLOW) != 0 || file.st_nlink > 1) return;
    journal_name(file.st_ino, name);
    syscall(SYS_unlinkat, AT_FDCWD, name, 0);
}

int unlink(const char *path) {
    gone(AT_FDCWD, path);
    return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

int unlinkat(int folder, const char *path, int flags) {
    if (!(flags & AT_REMOVEDIR)) gone(folder, path);
    return syscall(SYS_unlinkat, folder, path, flags);
}

int rename(const char *from, const char *to) {
    gone(AT_FDCWD, to);
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

ssize_t pwrite64(int, const void *, size_t, off64_t) __attribute__((alias("pwrite")));
int ftruncate64(int, off64_t) __attribute__((alias("ftruncate")));
int fallocate64(int, int, off64_t, off64_t) __attribute__((alias("fallocate")));
int posix_fallocate64(int, off64_t, off64_t) __attribute__((alias("posix_fallocate")));
int open64(const char *, int, ...) __attribute__((alias("open")));
int openat64(int, const char *, int, ...) __attribute__((alias("openat")));

/* Takes back what a journal holds, the newest write first; gives how many writes that were. */
static size_t take_back(int file, int journal) {
    struct record record;
    off_t at = 0, end = lseek(journal, 0, SEEK_END), *places = malloc((end / sizeof record + 1) * sizeof *places);
    size_t count = 0;
    must(places != NULL, "no memory");
    while (syscall(SYS_pread64, journal, &record, sizeof record, at) == sizeof record) {
        places[count] = at;
        at += sizeof record + record.length;
        if (at > end) break;
        count++;
    }
    for (size_t left = count; left > 0; left--) {
        at = places[left - 1];
        must(syscall(SYS_pread64, journal, &record, sizeof record, at) == sizeof record, "a record is gone");
        copy(journal, at + sizeof record, file, record.offset, record.length);
        must(syscall(SYS_ftruncate, file, record.size) == 0, "a file cannot be cut back");
    }
    free(places);
    return count;
}

static int lose(const char *path, const struct stat *found, int kind, struct FTW *place) {
    char name[PATH_MAX];
    if (kind != FTW_F) return 0;
    journal_name(found->st_ino, name);
    int journal = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    if (journal < 0) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    must(file >= 0, path);
    fprintf(stderr, "forget: lost writes=%zu file=%s\n", take_back(file, journal), path + place->base);
    close(file);
    close(journal);
    syscall(SYS_unlinkat, AT_FDCWD, name, 0);
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *wanted = getenv("FORGET_DATA");
    journals = getenv("FORGET_JOURNAL");
    if (!wanted || !journals) return;
    if (getenv("FORGET_LOSE")) {
        nftw(wanted, lose, 16, FTW_PHYS);
        fprintf(stderr, "forget: the power was lost\n");
    }
    data = wanted;
}
