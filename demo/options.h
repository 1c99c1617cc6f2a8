/* The command line of server.c: options by the names of the library's fields,
   and a few by short names of ours. */

static const char usage[] = "usage: server [--OPTION VALUE]...\n"
    "  --host H         an IP literal, localhost, or * for all [127.0.0.1]\n"
    "  --port P         0: the kernel picks [8080]\n"
    "  --hosts NAMES    names that Host may have, ',' between\n"
    "  --trust NETS     proxies that may say who the client is: 10.0.0.0/8\n"
    "  --token T        publishing wants Authorization: Bearer T\n"
    "  --cors ORIGINS   whose pages may use the API, or * for all\n"
    "  --redis URLS     many instances: redis://:password@host:6379/0\n"
    "  --log FORMAT     a line on stdout for each request: common or json\n"
    "  --no-limits      none on polls, channels and connections\n"
    "or any field of lp_config by its name: --loops 2, --timeout-ms 25000,\n"
    "--history-count 5000, --admin-token T, --monitor 1, --idle-ms 30000 ...\n";

static const char *log_format; /* NULL: no log of requests */

static void no_limits(lp_config *cfg)
{
    cfg->waiters_max = cfg->waiters_per_client = LP_UNLIMITED;
    cfg->waiters_per_channel = cfg->waiters_per_address = LP_UNLIMITED;
    cfg->channels_max = cfg->connections_max = LP_UNLIMITED;
    cfg->connections_per_address = LP_UNLIMITED;
}

/* `value` is NULL if the option is the last word. */
static lp_result set(lp_config *cfg, const char *name, const char *value)
{
    if (!strcmp(name, "token")) name = "publish-token";
    if (!strcmp(name, "trust")) name = "trusted-proxies";
    if (strcmp(name, "log")) return lp_config_set(cfg, name, value);
    if (!value || (strcmp(value, "common") && strcmp(value, "json")))
        return LP_ERR_ARG;
    log_format = value;
    return LP_OK;
}

static void parse(lp_config *cfg, int argc, char **argv)
{
    int i;
    for (i = 1; i < argc; i++) {
        const char *name = strncmp(argv[i], "--", 2) ? "" : argv[i] + 2;
        if (!strcmp(name, "help")) exit(printf("%s", usage) < 0);
        if (!strcmp(name, "no-limits")) {
            no_limits(cfg);
        } else if (set(cfg, name, argv[++i]) != LP_OK) {
            fprintf(stderr, "server: %s: %s (see --help)\n", argv[i - 1],
                    lp_strerror(LP_ERR_ARG));
            exit(2);
        }
    }
}
