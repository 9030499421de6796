// Maps a file and stores into it as it is told on standard input, one command a line:
//   store OFFSET BYTE   stores a byte
//   beat OFFSET         goes on storing there, every millisecond, until its input ends
// Each is answered by "ok" when the first store is done.
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
  struct stat stats;
  int fd = argc == 2 ? open(argv[1], O_RDWR) : -1;
  if (fd < 0 || fstat(fd, &stats) != 0) { perror("open"); return 1; }
  volatile unsigned char *bytes = mmap(NULL, stats.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (bytes == MAP_FAILED) { perror("mmap"); return 1; }
  char line[100];
  unsigned long offset;
  unsigned value;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (sscanf(line, "store %lu %u", &offset, &value) == 2) bytes[offset] = value;
    else if (sscanf(line, "beat %lu", &offset) == 1) bytes[offset]++;
    else return 2;
    puts("ok");
    fflush(stdout);
    if (line[0] != 'b') continue;
    struct pollfd input = { .fd = 0, .events = POLLIN };
    while (poll(&input, 1, 1) == 0) bytes[offset]++;
  }
  return 0;
}
