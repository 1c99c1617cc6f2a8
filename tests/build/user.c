/* A second source file that uses the library through its declarations: one short life
   of a server, so that what was built is also seen to run. */
#include "longpoll.h"
#include "tests/build/system.h"

static int failed(const char *what, lp_result result) {
    printf("%s: %s\n", what, lp_strerror(result));
    return 1;
}

static void told(void *ctx, const lp_access *access) {
    char line[LP_ACCESS_LINE];
    (void)ctx;
#ifdef LONGPOLL_NO_MONITOR
    (void)access, (void)line;
#else
    if (lp_access_json(line, sizeof line, access) < lp_access_common(line, sizeof line, access))
        printf("%s", line);
#endif
}

int main(void) {
    lp_server *server = NULL;
    lp_published published;
    lp_config config;
    lp_result result;
    lp_channel_info channel;
    uint32_t position = 0;
    int turn;
    memset(&config, 0, sizeof config);
    result = lp_config_set(&config, "drain-ms", "1");
    if (result != LP_OK) return failed("lp_config_set", result);
#ifdef LONGPOLL_NO_REDIS
    config.redis = "redis://127.0.0.1";
    result = lp_create(&server, &config);
    if (result != LP_ERR_CONFIG) return failed("lp_create with a Redis", result);
    config.redis = NULL;
#endif
#ifdef LONGPOLL_NO_ADMIN
    config.track_receipts = 1;
    result = lp_create(&server, &config);
    if (result != LP_ERR_CONFIG) return failed("lp_create with receipts", result);
    config.track_receipts = 0;
#endif
    config.admin_token = "secret";
    config.access_log.write = told;
    config.token_secret = "a secret of thirty-two bytes....";
#ifdef LONGPOLL_NO_TOKEN
    result = lp_create(&server, &config);
    if (result != LP_ERR_CONFIG) return failed("lp_create with a secret", result);
    config.token_secret = NULL;
#endif
    result = lp_create(&server, &config);
#ifdef LONGPOLL_NO_MONITOR
    if (result != LP_ERR_CONFIG) return failed("lp_create with an access log", result);
    config.access_log.write = NULL;
    result = lp_create(&server, &config);
#endif
    if (result != LP_OK) return failed("lp_create", result);
    if (lp_port(server) == 0) return failed("lp_port", LP_OK);
    result = lp_publish(server, lp_s("news"), lp_s("{\"text\":\"hello\"}"), &published);
    if (result != LP_OK) return failed("lp_publish", result);
    result = lp_channel_read(server, lp_s("news"), &channel);
    if (result != LP_OK || channel.held != 1) return failed("lp_channel_read", result);
    if (lp_channels_read(server, &position, &channel, 1) != 1) return failed("a list", LP_OK);
    result = lp_channel_delete(server, lp_s("news"));
    if (result != LP_OK) return failed("lp_channel_delete", result);
    for (turn = 0; turn < 3; turn++) {
        result = lp_step(server, 1);
        if (result != LP_OK) return failed("lp_step", result);
    }
    lp_stop(server);
    result = lp_run(server);
    if (result != LP_OK) return failed("lp_run", result);
    lp_destroy(server);
    return 0;
}
