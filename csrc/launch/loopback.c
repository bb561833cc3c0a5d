/* Preloaded into the launcher of a job on one machine (pdcode/launch/network.py), whose libraries listen on all
 * addresses, without a parameter to change that: TCP sockets listen on the loopback address instead, and only
 * processes of the job may connect. Anyone else's connection is closed before the launcher reads from it, as
 * Open MPI's and PMIx's threads wait, for ever, for the first bytes of a connection. Ranks are left as they are. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define RANK(name) (getenv(name) != NULL)

static bool active;

/* In a rank, remove this library from what its own processes preload: it is the first of the list. */
__attribute__((constructor)) static void start(void) {
    active = !RANK("OMPI_COMM_WORLD_RANK") && !RANK("PMIX_RANK") && !RANK("PMI_RANK") && !RANK("PMI_FD");
    const char *preloaded = getenv("LD_PRELOAD");
    if (active || !preloaded || !strstr(preloaded, "loopback"))
        return;
    const char *others = strchr(preloaded, ':');
    if (others)
        setenv("LD_PRELOAD", others + 1, 1);
    else
        unsetenv("LD_PRELOAD");
}

EXPORT int bind(int socket, const struct sockaddr *address, socklen_t size) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } own;
    int type = 0;
    if (!active || size > sizeof own || getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &(socklen_t){sizeof type}) ||
        type != SOCK_STREAM)
        return next(socket, address, size);
    memcpy(&own, address, size);
    if (own.any.sa_family == AF_INET && own.v4.sin_addr.s_addr == htonl(INADDR_ANY))
        own.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (own.any.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&own.v6.sin6_addr))
        own.v6.sin6_addr = in6addr_loopback;
    return next(socket, &own.any, size);
}

/* Write an end of a connection as /proc/net/tcp does. */
static void write_end(char *text, const struct sockaddr_storage *end) {
    const bool v6 = end->ss_family == AF_INET6;
    const struct sockaddr_in6 *six = (const void *)end;
    const struct sockaddr_in *four = (const void *)end;
    unsigned words[4];
    memcpy(words, v6 ? (const void *)&six->sin6_addr : (const void *)&four->sin_addr, v6 ? 16 : 4);
    for (int i = 0; i < (v6 ? 4 : 1); i++)
        text += sprintf(text, "%08X", words[i]);
    sprintf(text, ":%04X", ntohs(v6 ? six->sin6_port : four->sin_port));
}

/* Find the socket at the other end of a connection on this machine; return its inode, 0 if it is closed. */
static unsigned long find_peer(int socket) {
    struct sockaddr_storage here = {0}, there = {0};
    if (getsockname(socket, (void *)&here, &(socklen_t){sizeof here}) ||
        getpeername(socket, (void *)&there, &(socklen_t){sizeof there}))
        return 0;
    char own[48], other[48], local[48], remote[48], line[512];
    write_end(own, &here);
    write_end(other, &there);
    FILE *table = fopen(here.ss_family == AF_INET6 ? "/proc/net/tcp6" : "/proc/net/tcp", "re");
    unsigned long inode = 0, found;
    unsigned user;
    while (table && !inode && fgets(line, sizeof line, table))
        if (sscanf(line, "%*s %47s %47s %*s %*s %*s %*s %u %*s %lu", local, remote, &user, &found) == 4 &&
            !strcmp(local, other) && !strcmp(remote, own) && user == geteuid())
            inode = found;
    if (table)
        fclose(table);
    return inode;
}

/* Return whether a process has a socket, or is of those whose files we may not see. */
static bool has(int process, unsigned long inode) {
    char path[320], target[64], wanted[64];
    sprintf(path, "/proc/%d/fd", process);
    sprintf(wanted, "socket:[%lu]", inode);
    DIR *files = opendir(path);
    if (!files)
        return errno == EACCES;
    bool found = false;
    for (struct dirent *file; !found && (file = readdir(files));) {
        snprintf(path, sizeof path, "/proc/%d/fd/%s", process, file->d_name);
        const ssize_t length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = 0;
        found = !strcmp(target, wanted);
    }
    closedir(files);
    return found;
}

/* Return whether a process, or one that descends from it, has a socket. */
static bool family_has(int process, unsigned long inode) {
    if (has(process, inode))
        return true;
    char path[320];
    sprintf(path, "/proc/%d/task", process);
    DIR *threads = opendir(path);
    bool found = false;
    for (struct dirent *thread; threads && !found && (thread = readdir(threads));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", process, thread->d_name);
        FILE *children = thread->d_name[0] == '.' ? NULL : fopen(path, "re");
        for (int child; children && !found && fscanf(children, "%d", &child) == 1;)
            found = family_has(child, inode);
        if (children)
            fclose(children);
    }
    if (threads)
        closedir(threads);
    return found;
}

/* Return a connection if a process of the job has made it; else end it, and return what accept may return. */
static int screen(int listener, int connection) {
    int family = 0;
    if (!active || connection < 0 ||
        getsockopt(connection, SOL_SOCKET, SO_DOMAIN, &family, &(socklen_t){sizeof family}) ||
        (family != AF_INET && family != AF_INET6))
        return connection;
    const unsigned long peer = find_peer(connection);
    if (peer && family_has(getpid(), peer))
        return connection;
    if (!(fcntl(listener, F_GETFL) & O_NONBLOCK)) {
        shutdown(connection, SHUT_RDWR); /* read as a peer that has left, as no other one may follow */
        return connection;
    }
    close(connection);
    errno = EAGAIN;
    return -1;
}

EXPORT int accept(int listener, struct sockaddr *address, socklen_t *size) {
    int (*next)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");
    return screen(listener, next(listener, address, size));
}

EXPORT int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags) {
    int (*next)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    return screen(listener, next(listener, address, size, flags));
}
