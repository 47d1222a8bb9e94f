/* What a program asks of its disk, written down so that a power cut can be played afterwards.
 *
 * Preloaded into a program, this library passes every call on to the kernel and appends a record of it to a
 * journal: writes with their octets, changes of size, names made, changed and removed, and the beginning and
 * end of every sync. `powerloss.py` reads the journal and builds the disk as it may be found after the power
 * was cut at its end.
 *
 * A record is one append to a file opened with O_APPEND, so the records of several threads and processes have
 * one order. A write is recorded after it was made and a sync begins (in the journal) before it is asked for:
 * what is in the journal before a sync's beginning was covered by it, what came later is treated as if not.
 * What one thread has made and not recorded yet another may see, build upon (a folder in a new folder), and
 * rely on its own sync to cover: so no other name is changed, and no sync begins, in a process between the two.
 *
 *   OUTRIDER_POWER_ROOT     the folder whose files are watched, as the program sees its path
 *   OUTRIDER_POWER_JOURNAL  the journal; it must exist
 *
 * Files are told by their inode numbers, names by the inode of their folder. Not seen: stdio streams and
 * mapped memory (of what is watched, SQLite's index of its log, which is built anew from the log).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_DESCRIPTORS 65536
#define MOST_PARTS 1024
#define JOURNAL_DESCRIPTOR 700
#define MAGIC 0x9d6b1f47c3a5e208ULL

enum { CREATE = 1, WRITE, RESIZE, GROW, SYNC_BEGUN, SYNC_ENDED, LINK, RENAME, UNLINK, MKDIR };

struct record {
    uint64_t magic;
    uint64_t file;   /* inode; for the end of a sync its number */
    uint64_t folder; /* inode of the folder of a name; for a write its offset, for a resize the size */
    uint64_t other;  /* RENAME: the new name's folder; SYNC_BEGUN: its number */
    uint32_t kind;
    uint32_t mode;
    uint32_t name_length;
    uint32_t data_length; /* octets written; RENAME: the new name */
};

static int journal = -1;
static char root[PATH_MAX];
static size_t root_length;
static unsigned char watched[MOST_DESCRIPTORS];
static uint32_t sync_numbers;
static pthread_rwlock_t changing = PTHREAD_RWLOCK_INITIALIZER;

static void octets_change(void) { pthread_rwlock_rdlock(&changing); }
static void names_change(void) { pthread_rwlock_wrlock(&changing); } /* or a sync begins */
static void is_recorded(void) { pthread_rwlock_unlock(&changing); }

static void die(const char *what) {
    (void)!syscall(SYS_write, 2, what, strlen(what));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("OUTRIDER_POWER_ROOT"), *path = getenv("OUTRIDER_POWER_JOURNAL");
    if (folder == NULL || path == NULL)
        return;
    root_length = strlen(folder);
    if (root_length >= sizeof root)
        die("powerloss: the root's path is too long\n");
    memcpy(root, folder, root_length + 1);
    int descriptor = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC, 0);
    if (descriptor < 0)
        die("powerloss: the journal cannot be opened\n");
    journal = syscall(SYS_fcntl, descriptor, F_DUPFD_CLOEXEC, JOURNAL_DESCRIPTOR);
    if (journal < 0) /* a low limit of descriptors */
        journal = descriptor;
    else
        syscall(SYS_close, descriptor);
}

static void append(struct record *record, const char *name, const struct iovec *data, int parts) {
    struct iovec all[MOST_PARTS + 2];
    int saved = errno, count = 1;
    ssize_t wanted = sizeof *record;
    if (parts > MOST_PARTS)
        die("powerloss: too many parts in one write\n");
    record->magic = MAGIC;
    all[0] = (struct iovec){record, sizeof *record};
    if (name != NULL && (record->name_length = strlen(name)) > 0)
        all[count++] = (struct iovec){(void *)name, record->name_length};
    uint32_t left = record->data_length;
    for (int i = 0; i < parts && left > 0; i++) {
        size_t taken = data[i].iov_len < left ? data[i].iov_len : left;
        all[count++] = (struct iovec){data[i].iov_base, taken};
        left -= taken;
    }
    wanted += record->name_length + record->data_length;
    if (count > IOV_MAX || syscall(SYS_writev, journal, all, count) != wanted)
        die("powerloss: the journal cannot be written\n");
    errno = saved;
}

/* --- which files are watched ------------------------------------------------------------------------ */

static int is_watched(int descriptor) {
    return journal >= 0 && descriptor >= 0 && descriptor < MOST_DESCRIPTORS && watched[descriptor];
}

static void watch(int descriptor, int yes) {
    if (descriptor >= 0 && descriptor < MOST_DESCRIPTORS)
        watched[descriptor] = yes;
    else if (yes)
        die("powerloss: a descriptor is too high\n");
}

static int folder_path(int folder, char *path) {
    if (folder == AT_FDCWD)
        return getcwd(path, PATH_MAX) != NULL ? (int)strlen(path) : -1;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    int length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length >= 0)
        path[length] = 0;
    return length;
}

/* The full path, if it is below the root; otherwise 0. */
static int below_root(int folder, const char *name, char *path) {
    if (journal < 0 || name == NULL)
        return 0;
    int saved = errno;
    size_t length = 0;
    if (name[0] != '/') {
        int found = folder_path(folder, path);
        errno = saved;
        if (found < 0)
            return 0;
        length = found;
        path[length++] = '/';
    }
    if (length + strlen(name) >= PATH_MAX)
        return 0;
    strcpy(path + length, name);
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

/* Cuts the path in two; the inode of the folder. */
static uint64_t split(char *path, char **name) {
    struct stat found;
    int saved = errno;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        path[--length] = 0;
    char *slash = strrchr(path, '/');
    *slash = 0;
    *name = slash + 1;
    uint64_t inode = stat(path, &found) == 0 ? found.st_ino : 0;
    errno = saved;
    return inode;
}

static uint64_t inode_of(int descriptor) {
    struct stat found;
    int saved = errno;
    if (fstat(descriptor, &found) != 0)
        die("powerloss: fstat\n");
    errno = saved;
    return found.st_ino;
}

/* --- opening and closing ---------------------------------------------------------------------------- */

static int open_recorded(int folder, const char *name, char *path, int flags, mode_t mode) {
    struct stat before, after;
    int saved = errno, existed = lstat(path, &before) == 0;
    errno = saved;
    int descriptor = syscall(SYS_openat, folder, name, flags, mode);
    if (descriptor < 0)
        return descriptor;
    watch(descriptor, 1);
    if (fstat(descriptor, &after) != 0)
        die("powerloss: fstat\n");
    if ((flags & O_CREAT) && !existed) {
        char *last;
        struct record record = {.kind = CREATE, .file = after.st_ino, .mode = after.st_mode};
        record.folder = split(path, &last);
        append(&record, last, NULL, 0);
    } else if ((flags & O_TRUNC) && S_ISREG(after.st_mode)) {
        struct record record = {.kind = RESIZE, .file = after.st_ino};
        append(&record, NULL, NULL, 0);
    }
    errno = saved;
    return descriptor;
}

static int open_watched(int folder, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    if (!below_root(folder, name, path)) {
        int descriptor = syscall(SYS_openat, folder, name, flags, mode);
        if (descriptor >= 0 && descriptor < MOST_DESCRIPTORS)
            watched[descriptor] = 0;
        return descriptor;
    }
    int changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    if (changes)
        names_change();
    int descriptor = open_recorded(folder, name, path, flags, mode);
    if (changes)
        is_recorded();
    return descriptor;
}

#define MODE_OF(flags, mode)                                                                                 \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | __O_TMPFILE)) {                                                                 \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode = va_arg(rest, mode_t);                                                                         \
        va_end(rest);                                                                                        \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_watched(AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_watched(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}
int openat(int folder, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_watched(folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    MODE_OF(flags, mode)
    return open_watched(folder, name, flags | O_LARGEFILE, mode);
}
int __open_2(const char *name, int flags) { return open_watched(AT_FDCWD, name, flags, 0); }
int __open64_2(const char *name, int flags) { return open_watched(AT_FDCWD, name, flags, 0); }
int __openat_2(int folder, const char *name, int flags) { return open_watched(folder, name, flags, 0); }
int __openat64_2(int folder, const char *name, int flags) { return open_watched(folder, name, flags, 0); }
int creat(const char *name, mode_t mode) {
    return open_watched(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

int close(int descriptor) {
    if (descriptor == journal && journal >= 0)
        return 0;
    if (descriptor >= 0 && descriptor < MOST_DESCRIPTORS)
        watched[descriptor] = 0;
    return syscall(SYS_close, descriptor);
}

static int duplicated(int from, int to) {
    if (to >= 0 && (is_watched(from) || is_watched(to)))
        watch(to, is_watched(from));
    return to;
}
int dup(int descriptor) { return duplicated(descriptor, syscall(SYS_dup, descriptor)); }
int dup3(int from, int to, int flags) { return duplicated(from, syscall(SYS_dup3, from, to, flags)); }
int dup2(int from, int to) {
    if (from == to)
        return syscall(SYS_fcntl, from, F_GETFD) < 0 ? -1 : to;
    return dup3(from, to, 0);
}

/* --- contents --------------------------------------------------------------------------------------- */

static void written(int descriptor, off_t offset, const struct iovec *data, int parts, ssize_t octets) {
    struct record record = {.kind = WRITE, .folder = offset, .data_length = octets};
    record.file = inode_of(descriptor);
    append(&record, NULL, data, parts);
}

static ssize_t write_parts(int descriptor, const struct iovec *data, int parts) {
    if (!is_watched(descriptor))
        return syscall(SYS_writev, descriptor, data, parts);
    octets_change();
    ssize_t octets = syscall(SYS_writev, descriptor, data, parts);
    if (octets > 0)
        written(descriptor, lseek(descriptor, 0, SEEK_CUR) - octets, data, parts, octets);
    is_recorded();
    return octets;
}

static ssize_t write_parts_at(int descriptor, const struct iovec *data, int parts, off_t offset) {
    if (!is_watched(descriptor))
        return syscall(SYS_pwritev, descriptor, data, parts, (long)offset, 0L);
    octets_change();
    ssize_t octets = syscall(SYS_pwritev, descriptor, data, parts, (long)offset, 0L);
    if (octets > 0)
        written(descriptor, offset, data, parts, octets);
    is_recorded();
    return octets;
}

ssize_t write(int descriptor, const void *octets, size_t length) {
    if (!is_watched(descriptor))
        return syscall(SYS_write, descriptor, octets, length);
    struct iovec one = {(void *)octets, length};
    return write_parts(descriptor, &one, 1);
}
ssize_t writev(int descriptor, const struct iovec *data, int parts) {
    return write_parts(descriptor, data, parts);
}
ssize_t pwrite(int descriptor, const void *octets, size_t length, off_t offset) {
    struct iovec one = {(void *)octets, length};
    return write_parts_at(descriptor, &one, 1, offset);
}
ssize_t pwrite64(int descriptor, const void *octets, size_t length, off64_t offset) {
    return pwrite(descriptor, octets, length, offset);
}
ssize_t pwritev(int descriptor, const struct iovec *data, int parts, off_t offset) {
    return write_parts_at(descriptor, data, parts, offset);
}
ssize_t pwritev64(int descriptor, const struct iovec *data, int parts, off64_t offset) {
    return write_parts_at(descriptor, data, parts, offset);
}

static int resized(int descriptor, int result, int kind, off_t size) {
    if (result == 0 && is_watched(descriptor)) {
        struct record record = {.kind = kind, .folder = size, .file = inode_of(descriptor)};
        append(&record, NULL, NULL, 0);
    }
    is_recorded();
    return result;
}
int ftruncate(int descriptor, off_t size) {
    octets_change();
    return resized(descriptor, syscall(SYS_ftruncate, descriptor, size), RESIZE, size);
}
int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }
int truncate(const char *name, off_t size) {
    int descriptor = open(name, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    int result = ftruncate(descriptor, size), saved = errno;
    close(descriptor);
    errno = saved;
    return result;
}
int truncate64(const char *name, off64_t size) { return truncate(name, size); }
int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    if (mode != 0 && is_watched(descriptor)) {
        errno = EOPNOTSUPP; /* holes and the like: nobody here needs them */
        return -1;
    }
    octets_change();
    return resized(descriptor, syscall(SYS_fallocate, descriptor, mode, offset, length), GROW, offset + length);
}
int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    return fallocate(descriptor, mode, offset, length);
}
int posix_fallocate(int descriptor, off_t offset, off_t length) {
    int saved = errno, result = fallocate(descriptor, 0, offset, length) == 0 ? 0 : errno;
    errno = saved;
    return result;
}
int posix_fallocate64(int descriptor, off64_t offset, off64_t length) {
    return posix_fallocate(descriptor, offset, length);
}

/* Copies within the kernel would pass by unseen; whoever gets this error copies by hand. */
ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *place, size_t length, unsigned int flags) {
    if (is_watched(to)) {
        errno = EXDEV;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, at, to, place, length, flags);
}

/* --- syncs ------------------------------------------------------------------------------------------ */

static int synced(int descriptor, long call) {
    if (!is_watched(descriptor))
        return syscall(call, descriptor);
    uint64_t number = ((uint64_t)getpid() << 32) | __atomic_add_fetch(&sync_numbers, 1, __ATOMIC_SEQ_CST);
    struct record begun = {.kind = SYNC_BEGUN, .file = inode_of(descriptor), .other = number};
    names_change();
    append(&begun, NULL, NULL, 0);
    is_recorded();
    int result = syscall(call, descriptor);
    if (result == 0) {
        struct record ended = {.kind = SYNC_ENDED, .file = number};
        append(&ended, NULL, NULL, 0);
    }
    return result;
}
int fsync(int descriptor) { return synced(descriptor, SYS_fsync); }
int fdatasync(int descriptor) { return synced(descriptor, SYS_fdatasync); }

/* --- names ------------------------------------------------------------------------------------------ */

static void named(int kind, char *path, uint64_t inode, uint32_t mode) {
    char *last;
    struct record record = {.kind = kind, .file = inode, .mode = mode};
    record.folder = split(path, &last);
    append(&record, last, NULL, 0);
}

int unlinkat(int folder, const char *name, int flags) {
    char path[PATH_MAX];
    int ours = below_root(folder, name, path);
    names_change();
    int result = syscall(SYS_unlinkat, folder, name, flags);
    if (result == 0 && ours)
        named(UNLINK, path, 0, 0);
    is_recorded();
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int folder, const char *name, mode_t mode) {
    char path[PATH_MAX];
    struct stat made;
    int ours = below_root(folder, name, path);
    names_change();
    int result = syscall(SYS_mkdirat, folder, name, mode);
    if (result == 0 && ours && stat(path, &made) == 0)
        named(MKDIR, path, made.st_ino, made.st_mode);
    is_recorded();
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char path[PATH_MAX];
    struct stat made;
    int ours = below_root(to_folder, to, path);
    names_change();
    int result = syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    if (result == 0 && ours && lstat(path, &made) == 0)
        named(LINK, path, made.st_ino, made.st_mode);
    is_recorded();
    return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned int flags) {
    char before[PATH_MAX], after[PATH_MAX], *old, *fresh;
    int ours = below_root(from_folder, from, before) && below_root(to_folder, to, after);
    names_change();
    int result = syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (result == 0 && ours) {
        struct record record = {.kind = RENAME};
        record.folder = split(before, &old);
        record.other = split(after, &fresh);
        struct iovec second = {fresh, strlen(fresh)};
        record.data_length = second.iov_len;
        append(&record, old, &second, 1);
    }
    is_recorded();
    return result;
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return renameat2(from_folder, from, to_folder, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int remove(const char *name) {
    int result = unlink(name);
    return result == 0 || (errno != EISDIR && errno != EPERM) ? result : rmdir(name);
}
