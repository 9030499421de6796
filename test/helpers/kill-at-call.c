/*
 * Kills the process that it is loaded into (LD_PRELOAD) as one of its threads is about to make its so-manyth call of one
 * name: KILL_AT_CALL=rename:4. With LOG_CALLS=FILE it writes `THREAD NAME` there for every such call. strace can do the
 * same, but stops the program at each of the thousands of calls that it begins with. What the program starts has none of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *wanted = NULL;
static long number;
static int out = -1;

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("KILL_AT_CALL"), *log = getenv("LOG_CALLS");

	if (at != NULL) {
		char *colon;

		wanted = strdup(at);
		colon = strchr(wanted, ':');
		if (colon == NULL)
			abort();
		*colon = '\0';
		number = atol(colon + 1);
	}
	if (log != NULL)
		out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	unsetenv("LD_PRELOAD");
	unsetenv("KILL_AT_CALL");
	unsetenv("LOG_CALLS");
}

static void comes(const char *name, long *count)
{
	if (out >= 0)
		dprintf(out, "%d %s\n", (int) gettid(), name);
	if (wanted != NULL && strcmp(wanted, name) == 0 && ++*count == number)
		kill(getpid(), SIGKILL);
}

#define WATCH(symbol, name, parameters, arguments) \
	int symbol parameters \
	{ \
		static __thread long count; \
		static int (*real) parameters; \
		if (real == NULL) \
			real = dlsym(RTLD_NEXT, #symbol); \
		comes(name, &count); \
		return real arguments; \
	}

WATCH(fsync, "fsync", (int fd), (fd))
WATCH(fdatasync, "fdatasync", (int fd), (fd))
WATCH(rename, "rename", (const char *from, const char *to), (from, to))
WATCH(link, "link", (const char *from, const char *to), (from, to))
WATCH(unlink, "unlink", (const char *path), (path))
WATCH(ftruncate, "ftruncate", (int fd, off_t length), (fd, length))
WATCH(ftruncate64, "ftruncate", (int fd, off64_t length), (fd, length))
WATCH(mkdir, "mkdir", (const char *path, mode_t mode), (path, mode))
WATCH(rmdir, "rmdir", (const char *path), (path))
