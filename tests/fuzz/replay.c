/* replay.c: a main() for a fuzzer, where the compiler brings none: gcc, afl-gcc, a debugger.

       http-replay FILE_OR_DIRECTORY...     each file is one input; without any: stdin

   It says how many it tried; an input that fails ends it, as it ends a fuzzer. */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long tried;

static void replay_stream(FILE *file)
{
    enum { MOST = 1 << 20 };
    uint8_t *room = (uint8_t *)malloc(MOST), *exact;
    size_t size;
    if (!room) exit(2);
    size = fread(room, 1, MOST, file);
    exact = (uint8_t *)malloc(size ? size : 1); /* so that a sanitizer sees its end */
    if (!exact) exit(2);
    memcpy(exact, room, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    free(room);
    tried++;
}

static void replay(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    FILE *file;
    if (!directory) {
        file = fopen(path, "rb");
        if (!file) {
            perror(path);
            exit(2);
        }
        fprintf(stderr, "%s\n", path);
        replay_stream(file);
        fclose(file);
        return;
    }
    while ((entry = readdir(directory))) {
        char name[4096];
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        replay(name);
    }
    closedir(directory);
}

int main(int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) replay(argv[i]);
    if (argc == 1) replay_stream(stdin);
    printf("%lu inputs, none fails\n", tried);
    return 0;
}
