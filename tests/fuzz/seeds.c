/* seeds.c: makes seeds of the transcripts in tests/wire: what each case sends is an input.

       seeds KIND DIRECTORY FILE...     KIND: http, query, json or server

   Escapes are those of tests/wire/README.md; a placeholder stands for a short name, and
   \{8000*a} for at most 40 bytes: long seeds make a slow fuzzer. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = 1 << 16, MOST = 1500 };

static char sent[ROOM];
static size_t length;
static unsigned long made;
static const char *kind, *directory;

static void add(int c)
{
    if (length < ROOM - 1) sent[length++] = (char)c;
}

static void add_text(const char *text)
{
    while (*text) add((unsigned char)*text++);
}

/* Behind "\{": returns behind the brace. */
static const char *add_braces(const char *p)
{
    const char *end = strchr(p, '}'), *star = strchr(p, '*');
    if (!end) return p;
    if (star && star < end) {
        long n = strtol(p, NULL, 10);
        if (n > 40) n = 40;
        while (n-- > 0) add((unsigned char)star[1]);
    } else if (!strncmp(p, "network", 7)) {
        add_text("131.100.117");
    } else {
        add_text("a");
    }
    return end + 1;
}

/* A line as it is written in a transcript, behind "> ". */
static void add_line(const char *p)
{
    unsigned byte;
    while (*p && *p != '\n') {
        if (*p != '\\') {
            add((unsigned char)*p++);
            continue;
        }
        p++;
        if (*p == '\n' || !*p) return; /* no end of line behind it */
        switch (*p++) {
        case 'r': add('\r'); break;
        case 'n': add('\n'); break;
        case 't': add('\t'); break;
        case '0': add('\0'); break;
        case 's': add(' '); break;
        case 'x':
            if (sscanf(p, "%2x", &byte) == 1) add((int)byte), p += 2;
            break;
        case '{': p = add_braces(p); break;
        default: add((unsigned char)p[-1]);
        }
    }
    add_text("\r\n");
}

static void write_seed(const char *bytes, size_t size, const char *before)
{
    char path[4096];
    FILE *file;
    if (!size || size > MOST) return;
    snprintf(path, sizeof path, "%s/wire-%lu", directory, made++);
    file = fopen(path, "wb");
    if (!file || fwrite(before, 1, strlen(before), file) != strlen(before) ||
        fwrite(bytes, 1, size, file) != size || fclose(file)) {
        perror(path);
        exit(1);
    }
}

static void write_case(void)
{
    const char *p;
    sent[length] = 0;
    if (!strcmp(kind, "http")) write_seed(sent, length, "@0");
    if (!strcmp(kind, "server")) write_seed(sent, length, "^0");
    p = strstr(sent, "/api/poll/");
    if (!strcmp(kind, "query") && p) write_seed(p + 10, strcspn(p + 10, " \r\n"), "");
    p = strstr(sent, "\r\n\r\n");
    if (!strcmp(kind, "json") && p) write_seed(p + 4, strcspn(p + 4, "\r\n"), "");
    length = 0;
}

int main(int argc, char **argv)
{
    static char line[ROOM];
    int i;
    if (argc < 4) return 2;
    kind = argv[1];
    directory = argv[2];
    for (i = 3; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        while (fgets(line, sizeof line, file)) {
            if (!strncmp(line, "== ", 3)) write_case();
            if (line[0] == '>') add_line(line[1] == ' ' ? line + 2 : line + 1);
        }
        write_case();
        fclose(file);
    }
    return 0;
}
