/* D4, file: pages that are compiled in, and files of a folder on the disk, which is a real one
   with everything in it that could lead out of it. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"

#include <ftw.h>
#include <sys/resource.h>
#include <sys/stat.h>

static world w;
static char file_top[64], file_folder[80]; /* the second is in the first, beside secrets */

/* ---- the folder ---- */

static const char *file_path(const char *name) {
    static char paths[4][1024];
    static int next;
    char *to = paths[next++ % 4];
    snprintf(to, sizeof paths[0], "%s/%s", file_folder, name);
    return to;
}

static void file_write(const char *name, const char *bytes, size_t length) {
    FILE *file = fopen(file_path(name), "wb");
    CHECK(file);
    CHECK_INT(fwrite(bytes, 1, length, file), length);
    CHECK_INT(fclose(file), 0);
}

static void file_put(const char *name, const char *text) { file_write(name, text, strlen(text)); }

static void file_put_padded(const char *name, size_t length) {
    char *bytes = (char *)malloc(length + 1);
    memset(bytes, 'p', length + 1);
    file_write(name, bytes, length);
    free(bytes);
}

static void file_make_folder(void) {
    char name[257];
    strcpy(file_top, "/tmp/longpoll-file-XXXXXX");
    CHECK(mkdtemp(file_top));
    snprintf(file_folder, sizeof file_folder, "%s/www", file_top);
    CHECK_INT(mkdir(file_folder, 0755), 0);
    CHECK_INT(mkdir(file_path("sub"), 0755), 0);
    CHECK_INT(mkdir(file_path("sub/deep"), 0755), 0);
    CHECK_INT(mkdir(file_path("bare"), 0755), 0);
    CHECK_INT(mkdir(file_path(".git"), 0755), 0);
    file_put("../secret", "secret");
    file_put("index.html", "the index");
    file_put("a.css", "a {}");
    file_put("sub/index.html", "the sub index");
    file_put("sub/deep/b.js", "b()");
    file_put("empty.txt", "");
    file_put("a b+c.txt", "spaced");
    file_put("a\\b", "backslash");
    file_put(".hidden", "hidden");
    file_put(".git/config", "hidden too");
    file_put("..data", "dotted");
    file_put("x..y", "dots inside");
    CHECK_INT(symlink("../secret", file_path("link")), 0);
    CHECK_INT(symlink("index.html", file_path("inner")), 0);
    CHECK_INT(symlink("..", file_path("up")), 0);
    CHECK_INT(symlink("sub", file_path("linked")), 0);
    CHECK_INT(symlink("nowhere", file_path("dangling")), 0);
    CHECK_INT(symlink("index.html", file_path("bare/index.html")), 0);
    CHECK_INT(mkfifo(file_path("fifo"), 0600), 0);
    memset(name, 'n', 255);
    name[255] = 0;
    file_put(name, "long");
}

static int file_remove_one(const char *path, const struct stat *about, int kind, struct FTW *at) {
    (void)about, (void)kind, (void)at;
    return remove(path);
}

static void file_open_world(void) {
    file_make_folder();
    open_world(&w);
}

static void file_close_world(void) {
    close_world(&w);
    nftw(file_top, file_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- handlers ---- */

static const char *file_served_from; /* NULL: file_folder */
static const char *file_cache;       /* a Cache-Control of the handler's own */

static void file_serve(lp_request *r, void *ctx) {
    (void)ctx;
    if (file_cache) {
        CHECK_INT(lp_reply_header(r, "Cache-Control", lp_s(file_cache)), LP_OK);
        CHECK_INT(lp_reply_header(r, "X-Own", lp_s("1")), LP_OK);
    }
    CHECK_INT(lp_reply_file(r, file_served_from ? file_served_from : file_folder,
                            lp_param(r, "path")), LP_OK);
    CHECK_INT(lp_reply_file(r, file_folder, lp_s("")), LP_ERR_ARG); /* it is answered */
    CHECK_INT(lp_reply_asset(r, "a", lp_s("")), LP_ERR_ARG);
}

static void file_on(void) {
    CHECK_INT(lp_on(w.s, "GET", "/f/{path...}", file_serve, NULL), LP_OK);
}

static answer *file_request(const char *method, const char *target, const char *lines) {
    peer *c = dial(&w);
    sayf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, target, lines);
    settle(&w);
    return take_with(c, !strcmp(method, "HEAD") || (has(unheard(c), "304 Not")));
}

static answer *file_get(const char *target) { return file_request("GET", target, ""); }

/* ---- what a file is answered with ---- */

TEST(a_files_answer) {
    answer *a;
    file_open_world();
    file_on();
    a = file_get("/f/a.css");
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "a {}");
    CHECK_STR(heading(a, "Content-Type"), "text/css; charset=utf-8");
    CHECK_STR(heading(a, "Content-Length"), "4");
    CHECK_STR(heading(a, "Cache-Control"), "no-cache");
    CHECK_STR(heading(a, "Accept-Ranges"), "none");
    CHECK_STR(heading(a, "X-Content-Type-Options"), "nosniff");
    CHECK_INT(heading(a, "ETag").length, LPI_ETAG_LENGTH);
    a = file_request("HEAD", "/f/a.css", "");
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "Content-Length"), "4");
    CHECK_INT(a->body.length, 0);
    a = file_request("GET", "/f/a.css", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n");
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "a {}");
    CHECK(!heading(a, "Content-Range").bytes);
    a = file_get("/f/empty.txt");
    CHECK_INT(a->status, 200);
    CHECK_STR(heading(a, "Content-Length"), "0");
    CHECK_STR(heading(a, "Content-Type"), "text/plain; charset=utf-8");
    file_close_world();
}

TEST(the_files_that_there_are) {
    static const struct { const char *target, *body; } cases[] = {
        {"/f/", "the index"}, {"/f/index.html", "the index"}, {"/f/sub/", "the sub index"},
        {"/f/sub/deep/b.js", "b()"}, {"/f/a%20b+c.txt", "spaced"}, {"/f/x..y", "dots inside"},
        {"/f/%61.css?v=7", "a {}"}, {"/f/sub/%69ndex.html", "the sub index"}};
    char target[300] = "/f/";
    size_t i;
    file_open_world();
    file_on();
    for (i = 0; i < LPI_COUNT(cases); i++) {
        answer *a = file_get(cases[i].target);
        if (a->status != 200)
            unit_fail(__FILE__, __LINE__, "%s got %d", cases[i].target, a->status);
        CHECK_STR(a->body, cases[i].body);
    }
    CHECK_STR(heading(file_get("/f/sub/"), "Content-Type"), "text/html; charset=utf-8");
    CHECK_STR(heading(file_get("/f/"), "Content-Type"), "text/html; charset=utf-8");
    CHECK_STR(heading(file_get("/f/x..y"), "Content-Type"), "application/octet-stream");
    memset(target + 3, 'n', 255);
    CHECK_STR(file_get(target)->body, "long");
    target[258] = 'n'; /* longer than any name */
    CHECK_INT(file_get(target)->status, 404);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 0);
    file_close_world();
}

/* The server waits for none of these: the test would not end. */
TEST(no_way_out_of_the_folder) {
    static const char *const traps[] = {
        "/f/../secret", "/f/..", "/f/../", "/f/%2e%2e/secret", "/f/%2E%2e", "/f/.", "/f/./a.css",
        "/f/sub/../a.css", "/f/sub/..", "/f/sub/../../secret", "/f/sub/deep/../../../secret",
        "/f//a.css", "/f//", "/f/sub//", "/f/sub//index.html", "/f//etc/passwd",
        "/f/%2fetc/passwd", "/f/sub%2findex.html", "/f/sub%2Findex.html", "/f/..%2fsecret",
        "/f/..%5csecret", "/f/a%5cb", "/f/a.css%00", "/f/%00", "/f/a.css%00.html",
        "/f/.hidden", "/f/.git/config", "/f/.git/", "/f/..data", "/f/link", "/f/inner",
        "/f/up/secret", "/f/linked/index.html", "/f/linked/", "/f/dangling", "/f/bare/",
        "/f/fifo", "/f/fifo/", "/f/sub", "/f/sub/deep", "/f/sub/deep/", "/f/a.css/",
        "/f/index.html/x", "/f/none", "/f/none/", "/f/none/x", "/f/%zz", "/f/A.CSS%",
        "/f/~root", "/f/%252e%252e/secret", "/f/%c0%ae%c0%ae/secret"};
    size_t i;
    file_open_world();
    file_on();
    for (i = 0; i < LPI_COUNT(traps); i++) {
        answer *a = file_get(traps[i]);
        if (a->status != 404)
            unit_fail(__FILE__, __LINE__, "%s got %d", traps[i], a->status);
        CHECK_STR(a->body, "{\"error\":\"Not found\"}");
        CHECK_STR(heading(a, "Cache-Control"), "no-store");
        CHECK(!heading(a, "ETag").bytes);
    }
    CHECK_INT(w.log_lines[LP_LOG_WARN], 0);
    file_close_world();
}

/* Is there such a file, to one who looks at each part of the path in turn? */
static int file_is_there(char *path) {
    char at[600] = "", *part = path, *end;
    struct stat about;
    for (;; part = end + 1) {
        end = strchr(part, '/');
        if (end) *end = 0;
        if (*part == '.' || (!*part && end)) return 0;
        sprintf(at + strlen(at), "%s%s", *at ? "/" : "", *part ? part : "index.html");
        if (lstat(file_path(at), &about)) return 0;
        if (!end) return S_ISREG(about.st_mode);
        if (!S_ISDIR(about.st_mode)) return 0;
    }
}

TEST(random_paths_in_the_folder) {
    static const char *const parts[] = {"", ".", "..", "sub", "deep", "a.css", "link", "inner", "up",
                                        "linked", "dangling", "bare", "fifo", ".hidden", ".git",
                                        "config", "index.html", "b.js", "www", "secret", "empty.txt"};
    int round, served = 0;
    peer *c;
    w.cfg.idle_ms = LP_OFF;
    file_open_world();
    file_on();
    c = dial(&w);
    for (round = 0; round < unit_rounds(4000); round++) {
        char target[200] = "/f/", path[200];
        uint32_t count = 1 + unit_below(4), i;
        int status;
        for (i = 0; i < count; i++)
            sprintf(target + strlen(target), "%s%s", i ? "/" : "",
                    parts[unit_one_in(2) ? 3 + unit_below(2) : unit_below(LPI_COUNT(parts))]);
        if (unit_one_in(4)) strcat(target, unit_one_in(2) ? "/" : "/index.html");
        strcpy(path, target + 3);
        status = ask(&w, c, target)->status;
        if (status != (file_is_there(path) ? 200 : 404))
            unit_fail(__FILE__, __LINE__, "%s got %d", target, status);
        served += status == 200;
    }
    CHECK(served);
    file_close_world();
}

/* The folder itself may be a link, and so may what is above it. */
TEST(the_folder_may_be_a_link) {
    char link[100];
    file_open_world();
    file_on();
    snprintf(link, sizeof link, "%s/current", file_top);
    CHECK_INT(symlink("www", link), 0);
    file_served_from = link;
    CHECK_STR(file_get("/f/a.css")->body, "a {}");
    snprintf(link, sizeof link, "%s/www/up/current/linked", file_top);
    CHECK_STR(file_get("/f/index.html")->body, "the sub index");
    file_close_world();
}

TEST(a_folder_that_is_none_is_told) {
    static char folder[100];
    answer *a;
    file_open_world();
    file_on();
    file_cache = "max-age=60";
    file_served_from = folder;
    snprintf(folder, sizeof folder, "%s/a.css", file_folder);
    a = file_get("/f/");
    CHECK_INT(a->status, 500);
    CHECK_STR(a->body, "{\"error\":\"File not served\"}");
    CHECK(strstr(w.log, "500 File not served, /tmp/"));
    strcpy(folder, "/nowhere");
    CHECK_INT(file_get("/f/")->status, 500);
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1); /* one a second */
    pass(&w, 1100);
    CHECK_STR(lp_s(w.log), "500 File not served, /nowhere: No such file or directory: 1 time, "
                           "the last from 127.0.0.1");
    file_close_world();
}

static void file_serve_to_one(lp_request *r, void *ctx) {
    (void)ctx;
    CHECK_INT(lp_reply_header(r, "Access-Control-Allow-Origin", lp_s("https://one")), LP_OK);
    CHECK_INT(lp_reply_file(r, file_folder, lp_param(r, "path")), LP_OK);
}

/* An error has the library's own, which a page needs to read it. */
TEST(an_allowed_origin_is_for_the_file) {
    answer *a;
    w.cfg.cors = "*";
    file_open_world();
    CHECK_INT(lp_on(w.s, "GET", "/f/{path...}", file_serve_to_one, NULL), LP_OK);
    a = file_request("GET", "/f/a.css", "Origin: https://two\r\n");
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "https://one");
    a = file_request("GET", "/f/none", "Origin: https://two\r\n");
    CHECK_INT(a->status, 404);
    CHECK_STR(heading(a, "Access-Control-Allow-Origin"), "*");
    file_close_world();
}

TEST(file_bytes_max_at_its_edge) {
    answer *a;
    w.cfg.file_bytes_max = 5000;
    file_open_world();
    file_on();
    file_put_padded("fits.bin", 5000);
    file_put_padded("large.bin", 5001);
    a = file_get("/f/fits.bin");
    CHECK_INT(a->status, 200);
    CHECK_INT(a->body.length, 5000);
    file_cache = "max-age=60, immutable";
    a = file_get("/f/large.bin");
    CHECK_INT(a->status, 500);
    CHECK_STR(heading(a, "Cache-Control"), "no-store"); /* nothing of what is for the file */
    CHECK(!heading(a, "X-Own").bytes);
    CHECK_STR(lp_s(w.log), "500 File not served, large.bin: above file_bytes_max: 1 time, the "
                           "last from 127.0.0.1");
    CHECK_INT(w.log_lines[LP_LOG_WARN], 1);
    a = file_get("/f/none");
    CHECK_INT(a->status, 404);
    CHECK_STR(heading(a, "Cache-Control"), "no-store");
    CHECK(!heading(a, "X-Own").bytes);
    a = file_get("/f/fits.bin");
    CHECK_STR(heading(a, "Cache-Control"), "max-age=60, immutable");
    CHECK_INT(count_of(a->head, "ache-Control"), 1);
    CHECK_STR(heading(a, "X-Own"), "1");
    file_close_world();
}

/* As is one that is cut while it is read. Files of sysfs say that they have a page. */
TEST(a_file_that_is_shorter_than_it_says) {
    struct stat about;
    answer *a;
    file_served_from = "/sys/devices/system/cpu";
    if (stat("/sys/devices/system/cpu/online", &about) || about.st_size < 1000) SKIP("no sysfs");
    file_open_world();
    file_on();
    a = file_get("/f/online");
    CHECK_INT(a->status, 200);
    CHECK(a->body.length > 1 && a->body.length < 1000);
    file_close_world();
}

TEST(without_descriptors_a_file_is_503) {
    struct rlimit limit, less;
    int lowest, i;
    file_open_world();
    file_on();
    CHECK_INT(file_get("/f/sub/")->status, 200);
    lowest = dup(0);
    CHECK(lowest > 0);
    close(lowest);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    for (i = 0; i < 3; i++) { /* the folder cannot be opened, or what is in it */
        answer *a;
        less = limit;
        less.rlim_cur = (rlim_t)(lowest + i);
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &less), 0);
        a = file_get("/f/sub/");
        CHECK_INT(a->status, i < 2 ? 503 : 200);
        if (i < 2) CHECK_STR(heading(a, "Retry-After"), "5");
        CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    }
    i = dup(0);
    CHECK_INT(i, lowest); /* none of them stayed open */
    close(i);
    file_close_world();
}

#ifdef F_SETLEASE
/* What Samba does for a client that writes: until that is asked to stop, the file is there and
   cannot be opened without waiting. */
TEST(a_file_on_lease_is_503) {
    answer *a;
    int fd, is_leased;
    file_open_world();
    file_on();
    CHECK(signal(SIGIO, SIG_IGN) != SIG_ERR); /* which asks the holder for it */
    fd = open(file_path("a.css"), O_RDWR);
    CHECK(fd >= 0);
    is_leased = !fcntl(fd, F_SETLEASE, F_WRLCK);
    if (is_leased) {
        a = file_get("/f/a.css");
        CHECK_INT(a->status, 503);
        CHECK_STR(heading(a, "Retry-After"), "5");
        CHECK_INT(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
    }
    close(fd);
    CHECK_STR(file_get("/f/a.css")->body, "a {}");
    file_close_world();
    if (!is_leased) SKIP("no leases on this file system");
}
#endif

TEST(without_memory_a_file_is_503_or_the_end) {
    size_t k;
    for (k = 1; k < 8; k++) {
        peer *c;
        int lowest;
        memset(&w, 0, sizeof w);
        file_open_world();
        file_on();
        file_put_padded("large.bin", 100000);
        c = dial(&w);
        settle(&w);
        lowest = dup(0);
        close(lowest);
        w.m.fail_at = w.m.calls + k;
        get(c, "/f/l%61rge.bin"); /* a path that must be decoded */
        settle(&w);
        if (w.m.failed && !c->closed) CHECK_INT(take(c)->status, 503);
        if (!w.m.failed) CHECK_INT(take(c)->status, 200);
        w.m.fail_at = 0;
        CHECK_INT(dup(0), lowest);
        close(lowest);
        CHECK_INT(file_get("/f/large.bin")->status, 200);
        file_close_world();
    }
}

/* A change of one byte is another tag; the same bytes have the same tag anywhere, for ever. */
TEST(the_tag_is_that_of_the_content) {
    char tag[LPI_ETAG_LENGTH + 1] = "";
    answer *a;
    file_open_world();
    file_on();
    a = file_get("/f/a.css");
    memcpy(tag, heading(a, "ETag").bytes, LPI_ETAG_LENGTH);
    file_put("same.txt", "a {}");
    CHECK_STR(heading(file_get("/f/same.txt"), "ETag"), tag);
    file_put("same.txt", "b {}");
    CHECK(!lpi_equal(heading(file_get("/f/same.txt"), "ETag"), lp_s(tag)));
    file_put("same.txt", "a {}\n");
    CHECK(!lpi_equal(heading(file_get("/f/same.txt"), "ETag"), lp_s(tag)));
    CHECK_STR(heading(file_get("/f/empty.txt"), "ETag"), "\"2d5db68c895a7938\"");
    file_close_world();
}

TEST(who_has_it_gets_304) {
    char tag[LPI_ETAG_LENGTH + 1] = "", lines[200];
    static const struct { const char *format; int status; } cases[] = {
        {"If-None-Match: %s\r\n", 304}, {"if-none-match: W/%s\r\n", 304},
        {"If-None-Match: \"x\", %s\r\n", 304}, {"If-None-Match: \"x\"\r\nIf-None-Match: %s\r\n", 304},
        {"If-None-Match: *%.0s\r\n", 304}, {"If-None-Match: \"x\"%.0s\r\n", 200},
        {"If-Match: %s\r\n", 200}, {"If-None-Match:%.0s\r\n", 200}};
    static const char *const methods[] = {"GET", "HEAD"};
    size_t i, k;
    answer *a;
    file_open_world();
    file_on();
    a = file_get("/f/a.css");
    memcpy(tag, heading(a, "ETag").bytes, LPI_ETAG_LENGTH);
    for (i = 0; i < LPI_COUNT(cases); i++)
        for (k = 0; k < 2; k++) {
            snprintf(lines, sizeof lines, cases[i].format, tag);
            a = file_request(methods[k], "/f/a.css", lines);
            if (a->status != cases[i].status)
                unit_fail(__FILE__, __LINE__, "%s got %d", lines, a->status);
            CHECK_STR(heading(a, "ETag"), tag);
            CHECK_STR(heading(a, "Cache-Control"), "no-cache");
            CHECK(!heading(a, "Content-Type").bytes == (a->status == 304));
            CHECK(!heading(a, "Content-Length").bytes == (a->status == 304));
        }
    CHECK_INT(file_request("GET", "/f/none", "If-None-Match: *\r\n")->status, 404);
    file_close_world();
}

/* ---- what is compiled in ---- */

static const char *asset_name;
static lp_slice asset_bytes;

static void asset_serve(lp_request *r, void *ctx) {
    lp_slice huge = asset_bytes;
    (void)ctx;
    huge.length = (size_t)INT32_MAX + 1;
    CHECK_INT(lp_reply_asset(r, asset_name, huge), LP_ERR_ARG);
    CHECK_INT(lp_reply_file(r, NULL, lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_asset(r, asset_name, asset_bytes), LP_OK);
    CHECK_INT(lp_reply(r, 200, NULL, lp_s("")), LP_ERR_ARG);
}

TEST(an_assets_answer) {
    char lines[60];
    answer *a;
    peer *c;
    open_world(&w);
    CHECK_INT(lp_on(w.s, "GET", "/a", asset_serve, NULL), LP_OK);
    CHECK_INT(lp_on(w.s, "POST", "/a", asset_serve, NULL), LP_OK);
    asset_name = "app.js";
    asset_bytes = lp_s("app()");
    a = file_get("/a");
    CHECK_INT(a->status, 200);
    CHECK_STR(a->body, "app()");
    CHECK_STR(heading(a, "Content-Type"), "text/javascript; charset=utf-8");
    CHECK_STR(heading(a, "Accept-Ranges"), "none");
    CHECK_INT(count_of(a->head, "ETag"), 1); /* none is left of what was refused */
    snprintf(lines, sizeof lines, "If-None-Match: %.*s\r\n", LPI_ETAG_LENGTH,
             heading(a, "ETag").bytes);
    CHECK_INT(file_request("GET", "/a", lines)->status, 304);
    CHECK_INT(file_request("HEAD", "/a", lines)->status, 304);
    CHECK_INT(file_request("POST", "/a", lines)->status, 200); /* it is for reading alone */
    CHECK_STR(heading(file_request("HEAD", "/a", ""), "Content-Length"), "5");
    asset_name = NULL;
    asset_bytes = lpi_slice(NULL, 0);
    a = file_get("/a");
    CHECK_STR(heading(a, "Content-Type"), "application/octet-stream");
    CHECK_STR(heading(a, "Content-Length"), "0");
    asset_name = "a.css";
    c = dial(&w); /* the connection goes on behind a 304 */
    say(c, "GET /a HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: *\r\n\r\n");
    get(c, "/a");
    settle(&w);
    CHECK_INT(take_with(c, 1)->status, 304);
    CHECK_INT(take(c)->status, 200);
    CHECK_SILENT(c);
    close_world(&w);
}

static int asset_ask(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    (void)ctx, (void)action, (void)channel;
    CHECK_INT(lp_reply_asset(r, "a.css", lp_s("")), LP_ERR_ARG);
    CHECK_INT(lp_reply_file(r, "/", lp_s("")), LP_ERR_ARG);
    return 0;
}

TEST(only_a_handler_answers_so) {
    w.cfg.authorize.ask = asset_ask;
    open_world(&w);
    CHECK_INT(ask(&w, dial(&w), "/api/poll/a?timeout=0")->status, 200);
    close_world(&w);
}
